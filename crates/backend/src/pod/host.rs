//! What a host of pods can do. Entry type: [`PodHost`].

use std::time::Duration;

use async_trait::async_trait;
use pipekeeper_model::{AttemptId, Name};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use super::PodPlan;
use crate::{LaunchError, Placement, TerminalSize, TerminalStream};

/// Makes pods, watches them and opens streams into them.
#[async_trait]
pub trait PodHost: Send + Sync + 'static {
    /// Creates the attempt's pod, or adopts it if it is there.
    ///
    /// # Errors
    /// If the cluster does not take it now, or never will.
    async fn create(&self, pod: &PodPlan) -> Result<(), LaunchError>;

    /// Where in the host pods of this kind are, if that is known before they are made.
    fn home(&self, _placement: &Placement) -> Option<String> {
        None
    }

    /// Hears where the pod of an attempt was to be made, by whichever server: then what hides other pods does not hide it.
    fn was_to_be(&self, _attempt: AttemptId, _home: &str) {}

    /// Opens a stream to the program in the supervisor's container.
    ///
    /// # Errors
    /// If its container does not run yet, or any more, or the cluster cannot be reached.
    async fn open(&self, attempt: AttemptId, role: StreamRole) -> Result<Box<dyn PodStream>, OpenError>;

    /// Starts a program in the container of a step, on a terminal of this size, and connects to it. It ends with the
    /// container, whatever becomes of the stream.
    ///
    /// # Errors
    /// As [`PodHost::open`] says.
    async fn terminal(
        &self,
        attempt: AttemptId,
        container: usize,
        words: &[&str],
        size: TerminalSize,
    ) -> Result<Opened, OpenError>;

    /// Asks the cluster itself, never a cache, what there is of an attempt.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn look(&self, attempt: AttemptId) -> Result<PodState, LaunchError>;

    /// Who had a volume before this attempt that it must have to itself, for people; none if nobody has it. Asks the cluster
    /// itself: two servers may have made pods at the same moment, of which only the first may start.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn occupant(&self, _attempt: AttemptId) -> Result<Option<String>, LaunchError> {
        Ok(None)
    }

    /// Removes the pod with all that was made for it; one that is not there counts as removed.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn remove(&self, attempt: AttemptId) -> Result<(), LaunchError>;

    /// Hears that nothing runs in a pod any more, before the cluster notices: its removal need not wait for anything.
    fn has_left(&self, _attempt: AttemptId) {}

    /// The attempts that pods of ours are there for.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError>;

    /// What ended the container of a step, for people; none as long as the cluster does not say that it ended.
    ///
    /// # Errors
    /// If the cluster does not answer.
    async fn container_end(
        &self,
        attempt: AttemptId,
        container: usize,
    ) -> Result<Option<String>, LaunchError>;

    /// What a container wrote, from the log that its host keeps.
    ///
    /// # Errors
    /// If there is nothing to read.
    async fn container_log(&self, attempt: AttemptId, of: LogOf<'_>) -> Result<Vec<u8>, LaunchError>;

    /// Tells what becomes of the pods, from now on. Called once.
    fn watch(&self, seen: mpsc::UnboundedSender<(AttemptId, PodState)>);

    /// How long a pod took lately from its creation until its supervisor could be reached.
    fn usual_start(&self) -> Duration;

    /// How pods of this host serve more than one attempt; none if each serves one.
    fn sharing(&self) -> Option<&dyn PodSharing> {
        None
    }
}

/// Pods that serve one attempt after the other.
#[async_trait]
pub trait PodSharing: Send + Sync {
    /// What two pods have in common of which either could do the other's work; none if nobody else may have this one.
    fn likeness(&self, pod: &PodPlan) -> Option<String>;

    /// Makes the pod of an attempt that ended another's, as which it is known from then on. It may be repeated.
    ///
    /// # Errors
    /// If the pod is not there any more, or the cluster does not take it.
    async fn hand_over(&self, from: AttemptId, to: &PodPlan) -> Result<(), LaunchError>;
}

/// A stream into a pod.
pub trait PodStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PodStream for T {}

/// A terminal: its stream, and where its sizes go from now on.
pub type Opened = (Box<dyn TerminalStream>, mpsc::Sender<TerminalSize>);

/// Whose log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOf<'a> {
    /// All of the supervisor's: the way to an attempt's log whose supervisor is gone.
    Supervisor,
    /// The last lines of a service, which nobody else tells.
    Service(&'a Name),
}

impl LogOf<'_> {
    /// How many lines of it are wanted; none means all.
    pub fn lines(self) -> Option<u16> {
        match self {
            Self::Supervisor => None,
            Self::Service(_) => Some(30),
        }
    }
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRole {
    /// Messages and the log.
    Control,
    /// Files into the pod.
    Put,
    /// Files out of it.
    Get,
}

impl StreamRole {
    /// The argument that the program in the container is given.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Control => "attach",
            Self::Put => "put",
            Self::Get => "get",
        }
    }
}

/// A stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The container does not run yet, or any more.
    #[error("its supervisor does not run")]
    NotRunning,
    /// The cluster said no, or nothing.
    #[error("{0}")]
    Unreachable(String),
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// There is none.
    Absent,
    /// Its supervisor does not run yet.
    Waiting(Option<Why>),
    /// Its supervisor runs; something may keep the others from it.
    Running(Option<Why>),
    /// Its supervisor runs, and the cluster was told to end it.
    Going,
    /// No container of it will run any more.
    Ended {
        /// What ended it.
        reason: String,
    },
}

/// Why a pod does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// For people: what is in the way, and what to do about it.
    pub text: String,
    /// How long that may last.
    pub patience: Duration,
    /// What it is about.
    pub cause: Cause,
}

/// What keeps a pod from going on; each has its own patience, which begins when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No node takes it.
    Node,
    /// An image cannot be had.
    Image,
    /// The cluster pauses before it tries an image again. What is wrong with it was told before, if anybody heard it.
    ImagePause,
    /// A container cannot be made, or ended before its time.
    Container,
    /// What stands beside the steps is not ready.
    Service,
}

impl Cause {
    /// Whether both are about the same.
    pub fn is_same(self, other: Self) -> bool {
        let plain = |cause| {
            if cause == Self::ImagePause {
                Self::Image
            } else {
                cause
            }
        };
        plain(self) == plain(other)
    }
}
