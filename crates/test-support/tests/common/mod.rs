//! What the simulation's tests share.

use pipekeeper_test_support::sim::{Coverage, Options, Report, shrink, simulate};

/// Runs one simulation.
pub(crate) fn run(options: &Options) -> Report {
    simulate(options)
}

/// How many seeds are tried: `SIM_SEEDS`, or 2,000.
pub(crate) fn count() -> u64 {
    std::env::var("SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2_000)
}

/// Runs every seed of one part.
pub(crate) fn seeds(part: u64, parts: u64) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in (part..count()).step_by(usize::try_from(parts).unwrap()) {
        let options = Options::draw(seed);
        let report = run(&options);
        if report.violation.is_some() {
            panic!("{}", tell(&options));
        }
        coverage.add(&report.coverage);
    }
    coverage
}

/// A failure, made small, with the end of its trace.
pub(crate) fn tell(options: &Options) -> String {
    let mut small = shrink(options);
    small.trace = true;
    let report = run(&small);
    let from = report.lines.len().saturating_sub(60);
    format!(
        "{:?}\noptions: {small}\n{} happenings, the last ones:\n{}",
        report.violation,
        report.happened,
        report.lines[from..].join("\n")
    )
}
