//! Pods that are held for people, on a host whose supervisors follow a script.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use pipekeeper_agent::protocol::{
    AttemptSpec, ExitRecord, FromAgent, PROTOCOL_VERSION, RecordOutcome, ToAgent, Usage, encode, try_decode,
};
use pipekeeper_backend::{
    Backend, EnterOrder, Entered, Launch, LaunchError, Observation, Scarce, TermName, Terminal, TerminalSize,
    Ticket, What,
    pod::{
        FileLimits, HoldOptions, LogOf, OpenError, Opened, PodBackend, PodHost, PodOptions, PodPlan,
        PodState, PodStream, StreamLimit, StreamRole,
    },
    suite::{attempt, launch_of},
};
use pipekeeper_model::{AttemptId, Millis};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Notify, mpsc},
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(30);
const HOLDER: &str = "pod";

/// What a supervisor does once it is asked to stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Stays,
    Leaves,
}

/// The pods of a scripted cluster.
#[derive(Default)]
struct Pods {
    there: BTreeSet<AttemptId>,
    specs: BTreeMap<AttemptId, AttemptSpec>,
    /// Why another pod does not fit, as long as any is there.
    is_narrow: bool,
    /// Whether what is removed stays for a while.
    goes_late: bool,
    going: BTreeSet<AttemptId>,
}

struct Host {
    pods: Arc<Mutex<Pods>>,
    manner: Manner,
    outcome: RecordOutcome,
    /// Cuts every stream to a supervisor.
    cut: Arc<Notify>,
}

impl Host {
    fn new(manner: Manner, outcome: RecordOutcome) -> Self {
        Self {
            pods: Arc::default(),
            manner,
            outcome,
            cut: Arc::default(),
        }
    }
}

#[async_trait]
impl PodHost for Host {
    async fn create(&self, pod: &PodPlan) -> Result<(), LaunchError> {
        let mut pods = self.pods.lock().unwrap();
        if pods.is_narrow && !pods.there.is_empty() {
            let reason = "no room".to_owned();
            return Err(LaunchError::Occupied {
                of: Scarce::Quota,
                reason,
            });
        }
        pods.there.insert(pod.attempt);
        Ok(())
    }

    async fn open(&self, attempt: AttemptId, _: StreamRole) -> Result<Box<dyn PodStream>, OpenError> {
        if !self.pods.lock().unwrap().there.contains(&attempt) {
            return Err(OpenError::NotRunning);
        }
        let (near, far) = duplex(64 << 10);
        let supervisor = Supervisor {
            stream: far,
            received: Vec::new(),
            attempt,
            pods: Arc::clone(&self.pods),
            manner: self.manner,
            outcome: self.outcome.clone(),
        };
        let cut = Arc::clone(&self.cut);
        tokio::spawn(async move {
            tokio::select! {
                _ = supervisor.serve() => {}
                () = cut.notified() => {}
            }
        });
        Ok(Box::new(near))
    }

    async fn terminal(
        &self,
        _: AttemptId,
        container: usize,
        words: &[&str],
        _: TerminalSize,
    ) -> Result<Opened, OpenError> {
        let (near, mut far) = duplex(1024);
        let text = format!("{container}: {}", words.join(" "));
        far.write_all(text.as_bytes()).await.unwrap();
        Ok((Box::new(near), mpsc::channel(1).0))
    }

    async fn look(&self, attempt: AttemptId) -> Result<PodState, LaunchError> {
        let mut pods = self.pods.lock().unwrap();
        if !pods.goes_late && pods.going.remove(&attempt) {
            pods.there.remove(&attempt);
        }
        Ok(if pods.going.contains(&attempt) {
            PodState::Going
        } else if pods.there.contains(&attempt) {
            PodState::Running(None)
        } else {
            PodState::Absent
        })
    }

