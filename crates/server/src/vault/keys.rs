//! Master keys, in a file outside the database: one a line, the last one seals. Entry: [`KeyFile`].
//!
//! The file is read anew each time, so that every server that shares it knows a key as soon as it is there. Whoever seals keeps
//! the lock of the file beside it together with others, whoever takes keys away has it alone: no key goes away under somebody.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

const BYTES: usize = 32;
/// Digits of a hash that name a key.
const ID: usize = 12;
/// What sets the names of keys apart from all else that is made of them.
const NAMES: &[u8] = b"pipekeeper master key id v1";
const HEAD: &str = "# The master keys of Pipekeeper's secrets, one a line; the last one seals.\n\
    # Keep a copy in a safe place, apart from the database: without it no secret can be read again.\n";

/// What is answered where no file can be written.
const UNCHANGEABLE: [io::ErrorKind; 3] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ReadOnlyFilesystem,
];

/// Where the keys are.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

/// The keys of the file.
pub(super) struct Ring {
    /// In the order of the file; never empty.
    keys: Vec<MasterKey>,
}

/// A key that data keys are sealed with. It has no `Debug`.
#[derive(Clone)]
pub(super) struct MasterKey {
    pub(super) id: String,
    pub(super) key: Zeroizing<[u8; BYTES]>,
}

/// Keys cannot be used.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// The file cannot be read or written.
    #[error("use the master keys in `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no file.
    #[error(
        "read the master keys: there is no `{}`; hint: put the copy of it back that you kept, or name it in `master_key_file`",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the file.
    #[error(
        "read the master keys: others may read `{0}`; hint: `chmod 600 {0}`",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error(
        "read the master keys: line {line} of `{}` is none; hint: a key is 64 hex digits",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file does not hold the key that is wanted.
    #[error(
        "open a secret: it is sealed with the master key `{id}`, which is not in `{}`; hint: put the copy of that file back that you kept",
        path.display()
    )]
    Unknown {
        /// The key.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("draw a random key: {0}")]
    Random(getrandom::Error),
}

impl KeyFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The keys.
    pub(super) fn read(&self) -> Result<Ring, KeyError> {
        let mut file = File::open(&self.path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                self.missing()
            } else {
                self.failed(source)
            }
        })?;
        let mode = file.metadata().map_err(|source| self.failed(source))?.mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Open {
                path: self.path.clone(),
            });
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text)
            .map_err(|source| self.failed(source))?;
        let mut keys = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                keys.push(MasterKey::parse(text).ok_or_else(|| KeyError::Malformed {
                    path: self.path.clone(),
                    line,
                })?);
            }
        }
        if keys.is_empty() {
            return Err(self.missing());
        }
        Ok(Ring { keys })
    }

    /// As long as somebody has what this gives, no key is taken away. None where no lock can be kept beside the file: no key
    /// is taken away from there either.
    pub(super) fn steady(&self) -> Result<Option<File>, KeyError> {
        let lock = match self.lock_file() {
            Ok(lock) => lock,
            Err(source) if UNCHANGEABLE.contains(&source.kind()) => return Ok(None),
            Err(source) => return Err(self.failed(source)),
        };
        lock.lock_shared().map_err(|source| self.failed(source))?;
        Ok(Some(lock))
    }

    /// As long as somebody has what this gives, nobody else on any server seals or changes the keys.
    pub(super) fn alone(&self) -> Result<File, KeyError> {
        let lock = self.lock_file().map_err(|source| self.failed(source))?;
        lock.lock().map_err(|source| self.failed(source))?;
        Ok(lock)
    }

    /// The keys' own file is replaced by another, so it cannot be what is locked.
    fn lock_file(&self) -> io::Result<File> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o600).open(path)
    }

    /// Makes the file with a first key; whoever makes it at the same time is as good.
    pub(super) fn make(&self) -> Result<Ring, KeyError> {
        let text = Zeroizing::new(format!("{HEAD}{}\n", MasterKey::draw()?.text().as_str()));
        let part = self.write_part(&text)?;
        // A second name fails where there is a file by now; a rename would replace it.
        let made = fs::hard_link(&part, &self.path);
        fs::remove_file(&part).map_err(|source| self.failed(source))?;
        self.sync_folder()?;
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(self.failed(source)),
            Ok(()) | Err(_) => self.read(),
        }
    }

    /// Adds a new key, which seals from now on, and takes those away that are not kept.
    pub(super) fn renew(&self, ring: &Ring, kept: &BTreeSet<String>) -> Result<Ring, KeyError> {
        let mut text = Zeroizing::new(HEAD.to_owned());
        let old = ring.keys.iter().filter(|key| kept.contains(&key.id));
        for key in old.chain([&MasterKey::draw()?]) {
            text.push_str(&key.text());
            text.push('\n');
        }
        let part = self.write_part(&text)?;
        fs::rename(&part, &self.path).map_err(|source| self.failed(source))?;
        self.sync_folder()?;
        self.read()
    }

    /// A file's new name outlives a loss of power only once its folder is written; before that nothing may be sealed.
    fn sync_folder(&self) -> Result<(), KeyError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = File::open(parent.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        synced.map_err(|source| self.failed(source))
    }

    /// Writes a file beside it, for good, that its owner alone reads.
    fn write_part(&self, text: &str) -> Result<PathBuf, KeyError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(KeyError::Random)?;
        let mut part = self.path.as_os_str().to_owned();
        part.push(format!(".{}", hex::encode(random)));
        let part = PathBuf::from(part);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            });
        written.map_err(|source| self.failed(source))?;
        Ok(part)
    }

    /// The key with a name.
    pub(super) fn find<'r>(&self, ring: &'r Ring, id: &str) -> Result<&'r MasterKey, KeyError> {
        let found = ring.keys.iter().find(|key| key.id == id);
        found.ok_or_else(|| KeyError::Unknown {
            id: id.to_owned(),
            path: self.path.clone(),
        })
    }

    fn missing(&self) -> KeyError {
        KeyError::Missing {
            path: self.path.clone(),
        }
    }

    fn failed(&self, source: io::Error) -> KeyError {
        KeyError::File {
            path: self.path.clone(),
            source,
        }
    }
}

