//! Tells a shell without LINENO which line each command stands in.
//!
//! An expansion that yields nothing, but sets a variable on the way, goes before the first word of each simple command
//! or into its first assignment. So no status, no word and no line changes. This is a lexer, not a parser: where it is
//! not sure it leaves the text alone. Entry function: [`number`].

#[cfg(test)]
mod tests;

/// The text with its commands numbered; none where the text is beyond this lexer.
pub(super) fn number(text: &str, first_line: u32) -> Option<String> {
    let mut lexer = Lexer {
        text: text.as_bytes(),
        at: 0,
        line: first_line,
        out: Vec::with_capacity(text.len() * 2),
        expect: Expect::Command,
        cases: 0,
        heredocs: Vec::new(),
    };
    while lexer.at < lexer.text.len() {
        lexer.token()?;
    }
    if lexer.heredocs.is_empty() {
        String::from_utf8(lexer.out).ok()
    } else {
        None
    }
}

/// What the next word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The first of a command.
    Command,
    /// One behind `export` and the like.
    Declared,
    /// Just a word.
    Argument,
}

struct Heredoc {
    end: Vec<u8>,
    tabs: bool,
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    out: Vec<u8>,
    expect: Expect,
    /// Open `case` commands; inside nothing is numbered, for a pattern looks like a command.
    cases: u32,
    heredocs: Vec<Heredoc>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// Copies so many bytes.
    fn copy(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        let bytes = self.text.get(self.at..end).unwrap_or_default();
        self.line += u32::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or_default();
        self.out.extend_from_slice(bytes);
        self.at = end;
    }

