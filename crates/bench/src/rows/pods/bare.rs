//! What a bare client does: pods one after the other or at once, their ends seen in their status, and their output.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{TryStreamExt, future::try_join_all};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{AttachParams, DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::NAMESPACE;

const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn make_namespace(client: &Client) -> Result<()> {
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

/// Removes it with all in it, and waits until it is gone.
pub(super) async fn remove_namespace(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let doing = "remove the namespace";
    namespaces
        .delete(NAMESPACE, &DeleteParams::default())
        .await
        .context(doing)?;
    while namespaces.get_opt(NAMESPACE).await.context(doing)?.is_some() {
        sleep(PAUSE).await;
    }
    Ok(())
}

/// What a pod mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Volume {
    None,
    Empty,
}

/// A pod that runs a command, marked so that those of one kind are found.
fn object(image: &str, (name, kind): (&str, &str), command: &[&str], volume: Volume) -> Result<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "labels": { "bench": kind } },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "only", "image": image, "command": command }],
        },
    });
    if volume == Volume::Empty {
        pod["spec"]["volumes"] = json!([{ "name": "workspace", "emptyDir": {} }]);
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{ "name": "workspace", "mountPath": "/workspace" }]);
    }
    serde_json::from_value(pod).context("write a pod")
}

fn pods_of(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Makes so many pods at once that do nothing, and waits until their status says that all ended.
pub(super) async fn pods(
    client: &Client,
    image: &str,
    (kind, volume): (&str, Volume),
    count: usize,
) -> Result<()> {
    let pods = pods_of(client);
    let objects: Vec<Pod> = (0..count)
        .map(|number| object(image, (&format!("{kind}-{number}"), kind), &["true"], volume))
        .collect::<Result<_>>()?;
    let how = PostParams::default();
    let made = try_join_all(objects.iter().map(|pod| pods.create(&how, pod)));
    let made = made.await.context("make pods")?;
    let since = made
        .first()
        .and_then(ResourceExt::resource_version)
        .unwrap_or_default();
    let watching = WatchParams::default().labels(&format!("bench={kind}"));
    let mut events = Box::pin(pods.watch(&watching, &since).await.context("watch pods")?);
    let mut ended = BTreeSet::new();
    while ended.len() < count {
        let event = events.try_next().await.context("watch pods")?;
        let event = event.context("the watch ended before the pods did")?;
        if let WatchEvent::Modified(pod) = event {
            match phase(&pod) {
                Some("Succeeded") => {
                    ended.insert(pod.name_any());
                }
                phase => ensure!(phase != Some("Failed"), "a bare pod failed"),
            }
        }
    }
    let how = DeleteParams::default();
    let removed = try_join_all(ended.iter().map(|name| pods.delete(name, &how)));
    removed.await.context("remove pods")?;
    Ok(())
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// Makes a pod that stays, and waits until it runs.
pub(super) async fn stay(client: &Client, image: &str, name: &str) -> Result<()> {
    let pods = pods_of(client);
    let pod = object(image, (name, name), &["sleep", "36000"], Volume::None)?;
    pods.create(&PostParams::default(), &pod)
        .await
        .context("make a pod")?;
    while phase(&pods.get(name).await.context("ask after a pod")?) != Some("Running") {
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Reads what a command in a pod puts out; so many bytes are expected.
pub(super) async fn read(client: &Client, name: &str, command: &str, bytes: usize) -> Result<()> {
    let how = AttachParams::default().stderr(false);
    let mut process = pods_of(client)
        .exec(name, ["sh", "-c", command], &how)
        .await
        .context("run a command in a pod")?;
    let mut output = process.stdout().context("a command without output")?;
    let read = tokio::io::copy(&mut output, &mut tokio::io::sink()).await?;
    ensure!(read == bytes as u64, "{read} of {bytes} bytes came");
    Ok(())
}

/// Waits until no pod is there.
pub(super) async fn quiet(client: &Client) -> Result<()> {
    quiet_but(client, 0).await
}

/// Waits until at most so many pods are there.
pub(super) async fn quiet_but(client: &Client, most: usize) -> Result<()> {
    let pods = pods_of(client);
    while pods
        .list(&ListParams::default())
        .await
        .context("list pods")?
        .items
        .len()
        > most
    {
        sleep(PAUSE).await;
    }
    Ok(())
}
