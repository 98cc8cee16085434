//! Attempts in pods: a supervisor's container with a container for each image that steps want, on a host that makes
//! containers and opens streams into them.
//!
//! What is the same for every such host is here: what becomes of an attempt, its streams, its files, its record. A
//! [`PodHost`] makes, watches and removes pods. Entry type: [`PodBackend`].
//!
//! ```text
//! root/attempts/r57-n3-a1/  pod.json     what it was launched with
//!                           ticket       the pod that may start; `void` if none ever may
//!                           artifacts/ … fetched from the pod
//!                           exit.json    the record, once all it names is here; the pod may go
//! ```

mod backend;
mod caches;
mod debug;
mod files;
mod held;
mod host;
mod keeper;
mod lane;
mod link;
mod mirror;
mod objects;
mod order;
mod patient;
mod pool;
mod quantity;
mod streams;
mod wire;

pub use backend::{PodBackend, PodOptions};
pub use held::HoldOptions;
pub use host::{Cause, LogOf, OpenError, Opened, PodHost, PodSharing, PodState, PodStream, StreamRole, Why};
pub(crate) use mirror::write_whole;
pub use objects::maker_of;
pub use order::{PodContainer, PodPlan, paths};
pub use pipekeeper_agent::protocol::FileLimits;
pub use pool::PoolOptions;
pub use quantity::thousandths;
pub use streams::StreamLimit;
