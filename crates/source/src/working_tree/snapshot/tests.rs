use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use tempfile::TempDir;

use super::{Snapshot, snapshot};

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        write(root.path(), path, text);
    }
    root
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every file, link and empty folder below a folder.
fn listing(root: &Path) -> Vec<String> {
    fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                list(root, &entry.path(), found);
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    list(root, root, &mut found);
    found.sort();
    found
}

#[test]
fn ignore_files_are_respected_at_every_level() {
    let from = tree(&[
        (".gitignore", "target/\n*.log\n"),
        (".env", "hidden files belong to the tree"),
        ("src/main.rs", "fn main() {}"),
        ("src/.gitignore", "generated.rs\n!keep.log\n"),
        ("src/generated.rs", ""),
        ("src/keep.log", ""),
        ("a.log", ""),
        ("target/debug/x", ""),
        ("nested/target/x", ""),
        (".ignore", "src\n"),
        ("sub/.git/config", "a nested repository"),
        ("sub/file", ""),
    ]);
    git2::Repository::init(from.path()).unwrap();
    let to = TempDir::new().unwrap();
    let done = snapshot(from.path(), to.path()).unwrap();
    let expected = [
        ".env",
        ".gitignore",
        ".ignore",
        "src/.gitignore",
        "src/keep.log",
        "src/main.rs",
        "sub/file",
    ];
    assert_eq!(listing(to.path()), expected);
    assert_eq!(done.files, expected.len() as u64);
}

#[test]
fn copies_are_own_files_with_the_same_content_and_mode() {
    let from = tree(&[
        ("run.sh", "#!/bin/sh\n"),
        ("empty", ""),
        ("deep/er/data", "12345"),
    ]);
    fs::set_permissions(from.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let to = TempDir::new().unwrap();
    let done = snapshot(from.path(), to.path()).unwrap();
    assert_eq!(done, Snapshot { files: 3, bytes: 15 });
    for path in ["run.sh", "empty", "deep/er/data"] {
        let (old, new) = (from.path().join(path), to.path().join(path));
        assert_eq!(fs::read(&old).unwrap(), fs::read(&new).unwrap());
        let (old, new) = (fs::metadata(old).unwrap(), fs::metadata(new).unwrap());
        assert_eq!(old.mode(), new.mode(), "{path}");
        assert_ne!(old.ino(), new.ino(), "{path}");
        assert_eq!(new.nlink(), 1, "{path}");
    }
}

#[test]
fn links_stay_links_and_loops_end() {
    let from = tree(&[("dir/file", "x")]);
    symlink("..", from.path().join("dir/up")).unwrap();
    symlink("/nowhere", from.path().join("dangling")).unwrap();
    symlink("self", from.path().join("self")).unwrap();
    let to = TempDir::new().unwrap();
    assert_eq!(snapshot(from.path(), to.path()).unwrap().files, 4);
    assert_eq!(fs::read_link(to.path().join("dir/up")).unwrap(), Path::new(".."));
    assert_eq!(
        fs::read_link(to.path().join("dangling")).unwrap(),
        Path::new("/nowhere")
    );
}

#[test]
fn a_tracked_file_is_copied_though_ignored() {
    let from = tree(&[
        (".gitignore", "dist/\n"),
        ("dist/kept.js", "tracked"),
        ("dist/built.js", ""),
        ("dist/gone.js", "tracked, then removed"),
    ]);
    let git = git2::Repository::init(from.path()).unwrap();
    let mut index = git.index().unwrap();
    for path in ["dist/kept.js", "dist/gone.js"] {
        index.add_path(Path::new(path)).unwrap();
    }
    index.write().unwrap();
    fs::remove_file(from.path().join("dist/gone.js")).unwrap();
    let to = TempDir::new().unwrap();
    snapshot(from.path(), to.path()).unwrap();
    assert_eq!(listing(to.path()), [".gitignore", "dist/kept.js"]);
}

#[test]
fn a_tracked_path_behind_a_link_writes_nowhere_else() {
    let root = tree(&[
        ("from/dir/file", "tracked"),
        ("outside/file", ""),
        ("deep/outside/keep", ""),
    ]);
    let from = root.path().join("from");
    let git = git2::Repository::init(&from).unwrap();
    let mut index = git.index().unwrap();
    index.add_path(Path::new("dir/file")).unwrap();
    index.write().unwrap();
    fs::remove_dir_all(from.join("dir")).unwrap();
    symlink("../outside", from.join("dir")).unwrap();
    // Seen from the copy, the link leads to another folder.
    let to = root.path().join("deep/copy");
    snapshot(&from, &to).unwrap();
    assert_eq!(listing(&to), ["dir"]);
    assert_eq!(listing(&root.path().join("deep/outside")), ["keep"]);
}

#[test]
fn a_copy_inside_the_tree_does_not_contain_itself() {
    let from = tree(&[("a", "1"), (".pipe-work/other/b", "2")]);
    let to = from.path().join(".pipe-work/copy");
    snapshot(from.path(), &to).unwrap();
    assert_eq!(listing(&to), [".pipe-work/other/b", "a"]);
}

#[test]
fn a_folder_of_a_repository_is_copied_alone_by_the_rules_above_it() {
    let from = tree(&[
        (".gitignore", "*.log\n"),
        ("web/x.log", ""),
        ("web/y", ""),
        ("z", ""),
    ]);
    git2::Repository::init(from.path()).unwrap();
    let to = TempDir::new().unwrap();
    snapshot(&from.path().join("web"), to.path()).unwrap();
    assert_eq!(listing(to.path()), ["y"]);
}

#[test]
fn a_missing_tree_is_an_error_with_its_path() {
    let to = TempDir::new().unwrap();
    let error = snapshot(Path::new("/no/such/tree"), to.path()).unwrap_err();
    assert!(error.to_string().contains("/no/such/tree"), "{error}");
}

#[test]
fn a_file_that_grows_while_it_is_copied_is_copied_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let copy = std::fs::File::create(folder.path().join("copy")).unwrap();
    let endless = std::fs::File::open("/dev/zero").unwrap();
    assert_eq!(super::copy_at_most(endless, &copy, 70_000).unwrap(), 70_000);
    assert_eq!(copy.metadata().unwrap().len(), 70_000);
}
