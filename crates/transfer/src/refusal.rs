//! Why a file did not move, in words that hold no URL and so no right.

use std::io;

use thiserror::Error;

/// A file did not move.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error("the file cannot be used: {0}")]
    File(#[source] io::Error),
    #[error("the certificates to trust cannot be read")]
    Certificates,
    #[error("it is not there any more")]
    Gone,
    #[error("the store answered {status}{code}")]
    Status {
        status: u16,
        /// Its own word for it in brackets, if it gave one.
        code: String,
    },
    #[error("it has more than the {most} bytes that are known of it")]
    TooLarge { most: u64 },
    #[error("it was cut off")]
    Cut,
    #[error("{0}")]
    Http(String),
}

impl From<ureq::Error> for Refusal {
    fn from(error: ureq::Error) -> Self {
        let text = if let ureq::Error::Timeout(which) = &error {
            format!("nothing came in time ({which})")
        } else {
            without_query(&error.to_string())
        };
        Self::Http(text)
    }
}

/// Rights stand behind the question mark of a URL.
fn without_query(text: &str) -> String {
    text.split('?').next().unwrap_or_default().to_owned()
}

/// The word of an error's answer; the rest of such an answer may quote what was signed.
pub(crate) fn code_of(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_a_right() {
        let error = ureq::Error::BadUri("http://s3/ci/k?X-Amz-Signature=abc".to_owned());
        let told = Refusal::from(error).to_string();
        assert!(told.contains("http://s3/ci/k") && !told.contains("abc"), "{told}");
    }

    #[test]
    fn only_the_word_of_an_error_is_told() {
        let answer = "<Error><Code>AccessDenied</Code><Message>for X-Amz-Signature=abc</Message></Error>";
        assert_eq!(code_of(answer), Some("AccessDenied"));
        assert_eq!(code_of("<Code>a b</Code>"), None);
        assert_eq!(code_of("<html>"), None);
    }
}
