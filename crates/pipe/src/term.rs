//! The terminal: colours, size, and writing that survives a closed pipe. Data goes to stdout, all else to stderr.

pub(crate) mod secret;

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use crate::failure::Failure;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// With ANSI colours.
    Always,
    /// Plain.
    Never,
}

/// The colours in use: few, and each with one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// A person should look.
    Attention,
    /// It is under way.
    Busy,
    /// It matters less.
    Faint,
    /// It matters more.
    Strong,
}

impl Paint {
    /// For stdout.
    pub(crate) fn for_stdout() -> Self {
        Self::decide(io::stdout().is_terminal(), |name| env::var_os(name))
    }

    /// For stderr.
    pub(crate) fn for_stderr() -> Self {
        Self::decide(io::stderr().is_terminal(), |name| env::var_os(name))
    }

    fn decide(is_terminal: bool, var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let set = |name| var(name).is_some_and(|value| !value.is_empty());
        let forced = var("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = var("TERM").is_some_and(|term| term == "dumb");
        if set("NO_COLOR") {
            Self::Never
        } else if forced || (is_terminal && !dumb) {
            Self::Always
        } else {
            Self::Never
        }
    }

    /// Paints a text.
    pub(crate) fn tone(self, tone: Tone, text: impl Display) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Attention => "33",
            Tone::Busy => "36",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        match self {
            Self::Always => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Never => text.to_string(),
        }
    }
}

/// Whether a person can be asked: stdin and stderr are terminals.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether stdout is a terminal that can move its cursor.
pub(crate) fn can_draw() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Rows and columns of the terminal.
pub(crate) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        Ok(_) | Err(_) => (24, 80),
    }
}

/// Writes data and a line end to stdout.
pub(crate) fn say(text: impl Display) {
    // A reader that went away is no error of ours.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes bytes to stdout at once.
pub(crate) fn put(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Writes a line for people to stderr.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a line for people that should not be missed.
pub(crate) fn warn(text: impl Display) {
    note(format_args!(
        "{} {text}",
        Paint::for_stderr().tone(Tone::Attention, "warning:")
    ));
}

/// Shows why a command failed.
pub(crate) fn show(failure: &Failure) {
    let paint = Paint::for_stderr();
    note(format_args!(
        "{} {}",
        paint.tone(Tone::Bad, "error:"),
        failure.message
    ));
    if let Some(hint) = &failure.hint {
        note(format_args!("{} {hint}", paint.tone(Tone::Strong, "hint:")));
    }
}

/// Text of others without anything that could move the cursor or colour what follows: one line.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => out.push_str("    "),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Skips the rest of an escape sequence: `[ … letter`, `] … BEL`, or one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => {
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
        }
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(_) | None => {}
    }
}

/// The first `width` characters, with `…` where more was there.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::{Paint, clean, cut};

    fn decide(is_terminal: bool, vars: &[(&str, &str)]) -> Paint {
        Paint::decide(is_terminal, |name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn colours_follow_the_conventions() {
        assert_eq!(decide(true, &[]), Paint::Always);
        assert_eq!(decide(false, &[]), Paint::Never);
        assert_eq!(decide(true, &[("NO_COLOR", "1")]), Paint::Never);
        assert_eq!(decide(true, &[("NO_COLOR", "")]), Paint::Always);
        assert_eq!(decide(false, &[("CLICOLOR_FORCE", "1")]), Paint::Always);
        assert_eq!(decide(false, &[("CLICOLOR_FORCE", "0")]), Paint::Never);
        assert_eq!(decide(true, &[("TERM", "dumb")]), Paint::Never);
    }

    #[test]
    fn text_of_others_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[31mb\u{1b}[2Kc\u{1b}]8;;x\u{7}d\re\u{8}"), "abcde");
        assert_eq!(clean("\u{1b}"), "");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
