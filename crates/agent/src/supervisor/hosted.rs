//! One step in another container of the pod, and the wait after the last one.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Farewell, Stay, Supervisor, step::DRAIN_READS};
use crate::pod::StepEnd;
use crate::pod::message::ToRunner;
use crate::protocol::{Orphan, PodSpec, RecordOutcome, Script, StepSpec};
use crate::script;
use crate::spawn::SpawnError;

/// How long a runner may take to tell that it killed everything.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an ended attempt waits for a controller to fetch what there is.
const LINGER: Duration = Duration::from_secs(24 * 3600);
/// Between the signals that all containers of a pod get when it ends.
const OWN_END: Duration = Duration::from_secs(2);
/// How long the end of the log may take to be read by others.
const FAREWELL: Duration = Duration::from_secs(1);
/// What fetching may take at least.
const FETCH_TIME: Duration = Duration::from_secs(600);

impl Supervisor {
    /// Runs a step in its container.
    pub(super) fn run_hosted(&mut self, index: usize, step: &StepSpec) -> StepEnd {
        let order = match self.order(index, step) {
            Ok(order) => order,
            Err(error) => return error.into(),
        };
        let folders = self.shared_folders();
        let Some(crew) = self.crew.as_mut() else {
            return StepEnd::default();
        };
        if let Err(error) = crew.hand_over(step.container, &folders) {
            return StepEnd {
                reason: Some(format!("cannot hand the workspace to its user: {error}")),
                ..StepEnd::default()
            };
        }
        crew.tell(step.container, &order);
        self.watch_over(None, step.timeout_ms);
        let end = self.await_end(step.container);
        self.pump(DRAIN_READS);
        self.log.flush();
        end
    }

    /// Waits until the runner tells the end, and passes a stop on to it.
    fn await_end(&mut self, container: usize) -> StepEnd {
        let mut told = None;
        loop {
            let Some(crew) = self.crew.as_mut() else {
                return StepEnd::default();
            };
            if let Some(end) = crew.take_end(container) {
                if crew.was_ended(container) {
                    self.await_own_end();
                }
                return end;
            }
            if let Some(stop) = self.stop
                && told != Some(stop.kill_at)
            {
                told = Some(stop.kill_at);
                let grace = stop.kill_at.saturating_duration_since(Instant::now());
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                crew.tell(container, &ToRunner::Stop { grace_ms });
            }
            let wake = crew.wake(container);
            let given_up_at = told.map(|kill_at| kill_at + PATIENCE);
            if given_up_at.is_some_and(|at| at <= Instant::now()) {
                return StepEnd {
                    reason: Some("its container does not end it".to_owned()),
                    ..StepEnd::default()
                };
            }
            self.turn(wake.as_ref().map(AsFd::as_fd), given_up_at);
        }
    }

    /// Whatever ends the pod ends one container after the other: a step that ends with its own did not fail.
    fn await_own_end(&mut self) {
        let until = Instant::now() + OWN_END;
        while self.stop.is_none() && Instant::now() < until {
            self.turn(None, Some(until));
        }
    }

    /// Leaves without a record, because nobody here knows what ended the pod. What there is of the log goes first.
    pub(super) fn part(&mut self) {
        self.log.note("the cluster ends the pod");
        self.log.flush();
        let until = Instant::now() + FAREWELL;
        while !self.link.has_log(&self.log) && Instant::now() < until {
            self.turn(None, Some(until));
        }
        self.link.finish(FAREWELL);
        self.log.finish_copy(FAREWELL);
    }

