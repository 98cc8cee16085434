//! The imperative shell around the engine: one loop that loads runs, decides, stores, and performs effects.
//!
//! It decides nothing itself (the rules are `engine`'s) and knows traits only: [`Ports`] names them. The loop is
//! [`Controller::run`]; [`Handle`] is how the rest of the process speaks to it.

pub mod caches;
mod controller;
mod debug;
mod deliveries;
mod effects;
mod handle;
mod held;
mod intake;
mod job;
mod launch;
mod layout;
mod obstacles;
mod outbox;
mod ports;
mod recovery;
mod requests;
mod reuse;
mod runs;
mod settlement;
mod slot;
mod summary;
mod tickets;

pub use controller::Controller;
pub use debug::{Hold, HoldError};
pub use handle::{AttemptNews, DebugWish, Handle, LookInto, News, RetryWhich, SubmitError};
pub use held::HeldPods;
pub use intake::{GitIntake, GitSupplies, Patterns, Project, Projects, digest_entries};
pub use layout::Layout;
pub use obstacles::Obstacles;
pub use pipekeeper_backend::{TermName, Terminal, TerminalSize, Told};
pub use ports::{
    Admitted, CacheTiers, Clock, EngineRules, Habits, Intake, IntakeError, People, PeopleAway, Ports, Rules,
    SameAsEver, SecretSource, Supplies, Wish, WishOf,
};
