//! How an object store is reached, as its owner says.

use std::fmt;

/// An object store, and who this server is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Its address.
    pub url: String,
    /// Its address as others reach it, if that is another one.
    pub others_url: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What the names of all objects begin with; no other object is touched.
    pub prefix: String,
    /// Where the bucket's name stands.
    pub style: UrlStyle,
    /// Who signs.
    pub access_key: String,
    /// What it is signed with.
    pub secret_key: SecretKey,
    /// The certificates to trust in the place of Mozilla's, as PEM.
    pub ca: Option<String>,
}

/// Where the name of a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlStyle {
    /// In the path.
    Path,
    /// In the host's name.
    Host,
}

/// What requests are signed with; it never shows in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

impl SecretKey {
    /// Hides a key.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}
