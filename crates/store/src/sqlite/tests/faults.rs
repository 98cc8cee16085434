//! Faults from outside: a full disk, a disk that became read-only, another program's lock, one operation that fails.

use std::{path::Path, process::Command, time::Duration};

use futures_util::future::join_all;
use pipekeeper_model::{Name, RunId, Timestamp};
use sqlx::Executor as _;

use super::{commit, delivery, execute, raw};
use crate::{Accepted, CommitError, Refusal, SqliteStore, Store as _, StoreError};

#[tokio::test]
async fn one_failing_operation_does_not_fail_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    execute(
        &path,
        "CREATE TRIGGER spoil BEFORE INSERT ON refusals WHEN NEW.reason = 'bad' \
         BEGIN SELECT RAISE(ABORT, 'spoilt'); END",
    )
    .await
    .unwrap();
    let project: Name = "mall".parse().unwrap();
    let refusal = |number: i64, reason: &str| Refusal {
        project: project.clone(),
        at: Timestamp(number),
        reason: reason.to_owned(),
    };
    let refusals = (0..9).map(|number| refusal(number, if number == 4 { "bad" } else { "good" }));
    let noted = join_all(refusals.map(|refusal| store.note_refusal(refusal)));
    let commits = (1..=9).map(|run| commit(run, 0, 2));
    let committed = join_all(commits.map(|commit| store.commit(commit)));
    let deliveries = (0..40).map(|number| delivery(&number.to_string(), 10));
    let accepted = join_all(deliveries.map(|delivery| store.accept_delivery(delivery)));
    let (noted, committed, accepted) = tokio::join!(noted, committed, accepted);

    let failed: Vec<_> = noted
        .iter()
        .enumerate()
        .filter(|(_, result)| result.is_err())
        .collect();
    let spoilt = Err(StoreError::Unavailable {
        reason: "spoilt".to_owned(),
    });
    assert_eq!(failed, [(4, &spoilt)]);
    assert_eq!(store.refusals(&project).await.unwrap().len(), 8);
    assert!(committed.iter().all(Result::is_ok));
    assert_eq!(store.last_run().await.unwrap(), 9);
    assert!(
        accepted
            .iter()
            .all(|answer| matches!(answer, Ok(Accepted::New(_))))
    );
    assert_eq!(store.pending_deliveries(None, 99).await.unwrap().len(), 40);
    store.close().await;
}

#[tokio::test]
async fn a_foreign_lock_is_answered_once_for_all_who_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open_with(&path, Duration::from_millis(20))
        .await
        .unwrap();
    let mut other = raw(&path).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let deliveries = (0..50).map(|number| delivery(&number.to_string(), 10));
    let refused = join_all(deliveries.map(|delivery| store.accept_delivery(delivery))).await;
    for answer in &refused {
        assert!(
            matches!(answer, Err(StoreError::Unavailable { .. })),
            "{answer:?}"
        );
    }
    assert!(
        store.pending_deliveries(None, 9).await.unwrap().is_empty(),
        "reading goes on"
    );
    other.execute("ROLLBACK").await.unwrap();
    let answer = store.accept_delivery(delivery("after", 10)).await;
    assert!(matches!(answer, Ok(Accepted::New(_))), "{answer:?}");
    assert_eq!(store.pending_deliveries(None, 99).await.unwrap().len(), 1);
    store.close().await;
}

/// A file system of one mebibyte, unmounted with the value.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Option<Self> {
        mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], folder).then_some(Self(folder))
    }

    fn remount(&self, mode: &str) {
        assert!(mount(&["-o", &format!("remount,{mode}")], self.0));
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _left_to_the_machine = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(folder);
    command.output().is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn a_full_disk_spoils_nothing_and_is_forgotten_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        println!("skipped: mounting a small disk wants root");
        return;
    };
    let path = folder.path().join("pipe.db");
    let ballast = folder.path().join("ballast");
    let store = SqliteStore::open(&path).await.unwrap();
    store.commit(commit(1, 0, 2)).await.unwrap();
    std::fs::write(&ballast, vec![0; 300_000]).unwrap();

    let mut accepted = 0;
    let error = loop {
        match store
            .accept_delivery(delivery(&accepted.to_string(), 8_192))
            .await
        {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(accepted > 0);
    let big = store.accept_delivery(delivery("big", 400_000)).await;
    assert!(matches!(big, Err(StoreError::Unavailable { .. })), "{big:?}");
    assert_eq!(store.pending_deliveries(None, 999).await.unwrap().len(), accepted);

    std::fs::remove_file(&ballast).unwrap();
    let answer = store.accept_delivery(delivery("after", 8_192)).await;
    assert!(matches!(answer, Ok(Accepted::New(_))), "{answer:?}");
    store.commit(commit(1, 2, 1)).await.unwrap();
    assert_eq!(
        store.pending_deliveries(None, 999).await.unwrap().len(),
        accepted + 1
    );
    assert_eq!(store.load(RunId(1)).await.unwrap().unwrap().tail.len(), 3);
    store.close().await;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut raw(&path).await)
        .await
        .unwrap();
    assert_eq!(whole, "ok");
    drop(disk);
}

#[tokio::test]
async fn a_read_only_disk_is_told_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        println!("skipped: mounting a small disk wants root");
        return;
    };
    let path = folder.path().join("pipe.db");
    // An open file keeps a disk from becoming read-only, so the store opens its files on a disk that is so already.
    SqliteStore::open(&path).await.unwrap().close().await;
    disk.remount("ro");
    assert!(SqliteStore::open(&path).await.is_err());
    disk.remount("rw");
    let store = SqliteStore::open(&path).await.unwrap();
    store.check().await.unwrap();
    store.close().await;
    drop(disk);
}

#[tokio::test]
async fn a_refused_commit_is_no_failure_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("pipe.db")).await.unwrap();
    store.commit(commit(1, 0, 1)).await.unwrap();
    let both = tokio::join!(store.commit(commit(1, 0, 1)), store.commit(commit(2, 0, 1)));
    assert_eq!(both, (Err(CommitError::Conflict { run: 1, expected: 0 }), Ok(())));
    store.close().await;
}
