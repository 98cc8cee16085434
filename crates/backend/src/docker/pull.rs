//! Images: there, pulled, or why not.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::{Docker, models::CreateImageInfo, query_parameters::CreateImageOptionsBuilder};
use futures_util::TryStreamExt;

use super::{
    Patience,
    engine::{is_not_found, status, told},
};
use crate::pod::{Cause, Why};

/// People are told of progress this often.
const PROGRESS: Duration = Duration::from_secs(2);

/// Makes sure that the engine has the image; `progress` is told what a pull is doing.
///
/// # Errors
/// Why it has not, and how long that may be so.
pub(super) async fn ensure(
    docker: &Docker,
    image: &str,
    patience: &Patience,
    progress: impl Fn(Why),
) -> Result<(), Why> {
    match docker.inspect_image(image).await {
        Ok(_) => return Ok(()),
        Err(error) if is_not_found(&error) => {}
        // A pull says better what is wrong with the name.
        Err(error) if status(&error).is_some() => {}
        Err(error) => return Err(explain(image, None, &told(&error), patience)),
    }
    let tell = |text: String| {
        progress(Why {
            cause: Cause::Image,
            text,
            patience: patience.pulling,
        });
    };
    tell(format!("the image `{image}` is being pulled"));
    let wanted = tagged(image);
    let options = CreateImageOptionsBuilder::default().from_image(&wanted).build();
    let mut layers = Layers::default();
    let mut told_at = Instant::now();
    docker
        .create_image(Some(options), None, None)
        .try_for_each(|info| {
            layers.take(info);
            if told_at.elapsed() >= PROGRESS {
                told_at = Instant::now();
                tell(format!(
                    "the image `{image}` is being pulled{}",
                    layers.describe()
                ));
            }
            std::future::ready(Ok(()))
        })
        .await
        .map_err(|error| explain(image, status(&error), &told(&error), patience))?;
    // An engine may end a pull that did not work as if it had.
    match docker.inspect_image(image).await {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(image, status(&error), &told(&error), patience)),
    }
}

/// What came of each layer, and its size.
#[derive(Default)]
struct Layers(HashMap<String, (i64, i64)>);

impl Layers {
    fn take(&mut self, info: CreateImageInfo) {
        let progress = info.progress_detail.as_ref();
        let current = progress.and_then(|progress| progress.current);
        let total = progress.and_then(|progress| progress.total);
        if let (Some(id), Some(current), Some(total)) = (info.id, current, total) {
            self.0.insert(id, (current, total));
        }
    }

    fn describe(&self) -> String {
        let (mut current, mut total) = (0, 0);
        for (layer_current, layer_total) in self.0.values() {
            current += layer_current;
            total += layer_total;
        }
        if total > 0 {
            format!(": {} of {} MiB of what is under way", current >> 20, total >> 20)
        } else {
            String::new()
        }
    }
}

/// Without a tag an engine would pull all that there are.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') || last.contains(':') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// What it means that an image did not come.
fn explain(image: &str, status: Option<u16>, message: &str, patience: &Patience) -> Why {
    let told = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| told.contains(word));
    let why = |text: String, patience| Why {
        cause: Cause::Image,
        text,
        patience,
    };
    if says(&[
        "invalid reference",
        "invalid repository name",
        "must be lowercase",
    ]) {
        why(format!("`{image}` is no image name: {message}"), Duration::ZERO)
    } else if says(&[
        "unauthorized",
        "denied",
        "forbidden",
        "no basic auth",
        "authentication required",
        "authorization failed",
    ]) && !says(&["manifest unknown"])
    {
        why(
            format!(
                "the registry does not give us the image `{image}`: check its name, and that it may be pulled by the container engine"
            ),
            patience.missing_image,
        )
    } else if status == Some(404)
        || says(&[
            "not found",
            "manifest unknown",
            "name unknown",
            "repository name not known",
        ])
    {
        why(
            format!("the image `{image}` is not found: check its name and tag"),
            patience.missing_image,
        )
    } else {
        why(
            format!("the image `{image}` cannot be pulled: {message}"),
            patience.pull,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_is_pulled() {
        assert_eq!(tagged("busybox"), "busybox:latest");
        assert_eq!(
            tagged("localhost:15000/busybox"),
            "localhost:15000/busybox:latest"
        );
        assert_eq!(tagged("localhost:15000/busybox:1"), "localhost:15000/busybox:1");
        assert_eq!(tagged("busybox@sha256:00"), "busybox@sha256:00");
    }

    #[test]
    fn refusals_are_told_apart() {
        let patience = Patience::default();
        let text = |status, message| explain("i", status, message, &patience).text;
        for missing in [
            "manifest for localhost:15000/nope:1 not found: manifest unknown: manifest unknown",
            "initializing source docker://localhost:15000/nope:1: reading manifest 1 in localhost:15000/nope: name unknown: repository name not known to registry",
        ] {
            assert!(text(None, missing).contains("is not found"), "{missing}");
        }
        let denied = "pull access denied for nope, repository does not exist or may require 'docker login'";
        assert!(text(Some(404), denied).contains("does not give us"));
        assert!(text(None, "dial tcp: connection refused").contains("cannot be pulled"));
        let name = explain("A B", Some(400), "invalid reference format", &patience);
        assert_eq!(name.patience, Duration::ZERO);
    }
}
