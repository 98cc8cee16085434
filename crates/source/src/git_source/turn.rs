//! Turns: who changes a mirror is alone with it, among the tasks of this process and among servers that share the folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use pipekeeper_model::Name;
use tokio::sync::OwnedMutexGuard;
use tracing::debug;

use super::GitSource;

/// A turn with a mirror; dropping it ends it, as the death of the process does.
pub(super) struct Turn {
    _here: OwnedMutexGuard<()>,
    _there: Option<File>,
}

impl GitSource {
    /// Waits for the turn with a repository's mirror.
    pub(super) async fn turn(&self, repository: &Name) -> Turn {
        let here = self.0.mirrors.lock(repository.clone()).await;
        let path = self.0.root.join("mirrors").join(format!("{repository}.lock"));
        // A file system without locks belongs to one server.
        let there = lock(&path)
            .await
            .inspect_err(|error| debug!(repository.name = %repository, %error, "the mirror is not locked"))
            .ok();
        Turn {
            _here: here,
            _there: there,
        }
    }
}

async fn lock(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).append(true).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map(std::fs::create_dir_all).transpose()?;
            open()?
        }
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
            waiting.await.map_err(io::Error::other)?
        }
    }
}
