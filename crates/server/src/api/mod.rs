//! The JSON API under `/api/v1`.

pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod caches;
pub(crate) mod commands;
pub(crate) mod debug;
pub(crate) mod deliveries;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod keep;
pub(crate) mod locks;
pub(crate) mod people;
pub(crate) mod projects;
pub(crate) mod runs;
pub(crate) mod secrets;
pub(crate) mod trees;
pub(crate) mod wire;
