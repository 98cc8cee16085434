//! Caches in an object store, with a stand-in for the program that moves them: a script beside a copy of the supervisor's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pipekeeper_agent::protocol::{
    AttemptSpec, CacheCandidate, CacheSpec, CacheUrls, ExitRecord, FetchUrl, RecordOutcome, SecretText,
    StoreAccess, ToAgent,
};

use crate::pod::Pod;
use crate::support::step;

/// Keeps what it is told and how it was started, and then does what the test says.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
order=$(cat)
file=${order#*'"file":"'}
file=${file%%'"'*}
echo "$order" >> "$here/orders"
{ tr '\0' ' ' < /proc/$$/cmdline; tr '\0' ' ' < /proc/$$/environ; } >> "$here/shown"
case $order in
    *'"what":"get"'*) . "$here/get" ;;
    *) . "$here/put" ;;
esac
"#;

struct Site {
    programs: tempfile::TempDir,
    pod: Pod,
    /// Of the object, as its server knows it.
    digest: String,
}

impl Site {
    /// A pod whose transfers do so.
    fn new(get: &str, put: &str) -> Self {
        let programs = tempfile::tempdir().unwrap();
        let agent = programs.path().join("pipekeeper-agent");
        fs::copy(env!("CARGO_BIN_EXE_pipekeeper-agent"), &agent).unwrap();
        let stand_in = programs.path().join("pipekeeper-transfer");
        fs::write(&stand_in, STAND_IN).unwrap();
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(programs.path().join("get"), get).unwrap();
        fs::write(programs.path().join("put"), put).unwrap();
        let pod = Pod::start_program(&agent, 1);
        Self {
            programs,
            pod,
            digest: String::new(),
        }
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.programs.path().join(name)).unwrap_or_default()
    }

    fn incoming(&self) -> PathBuf {
        self.pod.dir().incoming().join("cache-deps")
    }

    fn saved(&self) -> PathBuf {
        self.pod.dir().path().join("caches/deps")
    }

    fn spec(&self, text: &str) -> Box<AttemptSpec> {
        let mut spec = self.pod.spec(vec![step(text)]);
        spec.caches.push(CacheSpec {
            name: "deps".into(),
            key: "key".into(),
            restore: vec![CacheCandidate {
                path: self.incoming(),
                exact: true,
            }],
            paths: vec!["deps".into()],
            save_to: Some(self.saved()),
        });
        spec
    }

    fn run(&self, text: &str) -> (ExitRecord, String) {
        self.run_spec(self.spec(text))
    }

    fn run_spec(&self, spec: Box<AttemptSpec>) -> (ExitRecord, String) {
        let mut reader = self.pod.connect();
        reader.begin_with(spec, Vec::new(), access(&self.digest));
        let record = reader.finished();
        reader.tell(&ToAgent::Leave);
        (record, reader.log())
    }
}

fn access(digest: &str) -> StoreAccess {
    let url = |what: &str| SecretText::new(format!("http://s3/{what}?X-Amz-Signature=c4n4ry"));
    let urls = CacheUrls {
        fetch: Some(FetchUrl {
            url: url("get"),
            bytes: 1_000,
            digest: digest.to_owned(),
        }),
        keep: Some(url("put")),
    };
    StoreAccess {
        ca: None,
        caches: BTreeMap::from([("deps".to_owned(), urls)]),
    }
}

fn succeeded(record: &ExitRecord) {
    assert_eq!(record.outcome, RecordOutcome::Succeeded, "{record:#?}");
}

const FILL: &str = "cat deps/a || true; mkdir -p deps; echo content > deps/a";

