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
                Ok(News::Attempt { .. } | News::Delivery(_)) => continue,
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
        let name = |node: NodeId| {
            run.plan()
                .and_then(|plan| plan.node(node))
                .map(|node| node.name.clone())
                .unwrap_or_default()
        };
        match &event.fact {
            Fact::RunCreated { request } => {
                let count = request.plan.nodes.len();
                say(
                    "run",
                    format_args!(
                        "number {}: `{}`, {count} actions",
                        run.id(),
                        request.plan.pipeline
                    ),
                );
            }
            Fact::TicketGranted { attempt, .. } => say("start", name(attempt.node)),
            Fact::AttemptFinished {
                attempt,
                record,
                next,
            } => {
                let outcome = match next {
                    Next::Settled { outcome } => *outcome,
                    Next::Retried { .. } => record.outcome.to_outcome(),
                };
                let (mark, tone) = words::mark(outcome);
                let mark = Paint::for_stdout().tone(tone, mark);
                let time = words::length(record.duration());
                say(
                    "end",
                    format_args!("{mark} {} {outcome} in {time}", name(attempt.node)),
                );
            }
            Fact::GateOpened { node, subject, .. } => {
                let text = gate_text(run, *node);
                let paint = Paint::for_stdout();
                say(
                    "gate",
                    paint.tone(Tone::Attention, format_args!("{}: {text}", name(*node))),
                );
                if is_automatic(approver) {
                    self.approve(run.id(), &name(*node), &subject.to_string()).await?;
                } else {
                    self.explain_approval(run.id(), &name(*node));
                }
            }
            Fact::GateApproved { node, .. } => {
                say(
                    "gate",
                    format_args!("{} approved by {}", name(*node), event.actor),
                );
            }
            Fact::GateRejected { node, .. } => {
                say(
                    "gate",
                    format_args!("{} rejected by {}", name(*node), event.actor),
                );
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
            | Fact::StopAsked { .. }
            | Fact::NodeFinished { .. }
            | Fact::RunHalted { .. }
            | Fact::CancelBegan { .. }
            | Fact::FinallyBegan { .. }
            | Fact::FinallyStopped
            | Fact::RunFinished { .. } => {}
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
