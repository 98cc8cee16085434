//! Draws lines in place on a terminal: up, over, and the cursor back at the end.

use std::fmt::Write as _;

use crate::term;

/// A block of lines at the bottom of the terminal.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    drawn: usize,
    last: Vec<String>,
}

const HIDE_CURSOR: &str = "\u{1b}[?25l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";

impl Screen {
    /// Draws the block again, if it differs.
    pub(crate) fn draw(&mut self, lines: Vec<String>) {
        if lines == self.last && self.drawn > 0 {
            return;
        }
        term::put(frame(self.drawn, &lines).as_bytes());
        self.drawn = lines.len();
        self.last = lines;
    }

    /// Leaves the block as it is; what comes next stands below it.
    pub(crate) fn leave(&mut self) {
        if self.drawn > 0 {
            term::put(SHOW_CURSOR.as_bytes());
        }
        self.drawn = 0;
        self.last.clear();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The bytes that replace `drawn` lines by these.
fn frame(drawn: usize, lines: &[String]) -> String {
    let mut out = String::from(HIDE_CURSOR);
    if drawn > 0 {
        let _ = write!(out, "\u{1b}[{drawn}A");
    }
    for line in lines {
        let _ = write!(out, "\r{line}\u{1b}[K\n");
    }
    // What is left of a longer block.
    out.push_str("\u{1b}[J");
    out
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_covers_the_one_before() {
        assert_eq!(
            frame(2, &["a".to_owned()]),
            "\u{1b}[?25l\u{1b}[2A\ra\u{1b}[K\n\u{1b}[J"
        );
        assert!(!frame(0, &[]).contains('A'));
    }
}
