//! The world that a case runs in, and one controller's part in it.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pipekeeper_model::{
    AttemptId, AttemptRecord, Holder, Millis, NodeId, RunId,
    plan::{PodFields, Reports, Resources, Shell},
};
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use crate::{
    Backend, KeepWorkspace, Launch, LaunchScript, LaunchStep, Observation, Orphan, Placement, SourceInput,
    Ticket, Tier, What,
};

/// Longer than anything here takes; a test that reaches it fails.
const DEADLINE: Duration = Duration::from_secs(180);
const REMEMBERED: usize = 20;
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What a backend brings to be tested.
pub trait World: Send + Sync {
    /// A backend over the same state, as a server makes it when it starts anew.
    fn open(&self) -> (Arc<dyn Backend>, UnboundedReceiver<Observation>);

    /// A folder for logs.
    fn folder(&self) -> &Path;

    /// The text of a step that does this; its start must be counted.
    fn text(&self, act: Act) -> String;

    /// How many attempts at once are many here.
    fn many(&self) -> u32 {
        200
    }

    /// How often user code of the attempt was started.
    fn starts(&self, attempt: AttemptId) -> u32;
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It succeeds.
    Succeed,
    /// It fails with this code.
    Fail(i32),
    /// It runs until it is stopped.
    Hang,
}

/// A backend with its observations.
pub struct Session {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// What it sees.
    pub observations: UnboundedReceiver<Observation>,
}

/// The attempt of this node.
pub fn attempt(node: u32) -> AttemptId {
    AttemptId {
        run: RunId(57),
        node: NodeId(node),
        number: 1,
    }
}

/// A launch of one shell step with nothing else to it; `$STARTS` names a file beside its log.
pub fn launch_of(attempt: AttemptId, text: &str, log: &Path) -> Launch {
    let starts = log.with_extension("starts").display().to_string();
    Launch {
        attempt,
        steps: vec![LaunchStep {
            name: "step 1".to_owned(),
            image: None,
            script: LaunchScript::Shell {
                shell: Shell::Sh,
                text: text.to_owned(),
                line: 1,
            },
            env: BTreeMap::new(),
            env_files: BTreeMap::new(),
            timeout: None,
            working_dir: None,
        }],
        env: BTreeMap::from([("STARTS".to_owned(), starts)]),
        env_files: BTreeMap::new(),
        source: SourceInput::Empty,
        inputs: Vec::new(),
        artifacts: BTreeMap::new(),
        caches: Vec::new(),
        reports: Reports::default(),
        timeout: Millis::minutes(5),
        grace: Millis::seconds(5),
        log_limit: 100 << 20,
        log: log.to_owned(),
        keep_workspace: KeepWorkspace::Never,
        orphan: Orphan::WorkOn,
        placement: placement(),
        has_secret_files: false,
        may_share: true,
        services: Vec::new(),
        resources: Resources::default(),
        pod: PodFields::default(),
        volumes: Vec::new(),
    }
}

/// A place for an attempt that is not about places.
pub fn placement() -> Placement {
    let name = |text: &str| match text.parse() {
        Ok(name) => name,
        Err(error) => panic!("{error}"),
    };
    Placement {
        project: name("suite"),
        pipeline: name("contract"),
        action: "case".to_owned(),
        tier: Tier::Protected,
        cluster: None,
    }
}

impl Session {
    /// Opens a backend of this world.
    pub fn open(world: &(impl World + ?Sized)) -> Self {
        let (backend, observations) = world.open();
        Self {
            backend,
            observations,
        }
    }

    /// Launches an attempt that does this.
    pub async fn launch(&self, world: &(impl World + ?Sized), attempt: AttemptId, act: Act) {
        let log = log_of(world.folder(), attempt);
        must(
            self.backend
                .launch(launch_of(attempt, &world.text(act), &log))
                .await,
        );
    }

