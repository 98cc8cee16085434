//! The queue: what spans runs, decided from what the runs themselves say. There is no table of locks: a lock is held
//! exactly as long as a run says so, and so nothing can be left over.
//!
//! Entry points: [`crate::Run::claims`], [`turns()`], [`Ahead::of`], [`InUse::all`], [`launch_order`].

mod ahead;
mod claim;
mod fairness;
mod turns;

#[cfg(test)]
mod tests;

pub use ahead::{Ahead, InUse};
pub use claim::{Claim, ClaimId, ClaimState, LockKey, Share};
pub use fairness::{Candidate, launch_order};
pub use turns::turns;