    async fn remove(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        let mut pods = self.pods.lock().unwrap();
        if pods.goes_late {
            pods.going.insert(attempt);
        } else {
            pods.there.remove(&attempt);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        Ok(self.pods.lock().unwrap().there.iter().copied().collect())
    }

    async fn container_end(&self, _: AttemptId, _: usize) -> Result<Option<String>, LaunchError> {
        Ok(None)
    }

    async fn container_log(&self, _: AttemptId, _: LogOf<'_>) -> Result<Vec<u8>, LaunchError> {
        Ok(Vec::new())
    }

    fn watch(&self, _: mpsc::UnboundedSender<(AttemptId, PodState)>) {}

    fn usual_start(&self) -> Duration {
        Duration::ZERO
    }
}

/// One stream of a supervisor.
struct Supervisor {
    stream: DuplexStream,
    received: Vec<u8>,
    attempt: AttemptId,
    pods: Arc<Mutex<Pods>>,
    manner: Manner,
    outcome: RecordOutcome,
}

impl Supervisor {
    /// Ends when it is sent away, or nobody is there.
    async fn serve(mut self) -> Option<()> {
        let known = self.pods.lock().unwrap().specs.get(&self.attempt).cloned();
        match known {
            Some(spec) => self.say(&checked_in(&spec)).await?,
            None => {
                self.say(&FromAgent::Ready {
                    version: PROTOCOL_VERSION,
                    holder: HOLDER.to_owned(),
                })
                .await?;
            }
        }
        loop {
            match self.hear().await? {
                ToAgent::Assign { spec } => {
                    let known = checked_in(&spec);
                    self.pods.lock().unwrap().specs.insert(self.attempt, *spec);
                    self.say(&known).await?;
                }
                ToAgent::Go { .. } => {
                    let record = Box::new(self.record());
                    self.say(&FromAgent::Finished { record }).await?;
                }
                ToAgent::Hold if self.manner == Manner::Stays && self.holds() => {
                    self.say(&FromAgent::Held).await?;
                }
                ToAgent::Ping => self.say(&FromAgent::Pong).await?,
                ToAgent::ReadLog { .. } => {}
                ToAgent::Leave | ToAgent::Hold => return None,
                other @ (ToAgent::Begin { .. }
                | ToAgent::File { .. }
                | ToAgent::Recycle
                | ToAgent::Look
                | ToAgent::Exit
                | ToAgent::Stop { .. }
                | ToAgent::PodEnds
                | ToAgent::Unknown) => panic!("{other:?}"),
            }
        }
    }

    fn holds(&self) -> bool {
        let pods = self.pods.lock().unwrap();
        pods.specs[&self.attempt].pod.as_ref().unwrap().holds
    }

    fn record(&self) -> ExitRecord {
        let id = self.attempt.to_string();
        ExitRecord {
            version: PROTOCOL_VERSION,
            attempt: id.clone(),
            nonce: id,
            holder: HOLDER.to_owned(),
            outcome: self.outcome.clone(),
            steps: Vec::new(),
            outputs: BTreeMap::new(),
            large_outputs: BTreeMap::new(),
            artifacts: Vec::new(),
            caches: Vec::new(),
            reports: Vec::new(),
            log_bytes: 0,
            log_truncated: false,
            summary: false,
            started_ms: Some(1),
            ended_ms: 2,
            usage: Usage::default(),
        }
    }

    async fn say(&mut self, message: &FromAgent) -> Option<()> {
        self.stream.write_all(&encode(message).unwrap()).await.ok()
    }

