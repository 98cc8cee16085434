//! The folders of an attempt: filling them before the steps, emptying them after the record.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::archive::{ArchiveError, Beneath, clean, sha256_file, unpack_with};
use crate::cache::{self, CacheState};
use crate::copy::Copier;
use crate::interrupt::Interrupt;
use crate::protocol::{AttemptDir, AttemptSpec, InputSpec, SecretValue, ValueSpec, WorkspaceSpec};
use crate::transfer::Transfers;

/// What is ready when the steps may start.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) caches: Vec<CacheState>,
    pub(crate) notes: Vec<String>,
}

/// Why the steps cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("cannot make `{path}`")]
    Folder {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot copy `{path}` into the workspace")]
    Copy {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack `{path}` into the workspace")]
    Unpack {
        path: String,
        #[source]
        source: ArchiveError,
    },
    #[error("artifact `{path}` has the digest `{found}`, not `{expected}`")]
    Digest {
        path: String,
        found: String,
        expected: String,
    },
    #[error("`{path}` cannot be used: {reason}")]
    Path { path: String, reason: &'static str },
}

/// Makes the empty folders and files of an attempt.
pub(crate) fn make_folders(dir: &AttemptDir) -> Result<(), PrepareError> {
    for path in [dir.workspace(), dir.home(), dir.tmp(), dir.steps()] {
        fs::create_dir_all(&path).map_err(|source| PrepareError::Folder {
            path: shown(&path),
            source,
        })?;
    }
    for path in [dir.output(), dir.summary()] {
        File::create(&path).map_err(|source| PrepareError::Folder {
            path: shown(&path),
            source,
        })?;
    }
    Ok(())
}

/// Whether [`fill`] has anything to do.
pub(crate) fn has_content(spec: &AttemptSpec) -> bool {
    spec.workspace != WorkspaceSpec::Empty
        || !spec.inputs.is_empty()
        || !spec.values.is_empty()
        || !spec.caches.is_empty()
}

/// Puts source, caches and artifacts into the workspace, in this order.
pub(crate) fn fill(
    dir: &AttemptDir,
    spec: &AttemptSpec,
    transfers: &Transfers,
    interrupt: &Interrupt,
) -> Result<Prepared, PrepareError> {
    let workspace = dir.workspace();
    match &spec.workspace {
        WorkspaceSpec::Empty => {}
        WorkspaceSpec::CopyOf { path } => {
            let copied = Copier::default().tree(path, &workspace, interrupt);
            copied.map_err(|source| PrepareError::Copy {
                path: shown(path),
                source,
            })?;
        }
        WorkspaceSpec::Archive { path } => {
            let unpacked = unpack_with(path, &workspace, interrupt);
            unpacked.map_err(|source| PrepareError::Unpack {
                path: shown(path),
                source,
            })?;
        }
    }
    let mut prepared = Prepared::default();
    for cache in &spec.caches {
        let restored = cache::restore(dir, cache, transfers, interrupt, &mut prepared.notes);
        prepared.caches.push(restored);
    }
    for input in &spec.inputs {
        add_input(&workspace, input, interrupt)?;
    }
    for value in &spec.values {
        add_value(&dir.values(), value)?;
    }
    Ok(prepared)
}

/// Puts an output of another action where the steps may read it.
fn add_value(folder: &Path, value: &ValueSpec) -> Result<(), PrepareError> {
    let place = clean(Path::new(&value.place)).map_err(|reason| PrepareError::Path {
        path: value.place.clone(),
        reason,
    })?;
    let target = folder.join(place);
    let failed = |source| PrepareError::Copy {
        path: format!("output {}", value.place),
        source,
    };
    let below = target.parent().unwrap_or(folder);
    fs::create_dir_all(below).map_err(failed)?;
    fs::copy(&value.file, &target).map_err(failed)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).map_err(failed)?;
    let found = sha256_file(&target).map_err(failed)?;
    if found.eq_ignore_ascii_case(&value.sha256) {
        return Ok(());
    }
    Err(PrepareError::Digest {
        path: value.place.clone(),
        found,
        expected: value.sha256.clone(),
    })
}

fn add_input(workspace: &Path, input: &InputSpec, interrupt: &Interrupt) -> Result<(), PrepareError> {
    let path = shown(&input.archive);
    let into = clean(Path::new(&input.into)).map_err(|reason| PrepareError::Path {
        path: input.into.clone(),
        reason,
    })?;
    let unpack = |source| PrepareError::Unpack {
        path: path.clone(),
        source,
    };
    let found = sha256_file(&input.archive)
        .map_err(ArchiveError::io(&input.archive))
        .map_err(unpack)?;
    if !found.eq_ignore_ascii_case(&input.sha256) {
        return Err(PrepareError::Digest {
            path,
            found,
            expected: input.sha256.clone(),
        });
    }
    if !into.as_os_str().is_empty() {
        let made = Beneath::open(workspace).and_then(|mut beneath| beneath.folder(&into, 0o755));
        made.map_err(|source| PrepareError::Folder {
            path: input.into.clone(),
            source,
        })?;
    }
    unpack_with(&input.archive, &workspace.join(into), interrupt)
        .map(drop)
        .map_err(unpack)
}

/// Writes a secret into its file, which only its owner may read; the paths made. Where steps have a folder in memory, which
/// they see at `memory`, the file is there, and a link stands in its place.
pub(crate) fn write_secret(
    dir: &AttemptDir,
    memory: Option<&Path>,
    number: usize,
    secret: &SecretValue,
) -> Result<Vec<String>, PrepareError> {
    use std::io::Write as _;

    let Some(path) = &secret.file else {
        return Ok(Vec::new());
    };
    let bad = |reason| PrepareError::Path {
        path: path.clone(),
        reason,
    };
    let place = cache::place(path).map_err(|_| bad("it is absolute"))?;
    let relative = clean(Path::new(&place)).map_err(bad)?;
    let write = |root: &Path, file: &Path| {
        let mut file = Beneath::open(root)?.file(file, secret.mode())?;
        file.write_all(secret.value.reveal().as_bytes())
    };
    let failed = |source| PrepareError::Folder {
        path: path.clone(),
        source,
    };
    let Some(memory) = memory else {
        write(dir.path(), &relative).map_err(failed)?;
        return Ok(vec![place]);
    };
    let name = number.to_string();
    write(&dir.secrets(), Path::new(&name))
        .and_then(|()| Beneath::open(dir.path())?.link(&relative, &memory.join(&name)))
        .map_err(failed)?;
    Ok(vec![place, format!("secrets/{name}")])
}

/// Removes a folder with all in it, also below folders that nobody may write to.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
