//! The folder of artifacts, by digest. What is in it is whole, and never changes.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
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

/// Keeps bytes by their digest; what is there already stays.
pub(crate) fn keep_bytes(artifacts: &Path, attempt: AttemptId, bytes: &[u8]) -> io::Result<Digest> {
    let digest = Digest::of(bytes);
    let place = blob_path(artifacts, &digest);
    if place.exists() {
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

/// Moves an archive of `attempt` to its place; one that is there already stays.
pub(crate) fn keep(artifacts: &Path, attempt: AttemptId, archive: &Path, digest: &Digest) -> io::Result<()> {
    move_to(
        artifacts,
        &artifact_path(artifacts, digest),
        attempt,
        archive,
        digest,
    )
}

/// Moves a file that is no archive to its place; one that is there already stays.
pub(crate) fn keep_file(
    artifacts: &Path,
    attempt: AttemptId,
    file: &Path,
    digest: &Digest,
) -> io::Result<()> {
    move_to(artifacts, &blob_path(artifacts, digest), attempt, file, digest)
}

fn move_to(
    artifacts: &Path,
    place: &Path,
    attempt: AttemptId,
    archive: &Path,
    digest: &Digest,
) -> io::Result<()> {
    if place.exists() {
        return Ok(());
    }
    // Whoever wrote it says what it holds. Under its digest others will find it, so that is not believed.
    if sha256_file(archive)? != digest.to_hex() {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is not what its record says",
        ));
    }
    let shelf = place.parent().unwrap_or(artifacts);
    fs::create_dir_all(shelf)?;
    File::open(archive)?.sync_all()?;
    match fs::rename(archive, place) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            let copy = shelf.join(format!(".{attempt}-{}", digest.to_hex()));
            fs::copy(archive, &copy)?;
            File::open(&copy)?.sync_all()?;
            fs::rename(&copy, place)?;
        }
        moved => moved?,
    }
    File::open(shelf)?.sync_all()
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
        keep(temp.path(), attempt, &archive, &digest).unwrap();
        keep(temp.path(), attempt, &archive, &digest).unwrap();
        assert_eq!(fs::read(artifact_path(temp.path(), &digest)).unwrap(), b"one");
        assert!(!archive.exists());
    }
}
