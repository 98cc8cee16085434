//! From a delivery or a wish to run requests: parse, look into the ledger, fetch, read the pipeline files, match, plan.
//!
//! Asked twice about the same delivery, it answers the same: nothing here is stored or started.

mod planning;
mod projects;
mod supplies;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use pipekeeper_engine::{Origin, RunRequest};
use pipekeeper_forge::{ForgeEvent, Push};
use pipekeeper_model::{EventKind, GitRef, Name, Sha};
use pipekeeper_source::{Permanence, Repository, Source, SourceError, SourceText, Want};
use pipekeeper_spec::{Admission, ChangedPaths, Pipeline, SourceFile};
use pipekeeper_store::{Delivery, DeliveryOutcome, RefMove, Store};

use self::planning::{Occasion, event, idle_triggers};
use crate::{Admitted, Environments, Intake, IntakeError, Wish, WishOf};

pub use projects::{Patterns, Project, Projects};
pub use supplies::{GitSupplies, digest_entries};

/// The folder of pipeline files.
const FOLDER: &str = ".pipe";
/// The longest pipeline file, in bytes.
const FILE_LIMIT: u64 = 512 * 1024;

/// Makes run requests from git repositories.
pub struct GitIntake {
    projects: Arc<Projects>,
    source: Arc<dyn Source>,
    trees: Arc<dyn Source>,
    store: Arc<dyn Store>,
    environments: Arc<dyn Environments>,
}

/// One pipeline of a commit that may be started.
struct Candidate {
    pipeline: Pipeline,
    file: String,
}

impl GitIntake {
    /// An intake over these projects, their mirrors, the working trees that people sent, and the environments.
    pub fn new(
        projects: Arc<Projects>,
        source: Arc<dyn Source>,
        trees: Arc<dyn Source>,
        store: Arc<dyn Store>,
        environments: Arc<dyn Environments>,
    ) -> Self {
        Self {
            projects,
            source,
            trees,
            store,
            environments,
        }
    }

    async fn push(
        &self,
        project: &Project,
        push: &Push,
        delivery: &Delivery,
    ) -> Result<Admitted, IntakeError> {
        let moved = RefMove {
            project: project.name.clone(),
            git_ref: push.git_ref.clone(),
            before: push.before.clone(),
            after: push.after.clone(),
        };
        if let Some(first) = self.store.find_move(&moved).await.map_err(transient)?
            && first != delivery.id
        {
            return Ok(nothing(DeliveryOutcome::DuplicateOf { delivery: first }, None));
        }
        let Some(after) = &push.after else {
            return Ok(ignored(format!("`{}` was deleted", push.git_ref), Some(moved)));
        };
        if asks_to_skip(&push.subject) {
            return Ok(ignored(
                "the commit message asks to skip CI".to_owned(),
                Some(moved),
            ));
        }
        let sha = self
            .source
            .fetch(&project.repository, &Want::Commit(after.clone()))
            .await
            .map_err(unreachable)?;
        let subject = self
            .source
            .commit(&project.repository, &sha)
            .await
            .map_err(unreachable)?
            .subject;
        let kind = match push.git_ref {
            GitRef::Branch(_) => EventKind::Push,
            GitRef::Tag(_) => EventKind::Tag,
        };
        let event = event(project, kind, sha.clone(), Some(push.git_ref.clone()), subject);
        let (candidates, mut notes) = candidates(self.source.as_ref(), &project.repository, &sha).await?;
        if candidates.is_empty() && !notes.is_empty() {
            let outcome = DeliveryOutcome::Errored {
                reason: notes.join("\n"),
            };
            return Ok(nothing(outcome, Some(moved)));
        }
        if candidates.is_empty() && notes.is_empty() {
            return Ok(ignored(
                format!("commit {} has no `{FOLDER}/*.yaml`", sha.short()),
                Some(moved),
            ));
        }
        let paths = self.pushed_paths(project, push, &sha, &candidates).await;
        let mut requests = Vec::new();
        for candidate in candidates {
            let name = candidate.pipeline.name().clone();
            let changed = paths
                .as_deref()
                .map_or(ChangedPaths::Unknown, ChangedPaths::Listed);
            match candidate.pipeline.triggers().admits(&event, &changed) {
                Admission::No { reason } => notes.push(format!("{name}: {reason}")),
                Admission::Yes => match self
                    .request(
                        project,
                        &candidate,
                        Occasion {
                            event: &event,
                            params: &BTreeMap::new(),
                            selected: None,
                            before: push.before.as_ref(),
                            origin: Origin::Repository,
                        },
                    )
                    .await
                {
                    Ok(request) => {
                        notes.extend(idle_triggers(&request.plan));
                        requests.push((push.pusher.clone(), Arc::new(request)));
                    }
                    Err(IntakeError::Terminal { reason } | IntakeError::NotFound { reason }) => {
                        notes.push(format!("{name}: {reason}"));
                    }
                    Err(error @ IntakeError::Transient { .. }) => return Err(error),
                },
            }
        }
        Ok(Admitted::Runs {
            requests,
            notes,
            moved: Some(moved),
        })
    }
}

