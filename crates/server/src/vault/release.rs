//! Who gets a secret: the one rule over its bindings, and what is handed to attempts.

use std::collections::BTreeSet;

use async_trait::async_trait;
use pipekeeper_backend::{LaunchError, SecretValue, Tier};
use pipekeeper_controller::{SecretAsking, SecretSource};
use pipekeeper_model::{Name, Patterns, plan::Secret as Wanted};
use pipekeeper_spec::document::{Lend, Secret, SecretTier};
use pipekeeper_store::{RecordKind, StoreError};
use zeroize::Zeroizing;

use super::{Kept, Vault, VaultError, keys::KeyError};

/// Why a secret is not for an action; none if it is.
pub(super) fn refusal(secret: &Secret, asking: &SecretAsking<'_>) -> Option<String> {
    let tier = match asking.tier {
        Tier::Protected => Some(SecretTier::Protected),
        Tier::Branches => Some(SecretTier::Branches),
        Tier::Forks | Tier::Local => None,
    };
    if !tier.is_some_and(|tier| secret.tiers.contains(&tier)) {
        let tiers = words(secret.tiers.iter().map(|tier| tier.as_str()));
        let own = asking.tier.as_str();
        return Some(format!("is bound to tier {tiers}; this run is of tier {own}"));
    }
    if !secret.events.is_empty() && !secret.events.contains(&asking.event) {
        let events = words(secret.events.iter().map(|event| event.as_str()));
        let own = asking.event.as_str();
        return Some(format!("is bound to event {events}; this run is of event {own}"));
    }
    if !secret.environments.is_empty() {
        let all = words(secret.environments.iter().map(|name| name.as_str()));
        match asking.environment {
            Some(own) if secret.environments.contains(own) => {}
            Some(own) => {
                return Some(format!("is bound to environment {all}; this action is of {own}"));
            }
            None => return Some(format!("is bound to environment {all}; this action names none")),
        }
    }
    if secret.images.is_empty() {
        return None;
    }
    let all = Vec::from(secret.images.clone()).join(", ");
    asking.images.iter().find_map(|image| match image {
        Some(image) if admits(secret, image) => None,
        Some(image) => Some(format!(
            "is bound to image {all}; a step of this action runs in {image}"
        )),
        None => Some(format!(
            "is bound to image {all}; a step of this action names no image"
        )),
    })
}

/// Why a right is not lent to an action; none if it is.
pub fn unlent(lend: Option<&Lend>, asking: &SecretAsking<'_>) -> Option<String> {
    let Some(lend) = lend else {
        return Some("is lent to nobody".to_owned());
    };
    if !lend.all_projects && !lend.projects.contains(asking.project) {
        return Some(format!("is not lent to the project `{}`", asking.project));
    }
    let bound = Secret {
        file: None,
        known_as: None,
        projects: lend.projects.clone(),
        all_projects: lend.all_projects,
        environments: lend.environments.clone(),
        events: BTreeSet::new(),
        tiers: lend.tiers.clone(),
        images: Patterns::default(),
    };
    refusal(&bound, asking)
}

/// Patterns are over a whole image or over what stands before its tag and digest. What is known only later is none of them.
fn admits(secret: &Secret, image: &str) -> bool {
    let named = image.split_once('@').map_or(image, |(named, _)| named);
    let (host, path) = named.rsplit_once('/').unwrap_or(("", named));
    let path = path.split_once(':').map_or(path, |(path, _)| path);
    let repository = if host.is_empty() {
        path.to_owned()
    } else {
        format!("{host}/{path}")
    };
    !image.contains("${{") && (secret.images.admit(&repository) || secret.images.admit(image))
}

fn words<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

/// How narrowly a secret is bound: the narrower one is meant where several may be had.
fn narrowness(secret: &Secret) -> (bool, bool) {
    (!secret.environments.is_empty(), !secret.all_projects)
}

