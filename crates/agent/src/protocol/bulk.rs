//! The messages of the streams that carry files.

use serde::{Deserialize, Serialize};

/// A file that is about to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// Whether an offered file is wanted, and then that it is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Yes or no.
    pub yes: bool,
}

/// A file that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its path below the attempt's folder.
    pub name: String,
}
