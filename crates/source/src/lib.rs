//! Git mirrors, trees, archives and working-tree snapshots.
//!
//! [`Source`] is the port that the controller knows; [`GitSource`] serves it from one bare mirror per repository, brought up
//! to date by the `git` program and read through libgit2. [`working_tree`] copies a developer's tree for a local run. Nothing
//! here knows of runs, plans or stores.

mod adopt;
mod archive;
mod credentials;
mod error;
mod git;
mod git_source;
mod keyed_lock;
mod mirror;
mod port;
mod text;
mod tree;
mod url;
pub mod working_tree;

pub use error::{Permanence, SourceError};
pub use git_source::GitSource;
pub use port::{CommitInfo, Repository, Source, SourceText, UnreadableFile, Want};
pub use url::{PlainHttp, RepositoryUrl, RepositoryUrlError};
