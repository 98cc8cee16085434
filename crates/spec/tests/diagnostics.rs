//! What people read when a file is wrong: a page for every code, and the text of many errors.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use pipekeeper_spec::{
    Color, Diagnostics, SourceFile, check, codes,
    document::{Others, check_documents},
    explain,
};

fn findings(text: &str) -> Diagnostics {
    let file = SourceFile {
        path: ".pipe/web.yaml",
        text,
    };
    match check(&file) {
        Ok((_, warnings)) => warnings,
        Err(errors) => {
            assert!(errors.has_errors());
            errors
        }
    }
}

/// The same of a page's example, which is a pipeline or a file of documents.
fn findings_of_example(text: &str) -> Diagnostics {
    if !text.starts_with("kind: ") {
        return findings(text);
    }
    let file = SourceFile {
        path: ".pipe/web.yaml",
        text,
    };
    let found = match check_documents(&[file], Others::Unknown) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    };
    found.into_iter().next().unwrap()
}

fn rendered(text: &str) -> String {
    let file = SourceFile {
        path: ".pipe/web.yaml",
        text,
    };
    findings_of_example(text).render(&file, Color::Never)
}

/// The only example of a page.
fn example(code: &str) -> &'static str {
    let page = explain(code).unwrap();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (example, after) = rest.split_once("```").unwrap();
    assert!(!after.contains("```"), "{code} has more than one example");
    assert!(after.trim().len() > 10, "{code} does not say what to do");
    example
}

