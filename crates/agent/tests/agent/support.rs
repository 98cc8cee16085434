//! An attempt's folder, its supervisor and a controller.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pipekeeper_agent::protocol::{
    AttemptDir, AttemptSpec, ExitRecord, FromAgent, RecordOutcome, Script, SecretValue, Shell, StepSpec,
    StoreAccess, ToAgent, read_frame, write_frame,
};
use tempfile::TempDir;

/// Longer than anything here takes; a test that reaches it fails.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Attempt {
    pub(crate) folder: TempDir,
    pub(crate) dir: AttemptDir,
    pub(crate) spec: AttemptSpec,
}

impl Attempt {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = AttemptDir::new(folder.path().join("attempt"));
        fs::create_dir(dir.path()).unwrap();
        let mut spec = AttemptSpec::new("r1-n1-a1", "nonce", dir.path().join("log"));
        spec.grace_ms = 200;
        Self { folder, dir, spec }
    }

    /// One `sh` step.
    pub(crate) fn script(text: &str) -> Self {
        Self::new().with(step(text))
    }

    pub(crate) fn with(mut self, step: StepSpec) -> Self {
        self.spec.steps.push(step);
        self
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text with `@` as this test's own folder.
    pub(crate) fn localized(mut self) -> Self {
        let here = self.folder.path().display().to_string();
        for step in &mut self.spec.steps {
            if let Script::Shell { text, .. } = &mut step.script {
                *text = text.replace('@', &here);
            }
        }
        self
    }

    pub(crate) fn spawn(&self) -> Supervisor {
        self.dir.write_spec(&self.spec).unwrap();
        self.spawn_again("control")
    }

    pub(crate) fn spawn_again(&self, name: &str) -> Supervisor {
        let socket = self.file(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pipekeeper-agent"))
            .arg(self.dir.path())
            .env("EVIL", "1")
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.path().join("agent.err")).unwrap())
            .spawn()
            .unwrap();
        Supervisor { child, socket }
    }

    /// Runs to the end.
    pub(crate) fn run(&self) -> ExitRecord {
        self.run_with(Vec::new())
    }

    pub(crate) fn run_with(&self, secrets: Vec<SecretValue>) -> ExitRecord {
        let mut supervisor = self.spawn();
        let mut controller = supervisor.connect();
        controller.go(secrets);
        let record = controller.finished();
        assert_eq!(self.dir.read_record().unwrap().unwrap(), record);
        assert!(supervisor.wait().success());
        record
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8(fs::read(&self.spec.log).unwrap()).unwrap()
    }
}

pub(crate) fn step(text: &str) -> StepSpec {
    shell_step(Shell::Sh, text)
}

pub(crate) fn shell_step(shell: Shell, text: &str) -> StepSpec {
    let script = Script::Shell {
        shell,
        text: text.to_owned(),
        line: 1,
    };
    StepSpec {
        name: "step".into(),
        script,
        env: Default::default(),
        env_files: Default::default(),
        timeout_ms: None,
        working_dir: None,
        container: 0,
    }
}

pub(crate) fn command(argv: &[&str]) -> StepSpec {
    let argv = argv.iter().map(|&word| word.to_owned()).collect();
    StepSpec {
        script: Script::Command { argv },
        ..step("")
    }
}

pub(crate) struct Supervisor {
    child: Child,
    socket: PathBuf,
}

impl Supervisor {
    pub(crate) fn connect(&self) -> Controller {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut controller = Controller {
            stream,
            holder: String::new(),
        };
        match controller.next() {
            Some(FromAgent::CheckedIn {
                holder,
                attempt,
                nonce,
                ..
            }) => {
                assert_eq!((attempt.as_str(), nonce.as_str()), ("r1-n1-a1", "nonce"));
                controller.holder = holder;
            }
            other => panic!("expected a check-in, got {other:?}"),
        }
        controller
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(rustix::process::Signal::TERM);
            drop(self.child.wait());
        }
    }
}

pub(crate) struct Controller {
    pub(crate) stream: UnixStream,
    pub(crate) holder: String,
}

impl Controller {
    pub(crate) fn next(&mut self) -> Option<FromAgent> {
        read_frame(&mut self.stream).unwrap()
    }

    pub(crate) fn send(&mut self, message: &ToAgent) {
        write_frame(&mut self.stream, message).unwrap();
    }

    pub(crate) fn go(&mut self, secrets: Vec<SecretValue>) {
        let holder = self.holder.clone();
        self.send(&ToAgent::Go {
            holder,
            secrets,
            mask: Vec::new(),
            store: StoreAccess::default(),
        });
    }

    /// Reads on until a message is wanted.
    pub(crate) fn until(&mut self, wanted: impl Fn(&FromAgent) -> bool) -> FromAgent {
        loop {
            let message = self.next().expect("the stream goes on");
            if wanted(&message) {
                return message;
            }
        }
    }

    pub(crate) fn step_started(&mut self) {
        self.until(|message| matches!(message, FromAgent::StepStarted { .. }));
    }

    pub(crate) fn finished(&mut self) -> ExitRecord {
        let message = self.until(|message| matches!(message, FromAgent::Finished { .. }));
        let FromAgent::Finished { record } = message else {
            panic!("{message:?}")
        };
        *record
    }

    pub(crate) fn is_at_end(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// A place where a script waits: `read x < NAME` blocks until the gate is opened.
pub(crate) fn make_gate(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

pub(crate) fn open_gate(path: &Path) {
    fs::write(path, "go\n").unwrap();
}

/// Waits until a script writes a line into a gate.
pub(crate) fn wait_at(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

pub(crate) fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

pub(crate) fn failed(record: &ExitRecord) -> (usize, Option<i32>, Option<i32>, String) {
    let RecordOutcome::Failed {
        step,
        code,
        signal,
        reason,
    } = &record.outcome
    else {
        panic!("expected a failure, got {:?}", record.outcome);
    };
    (*step, *code, *signal, reason.clone().unwrap_or_default())
}
