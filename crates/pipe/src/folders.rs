//! Where `pipe` keeps things for one user: the folders of the XDG rules, made private.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
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

/// Makes a folder, for its owner alone, in which nothing is.
pub(crate) fn empty(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).or_usage(format_args!("empty the folder `{}`", folder.display()))
        }
        Ok(()) | Err(_) => make(folder),
    }
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
