//! Text literals: where they end and what their escapes mean; entry functions [`quoted`] and [`unescape`].

use std::str::Chars;

/// Whether `\` means something in a literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Escapes {
    Read,
    Keep,
}

/// The inside of the literal that `text` starts with, and the literal's whole length.
pub(super) fn quoted(text: &str, escapes: Escapes) -> Result<(&str, usize), &'static str> {
    let quote = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quote| text.starts_with(quote))
        .unwrap_or("'");
    let inner = text.get(quote.len()..).unwrap_or_default();
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        let tail = inner.get(at..).unwrap_or_default();
        if escaped {
            escaped = false;
        } else if tail.starts_with(quote) {
            return Ok((inner.get(..at).unwrap_or_default(), at + 2 * quote.len()));
        } else if c == '\\' {
            escaped = escapes == Escapes::Read;
        } else if quote.len() == 1 && matches!(c, '\n' | '\r') {
            break;
        }
    }
    Err("the quote is not closed")
}

/// The text that a literal's inside stands for.
pub(super) fn unescape(inner: &str) -> Result<String, &'static str> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { escape(&mut chars)? } else { c });
    }
    Ok(text)
}

fn escape(chars: &mut Chars<'_>) -> Result<char, &'static str> {
    const UNKNOWN: &str = "unknown escape; write `\\\\` for a backslash, or r\"..\" for text without escapes";
    Ok(match chars.next().ok_or(UNKNOWN)? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        c @ ('\\' | '?' | '"' | '\'' | '`') => c,
        'x' | 'X' => code_point(chars, "", 2, 16)?,
        'u' => code_point(chars, "", 4, 16)?,
        'U' => code_point(chars, "", 8, 16)?,
        c @ '0'..='3' => code_point(chars, c.encode_utf8(&mut [0; 4]), 2, 8)?,
        _ => return Err(UNKNOWN),
    })
}

fn code_point(chars: &mut Chars<'_>, first: &str, digits: usize, radix: u32) -> Result<char, &'static str> {
    const BAD: &str = "the escape is no character";
    let mut code = first.chars().next().and_then(|c| c.to_digit(radix)).unwrap_or(0);
    for _ in 0..digits {
        let digit = chars.next().and_then(|c| c.to_digit(radix)).ok_or(BAD)?;
        code = code
            .checked_mul(radix)
            .and_then(|code| code.checked_add(digit))
            .ok_or(BAD)?;
    }
    char::from_u32(code).ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_end_at_their_own_quote() {
        assert_eq!(quoted(r#""a'b" + c"#, Escapes::Read), Ok(("a'b", 5)));
        assert_eq!(quoted(r#""a\"b"x"#, Escapes::Read), Ok((r#"a\"b"#, 6)));
        assert_eq!(quoted(r#""a\"b"x"#, Escapes::Keep), Ok((r"a\", 4)));
        assert_eq!(quoted("'''a'\n'''", Escapes::Read), Ok(("a'\n", 9)));
        assert_eq!(quoted("''", Escapes::Read), Ok(("", 2)));
        for open in ["'a", "'a\n'", "'''a''", r"'a\'", "\"é"] {
            assert!(quoted(open, Escapes::Read).is_err(), "{open}");
        }
    }

    #[test]
    fn escapes_are_those_of_cel() {
        assert_eq!(
            unescape(r"\n\t\\\'\x41\u00e9\U0001F600\101").unwrap(),
            "\n\t\\'Aé😀A"
        );
        for bad in [r"\q", r"\x4", r"\ud800", r"\UFFFFFFFF", r"\39", "\\"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
