//! The server dies at every named point and is started again on the same folder: no delivery is lost, no step runs
//! twice, and side effects, logs and API agree.
//!
//! One round is one folder with a repository, a server and two deliveries of one push; see [`round`]. `CRASH_ROUNDS`
//! says how many rounds each point gets, `CRASH_POINT` names the only point to die at. In [`pods`] the actions are twenty
//! pods of a real cluster, and in [`replicas`] several servers share a Postgres database,
//! in [`clients`] ten thousand clients hang up in the middle, and in [`approvals`] people decide.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod approvals;
mod client;
mod clients;
#[path = "../../crates/store/tests/common/postgres.rs"]
mod database;
mod driver;
mod fleet;
mod place;
mod pods;
mod processes;
mod replicas;
mod round;
mod server;
mod table;
mod verify;

use pipekeeper_failpoint::POINTS;

use crate::{
    round::{killed_at, killed_by_surprise},
    table::{Table, rounds},
};

const ROUNDS: u32 = 20;

#[test]
fn some_points_lose_nothing() {
    let mut table = Table::default();
    for point in ["hook_stored", "launched", "end_seen", "cancelled"] {
        table.play(point, 1, |round| killed_at(point, round));
    }
    table.close();
}

#[test]
fn slow_every_point_loses_nothing() {
    let mut table = Table::default();
    let only = std::env::var("CRASH_POINT").ok();
    let wanted = |point: &str| only.as_ref().is_none_or(|only| only == point);
    for (point, _) in POINTS.into_iter().filter(|(point, _)| wanted(point)) {
        table.play(point, rounds(ROUNDS), |round| killed_at(point, round));
    }
    table.close();
}

#[test]
fn slow_deaths_by_surprise_lose_nothing() {
    let mut table = Table::default();
    table.play("kill -9, three times", rounds(ROUNDS), |_| killed_by_surprise());
    table.close();
}
