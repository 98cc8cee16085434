//! All inputs of a large plan through the engine, to the end.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use pipekeeper_engine::{Decision, Effect, Envelope, Input, Run, Seen, decide, evolve};
use pipekeeper_model::{
    Actor, AttemptOutcome, AttemptRecord, Holder, NodeId, Outcome, Plan, RunId, Timestamp,
};

use crate::{
    figure::{Figure, Samples, Target},
    seed,
};

const NODES: u32 = 10_000;
const ROUNDS: usize = 9;
const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(super) fn measure() -> Result<Vec<Figure>> {
    let (half, whole) = (plan(NODES / 2)?, plan(NODES)?);
    let (mut rate, mut growth, mut twice) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let (_, half_took) = drive(&half)?;
        let (transitions, took) = drive(&whole)?;
        if round > 0 {
            rate.add(transitions as f64 / took / 1e6);
            growth.add(took * 1e3);
            twice.add(half_took * 2e3);
        }
    }
    Ok(vec![
        Figure {
            what: "10,000 nodes of two needs each, all events decided and folded, per second of one core",
            unit: "M",
            ours: rate,
            floor: None,
            target: Target::AtLeast(1.0),
        },
        Figure {
            what: "the same, whole",
            unit: "ms",
            ours: growth,
            floor: Some(("twice 5,000 nodes", twice)),
            target: Target::RatioAtMost(1.3),
        },
    ])
}

/// Node n needs n/2 and the one before that, so that many are ready at a time.
fn plan(nodes: u32) -> Result<Plan> {
    let mut plan = seed::plan("on: { manual: true }\nactions:\n  - { name: n0, run: 'true' }\n")?;
    let first = plan.nodes.first().context("plan without a node")?.clone();
    for number in 1..nodes {
        let mut node = first.clone();
        node.name = format!("n{number}");
        node.action = node.name.parse()?;
        let half = number / 2;
        node.needs = [half.checked_sub(1), Some(half)]
            .into_iter()
            .flatten()
            .map(NodeId)
            .collect();
        plan.nodes.push(node);
    }
    Ok(plan)
}

/// Drives a run to its end: how many events, in how many seconds.
fn drive(plan: &Plan) -> Result<(usize, f64)> {
    let request = Arc::new(seed::request(plan.clone())?);
    let mut driver = Driver {
        run: Run::new(RunId(1)),
        effects: VecDeque::new(),
        events: 0,
    };
    let started = processor_seconds()?;
    driver.give(Input::RunRequested(request))?;
    let mut launched = 0_usize;
    while let Some(effect) = driver.effects.pop_front() {
        let Effect::LaunchAttempt { attempt } = effect else {
            continue;
        };
        launched += 1;
        let holder = Holder(String::from("h"));
        driver.give(Input::TicketAsked {
            attempt,
            holder: holder.clone(),
            standings: BTreeMap::new(),
        })?;
        let record = AttemptRecord::without_steps(AttemptOutcome::Succeeded, "", NOW);
        let seen = Seen::Finished {
            holder,
            record: Box::new(record),
        };
        driver.give(Input::AttemptObserved { attempt, seen })?;
    }
    let took = processor_seconds()? - started;
    ensure!(launched == plan.nodes.len(), "{launched} launches");
    ensure!(
        driver.run.outcome() == Some(Outcome::Succeeded),
        "the run did not succeed"
    );
    Ok((driver.events, took))
}

/// The time that this thread had a processor: it is alone and waits for nothing, so that only others' load differs.
fn processor_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("read this thread's time")?;
    let nanos: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}

struct Driver {
    run: Run,
    effects: VecDeque<Effect>,
    events: usize,
}

impl Driver {
    fn give(&mut self, body: Input) -> Result<()> {
        let envelope = Envelope {
            at: NOW,
            actor: Actor::System,
            body,
        };
        let Decision { events, effects } = decide(&self.run, &envelope)?;
        for event in &events {
            evolve(&mut self.run, event);
        }
        self.events += events.len();
        self.effects.extend(effects);
        Ok(())
    }
}
