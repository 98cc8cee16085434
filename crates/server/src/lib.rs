//! HTTP: webhooks, the JSON API under `/api/v1`, live streams and the pages.
//!
//! It decides nothing about runs: handlers write intents through the controller's `Handle` and read the store. Every
//! route stands in one table with the right it wants. Entry: [`serve`], with [`ServerParts`].

mod app;
mod listen;
mod metrics;
mod parts;
mod stall;
mod token;

pub use listen::{ServeError, loopback_only, serve};
pub use parts::{FixedProjects, HookProject, Limits, Projects, ServerParts};
pub use token::{AccessToken, TokenError};
