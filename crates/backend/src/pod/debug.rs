//! A session in which a person looks into an attempt: a pod of the same plan, with one that waits in the place of the step.
//!
//! To the pod it is an attempt like any other, with a ticket of its own and without secrets; but it is observed here alone,
//! and gone with its session. Should this process die, the pod ends itself and the next sweep removes it. Entry function:
//! [`open`].

use std::{
    collections::BTreeMap,
    io::{self, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use pipekeeper_model::{AttemptId, AttemptOutcome, AttemptRecord, Millis, plan::Reports};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{OpenError, Opened, PodState, backend::Shared, lane::Order, mirror::Mirror, order::paths};
use crate::{
    DebugOrder, KeepWorkspace, Launch, LaunchError, LaunchScript, Observation, Orphan, TermName, Terminal,
    TerminalSize, Ticket, Told, What,
    debug::{FIRST_SESSION, Keep, REMOVED},
};

/// How long a pod stays whose person's connection is gone, so that a short break of it does no harm.
const ALONE: Millis = Millis::seconds(60);
/// How long more of a log is waited for, before a shell opens.
const TRAILING: Duration = Duration::from_millis(300);
/// The pauses while a cluster does not take a pod, or does not let go of one.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a cluster may not take a pod.
const TAKE_PATIENCE: Duration = Duration::from_secs(120);
/// How long a pod may take to end by itself, and the pause between two looks whether it did.
const FAREWELL: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often a pod's removal is tried; a sweep repeats it.
const REMOVALS: usize = 3;
/// How often the terminal is tried.
const OPENINGS: usize = 5;
/// Bytes of the log that are told at once.
const CHUNK: u64 = 64 << 10;

/// The sessions of a backend, each with its own ear.
#[derive(Default)]
pub(super) struct Sessions(Mutex<BTreeMap<AttemptId, mpsc::UnboundedSender<Observation>>>);

impl Sessions {
    /// Who is to hear of an attempt, if it is a session's.
    pub(super) fn listener(&self, attempt: AttemptId) -> Option<mpsc::UnboundedSender<Observation>> {
        self.all().get(&attempt).cloned()
    }

    /// Whether a session is there.
    pub(super) fn has(&self, attempt: AttemptId) -> bool {
        self.all().contains_key(&attempt)
    }

    /// Takes a number that no session has, and none had before this process.
    fn begin(&self, like: AttemptId) -> (AttemptId, mpsc::UnboundedReceiver<Observation>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut number =
            u32::try_from(since.unwrap_or_default().as_secs() % u64::from(FIRST_SESSION)).unwrap_or_default();
        let mut all = self.all();
        let attempt = loop {
            let attempt = AttemptId {
                number: FIRST_SESSION + number,
                ..like
            };
            if !all.contains_key(&attempt) {
                break attempt;
            }
            number = (number + 1) % FIRST_SESSION;
        };
        let (ear, observations) = mpsc::unbounded_channel();
        all.insert(attempt, ear);
        (attempt, observations)
    }

    /// Hears of a session in the place of whoever did before.
    fn listen(&self, attempt: AttemptId) -> mpsc::UnboundedReceiver<Observation> {
        let (ear, observations) = mpsc::unbounded_channel();
        self.all().insert(attempt, ear);
        observations
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<AttemptId, mpsc::UnboundedSender<Observation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there as long as the session is.
struct Kept {
    shared: Arc<Shared>,
    attempt: AttemptId,
    is_removed: bool,
}

impl Kept {
    async fn take_away(mut self) {
        self.is_removed = true;
        remove(Arc::clone(&self.shared), self.attempt).await;
    }
}

impl Keep for Kept {
    fn remove(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.take_away())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Without a runtime the pod ends itself, and the next sweep removes it.
        if !self.is_removed
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(remove(Arc::clone(&self.shared), self.attempt));
        }
    }
}

/// Removes a session's pod, and lets the sweep have what could not be removed.
async fn remove(shared: Arc<Shared>, attempt: AttemptId) {
    if timeout(FAREWELL, part(&shared, attempt)).await.is_err() {
        tracing::debug!(attempt.id = %attempt, "the pod of a session does not end by itself");
    }
    for _ in 0..REMOVALS {
        match shared.ask(attempt, Order::Forget).await {
            Ok(()) => break,
            Err(error) => {
                tracing::info!(attempt.id = %attempt, "the pod of a session is removed later: {error}");
                sleep(AGAIN).await;
            }
        }
    }
    shared.sessions.all().remove(&attempt);
}

/// Lets the pod end by itself: a cluster may take a minute for one that does not.
async fn part(shared: &Arc<Shared>, attempt: AttemptId) {
    let mut observations = shared.sessions.listen(attempt);
    if shared.ask(attempt, Order::Stop(Millis(0))).await.is_err() {
        return;
    }
    while let Some(observed) = observations.recv().await {
        match observed.what {
            What::Finished { .. } | What::Gone { .. } | What::Hopeless { .. } => break,
            What::Waiting { .. }
            | What::CheckedIn { .. }
            | What::StepStarted { .. }
            | What::LogGrew { .. }
            | What::Silent { .. }
            | What::Held { .. } => {}
        }
    }
    while !matches!(shared.host.look(attempt).await, Ok(PodState::Absent)) {
        sleep(LOOK_AGAIN).await;
    }
}

/// Makes the pod, lets the steps before run, and opens the shell.
pub(super) async fn open(shared: &Arc<Shared>, order: DebugOrder) -> Result<Terminal, LaunchError> {
    let (attempt, observations) = shared.sessions.begin(order.launch.attempt);
    let kept = Kept {
        shared: Arc::clone(shared),
        attempt,
        is_removed: false,
    };
    let log = shared
        .attempts_folder()
        .join(attempt.to_string())
        .join("session.log");
    let mut session = Session {
        shared,
        attempt,
        observations,
        told: order.told.clone(),
        log: log.clone(),
        offset: 0,
        last: order.launch.steps.len().saturating_sub(1),
    };
    let launch = held(order.launch, attempt, order.limit, log)?;
    let names: Vec<String> = launch.steps.iter().map(|step| step.name.clone()).collect();
    let told = order.told;
    let opened = async {
        session.launch(launch).await?;
        session.wait(&names).await?;
        session.terminal(order.size, &order.term).await
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = told.closed() => Err(left()),
    };
    match opened {
        Ok((stream, sizes)) => Ok(Terminal {
            stream,
            sizes,
            afterwards: REMOVED.to_owned(),
            keep: Box::new(kept),
        }),
        Err(error) => {
            kept.take_away().await;
            Err(error)
        }
    }
}

/// The launch of a session: it keeps nothing, writes nothing that others read, and waits in the place of its last step.
fn held(mut launch: Launch, attempt: AttemptId, limit: Millis, log: PathBuf) -> Result<Launch, LaunchError> {
    let last = launch.steps.last_mut().ok_or_else(|| LaunchError::Terminal {
        reason: "the action has no step".to_owned(),
    })?;
    let program = format!("{}/agent", paths::TOOLS);
    let seconds = limit.0.div_ceil(1000).to_string();
    last.script = LaunchScript::Command(vec![program, "hold".to_owned(), seconds]);
    last.timeout = None;
    launch.attempt = attempt;
    launch.artifacts.clear();
    launch.reports = Reports::default();
    for cache in &mut launch.caches {
        cache.save_to = None;
    }
    // What others would see changed; without it the steps do as in a new place.
    launch.volumes.clear();
    launch.timeout = Millis(launch.timeout.0.saturating_add(limit.0));
    launch.log = log;
    launch.keep_workspace = KeepWorkspace::Never;
    launch.may_share = false;
    launch.has_secret_files = false;
    launch.orphan = Orphan::StopAfter(ALONE);
    launch.placement.action = format!("{} (debug)", launch.placement.action);
    Ok(launch)
}

/// Opens a shell in the place of the process that holds in this container.
pub(super) async fn terminal(
    shared: &Shared,
    attempt: AttemptId,
    container: usize,
    (size, term): (TerminalSize, &TermName),
) -> Result<Opened, LaunchError> {
    let program = format!("{}/agent", paths::TOOLS);
    let words = [program.as_str(), "shell", term.as_str()];
    let mut tries = 0;
    loop {
        tries += 1;
        match shared.host.terminal(attempt, container, &words, size).await {
            Ok(opened) => return Ok(opened),
            Err(OpenError::NotRunning | OpenError::Unreachable(_)) if tries < OPENINGS => sleep(AGAIN).await,
            Err(error) => {
                return Err(LaunchError::Transient {
                    reason: format!("the terminal does not open: {error}"),
                });
            }
        }
    }
}

pub(super) fn left() -> LaunchError {
    LaunchError::Terminal {
        reason: "nobody waits for the shell any more".to_owned(),
    }
}

/// A session before its shell is open.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    attempt: AttemptId,
    observations: mpsc::UnboundedReceiver<Observation>,
    told: mpsc::Sender<Told>,
    log: PathBuf,
    /// How much of the log was told.
    offset: u64,
    /// The index of the step that does not run.
    last: usize,
}

impl Session<'_> {
    async fn launch(&mut self, launch: Launch) -> Result<(), LaunchError> {
        let begun = Instant::now();
        loop {
            let order = Order::Launch(Box::new(launch.clone()));
            match self.shared.ask(self.attempt, order).await {
                Err(LaunchError::Transient { reason } | LaunchError::Occupied { reason, .. })
                    if begun.elapsed() < TAKE_PATIENCE =>
                {
                    self.note(reason).await?;
                    sleep(AGAIN).await;
                }
                launched => return launched,
            }
        }
    }

    /// Waits until the steps before have run.
    async fn wait(&mut self, names: &[String]) -> Result<(), LaunchError> {
        loop {
            let observed = self.observations.recv().await.ok_or_else(left)?;
            match observed.what {
                What::CheckedIn { holder } => {
                    let go = Ticket::Go { secrets: Vec::new() };
                    self.shared.ask(self.attempt, Order::Answer(holder, go)).await?;
                }
                What::Waiting { reason } => self.note(reason).await?,
                What::LogGrew { .. } => self.tell_log().await?,
                What::StepStarted { step } if step == self.last => return self.tell_rest_of_log().await,
                What::StepStarted { .. } | What::Silent { .. } | What::Held { .. } => {}
                What::Finished { record, .. } => {
                    self.tell_log().await?;
                    return Err(ended_early(&record, names));
                }
                What::Hopeless { reason } | What::Gone { reason } => {
                    return Err(LaunchError::Terminal { reason });
                }
            }
        }
    }

    /// The log comes by itself, and its end may come after the word that the next step begins.
    async fn tell_rest_of_log(&mut self) -> Result<(), LaunchError> {
        self.tell_log().await?;
        while let Ok(Some(observed)) = timeout(TRAILING, self.observations.recv()).await {
            if let What::LogGrew { .. } = observed.what {
                self.tell_log().await?;
            }
        }
        Ok(())
    }

    async fn terminal(&mut self, size: TerminalSize, term: &TermName) -> Result<Opened, LaunchError> {
        let broken = |error: io::Error| LaunchError::Transient {
            reason: error.to_string(),
        };
        let order = Mirror::new(&self.shared.attempts_folder(), self.attempt)
            .read_order()
            .map_err(broken)?;
        let step = order.as_ref().and_then(|order| order.spec.steps.last());
        let container = step.map_or(0, |step| step.container);
        terminal(self.shared, self.attempt, container, (size, term)).await
    }

    async fn note(&self, text: String) -> Result<(), LaunchError> {
        self.told.send(Told::Note(text)).await.map_err(|_| left())
    }

    /// Tells what came of the log since.
    async fn tell_log(&mut self) -> Result<(), LaunchError> {
        loop {
            let bytes = match self.read_log().await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::debug!(attempt.id = %self.attempt, "the log of a session: {error}");
                    return Ok(());
                }
            };
            if bytes.is_empty() {
                return Ok(());
            }
            self.offset += u64::try_from(bytes.len()).unwrap_or_default();
            self.told.send(Told::Log(bytes)).await.map_err(|_| left())?;
        }
    }

    async fn read_log(&self) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(&self.log).await?;
        file.seek(SeekFrom::Start(self.offset)).await?;
        let mut bytes = Vec::new();
        file.take(CHUNK).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// Why there is no shell: a step before did not come through this time.
fn ended_early(record: &AttemptRecord, names: &[String]) -> LaunchError {
    let ran = record.steps.len().saturating_sub(1);
    let name = names.get(ran).map(String::as_str).unwrap_or_default();
    let why = record.reason.as_deref().unwrap_or("it ended");
    let reason = match record.outcome {
        AttemptOutcome::Failed => format!(
            "`{name}`, a step before, failed this time ({why}); to stand before it, name it with `--step`"
        ),
        AttemptOutcome::Succeeded
        | AttemptOutcome::TimedOut
        | AttemptOutcome::Cancelled
        | AttemptOutcome::Errored
        | AttemptOutcome::Lost => format!("it ended before its shell opened: {why}"),
    };
    LaunchError::Terminal { reason }
}
