//! Attempts as Kubernetes pods, for clusters from 1.20 on: rendered, created or adopted, watched, streamed into, removed.
//!
//! The cluster is observed, never trusted to remember: what an attempt is stands in the store, and who may start it in its
//! ticket. Entry type: [`KubeHost`], a [`PodHost`](pipekeeper_backend::pod::PodHost).

mod alone;
mod block;
mod calls;
mod exec;
mod host;
mod judge;
mod known;
mod lending;
mod listings;
mod loosened;
mod make;
mod names;
mod options;
mod pulling;
mod refusal;
mod render;
mod sharing;
mod tenancy;
mod watch;

pub use block::{Block, BlockError};
pub use host::{KubeHost, NamespaceState};
pub use lending::{LENT_ACCOUNT, LentAccess};
pub use names::is_label;
pub use options::{
    ClusterOptions, Limits, Making, Namespaces, Patience, Profile, Profiles, ROLE, Volume, VolumeSource,
    pinned,
};
pub use pulling::PullConfig;
pub use render::render_pod;
