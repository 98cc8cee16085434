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
            wait_for_gates(&served).await
        })?;
        waiting.add(settled(&served)?.0);
        served.stop()?;
        let served = Served::start(&user, &repository.bare)?;
        runtime.block_on(wait_for_gates(&served))?;
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

async fn wait_for_gates(served: &Served) -> Result<()> {
    let started = Instant::now();
    loop {
        let mut found = 0;
        for before in [RUNS + 1, RUNS / 2 + 1] {
            let path = format!("/api/v1/runs?active=true&limit=500&before={before}");
            let answer = http::json(&served.address, &path).await?;
            let runs = answer
                .get("runs")
                .and_then(|runs| runs.as_array())
                .context("no runs")?;
            found += runs
                .iter()
                .filter(|run| run.get("needs_person").is_some_and(|needs| needs == true))
                .count();
        }
        if found == RUNS {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{found} of {RUNS} runs wait at their gate"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
