//! What can go wrong with a source, and whether trying again can help.

use std::{io, path::PathBuf, time::Duration};

use pipekeeper_model::Name;
use thiserror::Error;

/// Why a source could not answer.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The repository does not have it.
    #[error(
        "find `{wanted}` in the repository `{repository}`; hint: was it deleted or overwritten by a forced push?"
    )]
    NotFound {
        /// The repository.
        repository: Name,
        /// The commit, ref or mirror that was looked for.
        wanted: String,
    },
    /// Git could not fetch, for whatever reason it gives.
    #[error("fetch the repository `{repository}` from `{url}`: {detail}")]
    Unreachable {
        /// The repository.
        repository: Name,
        /// Where it was looked for, without credentials.
        url: String,
        /// The end of what git wrote, bounded and cleaned.
        detail: String,
    },
    /// This process may not read a repository on its own disk.
    #[error("read the repository `{repository}` at `{path}`: permission denied")]
    Denied {
        /// The repository.
        repository: Name,
        /// Its folder.
        path: PathBuf,
    },
    /// Git was stopped because it took too long.
    #[error("fetch the repository `{repository}` within {} s", limit.as_secs())]
    Timeout {
        /// The repository.
        repository: Name,
        /// How long it was given.
        limit: Duration,
    },
    /// The mirror is damaged; the next fetch makes a new one.
    #[error("read the mirror of the repository `{repository}`: {source}")]
    Corrupt {
        /// The repository.
        repository: Name,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// A tree with more in it than this server unpacks.
    #[error("walk a tree of the repository `{repository}`: it unfolds to more than {limit}")]
    TooLarge {
        /// The repository.
        repository: Name,
        /// The most that is taken.
        limit: &'static str,
    },
    /// A tree with a path that could escape the folder it is unpacked to.
    #[error("walk a tree of the repository `{repository}`: the path `{path}` is not safe")]
    UnsafePath {
        /// The repository.
        repository: Name,
        /// The path, cleaned for display.
        path: String,
    },
    /// The file system, or starting git, failed.
    #[error("{action} `{path}`: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permanence {
    /// It can: the world may have changed.
    Transient,
    /// It cannot: the answer stays the same.
    Terminal,
}

impl SourceError {
    /// Whether trying again can help.
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Corrupt { .. } | Self::Io { .. } => {
                Permanence::Transient
            }
            Self::NotFound { .. } | Self::Denied { .. } | Self::TooLarge { .. } | Self::UnsafePath { .. } => {
                Permanence::Terminal
            }
        }
    }

    /// For `map_err`: what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
