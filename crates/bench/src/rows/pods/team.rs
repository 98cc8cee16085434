//! A server whose one project runs on the cluster, told of one commit after the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::NAMESPACE;
use crate::{
    forge::Repository,
    http,
    rows::scheduling::burst,
    served::Served,
    user::{User, millis},
};

const PATIENCE: Duration = Duration::from_secs(900);
const PAUSE: Duration = Duration::from_millis(2);

/// The server, its repository, and how many commits it was told of.
pub(super) struct Team {
    pub(super) served: Served,
    repository: Repository,
    told: usize,
    _user: User,
}

impl Team {
    /// Starts it for so many commits of a pipeline. `more` is added to what is configured of the cluster.
    pub(super) fn start(registry: &str, more: &str, actions: &str, commits: usize) -> Result<Self> {
        let user = User::new()?;
        let pipeline = format!(
            "on: {{ push: {{ branches: [main] }} }}\nimage: {registry}/busybox:1\nactions:\n{actions}"
        );
        let repository = Repository::make(&user, &pipeline, commits)?;
        let kubeconfig = std::env::var("KUBECONFIG").context("read KUBECONFIG")?;
        let cluster = format!(
            "[clusters.bench]\nkubeconfig = \"{kubeconfig}\"\nagent_image = \"{}\"\nnamespaces = {{ protected = \
             \"{NAMESPACE}\", branches = \"{NAMESPACE}\", forks = \"{NAMESPACE}\" }}\n{more}\n",
            super::agent_image(registry),
        );
        let served = Served::start_with(&user, &repository.bare, "backend = \"bench\"", &cluster)?;
        Ok(Self {
            served,
            repository,
            told: 0,
            _user: user,
        })
    }

    /// Tells it of the next commits.
    pub(super) async fn push(&mut self, count: usize) -> Result<()> {
        self.told += count;
        burst(&self.served, &self.repository, self.told - count, count).await
    }

    /// How long a run takes from its delivery to its end, in milliseconds.
    pub(super) async fn run(&mut self) -> Result<f64> {
        self.runs_of(1).await
    }

    /// How long the runs of so many commits take from their deliveries to the last one's end, in milliseconds.
    pub(super) async fn runs_of(&mut self, commits: usize) -> Result<f64> {
        let started = Instant::now();
        self.push(commits).await?;
        let count = self.told;
        self.until("a run's end", |runs| {
            runs.len() == count && runs.iter().all(|run| outcome(run).is_some())
        })
        .await?;
        let took = millis(started.elapsed());
        let runs = self.runs().await?;
        let bad = runs.iter().find(|run| outcome(run) != Some("succeeded"));
        ensure!(bad.is_none(), "a run ended otherwise: {bad:?}");
        Ok(took)
    }

    /// Waits until so many nodes of its one run are running at once.
    pub(super) async fn all_run(&self, count: usize) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut running = 0;
            for run in self.runs().await? {
                let id = run.get("id").context("a run without an id")?;
                let id = id.to_string();
                let path = format!("/api/v1/runs/{}", id.trim_matches('"'));
                let run = http::json(&self.served.address, &path).await?;
                let nodes = run.get("nodes").and_then(Value::as_array).context("no nodes")?;
                let states = nodes.iter().filter_map(|node| node.get("state")?.as_str());
                running = states.filter(|state| *state == "running").count();
            }
            if running == count {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "{running} of {count} actions run");
            tokio::time::sleep(PAUSE * 100).await;
        }
    }

    async fn until(&self, what: &str, is: impl Fn(&[Value]) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            let runs = self.runs().await?;
            if is(&runs) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "waited in vain for {what}: {runs:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn runs(&self) -> Result<Vec<Value>> {
        let answer = http::json(&self.served.address, "/api/v1/runs?limit=200").await?;
        let runs = answer.get("runs").and_then(Value::as_array).cloned();
        runs.context("no runs")
    }
}

fn outcome(run: &Value) -> Option<&str> {
    run.get("outcome").and_then(Value::as_str)
}
