//! Names and labels of our pods: from an attempt to its pod and back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use pipekeeper_backend::Placement;
use pipekeeper_model::{AttemptId, Digest, Name};

pub(crate) const MANAGER: &str = "app.kubernetes.io/managed-by";
pub(crate) const PRODUCT: &str = "pipekeeper";
pub(crate) const INSTANCE: &str = "pipekeeper.io/instance";
pub(crate) const ATTEMPT: &str = "pipekeeper.io/attempt";
pub(crate) const ACTION: &str = "pipekeeper.io/action";
const RUN: &str = "pipekeeper.io/run";
const PROJECT: &str = "pipekeeper.io/project";
const PIPELINE: &str = "pipekeeper.io/pipeline";
const TIER: &str = "pipekeeper.io/tier";
/// What the label begins with of each volume that a pod must have to itself.
const ALONE: &str = "pipekeeper.io/alone-";

/// Digits of a digest that tell names apart.
const DIGITS: usize = 10;

/// The supervisor's container.
pub(crate) const AGENT: &str = "agent";

/// The container that puts the supervisor's program in place.
pub(crate) const INSTALL: &str = "install";

/// The container of the steps of an image.
pub(crate) fn step(container: usize) -> String {
    format!("step-{container}")
}

/// The pod's name: the same for every try to create it, so a second one meets the first.
pub(crate) fn pod_name(instance: &str, attempt: AttemptId) -> String {
    format!("{attempt}-{instance}")
}

/// The labels of a pod.
pub(crate) fn labels(instance: &str, attempt: AttemptId, placement: &Placement) -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), to_label(value));
    BTreeMap::from([
        label(MANAGER, PRODUCT),
        label(INSTANCE, instance),
        label(ATTEMPT, &attempt.to_string()),
        label(RUN, &attempt.run.to_string()),
        label(PROJECT, placement.project.as_str()),
        label(PIPELINE, placement.pipeline.as_str()),
        label(TIER, placement.tier.as_str()),
    ])
}

/// The label of a volume that a pod must have to itself. The volume is that of one project and tier, whichever server asks.
pub(crate) fn alone(volume: &Name, placement: &Placement) -> (String, String) {
    let (project, tier) = (placement.project.as_str(), placement.tier.as_str());
    let digits = digits(&format!("{volume}/{project}/{tier}"));
    (format!("{ALONE}{digits}"), to_label(volume.as_str()))
}

/// The labels of the volumes that a pod must have to itself.
pub(crate) fn alone_of(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let labels = pod.metadata.labels.iter().flatten();
    labels
        .filter(|(label, _)| label.starts_with(ALONE))
        .map(|(label, volume)| (label.as_str(), volume.as_str()))
}

/// The action of a pod, as people call it.
pub(crate) fn people_call(pod: &Pod) -> String {
    let run = pod.metadata.labels.as_ref().and_then(|labels| labels.get(RUN));
    let action = pod.metadata.annotations.as_ref().and_then(|all| all.get(ACTION));
    match (run, action) {
        (Some(run), Some(action)) => format!("`{run}/{action}`"),
        (None, _) | (_, None) => format!("the pod `{}`", pod.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// The labels of everything else that this server makes, and by which it knows it again.
pub(crate) fn owned(instance: &str) -> BTreeMap<String, String> {
    [(MANAGER, PRODUCT), (INSTANCE, instance)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What selects all our pods.
pub(crate) fn selector(instance: &str) -> String {
    format!("{MANAGER}={PRODUCT},{INSTANCE}={instance}")
}

/// The attempt of a pod, if it is one of ours.
pub(crate) fn attempt_of(instance: &str, pod: &Pod) -> Option<AttemptId> {
    let labels = pod.metadata.labels.as_ref()?;
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|label| label == value);
    (is(MANAGER, PRODUCT) && is(INSTANCE, instance))
        .then(|| labels.get(ATTEMPT)?.parse().ok())
        .flatten()
}

/// Whether a text can name what the cluster keeps to its strictest rule: at most 63 small letters, digits and `-`.
pub fn is_label(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(is_plain))
        && text.bytes().all(|byte| is_plain(byte) || byte == b'-')
}

/// A name for people that is nobody else's: what stands behind the words is drawn from `whole`, and so is different for
/// every different one, even where the words are alike.
pub(crate) fn distinct(words: &str, whole: &str) -> String {
    let plain = words.to_ascii_lowercase().replace(['_', '.'], "-");
    format!("{plain}-{}", digits(whole))
}

fn digits(whole: &str) -> String {
    Digest::of(whole.as_bytes())
        .to_hex()
        .chars()
        .take(DIGITS)
        .collect()
}

/// A text as a label's value: at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at either end.
fn to_label(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let value: String = text
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .take(63)
        .collect();
    value
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{distinct, is_label, to_label};

    #[test]
    fn names_that_look_alike_stay_apart() {
        let one = distinct("pipe-a-b-c-protected", "a-b/c/protected");
        let other = distinct("pipe-a-b-c-protected", "a/b-c/protected");
        assert_ne!(one, other);
        assert!(
            is_label(&one) && is_label(&distinct("pipe-M2-My_Web.1", "x")),
            "{one}"
        );
        assert!(!is_label("") && !is_label("-a") && !is_label("a.b") && !is_label(&"x".repeat(64)));
    }

    #[test]
    fn labels_are_always_valid() {
        assert_eq!(to_label("test[db=sqlite]"), "test-db-sqlite");
        assert_eq!(to_label("-a-"), "a");
        assert_eq!(to_label(&"x".repeat(80)).len(), 63);
        assert_eq!(to_label("…"), "");
    }
}
