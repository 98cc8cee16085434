use std::{
    fs::{self, File, FileTimes},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pipekeeper_model::{Bytes, Digest};

use super::{remove::remove_strays, *};

fn put(caches: &Path, place: &str, bytes: usize, age: u64) -> PathBuf {
    let path = caches.join(place);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, vec![0; bytes]).unwrap();
    let then = SystemTime::now() - Duration::from_secs(age);
    let times = FileTimes::new().set_accessed(then).set_modified(then);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(times)
        .unwrap();
    path
}

fn keys(entries: &[CacheEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

#[test]
fn only_whole_caches_are_listed() {
    let temp = tempfile::tempdir().unwrap();
    assert!(list(&temp.path().join("absent")).unwrap().is_empty());
    put(temp.path(), "web/protected/cargo/b.tar.zst", 3, 100);
    put(temp.path(), "web/branches/cargo/a.b.tar.zst", 5, 50);
    put(temp.path(), "web/branches/cargo/a.b.tar.tmp-h", 7, 0);
    put(temp.path(), "stray", 7, 0);
    put(temp.path(), "web/branches/stray.tar.zst", 7, 0);
    let found = list(temp.path()).unwrap();
    assert_eq!(keys(&found), ["a.b", "b"]);
    assert_eq!(
        (found[0].tier.as_str(), found[0].name.as_str(), found[0].bytes),
        ("branches", "cargo", Bytes(5))
    );
    assert_eq!(found[0].created_at, found[0].used_at);
}

#[test]
fn a_wish_removes_what_fits_and_nothing_that_is_read() {
    let temp = tempfile::tempdir().unwrap();
    put(temp.path(), "web/branches/cargo/old.tar.zst", 1, 1_000);
    let read = put(temp.path(), "web/branches/cargo/read.tar.zst", 1, 1_000);
    put(temp.path(), "web/branches/cargo/new.tar.zst", 1, 1);
    put(temp.path(), "web/branches/npm/old.tar.zst", 1, 1_000);
    put(temp.path(), "api/branches/cargo/old.tar.zst", 1, 1_000);
    let reader = File::open(&read).unwrap();
    reader.lock_shared().unwrap();
    let now = to_timestamp(SystemTime::now());
    let wish = CacheWish {
        project: Some("web".parse().unwrap()),
        name: Some("cargo".parse().unwrap()),
        key: None,
        unused_since: Some(Timestamp(now.0 - 500_000)),
    };
    let removed = remove(temp.path(), &wish).unwrap();
    assert_eq!(
        (keys(&removed.gone), keys(&removed.in_use)),
        (vec!["old"], vec!["read"])
    );
    drop(reader);
    assert_eq!(keys(&remove(temp.path(), &wish).unwrap().gone), ["read"]);
    let one = CacheWish {
        key: Some("old".to_owned()),
        ..CacheWish::default()
    };
    assert_eq!(remove(temp.path(), &one).unwrap().gone.len(), 2);
    assert_eq!(keys(&list(temp.path()).unwrap()), ["new"]);
}

#[test]
fn a_quota_evicts_what_nobody_reads_and_tidies_up_after_killed_writers() {
    let temp = tempfile::tempdir().unwrap();
    let oldest = put(temp.path(), "web/branches/cargo/oldest.tar.zst", 40, 300);
    put(temp.path(), "web/branches/cargo/old.tar.zst", 40, 200);
    put(temp.path(), "web/branches/cargo/new.tar.zst", 40, 100);
    let killed = put(temp.path(), "web/branches/cargo/x.tar.tmp-h", 7, 2 * 86_400);
    let writing = put(temp.path(), "web/branches/cargo/y.tar.tmp-h", 7, 60);
    let quota = CacheQuota {
        project: Bytes(40),
        total: Bytes(1_000),
    };
    let reader = File::open(&oldest).unwrap();
    reader.lock_shared().unwrap();
    let removed = trim(&[temp.path()], quota).unwrap();
    assert_eq!(
        (keys(&removed.gone), keys(&removed.in_use)),
        (vec!["old"], vec!["oldest"])
    );
    assert!(!killed.exists() && writing.exists());
    drop(reader);
    assert_eq!(keys(&trim(&[temp.path()], quota).unwrap().gone), ["oldest"]);
    assert!(trim(&[temp.path()], quota).unwrap().gone.is_empty());
}

/// A reference to an object of so many bytes, saved and used so many seconds ago.
fn refer(caches: &Path, place: &str, bytes: u64, (saved, used): (u64, u64)) -> PathBuf {
    let path = caches.join(place);
    let ago = |seconds: u64| SystemTime::now() - Duration::from_secs(seconds);
    CacheRef::new(
        "http://s3/ci",
        "object",
        (Bytes(bytes), Digest::of(b"")),
        to_timestamp(ago(saved)),
    )
    .write(&path)
    .unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(ago(used)).unwrap();
    path
}

#[test]
fn references_are_caches_too() {
    let temp = tempfile::tempdir().unwrap();
    put(temp.path(), "web/branches/cargo/file.tar.zst", 40, 250);
    let old = refer(temp.path(), "web/branches/cargo/old.ref", 40, (500, 300));
    refer(temp.path(), "web/branches/cargo/used.ref", 40, (900, 10));
    let odd = temp.path().join("web/branches/cargo/odd.ref");
    fs::write(&odd, "{").unwrap();
    let found = list(temp.path()).unwrap();
    assert_eq!(keys(&found), ["file", "old", "used"]);
    assert_eq!(found[2].bytes, Bytes(40));
    assert_eq!(found[2].used_at.since(found[2].created_at).0 / 1000, 890);
    // Looking is no use.
    assert_eq!(list(temp.path()).unwrap(), found);
    let quota = CacheQuota {
        project: Bytes(80),
        total: Bytes(1_000),
    };
    assert_eq!(keys(&trim(&[temp.path()], quota).unwrap().gone), ["old"]);
    assert!(!old.exists() && odd.exists());
    let wish = CacheWish {
        key: Some("us".to_owned()),
        ..CacheWish::default()
    };
    assert_eq!(keys(&remove(temp.path(), &wish).unwrap().gone), ["used"]);
    assert_eq!(keys(&list(temp.path()).unwrap()), ["file"]);
}

#[test]
fn references_to_stores_that_nobody_has_any_more_count_no_more() {
    let temp = tempfile::tempdir().unwrap();
    let path = refer(temp.path(), "web/branches/deps/a.ref", 10, (5, 5));
    remove_strays(temp.path(), &["http://s3/ci".to_owned()]).unwrap();
    assert!(path.exists());
    remove_strays(temp.path(), &["http://s3.new/ci".to_owned()]).unwrap();
    assert!(!path.exists());
}
