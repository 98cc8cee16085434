//! The log, the environment and the named outputs.

use std::fs;

use pipekeeper_agent::protocol::{FromAgent, RecordOutcome, Script, SecretText, SecretValue, Shell};

use crate::support::{Attempt, command, failed, make_gate, open_gate, shell_step, step};

fn secret(env: Option<&str>, file: Option<&str>, value: &str) -> SecretValue {
    SecretValue {
        pointer: None,
        env: env.map(Into::into),
        file: file.map(Into::into),
        value: SecretText::new(value),
    }
}

#[test]
fn bytes_arrive_as_they_are() {
    let attempt = Attempt::new().with(command(&["printf", r"a\000\377\r\nno newline"]));
    let record = attempt.run();
    let log = fs::read(&attempt.spec.log).unwrap();
    assert_eq!(log, b"a\0\xff\r\nno newline");
    assert_eq!(
        (
            record.steps[0].log_start,
            record.steps[0].log_end,
            record.log_bytes
        ),
        (0, 15, 15)
    );
}

#[test]
fn much_output_is_complete() {
    let attempt = Attempt::new();
    let mut content = Vec::with_capacity(64 << 20);
    let mut state = 1_u64;
    while content.len() < 64 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        content.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(attempt.file("much"), &content).unwrap();
    let path = attempt.file("much").display().to_string();
    let attempt = attempt.with(command(&["cat", &path]));
    let record = attempt.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert!(fs::read(&attempt.spec.log).unwrap() == content);
}

#[test]
fn the_limit_cuts_the_log_and_not_the_step() {
    let mut attempt = Attempt::new().with(command(&["head", "-c", "10000000", "/dev/zero"]));
    attempt.spec.log_limit = 1000;
    let record = attempt.run();
    assert_eq!(
        (record.outcome, record.log_truncated),
        (RecordOutcome::Succeeded, true)
    );
    let log = fs::read(&attempt.spec.log).unwrap();
    assert_eq!(log[..1000], [0; 1000]);
    assert_eq!(
        &log[1000..],
        b"\npipekeeper: the log limit is reached; what follows is dropped\n"
    );
}

#[test]
fn a_step_may_close_its_output() {
    let attempt = Attempt::script("exec >&- 2>&-; sleep 0.1; : > @/side").localized();
    assert_eq!(attempt.run().outcome, RecordOutcome::Succeeded);
    assert!(attempt.file("side").exists());
}

#[test]
fn the_environment_is_clean() {
    let mut attempt = Attempt::new().with(command(&["env"]));
    attempt.spec.env = [("A", "1"), ("B", "1")]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    attempt.spec.steps[0].env = [("B".into(), "2".into())].into();
    attempt.run();
    let log = attempt.log();
    let names: Vec<&str> = log
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let allowed = [
        "A",
        "B",
        "HOME",
        "TMPDIR",
        "PATH",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "PIPE_OUTPUT",
        "PIPE_SUMMARY",
        "PIPE_WORKSPACE",
    ];
    assert!(names.iter().all(|name| allowed.contains(name)), "{names:?}");
    assert!(log.contains("A=1\n") && log.contains("B=2\n") && log.contains("/home\n"));
}

#[test]
fn commands_are_echoed_with_their_line() {
    let text = "echo one\n# a comment\nif true; then\n  echo \"$(printf two)\" &&\n    cat /dev/null\nfi\nx=3\nfalse\n";
    for shell in [Shell::Sh, Shell::Bash] {
        let mut attempt = Attempt::new().with(shell_step(shell, text));
        if let Script::Shell { line, .. } = &mut attempt.spec.steps[0].script {
            *line = 41;
        }
        let record = attempt.run();
        let log = attempt.log();
        for expected in [
            "+ 41: echo one\none\n",
            "+ 44: echo two\n",
            "+ 45: cat /dev/null\n",
            "+ 47: x=3\n",
            "+ 48: false\n",
        ] {
            assert!(log.contains(expected), "{shell:?}: {expected} in {log}");
        }
        assert_eq!(record.steps[0].last_line, Some(48), "{shell:?}");
    }
}

