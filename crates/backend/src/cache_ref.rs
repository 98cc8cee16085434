//! References to archive caches whose bytes are in an object store. Entry type: [`CacheRef`].
//!
//! ```text
//! …/KEY.tar.zst   a cache whose bytes are here
//! …/KEY.ref       one whose bytes are in a store; of the two kinds of a key, the file stays, which every backend can use
//! ```
//! A reference is a small file that is there whole or not at all. It says itself when it was saved; its date of change
//! says when it was used last, because reading it must not count as a use.

use std::{
    ffi::OsStr,
    fs::{self, File, FileTimes},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::SystemTime,
};

use pipekeeper_agent::is_whole_cache;
use pipekeeper_model::{Bytes, Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::pod::write_whole;

/// What the name of a cache's file ends in.
pub const CACHE_FILE: &str = ".tar.zst";
/// What the name of a reference ends in.
pub const CACHE_REF: &str = ".ref";

const VERSION: u32 = 1;

/// Stands for an archive cache whose bytes are in an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRef {
    version: u32,
    /// The store, as it calls itself.
    pub store: String,
    /// The object.
    pub object: String,
    /// Its size.
    pub bytes: Bytes,
    /// The SHA-256 of what it holds, without its own trailer.
    pub digest: Digest,
    /// When it was saved.
    pub saved_at: Timestamp,
}

impl CacheRef {
    /// A reference to an object.
    pub fn new(
        store: impl Into<String>,
        object: impl Into<String>,
        (bytes, digest): (Bytes, Digest),
        saved_at: Timestamp,
    ) -> Self {
        Self {
            version: VERSION,
            store: store.into(),
            object: object.into(),
            bytes,
            digest,
            saved_at,
        }
    }

    /// Reads a reference; none if there is none, or none that this version understands, which is no cache then.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(text) => {
                let read = serde_json::from_slice(&text).ok();
                Ok(read.filter(|read: &Self| read.version == VERSION))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it in the place of what is kept of its key, unless that is a file that is whole.
    ///
    /// # Errors
    /// If its folder cannot be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let file = sibling(path, CACHE_REF, CACHE_FILE);
        if is_whole_cache(&file) {
            return remove_if_there(path);
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        write_whole(path, &serde_json::to_vec(self)?)?;
        remove_if_there(&file)
    }

    /// Notes that it was used. What is not noted goes earlier when room is needed, that is all.
    pub(crate) fn note_use(path: &Path) {
        let times = FileTimes::new().set_modified(SystemTime::now());
        drop(
            File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.set_times(times)),
        );
    }
}

/// Where the reference is that stands for the cache of this file.
pub fn cache_ref_path(file: &Path) -> PathBuf {
    sibling(file, CACHE_FILE, CACHE_REF)
}

/// Removes the reference of a cache whose file has come.
pub(crate) fn drop_ref(file: &Path) -> io::Result<()> {
    remove_if_there(&cache_ref_path(file))
}

fn sibling(path: &Path, from: &str, to: &str) -> PathBuf {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let key = name.strip_suffix(from).unwrap_or(name);
    path.with_file_name(format!("{key}{to}"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_two_kinds_of_a_key_a_whole_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web/branches/deps/1.2.tar.zst");
        let path = cache_ref_path(&file);
        assert_eq!(path, folder.path().join("web/branches/deps/1.2.ref"));
        assert_eq!(CacheRef::read(&path).unwrap(), None);
        let reference = CacheRef::new("http://s3/ci", "p/i/k", (Bytes(7), Digest::of(b"")), Timestamp(5));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "archive").unwrap();
        reference.write(&path).unwrap();
        assert_eq!(CacheRef::read(&path).unwrap().as_ref(), Some(&reference));
        assert!(!file.exists());
        drop_ref(&file).unwrap();
        drop_ref(&file).unwrap();
        assert_eq!(CacheRef::read(&path).unwrap(), None);
        let digest = hex::decode(Digest::of(b"archive").to_hex()).unwrap();
        reference.write(&path).unwrap();
        fs::write(&file, [b"archive".as_slice(), &digest, b"PKCACHE1"].concat()).unwrap();
        reference.write(&path).unwrap();
        assert!(file.exists());
        assert_eq!(CacheRef::read(&path).unwrap(), None);
    }

    #[test]
    fn what_is_damaged_or_newer_is_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.ref");
        let newer = CacheRef::new("s", "o", (Bytes(1), Digest::of(b"")), Timestamp(1));
        let known = serde_json::to_string(&newer).unwrap();
        let newer = known.replace(r#""version":1"#, r#""version":2"#);
        for text in ["", "{", "{}", &newer] {
            fs::write(&path, text).unwrap();
            assert_eq!(CacheRef::read(&path).unwrap(), None, "{text}");
        }
        fs::write(&path, known).unwrap();
        assert!(CacheRef::read(&path).unwrap().is_some());
    }
}
