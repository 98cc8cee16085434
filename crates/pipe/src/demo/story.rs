//! Tells what happens, as it happens, and answers the gate or says how to.

use pipekeeper_controller::News;
use pipekeeper_engine::{Event, Fact, Next, Run, evolve};
use pipekeeper_model::{NodeId, RunId};
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{is_automatic, say};
use crate::{
    client::Client,
    cmd::demo::Approver,
    failure::Failure,
    report::{gate_text, summary, words},
    term::{Paint, Tone},
};

/// What the story is told from.
pub(super) struct Story {
    /// What happens.
    pub(super) news: broadcast::Receiver<News>,
    /// The server's address.
    pub(super) server: String,
    /// Its token.
    pub(super) token: String,
    /// A client of it.
    pub(super) client: Client,
}

impl Story {
    /// Tells the first run to its end.
    pub(super) async fn follow(mut self, approver: Approver) -> Result<u64, Failure> {
        let mut run: Option<Run> = None;
        loop {
            let events = match self.news.recv().await {
                Ok(News::Run { run: id, events, .. }) => {
                    run.get_or_insert_with(|| Run::new(id));
                    events
                }
                Ok(News::Attempt { .. } | News::Delivery(_) | News::Elsewhere) => continue,
                Err(RecvError::Lagged(_)) => return Err(Failure::ours("the story was told too slowly")),
                Err(RecvError::Closed) => return Err(Failure::ours("the server ended before the run")),
            };
            let Some(run) = run.as_mut() else {
                continue;
            };
            for event in events.iter() {
                evolve(run, event);
                self.tell(run, event, approver).await?;
            }
            if run.is_finished() {
                say(
                    "run",
                    format_args!("{} (number {})", summary::last_line(run), run.id()),
                );
                return Ok(run.id().0);
            }
        }
    }

    async fn tell(&self, run: &Run, event: &Event, approver: Approver) -> Result<(), Failure> {
        if let Some((what, text)) = told(run, event) {
            say(what, text);
        }
        if let Fact::GateOpened { node, subject, .. } = &event.fact {
            let name = name_of(run, *node);
            if is_automatic(approver) {
                self.approve(run.id(), &name, &subject.to_string()).await?;
            } else {
                self.explain_approval(run.id(), &name);
            }
        }
        Ok(())
    }

    async fn approve(&self, run: RunId, node: &str, subject: &str) -> Result<(), Failure> {
        let path = ["runs", &run.to_string(), "nodes", node, "approve"];
        let body = json!({ "subject": subject, "comment": "approved by `--approve auto`" });
        self.client.post(&path, &body).await.map(drop)
    }

    fn explain_approval(&self, run: RunId, node: &str) {
        say("", format_args!("on the page: {}/runs/{run}", self.server));
        say("", format_args!("token:       {}", self.token));
        say(
            "",
            format_args!(
                "or:          pipe approve {run}/{node} --server {} --token {}",
                self.server, self.token
            ),
        );
    }
}

fn name_of(run: &Run, node: NodeId) -> String {
    run.plan()
        .and_then(|plan| plan.node(node))
        .map(|node| node.name.clone())
        .unwrap_or_default()
}

/// The line for an event, if it is worth one.
fn told(run: &Run, event: &Event) -> Option<(&'static str, String)> {
    let paint = Paint::for_stdout();
    match &event.fact {
        Fact::RunCreated { request } => {
            let (plan, id) = (&request.plan, run.id());
            let text = format!("number {id}: `{}`, {} actions", plan.pipeline, plan.nodes.len());
            Some(("run", text))
        }
        Fact::TicketGranted { attempt, .. } => Some(("start", name_of(run, attempt.node))),
        Fact::AttemptFinished {
            attempt,
            record,
            next,
        } => {
            let outcome = match next {
                Next::Settled { outcome } => *outcome,
                Next::Retried { .. } | Next::Withdrawn => record.outcome.to_outcome(),
            };
            let (mark, tone) = words::mark(outcome);
            let (mark, time) = (paint.tone(tone, mark), words::length(record.duration()));
            let name = name_of(run, attempt.node);
            Some(("end", format!("{mark} {name} {outcome} in {time}")))
        }
        Fact::GateOpened { node, .. } => {
            let text = format!("{}: {}", name_of(run, *node), gate_text(run, *node));
            Some(("gate", paint.tone(Tone::Attention, text)))
        }
        Fact::GateApproved { node, .. } => Some((
            "gate",
            format!("{} approved by {}", name_of(run, *node), event.actor),
        )),
        Fact::GateRejected { node, .. } => Some((
            "gate",
            format!("{} rejected by {}", name_of(run, *node), event.actor),
        )),
        Fact::GateBypassed { node, .. } => {
            let text = format!("{} bypassed by {}", name_of(run, *node), event.actor);
            Some(("gate", paint.tone(Tone::Bad, text)))
        }
        Fact::GateVoided { node, .. } => {
            let text = format!("{} waits for approval again", name_of(run, *node));
            Some(("gate", paint.tone(Tone::Attention, text)))
        }
        Fact::NodeSkipped { .. }
        | Fact::TurnAwaited
        | Fact::TurnCame
        | Fact::NodeReadied { .. }
        | Fact::NodeAdopted { .. }
        | Fact::StartAwaited { .. }
        | Fact::StartLooked { .. }
        | Fact::StartGiven { .. }
        | Fact::WaitBegan { .. }
        | Fact::AttemptScheduled { .. }
        | Fact::SearchBegan { .. }
        | Fact::InputsKnown { .. }
        | Fact::LaunchHeldUp { .. }
        | Fact::LaunchWentOn { .. }
        | Fact::NodeReused { .. }
        | Fact::StopAsked { .. }
        | Fact::NodeFinished { .. }
        | Fact::RunHalted { .. }
        | Fact::LocksAwaited { .. }
        | Fact::LocksTaken { .. }
        | Fact::LocksReleased { .. }
        | Fact::CancelBegan { .. }
        | Fact::FinallyBegan { .. }
        | Fact::FinallyStopped
        | Fact::RunFinished { .. } => None,
    }
}
