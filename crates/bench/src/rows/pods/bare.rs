//! What a bare client does: pods one after the other, their ends seen in their status.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

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
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Makes a pod that does nothing, and waits until its status says that it ended.
pub(super) async fn pod(client: &Client, image: &str, name: &str) -> Result<()> {
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
