//! The push payload that GitHub and the forges that grew from its API have in common. Each forge's module says
//! whether the list of commits is whole.

use std::collections::BTreeSet;

use pipekeeper_model::{Actor, GitRef, Sha};
use serde::Deserialize;

use crate::{ChangedPaths, ForgeEvent, ForgeKind, Push, text};

const MAX_PATHS: usize = 2_000;
const MAX_PATH: usize = 4_096;
const MAX_NAME: usize = 255;
const MAX_URL: usize = 1_024;
const MAX_SUBJECT: usize = 200;

/// The keys of a push payload that are read.
#[derive(Deserialize)]
pub(crate) struct PushPayload {
    #[serde(rename = "ref")]
    git_ref: String,
    before: Sha,
    after: Sha,
    #[serde(default)]
    forced: bool,
    repository: RepositoryPayload,
    sender: AccountPayload,
    #[serde(default)]
    pub(crate) commits: Option<Vec<CommitPayload>>,
    head_commit: Option<CommitPayload>,
    pub(crate) total_commits: Option<usize>,
}

#[derive(Deserialize)]
struct RepositoryPayload {
    full_name: String,
    clone_url: Option<String>,
}

#[derive(Deserialize)]
struct AccountPayload {
    login: String,
}

/// One commit of a push.
#[derive(Deserialize)]
pub(crate) struct CommitPayload {
    message: String,
    added: Option<Vec<String>>,
    modified: Option<Vec<String>>,
    removed: Option<Vec<String>>,
}

/// Whether the payload lists every commit of the push.
pub(crate) enum CommitList {
    Whole,
    Cut,
}

/// Turns a payload into the event that every forge shares.
pub(crate) fn push_event(kind: ForgeKind, payload: PushPayload, list: CommitList) -> ForgeEvent {
    let git_ref = match GitRef::from_full(&payload.git_ref) {
        Ok(git_ref) => git_ref,
        Err(error) => return ForgeEvent::ignored(&format!("failed to {error}")),
    };
    let commits = payload.commits.as_deref().unwrap_or_default();
    let newest = payload.head_commit.as_ref().or(commits.last());
    let before = existing(payload.before);
    // A new or rewritten ref differs from what was built before by more than its new commits.
    let changed = match (&before, payload.forced, list) {
        (Some(_), false, CommitList::Whole) => changed_paths(commits),
        (None | Some(_), true | false, CommitList::Whole | CommitList::Cut) => ChangedPaths::Unknown,
    };
    ForgeEvent::Push(Push {
        subject: newest
            .map(|commit| text::display_line(&commit.message, MAX_SUBJECT))
            .unwrap_or_default(),
        commits: payload.total_commits.unwrap_or(commits.len()),
        repository: text::display_line(&payload.repository.full_name, MAX_NAME),
        clone_url: payload
            .repository
            .clone_url
            .map(|url| text::display_line(&url, MAX_URL)),
        pusher: Actor::Forge {
            forge: kind.to_string(),
            login: text::display_line(&payload.sender.login, MAX_NAME),
        },
        after: existing(payload.after),
        git_ref,
        before,
        changed,
    })
}

fn existing(sha: Sha) -> Option<Sha> {
    (!sha.is_zero()).then_some(sha)
}

fn changed_paths(commits: &[CommitPayload]) -> ChangedPaths {
    let mut paths = BTreeSet::new();
    for commit in commits {
        let lists = [&commit.added, &commit.modified, &commit.removed];
        if lists.iter().all(|list| list.is_none()) {
            return ChangedPaths::Unknown;
        }
        paths.extend(lists.into_iter().flatten().flatten());
        if paths.len() > MAX_PATHS {
            return ChangedPaths::Unknown;
        }
    }
    if paths.is_empty() || paths.iter().any(|path| path.len() > MAX_PATH) {
        return ChangedPaths::Unknown;
    }
    ChangedPaths::Listed(paths.into_iter().cloned().collect())
}
