//! Caches in an object store: the rights to them, and what the program is told that moves one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SecretText;

/// Where the caches of an attempt are in an object store. It holds URLs, each a right to one object, and no credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreAccess {
    /// The certificates to trust in the place of Mozilla's, as PEM.
    pub ca: Option<String>,
    /// By the caches' names.
    pub caches: BTreeMap<String, CacheUrls>,
}

/// The URLs of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUrls {
    /// Where its one candidate is fetched from, if that is in the store.
    pub fetch: Option<FetchUrl>,
    /// Where a new archive goes.
    pub keep: Option<SecretText>,
}

/// Where an archive is fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchUrl {
    /// The URL.
    pub url: SecretText,
    /// The archive's size.
    pub bytes: u64,
    /// The SHA-256 of what was saved, without its own trailer, in hex: another archive is none of this server's.
    pub digest: String,
}

/// What the transfer program finds on its standard input. It ends with success, or says why not in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferOrder {
    /// What to do.
    pub what: Transfer,
    /// The URL.
    pub url: SecretText,
    /// The file on this side.
    pub file: PathBuf,
    /// The certificates to trust in the place of Mozilla's, as PEM.
    pub ca: Option<String>,
    /// How long it may take to connect.
    pub connect_ms: u64,
    /// How long nothing may move.
    pub still_ms: u64,
    /// How long all of it may take.
    pub total_ms: u64,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Transfer {
    /// It becomes the file, whole or not at all.
    Get {
        /// The most bytes it may have.
        most: u64,
    },
    /// The file becomes it.
    Put,
}
