//! Where a controller's files are: logs, artifacts and caches are files, not rows.

use std::{
    io,
    path::{Path, PathBuf},
};

use pipekeeper_backend::{artifact_path, blob_path, renew};
use pipekeeper_model::{AttemptId, Digest, RunId};

/// The folders below one data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below a data folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a run's logs.
    pub fn run_logs(&self, run: RunId) -> PathBuf {
        self.root.join("logs").join(run.to_string())
    }

    /// The log of an attempt.
    pub fn log(&self, attempt: AttemptId) -> PathBuf {
        self.run_logs(attempt.run)
            .join(format!("n{}-a{}.log", attempt.node.0, attempt.number))
    }

    /// The folder of all artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// An artifact's archive.
    pub fn artifact(&self, digest: &Digest) -> PathBuf {
        artifact_path(&self.artifacts(), digest)
    }

    /// A file that is kept by its digest beside the artifacts.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.artifacts(), digest)
    }

    /// Whether something is kept by this digest; if so it stays for a while from now on, whoever wants it.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn renew(&self, digest: &Digest) -> io::Result<bool> {
        let (artifact, blob) = (renew(&self.artifact(digest))?, renew(&self.blob(digest))?);
        Ok(artifact || blob)
    }

    /// The folder of all archive caches.
    pub fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }
}