#[test]
fn a_cache_goes_to_the_store_and_comes_from_there() {
    let first = Site::new("exit 1", "cp \"$file\" \"$here/object\"");
    let (record, log) = first.run(FILL);
    succeeded(&record);
    assert!(record.caches[0].in_store && record.caches[0].saved_bytes.is_some());
    assert!(!first.saved().exists(), "nobody fetches it from here");
    assert!(log.contains("cache `deps` saved in the object store"), "{log}");
    let object = first.programs.path().join("object");

    let digest = record.caches[0].digest.clone().unwrap();
    let fetch = format!("cp {} \"$file\"", object.display());
    let second = Site {
        digest,
        ..Site::new(&fetch, "exit 1")
    };
    let (record, log) = second.run(FILL);
    succeeded(&record);
    assert_eq!(record.caches[0].restored_exact, Some(true));
    assert!(log.contains("\ncontent\n"), "{log}");
    assert!(second.told("orders").contains(r#""most":1000"#));
    assert_eq!(second.told("orders").lines().count(), 1, "it is not saved again");

    // Whole, and not what the server took for this cache.
    let third = Site {
        digest: "00".repeat(32),
        ..Site::new(&fetch, "true")
    };
    let (record, log) = third.run(FILL);
    assert_eq!(record.caches[0].restored_exact, None);
    assert!(log.contains("does not match its digest"), "{log}");
}

#[test]
fn what_does_not_work_fails_nothing_and_goes_the_other_way() {
    let no = "echo 'the store answered 503'; exit 1";
    let site = Site::new(no, no);
    let (record, log) = site.run(FILL);
    succeeded(&record);
    assert!(!record.caches[0].in_store && record.caches[0].saved_bytes.is_some());
    assert!(site.saved().is_file());
    for words in [
        "cache `deps` does not come from the object store: the store answered 503",
        "cache `deps` does not reach the object store, and goes to the server: the store answered 503",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn a_damaged_object_is_a_miss_and_is_replaced() {
    let site = Site::new("echo damaged > \"$file\"", "true");
    let (record, log) = site.run(FILL);
    succeeded(&record);
    assert_eq!(record.caches[0].restored_exact, None);
    assert!(record.caches[0].in_store);
    assert!(log.contains("does not match its digest"), "{log}");
}

#[test]
fn one_that_is_too_large_is_sent_nowhere() {
    let site = Site::new("exit 1", "true");
    let mut spec = site.spec("mkdir deps; head -c 5000 /dev/urandom > deps/a");
    spec.limits.cache = 5_000;
    let (record, log) = site.run_spec(spec);
    succeeded(&record);
    let cache = &record.caches[0];
    assert_eq!((cache.saved_bytes, cache.in_store), (None, false));
    assert!(log.contains("cache `deps` not saved"), "{log}");
    assert!(!site.told("orders").contains(r#""what":"put""#));
}

#[test]
fn without_the_program_there_is_a_line_and_no_more() {
    let site = Site::new("", "");
    fs::remove_file(site.programs.path().join("pipekeeper-transfer")).unwrap();
    let (record, log) = site.run(FILL);
    succeeded(&record);
    assert!(site.saved().is_file());
    assert!(log.contains("cannot start `pipekeeper-transfer`"), "{log}");
}

#[test]
fn urls_are_nowhere_but_on_the_programs_standard_input() {
    let site = Site::new("exit 1", "true");
    let (record, log) = site.run("env; mkdir deps; touch deps/a");
    succeeded(&record);
    assert_eq!(site.told("orders").matches("c4n4ry").count(), 2);
    let told = serde_json::to_string(&record).unwrap();
    for (place, text) in [
        ("log", log),
        ("record", told),
        ("program's arguments and variables", site.told("shown")),
    ] {
        assert!(!text.contains("c4n4ry"), "{place}: {text}");
    }
    for file in files_below(site.pod.dir().path()) {
        let bytes = fs::read(&file).unwrap();
        let has_it = bytes.windows(6).any(|window| window == b"c4n4ry");
        assert!(!has_it, "it is in {}", file.display());
    }
}

#[test]
fn a_transfer_ends_with_its_attempt() {
    let hang = "echo $$ > \"$here/pid.new\"; mv \"$here/pid.new\" \"$here/pid\"; exec sleep 1000";
    let site = Site::new(hang, "true");
    let mut reader = site.pod.connect();
    reader.begin_with(site.spec("echo ran"), Vec::new(), access(""));
    let pid = await_file(&site.programs.path().join("pid"));
    reader.tell(&ToAgent::Stop { grace_ms: 0 });
    let record = reader.finished();
    assert_eq!(record.outcome, RecordOutcome::Cancelled);
    assert!(!Path::new("/proc").join(pid.trim()).exists());
    reader.tell(&ToAgent::Leave);
}

#[test]
fn a_later_ticket_brings_newer_urls() {
    let site = Site::new("exit 1", "true");
    let gate = site.pod.dir().path().join("gate");
    let mut reader = site.pod.connect();
    let text = format!(
        "mkdir deps; touch deps/a; until [ -e {} ]; do sleep 0.01; done",
        gate.display()
    );
    reader.begin_with(site.spec(&text), Vec::new(), access(""));
    reader.step_started();
    let mut newer = access("");
    let urls = newer.caches.get_mut("deps").unwrap();
    urls.keep = Some(SecretText::new("http://s3/newer?X-Amz-Signature=c4n4ry"));
    reader.tell(&ToAgent::Go {
        holder: "pod-uid".to_owned(),
        secrets: Vec::new(),
        mask: Vec::new(),
        store: newer,
    });
    reader.tell(&ToAgent::Ping);
    reader.pong();
    fs::write(gate, "").unwrap();
    succeeded(&reader.finished());
    assert!(
        site.told("orders").contains("http://s3/newer?"),
        "{}",
        site.told("orders")
    );
    reader.tell(&ToAgent::Leave);
}

/// The content of a file, once it is there.
fn await_file(path: &Path) -> String {
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            return text;
        }
        std::thread::yield_now();
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files
}
