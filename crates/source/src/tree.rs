//! Walking trees of a mirror without trusting them: a tree may have hostile names or unfold without end. Everything blocks.

use std::collections::{BTreeMap, BTreeSet};

use git2::Oid;
use pipekeeper_model::Sha;

use crate::{SourceError, SourceText, UnreadableFile, mirror::Mirror, text};

/// The most entries of one tree that are walked, folders included.
const MAX_ENTRIES: usize = 1_000_000;
const MAX_PATH: usize = 4_096;
/// The most files that are read from one folder: each may start a run.
const MAX_FILES: usize = 100;

/// What a tree's entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Program,
    Link,
    Folder,
    Submodule,
}

impl Kind {
    /// As git writes it.
    fn mode(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Program => "100755",
            Self::Link => "120000",
            Self::Folder => "040000",
            Self::Submodule => "160000",
        }
    }
}

/// One entry of one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) id: Oid,
}

/// Lists folders until there were too many entries in all.
pub(crate) struct Walk<'m> {
    mirror: &'m Mirror,
    left: usize,
}

impl<'m> Walk<'m> {
    pub(crate) fn new(mirror: &'m Mirror) -> Self {
        Self {
            mirror,
            left: MAX_ENTRIES,
        }
    }

    /// The entries of the folder `path` with the tree `id`, in git's order.
    pub(crate) fn folder(&mut self, path: &[u8], id: Oid) -> Result<Vec<Entry>, SourceError> {
        let tree = self
            .mirror
            .git
            .find_tree(id)
            .map_err(|error| self.mirror.damaged(error))?;
        let mut names = BTreeSet::new();
        let mut entries = Vec::with_capacity(tree.len());
        for entry in &tree {
            let name = entry.name_bytes();
            let mut full = path.to_vec();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend(name);
            if !is_safe(name) || full.len() > MAX_PATH || !names.insert(name.to_vec()) {
                return Err(SourceError::UnsafePath {
                    repository: self.mirror.name().clone(),
                    path: text::display_line(&String::from_utf8_lossy(&full), 200),
                });
            }
            // Long paths count for more, so that memory is bounded with them.
            self.left = self
                .left
                .checked_sub(1 + full.len() / 128)
                .ok_or_else(|| self.mirror.too_large("1,000,000 entries"))?;
            entries.push(Entry {
                path: full,
                kind: kind(entry.filemode_raw()),
                id: entry.id(),
            });
        }
        Ok(entries)
    }
}

/// The YAML files directly in a folder of a commit.
pub(crate) fn read_files(
    mirror: &Mirror,
    sha: &Sha,
    folder: &str,
    limit: u64,
) -> Result<Vec<SourceText>, SourceError> {
    let mut walk = Walk::new(mirror);
    let mut path = Vec::new();
    let mut id = mirror.tree(sha)?.id();
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        let entries = walk.folder(&path, id)?;
        let found = entries
            .into_iter()
            .find(|entry| entry.kind == Kind::Folder && file_name(&entry.path) == part.as_bytes());
        let Some(entry) = found else {
            return Ok(Vec::new());
        };
        (path, id) = (entry.path, entry.id);
    }
    let is_wanted = |entry: &Entry| {
        let is_yaml = entry.path.ends_with(b".yaml") || entry.path.ends_with(b".yml");
        is_yaml && entry.kind != Kind::Folder
    };
    let entries = walk.folder(&path, id)?;
    let wanted: Vec<Entry> = entries.into_iter().filter(is_wanted).collect();
    if wanted.len() > MAX_FILES {
        return Err(mirror.too_large("100 pipeline files"));
    }
    wanted
        .into_iter()
        .map(|entry| {
            Ok(SourceText {
                text: read_text(mirror, &entry, limit)?,
                path: lossy(&entry.path),
            })
        })
        .collect()
}

