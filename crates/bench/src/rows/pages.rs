//! The page of a run of 200 actions, on a server with a long past, asked for by eight clients.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pipekeeper_model::RunId;
use tokio::{runtime::Builder, task::JoinSet};

use crate::{
    figure::{Figure, Samples, Target},
    forge::Repository,
    http::{Connection, get},
    seed,
    served::{Served, data},
    user::{User, millis},
};

const PAST: u64 = 10_000;
const ACTIONS: usize = 200;
const CLIENTS: usize = 8;
const EACH: usize = 50;
const ROUNDS: usize = 5;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let user = User::new()?;
    let repository = Repository::make(&user, "on: { manual: true }\nactions: [{ run: 'true' }]\n", 1)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut runs = vec![(RunId(PAST + 1), seed::plan(&large())?)];
    let small = seed::plan(
        "on: { manual: true }\nactions:\n  - { name: lint, run: 'true' }\n  - { name: test, run: 'true' }\n",
    )?;
    runs.extend((1..=PAST).map(|run| (RunId(run), small.clone())));
    std::fs::create_dir_all(data(&user)).context("make a folder")?;
    runtime.block_on(seed::store_runs(&data(&user), &runs))?;
    let served = Served::start(&user, &repository.bare)?;
    let page = format!("/runs/{}", PAST + 1);
    let (mut ours, mut floor, mut bytes) = (Samples::default(), Samples::default(), 0);
    for round in 0..=ROUNDS {
        let (health, _) = runtime.block_on(load(&served, "/healthz"))?;
        let (pages, length) = runtime.block_on(load(&served, &page))?;
        bytes = length;
        if round > 0 {
            health.into_iter().for_each(|wait| floor.add(wait));
            pages.into_iter().for_each(|wait| ours.add(wait));
        }
    }
    served.stop()?;
    let at = |samples: &Samples, share| Samples::from_iter([samples.quantile(share)]);
    let figure = |what, share, most| Figure {
        what,
        unit: "ms",
        ours: at(&ours, share),
        floor: Some(("`/healthz`", at(&floor, share))),
        target: Target::AtMost(most),
    };
    Ok(vec![
        figure(
            "run page of 200 actions, 10,000 runs stored, 8 clients: first byte, p50",
            0.5,
            3.0,
        ),
        figure("the same, p99", 0.99, 15.0),
        Figure {
            what: "the same, its HTML",
            unit: "KiB",
            ours: [bytes as f64 / 1024.0].into_iter().collect(),
            floor: None,
            target: Target::AtMost(60.0),
        },
    ])
}

/// A pipeline as large ones are: groups of actions side by side.
fn large() -> String {
    let mut text = "on: { manual: true }\nactions:\n".to_owned();
    for number in 0..ACTIONS {
        if number % 10 == 0 {
            text.push_str("  - parallel:\n");
        }
        text.push_str(&format!("      - {{ name: action-{number}, run: 'true' }}\n"));
    }
    text
}

async fn load(served: &Served, path: &str) -> Result<(Vec<f64>, usize)> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(&served.address).await?;
        let request = get(path);
        clients.spawn(async move {
            let (mut waits, mut length) = (Vec::new(), 0);
            for _ in 0..EACH {
                let started = Instant::now();
                let answer = connection.send(&request).await?;
                ensure!(answer.status == 200, "the page was answered {}", answer.status);
                waits.push(millis(answer.first_byte - started));
                length = answer.body.len();
            }
            Ok((waits, length))
        });
    }
    let (mut all, mut bytes) = (Vec::new(), 0);
    while let Some(ended) = clients.join_next().await {
        let (waits, length) = ended??;
        all.extend(waits);
        bytes = length;
    }
    Ok((all, bytes))
}
