//! The working trees that people send to a server: `trees/` in its data folder, with a repository for each project.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pipekeeper_agent::archive::{self, ArchiveError};
use pipekeeper_model::{Name, Sha};
use pipekeeper_server::{TreeError, Trees};
use pipekeeper_source::{GitSource, Permanence, Repository, Source, SourceError};

use crate::{
    config::ProjectConfig,
    failure::{Failure, OrFail, chain},
    folders,
};

/// A tree is there for its run, and for whoever retries that.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// What nobody has completed for so long was a killed server's.
const ABANDONED: Duration = Duration::from_hours(24);

/// The bytes that the files of one tree may have together.
const MOST: u64 = 4 << 30;

/// The trees that were sent.
pub(super) struct SentTrees {
    source: GitSource,
    incoming: PathBuf,
    most: u64,
    repositories: BTreeMap<Name, Repository>,
}

impl SentTrees {
    /// Opens the folder; what a killed server was receiving goes.
    pub(super) fn open(folder: &Path, projects: &[ProjectConfig]) -> Result<Self, Failure> {
        let source = GitSource::open(folder).or_usage("use git")?;
        let incoming = folder.join("incoming");
        folders::tidy(&incoming, ABANDONED)?;
        let repositories = projects.iter().map(|one| {
            let project = &one.project;
            (project.name.clone(), project.repository.clone())
        });
        Ok(Self {
            source,
            incoming,
            most: MOST,
            repositories: repositories.collect(),
        })
    }

    /// The trees as runs read them.
    pub(super) fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.source.clone())
    }
}

#[async_trait]
impl Trees for SentTrees {
    fn folder(&self) -> PathBuf {
        self.incoming.clone()
    }

    async fn keep(&self, project: &Name, archive: &Path, subject: &str) -> Result<Sha, TreeError> {
        let Some(repository) = self.repositories.get(project) else {
            let reason = format!("there is no project `{project}`");
            return Err(TreeError::Unusable { reason });
        };
        let (incoming, archive, most) = (self.incoming.clone(), archive.to_owned(), self.most);
        let unpacked = tokio::task::spawn_blocking(move || {
            let folder = tempfile::TempDir::new_in(incoming).map_err(unavailable)?;
            archive::unpack_at_most(&archive, folder.path(), most).map_err(unusable)?;
            Ok(folder)
        });
        let folder = unpacked.await.map_err(unavailable)??;
        let kept = self.source.adopt(repository, folder.path(), subject, KEPT).await;
        kept.map_err(not_kept)
    }
}

fn unavailable(error: impl std::error::Error) -> TreeError {
    TreeError::Unavailable {
        reason: chain(&error),
    }
}

fn unusable(error: ArchiveError) -> TreeError {
    let reason = format!("failed to unpack the working tree: {}", chain(&error));
    match error {
        ArchiveError::Io { .. } | ArchiveError::Interrupted => TreeError::Unavailable { reason },
        ArchiveError::Damaged(_)
        | ArchiveError::Refused { .. }
        | ArchiveError::TooManyEntries
        | ArchiveError::TooLarge { .. }
        | ArchiveError::Pattern { .. } => TreeError::Unusable { reason },
    }
}

fn not_kept(error: SourceError) -> TreeError {
    let reason = format!("failed to {error}");
    match error.permanence() {
        Permanence::Transient => TreeError::Unavailable { reason },
        Permanence::Terminal => TreeError::Unusable { reason },
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use pipekeeper_agent::archive;
    use pipekeeper_model::Name;
    use pipekeeper_server::{TreeError, Trees};
    use pipekeeper_source::{GitSource, Repository, RepositoryUrl};

    use super::SentTrees;

    fn trees(root: &Path) -> SentTrees {
        let name: Name = "web".parse().unwrap();
        let repository = Repository {
            name: name.clone(),
            url: RepositoryUrl::from_path("/nowhere").unwrap(),
        };
        let incoming = root.join("incoming");
        fs::create_dir_all(&incoming).unwrap();
        SentTrees {
            source: GitSource::open(&root.join("trees")).unwrap(),
            incoming,
            most: 100,
            repositories: BTreeMap::from([(name, repository)]),
        }
    }

    async fn keep(files: &[(&str, &str)]) -> Result<(), TreeError> {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        for (path, text) in files {
            let file = tree.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let packed = folder.path().join("tree.tar.zst");
        archive::pack(&tree, &["**".to_owned()], &packed).unwrap();
        let trees = trees(folder.path());
        let project = "web".parse().unwrap();
        let sha = trees.keep(&project, &packed, "a tree").await?;
        assert_eq!(
            fs::read_dir(trees.folder()).unwrap().count(),
            0,
            "nothing is left"
        );
        let repository = trees.repositories.values().next().unwrap();
        let read = trees.source();
        let ids = read.content_ids(repository, &sha).await.unwrap();
        assert_eq!(ids.len(), files.len());
        assert_eq!(read.commit(repository, &sha).await.unwrap().subject, "a tree");
        Ok(())
    }

    #[tokio::test]
    async fn a_tree_is_kept_as_it_is() {
        keep(&[(".pipe/web.yaml", "x"), ("src/deep/a", "1"), ("b", "")])
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_git_would_not_check_out_is_refused() {
        for path in [".git/config", "sub/.GIT/hooks/post-checkout"] {
            let refused = keep(&[("a", "1"), (path, "[core]")]).await.unwrap_err();
            assert!(
                matches!(&refused, TreeError::Unusable { reason } if reason.contains("is not safe")),
                "{refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_tree_that_is_packed_well_and_too_large_is_refused() {
        let half = "x".repeat(50);
        keep(&[("a", &half), ("b", &half)]).await.unwrap();
        let refused = keep(&[("a", &half), ("b", &half), ("c", "1")]).await.unwrap_err();
        assert!(
            matches!(&refused, TreeError::Unusable { reason } if reason.contains("more than 100 bytes")),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn what_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad");
        fs::write(&file, "no archive at all").unwrap();
        let trees = trees(folder.path());
        let refused = trees.keep(&"web".parse().unwrap(), &file, "").await.unwrap_err();
        assert!(matches!(refused, TreeError::Unusable { .. }), "{refused}");
        let unknown = trees.keep(&"shop".parse().unwrap(), &file, "").await.unwrap_err();
        assert!(unknown.to_string().contains("no project"), "{unknown}");
    }
}