impl Vault {
    async fn value(&self, asking: &SecretAsking<'_>, name: &str) -> Result<String, LaunchError> {
        let terminal = |what: String| LaunchError::Terminal {
            reason: format!("the secret `{name}` {what}"),
        };
        let records = self.registry.records(RecordKind::Secret, Some(name)).await;
        let mut known = Vec::new();
        for record in records.map_err(|error| away(name, &error))? {
            let kept = Kept::read(record).map_err(|error| terminal(format!("cannot be read: {error}")))?;
            let bindings = &kept.entry.bindings;
            // What a record belongs to is not sealed, so whoever writes the database could call it otherwise.
            if kept.known_as() != name {
                return Err(terminal(format!("is not what `{}` is called", kept.name)));
            }
            if bindings.all_projects || bindings.projects.contains(asking.project) {
                known.push(kept);
            }
        }
        if known.is_empty() {
            let project = asking.project;
            return Err(terminal(format!(
                "is none of the project `{project}`: `pipe secret set {name} --project {project}` makes it one"
            )));
        }
        let (fitting, refused): (Vec<_>, Vec<_>) = known
            .into_iter()
            .map(|kept| (refusal(&kept.entry.bindings, asking), kept))
            .partition(|(refusal, _)| refusal.is_none());
        let narrowest = fitting
            .iter()
            .map(|(_, kept)| narrowness(&kept.entry.bindings))
            .max();
        let mut fitting = fitting
            .into_iter()
            .map(|(_, kept)| kept)
            .filter(|kept| Some(narrowness(&kept.entry.bindings)) == narrowest);
        match (fitting.next(), fitting.next()) {
            (Some(kept), None) => self.hand_over(name, kept).await,
            (Some(one), Some(other)) => Err(terminal(format!(
                "is ambiguous: `{}` and `{}` are bound alike",
                one.name, other.name
            ))),
            (None, _) => {
                let why: Vec<String> = refused.into_iter().filter_map(|(refusal, _)| refusal).collect();
                Err(terminal(why.join("; it ")))
            }
        }
    }

    /// The value of a secret that is for the server itself, by the name of its document.
    ///
    /// # Errors
    /// Why it cannot be had, and what to do.
    pub async fn own(&self, name: &Name) -> Result<Zeroizing<String>, String> {
        let record = self.registry.record(RecordKind::Secret, name.as_str()).await;
        let record = record.map_err(|error| format!("the Secret `{name}` cannot be read now: {error}"))?;
        let Some(record) = record else {
            return Err(format!(
                "the Secret `{name}` has no value; hint: `pipe secret set {name}` sets it"
            ));
        };
        let cannot = |error: VaultError| format!("the Secret `{name}` cannot be had: failed to {error}");
        let kept = Kept::read(record).map_err(cannot)?;
        let bindings = &kept.entry.bindings;
        if bindings.all_projects || !bindings.projects.is_empty() {
            return Err(format!(
                "the Secret `{name}` is for actions of projects, and so not for the server itself"
            ));
        }
        self.open(&kept).await.map_err(cannot)
    }

    async fn hand_over(&self, name: &str, kept: Kept) -> Result<String, LaunchError> {
        let value = self.open(&kept).await.map_err(|error| {
            let reason = format!("the secret `{name}` cannot be had: failed to {error}");
            if error.is_passing() {
                LaunchError::Transient { reason }
            } else {
                LaunchError::Terminal { reason }
            }
        })?;
        self.note_use(&kept).await;
        Ok(value.as_str().to_owned())
    }
}

#[async_trait]
impl SecretSource for Vault {
    async fn values(
        &self,
        asking: &SecretAsking<'_>,
        wanted: &[Wanted],
    ) -> Result<Vec<SecretValue>, LaunchError> {
        let mut values = Vec::with_capacity(wanted.len());
        for secret in wanted {
            values.push(SecretValue {
                pointer: None,
                target: Some(secret.target.clone()),
                value: self.value(asking, &secret.name).await?,
            });
        }
        Ok(values)
    }
}

impl VaultError {
    /// Whether it may be otherwise in a moment.
    fn is_passing(&self) -> bool {
        match self {
            Self::Key(KeyError::File { .. } | KeyError::Random(_)) | Self::System => true,
            Self::Key(
                KeyError::Missing { .. }
                | KeyError::Open { .. }
                | KeyError::Malformed { .. }
                | KeyError::Unknown { .. },
            )
            | Self::Seal(_)
            | Self::Entry(_) => false,
        }
    }
}

