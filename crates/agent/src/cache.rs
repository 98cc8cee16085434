//! Archive caches: restored before the steps, saved after success.
//!
//! A cache file is an archive followed by its SHA-256 and a mark, so a damaged or half-written one is a miss. Files
//! keep their dates, because build tools compare those with the dates of the sources, which are newer.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::archive::{ArchiveError, Dates, HashWriter, Rules, select, sha256_of, unpack_from, write_archive};
use crate::interrupt::Interrupt;
use crate::protocol::{AttemptDir, CacheRecord, CacheSpec};
use crate::transfer::Transfers;

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
    transfers: &Transfers,
    interrupt: &Interrupt,
    notes: &mut Vec<String>,
) -> CacheState {
    let mut state = CacheState::default();
    state.record.name.clone_from(&cache.name);
    for candidate in &cache.restore {
        if let Some(Err(reason)) = transfers.fetch(&cache.name, &candidate.path, interrupt) {
            notes.push(format!(
                "cache `{}` does not come from the object store: {reason}",
                cache.name
            ));
        }
        match restore_file(dir, &candidate.path, transfers.digest(&cache.name), interrupt) {
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

fn restore_file(
    dir: &AttemptDir,
    path: &Path,
    digest: Option<&str>,
    interrupt: &Interrupt,
) -> Result<(), ArchiveError> {
    let mut file = File::open(path).map_err(ArchiveError::io(path))?;
    // Who makes room leaves alone what is read; where there are no locks, an open file outlives its removal.
    drop(file.lock_shared());
    let body = checked_length(&mut file, digest).map_err(ArchiveError::Damaged)?;
    file.seek(SeekFrom::Start(0)).map_err(ArchiveError::io(path))?;
    let rules = Rules {
        dates: Dates::Kept,
        tops: Some(TOPS),
        ..Rules::default()
    };
    unpack_from((&file).take(body), body, dir.path(), &rules, interrupt)?;
    // What is not noted as used goes earlier when room is needed; that is all.
    drop(file.set_times(FileTimes::new().set_accessed(SystemTime::now())));
    Ok(())
}

/// The length of the archive in a cache file whose digest is right, and this one if one is known.
fn checked_length(file: &mut File, known: Option<&str>) -> io::Result<u64> {
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
    let is_known = known.is_none_or(|known| known == hex::encode(digest));
    if is_known && trailer == [digest.as_slice(), MARK].concat() {
        Ok(body)
    } else {
        Err(damaged())
    }
}

/// Whether a cache's file is there and undamaged.
pub fn is_whole_cache(path: &Path) -> bool {
    File::open(path).is_ok_and(|mut file| checked_length(&mut file, None).is_ok())
}

/// What saves the caches of an attempt.
#[derive(Debug)]
pub(crate) struct Saver<'a> {
    pub(crate) dir: &'a AttemptDir,
    /// Tells what it writes from what others do at once.
    pub(crate) holder: &'a str,
    /// The most bytes that one may have, wherever it goes.
    pub(crate) most: u64,
    pub(crate) transfers: &'a Transfers,
    pub(crate) interrupt: &'a Interrupt,
}

impl Saver<'_> {
    /// Saves a cache, unless the file of its key is there already; failing to is worth a line, no more.
    pub(crate) fn save(&self, cache: &CacheSpec, state: &mut CacheState, notes: &mut Vec<String>) {
        let Some(target) = &cache.save_to else { return };
        if state.record.restored_exact == Some(true) || (target.exists() && !state.damaged) {
            return;
        }
        let temporary = target.with_extension(format!("tmp-{}", self.holder));
        match self.write(cache, target, &temporary, notes) {
            Ok(None) => notes.push(format!("cache `{}` holds no file and is not saved", cache.name)),
            Ok(Some((bytes, digest))) => {
                state.record.saved_bytes = Some(bytes);
                state.record.digest = Some(digest);
                let place = self.send(cache, target, bytes, state, notes);
                notes.push(format!("cache `{}` saved{place}, {bytes} bytes", cache.name));
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
        &self,
        cache: &CacheSpec,
        target: &Path,
        temporary: &Path,
        notes: &mut Vec<String>,
    ) -> Result<Option<(u64, String)>, ArchiveError> {
        let (dir, interrupt) = (self.dir.path(), self.interrupt);
        let globs = cache
            .paths
            .iter()
            .map(|path| place(path))
            .collect::<Result<Vec<_>, _>>()?;
        let selection = select(dir, &globs, interrupt)?;
        if selection.is_empty() {
            return Ok(None);
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(ArchiveError::io(folder))?;
        }
        let file = File::create(temporary).map_err(ArchiveError::io(temporary))?;
        let mut hashed = HashWriter::new(file);
        let written = write_archive(dir, &selection, Dates::Kept, &mut hashed, interrupt)?;
        if !written.left_out.is_empty() {
            notes.push(format!(
                "cache `{}`: {} links that point outside are left out",
                cache.name,
                written.left_out.len()
            ));
        }
        let (mut file, digest, bytes) = hashed.finish();
        if bytes + TRAILER > self.most {
            return Err(ArchiveError::TooLarge { most: self.most });
        }
        file.write_all(&[digest.as_slice(), MARK].concat())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(temporary, target))
            .map_err(ArchiveError::io(target))?;
        Ok(Some((bytes + TRAILER, hex::encode(digest))))
    }

    /// Sends an archive to the object store, if it goes to one; where it is, in words.
    fn send(
        &self,
        cache: &CacheSpec,
        file: &Path,
        bytes: u64,
        state: &mut CacheState,
        notes: &mut Vec<String>,
    ) -> &'static str {
        match self.transfers.keep(&cache.name, file, bytes, self.interrupt) {
            None => "",
            Some(Ok(())) => {
                state.record.in_store = true;
                // Nobody fetches it from here.
                drop(fs::remove_file(file));
                " in the object store"
            }
            Some(Err(reason)) => {
                notes.push(format!(
                    "cache `{}` does not reach the object store, and goes to the server: {reason}",
                    cache.name
                ));
                ""
            }
        }
    }
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
mod tests;
