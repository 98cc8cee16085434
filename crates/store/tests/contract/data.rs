//! Values for the cases.

use std::error::Error;

use pipekeeper_engine::{Effect, Event, Fact};
use pipekeeper_model::{Actor, AttemptId, GitRef, Name, NodeId, Outcome, RunId, Sha, Timestamp};
use pipekeeper_store::{
    Accepted, Commit, DeliveryId, DeliveryOutcome, DeliverySettlement, NewDelivery, RefMove, RunSummary,
    Store,
};

pub(crate) fn name(text: &str) -> Result<Name, Box<dyn Error>> {
    Ok(text.parse()?)
}

pub(crate) fn sha(digit: char) -> Result<Sha, Box<dyn Error>> {
    Ok(digit.to_string().repeat(40).parse()?)
}

pub(crate) fn delivery(forge_id: &str) -> Result<NewDelivery, Box<dyn Error>> {
    Ok(NewDelivery {
        project: name("mall")?,
        forge_id: forge_id.to_owned(),
        event: "push".to_owned(),
        received_at: Timestamp(1_700_000_000_123),
        body: b"{\"ref\":\"refs/heads/main\"}".to_vec(),
    })
}

pub(crate) async fn accept(store: &impl Store, forge_id: &str) -> Result<DeliveryId, Box<dyn Error>> {
    match store.accept_delivery(delivery(forge_id)?).await? {
        Accepted::New(id) => Ok(id),
        Accepted::Duplicate(id) => Err(format!("`{forge_id}` is known as {}", id.0).into()),
    }
}

pub(crate) fn ignored(delivery: DeliveryId, moved: Option<RefMove>) -> DeliverySettlement {
    let reason = "nothing matches".to_owned();
    DeliverySettlement {
        delivery,
        outcome: DeliveryOutcome::Ignored { reason },
        moved,
    }
}

/// A move of the branch `main`; `.` stands for no commit.
pub(crate) fn moved(before: char, after: char) -> Result<RefMove, Box<dyn Error>> {
    let end = |digit| {
        if digit == '.' {
            Ok(None)
        } else {
            sha(digit).map(Some)
        }
    };
    Ok(RefMove {
        project: name("mall")?,
        git_ref: GitRef::Branch("main".to_owned()),
        before: end(before)?,
        after: end(after)?,
    })
}

pub(crate) fn summary(id: u64) -> Result<RunSummary, Box<dyn Error>> {
    Ok(RunSummary {
        id: RunId(id),
        project: name("mall")?,
        pipeline: name("web")?,
        event: "push".to_owned(),
        git_ref: Some(GitRef::Branch("main".to_owned())),
        sha: Some(sha('a')?),
        subject: "Teach the cart to count".to_owned(),
        actor: Actor::Forge {
            forge: "gitea".to_owned(),
            login: "ann".to_owned(),
        },
        created_at: Timestamp(1_700_000_000_000),
        finished_at: None,
        outcome: None,
        phase: "running".to_owned(),
        needs_person: false,
        group: None,
        next_deadline: Some(Timestamp(1_700_000_060_000)),
    })
}

pub(crate) fn event(fact: Fact) -> Event {
    Event {
        at: Timestamp(1_700_000_000_001),
        actor: Actor::System,
        fact,
    }
}

/// The n-th of a row of events that differ.
pub(crate) fn nth_event(number: u32) -> Event {
    event(Fact::NodeReadied { node: NodeId(number) })
}

pub(crate) fn finished(outcome: Outcome) -> Event {
    event(Fact::RunFinished { outcome })
}

pub(crate) fn launch(run: u64, node: u32) -> Effect {
    let attempt = AttemptId {
        run: RunId(run),
        node: NodeId(node),
        number: 1,
    };
    Effect::LaunchAttempt { attempt }
}

/// A commit of these events and nothing else.
pub(crate) fn commit(run: u64, expected: u64, events: Vec<Event>) -> Result<Commit, Box<dyn Error>> {
    Ok(Commit {
        summary: summary(run)?,
        expected,
        events,
        snapshot: None,
        effects: Vec::new(),
        settled: Vec::new(),
        delivery: None,
    })
}

/// The commit that ends a run.
pub(crate) fn finish(run: u64, expected: u64, outcome: Outcome) -> Result<Commit, Box<dyn Error>> {
    let mut commit = commit(run, expected, vec![finished(outcome)])?;
    commit.summary.outcome = Some(outcome);
    commit.summary.finished_at = Some(Timestamp(1_700_000_090_000));
    commit.summary.phase = "finished".to_owned();
    commit.summary.next_deadline = None;
    Ok(commit)
}
