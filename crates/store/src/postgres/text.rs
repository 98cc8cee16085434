//! Texts in columns: Postgres keeps every character but NUL.

use std::borrow::Cow;

/// Begins what stands for a character that a column does not keep, or for itself.
const ESCAPE: char = '\u{1a}';
const NUL: &str = "\u{1a}0";
const ITSELF: &str = "\u{1a}1";

/// The text as it is stored. Texts that differ are stored as texts that differ.
pub(crate) fn to_column(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', ESCAPE]) {
        Cow::Owned(text.replace(ESCAPE, ITSELF).replace('\0', NUL))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text that was stored.
pub(super) fn from_column(stored: &str) -> Cow<'_, str> {
    if stored.contains(ESCAPE) {
        Cow::Owned(stored.replace(NUL, "\0").replace(ITSELF, "\u{1a}"))
    } else {
        Cow::Borrowed(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::{from_column, to_column};

    #[test]
    fn every_text_comes_back() {
        for text in ["", "plain é", "\0", "\u{1a}", "\u{1a}0", "\u{1a}1\0\u{1a}\u{1a}0"] {
            let stored = to_column(text);
            assert!(!stored.contains('\0'));
            assert_eq!(from_column(&stored), text);
        }
    }
}
