//! What callers ask of a writer task: typed operations with a place for the answer.

use pipekeeper_engine::{AdoptedNode, EffectKey};
use pipekeeper_model::{Digest, RunId, Timestamp};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Accepted, AuditEntry, Change, ChangeError, Commit, CommitError, DeliveryId, DeliverySettlement,
    NewDelivery, Refusal, RunSummary, StoreError, rows::to_i64,
};

/// One operation, its answer once applied, and the one who waits for it. The answer leaves after the commit alone.
#[derive(Debug)]
pub(crate) struct Ask<B, A, E = StoreError> {
    pub(crate) body: B,
    pub(crate) answer: Option<Result<A, E>>,
    pub(crate) reply: oneshot::Sender<Result<A, E>>,
}

/// Asks a writer task for an operation and waits for its answer.
pub(crate) async fn ask<B, A, E: From<StoreError>>(
    jobs: &mpsc::Sender<Job>,
    job: fn(Ask<B, A, E>) -> Job,
    body: B,
) -> Result<A, E> {
    let (reply, answer) = oneshot::channel();
    let job = job(Ask {
        body,
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
    Check(Ask<(), ()>),
    Close(Ask<(), ()>),
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
            | Self::Check(_)
            | Self::Close(_) => 0,
        }
    }
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
    /// Tells the caller what became of it.
    pub(crate) fn send(self, failure: Option<&StoreError>) {
        match self {
            Self::Accept(ask) => ask.send(failure),
            Self::Refuse(ask) => ask.send(failure),
            Self::Settle(ask) => ask.send(failure),
            Self::Reopen(ask) => ask.send(failure),
            Self::Commit(ask) => ask.send(failure),
            Self::SettleEffects(ask) => ask.send(failure),
            Self::Remember(ask) => ask.send(failure),
            Self::Quarantine(ask) => ask.send(failure),
            Self::Change(ask) => ask.send(failure),
            Self::Expire(ask) => ask.send(failure),
            Self::Check(ask) | Self::Close(ask) => ask.send(failure),
        }
    }
}

fn to_json<T: Serialize>(value: &T, run: RunId) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt {
        what: format!("commit to run {run}"),
        reason: error.to_string(),
    })
}
