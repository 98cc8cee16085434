//! [`GitSource`]: mirrors and archives under one folder, brought up to date by git and read on blocking threads.

mod mirroring;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use pipekeeper_model::{GitRef, Name, Sha, Timestamp};
use tracing::{debug, warn};

use crate::{
    CommitInfo, Repository, Source, SourceError, SourceText, Want, adopt::adopt, archive::archive, git::Git,
    keyed_lock::KeyedLock, mirror::Mirror, tree,
};

const TIME_LIMIT: Duration = Duration::from_mins(10);

/// Sources from git repositories; clones share everything.
#[derive(Clone)]
pub struct GitSource(Arc<Inner>);

struct Inner {
    root: PathBuf,
    git: Git,
    mirrors: KeyedLock<Name>,
    archives: KeyedLock<(Name, Sha)>,
    pins: AtomicU64,
    /// The pins that each mirror had when it was last tidied.
    old_pins: Mutex<BTreeMap<Name, BTreeSet<git2::Oid>>>,
}

impl GitSource {
    /// Keeps everything under `root`, which is made if it is not there; fails without git.
    pub fn open(root: &Path) -> Result<Self, SourceError> {
        Self::with_time_limit(root, TIME_LIMIT)
    }

    /// The same, with another time limit for one call of git.
    pub fn with_time_limit(root: &Path, limit: Duration) -> Result<Self, SourceError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(SourceError::io("make the folder", root))?;
        let root = root
            .canonicalize()
            .map_err(SourceError::io("find the folder", root))?;
        Ok(Self(Arc::new(Inner {
            git: Git::new(root.join("home"), limit)?,
            root,
            mirrors: KeyedLock::new(),
            archives: KeyedLock::new(),
            pins: AtomicU64::new(0),
            old_pins: Mutex::default(),
        })))
    }

    /// Keeps a folder as a commit without history, at least for the time given, in a repository that nothing should be fetched into:
    /// one of a source of its own. The same folder at another time is another commit.
    ///
    /// # Errors
    /// If a path in it is none that git would check out, or the machine is at fault.
    pub async fn adopt(
        &self,
        repository: &Repository,
        folder: &Path,
        subject: &str,
        keep: Duration,
    ) -> Result<Sha, SourceError> {
        let sha = {
            let _guard = self.turn(&repository.name).await;
            self.make_mirror(repository).await?;
            let (name, path, folder) = (
                repository.name.clone(),
                self.mirror(repository),
                folder.to_owned(),
            );
            let subject = subject.to_owned();
            blocking(move || {
                let now = now();
                let mirror = Mirror::open(&name, &path)?;
                let oldest = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
                mirror.drop_pins_before(Timestamp(now.0.saturating_sub(oldest)))?;
                adopt(&mirror, &folder, &subject, now)
            })
            .await?
        };
        self.tidy_sometimes(repository, 1);
        Ok(sha)
    }

    fn mirror(&self, repository: &Repository) -> PathBuf {
        self.0
            .root
            .join("mirrors")
            .join(format!("{}.git", repository.name))
    }

    fn archives(&self, repository: &Repository) -> PathBuf {
        self.0.root.join("archives").join(repository.name.as_str())
    }

    /// Reads the mirror on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        repository: &Repository,
        read: impl FnOnce(&Mirror) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (name, path) = (repository.name.clone(), self.mirror(repository));
        let answer = blocking(move || read(&Mirror::open(&name, &path)?)).await;
        self.settle_damage(repository, answer).await
    }

    /// A damaged mirror is thrown away, so that the next fetch makes a new one.
    async fn settle_damage<T>(
        &self,
        repository: &Repository,
        answer: Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        if let Err(error @ SourceError::Corrupt { .. }) = &answer {
            let _guard = self.turn(&repository.name).await;
            self.discard(repository, error).await;
        }
        answer
    }

    async fn discard(&self, repository: &Repository, cause: &SourceError) {
        warn!(repository.name = %repository.name, %cause, "a damaged mirror is thrown away");
        let path = self.mirror(repository);
        let removed = blocking(move || {
            fs::remove_dir_all(&path).map_err(SourceError::io("remove the damaged mirror", &path))
        });
        if let Err(error) = removed.await {
            warn!(repository.name = %repository.name, "failed to {error}");
        }
    }

    async fn pinned(&self, repository: &Repository, want: &Want) -> Option<Sha> {
        let Want::Commit(sha) = want else { return None };
        let (name, path, sha) = (repository.name.clone(), self.mirror(repository), sha.clone());
        // Whatever is wrong here is found and mended by the fetch that follows.
        blocking(move || Mirror::open(&name, &path)?.pinned(&sha))
            .await
            .ok()?
    }
}

