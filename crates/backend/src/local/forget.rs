//! Removes an ended attempt's folder, or keeps it for people.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use pipekeeper_agent::protocol::{KeepWorkspace, RecordOutcome};
use pipekeeper_model::AttemptId;

use super::{
    LocalBackend,
    folder::{Folder, Standing},
};

/// How long an attempt may seem to live after its end.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(2);

/// Removes the folder, unless the attempt still runs; it blocks.
pub(super) fn forget(root: &Path, attempt: AttemptId, folder: &Folder) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match folder.look()? {
            Standing::Absent => return Ok(()),
            // A program that is being started holds copies of all our locks until it has replaced this one.
            Standing::Alive if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            Standing::Alive => return Err(io::Error::new(ErrorKind::ResourceBusy, "it still runs")),
            Standing::Finished(_) | Standing::Dead(_) | Standing::Unstarted(_) => break,
        }
    }
    if is_kept(folder) {
        let kept = LocalBackend::kept_folder(root, attempt);
        remove(&kept)?;
        fs::create_dir_all(root.join("kept"))?;
        return fs::rename(folder.path(), kept);
    }
    remove(folder.path())
}

fn is_kept(folder: &Folder) -> bool {
    let Ok(spec) = folder.dir().read_spec() else {
        return false;
    };
    match spec.keep_workspace {
        KeepWorkspace::Never => false,
        KeepWorkspace::Always => true,
        KeepWorkspace::OnFailure => {
            let record = folder.dir().read_record().ok().flatten();
            record.is_none_or(|record| record.outcome != RecordOutcome::Succeeded)
        }
    }
}

/// Removes a folder with all in it, read-only folders too.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        // Something was added or removed under our hands; it is once more enough.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}