#[test]
fn the_echo_of_bash_is_no_output_of_a_function() {
    let attempt = Attempt::new().with(shell_step(
        Shell::Bash,
        "f() { echo in; }; x=$(f 2>&1); test \"$x\" = in",
    ));
    assert_eq!(
        attempt.run().outcome,
        RecordOutcome::Succeeded,
        "{}",
        attempt.log()
    );
    assert!(attempt.log().contains("+ 1: echo in\n"), "{}", attempt.log());
}

#[test]
fn bash_fails_with_any_part_of_a_pipe() {
    assert_eq!(
        failed(&Attempt::new().with(shell_step(Shell::Bash, "false | true")).run()).1,
        Some(1)
    );
    assert_eq!(
        Attempt::script("false | true").run().outcome,
        RecordOutcome::Succeeded
    );
    assert_eq!(failed(&Attempt::script("echo $unset_name").run()).2, None);
}

#[test]
fn a_mistake_names_its_line() {
    let mut attempt = Attempt::script("echo one\nif\n");
    if let Script::Shell { line, .. } = &mut attempt.spec.steps[0].script {
        *line = 7;
    }
    failed(&attempt.run());
    assert!(
        attempt.log().contains(".sh: 10: Syntax error") || attempt.log().contains("line 10"),
        "{}",
        attempt.log()
    );
}

#[test]
fn outputs_are_read_after_each_step() {
    let attempt =
        Attempt::script("echo a=1 >> $PIPE_OUTPUT; echo b=old >> $PIPE_OUTPUT; echo '# hi' > $PIPE_SUMMARY")
            .with(step(
                "printf 'text<<END\\none\\ntwo\\nEND\\nb=new\\n' > \"$PIPE_OUTPUT\"",
            ));
    let record = attempt.run();
    let expected = [("a", "1"), ("b", "new"), ("text", "one\ntwo")];
    assert_eq!(
        record.outputs,
        expected.map(|(key, value)| (key.into(), value.into())).into()
    );
    assert!(record.summary);
    assert_eq!(fs::read_to_string(attempt.dir.summary()).unwrap(), "# hi\n");
}

#[test]
fn malformed_outputs_fail_their_step() {
    for (script, reason) in [
        (
            "echo a=1 >> $PIPE_OUTPUT; echo oops >> $PIPE_OUTPUT",
            "line 2 of the output file",
        ),
        ("printf 'a=\\377' >> $PIPE_OUTPUT", "not UTF-8"),
        ("head -c 68000000 /dev/zero >> $PIPE_OUTPUT", "larger than 64 MiB"),
        (
            "rm $PIPE_OUTPUT; ln -s /etc/passwd $PIPE_OUTPUT",
            "cannot be read",
        ),
    ] {
        let attempt = Attempt::script("true")
            .with(step(script))
            .with(step("echo never"));
        let record = attempt.run();
        let (step, code, _, text) = failed(&record);
        assert_eq!((step, code), (1, Some(0)));
        assert!(text.contains(reason), "{text}");
        assert!(
            attempt
                .log()
                .contains(&format!("pipekeeper: step `step`: {text}\n"))
        );
    }
}

#[test]
fn secrets_arrive_and_stay_hidden() {
    let attempt = Attempt::script(
        "echo \"env $TOKEN\"; (set +x; printf hun; sleep 0.05; printf 'ter2-xyz\\n'); cat ~/.m2/settings.xml
         stat -c %a ~/.m2/settings.xml; printf %s \"$TOKEN\" | base64; cat conf/key
         echo \"out=$TOKEN\" >> $PIPE_OUTPUT; echo \"$TOKEN\" > $PIPE_SUMMARY",
    );
    let record = attempt.run_with(vec![
        secret(Some("TOKEN"), None, "hunter2-xyz"),
        secret(None, Some("~/.m2/settings.xml"), "<settings-of-mine/>\n"),
        secret(None, Some("conf/key"), "key-material"),
    ]);
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    let log = attempt.log();
    for hidden in ["hunter2", "aHVudGVyMi14eX", "settings-of-mine", "key-material"] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
        let record = fs::read_to_string(attempt.dir.exit()).unwrap();
        let spec = fs::read_to_string(attempt.dir.spec()).unwrap();
        assert!(!record.contains(hidden) && !spec.contains(hidden));
    }
    assert!(
        log.contains("env ***\n") && log.contains("\n***\n") && log.contains("\n600\n"),
        "{log}"
    );
    assert_eq!(record.outputs["out"], "***");
    assert_eq!(fs::read_to_string(attempt.dir.summary()).unwrap(), "***\n");
}

