//! Reading what was fetched: files, commits, differences.

use std::collections::BTreeMap;

use git2::FileMode;
use pipekeeper_model::{Sha, Timestamp};

use super::origin::{Origin, source};
use crate::{CommitInfo, GitSource, Repository, Source, SourceError, UnreadableFile, Want};

async fn fetched(origin: &Origin, sha: &Sha) -> (tempfile::TempDir, GitSource, Repository) {
    let (root, source) = source();
    let repository = origin.repository();
    source
        .fetch(&repository, &Want::Commit(sha.clone()))
        .await
        .unwrap();
    (root, source, repository)
}

#[tokio::test]
async fn yaml_files_directly_in_the_folder_are_read() {
    let origin = Origin::new();
    let big = "x".repeat(101);
    let tree = origin.tree(&[
        (".pipe/b.yml", FileMode::Blob, b"b: 1"),
        (".pipe/a.yaml", FileMode::BlobExecutable, b"a: 1"),
        (".pipe/big.yaml", FileMode::Blob, big.as_bytes()),
        (".pipe/binary.yaml", FileMode::Blob, b"\xff\xfe"),
        (".pipe/link.yaml", FileMode::Link, b"/etc/passwd"),
        (".pipe/notes.md", FileMode::Blob, b""),
        (".pipe/deep/c.yaml", FileMode::Blob, b""),
        (".pipe/folder.yaml/x", FileMode::Blob, b""),
        ("root.yaml", FileMode::Blob, b"root"),
    ]);
    let sha = origin.commit("refs/heads/main", tree, &[]);
    let (_root, source, repository) = fetched(&origin, &sha).await;
    let read = async |folder: &str| {
        let files = source.read_files(&repository, &sha, folder, 100).await.unwrap();
        files
            .into_iter()
            .map(|file| (file.path, file.text))
            .collect::<Vec<_>>()
    };
    let expected = [
        (".pipe/a.yaml".to_owned(), Ok("a: 1".to_owned())),
        (".pipe/b.yml".to_owned(), Ok("b: 1".to_owned())),
        (
            ".pipe/big.yaml".to_owned(),
            Err(UnreadableFile::TooLarge {
                bytes: 101,
                limit: 100,
            }),
        ),
        (".pipe/binary.yaml".to_owned(), Err(UnreadableFile::NotText)),
        (".pipe/link.yaml".to_owned(), Err(UnreadableFile::NotAFile)),
    ];
    assert_eq!(read(".pipe").await, expected);
    assert_eq!(read("./.pipe/").await, []);
    assert_eq!(read("/.pipe/").await, expected);
    assert_eq!(read("").await, [("root.yaml".to_owned(), Ok("root".to_owned()))]);
    for nothing in [".pipe/a.yaml", "no", "..", ".pipe/../.pipe"] {
        assert_eq!(read(nothing).await, [], "{nothing}");
    }
}

#[tokio::test]
async fn a_commit_tells_who_and_what() {
    let origin = Origin::new();
    let sha = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (_root, source, repository) = fetched(&origin, &sha).await;
    assert_eq!(
        source.commit(&repository, &sha).await.unwrap(),
        CommitInfo {
            sha,
            subject: "add a cart".into(),
            author: "Ada".into(),
            committed: Timestamp(1_000_000),
        }
    );
}

#[tokio::test]
async fn an_unknown_commit_or_mirror_is_not_found() {
    let origin = Origin::new();
    let sha = origin.commit("refs/heads/main", origin.files(&[("a", "1")]), &[]);
    let (_root, source, repository) = fetched(&origin, &sha).await;
    let unknown: Sha = "12".repeat(20).parse().unwrap();
    let other = Repository {
        name: "other".parse().unwrap(),
        ..repository.clone()
    };
    for (repository, sha) in [(&repository, &unknown), (&other, &sha)] {
        let errors = [
            source.commit(repository, sha).await.unwrap_err(),
            source.archive(repository, sha).await.unwrap_err(),
            source.read_files(repository, sha, "", 1).await.unwrap_err(),
            source.changed_paths(repository, None, sha).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_files_content_counts_with_its_kind() {
    let origin = Origin::new();
    let tree = origin.tree(&[
        ("a/plain", FileMode::Blob, b"same"),
        ("a/program", FileMode::BlobExecutable, b"same"),
        ("link", FileMode::Link, b"same"),
    ]);
    let head = origin.commit("refs/heads/main", tree, &[]);
    let (_root, source, repository) = fetched(&origin, &head).await;
    let found = source.content_ids(&repository, &head).await.unwrap();
    let id = origin.git.blob(b"same").unwrap();
    let wanted = [
        ("a/plain", format!("100644 {id}")),
        ("a/program", format!("100755 {id}")),
        ("link", format!("120000 {id}")),
    ];
    let wanted = wanted.map(|(path, text)| (path.to_owned(), text));
    assert_eq!(found, BTreeMap::from(wanted));
}

#[tokio::test]
async fn differences_are_paths() {
    let origin = Origin::new();
    let commit = |entries: &[(&str, FileMode, &[u8])], parents: &[&Sha]| {
        origin.commit("refs/heads/main", origin.tree(entries), parents)
    };
    let file = FileMode::Blob;
    let base = commit(
        &[
            ("same/x", file, b"1"),
            ("edited", file, b"1"),
            ("moved", file, b"moved"),
            ("mode", file, b"1"),
            ("turned", file, b"1"),
        ],
        &[],
    );
    let one = commit(&[("same/x", file, b"1"), ("edited", file, b"2")], &[&base]);
    let head = commit(
        &[
            ("same/x", file, b"1"),
            ("edited", file, b"2"),
            ("new/place", file, b"moved"),
            ("mode", FileMode::BlobExecutable, b"1"),
            ("turned/into/folder", file, b"1"),
        ],
        &[&base, &one],
    );
    let (_root, source, repository) = fetched(&origin, &head).await;
    let changed = async |base: Option<&Sha>, head: &Sha| {
        source
            .changed_paths(&repository, base, head)
            .await
            .unwrap()
            .join(" ")
    };
    assert_eq!(
        changed(Some(&base), &head).await,
        "edited mode moved new/place turned turned/into/folder"
    );
    assert_eq!(
        changed(Some(&one), &head).await,
        "mode new/place turned/into/folder"
    );
    assert_eq!(changed(None, &one).await, "edited same/x");
    assert_eq!(changed(Some(&head), &head).await, "");
    assert_eq!(
        source.merge_base(&repository, &one, &head).await.unwrap(),
        Some(one)
    );
}
