//! What the controller needs from outside. `pipe` picks the implementations; the simulator brings its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use pipekeeper_backend::{
    Backend, KeepWorkspace, LaunchError, Observation, Orphan, SecretValue, SourceInput, Tier,
};
use pipekeeper_engine::{
    Claim, ClaimId, Decision, Earlier, Envelope, Input, Rejection, Run, RunRequest, Signature, Standing,
};
use pipekeeper_model::{
    Actor, Digest, EventKind, GitRef, Name, Sha, Timestamp,
    plan::{Credential, Secret, Work},
};
use pipekeeper_spec::document::Environment;
use pipekeeper_store::Store;
use tokio::sync::mpsc;

use crate::{
    Layout, Sharing, Upkeep,
    caches::{CacheQuota, CacheStore},
};

/// Everything that a controller works with.
pub struct Ports {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Where attempts run.
    pub backend: Arc<dyn Backend>,
    /// How the store is shared with other servers; none where it is this one's alone.
    pub sharing: Option<Sharing>,
    /// What the backend sees.
    pub observations: mpsc::UnboundedReceiver<Observation>,
    /// What attempts are given.
    pub supplies: Arc<dyn Supplies>,
    /// Where deliveries become runs; none where no webhooks arrive.
    pub intake: Option<Arc<dyn Intake>>,
    /// Who people are.
    pub people: Arc<dyn People>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The rules.
    pub rules: Arc<dyn Rules>,
    /// Who else has locks; none where all that take any are runs of this controller.
    pub outer_locks: Option<Arc<dyn OuterLocks>>,
    /// Where logs, artifacts and caches are.
    pub layout: Layout,
    /// How old things go; none where nothing does.
    pub upkeep: Option<Upkeep>,
    /// How much archive caches may take; none where somebody else sees to that.
    pub cache_quota: Option<CacheQuota>,
    /// The object stores that hold archive caches.
    pub cache_stores: Vec<Arc<dyn CacheStore>>,
}

/// Who people are, when their approvals are judged again.
#[async_trait]
pub trait People: Send + Sync {
    /// Where these people stand now at what they approved in a run of a project, for which these actors asked, the last of
    /// them first, and then those of the runs that it does again; who is missing is gone.
    ///
    /// # Errors
    /// If that cannot be said now; it is asked again.
    async fn standings(
        &self,
        project: &Name,
        signed: &BTreeSet<Signature>,
        requesters: &[Actor],
    ) -> Result<BTreeMap<Signature, Standing>, PeopleAway>;
}

/// Nobody can say now who people are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ask where people stand: {reason}")]
pub struct PeopleAway {
    /// What is in the way.
    pub reason: String,
}

/// Everybody is still what they were when they decided: for places that know of no change.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameAsEver;

#[async_trait]
impl People for SameAsEver {
    async fn standings(
        &self,
        _project: &Name,
        signed: &BTreeSet<Signature>,
        _requesters: &[Actor],
    ) -> Result<BTreeMap<Signature, Standing>, PeopleAway> {
        let still = signed.iter().map(|one| (one.clone(), Standing::Owner));
        Ok(still.collect())
    }
}

/// The environments that there are, asked whenever a run is planned.
#[async_trait]
pub trait Environments: Send + Sync {
    /// Those of a project, by name.
    ///
    /// # Errors
    /// If that cannot be said now; it is asked again.
    async fn of(&self, project: &Name) -> Result<BTreeMap<Name, Environment>, EnvironmentsAway>;
}

/// Nobody can say now which environments there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the environments: {reason}")]
pub struct EnvironmentsAway {
    /// What is in the way.
    pub reason: String,
}

/// The time, and waiting for it.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Resolves at or after `at`.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;
}

/// The rules about runs: [`EngineRules`], or a broken copy of them in a test of the tests.
pub trait Rules: Send + Sync {
    /// See [`pipekeeper_engine::decide`].
    ///
    /// # Errors
    /// If the input means nothing.
    fn decide(&self, run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection>;

    /// See [`pipekeeper_engine::turns`].
    fn turns(&self, claims: &[Claim]) -> Vec<ClaimId>;
}

/// Locks that are shared with others than the runs of this controller.
pub trait OuterLocks: Send + Sync {
    /// Takes all locks of a claim, or none of them; dropping what comes back gives them back.
    ///
    /// # Errors
    /// If somebody else has one of them: who, for people.
    fn take(&self, claim: &Claim) -> Result<Box<dyn Send + Sync>, String>;
}

/// The engine itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineRules;

impl Rules for EngineRules {
    fn decide(&self, run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
        pipekeeper_engine::decide(run, input)
    }

    fn turns(&self, claims: &[Claim]) -> Vec<ClaimId> {
        pipekeeper_engine::turns(claims)
    }
}

/// What attempts are given: source, secrets, caches.
#[async_trait]
pub trait Supplies: Send + Sync {
    /// What a workspace of this run starts with.
    async fn source(&self, request: &RunRequest) -> Result<SourceInput, LaunchError>;

    /// A digest over the source's files that match the globs, their modes and contents, for cache keys and `reuse:`; that of no bytes
    /// if none matches.
    async fn digest_files(&self, request: &RunRequest, globs: &[String]) -> Result<Digest, LaunchError>;

