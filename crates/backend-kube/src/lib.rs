//! Attempts as Kubernetes pods, for clusters from 1.20 on: rendered, created or adopted, watched, streamed into, removed.
//!
//! The cluster is observed, never trusted to remember: what an attempt is stands in the store, and who may start it in its
//! ticket. Entry type: [`KubeHost`], a [`PodHost`](pipekeeper_backend::pod::PodHost).

mod calls;
mod exec;
mod host;
mod judge;
mod known;
mod names;
mod options;
mod refusal;
mod render;
mod sharing;
mod watch;

pub use host::KubeHost;
pub use options::{ClusterOptions, Namespaces, Patience, Profile, Profiles, Volume, VolumeSource, pinned};
pub use render::render_pod;
