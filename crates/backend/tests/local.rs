//! What the local backend promises beyond the contract, with real processes.

#![cfg(test)]

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use common::LocalWorld;
use pipekeeper_backend::{
    KeepWorkspace, Launch, LaunchError, SecretValue, Ticket, What, artifact_path,
    suite::{Act, Session, World, attempt, launch_of},
};
use pipekeeper_model::{
    AttemptOutcome, Digest, Millis,
    plan::{Artifact, SecretTarget},
};

fn launch(world: &LocalWorld, text: &str) -> Launch {
    launch_of(attempt(1), text, &world.folder().join("r57-n1-a1.log"))
}

fn folder(world: &LocalWorld) -> PathBuf {
    world.root.join("attempts").join(attempt(1).to_string())
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Waits until the process at the other end opened the pipe for reading.
async fn open_fifo(path: PathBuf) -> File {
    tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(path).unwrap())
        .await
        .unwrap()
}

/// The pids of supervisors, by the lock that they hold.
fn supervisors_below(folder: &Path) -> Vec<String> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let below =
        |pid: &String| fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|file| file.starts_with(folder));
    pids.filter(below).collect()
}

fn supervisor_of(world: &LocalWorld) -> String {
    supervisors_below(&folder(world)).remove(0)
}

fn kill(pids: &[String]) {
    assert!(
        Command::new("kill")
            .arg("-9")
            .args(pids)
            .status()
            .unwrap()
            .success()
    );
}