fn away(name: &str, error: &StoreError) -> LaunchError {
    LaunchError::Transient {
        reason: format!("the secret `{name}` cannot be read now: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipekeeper_backend::Tier;
    use pipekeeper_controller::SecretAsking;
    use pipekeeper_model::{EventKind, Name};
    use pipekeeper_spec::document::Secret;
    use serde_json::{Value, json};

    use super::refusal;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn bound(bindings: Value) -> Secret {
        serde_json::from_value(bindings).unwrap()
    }

    fn asking<'a>(project: &'a Name, image: &'a str) -> SecretAsking<'a> {
        SecretAsking {
            project,
            tier: Tier::Protected,
            event: EventKind::Push,
            environment: None,
            namespace: None,
            cluster: None,
            images: vec![Some(image)],
        }
    }

    #[test]
    fn forks_and_sent_trees_get_none_and_branches_by_consent_alone() {
        let mall = name("mall");
        for (tiers, tier, gets) in [
            (json!(["protected"]), Tier::Protected, true),
            (json!(["protected"]), Tier::Branches, false),
            (json!(["branches"]), Tier::Protected, false),
            (json!(["protected", "branches"]), Tier::Branches, true),
            (json!(["protected", "branches"]), Tier::Forks, false),
            (json!(["protected", "branches"]), Tier::Local, false),
        ] {
            let secret = bound(json!({ "tiers": tiers }));
            let asking = SecretAsking {
                tier,
                ..asking(&mall, "node")
            };
            assert_eq!(refusal(&secret, &asking).is_none(), gets, "{tiers} {tier:?}");
        }
        let branches = SecretAsking {
            tier: Tier::Branches,
            ..asking(&mall, "node")
        };
        assert_eq!(
            refusal(&bound(json!({})), &branches).unwrap(),
            "is bound to tier protected; this run is of tier branches"
        );
    }

    #[test]
    fn every_binding_says_what_it_wants() {
        let (mall, test) = (name("mall"), name("test"));
        let ask = |environment| SecretAsking {
            environment,
            ..asking(&mall, "node:22")
        };
        let cases = [
            (
                json!({ "events": ["tag"] }),
                None,
                Some("event tag; this run is of event push"),
            ),
            (json!({ "events": ["push"] }), None, None),
            (
                json!({ "environments": ["prod"] }),
                None,
                Some("environment prod; this action names none"),
            ),
            (
                json!({ "environments": ["prod"] }),
                Some(&test),
                Some("this action is of test"),
            ),
            (json!({ "environments": ["test"] }), Some(&test), None),
            (json!({}), Some(&test), None),
        ];
        for (bindings, environment, wanted) in cases {
            let found = refusal(&bound(bindings.clone()), &ask(environment));
            match wanted {
                None => assert_eq!(found, None, "{bindings}"),
                Some(words) => assert!(found.as_ref().unwrap().ends_with(words), "{found:?}"),
            }
        }
    }

    #[test]
    fn an_image_is_one_of_them_with_or_without_its_tag() {
        let mall = name("mall");
        let images = |patterns: Value, image: &str| {
            refusal(&bound(json!({ "images": patterns })), &asking(&mall, image)).is_none()
        };
        for good in [
            "r.test:5000/ci/npm",
            "r.test:5000/ci/npm:1",
            "r.test:5000/ci/npm@sha256:ab",
        ] {
            assert!(images(json!(["r.test:5000/ci/npm"]), good), "{good}");
        }
        for bad in [
            "r.test:5000/ci/npmx",
            "npm",
            "evil.test/r.test:5000/ci/npm",
            "r.test:5000/ci/${{ x }}",
        ] {
            assert!(!images(json!(["r.test:5000/ci/npm"]), bad), "{bad}");
        }
        assert!(images(json!(["node:22*"]), "node:22-slim") && !images(json!(["node:22*"]), "node:20"));
        assert!(!images(json!(["r.test/**"]), "r.test/${{ params.x }}"));
        let mut none = asking(&mall, "node");
        none.images.push(None);
        assert!(
            refusal(&bound(json!({ "images": ["node"] })), &none)
                .unwrap()
                .ends_with("names no image")
        );
        assert_eq!(
            BTreeSet::from([refusal(&bound(json!({})), &none)]),
            BTreeSet::from([None])
        );
    }
}