/// The paths that differ between two trees.
pub(crate) fn changed_paths(
    mirror: &Mirror,
    base: Option<&Sha>,
    head: &Sha,
) -> Result<Vec<String>, SourceError> {
    let base = base
        .map(|sha| mirror.tree(sha))
        .transpose()?
        .map(|tree| tree.id());
    let head = Some(mirror.tree(head)?.id());
    let mut walk = Walk::new(mirror);
    let mut changed = BTreeSet::new();
    let mut folders = vec![(Vec::new(), base, head)];
    while let Some((path, base, head)) = folders.pop() {
        if base == head {
            continue;
        }
        let mut sides: BTreeMap<Vec<u8>, [Option<Entry>; 2]> = BTreeMap::new();
        for (side, id) in [base, head].into_iter().enumerate() {
            for entry in id
                .map(|id| walk.folder(&path, id))
                .transpose()?
                .unwrap_or_default()
            {
                if let Some(slot) = sides.entry(entry.path.clone()).or_default().get_mut(side) {
                    *slot = Some(entry);
                }
            }
        }
        for (path, [before, after]) in sides {
            if before == after {
                continue;
            }
            let leaf = |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| e.kind != Kind::Folder);
            let tree = |entry: Option<Entry>| entry.filter(|e| e.kind == Kind::Folder).map(|e| e.id);
            if leaf(&before) || leaf(&after) {
                changed.insert(lossy(&path));
            }
            folders.push((path, tree(before), tree(after)));
        }
    }
    Ok(changed.into_iter().collect())
}

/// Every file of a commit with its mode and the id of its content, by path.
pub(crate) fn content_ids(mirror: &Mirror, sha: &Sha) -> Result<BTreeMap<String, String>, SourceError> {
    let mut walk = Walk::new(mirror);
    let mut found = BTreeMap::new();
    let mut folders = vec![(Vec::new(), mirror.tree(sha)?.id())];
    while let Some((path, id)) = folders.pop() {
        for entry in walk.folder(&path, id)? {
            match entry.kind {
                Kind::Folder => folders.push((entry.path, entry.id)),
                Kind::File | Kind::Program | Kind::Link | Kind::Submodule => {
                    let id = format!("{} {}", entry.kind.mode(), entry.id);
                    found.insert(lossy(&entry.path), id);
                }
            }
        }
    }
    Ok(found)
}

fn read_text(
    mirror: &Mirror,
    entry: &Entry,
    limit: u64,
) -> Result<Result<String, UnreadableFile>, SourceError> {
    match entry.kind {
        Kind::Link | Kind::Submodule | Kind::Folder => return Ok(Err(UnreadableFile::NotAFile)),
        Kind::File | Kind::Program => {}
    }
    // The header first, so that a huge file is never unpacked.
    let (bytes, _) = mirror
        .git
        .odb()
        .and_then(|odb| odb.read_header(entry.id))
        .map_err(|error| mirror.damaged(error))?;
    let bytes = bytes as u64;
    if bytes > limit {
        return Ok(Err(UnreadableFile::TooLarge { bytes, limit }));
    }
    let blob = mirror
        .git
        .find_blob(entry.id)
        .map_err(|error| mirror.damaged(error))?;
    Ok(String::from_utf8(blob.content().to_vec()).map_err(|_| UnreadableFile::NotText))
}

/// Names that git itself would refuse to check out.
pub(crate) fn is_safe(name: &[u8]) -> bool {
    let is_special = matches!(name, b"" | b"." | b"..") || name.eq_ignore_ascii_case(b".git");
    !is_special && !name.contains(&b'/') && !name.contains(&0)
}

fn kind(mode: i32) -> Kind {
    match mode & 0o170_000 {
        0o040_000 => Kind::Folder,
        0o120_000 => Kind::Link,
        0o160_000 => Kind::Submodule,
        _ if mode & 0o111 != 0 => Kind::Program,
        _ => Kind::File,
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
