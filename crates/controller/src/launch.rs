//! Composes what a backend is told of an attempt: the plan's node, filled in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use pipekeeper_backend::{
    CACHE_FILE, CacheMount, InputArtifact, Launch, LaunchError, LaunchScript, LaunchService, LaunchStep,
    Placement, SourceInput, Tier, VolumeAccess, VolumeMount,
};
use pipekeeper_engine::{Origin, ResolveError, Resolved, Run, RunRequest, resolve};
use pipekeeper_model::{
    AttemptId, Digest, Name, NodeId, Timestamp,
    plan::{Body, CacheMode, Checkout, Node, Script, SecretTarget, Step, Work, defaults},
};

use crate::{Layout, Supplies, caches::kept_as};

/// A launch that still wants its source and its caches.
pub(crate) struct Draft {
    pub(crate) request: Arc<RunRequest>,
    pub(crate) attempt: AttemptId,
    pub(crate) resolved: Resolved,
}

impl Draft {
    /// Fills in an attempt's templates.
    pub(crate) fn new(run: &Run, attempt: AttemptId) -> Result<Self, ResolveError> {
        let request = run.request().ok_or(ResolveError::Unknown(attempt))?;
        Ok(Self {
            request: Arc::clone(request),
            attempt,
            resolved: resolve(run, attempt)?,
        })
    }

    /// Fetches what the attempt is given and completes the launch.
    pub(crate) async fn complete(
        self,
        supplies: &dyn Supplies,
        layout: &Layout,
    ) -> Result<Launch, LaunchError> {
        let request = Arc::clone(&self.request);
        let missing = || LaunchError::Terminal {
            reason: "the plan has no such action".to_owned(),
        };
        let node = request.plan.node(self.attempt.node).ok_or_else(missing)?;
        let Body::Work(work) = &node.body else {
            return Err(missing());
        };
        let source = match work.checkout {
            Checkout::None => SourceInput::Empty,
            Checkout::Files | Checkout::Extended { .. } => supplies.source(&request).await?,
        };
        let caches = self.caches(work, supplies, layout).await?;
        let habits = supplies.habits();
        let tier = supplies.cache_tiers(&request).writes;
        Ok(Launch {
            attempt: self.attempt,
            env: self.env(node),
            env_files: self.resolved.env_files.clone(),
            steps: steps(work, &self.resolved)?,
            source,
            inputs: self.inputs(work),
            artifacts: work.artifacts.clone(),
            caches,
            reports: work.reports.clone(),
            timeout: node.timeout,
            grace: defaults::GRACE,
            log_limit: work.log_limit,
            log: layout.log(self.attempt),
            keep_workspace: habits.keep_workspace,
            orphan: habits.orphan,
            placement: Placement {
                project: request.project.clone(),
                pipeline: request.plan.pipeline.clone(),
                action: node.name.clone(),
                tier,
                cluster: cluster(&request, work).cloned(),
            },
            services: self.services(work),
            resources: work.resources.clone().unwrap_or_default(),
            pod: work.pod.clone(),
            volumes: self.volumes(work),
            has_secret_files: has_secret_files(work),
            may_share: private(&request, (self.attempt.node, work), tier).is_none(),
        })
    }

    /// The variables of every step: the file's, and the facts of the run, which win.
    pub(crate) fn env(&self, node: &Node) -> BTreeMap<String, String> {
        let event = &self.request.context.event;
        let revision = &event.revision;
        let mut env = self.resolved.env.clone();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        set("CI", "true");
        set("PIPE", "true");
        set("PIPE_RUN_ID", &self.attempt.run.to_string());
        set("PIPE_PIPELINE", self.request.plan.pipeline.as_str());
        set("PIPE_ACTION", &node.name);
        set("PIPE_ATTEMPT", &self.attempt.number.to_string());
        set("PIPE_EVENT", event.kind.as_str());
        set("PIPE_BRANCH", event.branch().unwrap_or_default());
        set("PIPE_TAG", event.tag().unwrap_or_default());
        set(
            "PIPE_SHA",
            revision.sha.as_ref().map(|sha| sha.as_str()).unwrap_or_default(),
        );
        set("PIPE_REPOSITORY", &revision.repository);
        if let Some((name, rule)) = self.request.plan.environment_of(self.attempt.node) {
            set("PIPE_ENVIRONMENT", name.as_str());
            if let Some(namespace) = &rule.namespace {
                set("PIPE_NAMESPACE", namespace);
            }
        }
        env
    }

    fn inputs(&self, work: &Work) -> Vec<InputArtifact> {
        let pairs = work.uses.iter().zip(&self.resolved.inputs);
        pairs
            .map(|(used, digest)| InputArtifact {
                digest: digest.clone(),
                into: used.into.clone(),
            })
            .collect()
    }

    fn services(&self, work: &Work) -> Vec<LaunchService> {
        let wanted = self.resolved.services.iter();
        wanted
            .filter_map(|(name, env)| {
                let service = work.services.get(name)?;
                Some(LaunchService {
                    name: name.clone(),
                    image: service.image.clone(),
                    env: env.clone(),
                    ready: service.ready.clone(),
                })
            })
            .collect()
    }