    async fn hear(&mut self) -> Option<ToAgent> {
        loop {
            if let Some((message, used)) = try_decode(&self.received).unwrap() {
                self.received.drain(..used);
                return Some(message);
            }
            if self.stream.read_buf(&mut self.received).await.ok()? == 0 {
                return None;
            }
        }
    }
}

fn checked_in(spec: &AttemptSpec) -> FromAgent {
    FromAgent::CheckedIn {
        version: PROTOCOL_VERSION,
        attempt: spec.attempt.clone(),
        holder: HOLDER.to_owned(),
        nonce: spec.nonce.clone(),
        pid: 1,
    }
}

fn failed() -> RecordOutcome {
    RecordOutcome::Failed {
        step: 1,
        code: Some(3),
        signal: None,
        reason: None,
    }
}

/// A backend over the script, driven as a controller drives it.
struct Scene {
    backend: PodBackend,
    pods: Arc<Mutex<Pods>>,
    cut: Arc<Notify>,
    observations: mpsc::UnboundedReceiver<Observation>,
    folder: TempDir,
}

impl Scene {
    fn new(host: Host, hold: Option<HoldOptions>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (on_observation, observations) = mpsc::unbounded_channel();
        let (pods, cut) = (Arc::clone(&host.pods), Arc::clone(&host.cut));
        let options = PodOptions {
            root: folder.path().join("root"),
            artifacts: folder.path().join("artifacts"),
            default_image: Some("any".to_owned()),
            features: BTreeSet::new(),
            limits: FileLimits::default(),
            pool: None,
            hold,
            objects: None,
            streams: StreamLimit::default(),
            on_observation,
        };
        Self {
            backend: PodBackend::new(Arc::new(host), options),
            pods,
            cut,
            observations,
            folder,
        }
    }

    /// One whose failed pods stay.
    fn holding() -> Self {
        Self::new(Host::new(Manner::Stays, failed()), minutes(2))
    }

    /// Two steps, each in a container of its own.
    fn launch(&self, node: u32) -> Launch {
        let log = self.folder.path().join(format!("{node}.log"));
        let mut launch = launch_of(attempt(node), "true", &log);
        let mut second = launch.steps[0].clone();
        second.image = Some("another".to_owned());
        launch.steps.push(second);
        launch
    }

