//! The way to a run on a server. Entry type: [`RemoteLink`].

use async_trait::async_trait;
use pipekeeper_controller::Layout;
use pipekeeper_engine::{Fact, Look, Run, Verdict};
use pipekeeper_model::{NodeId, RunId, plan::Plan};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    ask::{Request, Twice, pass_on},
    listen::listen,
};
use crate::{
    client::Client,
    failure::Failure,
    follow::{Ask, Heard, Link},
};

/// Lines that wait for a terminal that is slow.
const WAITING: usize = 256;

/// A run on a server, which is spoken to beside everything else: who waits here is always free for the user.
pub(super) struct RemoteLink {
    run: RunId,
    lines: mpsc::Receiver<Result<Heard, Failure>>,
    /// What was heard before the plan was known.
    first: Option<Heard>,
    requests: mpsc::UnboundedSender<Request>,
}

impl RemoteLink {
    /// Begins to listen; answers with the run's plan once that is heard.
    pub(super) async fn open(client: Client, run: RunId, layout: Layout) -> Result<(Self, Plan), Failure> {
        let (tell, mut lines) = mpsc::channel(WAITING);
        let (requests, asked) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(client.clone(), asked, tell.downgrade()));
        tokio::spawn(listen(client, run, layout, tell));
        let nothing = || Failure::ours(format!("the server told nothing of run {run}"));
        let first = lines.recv().await.ok_or_else(nothing)??;
        let plan = plan_in(&first).ok_or_else(nothing)?;
        let link = Self {
            run,
            lines,
            first: Some(first),
            requests,
        };
        Ok((link, plan))
    }
}

fn plan_in(heard: &Heard) -> Option<Plan> {
    let Heard::Events(events) = heard else { return None };
    events.iter().find_map(|event| {
        let Fact::RunCreated { request, .. } = &event.fact else {
            return None;
        };
        Some(request.plan.clone())
    })
}

#[async_trait]
impl Link for RemoteLink {
    async fn hear(&mut self) -> Result<Heard, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let ended = || {
            Err(Failure::ours(
                "the server ended its record before the run had ended",
            ))
        };
        self.lines.recv().await.unwrap_or_else(ended)
    }

    async fn ask(&mut self, run: &Run, ask: Ask) -> Result<(), Failure> {
        let (node, verb, body, twice) = match ask {
            // A second one stops `finally` too.
            Ask::Cancel => (None, "cancel", json!({}), Twice::More),
            Ask::Decide {
                node,
                verdict,
                subject,
                comment,
                params,
            } => {
                let (verb, body) = match verdict {
                    Verdict::Approve => (
                        "approve",
                        json!({ "subject": subject, "comment": comment, "params": params }),
                    ),
                    Verdict::Reject => ("reject", json!({ "subject": subject, "comment": comment })),
                    Verdict::Bypass => (
                        "approve",
                        json!({ "subject": subject, "comment": comment, "params": params, "bypass": true }),
                    ),
                };
                (name_of(run, node), verb, body, Twice::Nothing)
            }
            Ask::Start { node, look } => {
                let body = json!({ "confirm": look == Look::Second });
                (name_of(run, node), "start", body, Twice::Nothing)
            }
        };
        let of_run = ["runs".to_owned(), self.run.to_string()].into_iter();
        let of_node = node.into_iter().flat_map(|node| ["nodes".to_owned(), node]);
        let path = of_run.chain(of_node).chain([verb.to_owned()]).collect();
        // Where nobody passes it on any more, the run has ended for this side.
        drop(self.requests.send(Request { path, body, twice }));
        Ok(())
    }
}

fn name_of(run: &Run, node: NodeId) -> Option<String> {
    Some(run.plan()?.node(node)?.name.clone())
}
