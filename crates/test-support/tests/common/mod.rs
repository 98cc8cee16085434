//! What the simulation's tests share.

use pipekeeper_test_support::sim::{Options, Report, shrink, simulate};

/// How many seeds are tried: `SIM_SEEDS`, or 2,000.
pub(crate) fn count() -> u64 {
    std::env::var("SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2_000)
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
    let from = report.lines.len().saturating_sub(60);
    format!(
        "{:?}\ndrawn: {options}\nsmall: {small}\n{} happenings, the last ones:\n{}",
        report.violation,
        report.happened,
        report.lines[from..].join("\n")
    )
}