#[async_trait]
impl Intake for GitIntake {
    async fn admit(&self, delivery: &Delivery) -> Result<Admitted, IntakeError> {
        let received = &delivery.received;
        let Some(project) = self.projects.get(&received.project) else {
            // Another server may have heard of it first.
            let reason = format!("the project `{}` is not known here", received.project);
            return Err(IntakeError::Transient { reason });
        };
        match pipekeeper_forge::parse(project.forge, &received.event, &received.body) {
            Ok(ForgeEvent::Push(push)) => self.push(project, &push, delivery).await,
            Ok(ForgeEvent::Ping) => Ok(ignored("a ping: the webhook works".to_owned(), None)),
            Ok(ForgeEvent::Ignored { reason }) => Ok(ignored(reason, None)),
            Err(failure) => Err(IntakeError::Terminal {
                reason: format!("failed to {failure}"),
            }),
        }
    }

    /// One fetch for all of them: starting git takes longer than what it brings.
    async fn prepare(&self, coming: &[Delivery]) {
        let Some(project) = coming
            .first()
            .and_then(|first| self.projects.get(&first.received.project))
        else {
            return;
        };
        let pushed = |delivery: &Delivery| {
            let received = &delivery.received;
            match pipekeeper_forge::parse(project.forge, &received.event, &received.body) {
                Ok(ForgeEvent::Push(push)) => push.after,
                Ok(ForgeEvent::Ping | ForgeEvent::Ignored { .. }) | Err(_) => None,
            }
        };
        let commits: Vec<Sha> = coming.iter().filter_map(pushed).collect();
        self.source.prefetch(&project.repository, &commits).await;
    }

    async fn changed_rules(&self, request: &RunRequest) -> Result<Vec<Name>, IntakeError> {
        if request.plan.environments.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.environments.of(&request.project).await;
        let known = known.map_err(transient)?;
        Ok(pipekeeper_spec::changed_rules(&request.plan, &known))
    }

    async fn wish(&self, wish: &Wish) -> Result<Arc<RunRequest>, IntakeError> {
        let missing = |reason: String| IntakeError::NotFound { reason };
        let project = self
            .projects
            .get(&wish.project)
            .ok_or_else(|| missing(format!("there is no project `{}`", wish.project)))?;
        let (sha, git_ref, origin) = self.found(project, &wish.of).await?;
        let source = match &origin {
            Origin::Repository => self.source.as_ref(),
            Origin::WorkingTree { .. } => self.trees.as_ref(),
        };
        let subject = source
            .commit(&project.repository, &sha)
            .await
            .map_err(|error| match &origin {
                Origin::Repository => unreachable(error),
                Origin::WorkingTree { .. } => no_tree(&sha, error),
            })?
            .subject;
        let event = event(project, EventKind::Manual, sha.clone(), git_ref, subject);
        let (candidates, notes) = candidates(source, &project.repository, &sha).await?;
        let names: Vec<String> = candidates
            .iter()
            .map(|candidate| candidate.pipeline.name().to_string())
            .collect();
        let candidate = candidates
            .into_iter()
            .find(|candidate| *candidate.pipeline.name() == wish.pipeline)
            .ok_or_else(|| {
                let known = if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                };
                let wrong = if notes.is_empty() {
                    String::new()
                } else {
                    format!("\n{}", notes.join("\n"))
                };
                missing(format!(
                    "commit {} has no pipeline `{}`; it has: {known}{wrong}",
                    sha.short(),
                    wish.pipeline
                ))
            })?;
        if let Admission::No { reason } = candidate
            .pipeline
            .triggers()
            .admits(&event, &ChangedPaths::Unknown)
        {
            return Err(IntakeError::Terminal { reason });
        }
        let request = self
            .request(
                project,
                &candidate,
                Occasion {
                    event: &event,
                    params: &wish.params,
                    selected: (!wish.actions.is_empty()).then_some(wish.actions.as_slice()),
                    before: None,
                    origin,
                },
            )
            .await?;
        Ok(Arc::new(RunRequest {
            earlier: wish.earlier,
            ..request
        }))
    }
}

