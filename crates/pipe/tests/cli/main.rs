//! End to end: the real binary, as a user calls it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod apply;
mod cache;
mod check;
mod client;
mod clusters;
#[path = "../../../store/tests/common/postgres.rs"]
mod database;
mod db;
mod debug;
mod demo;
mod environments;
mod examples;
mod from_run;
mod kept;
mod leftovers;
mod lent;
mod local;
mod locks;
mod misc;
mod on;
mod people;
mod pty;
mod push;
mod reuse;
mod secrets;
mod server;
mod support;
mod tls;
