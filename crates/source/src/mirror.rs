//! Reading one mirror through libgit2. Everything here blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use git2::{ErrorClass, ErrorCode, ObjectType, Oid, Reference, Tree};
use pipekeeper_model::{GitRef, Name, Sha, Timestamp};

use crate::{CommitInfo, SourceError, Want, text};

const MAX_SUBJECT: usize = 200;
const MAX_AUTHOR: usize = 100;

/// An open mirror.
pub(crate) struct Mirror {
    name: Name,
    pub(crate) git: git2::Repository,
}

/// The ref that keeps a fetched commit or tag object alive.
pub(crate) fn pin(sha: &Sha) -> String {
    pin_name(sha.as_str())
}

fn pin_name(name: &str) -> String {
    format!("refs/pipe/{name}")
}

impl Mirror {
    /// Opens a mirror that a fetch has made.
    pub(crate) fn open(name: &Name, path: &Path) -> Result<Self, SourceError> {
        match git2::Repository::open_bare(path) {
            Ok(git) => Ok(Self {
                name: name.clone(),
                git,
            }),
            Err(error) if error.code() == ErrorCode::NotFound => Err(SourceError::NotFound {
                repository: name.clone(),
                wanted: "its mirror".to_owned(),
            }),
            Err(error) => Err(damaged(name, path, error)),
        }
    }

    /// Makes an empty mirror.
    pub(crate) fn make(name: &Name, path: &Path) -> Result<(), SourceError> {
        let mut options = git2::RepositoryInitOptions::new();
        options.bare(true).external_template(false);
        git2::Repository::init_opts(path, &options)
            .map(drop)
            .map_err(|error| damaged(name, path, error))
    }

    /// The commit that a pinned id names, if an earlier fetch pinned it.
    pub(crate) fn pinned(&self, sha: &Sha) -> Result<Option<Sha>, SourceError> {
        match self.reference(&pin(sha))? {
            Some(reference) => self.commit_of(&reference).map(Some),
            None => Ok(None),
        }
    }

    /// Finds what a fetch brought and pins it.
    pub(crate) fn settle(&self, want: &Want) -> Result<Option<Sha>, SourceError> {
        match want {
            Want::Commit(sha) => {
                if self.reference(&pin(sha))?.is_none() {
                    match self.git.find_object(oid(sha), None) {
                        Ok(_) => self.set_pin(sha)?,
                        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
                        Err(error) => return Err(self.damaged(error)),
                    }
                }
                self.pinned(sha)
            }
            Want::Ref(git_ref) => {
                let Some(reference) = self.reference(&git_ref.to_full())? else {
                    return Ok(None);
                };
                let commit = self.commit_of(&reference)?;
                self.set_pin(&commit)?;
                Ok(Some(commit))
            }
        }
    }

    /// Drops the pins of commits that another pin's history keeps alive anyway, if they are among the `old` ones:
    /// a new one tells a fetch that there is nothing to do. Answers what is left.
    pub(crate) fn drop_needless_pins(&self, old: &BTreeSet<Oid>) -> Result<BTreeSet<Oid>, SourceError> {
        self.try_drop_needless_pins(old)
            .map_err(|error| self.damaged(error))
    }

    fn try_drop_needless_pins(&self, old: &BTreeSet<Oid>) -> Result<BTreeSet<Oid>, git2::Error> {
        let mut pins = BTreeMap::new();
        for reference in self.git.references_glob(&pin_name("*"))? {
            let reference = reference?;
            let commit = reference.peel_to_commit()?;
            // What pins a tag object keeps more alive than a commit.
            if reference.target() == Some(commit.id()) {
                pins.insert(commit.id(), reference);
            }
        }
        let mut times = Vec::new();
        let mut walk = self.git.revwalk()?;
        walk.set_sorting(git2::Sort::TIME)?;
        for id in pins.keys() {
            let commit = self.git.find_commit(*id)?;
            times.push(commit.time().seconds());
            for parent in commit.parent_ids() {
                walk.push(parent)?;
            }
        }
        let oldest = times.into_iter().min().unwrap_or(i64::MAX);
        for id in walk {
            let id = id?;
            if old.contains(&id)
                && let Some(needless) = pins.remove(&id)
            {
                self.drop_pin(needless)?;
            }
            // Where clocks were wrong, a pin stays that need not.
            if self.git.find_commit(id)?.time().seconds() < oldest {
                break;
            }
        }
        Ok(pins.into_keys().collect())
    }

    /// Drops the pins of commits that were made before this time.
    pub(crate) fn drop_pins_before(&self, time: Timestamp) -> Result<(), SourceError> {
        let drop_old = || {
            for reference in self.git.references_glob(&pin_name("*"))? {
                let reference = reference?;
                if reference.peel_to_commit()?.time().seconds() < time.0 / 1_000 {
                    self.drop_pin(reference)?;
                }
            }
            Ok(())
        };
        drop_old().map_err(|error| self.damaged(error))
    }

    /// Removes a pin's file: nobody else writes to a mirror, and libgit2 would write three files to remove one.
    fn drop_pin(&self, mut pin: Reference<'_>) -> Result<(), git2::Error> {
        let file = self.git.path().join(pin.name()?);
        match fs::remove_file(file) {
            Ok(()) => Ok(()),
            Err(_) => pin.delete(),
        }
    }

