//! The secret that a forge and a project share, and the HMAC that it keys.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// A webhook secret; it holds the keyed hash only, so that its text cannot be printed.
#[derive(Clone)]
pub struct HookSecret(Hmac<Sha256>);

/// A secret that everybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("use an empty webhook secret: anybody could sign with it")]
pub struct EmptySecret;

impl HookSecret {
    /// Takes the secret's text as configured at the forge.
    pub fn new(text: &str) -> Result<Self, EmptySecret> {
        if text.is_empty() {
            return Err(EmptySecret);
        }
        Hmac::new_from_slice(text.as_bytes())
            .map(Self)
            .map_err(|_| EmptySecret)
    }

    /// Whether `code` is the HMAC-SHA256 of `body`, judged in constant time.
    pub(crate) fn is_code_of(&self, body: &[u8], code: &[u8]) -> bool {
        self.0.clone().chain_update(body).verify_slice(code).is_ok()
    }

    /// The HMAC-SHA256 of `body` in lower-case hex.
    pub(crate) fn hex_code_of(&self, body: &[u8]) -> String {
        hex::encode(self.0.clone().chain_update(body).finalize().into_bytes())
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{EmptySecret, HookSecret};

    #[test]
    fn the_hash_is_the_standard_one() {
        // RFC 4231, test case 2.
        let secret = HookSecret::new("Jefe").unwrap();
        assert_eq!(
            secret.hex_code_of(b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn an_empty_secret_cannot_be_made_and_none_is_shown() {
        assert_eq!(HookSecret::new("").err(), Some(EmptySecret));
        assert!(!format!("{:?}", HookSecret::new("hunter2").unwrap()).contains("hunter2"));
    }
}