/// What is refused is refused before anything of it is told, and what is told of it hides secrets too.
#[test]
fn a_wrong_output_file_tells_no_secret() {
    let canary = "SuperSecretCanary12345";
    for text in [
        "echo \"k=$TOK\" >> \"$PIPE_OUTPUT\"\necho \"this is no pair\" >> \"$PIPE_OUTPUT\"",
        "echo \"$TOK\" >> \"$PIPE_OUTPUT\"",
        "echo \"$TOK=1\" >> \"$PIPE_OUTPUT\"",
        "echo \"k<<$TOK\" >> \"$PIPE_OUTPUT\"",
    ] {
        let attempt = Attempt::new().with(step(text));
        let record = attempt.run_with(vec![secret(Some("TOK"), None, canary)]);
        assert!(
            matches!(record.outcome, RecordOutcome::Failed { .. }),
            "{record:?}"
        );
        assert!(!format!("{record:?}").contains(canary), "{record:?}");
        assert!(!attempt.log().contains(canary), "{}", attempt.log());
    }
}

/// A record is always told, whatever the steps put out.
#[test]
fn a_record_fits_its_frame() {
    let text = "i=0\nwhile [ $i -lt 16 ]; do\n  { printf \"k$i=\"; head -c 60000 /dev/zero | tr '\\0' '\\1'; echo; } >> \
                \"$PIPE_OUTPUT\"\n  i=$((i+1))\ndone";
    let record = Attempt::script(text).run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded, "{:?}", record.outcome);
    let wrong = format!("{text}\necho no pair >> \"$PIPE_OUTPUT\"");
    let record = Attempt::script(&wrong).run();
    assert!(
        matches!(record.outcome, RecordOutcome::Failed { .. }),
        "{:?}",
        record.outcome
    );
    assert!(record.outputs.is_empty());
}

#[test]
fn a_summary_is_cut_to_what_is_shown() {
    let attempt = Attempt::script("head -c 10000000 /dev/zero | tr '\\0' x > \"$PIPE_SUMMARY\"");
    let record = attempt.run();
    assert!(record.summary);
    assert_eq!(fs::metadata(attempt.dir.summary()).unwrap().len(), 64 << 10);
}

/// All steps write to one pipe, and what one does to its end of it lasts.
#[test]
fn what_a_step_does_to_its_output_does_not_reach_the_next() {
    let attempt = Attempt::new()
        .with(step(
            "perl -MFcntl -e 'fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK) or die'",
        ))
        .with(step("head -c 8000000 /dev/zero | tr '\\0' x"));
    let record = attempt.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded, "{:?}", record.outcome);
    assert!(record.log_bytes > 8_000_000, "{}", record.log_bytes);
}

#[test]
fn slow_silence_is_told_with_what_runs() {
    let attempt = Attempt::script("echo a word; read word < @/gate").localized();
    make_gate(&attempt.file("gate"));
    let mut supervisor = attempt.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    let silent = controller.until(|message| matches!(message, FromAgent::Silent { .. }));
    let FromAgent::Silent {
        seconds, processes, ..
    } = silent
    else {
        panic!("{silent:?}")
    };
    assert_eq!((seconds, processes), (10, 1));
    open_gate(&attempt.file("gate"));
    assert_eq!(controller.finished().outcome, RecordOutcome::Succeeded);
    assert!(supervisor.wait().success());
}
