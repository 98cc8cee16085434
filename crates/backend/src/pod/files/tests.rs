use std::{
    fs::{create_dir, read, read_dir, write},
    sync::{Arc, Mutex},
};

use pipekeeper_agent::protocol::{
    ArtifactRecord, ArtifactSpec, CacheRecord, FileLimits, LargeOutput, PROTOCOL_VERSION, RecordOutcome,
    Usage, write_frame,
};
use pipekeeper_model::{AttemptId, Bytes, Digest, NodeId, RunId, Timestamp};
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::{
    CacheRef, cache_ref_path,
    pod::objects::{settle, tests::store},
};

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
    let cut = receive(&mut near, &mut Vec::new(), 3, &target)
        .await
        .err()
        .unwrap();
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(entries(folder.path()), 0);

    let (mut near, mut far) = stream();
    far.write_all(b"ab").await.unwrap();
    let still = receive(&mut near, &mut Vec::new(), 3, &target)
        .await
        .err()
        .unwrap();
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
        objects: BTreeMap::new(),
        services: Vec::new(),
        home: None,
        wants_alone: false,
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
    assert_eq!(
        read(mirror.dir().reports().join("deep/b.xml")).unwrap(),
        vec![b'b'; 5000]
    );
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
        digest: None,
        in_store: false,
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
    assert!(names_any(&mirror, &order, &record));
    record.caches[0].in_store = true;
    assert!(!names_any(&mirror, &order, &record), "it is not in the pod");
}

#[tokio::test]
async fn a_key_that_another_saved_in_a_store_meanwhile_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("caches/key.tar.zst");
    let reference = cache_ref_path(&place);
    let (mirror, mut order, mut record) = attempt(folder.path());
    order.caches = BTreeMap::from([("deps".to_owned(), place)]);
    let keep = serde_json::json!({ "object": "p/i/own", "reference": &reference });
    order.objects = serde_json::from_value(serde_json::json!({ "deps": { "keep": keep } })).unwrap();
    let mut names_any_after = async |in_store| {
        record.caches = vec![CacheRecord {
            name: "deps".to_owned(),
            restored_exact: None,
            saved_bytes: Some(43),
            digest: None,
            in_store,
        }];
        settle(&store(), ATTEMPT, &order, &mut record).await;
        names_any(&mirror, &order, &record)
    };
    assert!(names_any_after(false).await, "it goes to the server");
    let first = CacheRef::new(
        store().name(),
        "p/i/first",
        (Bytes(1), Digest::of(b"")),
        Timestamp(1),
    );
    first.write(&reference).unwrap();
    assert!(!names_any_after(false).await);
    assert!(!names_any_after(true).await);
    assert_eq!(CacheRef::read(&reference).unwrap(), Some(first));
}

#[test]
fn of_two_that_come_at_once_the_first_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (came, target) = (folder.path().join("came"), folder.path().join("key"));
    for content in [cache_of(b"one"), cache_of(b"two")] {
        write(&came, content).unwrap();
        keep_once(&came, &target).unwrap();
        drop(Temporary {
            path: came.clone(),
            bytes: 0,
        });
    }
    assert_eq!(read(&target).unwrap(), cache_of(b"one"));
    assert_eq!(entries(folder.path()), 1);
    create_dir(folder.path().join("folder")).unwrap();
    write(&came, "x").unwrap();
    assert!(keep_once(&came, &folder.path().join("folder")).is_err());
}

/// One artifact, one cache and one large output of so many bytes.
fn of_sizes(folder: &Path, artifact: u64, cache: u64, output: u64) -> (Mirror, Order, ExitRecord) {
    let (mirror, mut order, mut record) = attempt(folder);
    order.spec.limits = FileLimits {
        artifact: 100,
        cache: 50,
    };
    order.spec.artifacts = vec![ArtifactSpec {
        name: "web".to_owned(),
        paths: Vec::new(),
        always: false,
    }];
    order.caches = BTreeMap::from([("deps".to_owned(), folder.join("caches/key.tar.zst"))]);
    record.artifacts = vec![ArtifactRecord {
        name: "web".to_owned(),
        sha256: String::new(),
        bytes: artifact,
        files: 1,
    }];
    record.caches = vec![CacheRecord {
        name: "deps".to_owned(),
        restored_exact: None,
        saved_bytes: Some(cache),
        digest: None,
        in_store: false,
    }];
    let large = LargeOutput {
        sha256: String::new(),
        bytes: output,
    };
    record.large_outputs = BTreeMap::from([("notes".to_owned(), large)]);
    (mirror, order, record)
}

