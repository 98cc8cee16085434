//! The user and password of an address, kept out of argument lists and out of everything that is shown.

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
        Some(Self(format!("Authorization: Basic {}", base64(&plain))))
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

fn base64(bytes: &[u8]) -> String {
    const DIGITS: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * at) & 63).copied().unwrap_or(b'=');
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Credentials, base64};

    #[test]
    fn base64_is_the_standard_one() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn user_info_is_decoded_first() {
        let credentials = Credentials::from_user_info("ada:p%40ss").unwrap();
        assert_eq!(
            credentials.header(),
            format!("Authorization: Basic {}", base64(b"ada:p@ss"))
        );
        assert!(Credentials::from_user_info("ada:%4").is_none());
    }
}
