//! A burst of 200 webhooks about 200 commits, each of which makes a run of one step.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Builder;

use crate::{
    database::Database,
    figure::{Figure, Samples, Target},
    forge::Repository,
    http::{self, Connection},
    served::Served,
    user::User,
};

const RUNS: usize = 200;
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure() -> Result<Vec<Figure>> {
    Ok(vec![on(
        None,
        1,
        "200 webhooks about 200 commits, until their 200 runs of one step have ended",
    )?])
}

pub(super) fn measure_postgres() -> Result<Vec<Figure>> {
    let database = Database::make()?;
    let one = on(Some(&database), 1, "the same on Postgres")?;
    drop(database);
    let database = Database::make()?;
    let three = on(
        Some(&database),
        3,
        "the same on Postgres, the webhooks in turn at three servers",
    )?;
    Ok(vec![one, three])
}

/// So many servers of one store.
fn on(database: Option<&Database>, servers: usize, what: &'static str) -> Result<Figure> {
    let user = User::new()?;
    let told = user.told().display().to_string();
    let pipeline = format!(
        "on: {{ push: {{ branches: [main] }} }}\nactions:\n  - {{ name: work, run: 'echo $PIPE_SHA >> {told}' }}\n"
    );
    let repository = Repository::make(&user, &pipeline, 1 + ROUNDS * RUNS)?;
    let address = database.map(Database::address);
    let all: Vec<Served> = (0..servers)
        .map(|_| Served::start_on(&user, &repository.bare, address))
        .collect::<Result<_>>()?;
    let served = all.first().context("no server")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(spread(&all, &repository, 0, 1))?;
    wait_for_lines(&user.told(), 1)?;
    user.take_told()?;
    let script = format!("i=0; while [ $i -lt {RUNS} ]; do i=$((i+1)); sh -c \"echo $i >> {told}\"; done");
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let first = 1 + round * RUNS;
        let started = Instant::now();
        runtime.block_on(spread(&all, &repository, first, RUNS))?;
        wait_for_lines(&user.told(), RUNS)?;
        runtime.block_on(wait_until_idle(served))?;
        ours.add(RUNS as f64 / started.elapsed().as_secs_f64());
        let ran = user.take_told()?;
        let distinct: BTreeSet<&str> = ran.iter().map(String::as_str).collect();
        let wanted: BTreeSet<&str> = repository
            .commits
            .iter()
            .skip(first)
            .take(RUNS)
            .map(String::as_str)
            .collect();
        ensure!(
            ran.len() == RUNS && distinct == wanted,
            "not every commit ran, and once"
        );
        floor.add(RUNS as f64 / user.time_shell(&script)?.as_secs_f64());
        user.check_told(RUNS)?;
    }
    runtime.block_on(check_outcomes(served))?;
    for served in all {
        served.stop()?;
    }
    Ok(Figure {
        what,
        unit: "/s",
        ours,
        floor: Some(("200 × `sh -c` in a loop", floor)),
        target: if database.is_some() {
            Target::None
        } else {
            Target::AtLeast(150.0)
        },
    })
}

/// Delivers so many commits in turn to these servers, over one connection to each.
async fn spread(servers: &[Served], repository: &Repository, first: usize, count: usize) -> Result<()> {
    let mut connections = Vec::new();
    for served in servers {
        connections.push((Connection::open(&served.address).await?, &served.hook));
    }
    for number in first..first + count {
        let turn = number % connections.len();
        let (connection, hook) = connections.get_mut(turn).context("no server")?;
        let request = repository.delivery(hook, number)?;
        let answer = connection.send(&request).await?;
        ensure!(answer.status == 202, "a delivery was answered {}", answer.status);
    }
    Ok(())
}

/// Delivers so many commits over one connection, as fast as they are answered.
pub(super) async fn burst(
    served: &Served,
    repository: &Repository,
    first: usize,
    count: usize,
) -> Result<()> {
    let mut connection = Connection::open(&served.address).await?;
    for number in first..first + count {
        let request = repository.delivery(&served.hook, number)?;
        let answer = connection.send(&request).await?;
        ensure!(answer.status == 202, "a delivery was answered {}", answer.status);
    }
    Ok(())
}

/// Waits until steps wrote so many lines.
pub(super) fn wait_for_lines(path: &Path, count: usize) -> Result<()> {
    let started = Instant::now();
    loop {
        // The first step makes the file.
        let text = fs::read(path).unwrap_or_default();
        let lines = memchr::memchr_iter(b'\n', &text).count();
        if lines >= count {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "{lines} of {count} steps ran");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn wait_until_idle(served: &Served) -> Result<()> {
    let started = Instant::now();
    loop {
        let answer = http::json(&served.address, "/api/v1/runs?active=true&limit=1").await?;
        let runs = answer
            .get("runs")
            .and_then(|runs| runs.as_array())
            .context("no runs")?;
        if runs.is_empty() {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "runs do not end: {runs:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn check_outcomes(served: &Served) -> Result<()> {
    let answer = http::json(&served.address, "/api/v1/runs?limit=500").await?;
    let runs = answer
        .get("runs")
        .and_then(|runs| runs.as_array())
        .context("no runs")?;
    let succeeded = runs
        .iter()
        .filter(|run| run.get("outcome").is_some_and(|outcome| outcome == "succeeded"))
        .count();
    ensure!(succeeded == 500, "{succeeded} of 500 runs succeeded");
    Ok(())
}
