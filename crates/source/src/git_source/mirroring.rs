//! Bringing commits into mirrors, and keeping those tidy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{MutexGuard, PoisonError, atomic::Ordering},
};

use pipekeeper_model::{Name, Sha};
use tracing::warn;

use super::{GitSource, blocking};
use crate::{
    Repository, SourceError, Want,
    archive::sweep,
    git::{Pack, Prune},
    mirror::{self, Mirror},
};

const PINS_PER_TIDYING: u64 = 64;
const MOST_LOOSE_PINS: usize = 512;

impl GitSource {
    /// Fetches under the repository's lock. A mirror that proves damaged is made anew, once.
    pub(super) async fn bring(
        &self,
        repository: &Repository,
        want: Option<&Want>,
    ) -> Result<Option<Sha>, SourceError> {
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
    pub(super) async fn make_mirror(&self, repository: &Repository) -> Result<(), SourceError> {
        let (name, path) = (repository.name.clone(), self.mirror(repository));
        blocking(move || match Mirror::open(&name, &path) {
            Err(SourceError::NotFound { .. }) => Mirror::make(&name, &path),
            other => other.map(drop),
        })
        .await
    }

    /// Fetches every branch and tag if some of the commits are not here; answers how many of those came. Git checks
    /// commits that it is asked for by their ids one by one, which takes a process each.
    pub(super) async fn bring_many(
        &self,
        repository: &Repository,
        commits: &[Sha],
    ) -> Result<u64, SourceError> {
        let _guard = self.turn(&repository.name).await;
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
    pub(super) fn tidy_sometimes(&self, repository: &Repository, new_pins: u64) {
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

    pub(super) async fn tidy(&self, repository: &Repository) -> Result<(), SourceError> {
        let archives = self.archives(repository);
        blocking(move || {
            sweep(&archives);
            Ok(())
        })
        .await?;
        let _guard = self.turn(&repository.name).await;
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
