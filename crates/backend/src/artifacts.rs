//! The folder of artifacts, by digest. What is in it is whole, and never changes.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use pipekeeper_agent::archive::sha256_file;
use pipekeeper_model::{AttemptId, Digest};

/// Where an artifact's archive lies below the folder of artifacts.
pub fn artifact_path(artifacts: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    let shelf: String = hex.chars().take(2).collect();
    artifacts.join(shelf).join(format!("{hex}.tar.zst"))
}

/// Where a file that is no archive lies below the folder of artifacts, such as the details of test reports.
pub fn blob_path(artifacts: &Path, digest: &Digest) -> PathBuf {
    artifact_path(artifacts, digest)
        .with_extension("")
        .with_extension("blob")
}

/// Sets the date of a kept file, so that it is not taken for one that nobody needs; whether it is there. Whoever removes
/// old ones holds a lock on them alone.
///
/// # Errors
/// If that cannot be found out, or its date not be set.
pub fn renew(place: &Path) -> io::Result<bool> {
    let file = match File::open(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    file.lock_shared()?;
    let held = file.metadata()?;
    let is_there = match fs::metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        // Another attempt may have put one there since.
        there => there.map(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()))?,
    };
    if is_there {
        file.set_modified(SystemTime::now())?;
    }
    Ok(is_there)
}

/// Keeps bytes by their digest; what is there already stays.
pub(crate) fn keep_bytes(artifacts: &Path, attempt: AttemptId, bytes: &[u8]) -> io::Result<Digest> {
    let digest = Digest::of(bytes);
    let place = blob_path(artifacts, &digest);
    if renew(&place)? {
        return Ok(digest);
    }
    let shelf = place.parent().unwrap_or(artifacts);
    fs::create_dir_all(shelf)?;
    let making = shelf.join(format!(".{attempt}-{}", digest.to_hex()));
    let mut file = File::create(&making)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&making, &place)?;
    File::open(shelf)?.sync_all()?;
    Ok(digest)
}

/// Keeps an archive of `attempt` at its place; one that is there already stays. Answers with its bytes.
pub(crate) fn keep(artifacts: &Path, attempt: AttemptId, archive: &Path, digest: &Digest) -> io::Result<u64> {
    keep_at(
        artifacts,
        &artifact_path(artifacts, digest),
        attempt,
        archive,
        digest,
    )
}

/// Keeps a file that is no archive at its place; one that is there already stays. Answers with its bytes.
pub(crate) fn keep_file(
    artifacts: &Path,
    attempt: AttemptId,
    file: &Path,
    digest: &Digest,
) -> io::Result<u64> {
    keep_at(artifacts, &blob_path(artifacts, digest), attempt, file, digest)
}

fn keep_at(
    artifacts: &Path,
    place: &Path,
    attempt: AttemptId,
    archive: &Path,
    digest: &Digest,
) -> io::Result<u64> {
    // Whoever wrote it says what it holds. Under its digest others find it, and whoever names one of theirs has to have
    // it, so that is not believed. The attempt's own file stays with it as its proof: this may be repeated.
    if sha256_file(archive)? != digest.to_hex() {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is not what its record says",
        ));
    }
    let file = File::open(archive)?;
    let bytes = file.metadata()?.len();
    if renew(place)? {
        return Ok(bytes);
    }
    let shelf = place.parent().unwrap_or(artifacts);
    fs::create_dir_all(shelf)?;
    file.sync_all()?;
    match fs::hard_link(archive, place) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            let copy = shelf.join(format!(".{attempt}-{}", digest.to_hex()));
            fs::copy(archive, &copy)?;
            File::open(&copy)?.sync_all()?;
            fs::rename(&copy, place)?;
        }
        linked => linked?,
    }
    File::open(shelf)?.sync_all()?;
    // It may have been made long ago, by its date.
    renew(place)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{NodeId, RunId};

    use super::*;

    #[test]
    fn keeping_may_be_repeated() {
        let temp = tempfile::tempdir().unwrap();
        let attempt = AttemptId {
            run: RunId(1),
            node: NodeId(0),
            number: 1,
        };
        let (archive, digest) = (temp.path().join("a"), Digest::of(b"one"));
        assert!(
            keep(temp.path(), attempt, &archive, &digest).is_err(),
            "there is nothing to keep"
        );
        fs::write(&archive, "two").unwrap();
        assert!(
            keep(temp.path(), attempt, &archive, &digest).is_err(),
            "nothing stands under another's digest"
        );
        fs::write(&archive, "one").unwrap();
        assert_eq!(keep(temp.path(), attempt, &archive, &digest).unwrap(), 3);
        assert_eq!(keep(temp.path(), attempt, &archive, &digest).unwrap(), 3);
        assert_eq!(fs::read(artifact_path(temp.path(), &digest)).unwrap(), b"one");
        fs::remove_file(&archive).unwrap();
        assert_eq!(fs::read(artifact_path(temp.path(), &digest)).unwrap(), b"one");
    }

    #[test]
    fn what_another_attempt_made_is_not_had_by_naming_it() {
        let temp = tempfile::tempdir().unwrap();
        let attempt = |run| AttemptId {
            run: RunId(run),
            node: NodeId(0),
            number: 1,
        };
        let (archive, digest) = (temp.path().join("a"), Digest::of(b"one"));
        fs::write(&archive, "one").unwrap();
        keep(temp.path(), attempt(1), &archive, &digest).unwrap();
        keep_file(temp.path(), attempt(1), &archive, &digest).unwrap();
        let claimed = temp.path().join("b");
        for has in [false, true] {
            if has {
                fs::write(&claimed, "two").unwrap();
            }
            assert!(keep(temp.path(), attempt(2), &claimed, &digest).is_err(), "{has}");
            assert!(
                keep_file(temp.path(), attempt(2), &claimed, &digest).is_err(),
                "{has}"
            );
        }
        fs::write(&claimed, "one").unwrap();
        assert_eq!(keep(temp.path(), attempt(2), &claimed, &digest).unwrap(), 3);
    }
}
