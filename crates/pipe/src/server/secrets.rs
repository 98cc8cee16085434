//! Secrets in files of the server's owner, and those that the server keeps. Entry type: [`FileSecrets`].

use std::{collections::BTreeMap, io, slice, sync::Arc};

use async_trait::async_trait;
use pipekeeper_backend::{LaunchError, SecretValue, Tier};
use pipekeeper_controller::{SecretAsking, SecretSource};
use pipekeeper_model::{Name, plan::Secret};

use crate::config::{FileSecret, ProjectConfig};

/// Each project's secrets, read anew for each attempt, so that a changed file needs no restart. What the files do not have is
/// looked for elsewhere: the machine's owner has the last word.
pub(crate) struct FileSecrets {
    files: BTreeMap<Name, BTreeMap<String, FileSecret>>,
    others: Arc<dyn SecretSource>,
}

impl FileSecrets {
    /// The secrets of these projects, before those of another source.
    pub(crate) fn new<'a>(
        projects: impl IntoIterator<Item = &'a ProjectConfig>,
        others: Arc<dyn SecretSource>,
    ) -> Self {
        let all = projects.into_iter();
        Self {
            files: all
                .map(|one| (one.project.name.clone(), one.secrets.clone()))
                .collect(),
            others,
        }
    }
}

#[async_trait]
impl SecretSource for FileSecrets {
    async fn values(
        &self,
        asking: &SecretAsking<'_>,
        wanted: &[Secret],
    ) -> Result<Vec<SecretValue>, LaunchError> {
        let mut values = Vec::with_capacity(wanted.len());
        for secret in wanted {
            let files = self.files.get(asking.project);
            match files.and_then(|all| all.get(&secret.name)) {
                Some(file) => values.push(SecretValue {
                    pointer: None,
                    target: Some(secret.target.clone()),
                    value: read(file, asking.tier, &secret.name).await?,
                }),
                None => values.extend(self.others.values(asking, slice::from_ref(secret)).await?),
            }
        }
        Ok(values)
    }
}

async fn read(file: &FileSecret, tier: Tier, name: &str) -> Result<String, LaunchError> {
    let terminal = |what: String| LaunchError::Terminal {
        reason: format!("the secret `{name}` {what}"),
    };
    if !file.tiers.contains(&tier) {
        let whose = match tier {
            Tier::Protected => "protected refs",
            Tier::Branches => "branches",
            Tier::Forks => "forks",
            Tier::Local => "working trees that people send",
        };
        return Err(terminal(format!("is not for runs of {whose}")));
    }
    let text = tokio::fs::read_to_string(&file.file).await.map_err(|error| {
        if matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        ) {
            terminal(format!("cannot be read: {error}"))
        } else {
            LaunchError::Transient {
                reason: format!("the secret `{name}` cannot be read now: {error}"),
            }
        }
    })?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipekeeper_model::{EventKind, plan::SecretTarget};

    use super::*;

    /// Has one value for everybody.
    struct Elsewhere;

    #[async_trait]
    impl SecretSource for Elsewhere {
        async fn values(
            &self,
            _: &SecretAsking<'_>,
            wanted: &[Secret],
        ) -> Result<Vec<SecretValue>, LaunchError> {
            let value = |secret: &Secret| SecretValue {
                pointer: None,
                target: Some(secret.target.clone()),
                value: "elsewhere".to_owned(),
            };
            Ok(wanted.iter().map(value).collect())
        }
    }

    #[tokio::test]
    async fn a_file_goes_to_its_own_project_and_tier_alone_and_before_what_is_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let name = |text: &str| text.parse::<Name>().unwrap();
        let known = FileSecret {
            file,
            tiers: BTreeSet::from([Tier::Protected]),
        };
        let secrets = FileSecrets {
            files: BTreeMap::from([(name("web"), BTreeMap::from([("TOKEN".to_owned(), known)]))]),
            others: Arc::new(Elsewhere),
        };
        let wanted = ["TOKEN", "OTHER"].map(|name| Secret {
            name: name.to_owned(),
            target: SecretTarget::Env(name.into()),
        });
        for (project, tier, values) in [
            ("web", Tier::Protected, Some(["hunter2", "elsewhere"])),
            ("web", Tier::Branches, None),
            ("web", Tier::Forks, None),
            ("api", Tier::Protected, Some(["elsewhere"; 2])),
        ] {
            let project = name(project);
            let asking = SecretAsking {
                project: &project,
                tier,
                event: EventKind::Push,
                environment: None,
                namespace: None,
                cluster: None,
                images: Vec::new(),
            };
            let found = secrets.values(&asking, &wanted).await;
            let found = found.map(|all| all.into_iter().map(|one| one.value).collect::<Vec<_>>());
            match values {
                Some(values) => assert!(found.is_ok_and(|found| found == values), "{project} {tier:?}"),
                None => assert!(
                    matches!(found, Err(LaunchError::Terminal { .. })),
                    "{project} {tier:?}"
                ),
            }
        }
    }
}