    fn token(&mut self) -> Option<()> {
        match self.peek(0)? {
            b' ' | b'\t' | b'\r' => self.copy(1),
            b'\\' if self.peek(1) == Some(b'\n') => self.copy(2),
            b'\n' => {
                self.copy(1);
                self.heredoc_bodies()?;
                self.expect = Expect::Command;
            }
            b'#' => {
                let rest = self.text.get(self.at..)?;
                self.copy(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
            }
            b';' | b'&' | b'|' => {
                self.copy(1);
                self.expect = Expect::Command;
            }
            // Elsewhere it is no subshell but something of another shell.
            b'(' if self.expect == Expect::Command && self.peek(1) != Some(b'(') || self.cases > 0 => {
                self.copy(1)
            }
            b'(' => return None,
            b')' => {
                self.copy(1);
                self.expect = if self.cases > 0 {
                    Expect::Command
                } else {
                    Expect::Argument
                };
            }
            b'<' | b'>' => self.redirection()?,
            _ => self.word()?,
        }
        Some(())
    }

    fn redirection(&mut self) -> Option<()> {
        let is_heredoc = self.peek(0) == Some(b'<') && self.peek(1) == Some(b'<');
        let mut tabs = false;
        if is_heredoc {
            self.copy(2);
            tabs = self.peek(0) == Some(b'-');
            self.copy(usize::from(tabs));
        } else {
            self.copy(1);
            self.copy(usize::from(matches!(self.peek(0), Some(b'>' | b'&' | b'|'))));
        }
        while matches!(self.peek(0), Some(b' ' | b'\t')) {
            self.copy(1);
        }
        let length = self.word_length()?;
        if length == 0 {
            return None;
        }
        if is_heredoc {
            let word = self.text.get(self.at..self.at + length)?;
            let end = word
                .iter()
                .copied()
                .filter(|byte| !b"'\"\\".contains(byte))
                .collect();
            self.heredocs.push(Heredoc { end, tabs });
        }
        self.copy(length);
        Some(())
    }

    fn heredoc_bodies(&mut self) -> Option<()> {
        for heredoc in std::mem::take(&mut self.heredocs) {
            loop {
                let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
                let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                let line = rest.get(..length)?;
                let start = if heredoc.tabs {
                    line.iter().position(|byte| *byte != b'\t').unwrap_or(length)
                } else {
                    0
                };
                let is_end = line.get(start..) == Some(heredoc.end.as_slice());
                self.copy(length + 1);
                if is_end {
                    break;
                }
            }
        }
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let length = self.word_length()?;
        let word = self.text.get(self.at..self.at + length)?;
        let rest = self.text.get(self.at + length..)?;
        if word.iter().all(u8::is_ascii_digit) && matches!(rest.first(), Some(b'<' | b'>')) {
            self.copy(length);
            return Some(());
        }
        match self.expect {
            Expect::Argument => self.copy(length),
            Expect::Declared => self.assignment(word, length),
            Expect::Command => self.first_word(word, rest, length)?,
        }
        Some(())
    }

    fn first_word(&mut self, word: &[u8], rest: &[u8], length: usize) -> Option<()> {
        let is_assignment = value_start(word).is_some();
        self.expect = match word {
            b"if" | b"then" | b"else" | b"elif" | b"do" | b"while" | b"until" | b"!" | b"{" | b"time" => {
                Expect::Command
            }
            b"export" | b"readonly" | b"local" => Expect::Declared,
            b"function" | b"select" | b"coproc" => return None,
            _ => Expect::Argument,
        };
        match word {
            b"case" => self.cases += 1,
            b"esac" => self.cases = self.cases.checked_sub(1)?,
            _ => {}
        }
        let blanks = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        if rest.get(blanks) == Some(&b'(') && self.cases == 0 && !is_reserved(word) {
            // A function: its body is the next command.
            let inside = rest
                .get(blanks + 1..)?
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count();
            if is_assignment || rest.get(blanks + 1 + inside) != Some(&b')') {
                return None;
            }
            self.copy(length + blanks + 1 + inside + 1);
            self.expect = Expect::Command;
        } else if is_assignment {
            self.assignment(word, length);
        } else {
            if self.expect == Expect::Argument && self.cases == 0 && !is_reserved(word) {
                self.insert();
                self.out.push(b' ');
            }
            self.copy(length);
        }
        Some(())
    }

    fn assignment(&mut self, word: &[u8], length: usize) {
        let start = value_start(word).filter(|start| word.get(*start) != Some(&b'~') && self.cases == 0);
        if let Some(start) = start {
            self.copy(start);
            self.insert();
            self.copy(length - start);
        } else {
            self.copy(length);
        }
        self.expect = Expect::Argument;
    }

    fn insert(&mut self) {
        self.out
            .extend_from_slice(format!("${{__pk#$((__pk_line={}))}}", self.line).as_bytes());
    }

    /// The length of the word here, with all that is quoted in it.
    fn word_length(&self) -> Option<usize> {
        let mut at = self.at;
        while let Some(byte) = self.text.get(at) {
            if b" \t\r\n;&|<>()".contains(byte) {
                break;
            }
            at = after_piece(self.text, at)?;
        }
        Some(at - self.at)
    }
}

/// Where the piece of a word that begins here ends: a character, a quotation or an expansion.
fn after_piece(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'\\' => (at + 1 < text.len()).then_some(at + 2),
        b'\'' => Some(at + 1 + text.get(at + 1..)?.iter().position(|byte| *byte == b'\'')? + 1),
        b'"' => after_close(text, at + 1, b'"'),
        b'`' => after_close(text, at + 1, b'`'),
        b'$' => match text.get(at + 1) {
            Some(b'(') => {
                let end = after_close(text, at + 2, b')')?;
                let inside = text.get(at..end)?;
                let unclear: [&[u8]; 3] = [b"case", b"<<", b"#"];
                let is_clear = unclear
                    .iter()
                    .all(|word| memchr::memmem::find(inside, word).is_none());
                is_clear.then_some(end)
            }
            Some(b'{') => after_close(text, at + 2, b'}'),
            _ => Some(at + 1),
        },
        _ => Some(at + 1),
    }
}

/// Where what is open ends. Inside double quotes a single quote is just a character.
fn after_close(text: &[u8], mut at: usize, close: u8) -> Option<usize> {
    loop {
        let byte = *text.get(at)?;
        at = if byte == close {
            return Some(at + 1);
        } else if close == b')' && byte == b'(' {
            after_close(text, at + 1, b')')?
        } else if byte == b'\'' && close == b'"' || close == b'`' && byte != b'\\' {
            at + 1
        } else {
            after_piece(text, at)?
        };
    }
}

/// Where the value of `NAME=value` begins.
fn value_start(word: &[u8]) -> Option<usize> {
    let equals = word.iter().position(|byte| *byte == b'=')?;
    let name = word.get(..equals)?;
    let is_name = name.first().is_some_and(|first| !first.is_ascii_digit())
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_name.then_some(equals + 1)
}

/// Words that mean something only where they are written.
fn is_reserved(word: &[u8]) -> bool {
    let words: [&[u8]; 17] = [
        b"if", b"then", b"else", b"elif", b"fi", b"do", b"done", b"while", b"until", b"for", b"case",
        b"esac", b"in", b"!", b"{", b"}", b"[[",
    ];
    words.contains(&word)
}
