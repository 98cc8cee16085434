//! Workspace, artifacts, caches and reports.

use std::fs;
use std::os::unix::fs::MetadataExt;

use pipekeeper_agent::protocol::{
    ArtifactSpec, CacheCandidate, CacheSpec, FileLimits, InputSpec, KeepWorkspace, RecordOutcome, SecretText,
    SecretValue, ValueSpec, WorkspaceSpec,
};

use crate::support::{Attempt, failed};

fn artifact(name: &str, path: &str, always: bool) -> ArtifactSpec {
    ArtifactSpec {
        name: name.into(),
        paths: vec![path.into()],
        always,
    }
}

#[test]
fn an_artifact_goes_from_action_to_action() {
    let mut maker = Attempt::script("mkdir -p out/bin; echo content > out/bin/web; chmod 750 out/bin/web");
    maker.spec.artifacts = vec![artifact("web", "out", false)];
    let record = maker.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    let made = &record.artifacts[0];
    let archive = maker.dir.artifact("web");
    assert_eq!(
        (made.files, made.bytes),
        (1, fs::metadata(&archive).unwrap().len())
    );

    let mut user = Attempt::script("cat in/web/out/bin/web; stat -c %a in/web/out/bin/web");
    let mut input = InputSpec {
        archive,
        into: "in/web".into(),
        sha256: made.sha256.clone(),
    };
    user.spec.inputs = vec![input.clone()];
    assert_eq!(user.run().outcome, RecordOutcome::Succeeded);
    assert!(
        user.log().ends_with("750\n") && user.log().contains("\ncontent\n"),
        "{}",
        user.log()
    );

    let mut deceived = Attempt::script("echo ran >> @/side").localized();
    input.sha256 = "00".repeat(32);
    deceived.spec.inputs = vec![input];
    assert!(matches!(deceived.run().outcome, RecordOutcome::Errored { .. }));
    assert!(!deceived.file("side").exists());
}

#[test]
fn missing_artifacts_fail_and_only_some_survive_a_failure() {
    let mut attempt = Attempt::script("true");
    attempt.spec.artifacts = vec![artifact("web", "dist/*", false)];
    let record = attempt.run();
    assert_eq!(failed(&record).3, "artifact `web`: no file matches `dist/*`");
    assert!(!attempt.dir.artifact("web").exists());

    let mut attempt = Attempt::script("echo x > a; mkdir -p t; echo '<testsuite/>' > t/junit.xml; exit 4");
    attempt.spec.artifacts = vec![artifact("a", "a", false), artifact("b", "a", true)];
    attempt.spec.reports = vec!["**/*.xml".into()];
    let record = attempt.run();
    assert_eq!(failed(&record).1, Some(4));
    assert_eq!(
        record
            .artifacts
            .iter()
            .map(|made| made.name.as_str())
            .collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(record.reports, ["t/junit.xml"]);
    assert_eq!(
        fs::read_to_string(attempt.dir.reports().join("t/junit.xml")).unwrap(),
        "<testsuite/>\n"
    );
}

#[test]
fn an_artifact_that_is_too_large_fails_and_such_a_cache_is_only_noted() {
    let mut attempt = Attempt::script("head -c 5000 /dev/urandom > a; cp a b");
    attempt.spec.limits = FileLimits {
        artifact: 4000,
        cache: 4000,
    };
    attempt.spec.artifacts = vec![artifact("web", "a", false)];
    let record = attempt.run();
    let reason = failed(&record).3.to_owned();
    assert!(
        reason.starts_with("artifact `web` has 5")
            && reason.ends_with("more than the 4000 that are kept of one"),
        "{reason}"
    );
    assert!(record.artifacts.is_empty() && !attempt.dir.artifact("web").exists());

    let store = tempfile::tempdir().unwrap();
    let mut attempt = Attempt::script("head -c 5000 /dev/urandom > a");
    attempt.spec.limits.cache = 4000;
    attempt.spec.caches = vec![CacheSpec {
        name: "deps".into(),
        key: "key".into(),
        restore: Vec::new(),
        paths: vec!["a".into()],
        save_to: Some(store.path().join("key")),
    }];
    let record = attempt.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert_eq!(record.caches[0].saved_bytes, None);
    let note = "cache `deps` not saved: archive has more than 4000 bytes";
    assert!(attempt.log().contains(note), "{}", attempt.log());
}

#[test]
fn a_cache_survives_the_attempt() {
    let store = tempfile::tempdir().unwrap();
    let file = store.path().join("deep/key");
    let cache = CacheSpec {
        name: "deps".into(),
        key: "key".into(),
        restore: vec![CacheCandidate {
            path: file.clone(),
            exact: true,
        }],
        paths: vec!["~/.deps".into(), "target".into()],
        save_to: Some(file),
    };
    let run = |script: &str| {
        let mut attempt = Attempt::script(script);
        attempt.spec.caches = vec![cache.clone()];
        attempt.run()
    };
    let first = run("mkdir -p ~/.deps target; echo lib > ~/.deps/lib; echo out > target/out");
    assert_eq!(first.caches[0].restored_exact, None);
    assert!(first.caches[0].saved_bytes.is_some());
    let second = run("cat ~/.deps/lib target/out");
    assert_eq!(second.outcome, RecordOutcome::Succeeded);
    assert_eq!(
        (second.caches[0].restored_exact, second.caches[0].saved_bytes),
        (Some(true), None)
    );
    let failed = run("echo worse > target/out; exit 1");
    assert_eq!(failed.caches[0].saved_bytes, None);
}

#[test]
fn the_workspace_is_a_copy() {
    let mut attempt = Attempt::script("echo changed > sub/file; cat sub/other").localized();
    let source = attempt.file("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/file"), "original").unwrap();
    fs::write(source.join("sub/other"), "other").unwrap();
    attempt.spec.workspace = WorkspaceSpec::CopyOf { path: source.clone() };
    attempt.spec.keep_workspace = KeepWorkspace::Always;
    assert_eq!(attempt.run().outcome, RecordOutcome::Succeeded);
    assert_eq!(fs::read_to_string(source.join("sub/file")).unwrap(), "original");
    assert_eq!(fs::metadata(source.join("sub/other")).unwrap().nlink(), 1);
    assert_eq!(
        fs::read_to_string(attempt.dir.workspace().join("sub/file")).unwrap(),
        "changed\n"
    );
}

