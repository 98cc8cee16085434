use std::fs;

use pipekeeper_agent::protocol::{LargeOutput, PROTOCOL_VERSION, Usage};
use pipekeeper_model::{NodeId, RunId};

use super::*;

const ATTEMPT: AttemptId = AttemptId {
    run: RunId(1),
    node: NodeId(2),
    number: 3,
};

fn record(outcome: RecordOutcome) -> ExitRecord {
    let step = StepRecord {
        name: "build".to_owned(),
        started_ms: 10,
        ended_ms: 20,
        log_start: 0,
        log_end: 5,
        code: Some(0),
        signal: None,
        last_line: Some(7),
    };
    ExitRecord {
        version: PROTOCOL_VERSION,
        attempt: ATTEMPT.to_string(),
        nonce: ATTEMPT.to_string(),
        holder: "h".to_owned(),
        outcome,
        steps: vec![step],
        outputs: [("key".to_owned(), "value".to_owned())].into(),
        large_outputs: Default::default(),
        artifacts: Vec::new(),
        caches: Vec::new(),
        reports: Vec::new(),
        log_bytes: 5,
        log_truncated: false,
        summary: true,
        started_ms: Some(9),
        ended_ms: 21,
        usage: Usage::default(),
    }
}

fn failed(code: Option<i32>, signal: Option<i32>, reason: Option<&str>) -> RecordOutcome {
    RecordOutcome::Failed {
        step: 0,
        code,
        signal,
        reason: reason.map(str::to_owned),
    }
}

#[test]
fn outcomes_and_reasons_stay_distinct() {
    let temp = tempfile::tempdir().unwrap();
    let folder = AttemptDir::new(temp.path().join(ATTEMPT.to_string()));
    let table = [
        (RecordOutcome::Succeeded, AttemptOutcome::Succeeded, None),
        (
            failed(Some(3), None, None),
            AttemptOutcome::Failed,
            Some("exit code 3"),
        ),
        (
            failed(None, Some(9), None),
            AttemptOutcome::Failed,
            Some("signal 9"),
        ),
        (
            failed(Some(0), None, Some("bad output")),
            AttemptOutcome::Failed,
            Some("bad output"),
        ),
        (
            RecordOutcome::TimedOut { step: Some(0) },
            AttemptOutcome::TimedOut,
            Some("its time was over during `build`"),
        ),
        (
            RecordOutcome::TimedOut { step: Some(9) },
            AttemptOutcome::TimedOut,
            Some("its time was over"),
        ),
        (
            RecordOutcome::Cancelled,
            AttemptOutcome::Cancelled,
            Some("it was stopped"),
        ),
        (
            RecordOutcome::Errored {
                reason: "no disk".into(),
            },
            AttemptOutcome::Errored,
            Some("no disk"),
        ),
    ];
    for (outcome, expected, reason) in table {
        let result = collect(temp.path(), ATTEMPT, &folder, record(outcome));
        assert_eq!((result.outcome, result.reason.as_deref()), (expected, reason));
    }
}

#[test]
fn everything_recorded_arrives_and_may_be_collected_twice() {
    let temp = tempfile::tempdir().unwrap();
    let folder = AttemptDir::new(temp.path().join(ATTEMPT.to_string()));
    fs::create_dir_all(folder.artifacts()).unwrap();
    fs::write(folder.artifact("web"), "bytes").unwrap();
    fs::write(folder.summary(), "x".repeat(100_000)).unwrap();
    let digest = Digest::of(b"bytes");
    let mut record = record(RecordOutcome::Succeeded);
    let artifact = ArtifactRecord {
        name: "web".to_owned(),
        sha256: digest.to_hex(),
        bytes: 99,
        files: 1,
    };
    record.artifacts.push(artifact);
    let first = collect(temp.path(), ATTEMPT, &folder, record.clone());
    assert_eq!(first.artifacts[0].digest, digest);
    assert_eq!(
        first.artifacts[0].bytes, 5,
        "what it has, not what its record says"
    );
    assert_eq!(first.summary.as_ref().unwrap().len(), 64 << 10);
    assert_eq!((first.started_at, first.ended_at), (Timestamp(9), Timestamp(21)));
    assert_eq!(
        (first.steps[0].line, first.outputs["key"].text().unwrap()),
        (Some(7), "value")
    );
    assert_eq!(
        fs::read(artifacts::artifact_path(temp.path(), &digest)).unwrap(),
        b"bytes"
    );
    assert_eq!(collect(temp.path(), ATTEMPT, &folder, record), first);
}

#[test]
fn a_lost_artifact_or_a_hostile_name_is_no_success() {
    let temp = tempfile::tempdir().unwrap();
    let folder = AttemptDir::new(temp.path().join(ATTEMPT.to_string()));
    for name in ["web", "../../etc/passwd"] {
        let mut record = record(RecordOutcome::Succeeded);
        let sha256 = Digest::of(b"").to_hex();
        record.artifacts.push(ArtifactRecord {
            name: name.to_owned(),
            sha256,
            bytes: 0,
            files: 0,
        });
        let result = collect(temp.path(), ATTEMPT, &folder, record);
        assert_eq!(result.outcome, AttemptOutcome::Errored, "{name}");
        assert!(result.reason.unwrap().contains(name));
        assert!(result.artifacts.is_empty());
    }
}

#[test]
fn large_outputs_are_kept_by_digest_and_bad_names_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = AttemptDir::new(temp.path().join("attempt"));
    std::fs::create_dir_all(dir.outputs()).unwrap();
    std::fs::write(dir.outputs().join("notes"), "text").unwrap();
    let digest = Digest::of(b"text");
    let large = LargeOutput {
        sha256: digest.to_hex(),
        bytes: 99,
    };
    let mut told = record(RecordOutcome::Succeeded);
    told.large_outputs = [("notes".to_owned(), large.clone())].into();
    for _ in 0..2 {
        let collected = collect(temp.path(), ATTEMPT, &dir, told.clone());
        let expected = OutputValue::File {
            digest: digest.clone(),
            bytes: Bytes(4),
        };
        assert_eq!(collected.outputs["notes"], expected);
        assert_eq!(collected.outputs["key"].text(), Some("value"));
    }
    let kept = crate::blob_path(temp.path(), &digest);
    assert_eq!(std::fs::read(kept).unwrap(), b"text");
    told.large_outputs = [("../notes".to_owned(), large)].into();
    let refused = collect(temp.path(), ATTEMPT, &dir, told);
    assert_eq!(refused.outcome, AttemptOutcome::Errored);
}
