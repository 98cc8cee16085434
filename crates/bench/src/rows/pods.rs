//! Ten actions in a chain as pods, beside ten bare pods one after the other, made by a bare client that watches their
//! status. Needs a cluster: KUBECONFIG, and PIPE_TEST_REGISTRY with the test images and the supervisor's.

use std::{env, time::Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::{
    figure::{Figure, Samples, Target},
    user::{User, millis, pipe, time},
};

const ACTIONS: usize = 10;
const ROUNDS: usize = 5;
const PARALLEL: usize = 50;
const NAMESPACE: &str = "pipe-bench";

pub(super) fn measure() -> Result<Vec<Figure>> {
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
        make_namespace(&client).await?;
        let measured = in_turns(&client, &registry).await;
        let namespaces: Api<Namespace> = Api::all(client);
        let removed = namespaces.delete(NAMESPACE, &DeleteParams::default()).await;
        let figures = measured?;
        removed.context("remove the namespace")?;
        Ok(figures)
    })
}

async fn in_turns(client: &Client, registry: &str) -> Result<Vec<Figure>> {
    let user = User::new()?;
    let image = format!("{registry}/busybox:1");
    let (mut chain, mut bare) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let started = Instant::now();
        for number in 0..ACTIONS {
            bare_pod(client, &image, &format!("bare-{round}-{number}")).await?;
        }
        let bare_took = millis(started.elapsed());
        let actions: String = (1..=ACTIONS)
            .map(|number| format!("  - {{ name: a{number}, run: 'true' }}\n"))
            .collect();
        user.write_pipeline(&format!(
            "on: {{ manual: true }}\nimage: {image}\nactions:\n{actions}"
        ))?;
        let took = run(&user, registry)?;
        if round > 0 {
            bare.add(bare_took / ACTIONS as f64);
            chain.add(took / ACTIONS as f64);
        }
    }
    let actions: String = (1..=PARALLEL)
        .map(|number| format!("      - {{ name: a{number}, run: 'true' }}\n"))
        .collect();
    user.write_pipeline(&format!(
        "on: {{ manual: true }}\nimage: {image}\nactions:\n  - parallel:\n{actions}"
    ))?;
    let mut parallel = Samples::default();
    parallel.add(run(&user, registry)? / 1_000.0);
    Ok(vec![
        Figure {
            what: "`pipe run --context`, 10 actions in a chain, whole call, per action",
            unit: "ms",
            ours: chain,
            floor: Some(("a bare pod, its end seen in its status", bare)),
            target: Target::RatioAtMost(0.7),
        },
        Figure {
            what: "50 actions at once, whole call",
            unit: "s",
            ours: parallel,
            floor: None,
            target: Target::None,
        },
    ])
}

/// How long `pipe run` takes in pods.
fn run(user: &User, registry: &str) -> Result<f64> {
    let context = kube::config::Kubeconfig::read()
        .context("read the kubeconfig")?
        .current_context
        .context("the kubeconfig has no current context")?;
    let mut command = user.command(&pipe()?);
    let agent = format!("{registry}/pipekeeper/agent");
    command
        .env("KUBECONFIG", env::var_os("KUBECONFIG").unwrap_or_default())
        .args([
            "run",
            "--context",
            &context,
            "--namespace",
            NAMESPACE,
            "--agent-image",
            &agent,
        ]);
    Ok(millis(time(&mut command)?))
}

async fn make_namespace(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let wanted = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &wanted)
        .await
        .context("make a namespace")?;
    Ok(())
}

/// Makes a pod that does nothing, and waits until its status says that it ended.
async fn bare_pod(client: &Client, image: &str, name: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "only", "image": image, "command": ["true"] }],
        },
    }))
    .context("write a pod")?;
    let made = pods
        .create(&PostParams::default(), &pod)
        .await
        .context("make a pod")?;
    let since = made.metadata.resource_version.unwrap_or_default();
    let watching = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = Box::pin(pods.watch(&watching, &since).await.context("watch a pod")?);
    while let Some(event) = events.try_next().await.context("watch a pod")? {
        if let WatchEvent::Modified(pod) = event {
            match pod.status.and_then(|status| status.phase).as_deref() {
                Some("Succeeded") => {
                    pods.delete(name, &DeleteParams::default())
                        .await
                        .context("remove a pod")?;
                    return Ok(());
                }
                phase => ensure!(phase != Some("Failed"), "a bare pod failed"),
            }
        }
    }
    anyhow::bail!("the watch ended before the pod did")
}
