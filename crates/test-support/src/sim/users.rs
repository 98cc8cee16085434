//! People and forges: each act is a task of its own that speaks to whatever server is up.

use std::{collections::BTreeMap, sync::Arc};

use pipekeeper_controller::{RetryWhich, SubmitError};
use pipekeeper_engine::{CancelReason, Earlier, Input, Look, NodeState, Verdict};
use pipekeeper_model::{Actor, Digest, Millis, NodeId, RunId};
use pipekeeper_store::{MemoryStore, NewDelivery, Store as _};

use super::{
    Fault, check::Ask, intake, people::account, plans, rng::Rng, script::What, store::SimStore, world::World,
};

/// Lets an act happen; acts of fate are the simulation's own.
pub(crate) fn act(world: &Arc<World>, store: &MemoryStore, what: What, salt: u64) {
    let mut rng = Rng::new(salt);
    let actor = Actor::user(rng.pick("ann", &["bob", "eve"]));
    match what {
        What::Deliver { push } => deliver(world, store, push, &mut rng),
        What::Create { push } => create(world, actor, push),
        What::Approve => decide(world, &mut rng, actor, Verdict::Approve, Target::Open),
        What::ApproveLate => decide(world, &mut rng, actor, Verdict::Approve, Target::Settled),
        What::ApproveOther => decide(world, &mut rng, actor, Verdict::Approve, Target::Other),
        What::Reject => decide(world, &mut rng, actor, Verdict::Reject, Target::Open),
        What::Press => press(world, &mut rng, actor),
        What::Cancel => cancel(world, &mut rng, actor),
        What::Retry => retry(world, &mut rng, actor),
        What::Crash | What::Restart | What::FillDisk | What::Pause => {}
    }
}

fn deliver(world: &Arc<World>, store: &MemoryStore, push: u64, rng: &mut Rng) {
    if world.check(|ledger| !ledger.delivered.insert(push)) {
        world.hit(&Fault::PushTwice.name());
    }
    let twice = world.strikes_often(Fault::DeliveryTwice);
    let id = format!("{push}-{}", rng.next());
    for copy in 0..=u64::from(twice) {
        let (world, store, id) = (Arc::clone(world), store.clone(), id.clone());
        let spawner = world.spawner.clone();
        spawner.spawn(async move {
            world.sleep(Millis(copy * world.between(0, 5_000))).await;
            let store = SimStore::of_users(store, &world);
            // A forge tries again when it gets no 2xx.
            for _ in 0..50 {
                if let Some(handle) = world.handle() {
                    let delivery = NewDelivery {
                        project: intake::project(push),
                        forge_id: id.clone(),
                        event: "push".to_owned(),
                        received_at: world.now(),
                        body: push.to_string().into_bytes(),
                    };
                    if store.accept_delivery(delivery).await.is_ok() {
                        if world.between(0, 4) > 0 {
                            handle.delivery_stored();
                        }
                        return;
                    }
                }
                world.sleep(Millis::seconds(20)).await;
            }
        });
    }
}

fn create(world: &Arc<World>, actor: Actor, push: u64) {
    let request = plans::request(&world.options, push, 0);
    ask(world, "create", async move |handle| {
        handle.create(actor, request).await.map(|_| ())
    });
}

/// Which gate is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// An open one.
    Open,
    /// One that was decided or left behind.
    Settled,
    /// An open one, by the subject of another.
    Other,
}

fn decide(world: &Arc<World>, rng: &mut Rng, actor: Actor, verdict: Verdict, target: Target) {
    let mut gates: Vec<(RunId, NodeId, Digest)> = world.check(|ledger| {
        let wanted = |settled: bool| settled == (target == Target::Settled);
        ledger
            .books
            .iter()
            .flat_map(|(run, book)| {
                let ids = (0..).map(NodeId).zip(&book.nodes);
                ids.filter_map(|(id, node)| {
                    let gate = node.gate.as_ref()?;
                    wanted(node.settled.is_some()).then(|| (*run, id, gate.subject.clone()))
                })
            })
            .collect()
    });
    if gates.is_empty() {
        return;
    }
    let (run, node, mut subject) = gates.swap_remove(rng.index(gates.len()));
    if target == Target::Other {
        subject = Digest::of(b"something else");
    }
    let again = rng.chance(250);
    let people = if rng.chance(300) {
        vec![actor.clone(), Actor::user("zoe")]
    } else {
        vec![actor.clone()]
    };
    let people = people.into_iter().chain(again.then_some(actor));
    // Some decide under the name that they have at the forge.
    let mut names = Rng::derived(rng.next(), &[1]);
    for person in people {
        let Some(standing) = world.check(|ledger| ledger.decider(run, &person, world.now())) else {
            continue;
        };
        let person = if names.chance(250) {
            account(&person.to_string())
        } else {
            person
        };
        let verdict = match verdict {
            Verdict::Approve if names.chance(60) => Verdict::Bypass,
            Verdict::Approve | Verdict::Reject | Verdict::Bypass => verdict,
        };
        let wish = match verdict {
            Verdict::Approve => Ask::Approve(node, subject.clone()),
            Verdict::Reject => Ask::Reject(node, subject.clone()),
            Verdict::Bypass => Ask::Bypass(node, subject.clone()),
        };
        world.check(|ledger| ledger.asks(run, &person, wish));
        let input = Input::GateDecided {
            node,
            verdict,
            subject: subject.clone(),
            comment: names.chance(800).then(|| "so be it".to_owned()),
            params: BTreeMap::new(),
            standing,
        };
        ask(world, "decide", async move |handle| {
            handle.submit(run, person, input).await
        });
    }
}

