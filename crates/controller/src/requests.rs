//! The loop's part about new runs: created, wished for, or a finished one done again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_engine::{
    AdoptedNode, Adoption, Earlier, Input, NodeState, Origin, Rejection, Run, RunRequest,
};
use pipekeeper_model::{
    Actor, AttemptId, Name, NodeId, Outcome, Plan, RunId,
    plan::{Body, Section},
};
use pipekeeper_store::StoreError;
use tokio::sync::oneshot;

use crate::{
    Controller, IntakeError, RetryWhich, SubmitError, Wish,
    controller::{STORE_PAUSE, Timer, refuse},
    deliveries::survive,
    job::{Done, Wished, unavailable},
    runs::restore,
    slot::{Queued, Settled, Slot, Then},
};

impl Controller {
    /// Makes a run of a request.
    pub(crate) fn create(
        &mut self,
        actor: Actor,
        request: Arc<RunRequest>,
        reply: oneshot::Sender<Result<RunId, SubmitError>>,
    ) {
        if let Err(error) = self.check_supported(&request) {
            return refuse(reply, error);
        }
        let run = self.new_run();
        self.slots.insert(run, Slot::new(run));
        self.queue(run, actor, Input::RunRequested(request), Then::Created(reply));
    }

    /// Another server's run has this number: what was to be made gets another one.
    pub(crate) fn renumber(&mut self, run: RunId, batch: Vec<Settled>) {
        let inputs = batch.into_iter().map(|settled| settled.queued);
        let (wanted, others): (Vec<Queued>, Vec<Queued>) =
            inputs.partition(|queued| matches!(queued.envelope.body, Input::RunRequested(_)));
        if let Some(slot) = self.slots.get_mut(&run) {
            // Whoever knew the number meant the other server's run.
            others
                .into_iter()
                .rev()
                .for_each(|queued| slot.queue.push_front(queued));
        }
        self.start(self.count_runs(wanted));
        self.pump(run);
    }

    pub(crate) fn counted(&mut self, wanted: Vec<Queued>, result: Result<u64, StoreError>) {
        match result {
            Ok(last) => {
                self.next_run = self.next_run.max(last + 1);
                for queued in wanted {
                    let run = self.new_run();
                    self.slots.insert(run, Slot::new(run));
                    self.queue(run, queued.envelope.actor, queued.envelope.body, queued.then);
                }
                self.look_for_deliveries();
            }
            Err(error) => {
                for queued in wanted {
                    if let Then::Created(reply) = queued.then {
                        refuse(reply, unavailable(&error));
                    }
                }
                let at = self.now() + STORE_PAUSE;
                self.arm(at, Timer::Intake);
            }
        }
    }

    /// A number that no run has, as far as is known here.
    pub(crate) fn new_run(&mut self) -> RunId {
        loop {
            let run = RunId(self.next_run);
            self.next_run += 1;
            if !self.slots.contains_key(&run) && !self.parked.contains_key(&run) {
                return run;
            }
        }
    }

    /// Nothing that a file says is silently ignored: what nobody here can do refuses the run, by name.
    pub(crate) fn check_supported(&self, request: &RunRequest) -> Result<(), SubmitError> {
        let backend = &self.ports.backend;
        let features = match &request.origin {
            Origin::Repository => backend.supports(&request.project),
            Origin::WorkingTree { cluster } => {
                let known = backend.clusters();
                known
                    .get(cluster)
                    .copied()
                    .ok_or_else(|| no_cluster(cluster, known.keys()))?
            }
        };
        let missing: BTreeSet<String> = request
            .plan
            .unsupported(features)
            .filter(|used| !used.feature.is_trigger())
            .map(|used| format!("`{}` ({}:{})", used.path, request.plan.file, used.place.line))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(SubmitError::Unsupported {
            what: missing.into_iter().collect::<Vec<_>>().join(", "),
        })
    }

    pub(crate) fn wish(
        &mut self,
        actor: Actor,
        wish: Wish,
        reply: oneshot::Sender<Result<RunId, SubmitError>>,
    ) {
        let Some(intake) = self.ports.intake.clone() else {
            let why = "runs cannot be started from a repository here".to_owned();
            return refuse(reply, SubmitError::Rejected(Rejection::Illegal { why }));
        };
        self.start(Box::pin(async move {
            let result = survive(intake.wish(&wish)).await.map_err(SubmitError::Intake);
            Done::Wished {
                wished: Wished { actor, reply },
                result,
            }
        }));
    }

