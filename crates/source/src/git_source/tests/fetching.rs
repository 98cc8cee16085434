//! Bringing commits here: by id, by ref, again, late, never, and into a damaged mirror.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use git2::Oid;
use pipekeeper_model::{GitRef, Sha};
use tokio::task::JoinSet;

use super::origin::{Origin, sha, source};
use crate::{Permanence, Repository, RepositoryUrl, Source, SourceError, Want};

fn main() -> Want {
    Want::Ref(GitRef::Branch("main".into()))
}

fn some_sha() -> Sha {
    "1234567890123456789012345678901234567890".parse().unwrap()
}

#[tokio::test]
async fn a_commit_comes_by_id_and_by_ref_and_stays() {
    let origin = Origin::new();
    let first = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let second = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&first]);
    let (_root, source) = source();
    let repository = origin.repository();
    assert_eq!(source.fetch(&repository, &main()).await.unwrap(), second);
    let want = Want::Commit(first.clone());
    assert_eq!(source.fetch(&repository, &want).await.unwrap(), first);

    // What was fetched once needs no origin any more.
    fs::remove_dir_all(origin.folder.path()).unwrap();
    for kept in [first, second] {
        let want = Want::Commit(kept.clone());
        assert_eq!(source.fetch(&repository, &want).await.unwrap(), kept);
    }
    let error = source.fetch(&repository, &main()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
    assert_eq!(error.permanence(), Permanence::Transient);
}

#[tokio::test]
async fn a_tag_object_leads_to_its_commit() {
    let origin = Origin::new();
    let commit = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let tag = origin.tag("v1", &commit);
    assert_ne!(tag, commit);
    let (_root, source) = source();
    let repository = origin.repository();
    for want in [Want::Commit(tag), Want::Ref(GitRef::Tag("v1".into()))] {
        assert_eq!(source.fetch(&repository, &want).await.unwrap(), commit);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let origin = Origin::new();
    let commit = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    origin.commit("refs/heads/old", origin.files(&[("a", "2")]), &[]);
    let (_root, source) = source();
    let repository = origin.repository();
    let old = Want::Ref(GitRef::Branch("old".into()));
    source.fetch(&repository, &old).await.unwrap();
    origin.delete("refs/heads/old");
    let blob = sha(origin.git.blob(b"no commit").unwrap());
    let other_hash: Sha = "12".repeat(32).parse().unwrap();
    for want in [
        old,
        Want::Commit(some_sha()),
        Want::Commit(blob),
        Want::Commit(other_hash),
    ] {
        let error = source.fetch(&repository, &want).await.unwrap_err();
        assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&want.to_string()));
        assert_eq!(error.permanence(), Permanence::Terminal);
    }
    let want = Want::Commit(commit.clone());
    assert_eq!(source.fetch(&repository, &want).await.unwrap(), commit);
}

#[tokio::test]
async fn a_rewritten_history_keeps_what_was_fetched() {
    let origin = Origin::new();
    let old = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (_root, source) = source();
    let repository = origin.repository();
    source.fetch(&repository, &main()).await.unwrap();
    let new = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[]);
    assert_eq!(source.fetch(&repository, &main()).await.unwrap(), new);
    assert_eq!(source.commit(&repository, &old).await.unwrap().sha, old);
    assert_eq!(source.merge_base(&repository, &old, &new).await.unwrap(), None);
}

#[tokio::test]
async fn a_branch_may_take_the_place_of_a_folder_of_branches() {
    let origin = Origin::new();
    let (_root, source) = source();
    let repository = origin.repository();
    for name in ["a", "a/b", "a"] {
        let full = format!("refs/heads/{name}");
        let commit = origin.commit(&full, origin.files(&[("file", name)]), &[]);
        let want = Want::Ref(GitRef::Branch(name.into()));
        assert_eq!(source.fetch(&repository, &want).await.unwrap(), commit);
        origin.delete(&full);
    }
}

