//! Postgres's own programs for backups. The password reaches them in their environment, never on their command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use pipekeeper_store::PostgresUrl;

use crate::failure::{Failure, OrFail};

/// Writes a consistent copy of the database to a file that is not there yet.
pub(super) fn back_up(url: &PostgresUrl, file: &Path) -> Result<(), Failure> {
    if file.exists() {
        return Err(Failure::usage(format!("`{}` is there already", file.display())));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut dump = Command::new("pg_dump");
    dump.args(["--format=custom", "--no-owner", "--no-privileges", "--file"])
        .arg(&part);
    if let Err(failure) = run("pg_dump", dump, url) {
        // What there is of it is of no use; there may be nothing.
        let _removed = fs::remove_file(&part);
        return Err(failure);
    }
    fs::File::open(&part)
        .and_then(|written| written.sync_all())
        .and_then(|()| fs::rename(&part, file))
        .or_fail(format_args!("write `{}`", file.display()))
}

/// Puts a backup into an empty database, whole or not at all.
pub(super) fn restore(url: &PostgresUrl, file: &Path) -> Result<(), Failure> {
    let mut restore = Command::new("pg_restore");
    // Without a name it writes SQL to stdout; an empty one means that of the environment.
    restore
        .args([
            "--dbname=",
            "--single-transaction",
            "--exit-on-error",
            "--no-owner",
            "--no-privileges",
        ])
        .arg(file);
    run("pg_restore", restore, url)
}

fn run(program: &str, mut command: Command, url: &PostgresUrl) -> Result<(), Failure> {
    let status = command.envs(url.variables()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::ours(format!("`{program}` failed ({status})"))
            .hint("it said why above; it must be of the server's version or newer")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("`{program}` is not on the path"))
                .hint("install Postgres's client programs, for example `apt install postgresql-client`"))
        }
        Err(error) => Err(error).or_fail(format_args!("run `{program}`")),
    }
}