#[test]
fn a_record_that_names_too_much_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |artifact, output, change: &dyn Fn(&mut Order, &mut ExitRecord)| {
        let (_, mut order, mut record) = of_sizes(folder.path(), artifact, 50, output);
        // As many as there are in the spec.
        order.spec.caches =
            serde_json::from_str(r#"[{"name":"deps","key":"k","restore":[],"paths":[],"save_to":null}]"#)
                .unwrap();
        change(&mut order, &mut record);
        check(&order.spec, &record).err()
    };
    assert_eq!(refused(100, 64 << 20, &|_, _| {}), None);
    assert_eq!(
        refused(101, 1, &|_, _| {}).as_deref(),
        Some("artifact `web` has 101 bytes, more than the 100 that are kept of one")
    );
    let outputs = refused(1, (64 << 20) + 1, &|_, _| {}).unwrap();
    assert!(
        outputs.starts_with("its outputs have 67108865 bytes"),
        "{outputs}"
    );
    let reports = |count| {
        refused(1, 1, &move |_, record: &mut ExitRecord| {
            record.reports = vec!["a.xml".to_owned(); count];
        })
    };
    assert_eq!(reports(1000), None);
    assert_eq!(
        reports(1001).as_deref(),
        Some("its record names 1001 test reports, more than 1000")
    );
    let twice = |_: &mut Order, record: &mut ExitRecord| record.artifacts.extend(record.artifacts.clone());
    assert!(
        refused(1, 1, &twice)
            .unwrap()
            .contains("names 2 artifacts, more than 1")
    );
    let more = |order: &mut Order, _: &mut ExitRecord| order.spec.caches.clear();
    assert!(
        refused(1, 1, &more)
            .unwrap()
            .contains("names 1 caches, more than 0")
    );
    let many = |_: &mut Order, record: &mut ExitRecord| {
        let one = record.large_outputs["notes"].clone();
        record.large_outputs = (0..257).map(|key| (format!("k{key}"), one.clone())).collect();
    };
    assert!(refused(1, 1, &many).unwrap().contains("names 257 large outputs"));
}

#[tokio::test]
async fn nothing_comes_that_is_larger_than_its_record_says_or_than_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let (mirror, order, record) = of_sizes(folder.path(), 3, 51, 3);
    let files = |artifact: &[u8], output: &[u8]| {
        pod(&[
            ("artifacts/web.tar.zst", artifact.to_vec()),
            ("outputs/notes", output.to_vec()),
        ])
    };
    let (stream, asked) = files(b"abc", b"def");
    get(stream, &mirror, &order, &record).await.unwrap();
    let names = asked.lock().unwrap().clone();
    assert_eq!(
        names,
        ["artifacts/web.tar.zst", "outputs/notes"],
        "no cache of 51 bytes"
    );
    for (artifact, output) in [(b"abcd".as_slice(), b"def".as_slice()), (b"abc", b"defg")] {
        let (stream, _) = files(artifact, output);
        let refused = get(stream, &mirror, &order, &record).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert!(
            refused.to_string().contains("has 4 bytes, more than 3"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn reports_have_only_so_much_together() {
    let folder = tempfile::tempdir().unwrap();
    let (mirror, _, mut record) = attempt(folder.path());
    record.reports = vec!["a.xml".to_owned()];
    let (stream, _) = pod(&[("reports/a.xml", b"abc".to_vec())]);
    let mut stream = Patient::new(stream, STILL);
    let mut received = Vec::new();
    let mut report = async |left| {
        let file = reports(&mirror, &record).next().unwrap();
        get_report(&mut stream, &mut received, file, left).await
    };
    assert_eq!(report(3).await.unwrap(), 3);
    assert_eq!(
        report(2).await.unwrap_err().to_string(),
        "`reports/a.xml` has 3 bytes, more than 2"
    );
}
