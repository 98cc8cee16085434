//! Who may do what: [`Role`]s that people are granted, [`Verb`]s that requests want, and [`authorize`] between them.
//!
//! Nothing here knows how somebody proved who they are, or does I/O. The table of roles and verbs in the documentation is
//! made of [`Verb::ALL`], so that it says what this code does.

mod principal;
mod role;
mod verb;

pub use principal::{Denied, Grant, Place, Principal, Projects, Scope, authorize};
pub use role::{Role, RoleError};
pub use verb::Verb;
