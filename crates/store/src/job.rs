//! What callers ask of a writer task: typed operations with a place for the answer.

use pipekeeper_engine::{AdoptedNode, EffectKey};
use pipekeeper_model::{Digest, Name, RunId, Timestamp};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Accepted, AuditEntry, Change, ChangeError, Claim, Claimed, Commit, CommitError, DeliveryId,
    DeliverySettlement, Epoch, Estate, Loss, NewDelivery, Refusal, RunSummary, StoreError, rows::to_i64,
};

/// One operation, its answer once applied, and the one who waits for it. The answer leaves after the commit alone.
#[derive(Debug)]
pub(crate) struct Ask<B, A, E = StoreError> {
    pub(crate) body: B,
    /// As whose holder it is written, if it matters.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) answer: Option<Result<A, E>>,
    pub(crate) reply: oneshot::Sender<Result<A, E>>,
}

/// Asks a writer task for an operation and waits for its answer.
pub(crate) async fn ask<B, A, E: From<StoreError>>(
    jobs: &mpsc::Sender<Job>,
    job: fn(Ask<B, A, E>) -> Job,
    (body, epoch): (B, Option<Epoch>),
) -> Result<A, E> {
    let (reply, answer) = oneshot::channel();
    let job = job(Ask {
        body,
        epoch,
        answer: None,
        reply,
    });
    jobs.send(job).await.map_err(|_| StoreError::Closed)?;
    answer.await.map_err(|_| StoreError::Closed)?
}

/// An operation of any kind.
#[derive(Debug)]
pub(crate) enum Job {
    Accept(Ask<NewDelivery, Accepted>),
    Refuse(Ask<Refusal, ()>),
    Settle(Ask<DeliverySettlement, ()>),
    Reopen(Ask<DeliveryId, bool>),
    Commit(Ask<Vec<PreparedCommit>, (), CommitError>),
    SettleEffects(Ask<Vec<EffectKey>, ()>),
    Remember(Ask<Success, ()>),
    Quarantine(Ask<Quarantine, ()>),
    Change(Ask<Changes, (), ChangeError>),
    Expire(Ask<Timestamp, u64>),
    Tidy(Ask<Tidying, u64>),
    Claim(Ask<Claim, Claimed>),
    Release(Ask<Epoch, ()>),
    Check(Ask<(), ()>),
    Close(Ask<(), ()>),
}

/// What is the same for operations of every kind.
macro_rules! of_any {
    ($job:expr, $ask:ident => $what:expr) => {
        match $job {
            Job::Accept($ask) => $what,
            Job::Refuse($ask) => $what,
            Job::Settle($ask) => $what,
            Job::Reopen($ask) => $what,
            Job::Commit($ask) => $what,
            Job::SettleEffects($ask) => $what,
            Job::Remember($ask) => $what,
            Job::Quarantine($ask) => $what,
            Job::Change($ask) => $what,
            Job::Expire($ask) => $what,
            Job::Tidy($ask) => $what,
            Job::Claim($ask) => $what,
            Job::Release($ask) => $what,
            Job::Check($ask) | Job::Close($ask) => $what,
        }
    };
}

impl Job {
    /// About how many bytes it writes, where that can be much.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Accept(ask) => ask.body.body.len(),
            Self::Refuse(_)
            | Self::Settle(_)
            | Self::Reopen(_)
            | Self::Commit(_)
            | Self::SettleEffects(_)
            | Self::Remember(_)
            | Self::Quarantine(_)
            | Self::Change(_)
            | Self::Expire(_)
            | Self::Tidy(_)
            | Self::Claim(_)
            | Self::Release(_)
            | Self::Check(_)
            | Self::Close(_) => 0,
        }
    }
}

