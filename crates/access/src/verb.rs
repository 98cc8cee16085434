//! Verbs: what a request may want.

use crate::Role;

/// What somebody wants to do. Each route of the server names exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Look at runs, their logs, artifacts and tests.
    ReadRuns,
    /// Look at webhook deliveries and refusals, with their bodies.
    ReadDeliveries,
    /// Look at caches.
    ReadCaches,
    /// Look at the server's figures.
    ReadMetrics,
    /// Look at documents and their history.
    ReadDocuments,
    /// Start a run.
    StartRun,
    /// Send a working tree to make a run of.
    SendTree,
    /// Cancel a run.
    CancelRun,
    /// Make a new run of a finished one.
    RetryRun,
    /// Keep a run whatever its age, and let it go again.
    KeepRun,
    /// Start an action that waits for a person.
    StartAction,
    /// Decide at a gate, as far as the gate's own rule allows.
    Decide,
    /// Open a shell in an action's containers.
    OpenTerminal,
    /// Handle a delivery again.
    ReplayDelivery,
    /// Remove caches.
    RemoveCaches,
    /// Look at where secrets may be used; no value is ever shown.
    ReadSecrets,
    /// Set and remove secrets.
    ChangeSecrets,
    /// Look at the audit log.
    ReadAudit,
    /// Open a gate against its rule, with a reason.
    Bypass,
    /// Change documents.
    ApplyDocuments,
    /// Change the key that seals secrets.
    RotateKey,
    /// Look at people and their roles.
    ReadUsers,
    /// Change people and their roles.
    ManageUsers,
}

impl Verb {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 23] = [
        Self::ReadRuns,
        Self::Decide,
        Self::ReadMetrics,
        Self::ReadCaches,
        Self::ReadDeliveries,
        Self::ReadDocuments,
        Self::StartRun,
        Self::SendTree,
        Self::CancelRun,
        Self::RetryRun,
        Self::KeepRun,
        Self::StartAction,
        Self::OpenTerminal,
        Self::ReplayDelivery,
        Self::RemoveCaches,
        Self::ReadSecrets,
        Self::ChangeSecrets,
        Self::ReadAudit,
        Self::Bypass,
        Self::ApplyDocuments,
        Self::RotateKey,
        Self::ReadUsers,
        Self::ManageUsers,
    ];

    /// The least role that may do it.
    pub fn least(self) -> Role {
        match self {
            // Who may decide at a gate is the gate's own rule; whoever sees it may try.
            Self::ReadRuns | Self::Decide | Self::ReadMetrics | Self::ReadCaches => Role::Viewer,
            Self::ReadDeliveries
            | Self::ReadDocuments
            | Self::StartRun
            | Self::SendTree
            | Self::CancelRun
            | Self::RetryRun
            | Self::KeepRun
            | Self::StartAction
            | Self::OpenTerminal => Role::Developer,
            Self::ReplayDelivery
            | Self::RemoveCaches
            | Self::ReadSecrets
            | Self::ChangeSecrets
            | Self::ReadAudit => Role::Maintainer,
            Self::Bypass | Self::ApplyDocuments | Self::RotateKey | Self::ReadUsers | Self::ManageUsers => {
                Role::Admin
            }
        }
    }

    /// What it is, in a few words that go behind "may".
    pub fn words(self) -> &'static str {
        match self {
            Self::ReadRuns => "look at runs, logs and artifacts",
            Self::ReadDeliveries => "look at deliveries",
            Self::ReadCaches => "look at caches",
            Self::ReadMetrics => "look at the server's figures",
            Self::ReadDocuments => "look at documents",
            Self::StartRun => "start a run",
            Self::SendTree => "send a working tree",
            Self::CancelRun => "cancel a run",
            Self::RetryRun => "retry a run",
            Self::KeepRun => "keep a run whatever its age",
            Self::StartAction => "start an action that waits for a person",
            Self::Decide => "decide at a gate whose rule names them",
            Self::OpenTerminal => "open a shell in an action",
            Self::ReplayDelivery => "replay a delivery",
            Self::RemoveCaches => "remove caches",
            Self::ReadSecrets => "look at secrets, without their values",
            Self::ChangeSecrets => "set and remove secrets",
            Self::RotateKey => "change the key that seals secrets",
            Self::ReadAudit => "look at the audit log",
            Self::Bypass => "open a gate against its rule",
            Self::ApplyDocuments => "change documents",
            Self::ReadUsers => "look at people",
            Self::ManageUsers => "change people and their roles",
        }
    }
}
