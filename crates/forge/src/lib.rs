//! Verifies and parses webhook deliveries.
//!
//! Pure: no network, no clock, no store. [`verify`] judges the raw bytes against the project's secret, [`parse`] turns a
//! verified body into a [`ForgeEvent`], and [`sign`] makes the headers that an honest sender would send. Each forge has one
//! module that holds its header names and its payload's shape.

mod delivery;
mod dialect;
mod event;
mod gitea;
mod github;
mod json;
mod kind;
mod push;
mod secret;
mod text;

pub use delivery::{RawDelivery, RefusalReason, Verified, sign, verify};
pub use event::{ChangedPaths, ForgeEvent, ParseFailure, Push, parse};
pub use kind::{ForgeKind, ParseForgeKindError};
pub use secret::{EmptySecret, HookSecret};
