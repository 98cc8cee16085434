//! The folder of one local run: logs and artifacts that stay for the newest runs, work that goes with the run.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use pipekeeper_backend::keep_apart;
use pipekeeper_controller::Layout;
use pipekeeper_engine::Run;
use pipekeeper_model::{AttemptId, Digest};
use serde_json::{Value, json};

use super::{caches, pods::Containers};
use crate::{
    clock,
    debug::Kept,
    failure::{Failure, OrFail},
    folders,
};

const KEPT_RUNS: usize = 20;
const RECORD: &str = "run.json";

/// The folder of one run, and the one that its attempts work in.
///
/// Build tools write absolute paths into what caches keep, so the attempts of one tree work in the same folder every time.
#[derive(Debug)]
pub(crate) struct Place {
    /// What tells this tree from others.
    tree: String,
    root: PathBuf,
    work: PathBuf,
    /// Held as long as this process lives: a second run of the same tree takes the next folder.
    _lock: fs::File,
}

impl Place {
    /// Makes a folder for a run of the tree at `root`, with that tree's caches linked in.
    pub(crate) fn make(root: &Path) -> Result<Self, Failure> {
        let name = format!("{:013}-{}", clock::now().0, std::process::id());
        let id = Digest::of(root.as_os_str().as_encoded_bytes()).to_short();
        let (work, lock) = take_work_folder(&folders::state()?.join("work").join(&id))?;
        let place = Self {
            tree: id.clone(),
            root: runs()?.join(name),
            work,
            _lock: lock,
        };
        folders::make(&place.root)?;
        keep_apart(&runs()?).or_usage("open the folder of runs")?;
        let caches = caches::folder_of(&id)?;
        folders::make(&caches)?;
        caches::note_tree(&caches, root)?;
        let link = place.layout().caches();
        symlink(&caches, &link).or_fail(format_args!("link `{}`", link.display()))?;
        Ok(place)
    }

    /// Where logs, artifacts and caches are.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.root)
    }

    /// What tells the tree from others.
    pub(crate) fn tree(&self) -> &str {
        &self.tree
    }

    /// Where attempts live.
    pub(crate) fn attempts(&self) -> PathBuf {
        self.work.clone()
    }

    /// Where what is known of attempts in pods lives.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Where the working tree's copy goes.
    pub(crate) fn source(&self) -> PathBuf {
        source_in(&self.root)
    }

    /// Writes down what `pipe debug` wants to know.
    pub(crate) fn record(&self, run: &Run) -> Result<(), Failure> {
        let Some(plan) = run.plan() else {
            return Ok(());
        };
        let actions: Vec<Value> = plan
            .ids()
            .zip(&plan.nodes)
            .filter_map(|(id, node)| {
                let number = attempts_of(run.node(id)?);
                let attempt = AttemptId {
                    run: run.id(),
                    node: id,
                    number,
                };
                (number > 0).then(|| json!({ "name": node.name, "attempt": attempt }))
            })
            .collect();
        let text = json!({ "pipeline": plan.pipeline, "actions": actions }).to_string();
        folders::write_private(&self.root.join(RECORD), &text)
    }

    /// Writes down what `pipe debug` wants to know of a run in containers.
    pub(crate) fn record_containers(&self, run: &Run, containers: &Containers) -> Result<(), Failure> {
        Kept::write(&self.root, run, containers)
    }

    /// Removes what only the run itself needed, and the oldest runs.
    fn tidy(&self) {
        // What cannot be removed now is removed with its run later. Containers that are made again want the tree again.
        if !Kept::is_in(&self.root) {
            let _ = fs::remove_dir_all(self.source());
        }
        let _ = fs::rename(self.work.join("kept"), self.root.join("kept"));
        let _ = fs::remove_dir_all(&self.work);
        let Ok(mut all) = kept_folders() else {
            return;
        };
        all.truncate(all.len().saturating_sub(KEPT_RUNS));
        for folder in all.iter().filter(|folder| !is_live(folder)) {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// The first folder below `base` that no other run of the tree works in.
fn take_work_folder(base: &Path) -> Result<(PathBuf, fs::File), Failure> {
    folders::make(base)?;
    keep_apart(base).or_usage("open the folder of work")?;
    for number in 0_u32.. {
        let path = base.join(number.to_string());
        let what = format!("lock `{}`", path.display());
        let lock = fs::File::create(path.with_extension("lock")).or_usage(&what)?;
        match lock.try_lock() {
            Ok(()) => {
                set_aside(&path);
                folders::make(&path)?;
                return Ok((path, lock));
            }
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error).or_usage(&what),
        }
    }
    Err(Failure::usage("too many runs of this tree at once"))
}

/// Moves away what a killed run left; attempts of it that still live stop themselves.
fn set_aside(path: &Path) {
    let stale = path.with_extension(format!("stale-{}", std::process::id()));
    if fs::rename(path, &stale).is_ok() {
        let _ = fs::remove_dir_all(stale);
    }
}

/// Keep it until the runtime is down: what still works there would make things anew.
impl Drop for Place {
    fn drop(&mut self) {
        self.tidy();
    }
}

/// One kept local run.
#[derive(Debug)]
pub(crate) struct KeptRun {
    /// Its folder.
    pub(crate) root: PathBuf,
    /// Its actions that ran, with their last attempts.
    pub(crate) actions: Vec<(String, AttemptId)>,
}

impl KeptRun {
    /// The tree that it ran on, where that was kept.
    pub(crate) fn source(&self) -> PathBuf {
        source_in(&self.root)
    }
}

fn source_in(root: &Path) -> PathBuf {
    root.join("source")
}

/// The runs whose workspaces were kept, oldest first.
pub(crate) fn kept_runs() -> Result<Vec<KeptRun>, Failure> {
    let folders = kept_folders()?;
    Ok(folders.into_iter().filter_map(read_record).collect())
}

fn read_record(root: PathBuf) -> Option<KeptRun> {
    let text = fs::read_to_string(root.join(RECORD)).ok()?;
    let record: Value = serde_json::from_str(&text).ok()?;
    let actions = record
        .get("actions")?
        .as_array()?
        .iter()
        .filter_map(|action| {
            let name = action.get("name")?.as_str()?.to_owned();
            Some((name, action.get("attempt")?.as_str()?.parse().ok()?))
        })
        .collect();
    Some(KeptRun { root, actions })
}

fn attempts_of(state: &pipekeeper_engine::NodeState) -> u32 {
    use pipekeeper_engine::NodeState;
    match state {
        NodeState::Done(ended) => ended.attempts,
        NodeState::Running(live) => live.attempt.number,
        NodeState::Ready { tries, .. } | NodeState::Backoff { tries, .. } => tries.made(),
        NodeState::Waiting
        | NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Deciding(_)
        | NodeState::Skipped { .. } => 0,
    }
}

fn runs() -> Result<PathBuf, Failure> {
    Ok(folders::state()?.join("runs"))
}

/// The folders of all runs, oldest first: their names begin with the time.
pub(crate) fn kept_folders() -> Result<Vec<PathBuf>, Failure> {
    let mut all: Vec<PathBuf> = fs::read_dir(runs()?)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    all.sort();
    Ok(all)
}

/// Whether the process that made a run's folder is still there.
fn is_live(folder: &Path) -> bool {
    folder
        .file_name()
        .and_then(|name| name.to_str()?.rsplit_once('-')?.1.parse::<u32>().ok())
        .is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}
