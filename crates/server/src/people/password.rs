//! Passwords: argon2id, with the parameters beside each hash so that they can be raised.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Memory in KiB and passes: what OWASP's cheat sheet asks of argon2id at the least.
const MEMORY: u32 = 19 * 1024;
const PASSES: u32 = 2;
const SALT: usize = 16;
const HASH: usize = 32;
/// Characters, at the least, and bytes, at the most.
const SHORTEST: usize = 12;
const LONGEST: usize = 256;

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PasswordHash {
    memory: u32,
    passes: u32,
    salt: String,
    hash: String,
}

/// A password was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PasswordError {
    /// It is too easy to guess.
    #[error("the password has fewer than {SHORTEST} characters")]
    Short,
    /// It would cost more to hash than it is worth.
    #[error("the password has more than {LONGEST} bytes")]
    Long,
    /// The system does not work.
    #[error("the password cannot be hashed now")]
    System,
}

impl PasswordHash {
    /// Hashes a new password: tens of milliseconds of one core.
    pub(crate) fn of(password: &str) -> Result<Self, PasswordError> {
        if password.chars().count() < SHORTEST {
            return Err(PasswordError::Short);
        }
        if password.len() > LONGEST {
            return Err(PasswordError::Long);
        }
        Self::hash(password)
    }

    /// One that no password has, and that takes as long to compare.
    pub(crate) fn nobodys() -> Result<Self, PasswordError> {
        Ok(Self {
            hash: String::new(),
            ..Self::hash("")?
        })
    }

    /// Whether this is the password: tens of milliseconds of one core.
    pub(crate) fn is(&self, password: &str) -> bool {
        if password.len() > LONGEST {
            return false;
        }
        let Ok(salt) = hex::decode(&self.salt) else {
            return false;
        };
        let found = digest(password, &salt, self.memory, self.passes);
        found.is_ok_and(|found| found.as_bytes().ct_eq(self.hash.as_bytes()).into())
    }

    fn hash(password: &str) -> Result<Self, PasswordError> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| PasswordError::System)?;
        Ok(Self {
            memory: MEMORY,
            passes: PASSES,
            salt: hex::encode(salt),
            hash: digest(password, &salt, MEMORY, PASSES)?,
        })
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

fn digest(password: &str, salt: &[u8], memory: u32, passes: u32) -> Result<String, PasswordError> {
    let params = Params::new(memory, passes, 1, Some(HASH)).map_err(|_| PasswordError::System)?;
    let mut hash = [0; HASH];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .map_err(|_| PasswordError::System)?;
    Ok(hex::encode(hash))
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, PasswordError, PasswordHash};

    #[test]
    fn only_the_password_fits() {
        let one = PasswordHash::of("correct horse").unwrap();
        assert!(one.is("correct horse"));
        for wrong in ["", "correct horsf", "Correct horse", &"x".repeat(LONGEST + 1)] {
            assert!(!one.is(wrong), "{wrong}");
        }
        assert_ne!(
            one,
            PasswordHash::of("correct horse").unwrap(),
            "each has a salt of its own"
        );
        let text = serde_json::to_string(&one).unwrap();
        let read: PasswordHash = serde_json::from_str(&text).unwrap();
        assert!(read.is("correct horse"));
        assert!(!text.contains("correct") && !format!("{one:?}").contains("salt"));
    }

    #[test]
    fn short_and_endless_ones_are_refused() {
        assert_eq!(PasswordHash::of("eleven char"), Err(PasswordError::Short));
        assert_eq!(
            PasswordHash::of(&"x".repeat(LONGEST + 1)),
            Err(PasswordError::Long)
        );
        let nobodys = PasswordHash::nobodys().unwrap();
        assert!(!nobodys.is("") && !nobodys.is("correct horse"));
    }
}