async fn run(world: &LocalWorld, launch: Launch) -> (Session, pipekeeper_model::AttemptRecord) {
    let mut session = Session::open(world);
    let id = launch.attempt;
    session.backend.launch(launch).await.unwrap();
    let holder = session.checked_in(id).await;
    session.go(id, &holder).await;
    let record = session.finished(id).await;
    (session, record)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_the_log_is_lost_over_a_restart() {
    let world = LocalWorld::new();
    let fifo = world.folder().join("fifo");
    make_fifo(&fifo);
    let text = format!("seq 1 20000\nread line < {}\nseq 20001 40000", fifo.display());
    let mut first = Session::open(&world);
    first.backend.launch(launch(&world, &text)).await.unwrap();
    first.run(attempt(1)).await;
    drop(first);
    let mut pipe = open_fifo(fifo).await;
    let mut second = Session::open(&world);
    second.backend.observe(attempt(1)).await.unwrap();
    second.checked_in(attempt(1)).await;
    writeln!(pipe, "go").unwrap();
    let record = second.finished(attempt(1)).await;
    let log = fs::read_to_string(world.folder().join("r57-n1-a1.log")).unwrap();
    assert_eq!(record.log_bytes, log.len() as u64);
    let numbers: Vec<u32> = log.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers, (1..=40_000).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_without_a_server_is_found_finished() {
    let world = LocalWorld::new();
    let (fifo, done) = (world.folder().join("fifo"), world.folder().join("done"));
    make_fifo(&fifo);
    make_fifo(&done);
    let text = format!(
        "read line < {}\nexec 9> {}\nexit 4",
        fifo.display(),
        done.display()
    );
    let mut first = Session::open(&world);
    first.backend.launch(launch(&world, &text)).await.unwrap();
    first.run(attempt(1)).await;
    drop(first);
    writeln!(open_fifo(fifo).await, "go").unwrap();
    // The step's end of this pipe closes when it has ended.
    tokio::task::spawn_blocking(move || fs::read(done).unwrap())
        .await
        .unwrap();
    let mut second = Session::open(&world);
    second.backend.observe(attempt(1)).await.unwrap();
    assert_eq!(
        second.finished(attempt(1)).await.reason.as_deref(),
        Some("exit code 4")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_is_gone_with_its_processes_and_never_runs_again() {
    let world = LocalWorld::new();
    let fifo = world.folder().join("fifo");
    make_fifo(&fifo);
    // A grandchild in a session of its own holds the pipe open until it is dead.
    let text = format!(
        "echo x >> $STARTS\nsetsid sh -c 'exec sleep 1000 9< {}' &\nwait",
        fifo.display()
    );
    let mut session = Session::open(&world);
    session.backend.launch(launch(&world, &text)).await.unwrap();
    session.run(attempt(1)).await;
    let mut pipe = open_fifo(fifo).await;
    kill(&[supervisor_of(&world)]);
    assert!(session.gone(attempt(1)).await.starts_with("its supervisor died"));
    assert_eq!(
        writeln!(pipe, "x").unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
    session.backend.launch(launch(&world, &text)).await.unwrap();
    session.gone(attempt(1)).await;
    drop(session);
    let mut next = Session::open(&world);
    next.backend.launch(launch(&world, &text)).await.unwrap();
    next.gone(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_dies_before_its_ticket_may_be_launched_again() {
    let world = LocalWorld::new();
    let mut session = Session::open(&world);
    session.launch(&world, attempt(1), Act::Succeed).await;
    let first = session.checked_in(attempt(1)).await;
    kill(&[supervisor_of(&world)]);
    session.gone(attempt(1)).await;
    session.launch(&world, attempt(1), Act::Succeed).await;
    let second = session.checked_in(attempt(1)).await;
    assert_ne!(first, second);
    session.go(attempt(1), &first).await;
    session.go(attempt(1), &second).await;
    assert_eq!(
        session.finished(attempt(1)).await.outcome,
        AttemptOutcome::Succeeded
    );
    assert_eq!(world.starts(attempt(1)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_cut_short_anywhere_is_done_by_the_next() {
    type Cut = fn(&Path);
    let cuts: [Cut; 4] = [
        |_| {},
        |folder| File::create(folder.join("alive")).map(drop).unwrap(),
        |folder| fs::write(folder.join("spec.json"), "half a").unwrap(),
        |folder| {
            fs::write(folder.join("spec.json"), "{}").unwrap();
            drop(std::os::unix::net::UnixListener::bind(folder.join("sock")).unwrap());
        },
    ];
    for cut in cuts {
        let world = LocalWorld::new();
        fs::create_dir_all(folder(&world)).unwrap();
        cut(&folder(&world));
        let mut session = Session::open(&world);
        session.launch(&world, attempt(1), Act::Succeed).await;
        let holder = session.checked_in(attempt(1)).await;
        session.go(attempt(1), &holder).await;
        assert_eq!(
            session.finished(attempt(1)).await.outcome,
            AttemptOutcome::Succeeded
        );
        assert_eq!(world.starts(attempt(1)), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_polite_signals_end_with_the_final_one() {
    let world = LocalWorld::new();
    let fifo = world.folder().join("fifo");
    make_fifo(&fifo);
    let text = format!(
        "trap '' TERM\nexec 9< {}\nwhile :; do sleep 1000; done",
        fifo.display()
    );
    let mut session = Session::open(&world);
    session.backend.launch(launch(&world, &text)).await.unwrap();
    session.run(attempt(1)).await;
    let mut pipe = open_fifo(fifo).await;
    session.backend.stop(attempt(1), Millis(50)).await.unwrap();
    assert_eq!(
        session.finished(attempt(1)).await.outcome,
        AttemptOutcome::Cancelled
    );
    assert!(writeln!(pipe, "x").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_and_outputs_travel_by_digest() {
    let world = LocalWorld::new();
    let text = "mkdir out; echo one > out/a; chmod +x out/a\necho key=value >> \"$PIPE_OUTPUT\"\necho '# Hi' > \"$PIPE_SUMMARY\"";
    let mut digests = Vec::new();
    for node in [1, 2] {
        let mut launch = launch_of(attempt(node), text, &world.folder().join(format!("{node}.log")));
        let artifact = Artifact {
            paths: vec!["out/**".to_owned()],
            always: false,
        };
        launch.artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
        let (session, record) = run(&world, launch).await;
        assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
        assert_eq!(
            (record.outputs["key"].text().unwrap(), record.summary.as_deref()),
            ("value", Some("# Hi\n"))
        );
        digests.push(record.artifacts[0].digest.clone());
        session.backend.forget(attempt(node)).await.unwrap();
    }
    assert_eq!(digests[0], digests[1]);
    let archive = artifact_path(&world.artifacts(), &digests[0]);
    assert_eq!(Digest::of(&fs::read(&archive).unwrap()), digests[0]);

    let mut user = launch_of(
        attempt(3),
        "test -x in/out/a && cat in/out/a",
        &world.folder().join("3.log"),
    );
    user.inputs = vec![pipekeeper_backend::InputArtifact {
        digest: digests[0].clone(),
        into: "in".to_owned(),
    }];
    let (session, record) = run(&world, user.clone()).await;
    assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
    drop(session);

    fs::set_permissions(&archive, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&archive, "bad").unwrap();
    let (_session, record) = run(
        &world,
        Launch {
            attempt: attempt(4),
            ..user
        },
    )
    .await;
    assert_eq!(record.outcome, AttemptOutcome::Errored);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_step_and_nothing_else() {
    let world = LocalWorld::new();
    let text = "test \"$TOKEN\" = hunter2-\"\"hunter2\ntest \"$(cat ~/token)\" = file-secret\necho $TOKEN";
    let mut session = Session::open(&world);
    session.backend.launch(launch(&world, text)).await.unwrap();
    let holder = session.checked_in(attempt(1)).await;
    let secret = |target, value: &str| SecretValue {
        pointer: None,
        target: Some(target),
        value: value.to_owned(),
    };
    let secrets = vec![
        secret(SecretTarget::Env("TOKEN".to_owned()), "hunter2-hunter2"),
        secret(SecretTarget::File("~/token".to_owned()), "file-secret"),
    ];
    session
        .backend
        .answer(attempt(1), &holder, Ticket::Go { secrets })
        .await
        .unwrap();
    let record = session.finished(attempt(1)).await;
    assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
    let found = Command::new("grep")
        .args(["-r", "hunter2-hunter2"])
        .arg(world.folder())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_are_kept_as_asked_and_read_only_ones_go() {
    for (keep, code, kept) in [
        (KeepWorkspace::Never, 1, false),
        (KeepWorkspace::OnFailure, 0, false),
        (KeepWorkspace::OnFailure, 1, true),
        (KeepWorkspace::Always, 0, true),
    ] {
        let world = LocalWorld::new();
        let text = format!("mkdir -p a/b; echo x > a/b/file; chmod -R a-w a; exit {code}");
        let (session, _) = run(
            &world,
            Launch {
                keep_workspace: keep,
                ..launch(&world, &text)
            },
        )
        .await;
        session.backend.forget(attempt(1)).await.unwrap();
        assert!(!folder(&world).exists());
        let file = world.root.join("kept/r57-n1-a1/workspace/a/b/file");
        assert_eq!(file.exists(), kept, "{keep:?} {code}");
        assert!(world.folder().join("r57-n1-a1.log").exists());
        assert_eq!(session.backend.list().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_attempts_are_not_forgotten() {
    let world = LocalWorld::new();
    let mut session = Session::open(&world);
    session.launch(&world, attempt(1), Act::Hang).await;
    session.run(attempt(1)).await;
    let refused = session.backend.forget(attempt(1)).await.unwrap_err();
    assert!(matches!(refused, LaunchError::Transient { .. }), "{refused}");
    session.backend.stop(attempt(1), Millis(0)).await.unwrap();
    session.finished(attempt(1)).await;
    session.backend.forget(attempt(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_and_an_unusable_root_are_errors() {
    let mut world = LocalWorld::new();
    world.program = PathBuf::from("/nonexistent/agent");
    let session = Session::open(&world);
    let error = session.backend.launch(launch(&world, "true")).await.unwrap_err();
    assert!(
        matches!(&error, LaunchError::Terminal { reason } if reason.contains("/nonexistent/agent")),
        "{error}"
    );

    let mut world = LocalWorld::new();
    world.root = world.folder().join("file/root");
    fs::write(world.folder().join("file"), "").unwrap();
    let session = Session::open(&world);
    let error = session.backend.launch(launch(&world, "true")).await.unwrap_err();
    assert!(matches!(error, LaunchError::Terminal { .. }), "{error}");
    assert!(session.backend.list().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_with_a_long_path_works() {
    let mut world = LocalWorld::new();
    world.root = world.folder().join("long-name/".repeat(30)).join("root");
    let (session, record) = run(&world, launch(&world, "true")).await;
    assert_eq!(record.outcome, AttemptOutcome::Succeeded);
    session.backend.forget(attempt(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_midst_of_a_launch_leaves_it_to_the_next() {
    let world = LocalWorld::new();
    fs::create_dir_all(folder(&world)).unwrap();
    // Another server is between lock and spawn: ours waits for it, and starts the attempt when it dies.
    let lock = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(folder(&world).join("alive"))
        .unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut session = Session::open(&world);
    let launching = session.launch(&world, attempt(1), Act::Succeed);
    let dying = tokio::task::spawn_blocking(move || drop(lock));
    let ((), dead) = tokio::join!(launching, dying);
    dead.unwrap();
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    assert!(matches!(session.ended(attempt(1)).await, What::Finished { .. }));
}

/// The command line of the attempt's supervisor tells where it was started.
fn is_spare(world: &LocalWorld) -> bool {
    let command = fs::read(format!("/proc/{}/cmdline", supervisor_of(world))).unwrap();
    String::from_utf8_lossy(&command).contains("/spare/")
}

/// Launches attempt 1 again and again until a spare has it.
async fn launch_on_spare(world: &LocalWorld, session: &mut Session) {
    for _ in 0..1000 {
        session.launch(world, attempt(1), Act::Succeed).await;
        session.checked_in(attempt(1)).await;
        if is_spare(world) {
            return;
        }
        session.backend.stop(attempt(1), Millis(0)).await.unwrap();
        session.ended(attempt(1)).await;
        session.backend.forget(attempt(1)).await.unwrap();
    }
    panic!("no launch used a spare");
}

#[tokio::test(flavor = "multi_thread")]
async fn spares_run_attempts_and_leave_with_their_backend() {
    let world = LocalWorld::new();
    fs::create_dir_all(world.root.join("spare/1-1")).unwrap();
    let mut session = Session::open(&world);
    launch_on_spare(&world, &mut session).await;
    drop(session);
    let mut session = Session::open(&world);
    session.launch(&world, attempt(1), Act::Fail(5)).await;
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    // It was launched to succeed, and that launch is adopted.
    assert_eq!(
        session.finished(attempt(1)).await.outcome,
        AttemptOutcome::Succeeded
    );
    assert_eq!(world.starts(attempt(1)), 1);
    drop(session);
    let empty = async {
        while fs::read_dir(world.root.join("spare")).unwrap().next().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), empty)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_died_is_passed_over() {
    let world = LocalWorld::new();
    let mut session = Session::open(&world);
    launch_on_spare(&world, &mut session).await;
    kill(&supervisors_below(&world.root.join("spare")));
    session.launch(&world, attempt(2), Act::Succeed).await;
    let holder = session.checked_in(attempt(2)).await;
    session.go(attempt(2), &holder).await;
    assert_eq!(
        session.finished(attempt(2)).await.outcome,
        AttemptOutcome::Succeeded
    );
}
