//! What a server holds: at rest, and with 1,000 runs that wait at a gate.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Builder;

use super::scheduling::burst;
use crate::{
    figure::{Figure, Samples, Target},
    forge::Repository,
    http,
    served::Served,
    user::User,
};

const RUNS: usize = 1_000;
const ROUNDS: usize = 1;
/// Runs that are listed at once.
const PAGE: usize = 500;
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure() -> Result<Vec<Figure>> {
    let (mut idle, mut waiting, mut again) = (Samples::default(), Samples::default(), Samples::default());
    let mut family = Samples::default();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for _ in 0..ROUNDS {
        let user = User::new()?;
        let pipeline = "on: { push: { branches: [main] } }\nactions:\n  - approve: { text: Go on?, keep: all }\n  - run: 'true'\n";
        let repository = Repository::make(&user, pipeline, RUNS)?;
        let served = Served::start(&user, &repository.bare)?;
        runtime.block_on(http::json(&served.address, "/api/v1/runs"))?;
        let (alone, all) = settled(&served)?;
        idle.add(alone);
        family.add(all);
        runtime.block_on(async {
            burst(&served, &repository, 0, RUNS).await?;
            wait_for_gates(&served, RUNS).await
        })?;
        waiting.add(settled(&served)?.0);
        served.stop()?;
        let served = Served::start(&user, &repository.bare)?;
        runtime.block_on(wait_for_gates(&served, RUNS))?;
        again.add(settled(&served)?.0);
        served.stop()?;
    }
    let figure = |what, ours, target| Figure {
        what,
        unit: "MB",
        ours,
        floor: None,
        target,
    };
    Ok(vec![
        figure("resident, at rest after the start", idle, Target::AtMost(30.0)),
        figure("the same, with waiting supervisors", family, Target::None),
        figure("resident, 1,000 runs at a gate", waiting, Target::AtMost(90.0)),
        figure("the same, after a restart", again, Target::AtMost(90.0)),
    ])
}

/// What is held once the work of a moment ago is put away.
fn settled(served: &Served) -> Result<(f64, f64)> {
    std::thread::sleep(Duration::from_secs(2));
    served.memory()
}

/// Waits until so many runs wait for a person.
pub(super) async fn wait_for_gates(served: &Served, runs: usize) -> Result<()> {
    let started = Instant::now();
    loop {
        let mut found = 0;
        let mut before = runs + 1;
        while before > 1 {
            let path = format!("/api/v1/runs?active=true&limit={PAGE}&before={before}");
            let answer = http::json(&served.address, &path).await?;
            let all = answer
                .get("runs")
                .and_then(|all| all.as_array())
                .context("no runs")?;
            let waits = |run: &&serde_json::Value| run.get("needs_person").is_some_and(|needs| needs == true);
            found += all.iter().filter(waits).count();
            before = before.saturating_sub(PAGE);
        }
        if found == runs {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{found} of {runs} runs wait at their gate"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
