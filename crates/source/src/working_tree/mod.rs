//! A developer's working tree: [`snapshot()`] copies it as it is for `pipe run`, [`describe()`] says what git knows of it.

mod describe;
mod snapshot;

pub use describe::{WorkingTree, describe};
pub use snapshot::{Snapshot, SnapshotError, snapshot};
