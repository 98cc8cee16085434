//! Moves one file between a pod and an object store: the order comes on standard input, as JSON, and what went wrong goes
//! to standard output, as one line in which no URL stands.
//!
//! A program of its own, so that the supervisor, which is copied into every pod, needs neither HTTP nor TLS.

mod refusal;
mod transfer;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use pipekeeper_agent::protocol::TransferOrder;

fn main() -> ExitCode {
    let order: Result<TransferOrder, _> = serde_json::from_reader(io::stdin().lock());
    let done = match &order {
        Ok(order) => transfer::run(order).map_err(|error| error.to_string()),
        Err(_) => Err("the order cannot be understood".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Whoever started this may be gone.
            drop(writeln!(io::stdout(), "{reason}"));
            ExitCode::FAILURE
        }
    }
}
