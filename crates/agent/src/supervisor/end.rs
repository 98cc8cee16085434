//! From the last step to the end of the process.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Begun, Panicked, Supervisor, now_ms};
use crate::finish::{self, After, Kept, Problem};
use crate::outputs;
use crate::process::reaped_cpu_ms;
use crate::protocol::{
    ArtifactRecord, ExitRecord, FromAgent, KeepWorkspace, LargeOutput, PROTOCOL_VERSION, RecordOutcome,
    Usage, encode,
};
use crate::workspace;

/// Bytes of a summary that are kept.
const MAX_SUMMARY: u64 = 64 << 10;
/// How long a controller may take to read the last message.
const PATIENCE: Duration = Duration::from_secs(1);

type Values = BTreeMap<String, String>;
type LargeValues = BTreeMap<String, LargeOutput>;

/// What the record tells besides the outcome.
#[derive(Default)]
pub(super) struct Results {
    pub(super) artifacts: Vec<ArtifactRecord>,
    pub(super) reports: Vec<String>,
}

impl Supervisor {
    /// Keeps reports, artifacts and caches; the outcome after that.
    pub(super) fn keep(&mut self, outcome: RecordOutcome) -> RecordOutcome {
        let after = match outcome {
            RecordOutcome::Succeeded => After::Success,
            RecordOutcome::Failed { .. } | RecordOutcome::TimedOut { .. } => After::Failure,
            RecordOutcome::Cancelled | RecordOutcome::Errored { .. } | RecordOutcome::Refused => {
                return outcome;
            }
        };
        if !finish::has_work(&self.spec, after) {
            return outcome;
        }
        self.interrupt.clear();
        self.shell = None;
        let (dir, spec, holder) = (self.dir.clone(), Arc::clone(&self.spec), self.holder.clone());
        let transfers = self.transfers();
        let mut caches = std::mem::take(&mut self.caches);
        let kept = self.beside(move |interrupt| {
            let kept = finish::keep(&dir, &spec, &holder, after, &mut caches, &transfers, interrupt);
            (kept, caches)
        });
        let Ok((kept, caches)) = kept.map_err(|Panicked| ()) else {
            return RecordOutcome::Errored {
                reason: "keeping the artifacts went wrong".to_owned(),
            };
        };
        self.caches = caches;
        self.judge(outcome, after, kept)
    }

    fn judge(&mut self, outcome: RecordOutcome, after: After, kept: Kept) -> RecordOutcome {
        for note in &kept.notes {
            self.log.note(note);
        }
        self.results = Results {
            artifacts: kept.artifacts,
            reports: (kept.reports.into_iter())
                .filter(|report| self.mask_file(&self.dir.reports().join(report)))
                .collect(),
        };
        if after == After::Failure {
            return outcome;
        }
        if let Some(stopped) = self.stopped() {
            return stopped;
        }
        match kept.problem {
            None => outcome,
            Some(Problem::Ours(reason)) => RecordOutcome::Errored { reason },
            Some(Problem::Theirs(reason)) => {
                let step = self.steps.len().saturating_sub(1);
                RecordOutcome::Failed {
                    step,
                    code: None,
                    signal: None,
                    reason: Some(reason),
                }
            }
        }
    }

    /// Puts the record on disk and tells it.
    pub(super) fn publish(&mut self, outcome: RecordOutcome) {
        self.log.flush();
        let (outcome, outputs, large_outputs) = self.settle_outputs(outcome);
        let outcome = self.hide_secrets(outcome);
        let mut record = ExitRecord {
            version: PROTOCOL_VERSION,
            attempt: self.spec.attempt.clone(),
            nonce: self.spec.nonce.clone(),
            holder: self.holder.clone(),
            outcome,
            steps: std::mem::take(&mut self.steps),
            outputs,
            large_outputs,
            artifacts: std::mem::take(&mut self.results.artifacts),
            caches: self.caches.iter().map(|cache| cache.record.clone()).collect(),
            reports: std::mem::take(&mut self.results.reports),
            log_bytes: self.log.len(),
            log_truncated: self.log.is_truncated(),
            summary: self.mask_summary(),
            started_ms: match self.begun {
                Begun::No => None,
                Begun::At { ms, .. } => Some(ms),
            },
            ended_ms: now_ms(),
            usage: Usage {
                cpu_ms: reaped_cpu_ms(),
            },
        };
        fit_a_frame(&mut record);
        // Without a record the attempt counts as lost, which is the truth on a disk that takes no byte.
        if self.dir.write_record(&record).is_err() {
            return;
        }
        drop(self.link.accept().map(|accepted| {
            if accepted {
                self.greet()
            }
        }));
        self.link.send(&FromAgent::LogGrew {
            bytes: record.log_bytes,
        });
        self.record = Some(Box::new(record));
        self.tell_record();
        if self.crew.is_none() {
            self.link.finish(PATIENCE);
        }
    }