#[test]
fn every_code_has_a_page_whose_example_triggers_it_alone() {
    let mut wrong = Vec::new();
    for code in codes() {
        let found = findings_of_example(example(code));
        let seen: Vec<&str> = found.iter().map(|one| one.code.as_str()).collect();
        if seen != [code] {
            wrong.push(format!("{code}: {seen:?}\n{}", rendered(example(code))));
        }
        assert!(explain(code).unwrap().starts_with(&format!("# {code}: ")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(explain("PK9999").is_none());
}

#[test]
fn the_examples_read_well() {
    let texts: Vec<String> = codes().map(|code| rendered(example(code))).collect();
    insta::assert_snapshot!("examples", texts.join("\n"));
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = "\
name: my web
on:
  push: { branch: [main] }
  cron: [{ name: nightly, at: \"H 99 * * *\", timezone: Mars/Olympus }]
params:
  count: { type: int, default: many }
  kind: { values: [a], default: a }
env: { 1X: a, OK: }
caches:
  big: { paths: [target], mode: volume }
  odd: { paths: ../x, access: one }
actions:
  - parallel:
      - name: lint
        run: cargo clippy ${{ params.count }}
        timeout: soon
        needs: [tset]
      - name: test
        steps:
          - { name: nothing }
          - { run: a, command: [b] }
        retry: { attempts: 0, on: [skipped] }
        secrets: [{ name: A, env: B, file: c }]
        checkout: maybe
        matrix: { db: [] }
  - approve: { text: ok?, count: 0 }
    run: make
  - parallel:
      - { name: lint, run: x, start: now }
    retry: { attempts: 2 }
  - promote: dev
    wait: { for: 1m }
  - { name: use, run: y, use: [lint, lint.out, nobody.x], cache: [biig], ungated: true }
  - { name: when, run: z, start: { at: \"10:00\", after: \"11:00\" }, if: \"${{ branch == 'main' }}\" }
  - { name: env, run: z, env: { A: \"${{ matrix.db }} and ${{ nope(1) }}\", B: \"${{ branch\" } }
  - { wait: tag }
  - text
finally:
  - { name: tell, run: t, needs: [test], start: manual, if: run.outcome == 1 }
";
    insta::assert_snapshot!("many", rendered(text));
}

#[test]
fn what_cannot_be_reused_is_said_at_once() {
    let text = "\
env: { PROFILE: release }
actions:
  - { name: none, run: make, reuse: { inputs: [] } }
  - { name: away, run: make, reuse: { inputs: [/etc/passwd, \"!../x\", ./src, \"~/.m2\", \"src/**\"] } }
  - name: names
    steps: [{ run: make, env: { LEVEL: 3 } }]
    secrets: [TOKEN]
    reuse: { inputs: src, env: [PROFILE, LEVEL, PIPE_TAG, PROFLE, PIPE_RUN_ID, TOKEN] }
  - name: acts
    steps: [{ run: make }, { build: { repository: harbor.local/web } }]
    credentials: [git]
    environment: dev
    reuse: { inputs: src }
  - { name: bare, run: make, reuse: { env: [PROFILE] } }
  - { approve: ok?, reuse: { inputs: src } }
finally:
  - { name: tell, run: make, reuse: { inputs: src } }
";
    insta::assert_snapshot!("reuse", rendered(text));
}

#[test]
fn other_faces_of_a_diagnostic() {
    let text = "actions:\n  - name: test\n    rum: make\n    run: make\n";
    let file = SourceFile { path: "a.yaml", text };
    let found = findings(text);
    insta::assert_snapshot!(found.to_lines(&file), @"a.yaml:3:5: error[PK0010]: an entry has no key `rum`");
    insta::assert_snapshot!(
        found.to_json(&file).to_string(),
        @r#"[{"code":"PK0010","column":5,"file":"a.yaml","hint":"did you mean `run`?","key_path":"actions[0].rum","line":3,"message":"an entry has no key `rum`","severity":"error"}]"#
    );
    assert!(found.render(&file, Color::Always).contains("\u{1b}["));
}

#[test]
fn yaml_surprises_are_none() {
    // `on` stays a key, `1.10` and `yes` stay text, anchors repeat a value, a byte order mark does no harm.
    let text = "\u{feff}on: { manual: true }\nenv: { V: 1.10, Y: yes, T: true, N: 012 }\nactions:\n  - &a { run: make }\n  - *a\n";
    let found = findings(text);
    assert!(found.is_empty(), "{}", rendered(text));
}

#[test]
fn what_is_odd_is_refused_in_place() {
    for (text, wanted) in [
        ("", "1:1: error[PK0012]"),
        ("[]", "1:1: error[PK0011]"),
        ("actions: make", "1:10: error[PK0011]"),
        ("actions: []", "1:10: error[PK0013]"),
        ("actions: [{}]", "1:11: error[PK0030]"),
        ("actions: [~]", "1:11: error[PK0011]"),
        ("actions: [{ wait: {} }]", "1:19: error[PK0039]"),
        ("actions: [{ steps: [{}] }]", "1:21: error[PK0030]"),
        ("actions: [{ run: x, start: {} }]", "error[PK0039]"),
        ("actions:\n\t- run: make", "2:2: error[PK0001]"),
        ("actions: [*a]", "1:11: error[PK0001]"),
        ("actions: &a [*a]", "1:14: error[PK0001]"),
        ("? [a]\n: b\nactions: [{ run: x }]", "1:3: error[PK0011]"),
        ("actions: [{ run: x, needs: [action-1] }]", "1:13: error[PK0035]"),
        (
            "actions: [{ name: g, serial: [{ name: m, run: x, needs: [g] }] }]",
            "error[PK0035]",
        ),
        ("actions: [{ run: \"echo ${{ a }}\" }]", "1:24: error[PK0050]"),
        (
            "actions: [{ name: a, run: x }, { run: x, env: { A: \"${{ actions }}\" } }]",
            "error[PK0053]",
        ),
        (
            "actions: [{ name: a, run: x, use: [b.c] }]\nfinally: [{ name: b, run: x, artifacts: { c: d } }]",
            "error[PK0038]",
        ),
    ] {
        let file = SourceFile { path: "a.yaml", text };
        let lines = findings(text).to_lines(&file);
        assert!(lines.contains(wanted), "{text}\ngives\n{lines}");
    }
}

#[test]
fn bombs_are_stopped_early() {
    let laughs = (1..12).fold(
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
        |text, level| {
            let before = format!("*a{}", level - 1);
            text + &format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(", "))
        },
    );
    for text in [
        laughs,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "x".repeat(600 * 1024),
        format!("actions: [{}]", "{ run: x },".repeat(30_000)),
        format!("actions: [{{ run: x, if: '{}' }}]", "(".repeat(1_000)),
    ] {
        let found = findings(&text);
        assert!(found.has_errors(), "{}", text.get(..40).unwrap_or_default());
    }
}
