//! What an action's test reports say, on its pane: counts, failures with their texts folded, the slowest.

use pipekeeper_model::{Millis, TestCase, TestCounts, TestDetails};

use crate::{ansi::Renderer, live::LINE_SHOWN};

use super::present::span;

/// How many failures a page shows, and characters of their texts together: a page is to be painted fast.
const FAILURES: usize = 20;
const TEXT: usize = 16 * 1024;

/// The part of a pane.
pub(crate) struct TestsPane {
    pub(crate) counts: TestCounts,
    pub(crate) failures: Vec<Failure>,
    /// How many failed and are not shown here.
    pub(crate) more: u32,
    pub(crate) slowest: Vec<Slow>,
    pub(crate) problems: Vec<String>,
}

/// A test that failed.
pub(crate) struct Failure {
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) took: String,
    pub(crate) message: String,
    /// The text's lines, as HTML; empty if the message says it all.
    pub(crate) html: Vec<String>,
}

/// A test and how long it took.
pub(crate) struct Slow {
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) took: String,
}

impl TestsPane {
    pub(crate) fn new(counts: &TestCounts, details: TestDetails) -> Self {
        let mut room = TEXT;
        let failures: Vec<Failure> = details
            .failures
            .into_iter()
            .take(FAILURES)
            .map(|case| Failure::of(case, &mut room))
            .collect();
        let shown = u32::try_from(failures.len()).unwrap_or(u32::MAX);
        Self {
            more: counts.failed.saturating_sub(shown),
            failures,
            slowest: details
                .slowest
                .into_iter()
                .map(|test| Slow {
                    suite: test.suite,
                    name: test.name,
                    took: span(test.duration),
                })
                .collect(),
            problems: details.problems,
            counts: counts.clone(),
        }
    }

    /// The class of the counts' mark.
    pub(crate) fn class(&self) -> &'static str {
        match (self.counts.failed, self.counts.passed) {
            (0, 0) => "skip",
            (0, _) => "ok",
            _ => "bad",
        }
    }
}

impl Failure {
    fn of(case: TestCase, room: &mut usize) -> Self {
        let text = case
            .text
            .get(..case.text.floor_char_boundary(*room))
            .unwrap_or_default();
        *room -= text.len();
        let says_more = !text.is_empty() && text.trim() != case.message;
        Self {
            took: if case.duration == Millis(0) {
                String::new()
            } else {
                span(case.duration)
            },
            html: if says_more {
                Renderer::render(text.as_bytes(), LINE_SHOWN)
            } else {
                Vec::new()
            },
            suite: case.suite,
            name: case.name,
            message: case.message,
        }
    }
}
