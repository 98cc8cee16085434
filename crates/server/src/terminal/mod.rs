//! A terminal on an HTTP connection: after `101 Switching Protocols` both sides send frames.
//!
//! ```text
//! client                                             server
//!    ── POST /api/v1/runs/57/nodes/test/debug, Upgrade: pipekeeper-terminal ─▶
//!    ◀────────────────────────────────────────────────────────── 101
//!    ◀── Note, Output …                     what happens before the shell opens
//!    ◀── Opened
//!    ── Input, Size ─▶   ◀── Output         either of them sends Alive where it has nothing to say
//!    ◀── Note, Closed                       what becomes of what the shell ran in; or Refused; and the end
//! ```
//! Entry types: [`Frame`], [`FrameReader`].

mod frame;
pub(crate) mod serve;

pub use frame::{Frame, FrameError, FrameReader, send};

use std::time::Duration;

/// What the connection becomes, as the header `Upgrade` names it.
pub const PROTOCOL: &str = "pipekeeper-terminal";
/// How often a side says that it is there.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// After this long without a word the other side is taken for gone.
pub const SILENCE: Duration = Duration::from_secs(50);
