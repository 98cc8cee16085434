//! Hides secrets in a stream of bytes.
//!
//! A courtesy, not a boundary: it knows the usual spellings of a value, not every one. Bytes are held back only while
//! the end of the stream is really the start of a spelling. Entry type: [`Masker`].

mod forms;
#[cfg(test)]
mod tests;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

const MARK: &[u8] = b"***";

/// Replaces every spelling of some secrets by `***`, whatever the chunks that the stream comes in.
pub(crate) struct Masker {
    finder: AhoCorasick,
    /// Sorted, without doubles.
    patterns: Vec<Vec<u8>>,
    longest: usize,
    /// Whether a byte starts any pattern.
    starts: [bool; 256],
    held: Vec<u8>,
    /// How many of the held bytes belong to a mark that is out already.
    covered: usize,
}

impl Masker {
    /// Knows all spellings of the values; none if no value is worth hiding.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let patterns = forms::patterns(values);
        let longest = patterns.iter().map(Vec::len).max()?;
        let finder = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(&patterns)
            .ok()?;
        let mut starts = [false; 256];
        for first in patterns.iter().filter_map(|pattern| pattern.first()) {
            if let Some(flag) = starts.get_mut(usize::from(*first)) {
                *flag = true;
            }
        }
        Some(Self {
            finder,
            patterns,
            longest,
            starts,
            held: Vec::new(),
            covered: 0,
        })
    }

    /// Takes the next bytes and appends to `out` what is certain.
    pub(crate) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            let hold = self.hold_from(chunk);
            self.emit(chunk, hold, out);
            self.held.extend_from_slice(chunk.get(hold..).unwrap_or_default());
        } else {
            let mut data = std::mem::take(&mut self.held);
            data.extend_from_slice(chunk);
            let hold = self.hold_from(&data);
            self.emit(&data, hold, out);
            data.drain(..hold);
            self.held = data;
        }
    }

    /// Appends what is held back; the stream ends here, or pauses for a line of our own.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        let data = std::mem::take(&mut self.held);
        self.emit(&data, data.len(), out);
        self.covered = 0;
    }

    /// Masks a whole text.
    pub(crate) fn mask(&self, text: &str) -> String {
        if !self.finder.is_match(text) {
            return text.to_owned();
        }
        let mut out = Vec::with_capacity(text.len());
        self.emit_all(text.as_bytes(), text.len(), 0, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Where the longest end of `data` begins that may grow into a pattern.
    fn hold_from(&self, data: &[u8]) -> usize {
        let first = data.len().saturating_sub(self.longest - 1);
        let candidates = data.iter().enumerate().skip(first);
        candidates
            .filter(|(_, byte)| self.starts.get(usize::from(**byte)) == Some(&true))
            .map(|(at, _)| at)
            .find(|at| data.get(*at..).is_some_and(|end| self.is_proper_prefix(end)))
            .unwrap_or(data.len())
    }

    fn is_proper_prefix(&self, end: &[u8]) -> bool {
        let at = self.patterns.partition_point(|pattern| pattern.as_slice() <= end);
        self.patterns
            .get(at)
            .is_some_and(|pattern| pattern.starts_with(end))
    }

    fn emit(&mut self, data: &[u8], hold: usize, out: &mut Vec<u8>) {
        let masked_to = self.emit_all(data, hold, self.covered, out);
        self.covered = masked_to.saturating_sub(hold);
    }

    /// Appends `data` up to `hold`; the bytes before `masked_to` have their mark already. Matches that overlap share
    /// one mark, those that only touch do not: so the outcome does not depend on the chunks.
    fn emit_all(&self, data: &[u8], hold: usize, mut masked_to: usize, out: &mut Vec<u8>) -> usize {
        if self.finder.is_match(data) {
            let mut matches: Vec<(usize, usize)> = self
                .finder
                .find_overlapping_iter(data)
                .map(|found| (found.start(), found.end()))
                .collect();
            matches.sort_unstable();
            for (start, end) in matches.into_iter().take_while(|(start, _)| *start < hold) {
                if start >= masked_to {
                    out.extend_from_slice(data.get(masked_to..start).unwrap_or_default());
                    out.extend_from_slice(MARK);
                }
                masked_to = masked_to.max(end);
            }
        }
        out.extend_from_slice(data.get(masked_to..hold).unwrap_or_default());
        masked_to
    }
}