#[test]
fn a_missing_or_hostile_source_is_an_error_of_ours() {
    for name in ["missing.tar.zst", "text.tar"] {
        let mut attempt = Attempt::script("true");
        let path = attempt.file(name);
        fs::write(attempt.file("text.tar"), "no archive").unwrap();
        attempt.spec.workspace = WorkspaceSpec::Archive { path };
        let record = attempt.run();
        assert!(
            matches!(record.outcome, RecordOutcome::Errored { .. }),
            "{name}: {:?}",
            record.outcome
        );
        assert!(attempt.log().contains("pipekeeper: cannot unpack"));
    }
}

#[test]
fn a_kept_workspace_holds_no_secret() {
    let mut attempt = Attempt::script("echo x > file; mkdir ro; echo y > ro/y; chmod 555 ro; exit 1");
    attempt.spec.keep_workspace = KeepWorkspace::OnFailure;
    let value = SecretText::new("hunter2-xyz");
    attempt.run_with(vec![SecretValue {
        pointer: None,
        env: None,
        file: Some("key".into()),
        value,
    }]);
    assert!(attempt.dir.workspace().join("file").exists());
    assert!(!attempt.dir.workspace().join("key").exists());

    attempt = Attempt::script("mkdir ro; echo y > ro/y; chmod 555 ro");
    attempt.spec.keep_workspace = KeepWorkspace::OnFailure;
    attempt.run();
    assert!(!attempt.dir.workspace().exists());
}

#[test]
fn a_writer_killed_in_the_middle_leaves_a_miss_and_the_next_one_saves() {
    let making = "mkdir target; head -c 100000000 /dev/urandom > target/big";
    let mut killed = Attempt::script(making);
    let store = killed.file("store");
    let cache = |save_to: &std::path::Path| CacheSpec {
        name: "deps".into(),
        key: "key".into(),
        restore: vec![CacheCandidate {
            path: save_to.to_owned(),
            exact: true,
        }],
        paths: vec!["target".into()],
        save_to: Some(save_to.to_owned()),
    };
    let file = store.join("key.tar.zst");
    killed.spec.caches = vec![cache(&file)];
    let mut supervisor = killed.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    let being_written = || {
        let entry = fs::read_dir(&store).ok()?.next()?.ok()?;
        (entry.metadata().ok()?.len() > 0).then(|| entry.path())
    };
    let left = loop {
        if let Some(left) = being_written() {
            break left;
        }
        assert!(killed.dir.read_record().unwrap().is_none(), "it was too fast");
        std::thread::yield_now();
    };
    supervisor.signal(rustix::process::Signal::KILL);
    supervisor.wait();
    assert!(left.exists() && !file.exists(), "half a cache has another name");

    let mut next = Attempt::script("test ! -e target; mkdir target; echo whole > target/small");
    next.spec.caches = vec![cache(&file)];
    let record = next.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert!(record.caches[0].saved_bytes.is_some());
    let mut last = Attempt::script("test \"$(cat target/small)\" = whole; test ! -e target/big");
    last.spec.caches = vec![cache(&file)];
    let record = last.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded, "{}", last.log());
    assert_eq!(record.caches[0].restored_exact, Some(true));
}

#[test]
fn a_large_value_of_another_action_is_a_file_and_is_checked() {
    let mut maker =
        Attempt::script("{ printf 'big='; head -c 100000 /dev/zero | tr '\\0' y; } > $PIPE_OUTPUT");
    maker.spec.keep_workspace = KeepWorkspace::Always;
    let record = maker.run();
    let made = &record.large_outputs["big"];
    assert_eq!((made.bytes, record.outputs.len()), (100_000, 0));

    let value = ValueSpec {
        file: maker.dir.outputs().join("big"),
        place: "build/big".into(),
        sha256: made.sha256.clone(),
    };
    let mut user = Attempt::script("test \"$BIG\" = \"$PIPE_OUTPUTS_DIR/build/big\"; wc -c < \"$BIG\"");
    user.spec.values = vec![value.clone()];
    user.spec.env_files = [("BIG".to_owned(), value.place.clone())].into();
    assert_eq!(user.run().outcome, RecordOutcome::Succeeded, "{}", user.log());
    assert!(user.log().ends_with("100000\n"), "{}", user.log());
    assert!(!user.dir.values().exists(), "it goes with the workspace");

    for wrong in [
        ValueSpec {
            sha256: "00".repeat(32),
            ..value.clone()
        },
        ValueSpec {
            place: "../../escape".into(),
            ..value
        },
    ] {
        let mut deceived = Attempt::script("echo ran >> @/side").localized();
        deceived.spec.values = vec![wrong];
        assert!(matches!(deceived.run().outcome, RecordOutcome::Errored { .. }));
        assert!(!deceived.file("side").exists());
    }
}
