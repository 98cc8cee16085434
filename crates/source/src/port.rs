//! The port through which the controller asks for revisions and what they hold.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use async_trait::async_trait;
use pipekeeper_model::{GitRef, Name, Sha, Timestamp};
use thiserror::Error;

use crate::{RepositoryUrl, SourceError};

/// A repository and where it is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The name of its mirror.
    pub name: Name,
    /// Where it is fetched from.
    pub url: RepositoryUrl,
}

/// What to bring into the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// This commit, or the commit that this tag object names.
    Commit(Sha),
    /// Whatever this branch or tag points at now.
    Ref(GitRef),
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(sha) => f.write_str(sha.as_str()),
            Self::Ref(git_ref) => f.write_str(&git_ref.to_full()),
        }
    }
}

/// One text file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The path from the tree's root.
    pub path: String,
    /// The text, or why it is not given.
    pub text: Result<String, UnreadableFile>,
}

/// Why a file of a tree is not given as text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnreadableFile {
    /// Longer than the caller takes.
    #[error("read the file: it has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// Not UTF-8.
    #[error("read the file: it is not UTF-8 text")]
    NotText,
    /// A symbolic link or a submodule.
    #[error("read the file: it is a link, not a file")]
    NotAFile,
}

/// What a commit says about itself: display text, never identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// The commit.
    pub sha: Sha,
    /// The first line of its message.
    pub subject: String,
    /// The name of its author.
    pub author: String,
    /// When it was committed.
    pub committed: Timestamp,
}

/// Revisions of repositories, and what they hold.
///
/// Everything but [`Source::fetch`] and [`Source::refs`] reads what was fetched before.
#[async_trait]
pub trait Source: Send + Sync {
    /// Brings a commit with its history here and keeps it; answers which commit it is.
    async fn fetch(&self, repository: &Repository, want: &Want) -> Result<Sha, SourceError>;

    /// Brings many commits at once, if it can; whether one of them came is told by [`Source::fetch`].
    async fn prefetch(&self, repository: &Repository, commits: &[Sha]);

    /// The `.yaml` and `.yml` files directly in a folder of a commit, sorted by path; a missing folder holds none.
    async fn read_files(
        &self,
        repository: &Repository,
        sha: &Sha,
        folder: &str,
        limit_bytes: u64,
    ) -> Result<Vec<SourceText>, SourceError>;

    /// What a commit says about itself.
    async fn commit(&self, repository: &Repository, sha: &Sha) -> Result<CommitInfo, SourceError>;

    /// The paths that differ between two commits' trees, sorted; against no base, every path. A rename is two paths.
    async fn changed_paths(
        &self,
        repository: &Repository,
        base: Option<&Sha>,
        head: &Sha,
    ) -> Result<Vec<String>, SourceError>;

    /// Every file of a commit with its mode and the id of its content (`100755 83ba…`), by path: equal texts mean equal bytes
    /// of one kind, since a link or a program is not the file that holds the same.
    async fn content_ids(
        &self,
        repository: &Repository,
        sha: &Sha,
    ) -> Result<BTreeMap<String, String>, SourceError>;

    /// The best common ancestor of two commits, if they have one.
    async fn merge_base(
        &self,
        repository: &Repository,
        one: &Sha,
        other: &Sha,
    ) -> Result<Option<Sha>, SourceError>;

    /// An uncompressed tar of a commit's tree, made once.
    ///
    /// It may be removed a day after it was last asked for, so ask again rather than keep the path.
    async fn archive(&self, repository: &Repository, sha: &Sha) -> Result<PathBuf, SourceError>;

    /// Every branch and tag at its origin now, sorted, with what it points at: a tag object where a forge would send one.
    async fn refs(&self, repository: &Repository) -> Result<Vec<(GitRef, Sha)>, SourceError>;
}
