//! Text to tokens; entry type [`Lexer`].

use super::literal;
use crate::error::{ParseError, Span};

/// A token of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'s> {
    Name(&'s str),
    /// Without its sign, so that the smallest i64 can be written.
    Int(u64),
    Float(f64),
    Text(String),
    /// An operator or bracket.
    Mark(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const MARKS: [&str; 23] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "!", "<", ">", "+",
    "-", "*", "/",
];

/// Reads tokens from a text, one after the other.
pub(super) struct Lexer<'s> {
    text: &'s str,
    at: usize,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(text: &'s str, at: usize) -> Self {
        Self { text, at }
    }

    /// The next token and where it stands.
    pub(super) fn token(&mut self) -> Result<(Token<'s>, Span), ParseError> {
        self.skip_blanks();
        let start = self.at;
        let token = match self.rest().chars().next() {
            None => Token::End,
            Some('\'' | '"') => self.text_literal(start, literal::Escapes::Read)?,
            Some('r' | 'R') if self.rest().chars().nth(1).is_some_and(is_quote) => {
                self.at += 1;
                self.text_literal(start, literal::Escapes::Keep)?
            }
            Some('b' | 'B') if self.is_bytes_literal() => {
                return Err(self.error(start, "bytes are not offered", Some("write text without the `b`")));
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => Token::Name(self.take_while(is_word)),
            Some(c) if c.is_ascii_digit() || self.is_fraction() => self.number(start)?,
            Some(c) => self.mark(c)?,
        };
        Ok((token, Span { start, end: self.at }))
    }

    fn rest(&self) -> &'s str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn is_bytes_literal(&self) -> bool {
        let after = self.rest().get(1..).unwrap_or_default();
        after
            .strip_prefix(['r', 'R'])
            .unwrap_or(after)
            .starts_with(is_quote)
    }

    fn is_fraction(&self) -> bool {
        self.rest()
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn mark(&mut self, found: char) -> Result<Token<'s>, ParseError> {
        if found == '%' {
            self.at += 1;
            return Ok(Token::Mark("%"));
        }
        if let Some(mark) = MARKS.iter().find(|mark| self.rest().starts_with(**mark)) {
            self.at += mark.len();
            return Ok(Token::Mark(mark));
        }
        let start = self.at;
        self.at += found.len_utf8();
        let hint = match found {
            '=' => Some("write `==` to compare"),
            '&' => Some("write `&&`"),
            '|' => Some("write `||`"),
            '$' => Some("variables are named without `$`"),
            _ => None,
        };
        Err(self.error(start, &format!("unexpected `{}`", found.escape_debug()), hint))
    }

    fn number(&mut self, start: usize) -> Result<Token<'s>, ParseError> {
        let hex = self
            .rest()
            .strip_prefix("0x")
            .or_else(|| self.rest().strip_prefix("0X"));
        if hex.is_some() {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            self.end_of_number(start)?;
            return u64::from_str_radix(digits, 16)
                .map(Token::Int)
                .map_err(|_| self.not_a_number(start));
        }
        self.take_while(|c| c.is_ascii_digit());
        let whole = self.at;
        if self.is_fraction() {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            self.take_while(|c| c.is_ascii_digit());
        }
        self.end_of_number(start)?;
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let token = if self.at == whole {
            digits.parse().ok().map(Token::Int)
        } else {
            digits
                .parse()
                .ok()
                .filter(|float: &f64| float.is_finite())
                .map(Token::Float)
        };
        token.ok_or_else(|| self.not_a_number(start))
    }

    /// Refuses `1u` and `1abc`, whose letters would otherwise start the next token.
    fn end_of_number(&mut self, start: usize) -> Result<(), ParseError> {
        let tail = self.take_while(is_word);
        match tail {
            "" => Ok(()),
            "u" | "U" => Err(self.error(
                start,
                "unsigned numbers are not offered",
                Some("write the number without `u`"),
            )),
            _ => Err(self.not_a_number(start)),
        }
    }

    fn not_a_number(&self, start: usize) -> ParseError {
        let text = self.text.get(start..self.at).unwrap_or_default();
        self.error(start, &format!("`{text}` is not a number of 64 bits"), None)
    }

    fn text_literal(&mut self, start: usize, escapes: literal::Escapes) -> Result<Token<'s>, ParseError> {
        let (inner, length) = literal::quoted(self.rest(), escapes).map_err(|message| {
            let end = self.text.len();
            ParseError {
                span: Span { start, end },
                message: message.to_owned(),
                hint: None,
            }
        })?;
        let at = self.at;
        self.at += length;
        match escapes {
            literal::Escapes::Keep => Ok(Token::Text(inner.to_owned())),
            literal::Escapes::Read => literal::unescape(inner)
                .map(Token::Text)
                .map_err(|message| self.error(at, message, None)),
        }
    }

    fn error(&self, start: usize, message: &str, hint: Option<&str>) -> ParseError {
        let span = Span {
            start,
            end: self.at.max(start),
        };
        ParseError {
            span,
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
