//! Where `pipe` keeps things for one user: the folders of the XDG rules, made private.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::failure::{Failure, OrFail};

/// The folder of logs and state.
pub(crate) fn state() -> Result<PathBuf, Failure> {
    below_home("XDG_STATE_HOME", ".local/state")
}

/// The folder of what the user chose, such as logins.
pub(crate) fn config() -> Result<PathBuf, Failure> {
    below_home("XDG_CONFIG_HOME", ".config")
}

/// The folder of caches.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    below_home("XDG_CACHE_HOME", ".cache")
}

fn below_home(variable: &str, default: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable)
        .or_else(|| absolute("HOME").map(|home| home.join(default)))
        .map(|folder| folder.join("pipe"))
        .ok_or_else(|| {
            Failure::usage("neither `HOME` nor an XDG folder is set").hint(format!(
                "set `{variable}` to an absolute path that you can write to"
            ))
        })
}

/// Makes a folder, and those above it, for its owner alone.
pub(crate) fn make(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .or_usage(format_args!("make the folder `{}`", folder.display()))
        .map_err(|failure| {
            failure.hint("choose a folder that you can write to (`data_dir`, `--data-dir`, XDG_STATE_HOME)")
        })
}

/// Makes a folder, for its owner alone; what has lain there for so long goes.
pub(crate) fn tidy(folder: &Path, abandoned: Duration) -> Result<(), Failure> {
    make(folder)?;
    let what = format!("tidy the folder `{}`", folder.display());
    for entry in fs::read_dir(folder).or_usage(&what)? {
        let path = entry.or_usage(&what)?.path();
        // Another server may have taken it away meanwhile.
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age < abandoned) {
            continue;
        }
        let removed = if metadata.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).or_usage(&what),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Waits until nobody else has this lock; it ends with the file.
pub(crate) fn lock(path: &Path) -> Result<fs::File, Failure> {
    let what = format!("lock `{}`", path.display());
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .or_usage(&what)?;
    file.lock().or_usage(&what)?;
    Ok(file)
}

/// Writes a file that only its owner reads; whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let what = format!("write `{}`", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).or_usage(&what)?;
    io::Write::write_all(&mut file.as_file(), text.as_bytes()).or_usage(&what)?;
    file.as_file().sync_all().or_usage(&what)?;
    file.persist(path).or_usage(&what)?;
    Ok(())
}

/// Writes a file that must not exist yet; answers no if it does.
pub(crate) fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
    {
        Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
