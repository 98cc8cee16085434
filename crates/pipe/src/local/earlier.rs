//! What earlier local runs of a tree left for `reuse:`: a file beside the artifacts of each run, gone with its folder.
//!
//! Whatever cannot be read is a success less, never a failure.

use std::{fs, path::Path};

use pipekeeper_controller::Layout;
use pipekeeper_engine::{AdoptedNode, Run};
use pipekeeper_model::{AttemptId, Digest, Plan, plan::Body};
use pipekeeper_store::MemoryStore;
use serde::{Deserialize, Serialize};

use super::{
    place::{Place, kept_folders},
    session::Job,
};
use crate::{
    failure::{Failure, OrFail},
    folders,
};

const FILE: &str = "reuse.json";

/// The successes that a run made or adopted.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    tree: String,
    host: String,
    run: u64,
    successes: Vec<(Digest, AdoptedNode)>,
}

/// The runs of the same tree in the same place before this one.
#[derive(Debug)]
pub(crate) struct EarlierRuns {
    tree: String,
    /// Where attempts run: what succeeded on this machine says nothing about a container.
    host: String,
    layout: Layout,
    /// Whether this run has anything to do with them.
    matter: bool,
}

impl EarlierRuns {
    /// The runs before this one.
    pub(crate) fn new(place: &Place, job: &Job) -> Self {
        Self {
            tree: place.tree().to_owned(),
            host: job
                .containers
                .as_ref()
                .map_or_else(|| "processes".to_owned(), super::pods::Containers::name),
            layout: place.layout(),
            matter: reuses(&job.plan),
        }
    }

    /// A store that knows their successes; their artifacts become this run's too. No run of it has a number up to `last`.
    pub(crate) fn store(&self, mut last: u64) -> Result<MemoryStore, Failure> {
        let mut all = Vec::new();
        if !self.matter {
            return Ok(MemoryStore::after(last, all));
        }
        for folder in kept_folders()? {
            let Some(kept) = self.read(&folder) else { continue };
            let from = Layout::new(folder);
            for (_, result) in &kept.successes {
                self.link(&from, result);
            }
            last = last.max(kept.run);
            all.extend(kept.successes);
        }
        Ok(MemoryStore::after(last, all))
    }

    /// Writes down what this run made or adopted.
    pub(crate) fn keep(&self, run: &Run, known: &[(Digest, AdoptedNode)]) -> Result<(), Failure> {
        if !self.matter {
            return Ok(());
        }
        let adopted: Vec<AttemptId> = run
            .nodes()
            .iter()
            .filter_map(|state| Some(state.ended()?.adopted.as_ref()?.attempt))
            .collect();
        let is_ours =
            |result: &AdoptedNode| result.attempt.run == run.id() || adopted.contains(&result.attempt);
        let kept = Kept {
            tree: self.tree.clone(),
            host: self.host.clone(),
            run: run.id().0,
            successes: known
                .iter()
                .filter(|(_, result)| is_ours(result))
                .cloned()
                .collect(),
        };
        let text = serde_json::to_string(&kept).or_fail("write down what succeeded")?;
        folders::write_private(&self.layout.root().join(FILE), &text)
    }

    fn read(&self, folder: &Path) -> Option<Kept> {
        let text = fs::read_to_string(folder.join(FILE)).ok()?;
        let kept: Kept = serde_json::from_str(&text).ok()?;
        (kept.tree == self.tree && kept.host == self.host).then_some(kept)
    }

    /// A link that fails leaves the artifact missing here, and so the success is not adopted.
    fn link(&self, from: &Layout, result: &AdoptedNode) {
        for digest in result.files() {
            let here = self.layout.artifact(digest);
            if let Some(folder) = here.parent()
                && folders::make(folder).is_ok()
            {
                let _ = fs::hard_link(from.artifact(digest), here);
            }
        }
    }
}

fn reuses(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| match &node.body {
        Body::Work(work) => work.reuse.is_some(),
        Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => false,
    })
}
