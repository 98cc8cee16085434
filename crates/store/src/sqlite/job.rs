//! What callers ask of the writer task: typed operations with a place for the answer.

use pipekeeper_engine::{AdoptedNode, EffectKey};
use pipekeeper_model::{Digest, RunId, Timestamp};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{
    Accepted, AuditEntry, Change, ChangeError, Commit, CommitError, DeliveryId, DeliverySettlement,
    NewDelivery, Refusal, RunSummary, StoreError,
};

use super::rows::to_i64;

/// One operation, its answer once applied, and the one who waits for it. The answer leaves after the commit alone.
#[derive(Debug)]
pub(super) struct Ask<B, A, E = StoreError> {
    pub(super) body: B,
    pub(super) answer: Option<Result<A, E>>,
    pub(super) reply: oneshot::Sender<Result<A, E>>,
}

/// An operation of any kind.
#[derive(Debug)]
pub(super) enum Job {
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
    pub(super) fn bytes(&self) -> usize {
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
pub(super) struct Success {
    pub(super) inputs: Digest,
    pub(super) result: AdoptedNode,
}

/// A run to set aside.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub(super) run: RunId,
    pub(super) reason: String,
}

/// Changes of records that belong together, with what the audit log says of them.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) changes: Vec<Change>,
    pub(super) audit: Vec<AuditEntry>,
}

/// A commit whose JSON is made.
#[derive(Debug)]
pub(super) struct PreparedCommit {
    pub(super) summary: RunSummary,
    pub(super) actor: String,
    pub(super) expected: i64,
    pub(super) version: i64,
    pub(super) events: String,
    pub(super) snapshot: Option<String>,
    pub(super) effects: String,
    pub(super) settled: String,
    pub(super) delivery: Option<DeliverySettlement>,
}

/// An effect as the writer's statement reads it out of JSON.
#[derive(Serialize)]
struct PreparedEffect<'a> {
    key: EffectKey,
    body: &'a pipekeeper_engine::Effect,
}

impl PreparedCommit {
    pub(super) fn new(commit: Commit) -> Result<Self, StoreError> {
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
    pub(super) fn answer(&mut self, answer: A) {
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
    pub(super) fn send(self, failure: Option<&StoreError>) {
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
