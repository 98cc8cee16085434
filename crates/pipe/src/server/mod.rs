//! The server as a whole: store, source, backend, controller and HTTP, put together and taken down in order.

pub(crate) mod address;
mod clusters;
mod compose;
mod composing;
pub(crate) mod database;
mod lender;
mod objects;
mod secrets;
mod terms;
pub(crate) mod tokens;
mod trees;

pub(crate) use clusters::inspect;
pub(crate) use compose::{Closed, Started, start};
pub(crate) use composing::FOLDER;
pub(crate) use database::BEGUN_ANEW;
