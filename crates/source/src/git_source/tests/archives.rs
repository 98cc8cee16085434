//! Source archives, honest and hostile.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    time::{Duration, SystemTime},
};

use git2::{FileMode, Oid};
use pipekeeper_model::Sha;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::origin::{Origin, source};
use crate::{Source, SourceError, Want};

async fn archived(origin: &Origin, sha: &Sha) -> (TempDir, Result<Vec<u8>, SourceError>) {
    let (root, source) = source();
    let repository = origin.repository();
    source
        .fetch(&repository, &Want::Commit(sha.clone()))
        .await
        .unwrap();
    let archive = source.archive(&repository, sha).await;
    (root, archive.map(|path| fs::read(path).unwrap()))
}

fn unpacked(archive: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    tar::Archive::new(archive).unpack(folder.path()).unwrap();
    folder
}

#[tokio::test]
async fn a_tree_survives_the_archive() {
    let origin = Origin::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(130));
    let target = "t/".repeat(80) + "end";
    let entries: &[(&str, FileMode, &[u8])] = &[
        (".hidden", FileMode::Blob, b"h"),
        ("bin/run", FileMode::BlobExecutable, b"#!/bin/sh\n"),
        ("empty", FileMode::Blob, b""),
        ("bytes", FileMode::Blob, &[0, 159, 255, 10]),
        ("link", FileMode::Link, b"../outside"),
        ("dotted", FileMode::Link, b"./bin/../bin/run"),
        ("far", FileMode::Link, target.as_bytes()),
        (&long, FileMode::Blob, b"long"),
    ];
    let plain = origin.git.find_tree(origin.tree(entries)).unwrap();
    let mut builder = origin.git.treebuilder(Some(&plain)).unwrap();
    let elsewhere = Oid::from_str("1234567890123456789012345678901234567890").unwrap();
    builder.insert("vendored", elsewhere, 0o160_000).unwrap();
    let sha = origin.commit("refs/heads/main", builder.write().unwrap(), &[]);
    let (_root, archive) = archived(&origin, &sha).await;
    let archive = archive.unwrap();

    let folder = unpacked(&archive);
    for (path, mode, content) in entries {
        let file = folder.path().join(path);
        if *mode == FileMode::Link {
            let link = fs::read_link(&file).unwrap();
            assert_eq!(link.as_os_str().as_bytes(), *content, "{path}");
            continue;
        }
        assert_eq!(fs::read(&file).unwrap(), *content, "{path}");
        let is_program = fs::metadata(&file).unwrap().permissions().mode() & 0o111 != 0;
        assert_eq!(is_program, *mode == FileMode::BlobExecutable, "{path}");
    }
    assert_eq!(fs::read_dir(folder.path().join("vendored")).unwrap().count(), 0);

    let (_root, again) = archived(&origin, &sha).await;
    assert!(archive == again.unwrap(), "the same tree gives the same bytes");
}

#[tokio::test]
async fn a_big_tree_is_archived_whole() {
    let origin = Origin::new();
    let names: Vec<String> = (0..1_000)
        .map(|n| format!("d{}/e{}/f{n}", n % 7, n % 11))
        .collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let sha = origin.commit("refs/heads/main", origin.files(&files), &[]);
    let (_root, archive) = archived(&origin, &sha).await;
    let folder = unpacked(&archive.unwrap());
    for name in names {
        assert_eq!(fs::read_to_string(folder.path().join(&name)).unwrap(), name);
    }
}

#[tokio::test]
async fn concurrent_callers_share_one_archive() {
    let origin = Origin::new();
    let sha = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (root, source) = source();
    let repository = origin.repository();
    source
        .fetch(&repository, &Want::Commit(sha.clone()))
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (source, repository, sha) = (source.clone(), repository.clone(), sha.clone());
        tasks.spawn(async move {
            let path = source.archive(&repository, &sha).await.unwrap();
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
        });
    }
    let inodes = tasks.join_all().await;
    assert!(inodes.iter().all(|inode| inode == &inodes[0]));
    assert_eq!(fs::read_dir(root.path().join("archives/web")).unwrap().count(), 1);
}

#[tokio::test]
async fn old_archives_go_and_used_ones_stay() {
    let origin = Origin::new();
    let first = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let second = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&first]);
    let third = origin.commit("refs/heads/main", origin.files(&[("a", "3")]), &[&second]);
    let (_root, source) = source();
    let repository = origin.repository();
    source
        .fetch(&repository, &Want::Commit(third.clone()))
        .await
        .unwrap();
    let unused = source.archive(&repository, &first).await.unwrap();
    let used = source.archive(&repository, &second).await.unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(48);
    for path in [&unused, &used] {
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    source.archive(&repository, &second).await.unwrap();
    source.archive(&repository, &third).await.unwrap();
    source.tidy(&repository).await.unwrap();
    assert!(!unused.exists());
    assert!(used.exists());
}

#[tokio::test]
async fn hostile_names_are_refused() {
    let origin = Origin::new();
    let file = origin.git.blob(b"x").unwrap();
    let folder = origin.files(&[("y", "1")]);
    for entries in [
        &[("100644", "..", file)][..],
        &[("40000", "..", folder)],
        &[("40000", ".git", folder)],
        &[("40000", ".GIT", folder)],
        &[("100644", "a/../../b", file)],
        &[("120000", "a", file), ("40000", "a", folder)],
    ] {
        let sha = origin.commit("refs/heads/main", origin.raw_tree(entries), &[]);
        let (_root, archive) = archived(&origin, &sha).await;
        let error = archive.unwrap_err();
        assert!(
            matches!(error, SourceError::UnsafePath { .. }),
            "{error} for {entries:?}"
        );
    }
}

#[tokio::test]
async fn a_tree_that_unfolds_without_end_is_refused() {
    let origin = Origin::new();
    // Long names use the budget up sooner.
    let names: Vec<String> = (0..20).map(|n| format!("{n:0250}")).collect();
    let mut tree = origin.files(&[("file", "")]);
    for _ in 0..15 {
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), tree)).collect();
        tree = origin.raw_tree(&entries);
    }
    let sha = origin.commit("refs/heads/main", tree, &[]);
    let (_root, archive) = archived(&origin, &sha).await;
    assert!(matches!(archive.unwrap_err(), SourceError::TooLarge { .. }));

    let (_root, source) = source();
    let repository = origin.repository();
    source
        .fetch(&repository, &Want::Commit(sha.clone()))
        .await
        .unwrap();
    let error = source.changed_paths(&repository, None, &sha).await.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
}