    /// Whether there is a head, every ref leads to an object that can be read, and nothing is locked.
    pub(crate) fn is_sound(&self) -> bool {
        let (Ok(_), Ok(references)) = (self.git.find_reference("HEAD"), self.git.references()) else {
            return false;
        };
        if has_lock(self.git.path()) {
            return false;
        }
        references.into_iter().all(|reference| {
            reference.is_ok_and(|reference| {
                reference
                    .target()
                    .is_some_and(|id| self.git.find_object(id, None).is_ok())
            })
        })
    }

    /// Branches and tags with what they point at.
    pub(crate) fn refs(&self) -> Result<Vec<(GitRef, Sha)>, SourceError> {
        let mut refs = Vec::new();
        for reference in self.git.references().map_err(|error| self.damaged(error))? {
            let reference = reference.map_err(|error| self.damaged(error))?;
            let git_ref = reference
                .name()
                .ok()
                .and_then(|name| GitRef::from_full(name).ok());
            if let (Some(git_ref), Some(id)) = (git_ref, reference.target()) {
                refs.push((git_ref, self.sha(id)?));
            }
        }
        refs.sort();
        Ok(refs)
    }

    pub(crate) fn commit(&self, sha: &Sha) -> Result<git2::Commit<'_>, SourceError> {
        self.git.find_commit(oid(sha)).map_err(|error| {
            if error.code() == ErrorCode::NotFound {
                self.not_found(sha)
            } else {
                self.damaged(error)
            }
        })
    }

    pub(crate) fn tree(&self, sha: &Sha) -> Result<Tree<'_>, SourceError> {
        self.commit(sha)?.tree().map_err(|error| self.damaged(error))
    }

    pub(crate) fn describe(&self, sha: &Sha) -> Result<CommitInfo, SourceError> {
        let commit = self.commit(sha)?;
        let author = commit.author();
        Ok(CommitInfo {
            sha: sha.clone(),
            subject: text::display_line(&String::from_utf8_lossy(commit.message_bytes()), MAX_SUBJECT),
            author: text::display_line(&String::from_utf8_lossy(author.name_bytes()), MAX_AUTHOR),
            committed: Timestamp(commit.time().seconds().saturating_mul(1_000)),
        })
    }

    pub(crate) fn merge_base(&self, one: &Sha, other: &Sha) -> Result<Option<Sha>, SourceError> {
        let (one, other) = (self.commit(one)?.id(), self.commit(other)?.id());
        match self.git.merge_base(one, other) {
            Ok(id) => self.sha(id).map(Some),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// For `map_err` on reads that can fail only if the mirror or the machine is at fault.
    pub(crate) fn damaged(&self, error: git2::Error) -> SourceError {
        damaged(&self.name, self.git.path(), error)
    }

    pub(crate) fn too_large(&self, limit: &'static str) -> SourceError {
        SourceError::TooLarge {
            repository: self.name.clone(),
            limit,
        }
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    fn reference(&self, name: &str) -> Result<Option<Reference<'_>>, SourceError> {
        match self.git.find_reference(name) {
            Ok(reference) => Ok(Some(reference)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.damaged(error)),
        }
    }

    fn commit_of(&self, reference: &Reference<'_>) -> Result<Sha, SourceError> {
        let object = reference
            .target()
            .ok_or_else(|| git2::Error::from_str("a ref points at another ref"))
            .and_then(|id| self.git.find_object(id, None))
            .map_err(|error| self.damaged(error))?;
        match object.kind() {
            Some(ObjectType::Commit | ObjectType::Tag) => {
                let commit = object.peel_to_commit().map_err(|error| {
                    if error.code() == ErrorCode::NotFound {
                        self.damaged(error)
                    } else {
                        self.not_found(object.id())
                    }
                })?;
                commit.tree().map_err(|error| self.damaged(error))?;
                self.sha(commit.id())
            }
            Some(ObjectType::Any | ObjectType::Tree | ObjectType::Blob) | None => {
                Err(self.not_found(object.id()))
            }
        }
    }

    pub(crate) fn set_pin(&self, sha: &Sha) -> Result<(), SourceError> {
        self.git
            .reference(&pin(sha), oid(sha), true, "")
            .map(drop)
            .map_err(|error| self.damaged(error))
    }

    fn not_found(&self, wanted: impl ToString) -> SourceError {
        SourceError::NotFound {
            repository: self.name.clone(),
            wanted: wanted.to_string(),
        }
    }

    pub(crate) fn sha(&self, id: Oid) -> Result<Sha, SourceError> {
        id.to_string()
            .parse()
            .map_err(|error| self.damaged(git2::Error::from_str(&format!("{error}"))))
    }
}

/// The object id of a commit id. An id of another hash is no object of a SHA-1 mirror, hence the zero id, which none has.
fn oid(sha: &Sha) -> Oid {
    Oid::from_str(sha.as_str()).unwrap_or(Oid::ZERO_SHA1)
}

/// Whether a process that died left the lock of a file or a ref behind.
fn has_lock(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let is_lock = path.extension().is_some_and(|extension| extension == "lock");
        is_lock || (!path.ends_with("objects") && path.is_dir() && has_lock(&path))
    })
}

/// Failures of the machine are not the mirror's: throwing it away would not help. A lock is: whoever is in here alone
/// has found what somebody left who died.
fn damaged(name: &Name, path: &Path, error: git2::Error) -> SourceError {
    let is_locked = error.code() == ErrorCode::Locked;
    let is_machine = matches!(
        error.class(),
        ErrorClass::Os | ErrorClass::NoMemory | ErrorClass::Filesystem
    );
    if is_machine && !is_locked {
        return SourceError::io("read the mirror", path)(std::io::Error::other(error));
    }
    SourceError::Corrupt {
        repository: name.clone(),
        source: error,
    }
}
