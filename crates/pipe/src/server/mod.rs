//! The server as a whole: store, source, backend, controller and HTTP, put together and taken down in order.

pub(crate) mod address;
mod clusters;
mod compose;
pub(crate) mod database;
mod objects;
mod secrets;
pub(crate) mod tokens;
mod trees;

pub(crate) use clusters::inspect;
pub(crate) use compose::{Started, start};
