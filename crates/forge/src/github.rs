//! GitHub: `push` for branches and tags alike, `ping`; everything else is ignored by name.

use crate::{
    ForgeEvent, ForgeKind, ParseFailure,
    dialect::Dialect,
    json,
    push::{CommitList, PushPayload, push_event},
};

/// GitHub lists no more commits than this in one payload.
const MAX_LISTED_COMMITS: usize = 2_048;

pub(crate) const DIALECT: Dialect = Dialect {
    event_header: "x-github-event",
    delivery_header: "x-github-delivery",
    signature_header: "x-hub-signature-256",
    signature_prefix: "sha256=",
    read,
};

fn read(event: &str, body: &[u8]) -> Result<ForgeEvent, ParseFailure> {
    match event {
        "push" => Ok(read_push(json::read(body)?)),
        "ping" => Ok(ForgeEvent::Ping),
        other => Ok(ForgeEvent::ignored(&format!(
            "`{other}` events of GitHub start no run"
        ))),
    }
}

fn read_push(payload: PushPayload) -> ForgeEvent {
    let list = match &payload.commits {
        Some(commits) if commits.len() < MAX_LISTED_COMMITS => CommitList::Whole,
        Some(_) | None => CommitList::Cut,
    };
    push_event(ForgeKind::GitHub, payload, list)
}
