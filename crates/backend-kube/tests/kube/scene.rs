//! A server over a world, driven as a controller drives it, and what tests ask of the cluster.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ContainerStatus, Pod},
};
use kube::{
    Api, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use pipekeeper_backend::{
    Backend as _, Launch, LaunchError, LaunchScript, LaunchStep, Observation, SecretValue, Ticket, What,
    pod::PodBackend,
    suite::{World as _, attempt, launch_of},
};
use pipekeeper_model::{AttemptId, AttemptOutcome, AttemptRecord, Holder};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{MissedTickBehavior, interval, timeout},
};

use super::world::KubeWorld;

/// Longer than anything here takes; a test that reaches it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(150);
/// What shows in the log each time that user code starts.
const START: &str = "user code starts";
const REMEMBERED: usize = 30;

/// A world with a server.
pub(crate) struct Scene {
    pub(crate) world: KubeWorld,
    pub(crate) server: Server,
}

/// A backend with what it told so far. It asks for nothing on its own: what it learns the backend brings.
pub(crate) struct Server {
    pub(crate) backend: Arc<PodBackend>,
    observations: UnboundedReceiver<Observation>,
    /// Whether check-ins are answered with the ticket.
    pub(crate) gives_tickets: bool,
    pub(crate) secrets: Vec<SecretValue>,
    heard: Vec<Observation>,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Finished(Box<AttemptRecord>),
    Gone(String),
    Hopeless(String),
}

impl Scene {
    pub(crate) async fn new() -> Option<Self> {
        Self::with(|_| {}).await
    }

    /// A scene whose world was changed before its server starts.
    pub(crate) async fn with(change: impl FnOnce(&mut KubeWorld)) -> Option<Self> {
        let mut world = KubeWorld::new().await?;
        change(&mut world);
        let server = Server::open(&world, world.config.clone());
        Some(Self { world, server })
    }

    /// A scene on the cluster of `scripts/dev-cluster`, which tests change and whose processes they find on this machine;
    /// none, with a word about it, on any other.
    pub(crate) async fn here(change: impl FnOnce(&mut KubeWorld)) -> Option<Self> {
        if !is_dev_cluster().await {
            drop(writeln!(
                std::io::stderr(),
                "SKIPPED: this needs the cluster of `scripts/dev-cluster`"
            ));
            return None;
        }
        Self::with(change).await
    }

    /// The server dies and another takes its place.
    pub(crate) fn restart(&mut self) {
        self.restart_with(self.world.config.clone());
    }

    pub(crate) fn restart_with(&mut self, config: Config) {
        let secrets = std::mem::take(&mut self.server.secrets);
        self.server = Server::open(&self.world, config);
        self.server.secrets = secrets;
    }

    /// A launch of one shell step.
    pub(crate) fn shell(&self, node: u32, text: &str) -> Launch {
        let log = self.world.log(attempt(node));
        launch_of(attempt(node), &format!("echo {START}\n{text}\n"), &log)
    }

    /// A launch of one step whose output is nothing but that of the text.
    pub(crate) fn plain(&self, node: u32, text: &str) -> Launch {
        let mut launch = self.shell(node, "");
        launch.steps = vec![step(None, command(&format!("echo {START}\n{text}\n")))];
        launch
    }

    pub(crate) async fn launch(&self, launch: Launch) -> AttemptId {
        let attempt = launch.attempt;
        must(self.server.backend.launch(launch).await);
        attempt
    }

    /// Launches it over a network that may break, as the outbox does.
    pub(crate) async fn launch_stubbornly(&self, launch: Launch) -> AttemptId {
        let attempt = launch.attempt;
        eventually("a launch", async || {
            match self.server.backend.launch(launch.clone()).await {
                Ok(()) => Some(()),
                Err(LaunchError::Transient { .. } | LaunchError::Occupied { .. }) => None,
                Err(LaunchError::Terminal { reason }) => panic!("{reason}"),
            }
        })
        .await;
        attempt
    }

    /// Launches it and waits for its record.
    pub(crate) async fn record_of(&mut self, launch: Launch) -> AttemptRecord {
        let attempt = self.launch(launch).await;
        self.server.finished(attempt).await
    }

    pub(crate) fn log(&self, attempt: AttemptId) -> String {
        let bytes = std::fs::read(self.world.log(attempt)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log on this side has this text.
    pub(crate) async fn log_says(&mut self, attempt: AttemptId, text: &str) {
        let path = self.world.log(attempt);
        let says = || std::fs::read(&path).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text));
        let pick = |what: &What| (matches!(what, What::LogGrew { .. }) && says()).then_some(());
        self.server.until(attempt, pick).await;
    }

