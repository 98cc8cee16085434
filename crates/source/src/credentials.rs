//! The user and password of an address, kept out of argument lists and out of everything that is shown.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// An HTTP `Authorization` value; it has no `Debug` on purpose.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials(String);

impl Credentials {
    /// Reads the percent-encoded `USER[:PASSWORD]` of a URL.
    pub(crate) fn from_user_info(user_info: &str) -> Option<Self> {
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let mut plain = percent_decoded(user)?;
        plain.push(b':');
        plain.extend(percent_decoded(password)?);
        Some(Self(format!(
            "Authorization: Basic {}",
            BASE64_STANDARD.encode(&plain)
        )))
    }

    /// The whole header line.
    pub(crate) fn header(&self) -> &str {
        &self.0
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn user_info_is_decoded_first() {
        let credentials = Credentials::from_user_info("ada:p%40ss").unwrap();
        assert_eq!(credentials.header(), "Authorization: Basic YWRhOnBAc3M=");
        assert!(Credentials::from_user_info("ada:%4").is_none());
    }
}
