//! Volumes that one pod at a time has to itself: who has them. The cluster's own list decides, never a watch.
//!
//! Each such volume is a label of the pods that want it so. None is made as long as another's is there; and because two
//! servers may make two at the same moment, each looks once more before it asks for its ticket, when the elder goes first.

use k8s_openapi::api::core::v1::Pod;
use kube::{Error, ResourceExt, api::ListParams};
use pipekeeper_backend::LaunchError;
use pipekeeper_model::AttemptId;

use crate::{KubeHost, known::PodPlace, names, refusal};

impl KubeHost {
    /// Fails if another pod has a volume that this one wants for itself.
    pub(crate) async fn find_room(&self, pod: &Pod) -> Result<(), LaunchError> {
        let found = self.occupant_for(pod).await;
        let found = found.map_err(|error| refusal::of_call(&self.cluster().name, &error))?;
        found.map_or(Ok(()), |reason| Err(LaunchError::Occupied { reason }))
    }

    /// Who had a volume before this attempt that it wants for itself.
    pub(crate) async fn occupant_of(&self, attempt: AttemptId) -> Result<Option<String>, LaunchError> {
        let Some(PodPlace { namespace, name }) = self.place(attempt).await? else {
            return Ok(None);
        };
        let asked = async {
            let pod = self.counted().bounded(self.pods(&namespace).get(&name)).await?;
            self.occupant_for(&pod).await
        };
        match asked.await {
            Err(error) if refusal::is_not_found(&error) => Ok(None),
            found => found.map_err(|error| refusal::of_call(&self.cluster().name, &error)),
        }
    }

    async fn occupant_for(&self, pod: &Pod) -> Result<Option<String>, Error> {
        let pods = self.pods(&pod.namespace().unwrap_or_default());
        for (label, volume) in names::alone_of(pod) {
            let wanted = ListParams::default().labels(&format!("{label}={volume}"));
            let listed = self.counted().bounded(pods.list(&wanted)).await?;
            if let Some(other) = first_before(&pod.name_any(), &listed.items) {
                return Ok(Some(format!(
                    "the volume `{volume}` is in use by {}, and `access: one` lets one action at a time have it: this one goes on when that has ended",
                    names::people_call(other)
                )));
            }
        }
        Ok(None)
    }
}

/// Of all pods that want a volume for themselves, the one that is in the way of this one: any if it is not made yet, else
/// an elder one.
fn first_before<'a>(name: &str, all: &'a [Pod]) -> Option<&'a Pod> {
    let own = all.iter().find(|pod| pod.name_any() == name).map(age);
    let mut others = all.iter().filter(|pod| pod.name_any() != name && !has_ended(pod));
    others.find(|other| own.as_ref().is_none_or(|own| age(other) < *own))
}

/// Nothing of it runs any more.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What everybody who compares two pods compares.
fn age(pod: &Pod) -> impl Ord + use<> {
    let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (made, pod.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, day: u32, phase: &str) -> Pod {
        let metadata = serde_json::json!({
            "name": name,
            "creationTimestamp": format!("2026-11-{day:02}T00:00:00Z"),
        });
        serde_json::from_value(serde_json::json!({ "metadata": metadata, "status": { "phase": phase } }))
            .unwrap()
    }

    fn in_the_way_of(name: &str, all: &[Pod]) -> Option<String> {
        first_before(name, all).map(ResourceExt::name_any)
    }

    #[test]
    fn one_that_is_not_made_yet_waits_for_all() {
        let all = [pod("a", 2, "Running")];
        assert_eq!(in_the_way_of("b", &all).as_deref(), Some("a"));
        assert_eq!(in_the_way_of("b", &[]), None);
    }

    #[test]
    fn of_those_that_are_there_the_eldest_goes_first() {
        let all = [
            pod("b", 1, "Pending"),
            pod("c", 1, "Pending"),
            pod("a", 2, "Running"),
        ];
        assert_eq!(in_the_way_of("b", &all), None);
        assert_eq!(in_the_way_of("c", &all).as_deref(), Some("b"));
        assert_eq!(in_the_way_of("a", &all).as_deref(), Some("b"));
    }

    #[test]
    fn what_has_ended_is_in_nobodys_way() {
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(in_the_way_of("b", &[pod("a", 1, phase)]), None);
        }
    }
}