    fn volumes(&self, work: &Work) -> Vec<VolumeMount> {
        let caches = &self.request.plan.caches;
        let used = work
            .caches
            .iter()
            .filter_map(|name| Some((name, caches.get(name)?)));
        used.filter_map(|(name, cache)| match &cache.mode {
            CacheMode::Archive => None,
            CacheMode::Volume { volume, exclusive } => Some(VolumeMount {
                cache: name.clone(),
                volume: volume.clone(),
                paths: cache.paths.clone(),
                access: if *exclusive {
                    VolumeAccess::One
                } else {
                    VolumeAccess::Many
                },
            }),
        })
        .collect()
    }

    async fn caches(
        &self,
        work: &Work,
        supplies: &dyn Supplies,
        layout: &Layout,
    ) -> Result<Vec<CacheMount>, LaunchError> {
        let tiers = supplies.cache_tiers(&self.request);
        let mut mounts = Vec::with_capacity(work.caches.len());
        for (name, text) in work.caches.iter().zip(&self.resolved.cache_texts) {
            let Some(cache) = self.request.plan.caches.get(name) else {
                continue;
            };
            if cache.mode != CacheMode::Archive {
                continue;
            }
            let files = if cache.key.files.is_empty() {
                String::new()
            } else {
                supplies
                    .digest_files(&self.request, &cache.key.files)
                    .await?
                    .to_hex()
            };
            let key = key_name(&format!("{text}{files}"));
            let folder = |tier: Tier| {
                layout
                    .caches()
                    .join(self.request.project.as_str())
                    .join(tier.as_str())
                    .join(name.as_str())
            };
            let own = folder(tiers.writes).join(format!("{key}{CACHE_FILE}"));
            let mut fallbacks: Vec<PathBuf> = tiers
                .reads
                .iter()
                .map(|tier| folder(*tier).join(format!("{key}{CACHE_FILE}")))
                .filter(|path| *path != own)
                .collect();
            for prefix in &cache.restore {
                for tier in &tiers.reads {
                    fallbacks.extend(newest_first(&folder(*tier), &key_name(prefix)));
                }
            }
            mounts.push(CacheMount {
                name: name.clone(),
                paths: cache.paths.clone(),
                exact: own.clone(),
                fallbacks,
                save_to: Some(own),
            });
        }
        Ok(mounts)
    }
}

/// Why what an action runs in may neither serve others after it nor be held for people; none if it may. What held a secret
/// or a borrowed right, or ran behind somebody's consent, may not, and nothing that strangers wrote.
pub(crate) fn private(
    request: &RunRequest,
    (node, work): (NodeId, &Work),
    tier: Tier,
) -> Option<&'static str> {
    match tier {
        Tier::Forks => return Some("it ran what nobody of the project reviewed"),
        Tier::Local => return Some("it ran a working tree"),
        Tier::Protected | Tier::Branches => {}
    }
    if !work.secrets.is_empty() {
        Some("it had a secret")
    } else if !work.credentials.is_empty() {
        Some("it had borrowed rights")
    } else if work.environment.is_some() || request.plan.waits_for_people(node) {
        Some("it waited for somebody's consent")
    } else {
        None
    }
}

/// The cluster that an action runs on, if anybody named one.
pub(crate) fn cluster<'a>(request: &'a RunRequest, work: &'a Work) -> Option<&'a Name> {
    match &request.origin {
        Origin::Repository => work.cluster.as_ref(),
        Origin::WorkingTree { cluster } => Some(cluster),
    }
}

fn has_secret_files(work: &Work) -> bool {
    let mut targets = work.secrets.iter().map(|secret| &secret.target);
    !work.credentials.is_empty() || targets.any(|target| matches!(target, SecretTarget::File(_)))
}

fn steps(work: &Work, resolved: &Resolved) -> Result<Vec<LaunchStep>, LaunchError> {
    let pairs = work.steps.iter().zip(&resolved.steps);
    pairs
        .map(|(step, values)| {
            Ok(LaunchStep {
                name: step.name.clone(),
                image: step.image.clone(),
                script: script(step, &values.argv)?,
                env: values.env.clone(),
                env_files: values.env_files.clone(),
                timeout: step.timeout,
                working_dir: step.working_dir.clone(),
            })
        })
        .collect()
}

fn script(step: &Step, argv: &[String]) -> Result<LaunchScript, LaunchError> {
    match &step.script {
        Script::Shell { shell, text, line } => Ok(LaunchScript::Shell {
            shell: *shell,
            text: text.clone(),
            line: *line,
        }),
        Script::Command { .. } => Ok(LaunchScript::Command(argv.to_vec())),
        Script::Build(_) => Err(LaunchError::Terminal {
            reason: "this backend cannot build images".to_owned(),
        }),
    }
}

/// A key as a file name: short and safe ones stay readable, others become their digest.
fn key_name(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_safe = !key.is_empty() && key.len() <= 180 && !key.starts_with('.') && key.bytes().all(is_plain);
    if is_safe {
        key.to_owned()
    } else {
        Digest::of(key.as_bytes()).to_hex()
    }
}

/// The files of the caches of a folder whose key starts so, the newest first, as if all were files; what cannot be read is
/// no candidate.
fn newest_first(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(Timestamp, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_wanted = name.starts_with(prefix);
            let metadata = is_wanted.then(|| entry.metadata().ok()).flatten()?;
            let (key, kept) = kept_as(&name, &entry.path(), &metadata).ok()??;
            Some((kept.created_at, folder.join(format!("{key}{CACHE_FILE}"))))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}
