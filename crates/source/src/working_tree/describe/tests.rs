use std::fs;

use git2::{Repository, Signature};
use pipekeeper_model::GitRef;
use tempfile::TempDir;

use super::describe;

fn commit(git: &Repository, message: &str) {
    let someone = Signature::now("Ada", "ada@corp.example").unwrap();
    let tree = git.find_tree(git.index().unwrap().write_tree().unwrap()).unwrap();
    git.commit(Some("HEAD"), &someone, &someone, message, &tree, &[])
        .unwrap();
}

#[test]
fn a_tree_is_described_from_its_first_moment_on() {
    let folder = TempDir::new().unwrap();
    assert_eq!(describe(folder.path()), None);

    let git = Repository::init(folder.path()).unwrap();
    git.set_head("refs/heads/trunk").unwrap();
    let unborn = describe(folder.path()).unwrap();
    assert_eq!((unborn.sha, unborn.dirty), (None, false));
    assert_eq!(unborn.branch, Some(GitRef::Branch("trunk".into())));
    assert_eq!(
        unborn.repository,
        folder.path().file_name().unwrap().to_str().unwrap()
    );

    commit(&git, "add a cart\n\nbody");
    let clean = describe(folder.path()).unwrap();
    assert_eq!((clean.subject.as_str(), clean.dirty), ("add a cart", false));
    assert_eq!(
        clean.sha.unwrap().as_str(),
        git.head().unwrap().target().unwrap().to_string()
    );

    fs::write(folder.path().join("new"), "").unwrap();
    assert!(describe(folder.path()).unwrap().dirty);

    git.set_head_detached(git.head().unwrap().target().unwrap())
        .unwrap();
    assert_eq!(describe(folder.path()).unwrap().branch, None);
}

#[test]
fn the_origin_names_the_repository() {
    let folder = TempDir::new().unwrap();
    let git = Repository::init(folder.path()).unwrap();
    git.remote("origin", "x").unwrap();
    for (url, name) in [
        ("https://git.corp/mall/web.git", "mall/web"),
        ("https://ada:pw@git.corp/group/mall/web/", "mall/web"),
        ("ssh://git@git.corp:22/mall/web", "mall/web"),
        ("git@git.corp:mall/web.git", "mall/web"),
        ("/srv/git/web.git", "web"),
        ("../web", "web"),
    ] {
        git.remote_set_url("origin", url).unwrap();
        assert_eq!(describe(folder.path()).unwrap().repository, name, "{url}");
    }
}
