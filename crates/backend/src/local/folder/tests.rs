use pipekeeper_agent::protocol::{PROTOCOL_VERSION, Usage};
use pipekeeper_model::{NodeId, RunId};
use tempfile::TempDir;

use super::*;

fn folder() -> (TempDir, Folder) {
    let temp = tempfile::tempdir().unwrap();
    let attempt = AttemptId {
        run: RunId(1),
        node: NodeId(2),
        number: 3,
    };
    let folder = Folder::new(&temp.path().join("attempts"), attempt);
    (temp, folder)
}

fn record(holder: &str, outcome: RecordOutcome) -> ExitRecord {
    ExitRecord {
        version: PROTOCOL_VERSION,
        attempt: "r1-n2-a3".to_owned(),
        nonce: String::new(),
        holder: holder.to_owned(),
        outcome,
        steps: Vec::new(),
        outputs: Default::default(),
        large_outputs: Default::default(),
        artifacts: Vec::new(),
        caches: Vec::new(),
        reports: Vec::new(),
        log_bytes: 0,
        log_truncated: false,
        summary: false,
        started_ms: Some(1),
        ended_ms: 2,
        usage: Usage::default(),
    }
}

#[test]
fn the_lock_tells_life_and_its_end() {
    let (_temp, folder) = folder();
    assert!(matches!(folder.look().unwrap(), Standing::Absent));
    folder.create().unwrap();
    folder.create().unwrap();
    let Standing::Unstarted(lock) = folder.look().unwrap() else {
        panic!("not unstarted")
    };
    assert!(matches!(folder.look().unwrap(), Standing::Alive));
    drop(lock);
    assert!(matches!(folder.look().unwrap(), Standing::Unstarted(_)));
}

#[test]
fn a_ticket_without_a_record_is_never_started_again() {
    let (_temp, folder) = folder();
    folder.create().unwrap();
    std::fs::write(folder.dir().ticket(), "").unwrap();
    std::fs::write(folder.path().join("alive"), "thread panicked").unwrap();
    let Standing::Dead(reason) = folder.look().unwrap() else {
        panic!("not dead")
    };
    assert_eq!(reason, "its supervisor died: thread panicked");
}

#[test]
fn a_void_folder_stays_void() {
    let (_temp, folder) = folder();
    folder.create().unwrap();
    let Standing::Unstarted(lock) = folder.look().unwrap() else {
        panic!("not unstarted")
    };
    folder.void(lock).unwrap();
    assert!(matches!(folder.look().unwrap(), Standing::Dead(reason) if reason.contains("stopped before")));
}

#[test]
fn a_record_counts_only_from_the_ticket_holder() {
    let (_temp, folder) = folder();
    folder.create().unwrap();
    folder
        .dir()
        .write_record(&record("a", RecordOutcome::Succeeded))
        .unwrap();
    assert!(matches!(folder.look().unwrap(), Standing::Dead(_)), "no ticket");
    std::fs::write(folder.dir().ticket(), "b").unwrap();
    assert!(
        matches!(folder.look().unwrap(), Standing::Dead(_)),
        "another's ticket"
    );
    std::fs::write(folder.dir().ticket(), "a").unwrap();
    assert!(matches!(folder.look().unwrap(), Standing::Finished(_)));
    std::fs::write(folder.dir().exit(), "{").unwrap();
    assert!(matches!(folder.look().unwrap(), Standing::Dead(reason) if reason.contains("unreadable")));
}

#[test]
fn a_refusal_is_no_result() {
    let (_temp, folder) = folder();
    folder.create().unwrap();
    let refused = ExitRecord {
        started_ms: None,
        ..record("a", RecordOutcome::Refused)
    };
    folder.dir().write_record(&refused).unwrap();
    assert!(matches!(folder.look().unwrap(), Standing::Dead(_)));
}

#[test]
fn sockets_work_at_the_end_of_a_long_path() {
    let temp = tempfile::tempdir().unwrap();
    let attempt = AttemptId {
        run: RunId(1),
        node: NodeId(2),
        number: 3,
    };
    let folder = Folder::new(&temp.path().join("long".repeat(40)), attempt);
    folder.create().unwrap();
    let _stale = folder.bind().unwrap();
    let listener = folder.bind().unwrap();
    let _stream = folder.connect().unwrap();
    listener.accept().unwrap();
    let mode = std::fs::metadata(folder.path().join("sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
