//! From a pipeline and an event to the request of a run.

use std::collections::BTreeMap;

use pipekeeper_engine::{Earlier, Group, Origin, RunRequest};
use pipekeeper_forge::Push;
use pipekeeper_model::{
    ChangedAnswer, EventKind, GitRef, Name, Outcome, Plan, Revision, RunContext, Sha, TriggerEvent,
    plan::{ConcurrencyScope, OnNew},
};
use pipekeeper_spec::PlanRequest;
use pipekeeper_store::RunFilter;

use super::{Candidate, GitIntake, Patterns, Project, transient};
use crate::IntakeError;

/// How many runs are looked at for the last one that succeeded.
const HISTORY: u32 = 50;

/// Why and of what a run is planned.
pub(super) struct Occasion<'a> {
    pub(super) event: &'a TriggerEvent,
    pub(super) params: &'a BTreeMap<Name, String>,
    /// Only these actions and what they need.
    pub(super) selected: Option<&'a [String]>,
    /// Where the ref was before.
    pub(super) before: Option<&'a Sha>,
    pub(super) origin: Origin,
}

impl GitIntake {
    /// What a push changed, if some path filter wants to know; the payload's list is only a hint.
    pub(super) async fn pushed_paths(
        &self,
        project: &Project,
        push: &Push,
        sha: &Sha,
        candidates: &[Candidate],
    ) -> Option<Vec<String>> {
        if !candidates
            .iter()
            .any(|candidate| candidate.pipeline.triggers().filters_paths())
        {
            return None;
        }
        let before = push.before.as_ref()?;
        self.source
            .changed_paths(&project.repository, Some(before), sha)
            .await
            .ok()
    }

    /// Plans one pipeline of a project.
    pub(super) async fn request(
        &self,
        project: &Project,
        candidate: &Candidate,
        occasion: Occasion<'_>,
    ) -> Result<RunRequest, IntakeError> {
        let Occasion {
            event,
            params,
            selected,
            before,
            origin,
        } = occasion;
        if !project.trusted {
            let reason = format!(
                "the project `{}` is not trusted to run on this machine; hint: set `trusted = true` in its configuration",
                project.name
            );
            return Err(IntakeError::Terminal { reason });
        }
        let environments = self.environments.of(&project.name).await.map_err(transient)?;
        let planned = candidate.pipeline.plan(&PlanRequest {
            event,
            params,
            selected,
            environments: &environments,
        });
        let plan = planned.map_err(|errors| IntakeError::Terminal {
            reason: errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        })?;
        let changed = self.changed(project, &plan, event, before).await?;
        tracing::debug!(pipeline.name = %plan.pipeline, file = candidate.file, "planned");
        let group = group(project, &plan, event).map(|group| apart(group, &origin));
        let context = RunContext {
            event: event.clone(),
            changed,
        };
        Ok(RunRequest {
            project: project.name.clone(),
            plan,
            context,
            group,
            adopted: None,
            earlier: Earlier::Adopt,
            origin,
            asked_before: std::collections::BTreeSet::new(),
        })
    }

    /// Answers the plan's `changed(…)`: since the last run that succeeded on this ref, else since the ref was last here.
    async fn changed(
        &self,
        project: &Project,
        plan: &Plan,
        event: &TriggerEvent,
        before: Option<&Sha>,
    ) -> Result<Vec<ChangedAnswer>, IntakeError> {
        let asked = pipekeeper_spec::changed_patterns(plan);
        let (Some(head), false, EventKind::Push | EventKind::MergeRequest) =
            (&event.revision.sha, asked.is_empty(), event.kind)
        else {
            return Ok(Vec::new());
        };
        let filter = RunFilter {
            pipeline: Some(plan.pipeline.clone()),
            ..RunFilter::of(project.name.clone())
        };
        let runs = self.store.runs(&filter, HISTORY).await.map_err(transient)?;
        let last = runs
            .into_iter()
            .find(|run| run.git_ref == event.revision.git_ref && run.outcome == Some(Outcome::Succeeded))
            .and_then(|run| run.sha);
        let Some(base) = last.as_ref().or(before) else {
            return Ok(Vec::new());
        };
        // A base that is gone after a forced push means that everything counts as changed.
        let Ok(paths) = self
            .source
            .changed_paths(&project.repository, Some(base), head)
            .await
        else {
            return Ok(Vec::new());
        };
        Ok(asked
            .into_iter()
            .map(|patterns| {
                let globs = Patterns::new(&patterns);
                ChangedAnswer {
                    answer: paths.iter().any(|path| globs.admit(path)),
                    patterns,
                }
            })
            .collect())
    }
}

pub(super) fn event(
    project: &Project,
    kind: EventKind,
    sha: Sha,
    git_ref: Option<GitRef>,
    subject: String,
) -> TriggerEvent {
    let repository = project.repository.name.to_string();
    TriggerEvent {
        kind,
        revision: Revision {
            repository,
            sha: Some(sha),
            git_ref,
            subject,
        },
        schedule: None,
    }
}

/// The concurrency group of a run: the file's, else one per unprotected branch, where the newer run cancels the older.
fn group(project: &Project, plan: &Plan, event: &TriggerEvent) -> Option<Group> {
    if let Some(concurrency) = &plan.concurrency {
        let key = match concurrency.scope {
            ConcurrencyScope::Pipeline => format!("{}/{}/{}", project.name, plan.pipeline, concurrency.group),
            ConcurrencyScope::Project => format!("{}//{}", project.name, concurrency.group),
            ConcurrencyScope::Server => format!("//{}", concurrency.group),
        };
        return Some(Group {
            key,
            on_new: concurrency.on_new,
        });
    }
    match (event.kind, &event.revision.git_ref) {
        (EventKind::Push, Some(git_ref @ GitRef::Branch(_))) if !project.protects(git_ref) => {
            let key = format!("{}/{}/{}", project.name, plan.pipeline, git_ref.to_full());
            Some(Group {
                key,
                on_new: OnNew::CancelRunning,
            })
        }
        _ => None,
    }
}

/// What nobody reviewed stands in no line with what was: it must neither cancel that nor make it wait.
fn apart(group: Group, origin: &Origin) -> Group {
    match origin {
        Origin::Repository => group,
        Origin::WorkingTree { .. } => Group {
            key: format!("trees {}", group.key),
            ..group
        },
    }
}

/// The triggers of a file that start nothing in this version: said with every delivery, never silently ignored.
pub(super) fn idle_triggers(plan: &Plan) -> impl Iterator<Item = String> {
    let idle = plan.features.iter().filter(|used| used.feature.is_trigger());
    idle.map(|used| {
        format!(
            "{}: `{}` ({}:{}) starts nothing in this version",
            plan.pipeline, used.path, plan.file, used.place.line
        )
    })
}
