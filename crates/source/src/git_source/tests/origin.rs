//! A real repository to fetch from, and a source that fetches.

use git2::{FileMode, ObjectType, Oid, Signature, Time, build::TreeUpdateBuilder};
use pipekeeper_model::Sha;
use tempfile::TempDir;

use crate::{GitSource, Repository, RepositoryUrl};

pub(super) struct Origin {
    pub(super) folder: TempDir,
    pub(super) git: git2::Repository,
}

impl Origin {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let git = git2::Repository::init_bare(folder.path()).unwrap();
        Self { folder, git }
    }

    pub(super) fn repository(&self) -> Repository {
        Repository {
            name: "web".parse().unwrap(),
            url: RepositoryUrl::from_path(self.folder.path()).unwrap(),
        }
    }

    /// A tree with these regular files.
    pub(super) fn files(&self, files: &[(&str, &str)]) -> Oid {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (*path, FileMode::Blob, text.as_bytes()))
            .collect();
        self.tree(&files)
    }

    pub(super) fn tree(&self, entries: &[(&str, FileMode, &[u8])]) -> Oid {
        let empty = self.git.treebuilder(None).unwrap().write().unwrap();
        let mut update = TreeUpdateBuilder::new();
        for (path, mode, content) in entries {
            update.upsert(*path, self.git.blob(content).unwrap(), *mode);
        }
        update
            .create_updated(&self.git, &self.git.find_tree(empty).unwrap())
            .unwrap()
    }

    /// A tree with bytes that no builder would write.
    pub(super) fn raw_tree(&self, entries: &[(&str, &str, Oid)]) -> Oid {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend(format!("{mode} {name}\0").bytes());
            bytes.extend(id.as_bytes());
        }
        self.git.odb().unwrap().write(ObjectType::Tree, &bytes).unwrap()
    }

    pub(super) fn commit(&self, full_ref: &str, tree: Oid, parents: &[&Sha]) -> Sha {
        let someone = Signature::new("Ada", "ada@corp.example", &Time::new(1_000, 0)).unwrap();
        let parents: Vec<_> = parents.iter().map(|sha| self.find(sha)).collect();
        let id = self
            .git
            .commit(
                None,
                &someone,
                &someone,
                "add a cart\n\nbody",
                &self.git.find_tree(tree).unwrap(),
                &parents.iter().collect::<Vec<_>>(),
            )
            .unwrap();
        self.git.reference(full_ref, id, true, "").unwrap();
        sha(id)
    }

    pub(super) fn find(&self, sha: &Sha) -> git2::Commit<'_> {
        self.git
            .find_commit(Oid::from_str(sha.as_str()).unwrap())
            .unwrap()
    }

    /// An annotated tag on a commit; answers the tag object's id.
    pub(super) fn tag(&self, name: &str, commit: &Sha) -> Sha {
        let someone = Signature::new("Ada", "ada@corp.example", &Time::new(1_000, 0)).unwrap();
        let target = self.find(commit);
        sha(self
            .git
            .tag(name, target.as_object(), &someone, "release", true)
            .unwrap())
    }

    pub(super) fn delete(&self, full_ref: &str) {
        self.git.find_reference(full_ref).unwrap().delete().unwrap();
    }
}

pub(super) fn sha(id: Oid) -> Sha {
    id.to_string().parse().unwrap()
}

pub(super) fn source() -> (TempDir, GitSource) {
    let root = TempDir::new().unwrap();
    let source = GitSource::open(root.path()).unwrap();
    (root, source)
}