#[async_trait]
impl Source for GitSource {
    async fn fetch(&self, repository: &Repository, want: &Want) -> Result<Sha, SourceError> {
        if let Some(sha) = self.pinned(repository, want).await {
            return Ok(sha);
        }
        let _guard = self.turn(&repository.name).await;
        // Whoever held the lock before may have brought the same commit.
        if let Some(sha) = self.pinned(repository, want).await {
            return Ok(sha);
        }
        let found = self.bring(repository, Some(want)).await?;
        self.tidy_sometimes(repository, 1);
        found.ok_or_else(|| SourceError::NotFound {
            repository: repository.name.clone(),
            wanted: want.to_string(),
        })
    }

    async fn prefetch(&self, repository: &Repository, commits: &[Sha]) {
        // One is as well fetched by whoever needs it, with all the care that a failure needs.
        if commits.len() < 2 {
            return;
        }
        match self.bring_many(repository, commits).await {
            Ok(new_pins) => self.tidy_sometimes(repository, new_pins),
            Err(error) => {
                debug!(repository.name = %repository.name, %error, "commits are fetched one by one")
            }
        }
    }

    async fn read_files(
        &self,
        repository: &Repository,
        sha: &Sha,
        folder: &str,
        limit_bytes: u64,
    ) -> Result<Vec<SourceText>, SourceError> {
        let (sha, folder) = (sha.clone(), folder.to_owned());
        self.read(repository, move |mirror| {
            tree::read_files(mirror, &sha, &folder, limit_bytes)
        })
        .await
    }

    async fn commit(&self, repository: &Repository, sha: &Sha) -> Result<CommitInfo, SourceError> {
        let sha = sha.clone();
        self.read(repository, move |mirror| mirror.describe(&sha)).await
    }

    async fn changed_paths(
        &self,
        repository: &Repository,
        base: Option<&Sha>,
        head: &Sha,
    ) -> Result<Vec<String>, SourceError> {
        let (base, head) = (base.cloned(), head.clone());
        self.read(repository, move |mirror| {
            tree::changed_paths(mirror, base.as_ref(), &head)
        })
        .await
    }

    async fn content_ids(
        &self,
        repository: &Repository,
        sha: &Sha,
    ) -> Result<BTreeMap<String, String>, SourceError> {
        let sha = sha.clone();
        self.read(repository, move |mirror| tree::content_ids(mirror, &sha))
            .await
    }

    async fn merge_base(
        &self,
        repository: &Repository,
        one: &Sha,
        other: &Sha,
    ) -> Result<Option<Sha>, SourceError> {
        let (one, other) = (one.clone(), other.clone());
        self.read(repository, move |mirror| mirror.merge_base(&one, &other))
            .await
    }

    async fn archive(&self, repository: &Repository, sha: &Sha) -> Result<PathBuf, SourceError> {
        let (name, sha) = (repository.name.clone(), sha.clone());
        let _guard = self.0.archives.lock((name.clone(), sha.clone())).await;
        let folder = self.archives(repository);
        let path = self.mirror(repository);
        let answer = blocking(move || archive(|| Mirror::open(&name, &path), &sha, &folder)).await;
        self.settle_damage(repository, answer).await
    }

    async fn refs(&self, repository: &Repository) -> Result<Vec<(GitRef, Sha)>, SourceError> {
        {
            let _guard = self.turn(&repository.name).await;
            self.bring(repository, None).await?;
        }
        self.tidy_sometimes(repository, 1);
        self.read(repository, Mirror::refs).await
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Runs what blocks away from the threads that serve everybody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(stopped) => Err(SourceError::io("read", "the mirror")(std::io::Error::other(
                stopped,
            ))),
        },
    }
}

#[cfg(test)]
mod tests;