    /// A new run on the plan of a finished one; approvals are never taken over.
    pub(crate) fn retry(
        &mut self,
        run: RunId,
        actor: Actor,
        how: (RetryWhich, Earlier),
        reply: oneshot::Sender<Result<RunId, SubmitError>>,
    ) {
        let tools = self.tools.clone();
        let intake = self.ports.intake.clone();
        self.start(Box::pin(async move {
            let request = async {
                let stored = tools
                    .store
                    .load(run)
                    .await
                    .map_err(unavailable)?
                    .ok_or(SubmitError::NoSuchRun(run))?;
                let loaded = restore(run, stored).map_err(unavailable)?;
                let request = again(&loaded.run, how)?;
                tools.check_kept(&request).await?;
                if let Some(intake) = intake {
                    let changed = survive(intake.changed_rules(&request)).await;
                    let changed = changed.map_err(SubmitError::Intake)?;
                    check_rules(run, &changed)?;
                }
                Ok::<_, SubmitError>(request)
            };
            let result = request.await;
            Done::Wished {
                wished: Wished { actor, reply },
                result,
            }
        }));
    }
}

fn no_cluster<'a>(wanted: &Name, known: impl Iterator<Item = &'a Name>) -> IntakeError {
    let known: Vec<&str> = known.map(Name::as_str).collect();
    let known = if known.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has: {}", known.join(", "))
    };
    IntakeError::NotFound {
        reason: format!("this server has no cluster `{wanted}`; {known}"),
    }
}

/// A plan holds the rules of its environments as they were: nobody gets past newer ones by doing an old run again.
fn check_rules(run: RunId, changed: &[Name]) -> Result<(), SubmitError> {
    let Some(name) = changed.first() else {
        return Ok(());
    };
    let why = format!("the rules of `{name}` have changed since run {run}; start a new run");
    Err(SubmitError::Rejected(Rejection::Stale { why }))
}

/// The request of a run that does a finished one again.
fn again(run: &Run, (which, earlier): (RetryWhich, Earlier)) -> Result<Arc<RunRequest>, SubmitError> {
    let illegal = |why: &str| SubmitError::Rejected(Rejection::Illegal { why: why.to_owned() });
    let Some(request) = run.request() else {
        return Err(SubmitError::NoSuchRun(run.id()));
    };
    if !run.is_finished() {
        return Err(illegal("the run has not ended; cancel it first, or wait"));
    }
    let kept = kept(run, &request.plan);
    let adopted = match which {
        RetryWhich::All => None,
        RetryWhich::Failed => Some(Adoption {
            from: run.id(),
            nodes: kept,
        }),
    };
    let mut asked_before = request.asked_before.clone();
    asked_before.extend(run.requested_by().map(|(actor, _)| actor.clone()));
    Ok(Arc::new(RunRequest {
        adopted,
        earlier,
        asked_before,
        ..request.as_ref().clone()
    }))
}

/// The results that a run on the same plan takes over: what succeeded, unless something that it stands on is done again.
/// `finally` tidies up after each run anew.
fn kept(run: &Run, plan: &Plan) -> BTreeMap<NodeId, AdoptedNode> {
    let nodes = plan.ids().zip(&plan.nodes).zip(run.nodes());
    let succeeded: BTreeMap<NodeId, AdoptedNode> = nodes
        .filter(|((_, node), _)| node.section == Section::Main && matches!(node.body, Body::Work(_)))
        .filter_map(|((id, _), state)| Some((id, adopted(run.id(), id, state)?)))
        .collect();
    let redone: BTreeSet<NodeId> = plan.ids().filter(|id| is_redone(run, *id, &succeeded)).collect();
    let stands = |id: &NodeId| {
        let mut needs = plan.node(*id).into_iter().flat_map(|node| &node.needs);
        !needs.any(|need| stands_on(plan, *need, &redone))
    };
    succeeded.into_iter().filter(|(id, _)| stands(id)).collect()
}

/// Whether a work node will run anew.
fn is_redone(run: &Run, id: NodeId, succeeded: &BTreeMap<NodeId, AdoptedNode>) -> bool {
    let is_work = run
        .plan()
        .and_then(|plan| plan.node(id))
        .is_some_and(|node| matches!(node.body, Body::Work(_)));
    let was_passed = matches!(run.node(id), Some(NodeState::Skipped { passes: true, .. }));
    is_work && !was_passed && !succeeded.contains_key(&id)
}

/// Whether a node is among these or behind one of them.
fn stands_on(plan: &Plan, id: NodeId, redone: &BTreeSet<NodeId>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![id];
    while let Some(next) = open.pop() {
        if redone.contains(&next) {
            return true;
        }
        if seen.insert(next) {
            open.extend(plan.node(next).into_iter().flat_map(|node| &node.needs));
        }
    }
    false
}

/// The result of a node that succeeded.
pub(crate) fn adopted(run: RunId, id: NodeId, state: &NodeState) -> Option<AdoptedNode> {
    let ended = state
        .ended()
        .filter(|ended| ended.outcome == Outcome::Succeeded)?;
    let own = || AttemptId {
        run,
        node: id,
        number: ended.attempts,
    };
    let outputs = ended.outputs();
    Some(AdoptedNode {
        attempt: ended.adopted.as_ref().map_or_else(own, |from| from.attempt),
        outputs: outputs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        artifacts: ended.artifacts().cloned().collect(),
    })
}
