//! Test reports in the form of JUnit: counted, with what failed and what was slow.
//!
//! Reports come from user code, so everything about them is bounded, and one that cannot be read is named and changes
//! nothing. Entry function: [`collect`].

mod read;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path},
};

use pipekeeper_model::{Millis, TestCase, TestDetails, TestTime};

use self::read::{Case, Verdict};

/// Bytes of one report, and of all reports of an attempt.
const REPORT_LIMIT: u64 = 32 << 20;
const ALL_LIMIT: u64 = 128 << 20;
/// How many failures and slow tests are kept.
const FAILURES: usize = 100;
const SLOWEST: usize = 5;
/// How many problems are told.
const PROBLEMS: usize = 10;
/// A test that is faster than this is not among the slow ones.
const SLOW: Millis = Millis(100);

/// The counts of all reports of an attempt, and what is worth showing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
    pub(crate) details: TestDetails,
}

/// Reads reports, given as paths below a folder.
pub(crate) fn collect(folder: &Path, reports: &[String]) -> Collected {
    let mut collected = Collected::default();
    let mut left = ALL_LIMIT;
    for report in reports {
        let told = match read_report(folder, report, &mut left) {
            Ok(text) => {
                read::cases(&text, &mut |case| collected.add(case)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = told {
            collected.problem(format!("`{report}` cannot be read: {reason}"));
        }
    }
    if collected.failed as usize > FAILURES {
        collected.problem(format!("only the first {FAILURES} failures are kept"));
    }
    collected
}

fn read_report(folder: &Path, report: &str, left: &mut u64) -> io::Result<String> {
    let path = Path::new(report);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::Error::other("its path leads elsewhere"));
    }
    let file = File::open(folder.join(path))?;
    let bytes = file.metadata()?.len();
    if bytes > REPORT_LIMIT || bytes > *left {
        return Err(io::Error::other(format!(
            "reports may have {} MiB each and {} MiB together",
            REPORT_LIMIT >> 20,
            ALL_LIMIT >> 20
        )));
    }
    *left -= bytes;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Collected {
    fn add(&mut self, case: Case) {
        self.time(&case);
        match case.verdict {
            Verdict::Passed => self.passed = self.passed.saturating_add(1),
            Verdict::Skipped => self.skipped = self.skipped.saturating_add(1),
            Verdict::Failed { message, text } => {
                self.failed = self.failed.saturating_add(1);
                if self.details.failures.len() < FAILURES {
                    self.details.failures.push(TestCase {
                        suite: case.suite,
                        name: case.name,
                        duration: case.duration,
                        message,
                        text,
                    });
                }
            }
        }
    }

    /// Keeps the slowest, in order.
    fn time(&mut self, case: &Case) {
        let slowest = &mut self.details.slowest;
        let place = slowest.partition_point(|known| known.duration >= case.duration);
        if case.duration >= SLOW && place < SLOWEST {
            slowest.insert(
                place,
                TestTime {
                    suite: case.suite.clone(),
                    name: case.name.clone(),
                    duration: case.duration,
                },
            );
            slowest.truncate(SLOWEST);
        }
    }

    fn problem(&mut self, text: String) {
        if self.details.problems.len() < PROBLEMS {
            self.details.problems.push(text);
        }
    }
}
