//! A deterministic simulation of everything around the controller: store, backend, intake, people and time.
//!
//! It drives the controller's own loop through its ports and copies none of it. One seed is one world: the same seed
//! takes the same steps. Entry points: [`Options::draw`], [`simulate`] and [`shrink()`].

mod backend;
mod bugs;
mod check;
mod clock;
mod environment_bugs;
mod environments;
mod executor;
mod gate_bugs;
mod intake;
mod lock_bugs;
mod options;
mod people;
mod plans;
mod rng;
mod script;
mod shrink;
mod simulation;
mod store;
mod supervisor;
mod users;
mod world;

pub use bugs::Bug;
pub use options::{Fault, Options, ParseOptionsError};
pub use shrink::shrink;
pub use simulation::{Report, Violation, simulate};
pub use world::Coverage;
