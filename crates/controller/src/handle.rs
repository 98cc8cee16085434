//! The way in: what servers and command lines say to a running controller, and what they hear from it.

use std::sync::Arc;

use pipekeeper_backend::{LaunchError, TermName, Terminal, TerminalSize, Told};
use pipekeeper_engine::{Earlier, Event, Input, Rejection, Run, RunRequest};
use pipekeeper_model::{Actor, AttemptId, Millis, RunId};
use pipekeeper_store::DeliveryId;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{Duty, DutyBoard, HeldPods, Hold, IntakeError, KeptBoard, KeptFigures, Locks, Obstacles, Wish};

/// Speaks to a running controller; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) news: broadcast::Sender<News>,
    pub(crate) obstacles: Obstacles,
    pub(crate) held: HeldPods,
    pub(crate) duty: DutyBoard,
    pub(crate) locks: Locks,
    pub(crate) kept: KeptBoard,
}

/// What the controller is told.
#[derive(Debug)]
pub(crate) enum Command {
    Submit {
        run: RunId,
        actor: Actor,
        input: Input,
        reply: oneshot::Sender<Result<(), SubmitError>>,
    },
    Create {
        actor: Actor,
        request: Arc<RunRequest>,
        reply: oneshot::Sender<Result<RunId, SubmitError>>,
    },
    Wish {
        actor: Actor,
        wish: Wish,
        reply: oneshot::Sender<Result<RunId, SubmitError>>,
    },
    Retry {
        run: RunId,
        actor: Actor,
        which: RetryWhich,
        earlier: Earlier,
        reply: oneshot::Sender<Result<RunId, SubmitError>>,
    },
    Processes {
        attempt: AttemptId,
        reply: oneshot::Sender<Result<String, LaunchError>>,
    },
    Debug {
        wish: Box<DebugWish>,
        told: mpsc::Sender<Told>,
        reply: oneshot::Sender<Result<Terminal, LaunchError>>,
    },
    Release {
        attempt: AttemptId,
        reply: oneshot::Sender<Result<bool, LaunchError>>,
    },
    DeliveryStored,
    CachesRemoved,
    Drain,
}

/// A shell that a person wants.
#[derive(Debug)]
pub struct DebugWish {
    /// The run, as it ended.
    pub run: Run,
    /// Where the person is to stand.
    pub hold: Hold,
    /// Which containers they look into.
    pub into: LookInto,
    /// How long the shell may be open.
    pub limit: Millis,
    /// The person's terminal.
    pub size: TerminalSize,
    /// What that terminal is called.
    pub term: TermName,
}

/// Which containers a person looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookInto {
    /// Those of the attempt itself, if they are held as its failing step left them; else new ones.
    Held,
    /// New ones that are made like them.
    New,
}

/// Which nodes of a finished run `pipe retry` runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryWhich {
    /// All of them.
    All,
    /// Those that did not succeed, and what comes after them.
    Failed,
}

/// Why a request to the controller led to nothing.
#[derive(Clone, Debug, Error)]
pub enum SubmitError {
    /// The engine refused it.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    /// The run was set aside.
    #[error("run {run} is quarantined: {reason}")]
    Quarantined {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// The plan asks for what the backend or this version cannot do.
    #[error("the pipeline uses what this server cannot do: {what}")]
    Unsupported {
        /// Which keys, with their places.
        what: String,
    },
    /// The run could not be made from its source.
    #[error("{0}")]
    Intake(#[from] IntakeError),
    /// The store cannot write now; trying again later may work.
    #[error("the server cannot store anything now: {reason}")]
    Unavailable {
        /// What the store said.
        reason: String,
    },
    /// The controller is shutting down.
    #[error("the server is shutting down")]
    Closed,
}

/// What happened, for pages, terminals and whoever listens. Hints: the store has the truth.
#[derive(Clone, Debug)]
pub enum News {
    /// A run has new events.
    Run {
        /// The run.
        run: RunId,
        /// How many events it has now.
        version: u64,
        /// The newest of them; none where another server stored them.
        events: Arc<[Event]>,
    },
    /// Something about a live attempt that is not recorded.
    Attempt {
        /// The attempt.
        attempt: AttemptId,
        /// What.
        what: AttemptNews,
    },
    /// A delivery was settled.
    Delivery(DeliveryId),
    /// Attempts that another server sees to may have gone on: their logs may have grown.
    Elsewhere,
}

/// News of a live attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptNews {
    /// Something keeps it from starting.
    Waiting {
        /// What.
        reason: String,
    },
    /// A step began.
    StepStarted {
        /// Its index.
        step: usize,
    },
    /// The log has so many bytes now.
    LogGrew {
        /// How many.
        bytes: u64,
    },
    /// It has been silent.
    Silent {
        /// For how many seconds.
        seconds: u64,
        /// Its processes, for people.
        processes: String,
    },
}

impl Handle {
    /// What keeps launched attempts from starting.
    pub fn obstacles(&self) -> Obstacles {
        self.obstacles.clone()
    }