    fn order(&self, index: usize, step: &StepSpec) -> Result<ToRunner, SpawnError> {
        let pod = self.spec.pod.as_ref().ok_or(SpawnError::Empty)?;
        let own = self.working_dir(step)?;
        let below = own.strip_prefix(self.dir.workspace()).unwrap_or(&own);
        let argv = match &step.script {
            Script::Shell { shell, .. } => {
                let file = self.write_script(index, step)?;
                let name = file.file_name().unwrap_or_default();
                let seen = pod.tools.join("steps").join(name);
                let (program, options) = script::options(*shell);
                let options = options.iter().map(|&option| option.to_owned());
                let file = seen.to_string_lossy().into_owned();
                [program.to_owned()]
                    .into_iter()
                    .chain(options)
                    .chain([file])
                    .collect()
            }
            Script::Command { argv } => argv.clone(),
        };
        Ok(ToRunner::Run {
            argv,
            env: self.hosted_environment(pod, step),
            folder: pod.workspace.join(below),
        })
    }

    /// What the step finds over what its container has; the innermost value wins.
    pub(super) fn hosted_environment(&self, pod: &PodSpec, step: &StepSpec) -> BTreeMap<String, String> {
        let shown = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut env = BTreeMap::from([("HOME".to_owned(), shown(pod.home.clone()))]);
        env.extend(self.given(step, &pod.tools.join("values")));
        let secrets = self.secrets.iter();
        env.extend(secrets.flat_map(|secret| secret.variables(&pod.home, &pod.workspace)));
        env.insert("PIPE_WORKSPACE".to_owned(), shown(pod.workspace.clone()));
        env.insert("PIPE_OUTPUT".to_owned(), shown(pod.out.join("output")));
        env.insert("PIPE_SUMMARY".to_owned(), shown(pod.out.join("summary.md")));
        env
    }

    /// The folders that belong to whoever's step runs.
    fn shared_folders(&self) -> Vec<PathBuf> {
        let out = self.dir.output().parent().map(PathBuf::from);
        let has_secrets = self.spec.pod.as_ref().is_some_and(|pod| pod.secrets.is_some());
        [self.dir.workspace(), self.dir.home()]
            .into_iter()
            .chain(out)
            .chain(has_secrets.then(|| self.dir.secrets()))
            .collect()
    }

    /// Sends the runners away, unless the pod may stay for somebody, and waits until a controller has fetched what there
    /// is; what it asks for then.
    pub(super) fn linger(&mut self) -> Farewell {
        for path in self.secret_paths().collect::<Vec<_>>() {
            // The volumes go with the pod.
            drop(std::fs::remove_file(path));
        }
        let stay = self.stay();
        if stay == Stay::Nobody {
            self.dismiss();
        }
        // Nobody will come for what was started from a laptop that is closed now.
        let linger = match self.spec.orphan {
            Orphan::StopAfter { ms } => LINGER.min(Duration::from_millis(ms) + FETCH_TIME),
            Orphan::WorkOn => LINGER,
        };
        let until = Instant::now() + linger;
        while self.farewell == Farewell::Awaited && Instant::now() < until {
            self.turn(None, Some(until));
        }
        match (stay, self.farewell) {
            (Stay::Another, Farewell::Recycle) => return Farewell::Recycle,
            (Stay::Person(step), Farewell::Hold) => self.hold(step),
            (Stay::Nobody | Stay::Another | Stay::Person(_), _) => {}
        }
        self.dismiss();
        self.log.finish_copy(FAREWELL);
        Farewell::Leave
    }

    /// Whom the pod may stay for.
    fn stay(&self) -> Stay {
        let (Some(pod), Some(record)) = (&self.spec.pod, &self.record) else {
            return Stay::Nobody;
        };
        match record.outcome {
            RecordOutcome::Succeeded if pod.stays => Stay::Another,
            // What the log hides may still be in the containers.
            RecordOutcome::Failed { step, .. } | RecordOutcome::TimedOut { step: Some(step) }
                if pod.holds && !self.log.hides_anything() =>
            {
                Stay::Person(step)
            }
            RecordOutcome::Succeeded
            | RecordOutcome::Failed { .. }
            | RecordOutcome::TimedOut { .. }
            | RecordOutcome::Cancelled
            | RecordOutcome::Errored { .. }
            | RecordOutcome::Refused => Stay::Nobody,
        }
    }

    fn dismiss(&mut self) {
        if let Some(crew) = self.crew.as_mut() {
            crew.dismiss(0);
        }
    }
}
