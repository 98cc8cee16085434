//! What sets one forge's deliveries apart: header names, signature form, payload reader.

use crate::{ForgeEvent, ForgeKind, ParseFailure, gitea, github};

/// One forge's conventions.
pub(crate) struct Dialect {
    /// Lower-case name of the header with the event's word.
    pub(crate) event_header: &'static str,
    /// Lower-case name of the header with the delivery's id.
    pub(crate) delivery_header: &'static str,
    /// Lower-case name of the header with the signature.
    pub(crate) signature_header: &'static str,
    /// What stands before the hex digits of the signature.
    pub(crate) signature_prefix: &'static str,
    /// Reads a body of a known event.
    pub(crate) read: fn(event: &str, json: &[u8]) -> Result<ForgeEvent, ParseFailure>,
}

/// The conventions of a kind of forge.
pub(crate) fn dialect(kind: ForgeKind) -> &'static Dialect {
    match kind {
        ForgeKind::GitHub => &github::DIALECT,
        ForgeKind::Gitea => &gitea::DIALECT,
    }
}
