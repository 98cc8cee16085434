//! Gitea: `push` for branches and tags alike. It also tells of new and deleted refs by `create` and `delete`, which say
//! nothing that a push or the poller does not say better.
//!
//! Gitea sends GitHub's and Gogs' headers beside its own; only its own are read.

use crate::{
    ForgeEvent, ForgeKind, ParseFailure,
    dialect::Dialect,
    json,
    push::{CommitList, PushPayload, push_event},
};

/// Servers too old to send `total_commits` list at most this many.
const MAX_LISTED_COMMITS: usize = 5;

pub(crate) const DIALECT: Dialect = Dialect {
    event_header: "x-gitea-event",
    delivery_header: "x-gitea-delivery",
    signature_header: "x-gitea-signature",
    signature_prefix: "",
    read,
};

fn read(event: &str, body: &[u8]) -> Result<ForgeEvent, ParseFailure> {
    match event {
        "push" => Ok(read_push(json::read(body)?)),
        other => Ok(ForgeEvent::ignored(&format!(
            "`{other}` events of Gitea start no run"
        ))),
    }
}

fn read_push(payload: PushPayload) -> ForgeEvent {
    let listed = payload.commits.as_ref().map_or(0, Vec::len);
    let is_whole = match payload.total_commits {
        Some(total) => listed == total,
        None => listed < MAX_LISTED_COMMITS,
    };
    let list = if is_whole {
        CommitList::Whole
    } else {
        CommitList::Cut
    };
    push_event(ForgeKind::Gitea, payload, list)
}
