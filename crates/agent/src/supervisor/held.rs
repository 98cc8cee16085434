//! From the record of an attempt whose step failed to the end of its pod, which is held for people.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Farewell, Supervisor};
use crate::pod::message::ToRunner;
use crate::protocol::FromAgent;

/// How long nobody need come: whoever holds the pod has a stream to it.
const ALONE: Duration = Duration::from_secs(60);
/// For how many seconds the process is there that the shells of people take folder and variables over from.
const SECONDS: u64 = 24 * 3600;

impl Supervisor {
    /// Stays as the failing step of this index left everything, until it is sent away, nobody is there any more, or the
    /// step's container ends.
    pub(super) fn hold(&mut self, index: usize) {
        let Some((container, order)) = self.holding(index) else {
            return;
        };
        self.shell = None;
        let Some(crew) = self.crew.as_mut() else { return };
        if crew.was_ended(container) || !crew.tell(container, &order) {
            return;
        }
        self.link.send(&FromAgent::Held);
        while self.farewell == Farewell::Hold {
            let Some(crew) = self.crew.as_mut() else { return };
            if crew.take_end(container).is_some() {
                return;
            }
            let wake = crew.wake(container);
            let until = self.link.alone_since().map(|since| since + ALONE);
            if until.is_some_and(|until| until <= Instant::now()) {
                return;
            }
            self.turn(wake.as_ref().map(AsFd::as_fd), until);
        }
    }

    /// The container of a step, and what is started there in the step's place: in its folder, if that is still there, with
    /// its variables.
    fn holding(&self, index: usize) -> Option<(usize, ToRunner)> {
        let (pod, step) = (self.spec.pod.as_ref()?, self.spec.steps.get(index)?);
        let own = self.working_dir(step).unwrap_or_else(|_| self.dir.workspace());
        let below = own.strip_prefix(self.dir.workspace()).unwrap_or(Path::new(""));
        let program = pod.tools.join("agent").to_string_lossy().into_owned();
        let order = ToRunner::Run {
            argv: vec![program, "hold".to_owned(), SECONDS.to_string()],
            env: self.hosted_environment(pod, step),
            folder: pod.workspace.join(below),
        };
        Some((step.container, order))
    }
}
