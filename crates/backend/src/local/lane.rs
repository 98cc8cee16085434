//! One attempt's lane: its calls one after the other, and its stream. Entry type: [`Lane`].

use std::{io, sync::Arc, time::Duration};

use pipekeeper_agent::protocol::{AttemptSpec, ExitRecord, FromAgent, StoreAccess, ToAgent};
use pipekeeper_model::{AttemptId, Holder, Millis};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    Shared, blocking,
    folder::Folder,
    forget,
    reach::{Purpose, Reached, reach},
    to_launch_error,
    wire::Wire,
};
use crate::{LaunchError, Observation, Ticket, What, processes::Lookers, record::collect, spec::to_answer};

const FIRST_LOOK: Duration = Duration::from_millis(1);
const RARE_LOOK: Duration = Duration::from_secs(1);

/// A call, and where its result goes.
pub(super) struct Request {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<(), LaunchError>>,
}

/// What is asked; it has no `Debug`, because a ticket carries secrets.
pub(super) enum Order {
    Launch(Box<AttemptSpec>),
    Answer(Holder, Ticket),
    Stop(Millis),
    Observe,
    /// Somebody wants to know what runs.
    Look(oneshot::Sender<String>),
    Forget,
}

/// The task of one attempt.
pub(super) struct Lane {
    shared: Arc<Shared>,
    attempt: AttemptId,
    folder: Folder,
    link: Link,
    seen: Seen,
    lookers: Lookers,
}

/// How it is connected to its supervisor.
enum Link {
    Down,
    Up(Wire),
    /// The stream ended while the supervisor lived: it is ending, or a newer backend took it over. Taking it back
    /// would be a quarrel without end, so this only looks, ever more rarely, and reconnects when asked something.
    Lost(Duration),
}

/// What was observed on this stream, to be told again.
#[derive(Default)]
struct Seen {
    holder: Option<Holder>,
    step: Option<usize>,
    log_bytes: Option<u64>,
}

