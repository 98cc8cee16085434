//! What people want of a run on a server, told it one after the other, once it answers. Entry function: [`pass_on`].

use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

use super::PAUSE;
use crate::{
    client::Client,
    failure::{Exit, Failure},
    follow::Heard,
    term,
};

/// A request.
pub(super) struct Request {
    pub(super) path: Vec<String>,
    pub(super) body: Value,
    pub(super) twice: Twice,
}

/// What a request does that comes a second time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Twice {
    /// Nothing.
    Nothing,
    /// More than the first.
    More,
}

/// Passes on what is asked for; what the server refuses is told in the place of what happens in the run.
pub(super) async fn pass_on(
    client: Client,
    mut requests: mpsc::UnboundedReceiver<Request>,
    tell: mpsc::WeakSender<Result<Heard, Failure>>,
) {
    while let Some(request) = requests.recv().await {
        let Err(failure) = insist(&client, &request).await else {
            continue;
        };
        if let Some(tell) = tell.upgrade() {
            // Whoever listened has left, or hears why.
            drop(tell.send(Err(failure)).await);
        }
    }
}

/// Asks until the server has heard it.
async fn insist(client: &Client, request: &Request) -> Result<(), Failure> {
    let mut was_told = false;
    loop {
        let Err(failure) = ask(client, request).await else {
            return Ok(());
        };
        match failure.exit {
            Exit::Ours => {}
            // The run has moved on meanwhile.
            Exit::Usage => return Ok(()),
            Exit::Done | Exit::RunFailed | Exit::NotFound | Exit::TimedOut | Exit::Interrupted => {
                return Err(failure);
            }
        }
        if !was_told {
            term::warn(format_args!(
                "{}; the server is told as soon as it answers",
                failure.message
            ));
            was_told = true;
        }
        sleep(PAUSE).await;
    }
}

async fn ask(client: &Client, request: &Request) -> Result<(), Failure> {
    client.ready().await?;
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match client.post(&path, &request.body).await {
        Err(failure) if failure.exit == Exit::Ours && request.twice == Twice::More => {
            term::warn(format_args!(
                "{}; nobody knows whether the server heard that: interrupt again if the run goes on",
                failure.message
            ));
            Ok(())
        }
        told => told.map(drop),
    }
}
