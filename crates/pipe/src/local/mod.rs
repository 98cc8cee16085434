//! `pipe run`: the controller with a store in memory, the local backend, and a person at the terminal.

pub(crate) mod caches;
mod earlier;
pub(crate) mod event;
mod host;
pub(crate) mod leftovers;
mod locks;
mod place;
pub(crate) mod pods;
pub(crate) mod secrets;
pub(crate) mod server_run;
pub(crate) mod session;
mod supplies;
pub(crate) mod watch;

pub(crate) use host::variables as host_variables;
pub(crate) use place::{KeptRun, Place, kept_runs};
pub(crate) use supplies::LocalSupplies;
