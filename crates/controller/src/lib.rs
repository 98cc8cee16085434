//! The imperative shell around the engine: one loop that loads runs, decides, stores, and performs effects.
//!
//! It decides nothing itself (the rules are `engine`'s) and knows traits only: [`Ports`] names them. The loop is
//! [`Controller::run`]; [`Handle`] is how the rest of the process speaks to it.

pub mod caches;
mod controller;
mod debug;
mod deliveries;
mod duty;
mod effects;
mod groups;
mod handle;
mod held;
mod intake;
mod job;
mod launch;
mod layout;
mod locks;
mod obstacles;
mod others;
mod outbox;
mod ports;
mod recovery;
mod requests;
mod retention;
mod reuse;
mod room;
mod runs;
mod settlement;
mod slot;
mod summary;
mod tickets;

pub use controller::Controller;
pub use debug::{Hold, HoldError};
pub use duty::{Duty, DutyBoard, Ending, Pace, Sharing};
pub use handle::{AttemptNews, DebugWish, Handle, LookInto, News, RetryWhich, SubmitError};
pub use held::HeldPods;
pub use intake::{GitIntake, GitSupplies, Patterns, Project, Projects, digest_entries};
pub use layout::Layout;
pub use locks::Locks;
pub use obstacles::Obstacles;
pub use pipekeeper_backend::{TermName, Terminal, TerminalSize, Told};
pub use ports::{
    Admitted, CacheTiers, Clock, EngineRules, Environments, EnvironmentsAway, Habits, Intake, IntakeError,
    Lender, OuterLocks, People, PeopleAway, Ports, Rules, SameAsEver, SecretAsking, SecretSource, Supplies,
    Wish, WishOf,
};
pub use retention::{KeptBoard, KeptFigures, Retention, Terms, TermsAway, Upkeep, tell_gone};
