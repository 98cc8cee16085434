//! What git knows of a working tree: commit, branch, changes, and what people call its repository.

use std::path::Path;

use git2::{Repository, StatusOptions};
use pipekeeper_model::{GitRef, Sha};

use crate::text;

/// A working tree of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkingTree {
    /// The repository as people call it: the end of its origin's address, else its folder's name.
    pub repository: String,
    /// The commit it stands on; none before the first.
    pub sha: Option<Sha>,
    /// The branch it is on; none on a detached head.
    pub branch: Option<GitRef>,
    /// Whether anything differs from the commit, untracked files included.
    pub dirty: bool,
    /// The first line of the commit's message.
    pub subject: String,
}

/// Describes the working tree around a folder, if it is one.
pub fn describe(from: &Path) -> Option<WorkingTree> {
    let git = Repository::discover(from).ok()?;
    let top = git.workdir()?;
    let head = git.head().ok();
    let commit = head.as_ref().and_then(|head| head.peel_to_commit().ok());
    let branch = git
        .find_reference("HEAD")
        .ok()
        .and_then(|head| GitRef::from_full(head.symbolic_target().ok()??).ok());
    Some(WorkingTree {
        repository: name_by_origin(&git)
            .or_else(|| Some(top.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        sha: commit
            .as_ref()
            .and_then(|commit| commit.id().to_string().parse().ok()),
        branch,
        dirty: is_dirty(&git),
        subject: commit
            .map(|commit| text::display_line(&String::from_utf8_lossy(commit.message_bytes()), 200))
            .unwrap_or_default(),
    })
}

/// `mall/web` of `https://host/mall/web.git` or `git@host:mall/web`; `web` of a path.
fn name_by_origin(git: &Repository) -> Option<String> {
    let origin = git.find_remote("origin").ok()?;
    let url = origin.url().ok()?.trim_end_matches('/');
    let url = url.strip_suffix(".git").unwrap_or(url);
    let (path, parts) = match url.split_once("://") {
        Some((_, rest)) => (rest.split_once('/')?.1, 2),
        None if url.starts_with(['/', '.']) => (url, 1),
        None => (url.split_once(':').map_or(url, |(_, path)| path), 2),
    };
    let mut names: Vec<&str> = path
        .rsplit('/')
        .filter(|part| !part.is_empty())
        .take(parts)
        .collect();
    names.reverse();
    Some(text::display_line(&names.join("/"), 255)).filter(|name| !name.is_empty())
}

/// A tree that cannot be compared counts as changed.
fn is_dirty(git: &Repository) -> bool {
    let mut options = StatusOptions::new();
    options.include_untracked(true).exclude_submodules(true);
    git.statuses(Some(&mut options))
        .map_or(true, |statuses| !statuses.is_empty())
}

#[cfg(test)]
mod tests;
