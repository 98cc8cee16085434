//! What a delivery says, in words that every forge shares; [`parse`] is the entry.

use pipekeeper_model::{Actor, GitRef, Sha};
use thiserror::Error;

use crate::{ForgeKind, dialect::dialect, json, text};

/// What a genuine delivery is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one value lives per delivery, and briefly"
)]
pub enum ForgeEvent {
    /// A branch or a tag moved, came or went.
    Push(Push),
    /// The forge tried whether somebody answers.
    Ping,
    /// Something that starts no run.
    Ignored {
        /// Why, as a fragment for people.
        reason: String,
    },
}

impl ForgeEvent {
    pub(crate) fn ignored(reason: &str) -> Self {
        Self::Ignored {
            reason: text::display_line(reason, 300),
        }
    }
}

/// One move of one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The repository's full name at the forge, such as `mall/web`.
    pub repository: String,
    /// Where the payload says that the repository can be cloned: display text, never fetched from.
    pub clone_url: Option<String>,
    /// The branch or tag.
    pub git_ref: GitRef,
    /// Where the ref pointed before; none if it is new.
    pub before: Option<Sha>,
    /// Where the ref points now; none if it was deleted. For an annotated tag this is the tag object, as forges send it.
    pub after: Option<Sha>,
    /// The account that the forge authenticated.
    pub pusher: Actor,
    /// The first line of the newest commit's message.
    pub subject: String,
    /// What the pushed commits touched, as far as the payload tells.
    pub changed: ChangedPaths,
    /// How many commits the forge counted.
    pub commits: usize,
}

/// The paths that a payload lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedPaths {
    /// The payload does not tell, or tells only a part.
    Unknown,
    /// Every path that a pushed commit added, changed or removed, sorted.
    Listed(Vec<String>),
}

/// Why a genuine delivery cannot be read.
#[derive(Debug, Error)]
pub enum ParseFailure {
    /// Nested deeper than any honest payload.
    #[error("read the payload: it is nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest level taken.
        limit: usize,
    },
    /// A form whose field is not well encoded.
    #[error("read the payload: its form encoding is broken; hint: set the webhook's content type to JSON")]
    BadForm,
    /// No JSON, or JSON of another shape.
    #[error("read the payload: {0}")]
    BadJson(#[source] serde_json::Error),
}

/// Reads the body of a verified delivery.
pub fn parse(kind: ForgeKind, event: &str, body: &[u8]) -> Result<ForgeEvent, ParseFailure> {
    if event.is_empty() {
        return Ok(ForgeEvent::ignored("the delivery names no event"));
    }
    (dialect(kind).read)(event, &json::json_text(body)?)
}

#[cfg(test)]
mod tests;
