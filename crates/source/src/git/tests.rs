//! The surroundings that git gets, shown by a program that stands in for it.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Git, Pack, Prune};
use crate::{PlainHttp, Repository, RepositoryUrl, SourceError};

fn repository(url: &str) -> Repository {
    Repository {
        name: "web".parse().unwrap(),
        url: RepositoryUrl::parse(url, PlainHttp::Refused).unwrap(),
    }
}

fn stand_in(root: &Path, script: &str, limit: Duration) -> Git {
    let program = root.join("stand-in");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut git = Git::new(root.join("home"), limit).unwrap();
    git.program = program;
    git
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn git_gets_a_clean_environment_and_no_credentials_in_its_arguments() {
    let root = TempDir::new().unwrap();
    let git = stand_in(root.path(), "env > env; echo \"$@\" > args", LONG);
    let repository = repository("https://ada:hunter2@host/x");
    git.fetch(Path::new("/mirror"), &repository, &["+a:b".into()], Prune::Yes)
        .await
        .unwrap();

    let args = fs::read_to_string(root.path().join("home/args")).unwrap();
    assert!(
        args.ends_with("--prune --end-of-options https://host/x +a:b\n"),
        "{args}"
    );
    let env = fs::read_to_string(root.path().join("home/env")).unwrap();
    let value = |key: &str| {
        env.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("{key}"))
    };
    assert_eq!(value("GIT_ALLOW_PROTOCOL"), "https");
    assert_eq!(value("GIT_CONFIG_NOSYSTEM"), "1");
    assert_eq!(value("GIT_TERMINAL_PROMPT"), "0");
    assert_eq!(value("GIT_DIR"), "/mirror");
    assert_eq!(value("HOME"), root.path().join("home").to_str().unwrap());
    assert_eq!(
        value("GIT_CONFIG_VALUE_0"),
        "Authorization: Basic YWRhOmh1bnRlcjI="
    );
    assert!(
        !env.contains("CARGO"),
        "the parent's environment stays outside: {env}"
    );
}

#[tokio::test]
async fn what_git_complains_of_is_shown_bounded() {
    let root = TempDir::new().unwrap();
    let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo gone >&2; exit 128";
    let git = stand_in(root.path(), script, LONG);
    let error = git
        .tidy(Path::new("/mirror"), &repository("https://host/x"), Pack::Objects)
        .await;
    let SourceError::Unreachable { detail, url, .. } = error.unwrap_err() else {
        panic!("not unreachable");
    };
    assert_eq!((detail.len(), url.as_str()), (600, "https://host/x"));
}

#[tokio::test]
async fn git_that_hangs_is_stopped() {
    let root = TempDir::new().unwrap();
    let git = stand_in(root.path(), "exec sleep 1000", Duration::from_millis(30));
    let error = git
        .tidy(Path::new("/mirror"), &repository("https://host/x"), Pack::Objects)
        .await;
    assert!(matches!(error, Err(SourceError::Timeout { .. })));
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_no_process_behind() {
    let root = TempDir::new().unwrap();
    let pipe = root.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let script = format!("sleep 1000 > {} & wait", pipe.display());
    let git = stand_in(root.path(), &script, LONG);
    let (opened, is_open) = oneshot::channel();
    // The pipe opens when the grandchild does, and ends when the last process that holds it does.
    let ended = tokio::task::spawn_blocking(move || {
        let mut file = File::open(pipe).unwrap();
        opened.send(()).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap()
    });
    let repository = repository("https://host/x");
    let running = git.tidy(Path::new("/mirror"), &repository, Pack::Objects);
    tokio::select! {
        _ = running => panic!("the stand-in never ends by itself"),
        started = is_open => started.unwrap(),
    }
    let read = tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
    assert_eq!(read, 0);
}