    /// Gives the ticket.
    pub async fn go(&self, attempt: AttemptId, holder: &Holder) {
        must(
            self.backend
                .answer(attempt, holder, Ticket::Go { secrets: Vec::new() })
                .await,
        );
    }

    /// Waits for what `pick` picks of the observations of an attempt; panics when it does not come.
    ///
    /// As controllers do, it asks for the present state from time to time.
    pub async fn until<T>(&mut self, attempt: AttemptId, mut pick: impl FnMut(&What) -> Option<T>) -> T {
        let mut seen = VecDeque::new();
        let search = async {
            loop {
                let Ok(observation) = timeout(ASK_AGAIN, self.observations.recv()).await else {
                    must(self.backend.observe(attempt).await);
                    continue;
                };
                let Some(observation) = observation else {
                    panic!("the backend ended its observations")
                };
                let picked = (observation.attempt == attempt)
                    .then(|| pick(&observation.what))
                    .flatten();
                seen.truncate(REMEMBERED);
                seen.push_front(observation);
                if let Some(picked) = picked {
                    return picked;
                }
            }
        };
        match timeout(DEADLINE, search).await {
            Ok(picked) => picked,
            Err(_) => panic!("waited in vain for `{attempt}`, seen, newest first: {seen:?}"),
        }
    }

    /// The next observation of any attempt.
    pub async fn any(&mut self) -> (AttemptId, What) {
        match timeout(DEADLINE, self.observations.recv()).await {
            Ok(Some(Observation { attempt, what })) => (attempt, what),
            Ok(None) | Err(_) => panic!("waited in vain for anything"),
        }
    }

    /// Waits for its check-in.
    pub async fn checked_in(&mut self, attempt: AttemptId) -> Holder {
        let pick = |what: &What| {
            if let What::CheckedIn { holder } = what {
                Some(holder.clone())
            } else {
                None
            }
        };
        self.until(attempt, pick).await
    }

    /// Gives the ticket at each check-in until the first step runs, as controllers do.
    pub async fn run(&mut self, attempt: AttemptId) -> Holder {
        let mut ticketed = None;
        loop {
            let what = self.until(attempt, |what| Some(what.clone())).await;
            match (what, &ticketed) {
                (What::CheckedIn { holder }, _) => {
                    self.go(attempt, &holder).await;
                    ticketed = Some(holder);
                }
                (What::StepStarted { .. }, Some(holder)) => return holder.clone(),
                (What::Finished { .. } | What::Gone { .. } | What::Hopeless { .. }, _) => {
                    panic!("`{attempt}` ended before it ran")
                }
                (
                    What::Waiting { .. }
                    | What::StepStarted { .. }
                    | What::LogGrew { .. }
                    | What::Silent { .. },
                    _,
                ) => {}
            }
        }
    }

    /// Waits for its record.
    pub async fn finished(&mut self, attempt: AttemptId) -> AttemptRecord {
        let pick = |what: &What| {
            if let What::Finished { record, .. } = what {
                Some(*record.clone())
            } else {
                None
            }
        };
        self.until(attempt, pick).await
    }

    /// Waits until it is gone and returns why.
    pub async fn gone(&mut self, attempt: AttemptId) -> String {
        let pick = |what: &What| {
            if let What::Gone { reason } = what {
                Some(reason.clone())
            } else {
                None
            }
        };
        self.until(attempt, pick).await
    }

    /// Waits until it is gone or has a record.
    pub async fn ended(&mut self, attempt: AttemptId) -> What {
        let pick =
            |what: &What| matches!(what, What::Gone { .. } | What::Finished { .. }).then(|| what.clone());
        self.until(attempt, pick).await
    }
}

/// Where the log of an attempt is.
pub(super) fn log_of(folder: &Path, attempt: AttemptId) -> PathBuf {
    folder.join(format!("{attempt}.log"))
}

/// The result of a call that must work.
pub(super) fn must<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a call failed: {error:?}"),
    }
}
