//! Makes the pod of an attempt, with all that it wants around it: claims, and the namespace where that is ours to make.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, Error, api::PostParams};
use pipekeeper_backend::{LaunchError, pod::PodPlan};
use pipekeeper_model::Name;
use tokio::time::sleep;

use crate::{KubeHost, known::PodPlace, refusal, render};

/// How long a new namespace may lack what the cluster puts into it.
const SETTLING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

impl KubeHost {
    /// Makes a pod, or finds it made, with the claims that its volumes want, unless they are there.
    async fn make(&self, plan: &PodPlan, pod: &Pod, place: &PodPlace) -> Result<Pod, Error> {
        let how = PostParams::default();
        let claims: Api<PersistentVolumeClaim> = self.api(&place.namespace);
        for claim in render::claims(plan, self.cluster()) {
            match self.counted().bounded(claims.create(&how, &claim)).await {
                Ok(_) => {}
                Err(error) if refusal::is_there_already(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let pods = self.pods(&place.namespace);
        let patience = Instant::now() + SETTLING;
        let mut is_second = false;
        loop {
            match self.counted().bounded(pods.create(&how, pod)).await {
                // Whether it came through or not: the name makes a second try the same as the first.
                Err(error) if refusal::is_of_transport(&error) && !is_second => is_second = true,
                Err(error) if refusal::is_settling(&error) && Instant::now() < patience => {
                    sleep(PAUSE).await;
                }
                Err(there) if refusal::is_there_already(&there) => {
                    return match self.counted().bounded(pods.get(&place.name)).await {
                        // It went meanwhile: then it is tried again.
                        Err(error) if refusal::is_not_found(&error) => Err(there),
                        found => found,
                    };
                }
                // The pod itself may be what used it up: nobody heard that it was made.
                Err(full) if refusal::is_of_quota(&full) => {
                    return match self.counted().bounded(pods.get(&place.name)).await {
                        Err(error) if refusal::is_not_found(&error) => Err(full),
                        found => found,
                    };
                }
                made => return made,
            }
        }
    }

    /// The same, in a namespace that is made if need be.
    pub(crate) async fn make_with_namespace(
        &self,
        plan: &PodPlan,
        pod: &Pod,
        place: &PodPlace,
    ) -> Result<Pod, LaunchError> {
        let namespace = place.namespace.as_str();
        let refused = |refused: Refused| refused.judge(&self.cluster().name, namespace);
        let Some(tenancy) = self.tenancy() else {
            return self.make_with_secret(plan, pod, place).await.map_err(refused);
        };
        tenancy.provide(namespace).await?;
        match self.make_with_secret(plan, pod, place).await {
            // Somebody removed it, or our rights in it.
            Err(Refused::Secret(error) | Refused::Pod(error)) if refusal::is_shut(&error) => {
                tenancy.doubt(namespace).await;
                tenancy.provide(namespace).await?;
                self.doubt_pull_secret(namespace).await;
                self.make_with_secret(plan, pod, place).await.map_err(refused)
            }
            made => made.map_err(refused),
        }
    }

    /// The same, with what its images are pulled with.
    async fn make_with_secret(&self, plan: &PodPlan, pod: &Pod, place: &PodPlace) -> Result<Pod, Refused> {
        let provided = self.provide_pull_secret(&place.namespace).await;
        provided.map_err(Refused::Secret)?;
        self.make(plan, pod, place).await.map_err(Refused::Pod)
    }
}

/// What the cluster did not take.
enum Refused {
    Secret(Error),
    Pod(Error),
}

impl Refused {
    fn judge(&self, cluster: &Name, namespace: &str) -> LaunchError {
        match self {
            Self::Secret(error) => refusal::of_pull_secret(cluster, error, namespace),
            Self::Pod(error) => refusal::of_create(cluster, error, namespace),
        }
    }
}