#[tokio::test]
async fn the_origins_refs_are_listed_as_a_forge_sends_them() {
    let origin = Origin::new();
    let commit = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    origin.commit("refs/heads/gone", origin.files(&[("a", "2")]), &[]);
    origin.commit("refs/notes/commits", origin.files(&[("a", "3")]), &[]);
    let tag = origin.tag("v1", &commit);
    let (_root, source) = source();
    let repository = origin.repository();
    assert_eq!(source.refs(&repository).await.unwrap().len(), 3);
    origin.delete("refs/heads/gone");
    assert_eq!(
        source.refs(&repository).await.unwrap(),
        [
            (GitRef::Branch("main".into()), commit),
            (GitRef::Tag("v1".into()), tag)
        ]
    );
}

#[tokio::test]
async fn an_empty_repository_has_no_refs() {
    let origin = Origin::new();
    let (_root, source) = source();
    assert_eq!(source.refs(&origin.repository()).await.unwrap(), []);
}

#[tokio::test]
async fn many_may_want_the_same_at_once() {
    let origin = Origin::new();
    let commit = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (_root, source) = source();
    let mut tasks = JoinSet::new();
    for number in 0..12 {
        let (source, repository) = (source.clone(), origin.repository());
        let want = if number % 3 == 0 {
            main()
        } else {
            Want::Commit(commit.clone())
        };
        tasks.spawn(async move { source.fetch(&repository, &want).await.unwrap() });
    }
    for fetched in tasks.join_all().await {
        assert_eq!(fetched, commit);
    }
}

#[tokio::test]
async fn a_hostile_ref_or_path_is_only_a_name() {
    let origin = Origin::new();
    origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (root, source) = source();
    let mark = root.path().join("pwned");
    let command = format!("--upload-pack=touch {}", mark.display());
    let want = Want::Ref(GitRef::Branch(command.clone()));
    assert!(source.fetch(&origin.repository(), &want).await.is_err());
    let repository = Repository {
        name: "odd".parse().unwrap(),
        url: RepositoryUrl::from_path(Path::new("/no/such").join(format!("$(touch {})", mark.display())))
            .unwrap(),
    };
    assert!(source.fetch(&repository, &main()).await.is_err());
    assert!(!mark.exists());
}

/// Changing owners takes root, so elsewhere this shows only that the fetch works.
#[tokio::test]
async fn a_repository_of_another_user_is_fetched() {
    let origin = Origin::new();
    let commit = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let _ = chown(origin.folder.path(), Some(12_345), None);
    let (_root, source) = source();
    assert_eq!(source.fetch(&origin.repository(), &main()).await.unwrap(), commit);
}

#[tokio::test]
async fn hooks_of_the_mirror_never_run() {
    let origin = Origin::new();
    let first = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (root, source) = source();
    source.fetch(&origin.repository(), &main()).await.unwrap();
    let mark = root.path().join("pwned");
    let hooks = root.path().join("mirrors/web.git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("reference-transaction");
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&first]);
    source.fetch(&origin.repository(), &main()).await.unwrap();
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_damaged_mirror_is_made_anew() {
    let origin = Origin::new();
    let commit = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (root, source) = source();
    let repository = origin.repository();
    let mirror = root.path().join("mirrors/web.git");
    let want = Want::Commit(commit.clone());
    source.fetch(&repository, &want).await.unwrap();

    // A power cut may leave empty objects behind good refs.
    let mut objects = Vec::new();
    for folder in fs::read_dir(mirror.join("objects")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.file_name().unwrap().len() == 2 {
            objects.extend(fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
        }
    }
    assert!(!objects.is_empty());
    for object in objects {
        fs::remove_file(&object).unwrap();
        fs::write(&object, "").unwrap();
    }
    let error = source.archive(&repository, &commit).await.unwrap_err();
    assert!(matches!(error, SourceError::Corrupt { .. }), "{error}");
    assert_eq!(error.permanence(), Permanence::Transient);
    assert_eq!(source.fetch(&repository, &want).await.unwrap(), commit);
    source.archive(&repository, &commit).await.unwrap();

    // Or a ref that names nothing.
    fs::write(mirror.join("refs/heads/main"), format!("{}\n", Oid::ZERO_SHA1)).unwrap();
    fs::write(mirror.join("refs/heads/bad"), "").unwrap();
    assert_eq!(source.fetch(&repository, &main()).await.unwrap(), commit);
    fs::write(mirror.join("HEAD"), "").unwrap();
    let next = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&commit]);
    assert_eq!(source.fetch(&repository, &main()).await.unwrap(), next);
}

