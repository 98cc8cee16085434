//! From an attempt that succeeded to the next one of the same pod.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Equipment, Supervisor};
use crate::pod::empty::empty;
use crate::pod::message::ToRunner;
use crate::protocol::PodSpec;
use crate::workspace;

/// How long emptying may take before a new pod is the quicker way.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the log may take to be read by others.
const FAREWELL: Duration = Duration::from_secs(1);
/// What the attempt's folder keeps: what is ours, and the volumes, which are emptied or not each in its own way.
const KEPT: [&str; 6] = ["sock", "lock", "workspace", "home", "out", "volumes"];

impl Supervisor {
    /// Empties what the attempt left, and gives back what serves the next; none if anything is in the way.
    pub(super) fn recycle(mut self) -> Option<Equipment> {
        let emptied = self.empty();
        self.log.finish_copy(FAREWELL);
        let mut crew = self.crew?;
        if let Err(error) = emptied {
            use std::io::Write as _;
            drop(writeln!(
                io::stderr(),
                "pipekeeper: this pod serves no further attempt: {error}"
            ));
            crew.dismiss(0);
            return None;
        }
        crew.begin_anew();
        self.link.forget_log();
        Some(Equipment {
            dir: self.dir,
            lock: self.lock,
            holder: self.holder,
            link: self.link,
            crew,
            output: self.output,
            signals: self.signals,
        })
    }

    fn empty(&mut self) -> io::Result<()> {
        let pod = self.spec.pod.clone().ok_or(ErrorKind::Unsupported)?;
        self.empty_containers(&pod)?;
        let kept = self.mounts(&pod);
        let out = self.dir.output().parent().map(Path::to_owned);
        let folders = [self.dir.workspace(), self.dir.home(), self.dir.steps()];
        for folder in folders.into_iter().chain(out) {
            empty(&folder, &kept)?;
        }
        if self.dir.values().exists() {
            workspace::remove(&self.dir.values())?;
        }
        for entry in fs::read_dir(self.dir.path())? {
            let entry = entry?;
            if KEPT.iter().any(|kept| entry.file_name() == OsStr::new(kept)) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                workspace::remove(&entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Nothing runs in the containers: each runner ended all of it before it told the end of its step.
    fn empty_containers(&mut self, pod: &PodSpec) -> io::Result<()> {
        let Some(crew) = self.crew.as_mut() else {
            return Err(ErrorKind::Unsupported.into());
        };
        let containers = crew.containers();
        for container in &containers {
            let clean = ToRunner::Clean {
                folders: pod.temporary.clone(),
                mounts: pod.mounts.clone(),
            };
            crew.tell(*container, &clean);
        }
        let until = Instant::now() + PATIENCE;
        for container in containers {
            self.await_cleaned(container, until)?;
        }
        Ok(())
    }

    fn await_cleaned(&mut self, container: usize, until: Instant) -> io::Result<()> {
        loop {
            let Some(crew) = self.crew.as_mut() else {
                return Err(ErrorKind::Unsupported.into());
            };
            if let Some(cleaned) = crew.take_cleaned(container) {
                return cleaned.map_err(io::Error::other);
            }
            if Instant::now() >= until || self.stop.is_some() {
                return Err(ErrorKind::TimedOut.into());
            }
            let wake = crew.wake(container);
            self.turn(wake.as_ref().map(AsFd::as_fd), Some(until));
        }
    }

    /// Where volumes are mounted in the containers, in this one's own view.
    fn mounts(&self, pod: &PodSpec) -> Vec<PathBuf> {
        let views = [
            (&pod.workspace, self.dir.workspace()),
            (&pod.home, self.dir.home()),
        ];
        let own = |mount: &PathBuf| {
            let mut views = views.iter();
            views.find_map(|(seen, own)| Some(own.join(mount.strip_prefix(seen).ok()?)))
        };
        pod.mounts.iter().filter_map(own).collect()
    }
}
