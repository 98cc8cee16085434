//! Real supervisors with real processes, driven as a controller drives them.

#![expect(clippy::unwrap_used, reason = "these are helpers of tests too")]

mod files;
mod life;
mod output;
mod pod;
mod processes;
mod support;
mod transfers;
