//! The supervisor of one attempt of an action.
//!
//! A library: inside pods a tiny program calls [`main_in_pod`], locally the binary `pipe` re-executes itself as
//! `pipe agent --dir DIR`. It runs the steps, keeps the log and the exit record in files, and talks to whichever
//! controller is connected; it never calls out, decides nothing about runs and survives its controller's death.
//!
//! ```text
//! controller                         supervisor (stdin: a listening unix socket)
//!     │ spec.json, bind, spawn ─────────▶ │ setsid, lock, holder id
//!     │ connect ────────────────────────▶ │
//!     │ (Begin{dir} ────────────────────▶ │ on a connection of its own, if there was no spec yet)
//!     │ ◀────── CheckedIn{holder, nonce}  │ again on every connection, then the present state
//!     │ Go{holder, secrets} ────────────▶ │ creates `ticket` once; only now user code may start
//!     │ ◀────── Started, StepStarted, LogGrew, Silent
//!     │ Stop{grace_ms} ─────────────────▶ │ TERM, grace, KILL to every descendant
//!     │ ◀────── Finished{record}          │ `exit.json` is on disk before this is sent
//!     ╳ end of stream                     │ cleans up and ends
//! ```
//!
//! The newest connection wins and the end of a connection stops nothing (but see [`Orphan`](protocol::Orphan)).
//! The rule for the controller: whenever the stream ends, read `exit.json`; if there is none and no process holds
//! `lock`, the attempt is lost if `ticket` exists, and never started if not.

pub mod archive;
mod cache;
mod connection;
mod copy;
mod echo;
mod ending;
mod entry;
mod error;
mod finish;
mod interrupt;
mod link;
mod log;
mod mask;
mod memory;
mod outputs;
mod pod;
mod process;
pub mod protocol;
mod script;
mod signals;
mod spare;
mod spawn;
mod supervisor;
mod transfer;
mod workspace;

pub use cache::is_whole_cache;
pub use copy::{Copied, Copier, copy_tree};
pub use entry::{PodRole, main, main_in_pod};
pub(crate) use error::error_text;
