//! What an attempt's test reports say.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, Millis};

/// The counts of an attempt's test reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCounts {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed or could not be carried out.
    pub failed: u32,
    /// Tests that were left out.
    pub skipped: u32,
    /// The digest of the [`TestDetails`], kept beside artifacts.
    pub details: Digest,
}

impl fmt::Display for TestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
            details: _,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// What is worth showing of an attempt's test reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestDetails {
    /// The tests that failed, in the order of the reports; of very many the first.
    pub failures: Vec<TestCase>,
    /// The tests that took longest, the slowest first.
    pub slowest: Vec<TestTime>,
    /// Which reports could not be read, and what was cut, for people.
    pub problems: Vec<String>,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCase {
    /// What it belongs to: a class, a module, a package; may be empty.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// How long it took.
    pub duration: Millis,
    /// What went wrong, in a line; may be empty.
    pub message: String,
    /// The whole of it, cut if it is long.
    pub text: String,
}

/// How long a test took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestTime {
    /// What it belongs to.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// How long it took.
    pub duration: Millis,
}