impl GitIntake {
    /// The commit that a run is to be made of. A tree has no branch: it must not pass for reviewed code of one.
    async fn found(
        &self,
        project: &Project,
        of: &WishOf,
    ) -> Result<(Sha, Option<GitRef>, Origin), IntakeError> {
        match of {
            WishOf::Revision(revision) => {
                let (want, git_ref) = self.wanted(project, revision.as_deref()).await?;
                let fetched = self.source.fetch(&project.repository, &want).await;
                Ok((fetched.map_err(unreachable)?, git_ref, Origin::Repository))
            }
            WishOf::Tree { tree, cluster } => {
                let cluster = cluster.clone();
                Ok((tree.clone(), None, Origin::WorkingTree { cluster }))
            }
        }
    }

    /// What a person's revision means: a full commit id, a branch, or a tag.
    async fn wanted(
        &self,
        project: &Project,
        revision: Option<&str>,
    ) -> Result<(Want, Option<GitRef>), IntakeError> {
        let text = revision.unwrap_or(&project.default_branch);
        if let Ok(sha) = text.parse() {
            return Ok((Want::Commit(sha), None));
        }
        let refs = self.source.refs(&project.repository).await.map_err(unreachable)?;
        let found = ["refs/heads/", "refs/tags/"].iter().find_map(|kind| {
            let git_ref = GitRef::from_full(&format!("{kind}{text}")).ok()?;
            refs.iter().any(|(known, _)| *known == git_ref).then_some(git_ref)
        });
        let git_ref = found.ok_or_else(|| IntakeError::NotFound {
            reason: format!("the repository has no branch or tag `{text}`"),
        })?;
        Ok((Want::Ref(git_ref.clone()), Some(git_ref)))
    }
}

/// The pipelines of a commit, and what is wrong with files that are none.
async fn candidates(
    source: &dyn Source,
    repository: &Repository,
    sha: &Sha,
) -> Result<(Vec<Candidate>, Vec<String>), IntakeError> {
    let files = source
        .read_files(repository, sha, FOLDER, FILE_LIMIT)
        .await
        .map_err(unreachable)?;
    let (mut candidates, mut notes) = (Vec::new(), Vec::new());
    for SourceText { path, text } in files {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                notes.push(format!("{path}: {error}"));
                continue;
            }
        };
        let file = SourceFile {
            path: &path,
            text: &text,
        };
        match pipekeeper_spec::check(&file) {
            Ok((pipeline, _)) => candidates.push(Candidate { pipeline, file: path }),
            Err(problems) => notes.push(problems.to_lines(&file).trim_end().to_owned()),
        }
    }
    let defined = candidates
        .iter()
        .map(|candidate| (candidate.pipeline.name(), candidate.file.as_str()));
    for clash in pipekeeper_spec::name_clashes(defined) {
        notes.push(clash.to_string());
        candidates.retain(|candidate| *candidate.pipeline.name() != clash.name);
    }
    Ok((candidates, notes))
}

fn asks_to_skip(subject: &str) -> bool {
    let subject = subject.to_ascii_lowercase();
    subject.contains("[skip ci]") || subject.contains("[ci skip]")
}

fn ignored(reason: String, moved: Option<RefMove>) -> Admitted {
    nothing(DeliveryOutcome::Ignored { reason }, moved)
}

fn nothing(outcome: DeliveryOutcome, moved: Option<RefMove>) -> Admitted {
    Admitted::Nothing { outcome, moved }
}

fn transient(error: impl ToString) -> IntakeError {
    IntakeError::Transient {
        reason: error.to_string(),
    }
}

fn no_tree(tree: &Sha, error: SourceError) -> IntakeError {
    if matches!(error, SourceError::NotFound { .. }) {
        let reason = format!("this server has no working tree {}: send it again", tree.short());
        return IntakeError::NotFound { reason };
    }
    unreachable(error)
}

fn unreachable(error: SourceError) -> IntakeError {
    let reason = format!("failed to {error}");
    match error.permanence() {
        Permanence::Transient => IntakeError::Transient { reason },
        Permanence::Terminal => IntakeError::Terminal { reason },
    }
}
