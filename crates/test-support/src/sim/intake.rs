//! The intake and the supplies of a simulation: a delivery's body names a push that was drawn beforehand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_backend::{KeepWorkspace, LaunchError, Orphan, SecretValue, SourceInput, Tier};
use pipekeeper_controller::{
    Admitted, CacheTiers, Habits, Intake, IntakeError, People, PeopleAway, Supplies, Wish,
};
use pipekeeper_engine::{RunRequest, Signature, Standing};
use pipekeeper_model::{Actor, Digest, Name, plan::Work};
use pipekeeper_store::{Delivery, DeliveryOutcome, MemoryStore, RefMove, Store as _};

use super::{Fault, people, plans, world::World};

/// The secret of every attempt: it may reach its supervisor, and nothing else.
pub(crate) const CANARY: &str = "canary-4f1e7";

/// Where deliveries become runs.
pub(crate) struct SimIntake {
    pub(crate) world: Arc<World>,
    pub(crate) store: MemoryStore,
}

#[async_trait]
impl Intake for SimIntake {
    async fn admit(&self, delivery: &Delivery) -> Result<Admitted, IntakeError> {
        self.world.pause().await;
        if self.world.strikes(Fault::IntakeFails) {
            return Err(IntakeError::Transient {
                reason: "the forge is away".to_owned(),
            });
        }
        let push = plans::push(&self.world.options, push_number(&delivery.received.body));
        if push.is_broken {
            return Err(IntakeError::Terminal {
                reason: "no such commit".to_owned(),
            });
        }
        let moved = RefMove {
            project: delivery.received.project.clone(),
            git_ref: push.git_ref.clone(),
            before: None,
            after: push.sha.clone(),
        };
        let found = self
            .store
            .find_move(&moved)
            .await
            .map_err(|error| IntakeError::Transient {
                reason: error.to_string(),
            })?;
        if let Some(delivery) = found {
            return Ok(Admitted::Nothing {
                outcome: DeliveryOutcome::DuplicateOf { delivery },
                moved: None,
            });
        }
        let actor = people::pusher();
        Ok(Admitted::Runs {
            requests: push
                .requests
                .into_iter()
                .map(|request| (actor.clone(), request))
                .collect(),
            notes: Vec::new(),
            moved: Some(moved),
        })
    }

    async fn changed_rules(&self, _request: &RunRequest) -> Result<Vec<Name>, IntakeError> {
        Ok(Vec::new())
    }

    async fn wish(&self, _wish: &Wish) -> Result<Arc<RunRequest>, IntakeError> {
        self.world.pause().await;
        Err(IntakeError::NotFound {
            reason: "nobody wishes here".to_owned(),
        })
    }
}

fn push_number(body: &[u8]) -> u64 {
    std::str::from_utf8(body)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// What attempts are given: nothing, but not always.
pub(crate) struct SimSupplies {
    pub(crate) world: Arc<World>,
}

impl SimSupplies {
    async fn call(&self) -> Result<(), LaunchError> {
        self.world.pause().await;
        if self.world.strikes(Fault::SuppliesFail) {
            return Err(LaunchError::Transient {
                reason: "the supplies are away".to_owned(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Supplies for SimSupplies {
    async fn source(&self, _request: &RunRequest) -> Result<SourceInput, LaunchError> {
        self.call().await?;
        Ok(SourceInput::Empty)
    }

    async fn digest_files(&self, request: &RunRequest, globs: &[String]) -> Result<Digest, LaunchError> {
        self.call().await?;
        let distinct: BTreeSet<&String> = globs.iter().collect();
        let git_ref = &request.context.event.revision.git_ref;
        Ok(Digest::of(format!("{distinct:?} of {git_ref:?}").as_bytes()))
    }

    async fn secrets(&self, _request: &RunRequest, _work: &Work) -> Result<Vec<SecretValue>, LaunchError> {
        self.call().await?;
        Ok(vec![SecretValue {
            pointer: None,
            target: None,
            value: CANARY.to_owned(),
        }])
    }

    fn cache_tiers(&self, _request: &RunRequest) -> CacheTiers {
        CacheTiers {
            writes: Tier::Branches,
            reads: vec![Tier::Branches],
        }
    }

    fn habits(&self) -> Habits {
        Habits {
            keep_workspace: KeepWorkspace::Never,
            orphan: Orphan::WorkOn,
        }
    }
}

/// Where people stand: it changes, and cannot always be said.
pub(crate) struct SimPeople {
    pub(crate) world: Arc<World>,
}

#[async_trait]
impl People for SimPeople {
    async fn standings(
        &self,
        _project: &Name,
        signed: &BTreeSet<Signature>,
        requesters: &[Actor],
    ) -> Result<BTreeMap<Signature, Standing>, PeopleAway> {
        self.world.pause().await;
        if self.world.strikes(Fault::SuppliesFail) {
            return Err(PeopleAway {
                reason: "nobody is there to ask".to_owned(),
            });
        }
        let now = self.world.now();
        let Some(requester) = requesters.first() else {
            return Ok(BTreeMap::new());
        };
        let found = self.world.check(|ledger| {
            let told = signed
                .iter()
                .map(|one| (one.clone(), ledger.tell(&one.person, requester, now)));
            told.collect::<Vec<_>>()
        });
        Ok(found
            .into_iter()
            .filter_map(|(one, standing)| Some((one, standing?)))
            .collect())
    }
}

/// The project that every delivery belongs to, by its number.
pub(crate) fn project(number: u64) -> Name {
    plans::name(&format!("project{}", number % 2))
}
