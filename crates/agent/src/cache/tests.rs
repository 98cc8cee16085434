use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::*;
use crate::protocol::CacheCandidate;

struct Site {
    folder: tempfile::TempDir,
    cache: CacheSpec,
    most: u64,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store/key");
        let cache = CacheSpec {
            name: "deps".into(),
            key: "key".into(),
            restore: vec![
                CacheCandidate {
                    path: folder.path().join("missing"),
                    exact: false,
                },
                CacheCandidate {
                    path: file.clone(),
                    exact: true,
                },
            ],
            paths: vec!["~/.deps".into(), "target".into()],
            save_to: Some(file),
        };
        Self {
            folder,
            cache,
            most: u64::MAX,
        }
    }

    fn attempt(&self, name: &str) -> AttemptDir {
        let dir = AttemptDir::new(self.folder.path().join(name));
        fs::create_dir_all(dir.home().join(".deps")).unwrap();
        fs::create_dir_all(dir.workspace().join("target")).unwrap();
        dir
    }

    fn restore(&self, dir: &AttemptDir) -> CacheState {
        restore(
            dir,
            &self.cache,
            &Transfers::default(),
            &Interrupt::default(),
            &mut Vec::new(),
        )
    }

    fn save(&self, dir: &AttemptDir, state: &mut CacheState) -> Option<u64> {
        self.save_as(dir, "h", state)
    }

    fn save_as(&self, dir: &AttemptDir, holder: &str, state: &mut CacheState) -> Option<u64> {
        let saver = Saver {
            dir,
            holder,
            most: self.most,
            transfers: &Transfers::default(),
            interrupt: &Interrupt::default(),
        };
        saver.save(&self.cache, state, &mut Vec::new());
        state.record.saved_bytes
    }
}

#[test]
fn what_is_saved_comes_back_with_its_dates() {
    let site = Site::new();
    let first = site.attempt("first");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::write(first.home().join(".deps/lib"), "lib").unwrap();
    fs::write(first.workspace().join("target/out"), "out").unwrap();
    File::open(first.workspace().join("target/out"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    let mut state = site.restore(&first);
    assert_eq!(state.record.restored_exact, None);
    assert!(site.save(&first, &mut state).is_some());

    let second = site.attempt("second");
    let mut state = site.restore(&second);
    assert_eq!(state.record.restored_exact, Some(true));
    assert_eq!(
        fs::read_to_string(second.home().join(".deps/lib")).unwrap(),
        "lib"
    );
    let out = fs::metadata(second.workspace().join("target/out")).unwrap();
    assert_eq!(out.modified().unwrap(), old);
    assert_eq!(site.save(&second, &mut state), None, "its own key was restored");
    let names: Vec<_> = fs::read_dir(site.folder.path().join("store")).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary file stays");
}

#[test]
fn a_flipped_bit_anywhere_is_a_miss_and_is_saved_anew() {
    let site = Site::new();
    let first = site.attempt("first");
    fs::write(first.workspace().join("target/out"), "out").unwrap();
    let mut state = site.restore(&first);
    site.save(&first, &mut state).unwrap();
    let path = site.cache.save_to.clone().unwrap();
    let good = fs::read(&path).unwrap();
    for at in [0, good.len() / 2, good.len() - 20, good.len() - 1] {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[good[at] ^ 1], at as u64).unwrap();
        let dir = site.attempt(&format!("flip-{at}"));
        let mut state = site.restore(&dir);
        assert_eq!(state.record.restored_exact, None, "flipped at {at}");
        assert!(!dir.workspace().join("target/out").exists());
        fs::write(dir.workspace().join("target/out"), "out").unwrap();
        assert!(site.save(&dir, &mut state).is_some());
        assert!(
            site.restore(&site.attempt(&format!("again-{at}")))
                .record
                .restored_exact
                .is_some()
        );
        fs::write(&path, &good).unwrap();
    }
    fs::write(&path, "short").unwrap();
    assert_eq!(site.restore(&site.attempt("short")).record.restored_exact, None);
}

#[test]
fn one_that_is_too_large_is_not_saved() {
    let mut site = Site::new();
    let dir = site.attempt("first");
    fs::write(dir.workspace().join("target/out"), "x").unwrap();
    let mut state = site.restore(&dir);
    let bytes = site.save(&dir, &mut state).unwrap();
    let target = site.cache.save_to.clone().unwrap();
    fs::remove_file(&target).unwrap();
    site.most = bytes - 1;
    assert_eq!(site.save(&dir, &mut CacheState::default()), None);
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 0);
    site.most = bytes;
    assert_eq!(site.save(&dir, &mut CacheState::default()), Some(bytes));
}