    /// Fails unless user code ran once, or never if it was not to.
    pub(crate) fn ran(&self, attempt: AttemptId, times: u32) {
        assert_eq!(
            self.world.starts(attempt),
            times,
            "starts of `{attempt}`; its log:\n{}",
            self.log(attempt)
        );
    }

    pub(crate) fn api<T>(&self) -> Api<T>
    where
        T: kube::Resource<Scope = NamespaceResourceScope>,
        T::DynamicType: Default,
    {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    pub(crate) async fn create<T>(&self, object: &T) -> T
    where
        T: kube::Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
        T::DynamicType: Default,
    {
        self.api().create(&PostParams::default(), object).await.unwrap()
    }

    pub(crate) fn pod_name(&self, attempt: AttemptId) -> String {
        format!("{attempt}-{}", self.world.options.instance)
    }

    pub(crate) async fn pod(&self, attempt: AttemptId) -> Option<Pod> {
        let name = self.pod_name(attempt);
        self.api::<Pod>().get_opt(&name).await.unwrap()
    }

    /// Waits until a container of its pod is so.
    pub(crate) async fn container_is(
        &self,
        attempt: AttemptId,
        name: &str,
        is: impl Fn(&ContainerStatus) -> bool,
    ) {
        eventually(&format!("the container `{name}` of `{attempt}`"), async || {
            let pod = self.pod(attempt).await?;
            let statuses = pod.status?.container_statuses?;
            statuses
                .iter()
                .any(|status| status.name == name && is(status))
                .then_some(())
        })
        .await;
    }

    /// As a person does.
    pub(crate) async fn delete_pod(&self, attempt: AttemptId) {
        let name = self.pod_name(attempt);
        let deleted = self.api::<Pod>().delete(&name, &DeleteParams::default()).await;
        deleted.unwrap();
    }

    /// Forgets every attempt that is known, as sweeps do, and fails unless nothing of them is left.
    pub(crate) async fn close(&mut self) {
        eventually("an empty namespace", async || {
            for attempt in self.server.backend.list().await.ok()? {
                self.server.backend.forget(attempt).await.ok()?;
            }
            let pods = self.api::<Pod>().list(&ListParams::default()).await.ok()?;
            pods.items.is_empty().then_some(())
        })
        .await;
        assert_eq!(must(self.server.backend.list().await), []);
    }
}

impl Server {
    pub(crate) fn open(world: &KubeWorld, config: Config) -> Self {
        let (backend, observations) = world.open_with(config);
        Self {
            backend,
            observations,
            gives_tickets: true,
            secrets: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Waits for what `pick` picks of all that this server heard of an attempt. Panics when it does not come.
    pub(crate) async fn until<T>(
        &mut self,
        attempt: AttemptId,
        mut pick: impl FnMut(&What) -> Option<T>,
    ) -> T {
        let mut at = 0;
        let search = async {
            loop {
                while let Some(heard) = self.heard.get(at) {
                    at += 1;
                    let picked = (heard.attempt == attempt).then(|| pick(&heard.what)).flatten();
                    if let Some(picked) = picked {
                        return picked;
                    }
                }
                self.hear().await;
            }
        };
        if let Ok(picked) = timeout(DEADLINE, search).await {
            return picked;
        }
        let newest: Vec<_> = self.heard.iter().rev().take(REMEMBERED).collect();
        panic!("waited in vain for `{attempt}`, heard, newest first: {newest:#?}");
    }

    async fn hear(&mut self) {
        let observation = self.observations.recv().await.unwrap();
        if let What::CheckedIn { holder } = &observation.what
            && self.gives_tickets
        {
            self.answer(observation.attempt, holder).await;
        }
        self.heard.push(observation);
    }

    pub(crate) async fn answer(&self, attempt: AttemptId, holder: &Holder) {
        let secrets = self.secrets.clone();
        let answered = self.backend.answer(attempt, holder, Ticket::Go { secrets }).await;
        // What is in the way now leads to another check-in.
        assert!(
            !matches!(answered, Err(LaunchError::Terminal { .. })),
            "{answered:?}"
        );
    }

    pub(crate) async fn checked_in(&mut self, attempt: AttemptId) -> Holder {
        let pick = |what: &What| {
            if let What::CheckedIn { holder } = what {
                Some(holder.clone())
            } else {
                None
            }
        };
        self.until(attempt, pick).await
    }

    /// Waits until its first step runs.
    pub(crate) async fn runs(&mut self, attempt: AttemptId) {
        let pick = |what: &What| matches!(what, What::StepStarted { .. }).then_some(());
        self.until(attempt, pick).await;
    }

    pub(crate) async fn end(&mut self, attempt: AttemptId) -> End {
        let pick = |what: &What| {
            if let What::Finished { record, .. } = what {
                Some(End::Finished(record.clone()))
            } else if let What::Gone { reason } = what {
                Some(End::Gone(reason.clone()))
            } else if let What::Hopeless { reason } = what {
                Some(End::Hopeless(reason.clone()))
            } else {
                None
            }
        };
        self.until(attempt, pick).await
    }

    pub(crate) async fn finished(&mut self, attempt: AttemptId) -> AttemptRecord {
        match self.end(attempt).await {
            End::Finished(record) => *record,
            end @ (End::Gone(_) | End::Hopeless(_)) => panic!("`{attempt}` has no record: {end:?}"),
        }
    }

    pub(crate) async fn gone(&mut self, attempt: AttemptId) -> String {
        match self.end(attempt).await {
            End::Gone(reason) => reason,
            end @ (End::Finished(_) | End::Hopeless(_)) => panic!("`{attempt}` is not gone: {end:?}"),
        }
    }

    pub(crate) async fn hopeless(&mut self, attempt: AttemptId) -> String {
        match self.end(attempt).await {
            End::Hopeless(reason) => reason,
            end @ (End::Finished(_) | End::Gone(_)) => panic!("`{attempt}` has hope: {end:?}"),
        }
    }

    /// Waits until people are told that it waits for something with these words.
    pub(crate) async fn waits(&mut self, attempt: AttemptId, words: &[&str]) -> String {
        let pick = |what: &What| {
            if let What::Waiting { reason } = what
                && words.iter().all(|word| reason.contains(word))
            {
                Some(reason.clone())
            } else {
                None
            }
        };
        self.until(attempt, pick).await
    }
}

/// A step of its own.
pub(crate) fn step(image: Option<String>, script: LaunchScript) -> LaunchStep {
    LaunchStep {
        name: "step 1".to_owned(),
        image,
        script,
        env: BTreeMap::new(),
        env_files: BTreeMap::new(),
        timeout: None,
        working_dir: None,
    }
}

/// A shell as a program, which echoes no commands.
pub(crate) fn command(text: &str) -> LaunchScript {
    LaunchScript::Command(["sh", "-ec", text].map(str::to_owned).to_vec())
}

pub(crate) fn succeeded(record: &AttemptRecord) {
    assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{record:#?}");
}

/// Fails unless a text for people has all these words.
pub(crate) fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// Waits until the cluster or a disk is as it should be, which neither of them tells.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = interval(Duration::from_millis(50));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let search = async {
        loop {
            looks.tick().await;
            if let Some(found) = check().await {
                return found;
            }
        }
    };
    match timeout(DEADLINE, search).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

pub(crate) fn must<T, E: Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a call failed: {error:?}"),
    }
}

/// Whether the tests run on the cluster of `scripts/dev-cluster`. Where that is not up, or not allowed, they do not.
async fn is_dev_cluster() -> bool {
    let Ok(ours) = std::env::var("KUBECONFIG") else {
        return false;
    };
    let exports = tokio::task::spawn_blocking(|| dev_cluster_command().arg("env").output());
    let exports = exports.await.unwrap().unwrap().stdout;
    let exports = String::from_utf8(exports).unwrap();
    exports
        .lines()
        .any(|line| line.strip_prefix("export KUBECONFIG=") == Some(&ours))
}

/// Changes the cluster that the tests run on.
pub(crate) async fn dev_cluster(arguments: &[&str]) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    tokio::task::spawn_blocking(move || run(dev_cluster_command().args(arguments)))
        .await
        .unwrap()
}

fn dev_cluster_command() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/dev-cluster"))
}

pub(crate) fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(
        status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap().trim().to_owned()
}

/// Every file below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}

/// Sets labels, taints and the like.
pub(crate) async fn merge<T>(api: &Api<T>, name: &str, change: &serde_json::Value)
where
    T: Clone + Debug + DeserializeOwned + ResourceExt,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .unwrap();
}
