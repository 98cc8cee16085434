//! Servers that share a database: whoever performs dies, sleeps or is restarted, and nothing is lost or done twice.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    driver::wait_until,
    fleet::{Fleet, duty},
};

/// The longest that nobody may perform.
const TAKE_OVER: Duration = Duration::from_secs(15);

fn play(story: impl FnOnce(&mut Fleet) -> Result<(), String>) {
    let Some(mut fleet) = Fleet::start(3) else { return };
    if let Err(error) = story(&mut fleet) {
        panic!("{error}\n{}", fleet.place.told());
    }
}

fn others(place: usize) -> Vec<usize> {
    (0..3).filter(|other| *other != place).collect()
}

#[test]
fn slow_killing_the_one_who_performs_loses_nothing() {
    play(|fleet| {
        let performer = fleet.performer(&[0, 1, 2])?;
        fleet.deliver(0..12)?;
        let killed = Instant::now();
        fleet.kill(performer);
        let took = fleet.take_over(&others(performer), killed)?;
        fleet.deliver(12..18)?;
        fleet.settle(18)?;
        tell("killed", took);
        within(took)
    });
}

#[test]
fn slow_one_who_slept_past_its_lease_does_nothing_when_it_wakes() {
    play(|fleet| {
        let performer = fleet.performer(&[0, 1, 2])?;
        fleet.deliver(0..12)?;
        let stopped = Instant::now();
        fleet.signal(performer, Signal::STOP);
        let took = fleet.take_over(&others(performer), stopped)?;
        fleet.signal(performer, Signal::CONT);
        // It hears that another one performs, and begins anew as one that decides.
        wait_until("the one who slept only decides", || {
            let client = fleet.server(performer).client_now();
            Ok(duty(&client).is_ok_and(|duty| duty == "deciding"))
        })?;
        fleet.deliver(12..18)?;
        fleet.settle(18)?;
        tell("slept", took);
        within(took)
    });
}

#[test]
fn slow_restarting_one_after_the_other_loses_nothing() {
    play(|fleet| {
        fleet.performer(&[0, 1, 2])?;
        for place in 0..3 {
            fleet.deliver(6 * place..6 * place + 6)?;
            fleet.stop(place)?;
            let stopped = Instant::now();
            let took = fleet.take_over(&others(place), stopped)?;
            tell("restarted", took);
            within(took)?;
            fleet.start_again(place);
        }
        fleet.settle(18)
    });
}

#[test]
fn slow_of_approvals_at_the_same_time_at_every_server_one_decides() {
    play(|fleet| {
        fleet.performer(&[0, 1, 2])?;
        let delivery = fleet.place.push_to("gated");
        let clients = fleet.clients();
        wait_until("the delivery is taken", || {
            Ok(clients[1]
                .deliver(&delivery)
                .is_ok_and(|answer| answer.status == 202))
        })?;
        let mut subject = None;
        wait_until("the gate opens", || {
            let run = clients[2].get_json("/runs/1").unwrap_or_default();
            let nodes = run["nodes"].as_array().cloned().unwrap_or_default();
            let gate = nodes.into_iter().find(|node| node["name"] == "gate");
            subject = gate.and_then(|gate| Some(gate["gate"]["subject"].as_str()?.to_owned()));
            Ok(subject.is_some())
        })?;
        let approving: Vec<_> = (0..24)
            .map(|number| {
                let (client, subject) = (clients[number % 3].clone(), subject.clone());
                thread::spawn(move || {
                    let answer = client.post("/runs/1/nodes/gate/approve", &json!({ "subject": subject }));
                    answer.map(|answer| answer.status)
                })
            })
            .collect();
        for approved in approving {
            let status = approved.join().unwrap().map_err(|error| error.to_string())?;
            if ![200, 202, 204, 409].contains(&status) {
                return Err(format!("an approval is answered with {status}"));
            }
        }
        fleet.settle(1)?;
        let history = clients[0]
            .get_json("/runs/1/events?limit=500")
            .map_err(|error| error.to_string())?;
        let events = history["events"].as_array().cloned().unwrap_or_default();
        let decided = events.iter().filter(|event| event["type"] == "gate_approved");
        match decided.count() {
            1 => Ok(()),
            count => Err(format!("the gate was approved {count} times")),
        }
    });
}

fn within(took: Duration) -> Result<(), String> {
    if took <= TAKE_OVER {
        return Ok(());
    }
    Err(format!("nobody performed for {took:?}"))
}

#[expect(clippy::print_stdout, reason = "the run tells how long nobody performed")]
fn tell(what: &str, took: Duration) {
    println!(
        "{what}: another server performs after {:.1} s",
        took.as_secs_f64()
    );
}
