//! One step: starting its process, waiting for it, leaving nothing of it behind.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{Shell, Supervisor, now_ms};
use crate::archive::clean;
use crate::outputs;
use crate::process::{Children, Tree};
use crate::protocol::{FromAgent, RecordOutcome, Script, StepRecord, StepSpec};
use crate::script;

/// What a step may know of its host: where programs are, and how text and time are read.
const INHERITED: &[&str] = &["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a step's own leftovers get between TERM and KILL.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long KILL may take to show.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often KILL is repeated, for a tree that forks meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(20);
/// How often the tree is looked through for processes that were forked since.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Reads that empty the pipe for certain, unless somebody still fills it.
const DRAIN_READS: usize = 32;

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
enum SpawnError {
    #[error("working directory `{path}` cannot be used: {reason}")]
    WorkingDir { path: String, reason: &'static str },
    #[error("there is no command")]
    Empty,
    #[error("command `{0}` not found")]
    NotFound(String),
    #[error("cannot write the script")]
    Script(#[source] io::Error),
    #[error("cannot start `{program}`")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
}

impl Supervisor {
    /// Runs one step to its end; the outcome of the attempt if it failed.
    pub(super) fn run_step(&mut self, index: usize, step: &StepSpec) -> Result<(), RecordOutcome> {
        let started_ms = now_ms();
        let log_start = self.log.len();
        self.log.take_last_line();
        self.steps.push(StepRecord {
            name: step.name.clone(),
            started_ms,
            ended_ms: 0,
            log_start,
            log_end: log_start,
            code: None,
            signal: None,
            last_line: None,
        });
        self.link.send(&FromAgent::StepStarted {
            index,
            at_ms: started_ms,
            log_start,
        });
        let failed = |code, signal, reason| RecordOutcome::Failed {
            step: index,
            code,
            signal,
            reason,
        };
        let pid = match self.spawn(index, step) {
            Ok(pid) => pid,
            Err(error) => {
                let reason = crate::error_text(&error);
                self.log.note(&format!("step `{}`: {reason}", step.name));
                let code = if matches!(error, SpawnError::NotFound(_)) {
                    127
                } else {
                    126
                };
                self.end_step(Some(code), None);
                return Err(failed(Some(code), None, Some(reason)));
            }
        };
        let (code, signal) = self.wait_for(pid, step.timeout_ms.map(Duration::from_millis));
        let outputs = self.take_outputs();
        if let Err(reason) = &outputs {
            self.log.note(&format!("step `{}`: {reason}", step.name));
        }
        self.end_step(code, signal);
        if self.stop.is_some() {
            // Which step a stop met is told from this.
            return Ok(());
        }
        self.shell = None;
        match outputs {
            Ok(()) if code == Some(0) => Ok(()),
            outputs => Err(failed(code, signal, outputs.err())),
        }
    }

    fn wait_for(&mut self, pid: Pid, limit: Option<Duration>) -> (Option<i32>, Option<i32>) {
        let now = Instant::now();
        let deadline = limit.and_then(|limit| now.checked_add(limit));
        self.shell = Some(Shell {
            pid,
            status: None,
            deadline,
        });
        self.clock.heard_at = now;
        self.clock.silent_at = now + Duration::from_secs(10);
        let mut children = self.reap();
        while self.stop.is_none() && self.shell.as_ref().is_some_and(|shell| shell.status.is_none()) {
            self.turn(None, None);
            children = self.reap();
        }
        if children == Children::Some {
            self.end_tree();
        }
        self.pump(DRAIN_READS);
        self.log.flush();
        let status = self.shell.as_ref().and_then(|shell| shell.status);
        (
            status.and_then(|status| status.exit_status()),
            status.and_then(|status| status.terminating_signal()),
        )
    }

    /// TERM to every descendant, and KILL to those that are still there after the grace.
    fn end_tree(&mut self) {
        let leftover = Instant::now() + LEFTOVER_GRACE;
        let mut told = BTreeSet::new();
        loop {
            let kill_at = self.stop.map_or(leftover, |stop| stop.kill_at);
            self.end_newcomers(&mut told);
            if self.reap() == Children::None {
                return;
            }
            if kill_at <= Instant::now() {
                break;
            }
            // A child that was forked while the tree was read was not told yet.
            self.turn(None, Some(kill_at.min(Instant::now() + LOOK_AGAIN)));
        }
        let patience = Instant::now() + KILL_PATIENCE;
        while self.reap() == Children::Some && Instant::now() < patience {
            self.signal_tree(Signal::KILL);
            self.turn(None, Some(Instant::now() + KILL_AGAIN));
        }
    }

    /// TERM to every descendant that did not have it yet, and to each only once.
    fn end_newcomers(&self, told: &mut BTreeSet<i32>) {
        match Tree::read() {
            Ok(mut tree) => {
                tree.pids.retain(|pid| told.insert(*pid));
                tree.signal(Signal::TERM);
                tree.signal(Signal::CONT);
            }
            Err(_) if told.insert(0) => self.signal_tree(Signal::TERM),
            Err(_) => {}
        }
    }

    fn signal_tree(&self, signal: Signal) {
        match Tree::read() {
            Ok(tree) => tree.signal(signal),
            Err(_) => {
                if let Some(shell) = &self.shell {
                    let _ = rustix::process::kill_process_group(shell.pid, signal);
                }
            }
        }
    }

    fn end_step(&mut self, code: Option<i32>, signal: Option<i32>) {
        let (log_end, last_line) = (self.log.len(), self.log.take_last_line());
        if let Some(record) = self.steps.last_mut() {
            record.ended_ms = now_ms();
            record.log_end = log_end;
            record.code = code;
            record.signal = signal;
            record.last_line = last_line;
        }
    }

    /// Reads what the step put out and empties the file for the next one.
    fn take_outputs(&mut self) -> Result<(), String> {
        use std::io::Read as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let unreadable = |error: io::Error| format!("the output file cannot be read: {error}");
        let path = self.dir.output();
        let file = match fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(());
        }
        let mut content = Vec::new();
        let limit = u64::try_from(outputs::MAX_BYTES).unwrap_or(u64::MAX);
        (&file)
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(unreadable)?;
        if content.len() > outputs::MAX_BYTES {
            return Err(outputs::OutputError::TooLarge.to_string());
        }
        file.set_len(0).map_err(unreadable)?;
        outputs::parse(&content, &mut self.outputs).map_err(|error| error.to_string())?;
        for value in self.outputs.values_mut() {
            *value = self.log.masked(value);
        }
        Ok(())
    }

    fn spawn(&self, index: usize, step: &StepSpec) -> Result<Pid, SpawnError> {
        let folder = self.working_dir(step)?;
        let env = self.environment(step);
        let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let (name, arguments) = self.command_line(index, step)?;
        let program = find(&name, &folder, &path).ok_or_else(|| SpawnError::NotFound(name.clone()))?;
        let spawned = self.output.write.try_clone().and_then(|out| {
            let error = self.output.write.try_clone()?;
            Command::new(&program)
                .arg0(&name)
                .args(arguments)
                .env_clear()
                .envs(env)
                .current_dir(folder)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(error)
                .spawn()
        });
        let child = spawned.map_err(|source| SpawnError::Spawn {
            program: name,
            source,
        })?;
        i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(SpawnError::Empty)
    }

    fn command_line(&self, index: usize, step: &StepSpec) -> Result<(String, Vec<OsString>), SpawnError> {
        match &step.script {
            Script::Shell { shell, text, line } => {
                let file = self.dir.steps().join(format!("{}.sh", index + 1));
                fs::write(&file, script::file_text(*shell, text, *line)).map_err(SpawnError::Script)?;
                let (program, options) = script::options(*shell);
                let arguments = options.iter().map(OsString::from).chain([file.into_os_string()]);
                Ok((program.to_owned(), arguments.collect()))
            }
            Script::Command { argv } => {
                let (program, arguments) = argv.split_first().ok_or(SpawnError::Empty)?;
                Ok((program.clone(), arguments.iter().map(OsString::from).collect()))
            }
        }
    }

    fn working_dir(&self, step: &StepSpec) -> Result<PathBuf, SpawnError> {
        let workspace = self.dir.workspace();
        let Some(below) = &step.working_dir else {
            return Ok(workspace);
        };
        let bad = |reason| SpawnError::WorkingDir {
            path: below.clone(),
            reason,
        };
        let folder = workspace.join(clean(Path::new(below)).map_err(bad)?);
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(bad("there is no such folder"))
        }
    }

    /// Everything a step finds in its environment; the innermost value wins.
    fn environment(&self, step: &StepSpec) -> BTreeMap<OsString, OsString> {
        let mut env = BTreeMap::from([(OsString::from("PATH"), OsString::from(DEFAULT_PATH))]);
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        env.extend(inherited);
        env.insert("HOME".into(), self.dir.home().into());
        env.insert("TMPDIR".into(), self.dir.tmp().into());
        let given = self.spec.env.iter().chain(&step.env);
        env.extend(given.map(|(name, value)| (name.into(), value.into())));
        let secrets = self.secrets.iter().filter_map(|secret| {
            Some((
                OsString::from(secret.env.as_ref()?),
                OsString::from(secret.value.reveal()),
            ))
        });
        env.extend(secrets);
        env.insert("PIPE_WORKSPACE".into(), self.dir.workspace().into());
        env.insert("PIPE_OUTPUT".into(), self.dir.output().into());
        env.insert("PIPE_SUMMARY".into(), self.dir.summary().into());
        env
    }
}

/// The file of a program, as a shell would find it. With a whole path the child is made without a full fork.
fn find(program: &str, folder: &Path, path: &OsStr) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(folder.join(program));
    }
    let is_program = |file: &PathBuf| {
        fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(|part| folder.join(part).join(program))
        .find(is_program)
}
