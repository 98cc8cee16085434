//! One step: starting its process, waiting for it, leaving nothing of it behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::{Shell, Supervisor, now_ms, turn::SILENCE};
use crate::archive::clean;
use crate::ending::{Ending, LEFTOVER_GRACE};
use crate::outputs;
use crate::pod::StepEnd;
use crate::process::Children;
use crate::protocol::{FromAgent, MAX_OUTPUT_BYTES, RecordOutcome, Script, StepRecord, StepSpec};
use crate::script;
use crate::spawn::{DEFAULT_PATH, Program, SpawnError, refresh};

/// What a step may know of its host: where programs are, and how text and time are read.
const INHERITED: &[&str] = &["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];
/// Reads that empty the pipe for certain, unless somebody still fills it.
pub(super) const DRAIN_READS: usize = 32;

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
        let end = if self.crew.is_some() {
            self.run_hosted(index, step)
        } else {
            self.run_here(index, step)
        };
        let StepEnd { code, signal, reason } = end;
        if let Some(reason) = &reason {
            self.log.note(&format!("step `{}`: {reason}", step.name));
        }
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
            outputs => Err(failed(code, signal, reason.or(outputs.err()))),
        }
    }

    /// Runs a step as a process of our own.
    fn run_here(&mut self, index: usize, step: &StepSpec) -> StepEnd {
        match self.spawn(index, step) {
            Ok(pid) => {
                let (code, signal) = self.wait_for(pid, step.timeout_ms);
                StepEnd {
                    code,
                    signal,
                    reason: None,
                }
            }
            Err(error) => error.into(),
        }
    }

    /// Notes which step runs from now on, and until when it may.
    pub(super) fn watch_over(&mut self, pid: Option<Pid>, limit_ms: Option<u64>) {
        let now = Instant::now();
        let deadline = limit_ms.and_then(|limit| now.checked_add(Duration::from_millis(limit)));
        self.shell = Some(Shell {
            pid,
            status: None,
            deadline,
        });
        self.clock.heard_at = now;
        self.clock.silent_at = now + SILENCE;
    }

    fn wait_for(&mut self, pid: Pid, limit_ms: Option<u64>) -> (Option<i32>, Option<i32>) {
        self.watch_over(Some(pid), limit_ms);
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
        let mut ending = Ending::default();
        loop {
            let kill_at = self.stop.map_or(leftover, |stop| stop.kill_at);
            let leader = self.shell.as_ref().and_then(|shell| shell.pid);
            let again = ending.press(kill_at, leader);
            match again {
                Some(again) if self.reap() == Children::Some => {
                    self.turn(None, Some(again));
                }
                Some(_) | None => return,
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
        let read = (&file)
            .take(MAX_OUTPUT_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(unreadable)?;
        if u64::try_from(read).is_ok_and(|read| read > MAX_OUTPUT_BYTES) {
            return Err(outputs::OutputError::TooLarge.to_string());
        }
        file.set_len(0).map_err(unreadable)?;
        // What is refused in part is refused whole: nothing of it is told before secrets in it are hidden.
        let mut outputs = self.outputs.clone();
        outputs::parse(&content, &mut outputs).map_err(|error| error.to_string())?;
        for (key, value) in &mut outputs {
            if self.log.masked(key) != *key {
                return Err("the name of an output holds a secret".to_owned());
            }
            *value = self.log.masked(value);
        }
        self.outputs = outputs;
        Ok(())
    }

    /// The variables that the pipeline file gives a step, with the paths of values that are files; the innermost last.
    pub(super) fn given(&self, step: &StepSpec, values: &Path) -> impl Iterator<Item = (String, String)> {
        let texts = |env: &BTreeMap<String, String>| env.clone().into_iter();
        let files = |env: &BTreeMap<String, String>| {
            let path = |place: &String| values.join(place).to_string_lossy().into_owned();
            let paths: Vec<_> = env
                .iter()
                .map(|(name, place)| (name.clone(), path(place)))
                .collect();
            paths.into_iter()
        };
        let folder = (!self.spec.values.is_empty()).then(|| {
            let folder = values.to_string_lossy().into_owned();
            ("PIPE_OUTPUTS_DIR".to_owned(), folder)
        });
        texts(&self.spec.env)
            .chain(files(&self.spec.env_files))
            .chain(texts(&step.env))
            .chain(files(&step.env_files))
            .chain(folder)
    }

    fn spawn(&self, index: usize, step: &StepSpec) -> Result<Pid, SpawnError> {
        let folder = self.working_dir(step)?;
        let (name, arguments) = self.command_line(index, step)?;
        let program = Program {
            name: &name,
            arguments: &arguments,
            env: &self.environment(step),
            folder: &folder,
        };
        refresh(self.output.writer());
        program.spawn(self.output.writer())
    }

    fn command_line(&self, index: usize, step: &StepSpec) -> Result<(String, Vec<OsString>), SpawnError> {
        match &step.script {
            Script::Shell { shell, .. } => {
                let file = self.write_script(index, step)?;
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

    /// The file of a shell step.
    pub(super) fn write_script(&self, index: usize, step: &StepSpec) -> Result<PathBuf, SpawnError> {
        let file = self.dir.steps().join(format!("{}.sh", index + 1));
        if let Script::Shell { shell, text, line } = &step.script {
            fs::write(&file, script::file_text(*shell, text, *line)).map_err(SpawnError::Script)?;
        }
        Ok(file)
    }

    pub(super) fn working_dir(&self, step: &StepSpec) -> Result<PathBuf, SpawnError> {
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
        env.extend(
            self.given(step, &self.dir.values())
                .map(|(name, value)| (name.into(), value.into())),
        );
        let (home, workspace) = (self.dir.home(), self.dir.workspace());
        let secrets = self.secrets.iter();
        let secrets = secrets.flat_map(|secret| secret.variables(&home, &workspace));
        env.extend(secrets.map(|(name, value)| (name.into(), value.into())));
        env.insert("PIPE_WORKSPACE".into(), self.dir.workspace().into());
        env.insert("PIPE_OUTPUT".into(), self.dir.output().into());
        env.insert("PIPE_SUMMARY".into(), self.dir.summary().into());
        env
    }
}