/// The nodes that wait for somebody to press start.
fn waiting_starts(world: &World) -> Vec<(RunId, NodeId)> {
    world.check(|ledger| {
        let runs = ledger.open_runs();
        runs.flat_map(|book| {
            let waits = |state: &NodeState| matches!(state, NodeState::AwaitingStart { .. });
            let ids = (0..).map(NodeId).zip(book.run.nodes());
            ids.filter(move |(_, state)| waits(state))
                .map(|(id, _)| (book.run.id(), id))
        })
        .collect()
    })
}

fn press(world: &Arc<World>, rng: &mut Rng, actor: Actor) {
    let mut waiting = waiting_starts(world);
    if waiting.is_empty() {
        return;
    }
    let (run, node) = waiting.swap_remove(rng.index(waiting.len()));
    let second = if rng.chance(600) {
        Actor::user("zoe")
    } else {
        actor.clone()
    };
    let looks = match rng.below(4) {
        0 => vec![(actor, Look::Second)],
        1 => vec![(actor, Look::First)],
        _ => vec![(actor, Look::First), (second, Look::Second)],
    };
    press_start(world, run, node, looks);
}

fn press_start(world: &Arc<World>, run: RunId, node: NodeId, looks: Vec<(Actor, Look)>) {
    // Some press under the name that they have at the forge.
    let mut names = Rng::derived(world.options.seed, &[13, run.0, u64::from(node.0)]);
    let mut presses = Vec::new();
    for (person, look) in looks {
        let Some(standing) = world.check(|ledger| ledger.decider(run, &person, world.now())) else {
            continue;
        };
        let person = if names.chance(250) {
            account(&person.to_string())
        } else {
            person
        };
        world.check(|ledger| ledger.asks(run, &person, Ask::Press(node)));
        presses.push((person, look, standing));
    }
    ask(world, "press", async move |handle| {
        for (person, look, standing) in presses {
            let input = Input::StartPressed { node, look, standing };
            handle.submit(run, person, input).await?;
        }
        Ok(())
    });
}

fn cancel(world: &Arc<World>, rng: &mut Rng, actor: Actor) {
    let runs: Vec<RunId> = world.check(|ledger| ledger.books.keys().rev().take(4).copied().collect());
    let Some(run) = runs.get(rng.index(runs.len())).copied() else {
        return;
    };
    world.check(|ledger| ledger.asks(run, &actor, Ask::Cancel));
    for _ in 0..=u64::from(rng.chance(300)) {
        let actor = actor.clone();
        ask(world, "cancel", async move |handle| {
            let input = Input::CancelRequested(CancelReason::Asked);
            handle.submit(run, actor, input).await
        });
    }
}

fn retry(world: &Arc<World>, rng: &mut Rng, actor: Actor) {
    let ended: Vec<RunId> = world.check(|ledger| {
        let ended = ledger.books.iter().filter(|(_, book)| book.finished.is_some());
        ended.map(|(run, _)| *run).collect()
    });
    let Some(run) = ended.get(rng.index(ended.len())).copied() else {
        return;
    };
    let which = rng.pick(RetryWhich::Failed, &[RetryWhich::Failed, RetryWhich::All]);
    let earlier = rng.pick(Earlier::Adopt, &[Earlier::Adopt, Earlier::Ignore]);
    ask(world, "retry", async move |handle| {
        handle.retry(run, actor, which, earlier).await.map(|_| ())
    });
}

/// People who clear what waits for them once faults have stopped.
pub(crate) fn tidy(world: &Arc<World>) {
    for (run, node) in waiting_starts(world) {
        let looks = vec![
            (Actor::user("ann"), Look::First),
            (Actor::user("zoe"), Look::Second),
        ];
        press_start(world, run, node, looks);
    }
}

fn ask<F>(
    world: &Arc<World>,
    what: &'static str,
    request: impl FnOnce(pipekeeper_controller::Handle) -> F + Send + 'static,
) where
    F: Future<Output = Result<(), SubmitError>> + Send,
{
    let Some(handle) = world.handle() else { return };
    let asker = Arc::clone(world);
    world.spawner.spawn(async move {
        asker.pause().await;
        let answer = request(handle).await;
        asker.trace(|| match &answer {
            Ok(()) => format!("{what}: done"),
            Err(error) => format!("{what}: {error}"),
        });
        if what == "decide" && matches!(answer, Err(SubmitError::Rejected(_))) {
            asker.hit("guard I3 late or stale decision refused");
        }
    });
}
