//! HTTP: webhooks, the JSON API under `/api/v1`, live streams and the pages.
//!
//! It decides nothing about runs: handlers write intents through the controller's `Handle` and read the store. Every
//! route stands in one table with the right it wants. Entry: [`serve`], with [`ServerParts`].

mod ansi;
mod api;
mod app;
mod assets;
mod documents;
mod environments;
mod error;
mod extract;
mod gone;
mod guard;
mod hooks;
mod inbox;
mod links;
mod listen;
mod live;
mod load;
mod logs;
mod markdown;
mod metrics;
mod oidc;
mod ops;
mod pages;
mod parts;
mod people;
mod routes;
mod seats;
mod session;
mod stall;
pub mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod token;
mod vault;

pub use documents::configure;
pub use environments::KeptEnvironments;
pub use listen::{ServeError, loopback_only, serve};
pub use oidc::{Oidc, OidcError, OidcOptions, Transport};
pub use parts::{
    Composer, Elsewhere, Exposure, FixedProjects, HookProject, HookSeal, Limits, Projects, ServerParts,
    TreeError, Trees, Unusable,
};
pub use people::{foreign::Newcomers, login::first_link, standing::RegisteredPeople};
pub use tls::{TlsError, TlsFiles};
pub use token::{AccessToken, TokenError};
pub use vault::{Vault, unlent};
