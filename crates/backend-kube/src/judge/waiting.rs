//! What the reason of a container that waits means.

use std::time::Duration;

use k8s_openapi::api::core::v1::ContainerStatus;
use pipekeeper_backend::pod::{Cause, Why};

use super::blamed;
use crate::{Patience, names};

/// What to do about the one image that no pipeline names.
const AGENT_IMAGE: &str = "set `agent_image` to what `scripts/agent-image` pushed";

/// Judges the reason that a container gives for not running yet.
pub(super) fn trouble(
    reason: &str,
    message: &str,
    container: &ContainerStatus,
    patience: &Patience,
) -> Option<Why> {
    let image = &container.image;
    let is_ours = [names::AGENT, names::INSTALL].contains(&container.name.as_str());
    let why = |text: String, patience, cause| {
        Some(Why {
            text,
            patience,
            cause,
        })
    };
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {
            let told = message.to_lowercase();
            let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
            if says(&["not found", "manifest unknown", "name unknown"]) {
                let text = if is_ours {
                    format!("the supervisor's image `{image}` is not found: {AGENT_IMAGE}")
                } else {
                    format!("the image `{image}` is not found: check its name and tag")
                };
                why(text, patience.missing_image, Cause::Image)
            } else if says(&[
                "unauthorized",
                "denied",
                "forbidden",
                "no basic auth",
                "authorization failed",
            ]) {
                let text = if is_ours {
                    format!(
                        "the registry does not give us the supervisor's image `{image}`: check the cluster's pull secrets, and {AGENT_IMAGE}"
                    )
                } else {
                    format!(
                        "the registry does not give us the image `{image}`: check the cluster's pull secrets"
                    )
                };
                why(text, patience.missing_image, Cause::Image)
            } else if reason == "ImagePullBackOff" {
                why(
                    format!("the image `{image}` cannot be pulled; the cluster tries again"),
                    patience.pull,
                    Cause::ImagePause,
                )
            } else {
                why(
                    format!("the image `{image}` cannot be pulled: {message}"),
                    patience.pull,
                    Cause::Image,
                )
            }
        }
        "InvalidImageName" => why(
            format!("`{image}` is no image name: {message}"),
            Duration::ZERO,
            Cause::Image,
        ),
        "ErrImageNeverPull" | "ImageInspectError" => why(
            format!("the image `{image}` cannot be used: {message}"),
            patience.start,
            Cause::Image,
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "CrashLoopBackOff" => {
            why(
                format!("the container of `{image}` cannot be made: {}", blamed(message)),
                patience.start,
                Cause::Container,
            )
        }
        _ => None,
    }
}
