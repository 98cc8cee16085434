//! A pod's supervisor with its runners, as processes of this host that share a folder.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipekeeper_agent::protocol::{
    AttemptDir, AttemptSpec, ExitRecord, FromAgent, Incoming, PodSpec, RecordOutcome, SecretText, StepSpec,
    StoreAccess, ToAgent, ValueSpec, try_decode_incoming, write_frame,
};
use tempfile::TempDir;

use crate::support::step;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pod {
    program: PathBuf,
    root: TempDir,
    processes: Vec<Child>,
}

/// A controller that reads the log.
pub(crate) struct Reader {
    stream: UnixStream,
    buffer: Vec<u8>,
    log: Vec<u8>,
}

impl Pod {
    fn start(containers: usize) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_pipekeeper-agent")), containers)
    }

    /// A pod whose image has this program.
    pub(crate) fn start_program(program: &Path, containers: usize) -> Self {
        let mut pod = Self {
            program: program.to_owned(),
            root: tempfile::tempdir().unwrap(),
            processes: Vec::new(),
        };
        pod.spawn(&["supervise"]);
        for container in 0..containers {
            pod.spawn(&["step", &container.to_string()]);
        }
        pod
    }

    fn spawn(&mut self, arguments: &[&str]) {
        let child = Command::new(&self.program)
            .args(arguments)
            .env("PIPE_POD_ROOT", self.root.path())
            .env("PIPE_HOLDER", "pod-uid")
            .env("OF_THE_IMAGE", "kept")
            .env("KUBERNETES_SERVICE_HOST", "hidden")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push(child);
    }

    pub(crate) fn dir(&self) -> AttemptDir {
        AttemptDir::in_pod(self.root.path())
    }

    pub(crate) fn spec(&self, steps: Vec<StepSpec>) -> Box<AttemptSpec> {
        let dir = self.dir();
        let containers = steps.iter().map(|step| step.container + 1).max().unwrap_or(0);
        let pod = PodSpec {
            containers,
            workspace: dir.workspace(),
            home: dir.home(),
            out: dir.path().join("out"),
            tools: dir.tools().unwrap().to_owned(),
            secrets: None,
            stays: false,
            holds: false,
            temporary: vec![self.root.path().join("tmp")],
            mounts: Vec::new(),
        };
        Box::new(AttemptSpec {
            steps,
            pod: Some(pod),
            grace_ms: 200,
            ..AttemptSpec::new("r1-n1-a1", "nonce", dir.path().join("log"))
        })
    }

    /// A pod in the middle of its step, and who reads its log.
    fn amid_a_step() -> (Self, Reader) {
        let pod = Self::start(1);
        let mut reader = pod.connect();
        let marker = pod.root.path().join("marker");
        let text = format!("echo there\ntouch {}\nsleep 1000", marker.display());
        reader.begin(pod.spec(vec![in_container(0, &text)]));
        while !marker.exists() {
            std::thread::yield_now();
        }
        (pod, reader)
    }

    /// Waits until it ended without a record, its step with this code.
    fn ended(mut self, mut reader: Reader, code: i32) {
        let log = reader.rest();
        assert!(log.contains("there"), "{log}");
        assert!(log.ends_with("pipekeeper: the cluster ends the pod\n"), "{log}");
        assert!(self.processes.remove(0).wait().unwrap().success());
        assert_eq!(self.processes.remove(0).wait().unwrap().code(), Some(code));
        assert_eq!(self.dir().read_record().unwrap(), None);
    }

    pub(crate) fn connect(&self) -> Reader {
        Reader {
            stream: connect(&self.dir().socket()),
            buffer: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Runs the steps to their end.
    fn run(&self, steps: Vec<StepSpec>) -> (ExitRecord, String) {
        let mut reader = self.connect();
        reader.begin(self.spec(steps));
        let record = reader.finished();
        reader.tell(&ToAgent::Leave);
        (record, String::from_utf8(reader.log).unwrap())
    }

    fn wait(&mut self) {
        for mut child in self.processes.drain(..) {
            assert!(child.wait().unwrap().success());
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for child in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Reader {
    pub(crate) fn tell(&mut self, message: &ToAgent) {
        write_frame(&mut self.stream, message).unwrap();
    }

    fn next(&mut self) -> FromAgent {
        use std::io::Read as _;
        loop {
            match try_decode_incoming(&self.buffer).unwrap() {
                Some((Incoming::Message(message), used)) => {
                    self.buffer.drain(..used);
                    return message;
                }
                Some((Incoming::Log { offset, bytes }, used)) => {
                    self.buffer.drain(..used);
                    assert_eq!(offset, u64::try_from(self.log.len()).unwrap());
                    self.log.extend(bytes);
                }
                None => {
                    let mut chunk = [0; 4096];
                    let count = self.stream.read(&mut chunk).unwrap();
                    assert!(count > 0, "the supervisor hung up");
                    self.buffer.extend(&chunk[..count]);
                }
            }
        }
    }

    /// Gives it the attempt and the ticket.
    fn begin(&mut self, spec: Box<AttemptSpec>) {
        self.begin_with(spec, Vec::new(), StoreAccess::default());
    }

    /// The same, with what the log must not show and with caches in an object store.
    pub(crate) fn begin_with(&mut self, spec: Box<AttemptSpec>, mask: Vec<SecretText>, store: StoreAccess) {
        loop {
            let message = self.next();
            if let FromAgent::Ready { holder, .. } = &message {
                assert_eq!(holder, "pod-uid");
                self.tell(&ToAgent::Assign { spec: spec.clone() });
            }
            if let FromAgent::CheckedIn { holder, .. } = message {
                self.tell(&ToAgent::ReadLog { from: 0 });
                return self.tell(&ToAgent::Go {
                    holder,
                    secrets: Vec::new(),
                    mask,
                    store,
                });
            }
        }
    }

    /// The whole log, once the supervisor has hung up.
    fn rest(&mut self) -> String {
        use std::io::Read as _;
        self.stream.read_to_end(&mut self.buffer).unwrap();
        while let Some((incoming, used)) = try_decode_incoming(&self.buffer).unwrap() {
            self.buffer.drain(..used);
            if let Incoming::Log { bytes, .. } = incoming {
                self.log.extend(bytes);
            }
        }
        String::from_utf8(self.log.clone()).unwrap()
    }

    /// Asks it to stay as it is; whether it did, or left.
    fn holds(&mut self) -> bool {
        use std::io::Read as _;
        self.tell(&ToAgent::Hold);
        loop {
            match try_decode_incoming(&self.buffer).unwrap() {
                Some((Incoming::Message(FromAgent::Held), _)) => return true,
                Some((_, used)) => drop(self.buffer.drain(..used)),
                None => {
                    let mut chunk = [0; 4096];
                    match self.stream.read(&mut chunk).unwrap() {
                        0 => return false,
                        count => self.buffer.extend(&chunk[..count]),
                    }
                }
            }
        }
    }

    /// What came of the log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8(self.log.clone()).unwrap()
    }

    pub(crate) fn step_started(&mut self) {
        while !matches!(self.next(), FromAgent::StepStarted { .. }) {}
    }

    pub(crate) fn pong(&mut self) {
        while self.next() != FromAgent::Pong {}
    }

    pub(crate) fn finished(&mut self) -> ExitRecord {
        loop {
            if let FromAgent::Finished { record } = self.next() {
                return *record;
            }
        }
    }
}

fn connect(socket: &Path) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::yield_now();
    }
}

fn in_container(container: usize, text: &str) -> StepSpec {
    StepSpec {
        container,
        ..step(text)
    }
}

#[test]
fn steps_of_two_containers_share_a_workspace_and_one_log() {
    let mut pod = Pod::start(2);
    let (record, log) = pod.run(vec![
        in_container(0, "echo one > file\necho \"a=b\" >> \"$PIPE_OUTPUT\""),
        in_container(
            1,
            "cat file\necho $OF_THE_IMAGE ${KUBERNETES_SERVICE_HOST:-nothing}",
        ),
        in_container(0, "pwd\nbasename \"$HOME\""),
    ]);
    assert_eq!(record.outcome, RecordOutcome::Succeeded, "{log}");
    assert_eq!(record.holder, "pod-uid");
    assert_eq!(record.outputs.get("a").map(String::as_str), Some("b"));
    let said: Vec<&str> = log.lines().filter(|line| !line.starts_with('+')).collect();
    let workspace = pod.dir().workspace();
    assert_eq!(said, ["one", "kept nothing", workspace.to_str().unwrap(), "home"]);
    assert_eq!(u64::try_from(log.len()).unwrap(), record.log_bytes);
    pod.wait();
}

#[test]
fn a_failing_step_and_a_missing_program_tell_their_codes() {
    let (record, _) = Pod::start(1).run(vec![in_container(0, "exit 7")]);
    let RecordOutcome::Failed { step: at, code, .. } = record.outcome else {
        panic!("{:?}", record.outcome)
    };
    assert_eq!((at, code), (0, Some(7)));

    let missing = StepSpec {
        script: pipekeeper_agent::protocol::Script::Command {
            argv: vec!["no-such-program".into()],
        },
        ..step("")
    };
    let (record, log) = Pod::start(1).run(vec![missing]);
    assert!(matches!(
        record.outcome,
        RecordOutcome::Failed { code: Some(127), .. }
    ));
    assert!(log.contains("command `no-such-program` not found"), "{log}");
}

#[test]
fn a_stop_ends_everything_in_the_container() {
    let mut pod = Pod::start(1);
    let mut reader = pod.connect();
    let marker = pod.root.path().join("marker");
    let text = format!(
        "trap '' TERM\n(setsid sleep 1000 &)\ntouch {}\nsleep 1000",
        marker.display()
    );
    reader.begin(pod.spec(vec![in_container(0, &text)]));
    while !marker.exists() {
        std::thread::yield_now();
    }
    reader.tell(&ToAgent::Stop { grace_ms: 50 });
    let record = reader.finished();
    assert_eq!(record.outcome, RecordOutcome::Cancelled);
    reader.tell(&ToAgent::Leave);
    pod.wait();
}

#[test]
fn a_newer_controller_reads_on_and_an_ended_attempt_is_told_again() {
    let mut pod = Pod::start(1);
    let mut first = pod.connect();
    let (go, done) = (pod.root.path().join("go"), pod.root.path().join("done"));
    let text = format!(
        "echo before\ntouch {}\nwhile [ ! -e {} ]; do sleep 0.01; done\necho after",
        done.display(),
        go.display()
    );
    first.begin(pod.spec(vec![in_container(0, &text)]));
    while !done.exists() {
        std::thread::yield_now();
    }
    drop(first);
    let mut second = pod.connect();
    assert!(matches!(second.next(), FromAgent::CheckedIn { .. }));
    second.tell(&ToAgent::ReadLog { from: 0 });
    std::fs::write(&go, "").unwrap();
    let record = second.finished();
    let log = String::from_utf8(second.log.clone()).unwrap();
    assert!(log.contains("before") && log.contains("after"), "{log}");
    drop(second);
    let mut third = pod.connect();
    assert_eq!(third.finished(), record);
    third.tell(&ToAgent::Leave);
    pod.wait();
}

#[test]
fn without_its_supervisor_a_step_does_not_go_on() {
    let mut pod = Pod::start(1);
    let mut reader = pod.connect();
    let pid_file: PathBuf = pod.root.path().join("pid");
    let text = format!(
        "echo $$ > {0}.new\nmv {0}.new {0}\nsleep 1000",
        pid_file.display()
    );
    reader.begin(pod.spec(vec![in_container(0, &text)]));
    while !pid_file.exists() {
        std::thread::yield_now();
    }
    let mut supervisor = pod.processes.remove(0);
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let mut runner = pod.processes.remove(0);
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn the_processes_of_a_step_are_told() {
    let pod = Pod::start(1);
    let mut reader = pod.connect();
    reader.begin(pod.spec(vec![in_container(0, "sleep 1001")]));
    while !matches!(reader.next(), FromAgent::StepStarted { .. }) {}
    loop {
        reader.tell(&ToAgent::Look);
        let text = loop {
            if let FromAgent::Processes { text } = reader.next() {
                break text;
            }
        };
        if text.contains("sleep 1001") {
            break;
        }
    }
}

/// Nobody asked: after ten seconds without output it is told by itself.
#[test]
fn slow_the_silence_of_a_step_is_told_with_its_processes() {
    let pod = Pod::start(1);
    let mut reader = pod.connect();
    reader.begin(pod.spec(vec![in_container(0, "echo a word; sleep 1002; true")]));
    let (seconds, processes) = loop {
        if let FromAgent::Silent {
            seconds, processes, ..
        } = reader.next()
        {
            break (seconds, processes);
        }
    };
    assert_eq!((seconds, processes), (10, 2), "the shell and what it waits for");
    let FromAgent::Processes { text } = reader.next() else {
        panic!("silence without its processes")
    };
    assert!(text.contains("sleep 1002"), "{text}");
    reader.tell(&ToAgent::Stop { grace_ms: 0 });
    reader.finished();
}

/// The cluster ends one container after the other: that is no failure of the step, and no record of it.
#[test]
fn a_pod_that_is_told_to_end_leaves_no_record() {
    let (pod, reader) = Pod::amid_a_step();
    for process in pod.processes.iter().rev() {
        let id = process.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
    }
    pod.ended(reader, 143);
}

/// Some kubelets end it much later.
#[test]
fn a_pod_whose_end_its_controller_tells_leaves_no_record() {
    let (pod, mut reader) = Pod::amid_a_step();
    reader.tell(&ToAgent::PodEnds);
    reader.tell(&ToAgent::PodEnds);
    pod.ended(reader, 143);
}

/// A controller that was away still fetches what there is.
#[test]
fn a_record_that_is_there_outlives_the_word_that_its_pod_ends() {
    let mut pod = Pod::start(1);
    let mut first = pod.connect();
    first.begin(pod.spec(vec![in_container(0, "echo all of it")]));
    let record = first.finished();
    drop(first);
    let mut second = pod.connect();
    assert!(matches!(second.next(), FromAgent::CheckedIn { .. }));
    second.tell(&ToAgent::PodEnds);
    second.tell(&ToAgent::ReadLog { from: 0 });
    assert_eq!(second.finished(), record);
    // It is told once more behind the log.
    assert_eq!(second.finished(), record);
    let log = String::from_utf8(second.log.clone()).unwrap();
    assert!(log.contains("all of it"), "{log}");
    second.tell(&ToAgent::Leave);
    pod.wait();
}

/// Only the container's own end is a failure, even if the rest of the pod goes on.
#[test]
fn a_step_that_ends_its_own_container_fails() {
    let (record, _) = Pod::start(1).run(vec![in_container(0, "kill $PPID\nsleep 1000")]);
    let RecordOutcome::Failed { step: at, signal, .. } = record.outcome else {
        panic!("{:?}", record.outcome)
    };
    assert_eq!((at, signal), (0, Some(15)));
}

/// What a pod serves next finds nothing of what it served before.
#[test]
fn a_pod_serves_one_attempt_after_the_other() {
    let mut pod = Pod::start(2);
    let tmp = pod.root.path().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    let mut reader = pod.connect();
    let stays = |attempt: &str, text: &str, pod: &Pod| {
        let mut spec = pod.spec(vec![in_container(0, text), in_container(1, text)]);
        spec.attempt = attempt.to_owned();
        let own = spec.pod.as_mut().unwrap();
        own.stays = true;
        spec
    };
    let leave = format!(
        "echo first\nmkdir -p ~/.m2/repository \"$PIPE_WORKSPACE/deep\" {0}/x\necho x | tee file ~/own \
         ~/.m2/repository/jar {0}/x/y > \"$PIPE_WORKSPACE/deep/file\"\necho \"a=b\" >> \"$PIPE_OUTPUT\"\necho s > \
         \"$PIPE_SUMMARY\"",
        tmp.display()
    );
    reader.begin(stays("r1-n1-a1", &leave, &pod));
    let first = reader.finished();
    assert_eq!(first.outcome, RecordOutcome::Succeeded);
    assert!(first.summary && first.outputs.contains_key("a"));
    reader.tell(&ToAgent::Recycle);
    reader.log.clear();

    // No pipe: the traces of two commands at once would mix in the log.
    let look = format!("echo second\nfind . ~ {}", tmp.display());
    reader.begin(stays("r1-n2-a1", &look, &pod));
    let second = reader.finished();
    let log = String::from_utf8(reader.log.clone()).unwrap();
    assert_eq!(
        (&second.outcome, second.attempt.as_str()),
        (&RecordOutcome::Succeeded, "r1-n2-a1")
    );
    assert!(second.outputs.is_empty() && !second.summary, "{second:?}");
    assert!(!log.contains("first"), "{log}");
    let found: Vec<&str> = log
        .lines()
        .filter(|line| line.contains('/') && !line.starts_with('+'))
        .collect();
    let home = pod.dir().home().display().to_string();
    let expected = [home.clone(), tmp.display().to_string()];
    assert_eq!(found, [&expected[..], &expected[..]].concat(), "{log}");
    reader.tell(&ToAgent::Leave);
    pod.wait();
}

/// A pod that cannot be emptied, or whose attempt did not succeed, serves nobody else.
#[test]
fn a_pod_that_is_not_as_before_leaves() {
    for (text, moves) in [("exit 3", false), ("mv ~/.m2 ~/.m3", true)] {
        let mut pod = Pod::start(1);
        let mounted = pod.dir().home().join(".m2/repository");
        std::fs::create_dir_all(&mounted).unwrap();
        let mut spec = pod.spec(vec![in_container(0, text)]);
        let own = spec.pod.as_mut().unwrap();
        own.stays = true;
        own.mounts.extend(moves.then_some(mounted));
        let mut reader = pod.connect();
        reader.begin(spec);
        reader.finished();
        reader.tell(&ToAgent::Recycle);
        reader.rest();
        pod.wait();
    }
}

/// The folder and the variables of the process that holds in a pod; none if there is none.
fn holding(pod: &Pod) -> Option<(PathBuf, String)> {
    let program = pod.dir().tools().unwrap().join("agent");
    let words = format!("{}\0hold\0", program.display());
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut folders = processes.map(|entry| entry.unwrap().path());
    let holds = |folder: &PathBuf| {
        std::fs::read(folder.join("cmdline")).is_ok_and(|found| found.starts_with(words.as_bytes()))
    };
    let process = folders.find(holds)?;
    let variables = std::fs::read(process.join("environ")).unwrap();
    let folder = std::fs::read_link(process.join("cwd")).unwrap();
    Some((folder, String::from_utf8(variables).unwrap().replace('\0', "\n")))
}

#[test]
fn a_failed_step_is_held_with_its_folder_and_its_variables() {
    for (text, timeout_ms) in [("exit 3", None), ("sleep 1000", Some(300))] {
        let mut pod = Pod::start(2);
        let step = StepSpec {
            working_dir: Some("deep".into()),
            env: [("OWN".to_owned(), "a value".to_owned())].into(),
            timeout_ms,
            ..in_container(1, &format!("echo left > file\n{text}"))
        };
        let mut spec = pod.spec(vec![in_container(0, "mkdir deep"), step]);
        spec.pod.as_mut().unwrap().holds = true;
        let mut reader = pod.connect();
        reader.begin(spec);
        let record = reader.finished();
        assert!(
            matches!(
                record.outcome,
                RecordOutcome::Failed { step: 1, .. } | RecordOutcome::TimedOut { step: Some(1) }
            ),
            "{:?}",
            record.outcome
        );
        assert!(reader.holds());
        let begun = Instant::now();
        let (folder, variables) = loop {
            if let Some(found) = holding(&pod) {
                break found;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing holds");
        };
        assert_eq!(folder, pod.dir().workspace().join("deep"));
        assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "left\n");
        let home = format!("HOME={}", pod.dir().home().display());
        for variable in ["OWN=a value", "OF_THE_IMAGE=kept", home.as_str()] {
            assert!(variables.lines().any(|line| line == variable), "{variables}");
        }
        // Another server goes on with it.
        drop(reader);
        let mut other = pod.connect();
        assert_eq!(other.finished(), record);
        assert!(holding(&pod).is_some());
        other.tell(&ToAgent::Leave);
        pod.wait();
        assert_eq!(holding(&pod), None);
    }
}

#[test]
fn what_may_not_be_held_leaves() {
    let secret = || vec![SecretText::new("hunter22")];
    for (text, mask, may_be_held) in [
        ("true", Vec::new(), true),
        ("exit 3", Vec::new(), false),
        ("exit 3", secret(), true),
        // Nothing of its container is left.
        ("kill $PPID\nsleep 1000", Vec::new(), true),
    ] {
        let pod = Pod::start(1);
        let mut spec = pod.spec(vec![in_container(0, text)]);
        spec.pod.as_mut().unwrap().holds = may_be_held;
        let mut reader = pod.connect();
        reader.begin_with(spec, mask, StoreAccess::default());
        reader.finished();
        assert!(!reader.holds(), "{text}");
    }
}

#[test]
fn a_large_value_stands_among_the_tools_and_its_own_can_be_fetched() {
    let mut pod = Pod::start(1);
    let incoming = pod.dir().incoming();
    std::fs::create_dir_all(&incoming).unwrap();
    std::fs::write(incoming.join("value"), "abc").unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let mut spec = pod.spec(vec![in_container(
        0,
        "echo \"$(cat \"$BIG\")\"\ntest \"$BIG\" = \"$PIPE_OUTPUTS_DIR/build/big\"\n\
         { printf 'own='; head -c 100000 /dev/zero | tr '\\0' x; } > \"$PIPE_OUTPUT\"",
    )]);
    spec.values = vec![ValueSpec {
        file: incoming.join("value"),
        place: "build/big".into(),
        sha256: abc.into(),
    }];
    spec.env_files = [("BIG".to_owned(), "build/big".to_owned())].into();
    let mut reader = pod.connect();
    reader.begin(spec);
    let record = reader.finished();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert!(String::from_utf8_lossy(&reader.log).contains("\nabc\n"));
    assert!(pod.dir().tools().unwrap().join("values/build/big").exists());
    assert_eq!(record.large_outputs["own"].bytes, 100_000);
    assert_eq!(
        std::fs::metadata(pod.dir().outputs().join("own")).unwrap().len(),
        100_000
    );
    reader.tell(&ToAgent::Leave);
    pod.wait();
}
