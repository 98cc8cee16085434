//! Attempts in the containers of a Docker or Podman engine. Entry type: [`DockerHost`], a host of pods.
//!
//! ```text
//! create ─▶ volumes, container `agent` (its label holds the rest of the pod) ─▶ keeper: pull, create, start, probe
//! watch  ─▶ one stream of events, repaired by lists ─▶ view ─▶ judge ─▶ PodState
//! open   ─▶ exec in `agent`, whose input and output are the stream
//! ```
//! An engine knows no pods: what is one is said by labels. The containers of an attempt share the network of its
//! `agent`, and volumes that come and go with it. The socket of the engine is mounted into none of them.

mod agent_image;
mod engine;
mod exec;
mod host;
mod judge;
mod keeper;
mod known;
mod names;
mod options;
mod pull;
mod remove;
mod render;
mod view;
mod watch;

pub use host::DockerHost;
pub use options::{AgentImage, DockerOptions, Patience, find_socket};
