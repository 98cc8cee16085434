//! What the simulation's tests share.

use pipekeeper_test_support::sim::{Options, Report, shrink, simulate};

/// How many seeds are tried: `SIM_SEEDS`, or 2,000.
pub(crate) fn count() -> u64 {
    number("SIM_SEEDS").unwrap_or(2_000)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs one simulation; a failure is made small and told with the end of its trace.
pub(crate) fn run(options: &Options) -> Report {
    let report = simulate(options);
    if report.violation.is_some() && options.bug.is_none() {
        panic!("{}", tell(options));
    }
    report
}

fn tell(options: &Options) -> String {
    let mut small = shrink(options);
    small.trace = true;
    let report = simulate(&small);
    // `SIM_TAIL` wants more of it, or less.
    let tail = number("SIM_TAIL").and_then(|tail| usize::try_from(tail).ok());
    let from = report.lines.len().saturating_sub(tail.unwrap_or(60));
    format!(
        "{:?}\ndrawn: {options}\nsmall: {small}\n{} happenings, the last ones:\n{}",
        report.violation,
        report.happened,
        report.lines[from..].join("\n")
    )
}
