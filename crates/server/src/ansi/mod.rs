//! Logs as HTML: terminal colours become classes, `\r` overwrites, links are http(s) only, everything else is escaped
//! or dropped. Entry: [`Renderer`].

mod line;
mod style;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use vte::{Params, Parser, Perform};

use crate::text::whole_characters;
use line::Line;
use style::Style;

/// How far beyond a line's end the cursor may be moved: a few bytes must not become pages of blanks.
const MOST_PADDING: usize = 256;

/// Turns log bytes into lines of HTML; it may be fed in pieces.
pub(crate) struct Renderer {
    parser: Parser,
    /// The start of a character whose rest has not come: the parser must get characters whole.
    cut: Vec<u8>,
    screen: Screen,
}

struct Screen {
    line: Line,
    column: usize,
    style: Style,
    link: Option<u16>,
    done: Vec<String>,
}

impl Renderer {
    /// A renderer that shows at most so many characters of a line.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            parser: Parser::new(),
            cut: Vec::new(),
            screen: Screen {
                line: Line::new(most),
                column: 0,
                style: Style::default(),
                link: None,
                done: Vec::new(),
            },
        }
    }

    /// The HTML of each line of `bytes`, the last one also if it is not whole.
    pub(crate) fn render(bytes: &[u8], most: usize) -> Vec<String> {
        let mut renderer = Self::new(most);
        renderer.feed(bytes);
        let mut lines = renderer.take();
        lines.extend(renderer.partial());
        lines
    }

    /// Takes more bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = Cow::Borrowed(bytes);
        if !self.cut.is_empty() {
            self.cut.extend_from_slice(&bytes);
            bytes = Cow::Owned(std::mem::take(&mut self.cut));
        }
        let (whole, cut) = bytes.split_at(whole_characters(&bytes));
        self.parser.advance(&mut self.screen, whole);
        self.cut.extend_from_slice(cut);
    }

    /// The lines that were finished since the last time.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.screen.done)
    }

    /// The line that is not finished, if it holds anything.
    pub(crate) fn partial(&self) -> Option<String> {
        (!self.screen.line.is_empty()).then(|| self.screen.line.to_html())
    }
}

impl Screen {
    fn end_line(&mut self) {
        self.done.push(self.line.to_html());
        self.line.clear();
        self.column = 0;
        // A link that nobody closed must not swallow the rest of the log.
        self.link = None;
    }

    fn move_to(&mut self, column: usize) {
        self.column = column.min(self.line.len().saturating_add(MOST_PADDING));
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        let shown = if is_deceptive(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        };
        self.line.put(self.column, shown, self.style, self.link);
        self.column = self.column.saturating_add(1);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => self.column = 0,
            b'\t' => {
                self.line.put(self.column, '\t', self.style, self.link);
                self.column = self.column.saturating_add(1);
            }
            0x08 => self.column = self.column.saturating_sub(1),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        if !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().and_then(|p| p.first()).copied().unwrap_or(0);
        let steps = usize::from(first.max(1));
        match action {
            'm' => self.style.apply(params),
            'K' => self.line.erase(self.column, first),
            'C' => self.move_to(self.column.saturating_add(steps)),
            'D' => self.column = self.column.saturating_sub(steps),
            'G' => self.move_to(steps.saturating_sub(1)),
            _ => {}
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _bell_terminated: bool) {
        if let [b"8", _, target @ ..] = params {
            self.link = self.line.link(&target.join(&b';'));
        }
    }
}

/// Such characters make a reader see another order than the machine does.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
