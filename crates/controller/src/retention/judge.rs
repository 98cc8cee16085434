//! What may go of ended runs. Pure: estates come one by one, the newest run first, for whoever adopts is newer than what it
//! adopts.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{Bytes, Digest, GitRef, Millis, Name, Outcome, RunId, Timestamp};
use pipekeeper_store::{Gone, GoneWhy, Left, Loss, Part, StoredEstate};

use super::{GRACE, Retention};

/// What becomes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays, but for what it loses now.
    Stays(Vec<Loss>),
    /// All of it goes.
    Goes,
}

/// Judges one estate after the other.
pub(crate) struct Judge {
    now: Timestamp,
    /// The runs that somebody keeps.
    kept: BTreeSet<RunId>,
    /// The pipelines and refs whose newest ended run was seen.
    newest: BTreeSet<Line>,
    /// Those whose last success was.
    succeeded: BTreeSet<Line>,
    rows_wanted: BTreeSet<RunId>,
    logs_wanted: BTreeSet<RunId>,
    artifacts_wanted: BTreeSet<RunId>,
    used: BTreeMap<Name, Used>,
}

/// The runs of one pipeline on one ref.
type Line = (Name, Name, Option<GitRef>);

/// What the newer runs of a project take.
#[derive(Default)]
struct Used {
    logs: u64,
    artifacts: u64,
    counted: BTreeSet<Digest>,
}

impl Judge {
    pub(crate) fn new(now: Timestamp, kept: BTreeSet<RunId>) -> Self {
        Self {
            now,
            kept,
            newest: BTreeSet::new(),
            succeeded: BTreeSet::new(),
            rows_wanted: BTreeSet::new(),
            logs_wanted: BTreeSet::new(),
            artifacts_wanted: BTreeSet::new(),
            used: BTreeMap::new(),
        }
    }

    /// Notes what a run wants of others that has not ended: all of it.
    pub(crate) fn lives(&mut self, left: &Left) {
        self.rows_wanted.extend(&left.adopts);
        self.logs_wanted.extend(&left.adopts);
        self.artifacts_wanted.extend(&left.adopts);
    }

    /// What becomes of the next older run.
    pub(crate) fn judge(&mut self, estate: &StoredEstate, terms: &Retention) -> Verdict {
        let is_exempt = self.is_exempt(estate);
        let ended = estate.run.finished_at.unwrap_or(estate.run.created_at);
        let age = self.now.since(ended);
        let id = estate.run.id;
        let is_old = age > terms.runs && !is_exempt && !self.rows_wanted.contains(&id);
        if is_old && self.is_past(estate.logs_gone) && self.is_past(estate.artifacts_gone) {
            return Verdict::Goes;
        }
        let mut losses = Vec::new();
        let overdrawn = self.count(estate, terms);
        let parts = [
            (Part::Logs, estate.logs_gone, terms.logs, terms.log_bytes),
            (
                Part::Artifacts,
                estate.artifacts_gone,
                terms.artifacts,
                terms.artifact_bytes,
            ),
        ];
        for (part, gone, after, most) in parts {
            let is_kept = is_exempt || self.is_wanted(part, id);
            let why = why(
                (age, after.min(terms.runs)),
                overdrawn.contains(&part).then_some(most),
            );
            match (gone, why) {
                (Some(_), _) => {}
                (None, Some(why)) if !is_kept => losses.push(Loss {
                    run: id,
                    part,
                    gone: Gone { at: self.now, why },
                }),
                (None, Some(_) | None) => self.want(part, &estate.left),
            }
        }
        self.rows_wanted.extend(&estate.left.adopts);
        Verdict::Stays(losses)
    }

    /// Whether somebody keeps it, or others read it whatever its age: `changed()` and `pipe retry` the last of their ref, everybody what was
    /// promoted.
    fn is_exempt(&mut self, estate: &StoredEstate) -> bool {
        let run = &estate.run;
        let line = (run.project.clone(), run.pipeline.clone(), run.git_ref.clone());
        let is_last_success = run.outcome == Some(Outcome::Succeeded) && self.succeeded.insert(line.clone());
        let is_newest = self.newest.insert(line);
        is_newest || is_last_success || estate.left.promoted || self.kept.contains(&run.id)
    }

    /// Whether a part went so long ago that nobody can be about to use it.
    fn is_past(&self, gone: Option<Gone>) -> bool {
        gone.is_some_and(|gone| self.now.since(gone.at) >= GRACE)
    }

    /// Counts what the run has, and says of which parts there is more than there may be.
    fn count(&mut self, estate: &StoredEstate, terms: &Retention) -> Vec<Part> {
        let used = self.used.entry(estate.run.project.clone()).or_default();
        if estate.logs_gone.is_none() {
            used.logs = used.logs.saturating_add(estate.left.log_bytes);
        }
        if estate.artifacts_gone.is_none() {
            for file in &estate.left.files {
                if used.counted.insert(file.digest.clone()) {
                    used.artifacts = used.artifacts.saturating_add(file.bytes);
                }
            }
        }
        let parts = [
            (Part::Logs, used.logs > terms.log_bytes.0),
            (Part::Artifacts, used.artifacts > terms.artifact_bytes.0),
        ];
        let overdrawn = parts.into_iter().filter(|(_, is_overdrawn)| *is_overdrawn);
        overdrawn.map(|(part, _)| part).collect()
    }

    fn is_wanted(&self, part: Part, run: RunId) -> bool {
        match part {
            Part::Logs => self.logs_wanted.contains(&run),
            Part::Artifacts => self.artifacts_wanted.contains(&run),
        }
    }

    fn want(&mut self, part: Part, left: &Left) {
        match part {
            Part::Logs => self.logs_wanted.extend(&left.adopts),
            Part::Artifacts => self.artifacts_wanted.extend(&left.adopts),
        }
    }
}

fn why((age, after): (Millis, Millis), overdrawn: Option<Bytes>) -> Option<GoneWhy> {
    if age > after {
        return Some(GoneWhy::Age { after });
    }
    overdrawn.map(|most| GoneWhy::Room { most })
}
