//! `reuse:`: everything that an attempt's result depends on as one digest, and the search for an earlier success with it.
//!
//! What varies from run to run counts only where the file names it or computes a variable of it; what the file says of the
//! action counts whole. Values of secrets never count. An action with secrets adopts from its own trust tier alone: what a more trusted run made with
//! its secrets is not for others.

use std::collections::BTreeMap;

use pipekeeper_backend::LaunchError;
use pipekeeper_engine::{AdoptedNode, Earlier, Effect, Input};
use pipekeeper_model::{
    Actor, AttemptId, Digest, Name, OutputFile,
    plan::{Body, Node, Reuse, Script, Work},
};
use pipekeeper_store::StoreError;
use serde::Serialize;

use crate::{
    SubmitError, Supplies,
    job::{Done, Job, Tools},
    launch::Draft,
    outbox::{LaneKey, Performed},
};

/// What a result depends on. Its JSON is canonical, as that of a plan is.
#[derive(Serialize)]
struct Inputs<'a> {
    version: u32,
    project: &'a Name,
    pipeline: &'a Name,
    action: &'a str,
    tier: &'static str,
    work: &'a Work,
    argv: Vec<&'a [String]>,
    services: &'a BTreeMap<Name, BTreeMap<String, String>>,
    env: Values<'a>,
    computed: Values<'a>,
    artifacts: Vec<(&'a Digest, &'a str)>,
    files: &'a Digest,
}

/// The values of variables by name: the action's, then each step's own.
type Values<'a> = BTreeMap<&'a str, Vec<Option<Value<'a>>>>;

/// The value of a variable.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Value<'a> {
    Text(&'a str),
    /// The value is in a file, whose path the variable is.
    File(&'a Digest),
}

impl Draft {
    /// The digests of this attempt's inputs, each under a trust tier that it may adopt from: its own first. None if nothing
    /// can be said of them.
    async fn input_digests(&self, supplies: &dyn Supplies) -> Result<Vec<Digest>, LaunchError> {
        let node = self.request.plan.node(self.attempt.node);
        let Some((node, work, reuse)) = node.and_then(reusable) else {
            return Ok(Vec::new());
        };
        let files = supplies.digest_files(&self.request, &reuse.inputs).await?;
        if files == Digest::of(b"") {
            tracing::info!(
                attempt.id = %self.attempt,
                "no file matches the `inputs` of `reuse`, so nothing is reused"
            );
            return Ok(Vec::new());
        }
        let tiers = supplies.cache_tiers(&self.request);
        let trusted = tiers.reads.into_iter().filter(|tier| *tier != tiers.writes);
        let trusted = trusted.filter(|_| work.secrets.is_empty() && work.credentials.is_empty());
        let (same, env) = (as_written(work), self.env(node));
        let digests = std::iter::once(tiers.writes).chain(trusted).map(|tier| {
            let inputs = Inputs {
                version: 2,
                project: &self.request.project,
                pipeline: &self.request.plan.pipeline,
                action: &node.name,
                tier: tier.as_str(),
                work: &same,
                argv: self
                    .resolved
                    .steps
                    .iter()
                    .map(|step| step.argv.as_slice())
                    .collect(),
                services: &self.resolved.services,
                env: self.values(reuse.env.iter().map(String::as_str), &env),
                // The file's values, without the facts of the run, which differ in every one.
                computed: self.values(computed(work), &self.resolved.env),
                artifacts: self
                    .resolved
                    .inputs
                    .iter()
                    .zip(work.uses.iter().map(|used| used.into.as_str()))
                    .collect(),
                files: &files,
            };
            serde_json::to_vec(&inputs).map(|json| Digest::of(&json))
        });
        digests
            .collect::<Result<_, _>>()
            .map_err(|error| LaunchError::Terminal {
                reason: error.to_string(),
            })
    }

    /// The values of these variables, with those of `env` as the action's.
    fn values<'a>(
        &'a self,
        names: impl Iterator<Item = &'a str>,
        env: &'a BTreeMap<String, String>,
    ) -> Values<'a> {
        let values = |name: &str| {
            let steps = (self.resolved.steps.iter()).map(|step| (&step.env, &step.env_files));
            let all = std::iter::once((env, &self.resolved.env_files)).chain(steps);
            let value = |(env, files): (&'a BTreeMap<String, String>, &'a BTreeMap<String, OutputFile>)| {
                let text = env.get(name).map(|text| Value::Text(text));
                text.or_else(|| Some(Value::File(&files.get(name)?.digest)))
            };
            all.map(value).collect()
        };
        names.map(|name| (name, values(name))).collect()
    }
}

