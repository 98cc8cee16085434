//! The backend on a real cluster: the one that `KUBECONFIG` names, with the registry that `PIPE_TEST_REGISTRY` names.

#![expect(clippy::unwrap_used, reason = "these are helpers of tests too")]

mod contract;
mod cost;
mod cuts;
mod debug;
mod ends;
mod evictions;
mod held;
mod leaks;
mod nodes;
mod objects;
mod proxy;
mod restarts;
#[path = "../../../objects/tests/objects/server.rs"]
mod s3;
mod scene;
mod starts;
mod tenancy;
mod warm;
mod work;
mod world;
