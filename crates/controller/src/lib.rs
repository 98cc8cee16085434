//! The imperative shell around the engine: one loop that loads runs, decides, stores, and performs effects.
//!
//! It decides nothing itself (the rules are `engine`'s) and knows traits only: [`Ports`] names them. The loop is
//! [`Controller::run`]; [`Handle`] is how the rest of the process speaks to it.

mod handle;
mod layout;
mod ports;

pub use handle::{AttemptNews, Handle, News, RetryWhich, SubmitError};
pub use layout::Layout;
pub use ports::{Admitted, Clock, EngineRules, Intake, IntakeError, Ports, Rules, Supplies, Wish};
