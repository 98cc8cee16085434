use std::fs;

use pipekeeper_model::{Millis, TestCase};

use super::{Collected, collect};

fn read(reports: &[&str]) -> Collected {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..reports.len()).map(|number| format!("{number}.xml")).collect();
    for (name, text) in names.iter().zip(reports) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    collect(folder.path(), &names)
}

fn problem(report: &str) -> String {
    let mut problems = read(&[report]).details.problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn cases_are_counted_and_failures_kept() {
    let first = r#"<?xml version="1.0"?>
<testsuites name="all"><testsuite name="outer">
  <testcase classname="a::b" name="passes" time="0.25"/>
  <testcase name="fails" time="1,001.5"><failure message="1 &lt; 2 &#33;" type="x">
panicked at <![CDATA[src/lib.rs:<3>]]> &amp; more &custom;
</failure><system-out>noise</system-out></testcase>
  <testsuite name="inner"><testcase name="breaks"><error>first line
second</error></testcase></testsuite>
  <testcase name="left" time="bad"><skipped/></testcase>
</testsuite></testsuites>"#;
    let second =
        r#"<testsuite name="go"><testcase name="off" status="notrun"/><testcase name="ok"/></testsuite>"#;
    let found = read(&[first, second]);
    assert_eq!((found.passed, found.failed, found.skipped), (2, 2, 2));
    assert!(found.details.problems.is_empty(), "{:?}", found.details.problems);
    assert_eq!(
        found.details.failures,
        [
            TestCase {
                suite: "outer".into(),
                name: "fails".into(),
                duration: Millis(1_001_500),
                message: "1 < 2 !".into(),
                text: "panicked at src/lib.rs:<3> & more &custom;".into(),
            },
            TestCase {
                suite: "inner".into(),
                name: "breaks".into(),
                duration: Millis(0),
                message: "first line".into(),
                text: "first line\nsecond".into(),
            },
        ]
    );
    let slowest: Vec<_> = found
        .details
        .slowest
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(slowest, ["fails", "passes"]);
}

#[test]
fn hostile_reports_are_named_and_bounded() {
    let bomb = r#"<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>"#;
    assert!(problem(bomb).contains("document type"));
    let outside = r#"<!DOCTYPE a SYSTEM "file:///etc/passwd"><testsuite/>"#;
    assert!(problem(outside).contains("document type"));
    assert!(problem(&"<testsuite>".repeat(100_000)).contains("nested deeper"));
    assert!(problem("<html/>").contains("no JUnit report"));
    assert!(problem("").contains("no JUnit report"));
    assert!(problem("<testsuite><testcase").contains("cannot be read"));
    assert!(problem("<testsuite>").contains("ends in the middle"));
    assert!(problem("<testsuite></other>").contains("cannot be read"));
    let many = format!(
        "<testsuite>{}</testsuite>",
        "<testcase/>".repeat(super::FAILURES * 2_000)
    );
    assert!(problem(&many).contains("more than 100000 tests"));
    let attributes = "a='1' ".repeat(200_000);
    let found = read(&[&format!(
        "<testsuite><testcase {attributes} name='x'/></testsuite>"
    )]);
    assert_eq!(found.passed, 1);
}

#[test]
fn many_and_long_failures_are_cut() {
    let long = "ü".repeat(20_000);
    let case = format!("<testcase name='{long}'><failure message='{long}'>{long}</failure></testcase>");
    let found = read(&[&format!("<testsuite>{}</testsuite>", case.repeat(150))]);
    assert_eq!(found.failed, 150);
    assert_eq!(found.details.failures.len(), 100);
    let bytes = serde_json::to_vec(&found.details).unwrap().len();
    assert!(bytes < 1_100_000, "{bytes}");
    assert_eq!(found.details.problems, ["only the first 100 failures are kept"]);
}

#[test]
fn a_report_that_breaks_off_counts_as_far_as_it_goes() {
    let found = read(&[
        "<testsuite><testcase name='a'/><testcase name='b'><failure",
        "nothing",
    ]);
    assert_eq!((found.passed, found.failed), (1, 0));
    assert_eq!(found.details.problems.len(), 2);
    let elsewhere = collect(
        std::path::Path::new("/"),
        &["../etc/passwd".to_owned(), "/etc/passwd".to_owned()],
    );
    assert_eq!(elsewhere.details.problems.len(), 2);
    assert!(elsewhere.details.problems[0].contains("leads elsewhere"));
}
