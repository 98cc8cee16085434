//! What may start a pipeline, and whether one event does.

use pipekeeper_model::{EventKind, Patterns, TriggerEvent};

/// The triggers of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    pub(crate) push: Option<PushTrigger>,
    pub(crate) tag: Option<Patterns>,
    pub(crate) merge_request: Option<MergeRequestTrigger>,
    pub(crate) cron: Vec<CronTrigger>,
    pub(crate) manual: bool,
    pub(crate) image: bool,
    pub(crate) pipeline: bool,
}

/// The paths that a push changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangedPaths<'a> {
    /// Nobody knows: path filters let it pass.
    Unknown,
    /// These.
    Listed(&'a [String]),
}

/// Whether an event starts a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Yes,
    /// It does not.
    No {
        /// Why not, for people.
        reason: String,
    },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PushTrigger {
    pub(crate) branches: Patterns,
    pub(crate) paths: Patterns,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct MergeRequestTrigger {
    pub(crate) into: Patterns,
}

/// `cron:`: one schedule.
#[derive(Clone, Debug)]
pub struct CronTrigger {
    /// Its name.
    pub name: String,
    /// The pattern as the file gives it, `H` included.
    pub at: String,
    /// The IANA time zone.
    pub timezone: String,
    /// Whether a run is made only if the branch moved since the last one.
    pub if_changed: bool,
    pub(crate) branches: Patterns,
}

impl Triggers {
    /// Whether an event starts a run of the pipeline.
    pub fn admits(&self, event: &TriggerEvent, changed: &ChangedPaths<'_>) -> Admission {
        let kind = event.kind;
        let refused = match kind {
            EventKind::Push => self.refuses_push(event, changed),
            EventKind::Tag => match &self.tag {
                None => Some(not_listed(kind)),
                Some(patterns) => refuses_name(patterns, "tag", event.tag()),
            },
            EventKind::MergeRequest => match &self.merge_request {
                None => Some(not_listed(kind)),
                Some(trigger) => refuses_name(&trigger.into, "target branch", event.branch()),
            },
            EventKind::Cron => self.refuses_cron(event),
            EventKind::Manual => (!self.manual).then(|| not_listed(kind)),
            EventKind::Image => (!self.image).then(|| not_listed(kind)),
            EventKind::Pipeline => (!self.pipeline).then(|| not_listed(kind)),
        };
        refused.map_or(Admission::Yes, |reason| Admission::No { reason })
    }

    /// Whether a path filter stands on pushes, so that the changed paths matter.
    pub fn filters_paths(&self) -> bool {
        self.push.as_ref().is_some_and(|push| !push.paths.is_empty())
    }

    /// The schedules.
    pub fn schedules(&self) -> &[CronTrigger] {
        &self.cron
    }

    fn refuses_push(&self, event: &TriggerEvent, changed: &ChangedPaths<'_>) -> Option<String> {
        let Some(push) = &self.push else {
            return Some(not_listed(EventKind::Push));
        };
        let by_branch = refuses_name(&push.branches, "branch", event.branch());
        by_branch.or_else(|| match changed {
            ChangedPaths::Unknown => None,
            ChangedPaths::Listed(paths) => {
                let is_hit = push.paths.is_empty() || paths.iter().any(|path| push.paths.admit(path));
                (!is_hit).then(|| format!("no changed path matches `on.push.paths` ({})", push.paths.text()))
            }
        })
    }

    fn refuses_cron(&self, event: &TriggerEvent) -> Option<String> {
        let wanted = event.schedule.as_deref().unwrap_or_default();
        match self.cron.iter().find(|cron| cron.name == wanted) {
            None => Some(format!("`on.cron` has no schedule `{wanted}`")),
            Some(cron) => refuses_name(&cron.branches, "branch", event.branch()),
        }
    }
}

fn not_listed(kind: EventKind) -> String {
    format!("the file has no `on.{kind}`")
}

fn refuses_name(patterns: &Patterns, what: &str, name: Option<&str>) -> Option<String> {
    let name = name.unwrap_or_default();
    (!patterns.admit(name)).then(|| format!("the {what} `{name}` does not match {}", patterns.text()))
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{EventKind, GitRef, Revision, TriggerEvent};

    use super::{Admission, ChangedPaths};
    use crate::{SourceFile, check};

    fn event(kind: EventKind, git_ref: GitRef, schedule: Option<&str>) -> TriggerEvent {
        TriggerEvent {
            kind,
            revision: Revision {
                repository: "mall/web".to_owned(),
                sha: None,
                git_ref: Some(git_ref),
                subject: String::new(),
            },
            schedule: schedule.map(str::to_owned),
        }
    }

    fn push(branch: &str) -> TriggerEvent {
        event(EventKind::Push, GitRef::Branch(branch.to_owned()), None)
    }

    fn tag(tag: &str) -> TriggerEvent {
        event(EventKind::Tag, GitRef::Tag(tag.to_owned()), None)
    }

    fn of(kind: EventKind) -> TriggerEvent {
        event(kind, GitRef::Branch("main".to_owned()), Some("nightly"))
    }

    /// Why an event is refused; empty if it is admitted.
    fn refusal(on: &str, event: &TriggerEvent, paths: Option<&[&str]>) -> String {
        let text = format!("{on}\nactions: [{{ run: x }}]");
        let file = SourceFile {
            path: "a.yaml",
            text: &text,
        };
        let (pipeline, _) = check(&file).unwrap();
        let paths: Option<Vec<String>> =
            paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
        let changed = paths
            .as_deref()
            .map_or(ChangedPaths::Unknown, ChangedPaths::Listed);
        match pipeline.triggers().admits(event, &changed) {
            Admission::Yes => String::new(),
            Admission::No { reason } => reason,
        }
    }

    #[test]
    fn events_are_admitted_or_refused_with_a_reason() {
        let branches = "on: { push: { branches: [main, \"release/**\", \"!release/old/**\"] } }";
        let paths = "on: { push: { paths: [\"src/**\", \"!src/docs/**\"] } }";
        let others = "on: { push: { branches: [\"!wip/*\"] }, tag: [\"v*\"], merge_request: { into: [main] }, cron: [{ name: nightly, at: \"H 2 * * *\", branches: [main] }] }";
        let table: Vec<(&str, TriggerEvent, Option<&[&str]>, &str)> = vec![
            ("", push("any"), None, ""),
            ("", of(EventKind::Manual), None, ""),
            ("", tag("v1"), None, "the file has no `on.tag`"),
            (
                "on: { manual: true }",
                push("main"),
                None,
                "the file has no `on.push`",
            ),
            ("on: { push: true }", push("a/b"), None, ""),
            (
                "on: { push: false }",
                push("a/b"),
                None,
                "the file has no `on.push`",
            ),
            (
                "on: { push: true }",
                of(EventKind::Manual),
                None,
                "the file has no `on.manual`",
            ),
            (branches, push("main"), None, ""),
            (branches, push("release/1.0/x"), None, ""),
            (
                branches,
                push("release/old/x"),
                None,
                "the branch `release/old/x` does not match `main`, `release/**`, `!release/old/**`",
            ),
            (
                branches,
                push("mainly"),
                None,
                "the branch `mainly` does not match `main`, `release/**`, `!release/old/**`",
            ),
            (paths, push("x"), None, ""),
            (paths, push("x"), Some(&["src/a/b.rs", "README.md"]), ""),
            (
                paths,
                push("x"),
                Some(&["src/docs/a.md", "README.md"]),
                "no changed path matches `on.push.paths` (`src/**`, `!src/docs/**`)",
            ),
            (
                paths,
                push("x"),
                Some(&[]),
                "no changed path matches `on.push.paths` (`src/**`, `!src/docs/**`)",
            ),
            (others, push("feature/x"), Some(&[]), ""),
            (
                others,
                push("wip/x"),
                None,
                "the branch `wip/x` does not match `!wip/*`",
            ),
            (others, push("wip/x/y"), None, ""),
            (others, tag("v1.2"), None, ""),
            (others, tag("1.2"), None, "the tag `1.2` does not match `v*`"),
            (others, of(EventKind::MergeRequest), None, ""),
            (others, of(EventKind::Cron), None, ""),
            (others, of(EventKind::Image), None, "the file has no `on.image`"),
            (
                "on: { manual: true }",
                of(EventKind::Cron),
                None,
                "`on.cron` has no schedule `nightly`",
            ),
        ];
        for (on, event, paths, wanted) in table {
            assert_eq!(refusal(on, &event, paths), wanted, "{on} {event:?}");
        }
    }
}
