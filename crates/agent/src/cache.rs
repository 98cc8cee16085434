//! Archive caches: restored before the steps, saved after success.
//!
//! A cache file is an archive followed by its SHA-256 and a mark, so a damaged or half-written one is a miss. Files
//! keep their dates, because build tools compare those with the dates of the sources, which are newer.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::archive::{ArchiveError, Dates, HashWriter, Rules, select, sha256_of, unpack_from, write_archive};
use crate::interrupt::Interrupt;
use crate::protocol::{AttemptDir, CacheRecord, CacheSpec};

const MARK: &[u8; 8] = b"PKCACHE1";
const TRAILER: u64 = 32 + 8;

/// The folders below the attempt's that a cache may hold.
const TOPS: &[&str] = &["home", "workspace"];

/// What one cache did, and what to say about it.
#[derive(Debug, Default)]
pub(crate) struct CacheState {
    pub(crate) record: CacheRecord,
    /// Whether the file of its own key is there but damaged.
    damaged: bool,
}

/// Restores the best candidate that is whole.
pub(crate) fn restore(
    dir: &AttemptDir,
    cache: &CacheSpec,
    interrupt: &Interrupt,
    notes: &mut Vec<String>,
) -> CacheState {
    let mut state = CacheState::default();
    state.record.name.clone_from(&cache.name);
    for candidate in &cache.restore {
        match restore_file(dir, &candidate.path, interrupt) {
            Ok(()) => {
                state.record.restored_exact = Some(candidate.exact);
                let from = if candidate.exact {
                    "its own key"
                } else {
                    "an older key"
                };
                notes.push(format!("cache `{}` restored from {from}", cache.name));
                return state;
            }
            Err(ArchiveError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                state.damaged |= candidate.exact;
                notes.push(format!(
                    "cache `{}` not restored: {}",
                    cache.name,
                    crate::error_text(&error)
                ));
            }
        }
        if interrupt.is_set() {
            return state;
        }
    }
    notes.push(format!("cache `{}` is empty", cache.name));
    state
}

fn restore_file(dir: &AttemptDir, path: &Path, interrupt: &Interrupt) -> Result<(), ArchiveError> {
    let mut file = File::open(path).map_err(ArchiveError::io(path))?;
    let body = checked_length(&mut file).map_err(ArchiveError::Damaged)?;
    file.seek(SeekFrom::Start(0)).map_err(ArchiveError::io(path))?;
    let rules = Rules {
        dates: Dates::Kept,
        tops: Some(TOPS),
    };
    unpack_from(file.take(body), body, dir.path(), &rules, interrupt).map(drop)
}

/// The length of the archive in a cache file whose digest is right.
fn checked_length(file: &mut File) -> io::Result<u64> {
    let damaged = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the content does not match its digest",
        )
    };
    let body = file.metadata()?.len().checked_sub(TRAILER).ok_or_else(damaged)?;
    let digest = sha256_of(&mut Read::by_ref(file).take(body))?;
    let mut trailer = Vec::new();
    file.read_to_end(&mut trailer)?;
    if trailer == [digest.as_slice(), MARK].concat() {
        Ok(body)
    } else {
        Err(damaged())
    }
}

/// Saves a cache, unless the file of its key is there already; failing to is worth a line, no more.
pub(crate) fn save(
    dir: &AttemptDir,
    holder: &str,
    cache: &CacheSpec,
    state: &mut CacheState,
    interrupt: &Interrupt,
    notes: &mut Vec<String>,
) {
    let Some(target) = &cache.save_to else { return };
    if state.record.restored_exact == Some(true) || (target.exists() && !state.damaged) {
        return;
    }
    let temporary = target.with_extension(format!("tmp-{holder}"));
    match write(dir, cache, target, &temporary, interrupt, notes) {
        Ok(saved) => {
            state.record.saved_bytes = saved;
            let what = saved.map_or("holds no file and is not saved".to_owned(), |bytes| {
                format!("saved, {bytes} bytes")
            });
            notes.push(format!("cache `{}` {what}", cache.name));
        }
        Err(error) => notes.push(format!(
            "cache `{}` not saved: {}",
            cache.name,
            crate::error_text(&error)
        )),
    }
    // Only a failure left it there.
    drop(fs::remove_file(&temporary));
}

fn write(
    dir: &AttemptDir,
    cache: &CacheSpec,
    target: &Path,
    temporary: &Path,
    interrupt: &Interrupt,
    notes: &mut Vec<String>,
) -> Result<Option<u64>, ArchiveError> {
    let globs = cache
        .paths
        .iter()
        .map(|path| place(path))
        .collect::<Result<Vec<_>, _>>()?;
    let selection = select(dir.path(), &globs, interrupt)?;
    if selection.is_empty() {
        return Ok(None);
    }
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(ArchiveError::io(folder))?;
    }
    let file = File::create(temporary).map_err(ArchiveError::io(temporary))?;
    let mut hashed = HashWriter::new(file);
    let written = write_archive(dir.path(), &selection, Dates::Kept, &mut hashed, interrupt)?;
    if !written.left_out.is_empty() {
        notes.push(format!(
            "cache `{}`: {} links that point outside are left out",
            cache.name,
            written.left_out.len()
        ));
    }
    let (mut file, digest, bytes) = hashed.finish();
    file.write_all(&[digest.as_slice(), MARK].concat())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(temporary, target))
        .map_err(ArchiveError::io(target))?;
    Ok(Some(bytes + TRAILER))
}

/// Where a path of the pipeline file is, below the attempt's folder.
pub(crate) fn place(path: &str) -> Result<String, ArchiveError> {
    let place = match path.strip_prefix("~/") {
        Some(rest) => Path::new("home").join(rest),
        None if path == "~" => PathBuf::from("home"),
        None => Path::new("workspace").join(path),
    };
    if Path::new(path).is_absolute() {
        let reason = "use a path below the workspace, or `~/…`".to_owned();
        return Err(ArchiveError::Pattern {
            pattern: path.to_owned(),
            reason,
        });
    }
    Ok(place.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::protocol::CacheCandidate;

    struct Site {
        folder: tempfile::TempDir,
        cache: CacheSpec,
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
            Self { folder, cache }
        }

        fn attempt(&self, name: &str) -> AttemptDir {
            let dir = AttemptDir::new(self.folder.path().join(name));
            fs::create_dir_all(dir.home().join(".deps")).unwrap();
            fs::create_dir_all(dir.workspace().join("target")).unwrap();
            dir
        }

        fn restore(&self, dir: &AttemptDir) -> CacheState {
            restore(dir, &self.cache, &Interrupt::default(), &mut Vec::new())
        }

        fn save(&self, dir: &AttemptDir, state: &mut CacheState) -> Option<u64> {
            save(
                dir,
                "h",
                &self.cache,
                state,
                &Interrupt::default(),
                &mut Vec::new(),
            );
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
}
