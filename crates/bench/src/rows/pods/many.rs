//! Many pods at once and much of a log, beside what a bare client does.

use std::time::Instant;

use anyhow::Result;
use kube::Client;

use super::{
    bare::{self, Volume},
    numbered,
    team::Team,
};
use crate::figure::{Figure, Samples, Target};

const ROUNDS: usize = 3;
const PARALLEL: usize = 100;
const DELIVERIES: usize = 50;
const HELD: usize = 200;
const LOG: usize = 256 << 20;

pub(super) async fn measure(client: &Client, registry: &str) -> Result<Vec<Figure>> {
    Ok(vec![
        at_once(client, registry).await?,
        scheduling(client, registry).await?,
        log(client, registry).await?,
        held(client, registry).await?,
    ])
}

async fn at_once(client: &Client, registry: &str) -> Result<Figure> {
    let actions = format!("  - parallel:\n{}", numbered(1..=PARALLEL, "      ", "true"));
    let mut team = Team::start(registry, "", &actions, ROUNDS)?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        floor.add(bare_seconds(client, registry, (&format!("at-once-{round}"), PARALLEL)).await?);
        ours.add(team.run().await? / 1_000.0);
        bare::quiet(client).await?;
    }
    team.served.stop()?;
    Ok(Figure {
        what: "100 actions at once, from the webhook to the run's end",
        unit: "s",
        ours,
        floor: Some(("100 bare pods at once, their ends seen in one watch", floor)),
        target: Target::None,
    })
}

async fn scheduling(client: &Client, registry: &str) -> Result<Figure> {
    let action = numbered(1..=1, "  ", "true");
    let mut team = Team::start(registry, "", &action, ROUNDS * DELIVERIES)?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let name = format!("each-{round}");
        floor.add(DELIVERIES as f64 / bare_seconds(client, registry, (&name, DELIVERIES)).await?);
        ours.add(DELIVERIES as f64 * 1_000.0 / team.runs_of(DELIVERIES).await?);
        bare::quiet(client).await?;
    }
    team.served.stop()?;
    Ok(Figure {
        what: "50 webhooks about 50 commits, until their 50 runs of one pod have ended",
        unit: "/s",
        ours,
        floor: Some(("50 bare pods at once, their ends seen in one watch", floor)),
        target: Target::None,
    })
}

/// How long so many pods take that a bare client makes at once; waits until they are gone.
async fn bare_seconds(client: &Client, registry: &str, (name, count): (&str, usize)) -> Result<f64> {
    let started = Instant::now();
    bare::pods(
        client,
        &format!("{registry}/busybox:1"),
        (name, Volume::None),
        count,
    )
    .await?;
    let took = started.elapsed().as_secs_f64();
    bare::quiet(client).await?;
    Ok(took)
}

async fn log(client: &Client, registry: &str) -> Result<Figure> {
    let command = format!("yes the quick brown fox jumps over the lazy dog | head -c {LOG}");
    let actions = format!("  - {{ name: write, log_limit: 1Gi, run: '{command}' }}\n");
    let mut team = Team::start(registry, "", &actions, ROUNDS)?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    let rate = |seconds: f64| LOG as f64 / 1e6 / seconds;
    bare::stay(client, &format!("{registry}/busybox:1"), "log").await?;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        bare::read(client, "log", &command, LOG).await?;
        floor.add(rate(started.elapsed().as_secs_f64()));
        ours.add(rate(team.run().await? / 1_000.0));
    }
    team.served.stop()?;
    Ok(Figure {
        what: "256 MiB of one step in a pod, from the webhook to the run's end, all of it kept",
        unit: "MB/s",
        ours,
        floor: Some((
            "the same from a pod that runs, through `exec` into nothing",
            floor,
        )),
        target: Target::None,
    })
}

/// The memory of a server while so many pods run; they go with the namespace.
async fn held(client: &Client, registry: &str) -> Result<Figure> {
    bare::quiet_but(client, 1).await?;
    let actions = format!(
        "  - parallel:\n{}",
        numbered(1..=HELD, "      ", "echo there; exec sleep 3600")
    );
    let mut team = Team::start(registry, "", &actions, 1)?;
    team.push(1).await?;
    team.all_run(HELD).await?;
    let mut ours = Samples::default();
    ours.add(team.served.memory()?.0);
    team.served.stop()?;
    Ok(Figure {
        what: "resident, 200 pods that run",
        unit: "MB",
        ours,
        floor: None,
        target: Target::None,
    })
}
