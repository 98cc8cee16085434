//! Text from outside, made fit to be shown.

/// One line of at most `limit` characters without control or direction-changing characters.
pub(crate) fn display_line(text: &str, limit: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let shown: String = line
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control() && !turns_direction(*c))
        .take(limit)
        .collect();
    shown.trim().to_owned()
}

/// Whether `text` is 1 to `limit` visible ASCII characters without a space.
pub(crate) fn is_word(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Such characters make a reader see another order than the machine does.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{display_line, is_word};

    #[test]
    fn shown_lines_hold_no_tricks() {
        for (text, shown) in [
            ("  add a cart \n\nlong story", "add a cart"),
            ("\n\nfirst", "first"),
            ("a\x1b[31mb\x07\tc\u{202e}d", "a[31mb cd"),
            ("über 東京", "über 東京"),
            ("", ""),
        ] {
            assert_eq!(display_line(text, 200), shown);
        }
        assert_eq!(display_line("東京東京", 3), "東京東");
    }

    #[test]
    fn words_are_bounded_and_printable() {
        assert!(is_word("push", 4));
        for bad in ["", "pushy", "a b", "a\n", "é"] {
            assert!(!is_word(bad, 4), "{bad}");
        }
    }
}
