//! HTTP: webhooks, the JSON API under `/api/v1`, live streams and the pages.
//!
//! It decides nothing about runs: handlers write intents through the controller's `Handle` and read the store. Every
//! route stands in one table with the right it wants. Entry: [`serve`], with [`ServerParts`].

mod ansi;
mod api;
mod app;
mod assets;
mod documents;
mod error;
mod extract;
mod guard;
mod hooks;
mod listen;
mod live;
mod load;
mod logs;
mod markdown;
mod metrics;
mod ops;
mod pages;
mod parts;
mod people;
mod routes;
mod session;
mod stall;
pub mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod token;

pub use listen::{ServeError, loopback_only, serve};
pub use parts::{Exposure, FixedProjects, HookProject, Limits, Projects, ServerParts, TreeError, Trees};
pub use people::{login::first_link, standing::RegisteredPeople};
pub use token::{AccessToken, TokenError};
