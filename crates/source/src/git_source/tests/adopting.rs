//! Folders that become commits.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use pipekeeper_model::GitRef;
use tempfile::TempDir;

use super::origin::{Origin, source};
use crate::{Source, SourceError, Want};

const LONG: Duration = Duration::from_hours(1);

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("bin/deep")).unwrap();
    fs::write(folder.path().join("bin/deep/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(
        folder.path().join("bin/deep/run"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::write(folder.path().join("text"), "one").unwrap();
    std::os::unix::fs::symlink("../outside", folder.path().join("link")).unwrap();
    folder
}

#[tokio::test]
async fn a_folder_is_read_like_any_commit() {
    let (_root, source) = source();
    let repository = Origin::new().repository();
    let sha = source
        .adopt(&repository, folder().path(), "mine\nmore", LONG)
        .await
        .unwrap();
    assert_eq!(source.commit(&repository, &sha).await.unwrap().subject, "mine");
    let modes: Vec<String> = source
        .content_ids(&repository, &sha)
        .await
        .unwrap()
        .into_iter()
        .map(|(path, id)| format!("{path} {}", &id[..6]))
        .collect();
    assert_eq!(modes, ["bin/deep/run 100755", "link 120000", "text 100644"]);
    assert!(source.archive(&repository, &sha).await.unwrap().is_file());
}

#[tokio::test]
async fn a_folder_that_was_kept_long_enough_makes_room() {
    let (_root, source) = source();
    let origin = Origin::new();
    let repository = origin.repository();
    let first = source
        .adopt(&repository, folder().path(), "", LONG)
        .await
        .unwrap();
    let pins = || {
        let mirror = git2::Repository::open_bare(source.mirror(&repository)).unwrap();
        mirror.references_glob("refs/pipe/*").unwrap().names().count()
    };
    source
        .adopt(&repository, folder().path(), "again", LONG)
        .await
        .unwrap();
    assert_eq!(pins(), 2);
    // A commit's time has whole seconds: what is kept for no time is older than a second from now.
    let mirror = git2::Repository::open_bare(source.mirror(&repository)).unwrap();
    let tree = mirror
        .find_commit(git2::Oid::from_str(first.as_str()).unwrap())
        .unwrap()
        .tree()
        .unwrap();
    let author = git2::Signature::new("a", "a", &git2::Time::new(0, 0)).unwrap();
    let old = mirror.commit(None, &author, &author, "old", &tree, &[]).unwrap();
    mirror
        .reference(&format!("refs/pipe/{old}"), old, true, "")
        .unwrap();
    assert_eq!(pins(), 3);
    source
        .adopt(&repository, folder().path(), "more", LONG)
        .await
        .unwrap();
    assert_eq!(pins(), 3, "the old one went, a new one came");
}

#[tokio::test]
async fn a_folder_is_no_part_of_the_repository() {
    let (_root, source) = source();
    let (_other, mirrors) = super::origin::source();
    let origin = Origin::new();
    let tree = origin.tree(&[("a", git2::FileMode::Blob, b"1")]);
    origin.commit("refs/heads/main", tree, &[]);
    let repository = origin.repository();
    let main = Want::Ref(GitRef::from_full("refs/heads/main").unwrap());
    mirrors.fetch(&repository, &main).await.unwrap();
    let sha = source
        .adopt(&repository, folder().path(), "", LONG)
        .await
        .unwrap();
    let missing = mirrors.fetch(&repository, &Want::Commit(sha)).await;
    assert!(
        matches!(missing, Err(SourceError::NotFound { .. })),
        "{missing:?}"
    );
}