    async fn sees<T>(&mut self, id: AttemptId, pick: impl Fn(&What) -> Option<T>) -> T {
        let search = async {
            loop {
                let Observation { attempt, what } = self.observations.recv().await.unwrap();
                if let What::CheckedIn { holder } = &what {
                    let secrets = Vec::new();
                    let go = Ticket::Go { secrets };
                    self.backend.answer(attempt, holder, go).await.unwrap();
                }
                if let Some(found) = Some(what).filter(|_| attempt == id).and_then(|what| pick(&what)) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, search).await.unwrap()
    }

    /// Runs it to its end, after which nothing of it is kept.
    async fn ended(&mut self, launch: Launch) -> AttemptId {
        let id = launch.attempt;
        self.backend.launch(launch).await.unwrap();
        self.sees(id, |what| matches!(what, What::Finished { .. }).then_some(()))
            .await;
        self.backend.forget(id).await.unwrap();
        id
    }

    async fn held(&mut self, node: u32) -> AttemptId {
        let launch = self.launch(node);
        let id = launch.attempt;
        self.backend.launch(launch).await.unwrap();
        self.sees(id, |what| {
            matches!(what, What::Held { until: Some(_) }).then_some(())
        })
        .await;
        self.backend.forget(id).await.unwrap();
        id
    }

    async fn let_go(&mut self, id: AttemptId) {
        self.sees(id, |what| {
            matches!(what, What::Held { until: None }).then_some(())
        })
        .await;
        assert!(!self.is_there(id));
    }

    fn is_there(&self, id: AttemptId) -> bool {
        self.pods.lock().unwrap().there.contains(&id)
    }

    async fn enter(&self, id: AttemptId) -> Entered {
        let (told, _heard) = mpsc::channel(16);
        let order = EnterOrder {
            attempt: id,
            project: "any".parse().unwrap(),
            cluster: None,
            limit: Millis::hours(1),
            size: TerminalSize {
                columns: 80,
                rows: 24,
            },
            term: TermName::new("xterm"),
            told,
        };
        self.backend.enter(order).await.unwrap()
    }

    async fn entered(&self, id: AttemptId) -> Terminal {
        match self.enter(id).await {
            Entered::Open(terminal) => terminal,
            other @ (Entered::NotHeld | Entered::NeverHeld) => panic!("{other:?}"),
        }
    }
}

fn minutes(max: usize) -> Option<HoldOptions> {
    let failed = Duration::from_secs(600);
    Some(HoldOptions { failed, max })
}

#[tokio::test]
async fn a_failed_pod_is_held_through_sweeps_and_cuts_until_it_is_released() {
    let mut scene = Scene::holding();
    let id = scene.held(1).await;
    assert_eq!(scene.backend.list().await.unwrap(), []);
    scene.cut.notify_waiters();
    let mut terminal = scene.entered(id).await;
    let mut seen = String::new();
    terminal.stream.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "1: /pipe/tools/agent shell xterm");
    assert!(scene.backend.release(id).await.is_err(), "somebody is in it");
    terminal.end().await;
    assert!(scene.is_there(id));
    assert!(scene.backend.release(id).await.unwrap());
    scene.let_go(id).await;
    assert!(matches!(scene.enter(id).await, Entered::NotHeld));
}

#[tokio::test]
async fn a_pod_goes_whose_supervisor_does_not_stay_or_is_gone() {
    let mut scene = Scene::new(Host::new(Manner::Leaves, failed()), minutes(2));
    let launch = scene.launch(1);
    let id = scene.ended(launch).await;
    scene.let_go(id).await;
    let mut scene = Scene::holding();
    let id = scene.held(1).await;
    scene.pods.lock().unwrap().there.clear();
    scene.cut.notify_waiters();
    scene.let_go(id).await;
}

#[tokio::test]
async fn a_pod_has_its_time() {
    let failed_for = HoldOptions {
        failed: Duration::from_millis(300),
        max: 1,
    };
    let mut scene = Scene::new(Host::new(Manner::Stays, failed()), Some(failed_for));
    let id = scene.held(1).await;
    scene.let_go(id).await;
}

#[tokio::test]
async fn a_launch_that_finds_no_room_makes_some() {
    let mut scene = Scene::holding();
    scene.pods.lock().unwrap().is_narrow = true;
    let first = scene.held(1).await;
    let launch = scene.launch(2);
    let refused = scene.backend.launch(launch.clone()).await;
    assert!(
        matches!(refused, Err(LaunchError::Occupied { .. })),
        "{refused:?}"
    );
    scene.let_go(first).await;
    scene.ended(launch).await;
}

/// Room that a removed pod leaves late is waited for, rather than made twice.
#[tokio::test]
async fn a_launch_that_finds_no_room_makes_no_more_than_it_needs() {
    let mut scene = Scene::holding();
    let (first, second) = (scene.held(1).await, scene.held(2).await);
    {
        let mut pods = scene.pods.lock().unwrap();
        pods.is_narrow = true;
        pods.goes_late = true;
    }
    let launch = scene.launch(3);
    for _ in 0..3 {
        scene.backend.launch(launch.clone()).await.unwrap_err();
    }
    assert!(matches!(scene.enter(first).await, Entered::NotHeld));
    scene.pods.lock().unwrap().goes_late = false;
    scene.let_go(first).await;
    assert!(scene.is_there(second));
}

/// People look into the last try of an action.
#[tokio::test]
async fn a_pod_goes_when_its_action_is_tried_again() {
    let mut scene = Scene::holding();
    let first = scene.held(1).await;
    let mut launch = scene.launch(1);
    launch.attempt.number += 1;
    scene.backend.launch(launch).await.unwrap();
    scene.let_go(first).await;
}

#[tokio::test]
async fn only_what_failed_and_may_be_seen_by_others_is_held() {
    let timed_out = RecordOutcome::TimedOut { step: None };
    for (outcome, hold, may_share) in [
        (RecordOutcome::Succeeded, minutes(2), true),
        (RecordOutcome::Cancelled, minutes(2), true),
        (timed_out, minutes(2), true),
        (failed(), minutes(2), false),
        (failed(), minutes(0), true),
        (failed(), None, true),
    ] {
        let mut scene = Scene::new(Host::new(Manner::Stays, outcome.clone()), hold);
        let mut launch = scene.launch(1);
        launch.may_share = may_share;
        let id = scene.ended(launch).await;
        assert!(!scene.is_there(id), "{outcome:?}");
        let entered = scene.enter(id).await;
        match hold {
            Some(_) => assert!(matches!(entered, Entered::NotHeld), "{outcome:?}"),
            None => assert!(matches!(entered, Entered::NeverHeld), "{outcome:?}"),
        }
    }
}
