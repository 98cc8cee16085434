//! [`GitSource`]: mirrors and archives under one folder, brought up to date by git and read on blocking threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pipekeeper_model::{GitRef, Name, Sha};
use tracing::{debug, warn};

use crate::{
    CommitInfo, Repository, Source, SourceError, SourceText, Want,
    archive::{archive, sweep},
    git::{Git, Pack, Prune},
    keyed_lock::KeyedLock,
    mirror::{self, Mirror},
    tree,
};

const TIME_LIMIT: Duration = Duration::from_mins(10);
const PINS_PER_TIDYING: u64 = 64;
const MOST_LOOSE_PINS: usize = 512;

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
            let _guard = self.0.mirrors.lock(repository.name.clone()).await;
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

    /// Fetches under the repository's lock. A mirror that proves damaged is made anew, once.
    async fn bring(&self, repository: &Repository, want: Option<&Want>) -> Result<Option<Sha>, SourceError> {
        let first = self.bring_once(repository, want).await;
        let Err(error) = first else { return first };
        let is_damaged = match error {
            SourceError::Corrupt { .. } => true,
            SourceError::Unreachable { .. } => !self.is_sound(repository).await,
            SourceError::NotFound { .. }
            | SourceError::Denied { .. }
            | SourceError::Timeout { .. }
            | SourceError::TooLarge { .. }
            | SourceError::UnsafePath { .. }
            | SourceError::Io { .. } => false,
        };
        if !is_damaged {
            return Err(error);
        }
        self.discard(repository, &error).await;
        self.bring_once(repository, want).await
    }

    async fn bring_once(
        &self,
        repository: &Repository,
        want: Option<&Want>,
    ) -> Result<Option<Sha>, SourceError> {
        self.make_mirror(repository).await?;
        let exact = match want {
            Some(want) => self.fetch_exactly(repository, want).await?,
            None => None,
        };
        if exact.is_none() {
            self.fetch_all(repository).await?;
        }
        match (exact, want) {
            (None, Some(want)) => self.settle(repository, want).await,
            (exact, _) => Ok(exact),
        }
    }

    /// Makes the mirror unless it is there.
    async fn make_mirror(&self, repository: &Repository) -> Result<(), SourceError> {
        let (name, path) = (repository.name.clone(), self.mirror(repository));
        blocking(move || match Mirror::open(&name, &path) {
            Err(SourceError::NotFound { .. }) => Mirror::make(&name, &path),
            other => other.map(drop),
        })
        .await
    }

    /// Fetches every branch and tag if some of the commits are not here; answers how many of those came. Git checks
    /// commits that it is asked for by their ids one by one, which takes a process each.
    async fn bring_many(&self, repository: &Repository, commits: &[Sha]) -> Result<u64, SourceError> {
        let _guard = self.0.mirrors.lock(repository.name.clone()).await;
        self.make_mirror(repository).await?;
        let (name, path, wanted) = (repository.name.clone(), self.mirror(repository), commits.to_vec());
        let missing: Vec<Sha> = blocking(move || {
            let mirror = Mirror::open(&name, &path)?;
            let mut missing = Vec::new();
            for sha in wanted {
                if mirror.pinned(&sha)?.is_none() {
                    missing.push(sha);
                }
            }
            Ok(missing)
        })
        .await?;
        if missing.is_empty() {
            return Ok(0);
        }
        self.fetch_all(repository).await?;
        let (name, path) = (repository.name.clone(), self.mirror(repository));
        blocking(move || {
            let mirror = Mirror::open(&name, &path)?;
            let mut came = 0;
            for sha in missing {
                came += u64::from(mirror.settle(&Want::Commit(sha))?.is_some());
            }
            Ok(came)
        })
        .await
    }

    /// Asks for the one thing only. Servers may refuse a bare commit id, and the ref may be gone: the world decides, not
    /// git's message, so any failure but a timeout is answered by fetching everything.
    async fn fetch_exactly(&self, repository: &Repository, want: &Want) -> Result<Option<Sha>, SourceError> {
        let refspec = match want {
            Want::Commit(sha) => format!("+{sha}:{}", mirror::pin(sha)),
            Want::Ref(git_ref) => format!("+{0}:{0}", git_ref.to_full()),
        };
        match self.git_fetch(repository, &[refspec], Prune::No).await {
            Ok(()) => self.settle(repository, want).await,
            Err(SourceError::Unreachable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn fetch_all(&self, repository: &Repository) -> Result<(), SourceError> {
        let refspecs = ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:refs/{kind}/*"));
        self.git_fetch(repository, &refspecs, Prune::Yes).await
    }

    async fn git_fetch(
        &self,
        repository: &Repository,
        refspecs: &[String],
        prune: Prune,
    ) -> Result<(), SourceError> {
        if let Some(path) = repository.url.as_path()
            && fs::read_dir(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        {
            return Err(SourceError::Denied {
                repository: repository.name.clone(),
                path: path.to_owned(),
            });
        }
        self.0
            .git
            .fetch(&self.mirror(repository), repository, refspecs, prune)
            .await
    }

    async fn settle(&self, repository: &Repository, want: &Want) -> Result<Option<Sha>, SourceError> {
        let (name, path, want) = (repository.name.clone(), self.mirror(repository), want.clone());
        blocking(move || Mirror::open(&name, &path)?.settle(&want)).await
    }

    async fn is_sound(&self, repository: &Repository) -> bool {
        let (name, path) = (repository.name.clone(), self.mirror(repository));
        blocking(move || Ok(Mirror::open(&name, &path)?.is_sound()))
            .await
            .unwrap_or(false)
    }

    /// Now and then tidies the mirror and the archives, behind the back of whoever waits for a fetch: each fetch looks at every ref.
    fn tidy_sometimes(&self, repository: &Repository, new_pins: u64) {
        let before = self.0.pins.fetch_add(new_pins, Ordering::Relaxed);
        if before / PINS_PER_TIDYING == (before + new_pins) / PINS_PER_TIDYING {
            return;
        }
        let (source, repository) = (self.clone(), repository.clone());
        tokio::spawn(async move {
            if let Err(error) = source.tidy(&repository).await {
                warn!(repository.name = %repository.name, %error, "failed to tidy the mirror");
            }
        });
    }

    fn old_pins(&self) -> MutexGuard<'_, BTreeMap<Name, BTreeSet<git2::Oid>>> {
        self.0.old_pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tidy(&self, repository: &Repository) -> Result<(), SourceError> {
        let archives = self.archives(repository);
        blocking(move || {
            sweep(&archives);
            Ok(())
        })
        .await?;
        let _guard = self.0.mirrors.lock(repository.name.clone()).await;
        let (name, path) = (repository.name.clone(), self.mirror(repository));
        let old = self.old_pins().remove(&repository.name).unwrap_or_default();
        let left = blocking(move || Mirror::open(&name, &path)?.drop_needless_pins(&old)).await?;
        let pack = if left.len() > MOST_LOOSE_PINS {
            Pack::All
        } else {
            Pack::Objects
        };
        self.old_pins().insert(repository.name.clone(), left);
        self.0.git.tidy(&self.mirror(repository), repository, pack).await
    }
}

#[async_trait]
impl Source for GitSource {
    async fn fetch(&self, repository: &Repository, want: &Want) -> Result<Sha, SourceError> {
        if let Some(sha) = self.pinned(repository, want).await {
            return Ok(sha);
        }
        let _guard = self.0.mirrors.lock(repository.name.clone()).await;
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
            let _guard = self.0.mirrors.lock(repository.name.clone()).await;
            self.bring(repository, None).await?;
        }
        self.tidy_sometimes(repository, 1);
        self.read(repository, Mirror::refs).await
    }
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
