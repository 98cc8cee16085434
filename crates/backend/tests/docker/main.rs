//! The backend on real engines: Docker's and Podman's, as `scripts/dev-docker env` prints them.

#![cfg(test)]
#![expect(clippy::unwrap_used, reason = "these are helpers of tests too")]

mod attempts;
mod contract;
mod restart;
mod trouble;
mod world;
