//! The event of a local run: what the pipeline is told that happened.

use std::path::Path;

use pipekeeper_model::{EventKind, GitRef, Name, Revision, TriggerEvent};
use pipekeeper_source::working_tree::describe;

use crate::failure::Failure;

/// What the user says about the event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    /// The kind; by default `tag` with a tag, else `manual`.
    pub(crate) kind: Option<&'a str>,
    /// The branch.
    pub(crate) branch: Option<&'a str>,
    /// The tag.
    pub(crate) tag: Option<&'a str>,
}

/// The event of a run of the working tree below `root`.
pub(crate) fn local(root: &Path, occasion: &Occasion<'_>) -> Result<TriggerEvent, Failure> {
    let tree = describe(root);
    let folder = root
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let given = match (occasion.branch, occasion.tag) {
        (Some(branch), _) => Some(format!("refs/heads/{branch}")),
        (None, Some(tag)) => Some(format!("refs/tags/{tag}")),
        (None, None) => None,
    };
    let git_ref = match given {
        Some(full) => {
            Some(GitRef::from_full(&full).map_err(|error| Failure::usage(format!("failed to {error}")))?)
        }
        None => tree.as_ref().and_then(|tree| tree.branch.clone()),
    };
    let kind = match occasion.kind {
        Some(word) => word.parse::<EventKind>().map_err(Failure::usage)?,
        None if occasion.tag.is_some() => EventKind::Tag,
        None => EventKind::Manual,
    };
    Ok(TriggerEvent {
        kind,
        revision: Revision {
            repository: tree.as_ref().map_or(folder, |tree| tree.repository.clone()),
            sha: tree.as_ref().and_then(|tree| tree.sha.clone()),
            git_ref,
            subject: tree.map(|tree| tree.subject).unwrap_or_default(),
        },
        schedule: None,
    })
}

/// The project that a local run belongs to: the last part of the repository's name.
pub(crate) fn project(event: &TriggerEvent) -> Result<Name, Failure> {
    let last = event.revision.repository.rsplit('/').next().unwrap_or_default();
    last.parse()
        .or_else(|_| "local".parse())
        .map_err(|error| Failure::ours(format!("failed to {error}")))
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::EventKind;

    use super::{Occasion, local, project};

    const NOTHING: Occasion<'_> = Occasion {
        kind: None,
        branch: None,
        tag: None,
    };

    #[test]
    fn a_folder_without_git_has_an_event_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("shop");
        std::fs::create_dir(&root).unwrap();
        let event = local(&root, &NOTHING).unwrap();
        assert_eq!(event.kind, EventKind::Manual);
        assert_eq!(event.revision.sha, None);
        assert_eq!(project(&event).unwrap().as_str(), "shop");
    }

    #[test]
    fn the_user_may_say_what_happened() {
        let dir = tempfile::tempdir().unwrap();
        let tag = Occasion {
            tag: Some("v1.0"),
            ..NOTHING
        };
        let event = local(dir.path(), &tag).unwrap();
        assert_eq!((event.kind, event.tag()), (EventKind::Tag, Some("v1.0")));
        let push = Occasion {
            kind: Some("push"),
            branch: Some("main"),
            ..NOTHING
        };
        let event = local(dir.path(), &push).unwrap();
        assert_eq!((event.kind, event.branch()), (EventKind::Push, Some("main")));
        let bad = Occasion {
            branch: Some("--x"),
            ..NOTHING
        };
        assert!(local(dir.path(), &bad).is_err());
    }
}
