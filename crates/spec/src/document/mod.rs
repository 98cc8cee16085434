//! Documents: what a server knows, declared in files of one or more YAML documents.
//!
//! Each kind has a module with its type and its keys. Nothing here does I/O or knows what a server has. Entries:
//! [`check_documents`] for files, [`check_set`] for documents, [`diff`] between two versions of one.

mod app;
mod canonical;
mod cluster;
mod cluster_keys;
mod environment;
mod environment_keys;
mod fault;
mod files;
mod forge;
mod kind;
mod lend;
mod machine;
mod notification;
mod page;
mod parts;
mod project;
mod read;
mod registry;
mod role_binding;
mod secret;
mod set;

pub use app::{App, AppImage, Renderer, Source};
pub use canonical::{Change, diff};
pub use cluster::{
    Cluster, ClusterLimits, ClusterNamespaces, ClusterObjectStore, ClusterProfiles, ClusterResources,
    ClusterVolume, ForkProfile, Hold, Pool, Profile, VolumeSource,
};
pub use environment::{
    After, Approvals, Environment, EnvironmentKey, Expedite, OnFailedMove, Rollback, SkippedRule,
};
pub use fault::Fault;
pub use files::check_documents;
pub use forge::{Discover, Forge, ForgeType};
pub use kind::{Body, Document, Kind, ParseKindError};
pub use lend::Lend;
pub use notification::{Address, Format, Happening, Notification};
pub use page::{KeyRow, document_schema, document_table, documents_schema, explain_key};
pub use parts::{ValueSource, filled};
pub use project::{EnvironmentOfProject, Forks, Project, Protected, Retention};
pub use registry::{PullSecret, Registry};
pub use role_binding::RoleBinding;
pub use secret::{Secret, SecretTier};
pub use set::{Others, check_set};
