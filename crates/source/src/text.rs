//! Text from outside, made fit to be shown.

/// One line of at most `limit` characters without control or direction-changing characters.
pub(crate) fn display_line(text: &str, limit: usize) -> String {
    text.trim()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| is_plain(*c))
        .take(limit)
        .collect()
}

/// The last lines of what a program wrote, in one line, without credentials of URLs.
pub(crate) fn complaint(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let plain: Vec<char> = without_credentials(&lines.join("; "))
        .chars()
        .filter(|c| is_plain(*c))
        .collect();
    plain.iter().skip(plain.len().saturating_sub(limit)).collect()
}

fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after
            .find(|c: char| c == '/' || c == '\'' || c == '"' || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str("***@");
                shown.push_str(host);
            }
            None => shown.push_str(authority),
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

fn is_plain(c: char) -> bool {
    let turns_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns_direction
}

#[cfg(test)]
mod tests {
    use super::{complaint, display_line};

    #[test]
    fn complaints_are_one_bounded_line_without_credentials() {
        let written = b"remote: \x1b[31mno\r\n\nfatal: unable to access 'https://ada:pw@host/x.git/': 403\n";
        assert_eq!(
            complaint(written, 500),
            "remote: [31mno; fatal: unable to access 'https://***@host/x.git/': 403"
        );
        assert_eq!(
            complaint(b"a https://t@h b https://c/d@e", 500),
            "a https://***@h b https://c/d@e"
        );
        assert_eq!(complaint(b"long text: end", 3), "end");
        assert_eq!(complaint(b"\xff", 10), "\u{fffd}");
    }

    #[test]
    fn lines_are_cut_and_cleaned() {
        assert_eq!(display_line("add\u{202e} a\x07 cart\nmore", 200), "add a cart");
        assert_eq!(display_line("abc", 2), "ab");
    }
}