enum Happening {
    Request(Option<Request>),
    Message(Option<FromAgent>),
    TimeToLook,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, attempt: AttemptId) -> Self {
        let folder = Folder::new(&shared.attempts_folder(), attempt);
        Self {
            shared,
            attempt,
            folder,
            link: Link::Down,
            seen: Seen::default(),
            lookers: Lookers::default(),
        }
    }

    /// Serves until there is nothing left to do, or the backend is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        loop {
            let happening = tokio::select! {
                request = requests.recv() => Happening::Request(request),
                happening = self.link.next() => happening,
            };
            match happening {
                Happening::Request(None) => return,
                Happening::Request(Some(Request { order, reply })) => {
                    let result = self.obey(order).await.map_err(|error| self.explain(&error));
                    // The caller may have given up: the state is observed all the same.
                    let _ = reply.send(result);
                }
                Happening::Message(Some(message)) => self.hear(message).await,
                Happening::Message(None) => self.link = Link::Lost(FIRST_LOOK),
                Happening::TimeToLook => self.settle().await,
            }
            if matches!(self.link, Link::Down) && self.shared.lanes.retire(self.attempt, &requests) {
                return;
            }
        }
    }

    async fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Launch(spec) => {
                let launched = self.observe(Purpose::Start(spec)).await;
                self.shared.refill();
                launched
            }
            Order::Observe => self.observe(Purpose::Observe).await,
            Order::Look(teller) => {
                self.observe(Purpose::Observe).await?;
                // Who cannot be asked tells nothing, which shows as silence.
                if self.tell(&ToAgent::Look).await {
                    self.lookers.add(teller);
                }
                Ok(())
            }
            Order::Stop(grace) => self.stop(grace).await,
            Order::Answer(holder, ticket) => self.answer(&holder, ticket).await,
            Order::Forget => {
                let (folder, root) = (self.folder.clone(), self.shared.options.root.clone());
                let attempt = self.attempt;
                blocking(move || forget::forget(&root, attempt, &folder)).await?;
                self.link = Link::Down;
                Ok(())
            }
        }
    }

    async fn observe(&mut self, purpose: Purpose) -> io::Result<()> {
        if let Link::Up(_) = self.link {
            self.repeat();
            return Ok(());
        }
        self.reach(purpose).await
    }

    async fn stop(&mut self, grace: Millis) -> io::Result<()> {
        let stop = ToAgent::Stop { grace_ms: grace.0 };
        if self.tell(&stop).await {
            return Ok(());
        }
        self.reach(Purpose::Stop).await?;
        // A supervisor that ends before it hears this is looked at when its stream ends.
        self.tell(&stop).await;
        Ok(())
    }

    /// An answer to a supervisor that is not there leads to a new observation, which will be answered anew.
    async fn answer(&mut self, holder: &Holder, ticket: Ticket) -> io::Result<()> {
        let connected = matches!(self.link, Link::Up(_));
        let stale = connected && self.seen.holder.as_ref() != Some(holder);
        let answer = to_answer(holder, ticket, StoreAccess::default());
        if stale || self.tell(&answer).await {
            return Ok(());
        }
        self.reach(Purpose::Observe).await
    }

    /// Sends a message; false if there is nobody to hear it.
    async fn tell(&mut self, message: &ToAgent) -> bool {
        let Link::Up(wire) = &mut self.link else {
            return false;
        };
        let sent = wire.send(message).await;
        if sent.is_err() {
            self.link = Link::Lost(FIRST_LOOK);
        }
        sent.is_ok()
    }

    async fn reach(&mut self, purpose: Purpose) -> io::Result<()> {
        let (shared, folder) = (Arc::clone(&self.shared), self.folder.clone());
        match blocking(move || reach(&shared.options, &shared.spares, &folder, &purpose)).await? {
            Reached::Connected(stream) => {
                self.seen = Seen::default();
                self.link = Link::Up(Wire::new(stream)?);
            }
            Reached::Alive => {
                let pause = if let Link::Lost(pause) = self.link {
                    pause
                } else {
                    FIRST_LOOK
                };
                self.link = Link::Lost(RARE_LOOK.min(pause * 4));
            }
            Reached::Finished(record) => self.finish(*record).await?,
            Reached::Gone(reason) => {
                self.link = Link::Down;
                self.report(What::Gone { reason });
            }
        }
        Ok(())
    }

    async fn settle(&mut self) {
        if let Err(error) = self.reach(Purpose::Settle).await {
            tracing::warn!(attempt = %self.attempt, %error, "looking after an attempt failed");
            self.link = Link::Lost(RARE_LOOK);
        }
    }

    async fn hear(&mut self, message: FromAgent) {
        match message {
            FromAgent::CheckedIn { holder, .. } => {
                let holder = Holder(holder);
                self.seen.holder = Some(holder.clone());
                self.report(What::CheckedIn { holder });
            }
            FromAgent::StepStarted { index: step, .. } => {
                self.seen.step = Some(step);
                self.report(What::StepStarted { step });
            }
            FromAgent::LogGrew { bytes } => {
                self.seen.log_bytes = Some(bytes);
                self.report(What::LogGrew { bytes });
            }
            FromAgent::Silent {
                seconds,
                processes,
                cpu_ms,
            } => {
                let processes = format!("{processes} processes, {cpu_ms} ms of CPU time");
                self.report(What::Silent { seconds, processes });
            }
            // The record is read from its file, where the ticket beside it proves that it counts.
            FromAgent::Finished { .. } => self.settle().await,
            FromAgent::Processes { text } => self.lookers.tell(&text),
            FromAgent::Started { .. }
            | FromAgent::Ready { .. }
            | FromAgent::Held
            | FromAgent::Pong
            | FromAgent::Unknown => {}
        }
    }

    async fn finish(&mut self, record: ExitRecord) -> io::Result<()> {
        let holder = Holder(record.holder.clone());
        let (shared, folder, attempt) = (Arc::clone(&self.shared), self.folder.clone(), self.attempt);
        let record =
            blocking(move || Ok(collect(&shared.options.artifacts, attempt, folder.dir(), record))).await?;
        self.link = Link::Down;
        self.report(What::Finished {
            holder,
            record: Box::new(record),
        });
        Ok(())
    }

    fn repeat(&self) {
        let Seen {
            holder,
            step,
            log_bytes,
        } = &self.seen;
        let whats = [
            holder.clone().map(|holder| What::CheckedIn { holder }),
            step.map(|step| What::StepStarted { step }),
            log_bytes.map(|bytes| What::LogGrew { bytes }),
        ];
        whats.into_iter().flatten().for_each(|what| self.report(what));
    }

    fn report(&self, what: What) {
        // Nobody listens any more when the controller is gone; the files tell its successor.
        let _ = self.shared.options.on_observation.send(Observation {
            attempt: self.attempt,
            what,
        });
    }

    fn explain(&self, error: &io::Error) -> LaunchError {
        to_launch_error(&format!("attempt `{}`", self.attempt), error)
    }
}

impl Link {
    /// What happens next; may be dropped and called again.
    async fn next(&mut self) -> Happening {
        match self {
            Self::Down => std::future::pending().await,
            Self::Up(wire) => Happening::Message(wire.next().await),
            Self::Lost(pause) => {
                sleep(*pause).await;
                Happening::TimeToLook
            }
        }
    }
}