impl Ring {
    /// The key that seals.
    pub(super) fn current(&self) -> Option<&MasterKey> {
        self.keys.last()
    }
}

impl MasterKey {
    fn draw() -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; BYTES]);
        getrandom::fill(key.as_mut()).map_err(KeyError::Random)?;
        Ok(Self::of(key))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; BYTES]);
        hex::decode_to_slice(text, key.as_mut()).ok()?;
        Some(Self::of(key))
    }

    fn of(key: Zeroizing<[u8; BYTES]>) -> Self {
        let hash = Sha256::new()
            .chain_update(NAMES)
            .chain_update(key.as_ref())
            .finalize();
        let id = hex::encode(hash).chars().take(ID).collect();
        Self { id, key }
    }

    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.key.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::{BTreeSet, KeyError, KeyFile};

    #[test]
    fn a_file_of_keys_is_made_once_and_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys"));
        assert!(matches!(file.read(), Err(KeyError::Missing { .. })));
        let first = file.make().unwrap().current().unwrap().id.clone();
        assert_eq!(file.make().unwrap().current().unwrap().id, first, "it is there");
        let ring = file.read().unwrap();
        let renewed = file.renew(&ring, &BTreeSet::from([first.clone()])).unwrap();
        let second = renewed.current().unwrap().id.clone();
        assert_ne!(first, second);
        assert!(file.find(&renewed, &first).is_ok());
        let third = file.renew(&renewed, &BTreeSet::from([second.clone()])).unwrap();
        assert!(file.find(&third, &second).is_ok());
        let gone = file.find(&third, &first).err().unwrap().to_string();
        assert!(gone.contains(&first) && gone.contains("keys"), "{gone}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no parts are left"
        );
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn keys_are_changed_alone_and_sealed_with_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys"));
        let other = file.lock_file().unwrap();
        let sealing = [file.steady().unwrap().unwrap(), file.steady().unwrap().unwrap()];
        assert!(other.try_lock().is_err());
        drop(sealing);
        let alone = file.alone().unwrap();
        assert!(other.try_lock_shared().is_err());
        drop(alone);
        assert!(other.try_lock().is_ok());
        let nowhere = KeyFile::new(folder.path().join("none/keys"));
        assert!(nowhere.steady().unwrap().is_none() && nowhere.alone().is_err());
    }

    #[test]
    fn what_others_may_read_or_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("keys"));
        file.make().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(file.read(), Err(KeyError::Open { .. })));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        for (text, line) in [("# a comment\n\nnone\n", 3), ("abcd\n", 1)] {
            fs::write(file.path(), text).unwrap();
            assert!(
                matches!(file.read(), Err(KeyError::Malformed { line: found, .. }) if found == line),
                "{text}"
            );
        }
        fs::write(file.path(), "# nothing\n").unwrap();
        assert!(matches!(file.read(), Err(KeyError::Missing { .. })));
    }
}
