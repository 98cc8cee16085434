//! The backend on real engines: Docker's and Podman's, as `scripts/dev-docker env` prints them.

#![cfg(test)]

mod attempts;
mod contract;
mod debug;
mod restart;
mod trouble;
mod world;
