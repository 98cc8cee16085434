use std::{
    fs::{create_dir, read, read_dir, write},
    sync::{Arc, Mutex},
};

use pipekeeper_agent::protocol::{
    AttemptSpec, CacheRecord, PROTOCOL_VERSION, RecordOutcome, Usage, write_frame,
};
use pipekeeper_model::{AttemptId, Digest, NodeId, RunId};
use tokio::io::{DuplexStream, duplex};

use super::*;

/// A stream into a pod, and the pod's end of it.
fn stream() -> (Patient, DuplexStream) {
    let (near, far) = duplex(1 << 10);
    (Patient::new(Box::new(near), Duration::from_millis(20)), far)
}

fn entries(folder: &Path) -> usize {
    read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn what_does_not_arrive_whole_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("key.tar.zst");

    let (mut near, far) = stream();
    drop(far);
    let cut = receive(&mut near, &mut Vec::new(), 3, &target).await.err().unwrap();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(entries(folder.path()), 0);

    let (mut near, mut far) = stream();
    far.write_all(b"ab").await.unwrap();
    let still = receive(&mut near, &mut Vec::new(), 3, &target).await.err().unwrap();
    assert_eq!(still.kind(), io::ErrorKind::TimedOut);
    assert_eq!(entries(folder.path()), 0);

    let (near, _far) = duplex(1);
    let mut near = Patient::new(Box::new(near), Duration::from_secs(3600));
    let mut nothing = Vec::new();
    let receiving = receive(&mut near, &mut nothing, 3, &target);
    let dropped = tokio::time::timeout(Duration::from_millis(20), receiving).await;
    assert!(dropped.is_err(), "nobody waits for it any more");
    assert_eq!(entries(folder.path()), 0);
}

/// A pod that has these files; it notes what it is asked for.
fn pod(files: &[(&'static str, Vec<u8>)]) -> (Box<dyn PodStream>, Arc<Mutex<Vec<String>>>) {
    let (near, mut far) = duplex(1 << 10);
    let files: BTreeMap<&str, Vec<u8>> = files.iter().cloned().collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut received = Vec::new();
        while far.read_buf(&mut received).await.unwrap() > 0 {
            while let Some((Wanted { name }, used)) = try_decode(&received).unwrap() {
                received.drain(..used);
                let content = files[name.as_str()].clone();
                let bytes = content.len() as u64;
                noted.lock().unwrap().push(name.clone());
                let mut answer = Vec::new();
                write_frame(&mut answer, &Offer { name, bytes }).unwrap();
                answer.extend(content);
                far.write_all(&answer).await.unwrap();
            }
        }
    });
    (Box::new(near), asked)
}

const ATTEMPT: AttemptId = AttemptId {
    run: RunId(1),
    node: NodeId(2),
    number: 3,
};

/// An attempt below this folder with nothing in it.
fn attempt(folder: &Path) -> (Mirror, Order, ExitRecord) {
    let order = Order {
        spec: AttemptSpec::new(ATTEMPT.to_string(), "n", folder.join("log")),
        log: folder.join("log"),
        uploads: BTreeMap::new(),
        caches: BTreeMap::new(),
        services: Vec::new(),
        likeness: None,
    };
    let record = ExitRecord {
        version: PROTOCOL_VERSION,
        attempt: ATTEMPT.to_string(),
        nonce: "n".to_owned(),
        holder: "h".to_owned(),
        outcome: RecordOutcome::Succeeded,
        steps: Vec::new(),
        outputs: BTreeMap::new(),
        large_outputs: BTreeMap::new(),
        artifacts: Vec::new(),
        caches: Vec::new(),
        reports: Vec::new(),
        log_bytes: 0,
        log_truncated: false,
        summary: false,
        started_ms: Some(1),
        ended_ms: 2,
        usage: Usage::default(),
    };
    (Mirror::new(folder, ATTEMPT), order, record)
}

/// A whole file of a cache with this content.
fn cache_of(content: &[u8]) -> Vec<u8> {
    let digest = hex::decode(Digest::of(content).to_hex()).unwrap();
    [content, &digest, b"PKCACHE1"].concat()
}

#[tokio::test]
async fn everything_that_a_record_names_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let (mirror, order, mut record) = attempt(folder.path());
    record.reports = ["a.xml", "deep/b.xml", "../c.xml"].map(str::to_owned).to_vec();
    record.summary = true;
    let (stream, asked) = pod(&[
        ("reports/a.xml", b"a".to_vec()),
        ("reports/deep/b.xml", vec![b'b'; 5000]),
        ("out/summary.md", Vec::new()),
    ]);
    get(stream, &mirror, &order, &record).await.unwrap();
    assert_eq!(read(mirror.dir().reports().join("deep/b.xml")).unwrap(), vec![b'b'; 5000]);
    assert_eq!(read(mirror.dir().summary()).unwrap(), b"");
    assert_eq!(asked.lock().unwrap().len(), 3, "and nothing else is asked for");
}

#[tokio::test]
async fn a_cache_is_kept_once_and_only_a_damaged_one_gives_way() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("caches/key.tar.zst");
    let (mirror, mut order, mut record) = attempt(folder.path());
    order.caches = BTreeMap::from([("deps".to_owned(), place.clone())]);
    record.caches = vec![CacheRecord {
        name: "deps".to_owned(),
        restored_exact: None,
        saved_bytes: Some(43),
    }];
    let (first, second) = (cache_of(b"one"), cache_of(b"two"));
    let fetch = async |content: &[u8]| {
        let (stream, asked) = pod(&[("caches/deps", content.to_vec())]);
        get(stream, &mirror, &order, &record).await.unwrap();
        asked.lock().unwrap().len()
    };
    assert_eq!(fetch(&first).await, 1);
    assert_eq!(fetch(&second).await, 0, "it is there");
    assert_eq!(read(&place).unwrap(), first);
    write(&place, "damaged").unwrap();
    assert_eq!(fetch(&second).await, 1);
    assert_eq!(read(&place).unwrap(), second);
    assert_eq!(entries(place.parent().unwrap()), 1);
}

#[test]
fn of_two_that_come_at_once_the_first_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (came, target) = (folder.path().join("came"), folder.path().join("key"));
    for content in [cache_of(b"one"), cache_of(b"two")] {
        write(&came, content).unwrap();
        keep_once(&came, &target).unwrap();
        drop(Temporary(came.clone()));
    }
    assert_eq!(read(&target).unwrap(), cache_of(b"one"));
    assert_eq!(entries(folder.path()), 1);
    create_dir(folder.path().join("folder")).unwrap();
    write(&came, "x").unwrap();
    assert!(keep_once(&came, &folder.path().join("folder")).is_err());
}
