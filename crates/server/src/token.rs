//! Access tokens: `pk_`, 64 hex digits drawn at random, 8 hex digits of checksum.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

const PREFIX: &str = "pk_";
const RANDOM_DIGITS: usize = 64;

/// A secret that lets its bearer do unsafe things; it cannot be printed by accident.
#[derive(Clone)]
pub struct AccessToken {
    text: String,
    hash: [u8; 32],
}

/// No token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The text has another form.
    #[error("read the access token: it is not `pk_` followed by 72 hex digits")]
    Malformed,
    /// It was typed or copied wrongly.
    #[error("read the access token: its checksum is wrong; hint: copy it whole")]
    Checksum,
    /// The system has no randomness.
    #[error("draw a random token: {0}")]
    Random(getrandom::Error),
}

impl AccessToken {
    /// Draws a new one.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0_u8; RANDOM_DIGITS / 2];
        getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
        let digits = hex::encode(bytes);
        let sum = checksum(&digits);
        Ok(Self::from_text(format!("{PREFIX}{digits}{sum}")))
    }

    /// Reads one.
    ///
    /// # Errors
    /// If the text is no token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let digits = text.strip_prefix(PREFIX).ok_or(TokenError::Malformed)?;
        let is_hex = digits
            .bytes()
            .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        let (random, sum) = digits
            .split_at_checked(RANDOM_DIGITS)
            .filter(|(_, sum)| is_hex && sum.len() == 8)
            .ok_or(TokenError::Malformed)?;
        if sum == checksum(random) {
            Ok(Self::from_text(text.to_owned()))
        } else {
            Err(TokenError::Checksum)
        }
    }

    /// The token's text, for the one who may have it.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether `text` is this token, in constant time.
    pub fn is(&self, text: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.hash.ct_eq(&hash).into()
    }

    fn from_text(text: String) -> Self {
        let hash = Sha256::digest(text.as_bytes()).into();
        Self { text, hash }
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

fn checksum(digits: &str) -> String {
    hex::encode(Sha256::digest(digits.as_bytes()))
        .chars()
        .take(8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{AccessToken, TokenError};

    #[test]
    fn drawn_tokens_can_be_read_and_are_distinct() {
        let token = AccessToken::generate().unwrap();
        assert!(AccessToken::parse(token.reveal()).unwrap().is(token.reveal()));
        assert!(!token.is(AccessToken::generate().unwrap().reveal()));
        assert!(!format!("{token:?}").contains(token.reveal()));
    }

    #[test]
    fn wrong_copies_are_told_apart_from_other_texts() {
        let token = AccessToken::generate().unwrap();
        let text = token.reveal();
        let flipped = if text.ends_with('0') { '1' } else { '0' };
        let typo = format!("{}{flipped}", text.get(..text.len() - 1).unwrap());
        assert!(matches!(AccessToken::parse(&typo), Err(TokenError::Checksum)));
        for bad in ["", "pk_", "pk_é", &text.to_uppercase(), &format!("{text}0")] {
            assert!(
                matches!(AccessToken::parse(bad), Err(TokenError::Malformed)),
                "{bad}"
            );
        }
    }
}