/// What is done about ended runs and old deliveries.
#[derive(Debug)]
pub(crate) enum Tidying {
    /// Keeps what they left.
    Keep(Vec<Estate>),
    /// Notes what of that is gone.
    GiveUp(Vec<Loss>),
    /// Removes runs.
    Runs(Vec<RunId>),
    /// Removes settled deliveries.
    Deliveries {
        project: Name,
        before: Timestamp,
        limit: u32,
    },
}

/// A success to keep for later runs.
#[derive(Debug)]
pub(crate) struct Success {
    pub(crate) inputs: Digest,
    pub(crate) result: AdoptedNode,
}

/// A run to set aside.
#[derive(Debug)]
pub(crate) struct Quarantine {
    pub(crate) run: RunId,
    pub(crate) reason: String,
}

/// Changes of records that belong together, with what the audit log says of them.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) changes: Vec<Change>,
    pub(crate) audit: Vec<AuditEntry>,
}

/// A commit whose JSON is made.
#[derive(Debug)]
pub(crate) struct PreparedCommit {
    pub(crate) summary: RunSummary,
    pub(crate) actor: String,
    pub(crate) expected: i64,
    pub(crate) version: i64,
    pub(crate) events: String,
    pub(crate) snapshot: Option<String>,
    pub(crate) effects: String,
    pub(crate) settled: String,
    pub(crate) delivery: Option<DeliverySettlement>,
}

/// An effect as the writer's statement reads it out of JSON.
#[derive(Serialize)]
struct PreparedEffect<'a> {
    key: EffectKey,
    body: &'a pipekeeper_engine::Effect,
}

impl PreparedCommit {
    pub(crate) fn new(commit: Commit) -> Result<Self, StoreError> {
        let run = commit.summary.id;
        let effects: Vec<_> = commit
            .effects
            .iter()
            .map(|body| PreparedEffect {
                key: body.key(),
                body,
            })
            .collect();
        let expected = to_i64(commit.expected);
        let added = i64::try_from(commit.events.len()).unwrap_or(i64::MAX);
        Ok(Self {
            actor: to_json(&commit.summary.actor, run)?,
            expected,
            version: expected.saturating_add(added),
            events: to_json(&commit.events, run)?,
            snapshot: commit
                .snapshot
                .map(|snapshot| to_json(&snapshot, run))
                .transpose()?,
            effects: to_json(&effects, run)?,
            settled: to_json(&commit.settled, run)?,
            delivery: commit.delivery,
            summary: commit.summary,
        })
    }
}

impl<B, A, E: From<StoreError>> Ask<B, A, E> {
    pub(crate) fn answer(&mut self, answer: A) {
        self.answer = Some(Ok(answer));
    }

    fn send(self, failure: Option<&StoreError>) {
        let answer = match (failure, self.answer) {
            (Some(failure), _) => Err(failure.clone().into()),
            (None, Some(answer)) => answer,
            (None, None) => Err(StoreError::Closed.into()),
        };
        // A caller that has gone does not need its answer.
        let _gone: Result<(), _> = self.reply.send(answer);
    }
}

impl Job {
    /// As whose holder it is written, if it matters.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        of_any!(self, ask => ask.epoch)
    }

    /// Forgets the answer of a try that was rolled back.
    pub(crate) fn forget_answer(&mut self) {
        of_any!(self, ask => ask.answer = None);
    }

    /// Answers without writing anything.
    #[expect(clippy::useless_conversion, reason = "the errors of answers differ")]
    pub(crate) fn refuse(&mut self, error: StoreError) {
        of_any!(self, ask => ask.answer = Some(Err(error.into())));
    }

    /// Whether it was answered so.
    pub(crate) fn is_refused(&self) -> bool {
        of_any!(self, ask => matches!(ask.answer, Some(Err(_))))
    }

    /// Tells the caller what became of it.
    pub(crate) fn send(self, failure: Option<&StoreError>) {
        of_any!(self, ask => ask.send(failure));
    }
}

fn to_json<T: Serialize>(value: &T, run: RunId) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt {
        what: format!("commit to run {run}"),
        reason: error.to_string(),
    })
}
