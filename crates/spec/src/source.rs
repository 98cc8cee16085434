//! The text under check and the places in it. Not the YAML reader: see [`crate::yaml`].

use std::ops::Range;

use pipekeeper_model::plan::Place;

/// A pipeline file as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFile<'a> {
    /// The path that diagnostics name, such as `.pipe/web.yaml`.
    pub path: &'a str,
    /// The whole text.
    pub text: &'a str,
}

/// Where the lines of a text start.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0)
            .chain(after_breaks.map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// The zero-based index of the line that holds a byte.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1) - 1
    }

    /// The byte at which a zero-based line starts; the text's end for a line beyond it.
    pub(crate) fn start_of(&self, line: usize) -> usize {
        self.starts.get(line).copied().unwrap_or(self.text.len())
    }

    /// The text of a span.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The place of a byte.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.line_of(offset);
        let start = self.start_of(line);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        Place {
            line: count(line + 1),
            column: count(before.chars().count() + 1),
        }
    }

    /// A span made fit for display: inside the text, on character borders, on one line and not empty where possible.
    pub(crate) fn fit(&self, span: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let rest = self.text.get(start..).unwrap_or("");
        let line_end = start + rest.find(['\n', '\r']).unwrap_or(rest.len());
        let one_more = start + rest.chars().next().map_or(0, char::len_utf8);
        let end = self
            .text
            .ceil_char_boundary(span.end.clamp(start, line_end.max(start)));
        start..end.max(one_more.min(line_end))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn places_count_characters_from_one() {
        let lines = Lines::new("a: é b\nc");
        assert_eq!((lines.place(0).line, lines.place(0).column), (1, 1));
        assert_eq!((lines.place(6).line, lines.place(6).column), (1, 6));
        assert_eq!((lines.place(8).line, lines.place(8).column), (2, 1));
    }

    #[test]
    fn spans_stay_on_one_line() {
        let lines = Lines::new("ab\ncd");
        assert_eq!(lines.fit(1..5), 1..2);
        assert_eq!(lines.fit(0..0), 0..1);
        assert_eq!(lines.fit(9..12), 5..5);
    }
}
