//! Actions as pods, beside bare pods made by a bare client that watches their status. Needs a cluster: KUBECONFIG, and
//! PIPE_TEST_REGISTRY with the test images and the supervisor's (or PIPE_TEST_AGENT_IMAGE).

mod bare;
mod many;
mod team;

use std::{env, fmt::Write as _, time::Instant};

use anyhow::{Context as _, Result};
use kube::{Client, Config};

use self::{bare::Volume, team::Team};
use crate::{
    figure::{Figure, Samples, Target},
    user::{User, millis, pipe, time},
};

const ACTIONS: usize = 10;
const ROUNDS: usize = 5;
const NAMESPACE: &str = "pipe-bench";
/// How pods stand by on the server that keeps them.
const POOL: &str = "pool = { idle = \"5m\", max = 4 }";

/// Chains.
pub(super) fn measure() -> Result<Vec<Figure>> {
    on_cluster(async |client, registry| in_turns(client, registry).await)
}

/// Many at once.
pub(super) fn measure_many() -> Result<Vec<Figure>> {
    on_cluster(async |client, registry| many::measure(client, registry).await)
}

fn on_cluster(work: impl AsyncFnOnce(&Client, &str) -> Result<Vec<Figure>>) -> Result<Vec<Figure>> {
    let (Ok(registry), Some(_)) = (env::var("PIPE_TEST_REGISTRY"), env::var_os("KUBECONFIG")) else {
        // A table without this row says so by itself.
        return Ok(Vec::new());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(async {
        let config = Config::infer().await.context("read the kubeconfig")?;
        let client = Client::try_from(config).context("make a client")?;
        bare::make_namespace(&client).await?;
        let measured = work(&client, &registry).await;
        let removed = bare::remove_namespace(&client).await;
        let figures = measured?;
        removed?;
        Ok(figures)
    })
}

/// Chains through a server with and without pods that stand by, chains by hand, and bare pods, one after the other.
async fn in_turns(client: &Client, registry: &str) -> Result<Vec<Figure>> {
    let image = format!("{registry}/busybox:1");
    let chain = numbered(1..=ACTIONS, "  ", "true");
    let user = User::new()?;
    user.write_pipeline(&format!(
        "on: {{ manual: true }}\nimage: {image}\nactions:\n{chain}"
    ))?;
    let mut cold_team = Team::start(registry, "", &chain, ROUNDS + 1)?;
    let mut warm_team = Team::start(registry, POOL, &chain, ROUNDS + 1)?;
    let (mut bare, mut with_volume) = (Samples::default(), Samples::default());
    let mut by_hand = Samples::default();
    let (mut cold, mut warm) = (Samples::default(), Samples::default());
    let each = |took: f64| took / ACTIONS as f64;
    for round in 0..=ROUNDS {
        let took = [
            bare_chain(client, &image, (&format!("bare-{round}"), Volume::None)).await?,
            bare_chain(client, &image, (&format!("empty-{round}"), Volume::Empty)).await?,
            run(&user, registry)?,
            cold_team.run().await?,
            warm_team.run().await?,
        ];
        // The first round fetches images and learns.
        if round > 0 {
            for (samples, took) in [&mut bare, &mut with_volume, &mut by_hand, &mut cold, &mut warm]
                .into_iter()
                .zip(took)
            {
                samples.add(each(took));
            }
        }
    }
    cold_team.served.stop()?;
    warm_team.served.stop()?;
    let figure = |what, ours, target| Figure {
        what,
        unit: "ms",
        ours,
        floor: Some(("a bare pod, its end seen in its status", bare.clone())),
        target,
    };
    Ok(vec![
        figure(
            "a server's run of 10 actions in a chain, from its webhook to its end, per action",
            cold,
            Target::RatioAtMost(0.7),
        ),
        figure(
            "the same with pods that stand by",
            warm,
            Target::RatioAtMost(0.15),
        ),
        figure(
            "`pipe run --context`, the same chain, whole call, per action",
            by_hand,
            Target::RatioAtMost(0.7),
        ),
        figure(
            "a bare pod that mounts one empty volume, as every workspace is",
            with_volume,
            Target::None,
        ),
    ])
}

/// How long bare pods take one after the other, in milliseconds.
async fn bare_chain(client: &Client, image: &str, (name, volume): (&str, Volume)) -> Result<f64> {
    let started = Instant::now();
    for number in 0..ACTIONS {
        bare::pods(client, image, (&format!("{name}-{number}"), volume), 1).await?;
    }
    Ok(millis(started.elapsed()))
}

/// Actions that run a command, as a list.
fn numbered(numbers: std::ops::RangeInclusive<usize>, indent: &str, command: &str) -> String {
    numbers.fold(String::new(), |mut text, number| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{indent}- {{ name: a{number}, run: '{command}' }}");
        text
    })
}

fn agent_image(registry: &str) -> String {
    env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| format!("{registry}/pipekeeper/agent"))
}

/// How long `pipe run` takes in pods.
fn run(user: &User, registry: &str) -> Result<f64> {
    let context = kube::config::Kubeconfig::read()
        .context("read the kubeconfig")?
        .current_context
        .context("the kubeconfig has no current context")?;
    let mut command = user.command(&pipe()?);
    command
        .env("KUBECONFIG", env::var_os("KUBECONFIG").unwrap_or_default())
        .args(["run", "--context", &context, "--namespace", NAMESPACE])
        .args(["--agent-image", &agent_image(registry)]);
    Ok(millis(time(&mut command)?))
}