    /// A reason may quote what a step wrote.
    fn hide_secrets(&self, mut outcome: RecordOutcome) -> RecordOutcome {
        let reason = match &mut outcome {
            RecordOutcome::Failed { reason, .. } => reason.as_mut(),
            RecordOutcome::Errored { reason } => Some(reason),
            RecordOutcome::Succeeded
            | RecordOutcome::TimedOut { .. }
            | RecordOutcome::Cancelled
            | RecordOutcome::Refused => None,
        };
        if let Some(reason) = reason {
            *reason = self.log.masked(reason);
        }
        outcome
    }

    /// Puts large values into files; where that does not work the attempt errors.
    fn settle_outputs(&mut self, outcome: RecordOutcome) -> (RecordOutcome, Values, LargeValues) {
        match outputs::split(std::mem::take(&mut self.outputs), &self.dir.outputs()) {
            Ok((small, large)) => (outcome, small, large),
            Err(error) => {
                let reason = format!("cannot keep its outputs: {error}");
                (
                    RecordOutcome::Errored { reason },
                    Values::new(),
                    LargeValues::new(),
                )
            }
        }
    }

    /// Whether there is a summary; it is cut to what is shown, and secrets in it are hidden.
    fn mask_summary(&self) -> bool {
        let path = self.dir.summary();
        let file = fs::symlink_metadata(&path).ok().filter(Metadata::is_file);
        let is_cut = match file.map_or(0, |metadata| metadata.len()) {
            0 => return false,
            1..=MAX_SUMMARY => Ok(()),
            _ => fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(MAX_SUMMARY)),
        };
        is_cut.is_ok() && self.mask_file(&path)
    }

    /// Hides secrets in a file that goes elsewhere; one that they cannot be hidden in does not.
    fn mask_file(&self, path: &Path) -> bool {
        if !self.log.hides_anything() {
            return true;
        }
        let masked = fs::read(path).and_then(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let masked = self.log.masked(&text);
            if masked == text {
                return Ok(());
            }
            fs::write(path, masked)
        });
        masked.is_ok()
    }

    /// Removes what nobody needs any more. Failing to is not worth an attempt; the backend sweeps.
    pub(super) fn clean_up(&self, succeeded: bool) {
        for path in self.secret_paths() {
            drop(fs::remove_file(path));
        }
        let keeps = match self.spec.keep_workspace {
            KeepWorkspace::Never => false,
            KeepWorkspace::OnFailure => !succeeded,
            KeepWorkspace::Always => true,
        };
        drop(workspace::remove(&self.dir.tmp()));
        if !keeps {
            for path in [
                self.dir.workspace(),
                self.dir.home(),
                self.dir.steps(),
                self.dir.values(),
            ] {
                drop(workspace::remove(&path));
            }
        }
    }
}

/// A record that no frame holds could never be told: then what the steps put out goes, and the reason is told.
fn fit_a_frame(record: &mut ExitRecord) {
    let told = FromAgent::Finished {
        record: Box::new(record.clone()),
    };
    if encode(&told).is_ok() {
        return;
    }
    record.outputs.clear();
    record.large_outputs.clear();
    record.reports.clear();
    record.outcome = RecordOutcome::Errored {
        reason: "its outputs and the names of its reports are too large to be told".to_owned(),
    };
}