#[tokio::test]
async fn locks_of_the_dead_do_not_stand_in_the_way() {
    let origin = Origin::new();
    let first = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (root, source) = source();
    let repository = origin.repository();
    let mirror = root.path().join("mirrors/web.git");

    // It died while it made the mirror.
    fs::create_dir_all(mirror.join("refs")).unwrap();
    fs::write(mirror.join("config.lock"), "").unwrap();
    let want = Want::Commit(first.clone());
    assert_eq!(source.fetch(&repository, &want).await.unwrap(), first);

    // Or while it pinned a commit, or git while it moved a branch.
    let second = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&first]);
    fs::write(mirror.join(format!("refs/pipe/{second}.lock")), "").unwrap();
    let want = Want::Commit(second.clone());
    assert_eq!(source.fetch(&repository, &want).await.unwrap(), second);
    fs::create_dir_all(mirror.join("refs/heads")).unwrap();
    fs::write(mirror.join("refs/heads/main.lock"), "").unwrap();
    assert_eq!(source.fetch(&repository, &main()).await.unwrap(), second);
}

#[tokio::test]
async fn many_commits_come_at_once_and_the_rest_is_told_one_by_one() {
    let origin = Origin::new();
    let first = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let second = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&first]);
    let side = origin.commit("refs/heads/side", origin.files(&[("a", "3")]), &[&first]);
    let (_root, source) = source();
    let repository = origin.repository();
    let commits = [first.clone(), some_sha(), second.clone(), side.clone()];
    source.prefetch(&repository, &commits).await;

    fs::remove_dir_all(origin.folder.path()).unwrap();
    for came in [first, second, side] {
        let want = Want::Commit(came.clone());
        assert_eq!(source.fetch(&repository, &want).await.unwrap(), came);
    }
    let missing = source.fetch(&repository, &Want::Commit(some_sha())).await;
    assert!(matches!(missing, Err(SourceError::Unreachable { .. })));
}

#[tokio::test]
async fn tidying_twice_keeps_only_the_pins_that_nothing_else_keeps_alive() {
    let origin = Origin::new();
    let first = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let second = origin.commit("refs/heads/main", origin.files(&[("a", "2")]), &[&first]);
    let side = origin.commit("refs/heads/side", origin.files(&[("a", "3")]), &[&first]);
    let (_root, source) = source();
    let repository = origin.repository();
    source
        .prefetch(&repository, &[first.clone(), second.clone(), side.clone()])
        .await;
    let pins = || {
        let git = git2::Repository::open_bare(source.mirror(&repository)).unwrap();
        let pins = git.references_glob("refs/pipe/*").unwrap();
        let mut pins: Vec<Sha> = pins.map(|pin| sha(pin.unwrap().target().unwrap())).collect();
        pins.sort();
        pins
    };
    let sorted = |mut shas: Vec<Sha>| {
        shas.sort();
        shas
    };
    source.tidy(&repository).await.unwrap();
    assert_eq!(pins(), sorted(vec![first.clone(), second.clone(), side.clone()]));
    source.tidy(&repository).await.unwrap();
    assert_eq!(pins(), sorted(vec![second, side]));
    let want = Want::Commit(first.clone());
    assert_eq!(source.fetch(&repository, &want).await.unwrap(), first);
}
