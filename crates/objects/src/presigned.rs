//! A URL that is a right by itself. Entry type: [`PresignedUrl`].

use std::fmt;

/// Lets whoever has it do one thing with one object for some time; `Debug` shows which object, and not the right to it.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl(String);

impl PresignedUrl {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The URL with the right in it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.split('?').next().unwrap_or_default();
        write!(f, "{plain}?…")
    }
}