/// The variables whose values the file's text does not tell: somebody's parameters or outputs may be in them.
fn computed(work: &Work) -> impl Iterator<Item = &str> {
    let steps = work.steps.iter().map(|step| &step.env);
    std::iter::once(&work.env)
        .chain(steps)
        .flatten()
        .filter(|(_, text)| text.contains("${{"))
        .map(|(name, _)| name.as_str())
}

fn reusable(node: &Node) -> Option<(&Node, &Work, &Reuse)> {
    match &node.body {
        Body::Work(work) => Some((node, work, work.reuse.as_ref()?)),
        Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => None,
    }
}

/// An action as its file says it, without what other entries of the file change: lines and the numbers of nodes.
fn as_written(work: &Work) -> Work {
    let mut same = work.clone();
    same.uses.clear();
    for step in &mut same.steps {
        match &mut step.script {
            Script::Shell { line, .. } => *line = 0,
            Script::Command { .. } | Script::Build(_) => {}
        }
    }
    same
}

impl Tools {
    /// Looks for an earlier success and tells the run, before its attempt may be launched.
    pub(crate) fn find_earlier(
        &self,
        lane: LaneKey,
        effect: Effect,
        attempt: AttemptId,
        draft: Option<Draft>,
    ) -> Job {
        let tools = self.clone();
        Box::pin(async move {
            let (inputs, found) = match tools.search(draft).await {
                Ok(answer) => answer,
                Err(reason) => {
                    let result = Performed::Transient { reason };
                    return Done::Performed { lane, effect, result };
                }
            };
            let input = Input::EarlierSought {
                attempt,
                inputs,
                found: found.map(Box::new),
            };
            let result = match tools.handle.submit(attempt.run, Actor::System, input).await {
                Ok(())
                | Err(
                    SubmitError::Rejected(_) | SubmitError::NoSuchRun(_) | SubmitError::Quarantined { .. },
                ) => Performed::Done,
                Err(
                    error @ (SubmitError::Unsupported { .. }
                    | SubmitError::Intake(_)
                    | SubmitError::Unavailable { .. }
                    | SubmitError::Closed),
                ) => Performed::Transient {
                    reason: error.to_string(),
                },
            };
            Done::Performed { lane, effect, result }
        })
    }

    /// The inputs' digest and the success to adopt. What will never be known is no reason to wait: the attempt is launched.
    async fn search(&self, draft: Option<Draft>) -> Result<(Option<Digest>, Option<AdoptedNode>), String> {
        let Some(draft) = draft else {
            return Ok((None, None));
        };
        let digests = match draft.input_digests(self.supplies.as_ref()).await {
            Ok(digests) => digests,
            Err(LaunchError::Transient { reason } | LaunchError::Occupied { reason, .. }) => {
                return Err(reason);
            }
            Err(LaunchError::Terminal { reason }) => {
                tracing::warn!(attempt.id = %draft.attempt, "nothing is reused: {reason}");
                Vec::new()
            }
        };
        let asked = match draft.request.earlier {
            Earlier::Adopt => digests.as_slice(),
            Earlier::Ignore => &[],
        };
        let mut found = None;
        for inputs in asked {
            match self.store.recall(inputs).await {
                Ok(Some(result)) if self.is_kept(&result) => {
                    found = Some(result);
                    break;
                }
                Ok(Some(_) | None) => {}
                Err(error @ StoreError::Corrupt { .. }) => tracing::warn!("nothing is reused: {error}"),
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => {
                    return Err(error.to_string());
                }
            }
        }
        Ok((digests.into_iter().next(), found))
    }

    /// Whether everything that the result names is still there, and stays until the run that adopts it is stored.
    fn is_kept(&self, result: &AdoptedNode) -> bool {
        let mut files = result.files();
        // What cannot be looked at is not adopted either.
        files.all(|digest| self.layout.renew(digest).is_ok_and(|is_kept| is_kept))
    }

    /// Keeps a success for later runs.
    pub(crate) fn remember(&self, lane: LaneKey, effect: Effect, inputs: Digest, result: AdoptedNode) -> Job {
        let store = std::sync::Arc::clone(&self.store);
        Box::pin(async move {
            let result = match store.remember(inputs, result).await {
                Ok(()) => Performed::Done,
                Err(error @ StoreError::Corrupt { .. }) => Performed::Terminal {
                    reason: error.to_string(),
                },
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => {
                    Performed::Transient {
                        reason: error.to_string(),
                    }
                }
            };
            Done::Performed { lane, effect, result }
        })
    }
}

#[cfg(test)]
mod tests;
