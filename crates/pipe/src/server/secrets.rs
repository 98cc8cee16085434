//! Secrets in files of the server's owner. Entry type: [`FileSecrets`].

use std::{collections::BTreeMap, io};

use async_trait::async_trait;
use pipekeeper_backend::{LaunchError, SecretValue, Tier};
use pipekeeper_controller::SecretSource;
use pipekeeper_model::{Name, plan::Secret};

use crate::config::{FileSecret, ProjectConfig};

/// Each project's secrets, read anew for each attempt, so that a changed file needs no restart.
pub(crate) struct FileSecrets(BTreeMap<Name, BTreeMap<String, FileSecret>>);

impl FileSecrets {
    /// The secrets of these projects.
    pub(crate) fn new<'a>(projects: impl IntoIterator<Item = &'a ProjectConfig>) -> Self {
        let all = projects.into_iter();
        Self(
            all.map(|one| (one.project.name.clone(), one.secrets.clone()))
                .collect(),
        )
    }
}

#[async_trait]
impl SecretSource for FileSecrets {
    async fn values(
        &self,
        project: &Name,
        tier: Tier,
        wanted: &[Secret],
    ) -> Result<Vec<SecretValue>, LaunchError> {
        let mut values = Vec::with_capacity(wanted.len());
        for secret in wanted {
            let terminal = |what: String| LaunchError::Terminal {
                reason: format!("the secret `{}` {what}", secret.name),
            };
            let known = self.0.get(project).and_then(|all| all.get(&secret.name));
            let known = known.ok_or_else(|| {
                terminal(format!(
                    "is none of the project `{project}`: add it to the server's configuration"
                ))
            })?;
            if !known.tiers.contains(&tier) {
                let whose = match tier {
                    Tier::Protected => "protected refs",
                    Tier::Branches => "branches",
                    Tier::Forks => "forks",
                    Tier::Local => "working trees that people send",
                };
                return Err(terminal(format!("is not for runs of {whose}")));
            }
            let text = tokio::fs::read_to_string(&known.file).await.map_err(|error| {
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) {
                    terminal(format!("cannot be read: {error}"))
                } else {
                    LaunchError::Transient {
                        reason: format!("the secret `{}` cannot be read now: {error}", secret.name),
                    }
                }
            })?;
            values.push(SecretValue {
                target: Some(secret.target.clone()),
                value: text.strip_suffix('\n').unwrap_or(&text).to_owned(),
            });
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipekeeper_model::plan::SecretTarget;

    use super::*;

    #[tokio::test]
    async fn a_secret_goes_to_its_own_project_and_tier_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let name = |text: &str| text.parse::<Name>().unwrap();
        let known = FileSecret {
            file,
            tiers: BTreeSet::from([Tier::Protected]),
        };
        let secrets = FileSecrets(BTreeMap::from([(
            name("web"),
            BTreeMap::from([("TOKEN".to_owned(), known)]),
        )]));
        let wanted = [Secret {
            name: "TOKEN".to_owned(),
            target: SecretTarget::Env("TOKEN".into()),
        }];
        let values = secrets.values(&name("web"), Tier::Protected, &wanted).await;
        assert_eq!(
            values.ok().and_then(|mut all| all.pop()).map(|one| one.value),
            Some("hunter2".into())
        );
        for (project, tier) in [
            ("web", Tier::Branches),
            ("web", Tier::Forks),
            ("api", Tier::Protected),
        ] {
            let refused = secrets.values(&name(project), tier, &wanted).await.err();
            assert!(
                matches!(refused, Some(LaunchError::Terminal { .. })),
                "{project} {tier:?}"
            );
        }
    }
}