    /// What the controller does at present.
    pub fn duty(&self) -> Duty {
        self.duty.duty()
    }

    /// Which pods are held for people.
    pub fn held(&self) -> HeldPods {
        self.held.clone()
    }

    /// The locks that runs have and wait for.
    pub fn locks(&self) -> Locks {
        self.locks.clone()
    }

    /// What is kept of ended runs, and what went.
    pub fn kept(&self) -> KeptFigures {
        self.kept.figures()
    }

    /// What runs in a live attempt: one process a line, for people.
    ///
    /// # Errors
    /// If nothing of it runs, or its supervisor does not answer.
    pub async fn processes(&self, attempt: AttemptId) -> Result<String, LaunchError> {
        self.ask_backend(|reply| Command::Processes { attempt, reply })
            .await
    }

    /// Opens a shell where a step of an ended attempt began. What happens before is told; once nobody hears that, nobody
    /// wants the shell any more.
    ///
    /// # Errors
    /// If it cannot be made again up to there, or ran where no shell can be opened.
    pub async fn debug(&self, wish: DebugWish, told: mpsc::Sender<Told>) -> Result<Terminal, LaunchError> {
        let wish = Box::new(wish);
        self.ask_backend(|reply| Command::Debug { wish, told, reply })
            .await
    }

    /// Lets the held pod of an ended attempt go before its time; false if none is held.
    ///
    /// # Errors
    /// If somebody looks into it.
    pub async fn release(&self, attempt: AttemptId) -> Result<bool, LaunchError> {
        let was_held = self
            .ask_backend(|reply| Command::Release { attempt, reply })
            .await?;
        if was_held {
            // It goes, though it may take its time.
            self.held.note(attempt, None);
        }
        Ok(was_held)
    }

    /// Gives an input to a run and waits until its consequences are stored.
    ///
    /// # Errors
    /// If the run refuses it, is not there, or nothing can be stored.
    pub async fn submit(&self, run: RunId, actor: Actor, input: Input) -> Result<(), SubmitError> {
        self.ask(|reply| Command::Submit {
            run,
            actor,
            input,
            reply,
        })
        .await
    }

    /// Makes a run of a request.
    ///
    /// # Errors
    /// If its plan is refused or nothing can be stored.
    pub async fn create(&self, actor: Actor, request: Arc<RunRequest>) -> Result<RunId, SubmitError> {
        self.ask(|reply| Command::Create {
            actor,
            request,
            reply,
        })
        .await
    }

    /// Makes a run that a person asks for: fetches, plans, creates.
    ///
    /// # Errors
    /// If project, pipeline or revision are not there, the file is wrong, or nothing can be stored.
    pub async fn wish(&self, actor: Actor, wish: Wish) -> Result<RunId, SubmitError> {
        self.ask(|reply| Command::Wish { actor, wish, reply }).await
    }

    /// Makes a new run on the plan of a finished one.
    ///
    /// # Errors
    /// If it is not finished or not there, or nothing can be stored.
    pub async fn retry(
        &self,
        run: RunId,
        actor: Actor,
        which: RetryWhich,
        earlier: Earlier,
    ) -> Result<RunId, SubmitError> {
        self.ask(|reply| Command::Retry {
            run,
            actor,
            which,
            earlier,
            reply,
        })
        .await
    }

    /// Says that a delivery was stored. Only a hint: forgetting it costs time, not the delivery.
    pub fn delivery_stored(&self) {
        // A full queue means that the controller will look at the store anyway.
        let _ = self.commands.try_send(Command::DeliveryStored);
    }

    /// Says that caches were removed. Only a hint: what is left of them in object stores is looked for anyway.
    pub fn caches_removed(&self) {
        // A full queue costs an hour.
        let _ = self.commands.try_send(Command::CachesRemoved);
    }

    /// Listens to what happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Asks the controller to end: nothing new starts, what is stored stays, attempts work on.
    pub async fn drain(&self) {
        // A closed channel means that it has ended.
        let _ = self.commands.send(Command::Drain).await;
    }

    async fn ask_backend<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, LaunchError>>) -> Command,
    ) -> Result<T, LaunchError> {
        let (reply, answer) = oneshot::channel();
        let closed = || LaunchError::Transient {
            reason: "the server is shutting down".to_owned(),
        };
        self.commands.send(command(reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, SubmitError>>) -> Command,
    ) -> Result<T, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| SubmitError::Closed)?;
        answer.await.map_err(|_| SubmitError::Closed)?
    }
}
