//! Looking into actions that ended: in a folder of this machine, in containers made again, or through a server.

mod folder;
mod kept;
mod remote;

pub(crate) use folder::open as open_folder;
pub(crate) use kept::{Kept, open as open_kept};
pub(crate) use remote::{Pod, open as open_remote, release};

/// What is said once the shell is there.
const OPEN: &str = "the shell is open; leave it with `exit`";
