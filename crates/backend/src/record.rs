//! Turns what a supervisor left into the attempt's record, with its artifacts and summary in place.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use pipekeeper_agent::protocol::{
    ArtifactRecord, AttemptDir, ExitRecord, LargeOutput, RecordOutcome, StepRecord, is_output_key,
};
use pipekeeper_model::{
    ArtifactResult, AttemptId, AttemptOutcome, AttemptRecord, Bytes, Digest, OutputValue, StepResult,
    TestCounts, Timestamp,
};

use crate::{artifacts, junit};

const SUMMARY_LIMIT: u64 = 64 << 10;

/// Collects an ended attempt; may be repeated. What cannot be kept makes it errored.
pub(crate) fn collect(
    artifacts: &Path,
    attempt: AttemptId,
    dir: &AttemptDir,
    record: ExitRecord,
) -> AttemptRecord {
    let (mut outcome, mut reason) = to_outcome(&record);
    let mut kept = Vec::new();
    for artifact in &record.artifacts {
        match keep(artifacts, attempt, dir, artifact) {
            Ok(result) => kept.push(result),
            Err(error) => {
                outcome = AttemptOutcome::Errored;
                reason = Some(format!("keep artifact `{}`: {error}", artifact.name));
            }
        }
    }
    let mut outputs: BTreeMap<String, OutputValue> = BTreeMap::new();
    for (key, large) in &record.large_outputs {
        match keep_output(artifacts, attempt, dir, key, large) {
            Ok(value) => drop(outputs.insert(key.clone(), value)),
            Err(error) => {
                outcome = AttemptOutcome::Errored;
                reason = Some(format!("keep output `{key}`: {error}"));
            }
        }
    }
    outputs.extend((record.outputs.into_iter()).map(|(key, value)| (key, value.into())));
    let tests = (!record.reports.is_empty())
        .then(|| read_reports(artifacts, attempt, dir, &record.reports))
        .flatten();
    let ended_at = to_timestamp(record.ended_ms);
    AttemptRecord {
        outcome,
        reason,
        steps: record.steps.into_iter().map(to_step).collect(),
        outputs,
        artifacts: kept,
        log_bytes: record.log_bytes,
        log_truncated: record.log_truncated,
        summary: record.summary.then(|| read_summary(&dir.summary())).flatten(),
        tests,
        started_at: record.started_ms.map_or(ended_at, to_timestamp),
        ended_at,
    }
}

fn to_outcome(record: &ExitRecord) -> (AttemptOutcome, Option<String>) {
    match &record.outcome {
        RecordOutcome::Succeeded => (AttemptOutcome::Succeeded, None),
        RecordOutcome::Failed {
            code,
            signal,
            reason,
            step: _,
        } => {
            let reason = match (reason, code, signal) {
                (Some(reason), _, _) => reason.clone(),
                (None, Some(code), _) => format!("exit code {code}"),
                (None, None, Some(signal)) => format!("signal {signal}"),
                (None, None, None) => "no exit code".to_owned(),
            };
            (AttemptOutcome::Failed, Some(reason))
        }
        RecordOutcome::TimedOut { step } => {
            let step = step.and_then(|step| record.steps.get(step));
            let during = step.map_or(String::new(), |step| format!(" during `{}`", step.name));
            (
                AttemptOutcome::TimedOut,
                Some(format!("its time was over{during}")),
            )
        }
        RecordOutcome::Cancelled => (AttemptOutcome::Cancelled, Some("it was stopped".to_owned())),
        RecordOutcome::Errored { reason } => (AttemptOutcome::Errored, Some(reason.clone())),
        RecordOutcome::Refused => (AttemptOutcome::Lost, Some("it was refused its ticket".to_owned())),
    }
}

fn keep(
    artifacts: &Path,
    attempt: AttemptId,
    dir: &AttemptDir,
    artifact: &ArtifactRecord,
) -> io::Result<ArtifactResult> {
    let name = artifact.name.parse().map_err(io::Error::other)?;
    let digest: Digest = format!("sha256:{}", artifact.sha256)
        .parse()
        .map_err(io::Error::other)?;
    let bytes = artifacts::keep(artifacts, attempt, &dir.artifact(&artifact.name), &digest)?;
    Ok(ArtifactResult {
        name,
        digest,
        bytes,
        files: artifact.files,
    })
}

fn keep_output(
    artifacts: &Path,
    attempt: AttemptId,
    dir: &AttemptDir,
    key: &str,
    large: &LargeOutput,
) -> io::Result<OutputValue> {
    if !is_output_key(key) {
        return Err(io::Error::other("this is no name of an output"));
    }
    let digest: Digest = format!("sha256:{}", large.sha256)
        .parse()
        .map_err(io::Error::other)?;
    let bytes = artifacts::keep_file(artifacts, attempt, &dir.outputs().join(key), &digest)?;
    Ok(OutputValue::File {
        digest,
        bytes: Bytes(bytes),
    })
}

fn to_step(step: StepRecord) -> StepResult {
    StepResult {
        name: step.name,
        code: step.code,
        signal: step.signal,
        line: step.last_line,
        log_start: step.log_start,
        log_end: step.log_end,
        started_at: to_timestamp(step.started_ms),
        ended_at: to_timestamp(step.ended_ms),
    }
}

fn to_timestamp(ms: u64) -> Timestamp {
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Reports are decoration too: what cannot be kept of them changes nothing.
fn read_reports(
    artifacts: &Path,
    attempt: AttemptId,
    dir: &AttemptDir,
    reports: &[String],
) -> Option<TestCounts> {
    let found = junit::collect(&dir.reports(), reports);
    let kept = serde_json::to_vec(&found.details)
        .map_err(io::Error::other)
        .and_then(|details| artifacts::keep_bytes(artifacts, attempt, &details));
    match kept {
        Ok(details) => Some(TestCounts {
            passed: found.passed,
            failed: found.failed,
            skipped: found.skipped,
            details,
        }),
        Err(error) => {
            tracing::warn!(attempt.id = %attempt, "cannot keep what its test reports say: {error}");
            None
        }
    }
}

/// The summary is decoration: one that cannot be read changes nothing.
fn read_summary(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path)
        .ok()?
        .take(SUMMARY_LIMIT)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests;