    /// The values of the secrets that an action of this run wants, and what else to mask.
    async fn secrets(&self, request: &RunRequest, work: &Work) -> Result<Vec<SecretValue>, LaunchError>;

    /// Whether [`secrets`](Self::secrets) would give them, before anything is made for the action.
    async fn check_secrets(&self, request: &RunRequest, work: &Work) -> Result<(), LaunchError> {
        self.secrets(request, work).await.map(drop)
    }

    /// Whether the runs of a ref are trusted more than others of its project. Where nothing is protected, all are alike.
    fn is_protected(&self, _project: &Name, _git_ref: Option<&GitRef>) -> bool {
        true
    }

    /// The trust tiers of the run's archive caches.
    fn cache_tiers(&self, request: &RunRequest) -> CacheTiers;

    /// What happens to a workspace after its attempt, and what an attempt does without its controller.
    fn habits(&self) -> Habits;
}

/// Where the secrets of a server's projects are.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The values that an action may have.
    ///
    /// # Errors
    /// If one is not there, or not for this action; the error names it and never a value.
    async fn values(
        &self,
        asking: &SecretAsking<'_>,
        wanted: &[Secret],
    ) -> Result<Vec<SecretValue>, LaunchError>;
}

/// Where borrowed rights come from.
#[async_trait]
pub trait Lender: Send + Sync {
    /// Whether an action may have these rights; nothing is made for it yet.
    ///
    /// # Errors
    /// As [`lend`](Self::lend) has them.
    async fn check(&self, asking: &SecretAsking<'_>, rights: &[Credential]) -> Result<(), LaunchError>;

    /// What an action needs to use these rights, and what of it to mask.
    ///
    /// # Errors
    /// If it is not there, or not for this action; the error names it and never a value.
    async fn lend(
        &self,
        asking: &SecretAsking<'_>,
        rights: &[Credential],
    ) -> Result<Vec<SecretValue>, LaunchError>;
}

/// The action that asks for secrets, as far as it matters for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretAsking<'a> {
    /// The project of its run.
    pub project: &'a Name,
    /// How far its run is trusted.
    pub tier: Tier,
    /// The event that started its run.
    pub event: EventKind,
    /// The environment that it names.
    pub environment: Option<&'a Name>,
    /// Where that is in its cluster, if it says so: a template over the project's name.
    pub namespace: Option<&'a str>,
    /// The cluster that it runs in, if it or its environment names one.
    pub cluster: Option<&'a Name>,
    /// The image of each of its steps; none for one that names none.
    pub images: Vec<Option<&'a str>>,
}

/// Which tier of archive caches a run writes, and which it may read: its own and more trusted ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTiers {
    /// The tier it writes: its own.
    pub writes: Tier,
    /// The tiers it reads, best first, its own included.
    pub reads: Vec<Tier>,
}

/// How attempts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// What happens to workspaces.
    pub keep_workspace: KeepWorkspace,
    /// What attempts do without a controller.
    pub orphan: Orphan,
}

/// Turns deliveries and wishes into run requests: parses, matches, fetches, plans.
#[async_trait]
pub trait Intake: Send + Sync {
    /// What a delivery leads to. May be asked again after a crash and must answer the same.
    async fn admit(&self, delivery: &pipekeeper_store::Delivery) -> Result<Admitted, IntakeError>;

    /// Hears which deliveries of one project come next, to do at once what each of them would need alone.
    async fn prepare(&self, _coming: &[pipekeeper_store::Delivery]) {}

    /// The run that a person wants.
    async fn wish(&self, wish: &Wish) -> Result<Arc<RunRequest>, IntakeError>;

    /// The environments of a request whose rules are others now than in its plan.
    async fn changed_rules(&self, request: &RunRequest) -> Result<Vec<Name>, IntakeError>;
}

/// What a delivery leads to.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// These runs.
    Runs {
        /// The requests, with the one who caused them.
        requests: Vec<(pipekeeper_model::Actor, Arc<RunRequest>)>,
        /// Pipelines that it does not start, with the reason.
        notes: Vec<String>,
        /// The ref's move.
        moved: Option<pipekeeper_store::RefMove>,
    },
    /// No run.
    Nothing {
        /// What to record.
        outcome: pipekeeper_store::DeliveryOutcome,
        /// The ref's move.
        moved: Option<pipekeeper_store::RefMove>,
    },
}

/// A run that a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The project.
    pub project: Name,
    /// The pipeline.
    pub pipeline: Name,
    /// What it is made of.
    pub of: WishOf,
    /// Parameters as text.
    pub params: BTreeMap<Name, String>,
    /// Only these actions and what they need; none means all.
    pub actions: Vec<String>,
    /// Whether earlier successes may stand in for its actions.
    pub earlier: Earlier,
}

/// What a run is to be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WishOf {
    /// A branch, a tag or a full commit id; none means the default branch.
    Revision(Option<String>),
    /// A working tree that was sent before.
    Tree {
        /// Its id.
        tree: Sha,
        /// The cluster that every action runs on.
        cluster: Name,
    },
}

/// A delivery or a wish could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// It may go better later.
    #[error("{reason}")]
    Transient {
        /// What is in the way.
        reason: String,
    },
    /// It never will.
    #[error("{reason}")]
    Terminal {
        /// What is wrong.
        reason: String,
    },
    /// What was asked for is not there.
    #[error("{reason}")]
    NotFound {
        /// What is missing.
        reason: String,
    },
}
