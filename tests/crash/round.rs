//! One round: a push is delivered, the server dies, another one goes on, and what is left is compared.

use std::time::{Duration, Instant};

use crate::{
    client::Client,
    driver::Driver,
    place::{Place, Scenario},
    server::Server,
    verify,
};

/// Signals as `wait` tells them.
const ABORT: i32 = 6;
const KILL: i32 = 9;

/// About as long as an undisturbed run takes.
const RUN_TIME: Duration = Duration::from_millis(600);

/// How a round went.
pub(crate) struct Played {
    pub(crate) deaths: u32,
    /// Attempts that ended before their ticket and were made anew.
    pub(crate) again: u32,
}

/// The server dies when it comes by a point; rounds differ in how often it comes by before.
pub(crate) fn killed_at(point: &str, round: u32) -> Result<Played, String> {
    let scenario = match point {
        "cancelled" | "stopped" => Scenario::Cancel,
        _ => Scenario::Finish,
    };
    let place = Place::make(scenario);
    let armed = format!("{point}:{}", 1 + round % passes(point));
    play(&place, |driver| {
        let server = Server::start(&place, Some(&armed))?;
        driver.until_death(server, None, ABORT)?;
        Ok(1)
    })
    .map_err(|error| format!("{armed}: {error}\n{}", place.told()))
}

/// Servers are killed at three moments that nobody chose.
pub(crate) fn killed_by_surprise() -> Result<Played, String> {
    let place = Place::make(Scenario::Finish);
    let mut lives = Vec::new();
    for _ in 0..3 {
        let random = getrandom::u32().map_err(|error| error.to_string())?;
        lives.push(RUN_TIME * (random % 1_000) / 1_000);
    }
    play(&place, |driver| {
        for life in &lives {
            let server = Server::start(&place, None)?;
            driver.until_death(server, Some(Instant::now() + *life), KILL)?;
        }
        Ok(3)
    })
    .map_err(|error| format!("killed after {lives:?}: {error}\n{}", place.told()))
}

/// Kills, goes on to the end, compares.
fn play(place: &Place, kill: impl FnOnce(&mut Driver<'_>) -> Result<u32, String>) -> Result<Played, String> {
    let mut driver = Driver::new(place);
    let deaths = kill(&mut driver)?;
    let mut server = Server::start(place, None)?;
    let client = server.client();
    let again = driver
        .until_end(&mut server)
        .and_then(|()| verify::served(place, &client))
        .and_then(|again| verify::tidied(place).map(|()| again))
        .map_err(|error| format!("{error}\n{}", history(&client)))?;
    server.stop()?;
    verify::left(place)?;
    Ok(Played { deaths, again })
}

/// What the run's history says, for whoever looks for the cause of a failure.
fn history(client: &Client) -> String {
    let answer = client.get_json("/runs/1/events?limit=500").unwrap_or_default();
    let events = answer["events"].as_array().into_iter().flatten();
    events
        .map(|event| format!("{} {} {}\n", event["at"], event["node"], event["text"]))
        .collect()
}

/// How often the server surely comes by a point in one round.
fn passes(point: &str) -> u32 {
    match point {
        "hook_read" | "hook_stored" | "admitted" | "stopped" => 2,
        "effect_begun" | "launched" | "ticket_asked" | "ticket_granted" | "ticket_given" | "log_grew"
        | "end_seen" | "end_committed" => 5,
        _ => 1,
    }
}