#[test]
fn nothing_to_save_and_bad_paths_save_nothing() {
    let mut site = Site::new();
    let dir = AttemptDir::new(site.folder.path().join("bare"));
    fs::create_dir_all(dir.workspace()).unwrap();
    for paths in [["absent"], ["/etc"], ["../.."], ["~/../.."]] {
        site.cache.paths = paths.map(str::to_owned).to_vec();
        let mut state = site.restore(&dir);
        assert_eq!(site.save(&dir, &mut state), None, "{paths:?}");
    }
}

#[test]
fn a_restored_cache_was_used_just_now() {
    let site = Site::new();
    let first = site.attempt("first");
    fs::write(first.workspace().join("target/out"), "out").unwrap();
    let mut state = site.restore(&first);
    site.save(&first, &mut state).unwrap();
    let path = site.cache.save_to.clone().unwrap();
    let old = SystemTime::now() - Duration::from_secs(1_000_000);
    let times = FileTimes::new().set_accessed(old).set_modified(old);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(times)
        .unwrap();
    site.restore(&site.attempt("second"));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.modified().unwrap(), old, "it is as old as it was");
    assert!(metadata.accessed().unwrap() > old + Duration::from_secs(900_000));
}

/// Every writer fills its cache with its own number, so that a mixture would show.
#[test]
fn readers_among_fifty_writers_of_one_key_see_whole_caches_or_misses() {
    const WRITERS: usize = 50;
    const FILES: usize = 8;
    let site = Site::new();
    let (together, is_over) = (Barrier::new(WRITERS), AtomicBool::new(false));
    let read = |round: usize| {
        let dir = site.attempt(&format!("reader-{round}"));
        let state = site.restore(&dir);
        let found: Vec<String> = (0..FILES)
            .filter_map(|file| fs::read_to_string(dir.workspace().join(format!("target/{file}"))).ok())
            .collect();
        match state.record.restored_exact {
            Some(true) => {
                assert_eq!(found.len(), FILES);
                assert!(found.iter().all(|text| *text == found[0]), "a mixture");
            }
            Some(false) | None => assert!(found.is_empty(), "a part"),
        }
        fs::remove_dir_all(dir.path()).unwrap();
        !found.is_empty()
    };
    std::thread::scope(|scope| {
        let (site, together) = (&site, &together);
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                scope.spawn(move || {
                    let dir = site.attempt(&format!("writer-{number}"));
                    for file in 0..FILES {
                        let text = format!("{number} ").repeat(20_000);
                        fs::write(dir.workspace().join(format!("target/{file}")), text).unwrap();
                    }
                    let mut state = site.restore(&AttemptDir::new(dir.path().join("nowhere")));
                    together.wait();
                    site.save_as(&dir, &format!("h{number}"), &mut state).is_some()
                })
            })
            .collect();
        let (read, is_over) = (&read, &is_over);
        let reader = scope.spawn(move || {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                read(rounds);
                rounds += 1;
            }
        });
        let saved = writers.into_iter().map(|writer| writer.join().unwrap());
        assert!(saved.filter(|saved| *saved).count() > 0);
        is_over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert!(read(usize::MAX), "the last one to save is there");
    let names: Vec<_> = fs::read_dir(site.folder.path().join("store")).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary file stays");
}
