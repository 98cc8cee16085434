//! Files that nobody wants any more: what is there is compared with what is wanted.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::SystemTime,
};

use pipekeeper_model::{Digest, Millis, RunId, Timestamp};

use crate::{Layout, caches::to_timestamp};

use super::{
    GRACE,
    round::{LookError, Site, Wanted},
};

/// How long a file stays that was being made and never became whole.
const HALF_MADE: Millis = Millis::hours(24);

/// What became of the folder of artifacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) kept_bytes: u64,
    pub(super) removed: u64,
    pub(super) removed_bytes: u64,
}

/// The bytes of a run's logs.
pub(super) async fn log_bytes(layout: &Layout, run: RunId) -> io::Result<u64> {
    let folder = layout.run_logs(run);
    blocking(move || {
        let mut bytes = 0;
        for entry in entries(&folder)? {
            bytes += match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => 0,
                metadata => metadata?.len(),
            };
        }
        Ok(bytes)
    })
    .await
}

/// The runs that have a folder of logs.
pub(super) async fn runs_with_logs(site: &Site) -> io::Result<Vec<RunId>> {
    let root = site.layout.root().join("logs");
    blocking(move || Ok(entries(&root)?.iter().filter_map(run_of).collect())).await
}

/// Removes logs that are given up or whose run is gone; of how many runs.
pub(super) async fn logs(site: &Site, wanted: &Wanted) -> Result<u64, LookError> {
    let there = runs_with_logs(site).await?;
    let newest = site.store.last_run().await?;
    let mut removed = 0;
    for run in there.into_iter().filter(|run| !wanted.logs.contains(run)) {
        // It may have come or ended since.
        let is_given_up = match site.upkeep.estates.estate(run).await? {
            Some(estate) => estate.logs_gone.is_some(),
            None => site.store.stamp(run).await?.is_none() && run.0 <= newest,
        };
        if !is_given_up {
            continue;
        }
        let folder = site.layout.run_logs(run);
        blocking(move || match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        })
        .await?;
        removed += 1;
    }
    Ok(removed)
}

fn run_of(entry: &fs::DirEntry) -> Option<RunId> {
    entry.file_name().to_str()?.parse().ok().map(RunId)
}

/// Removes files of artifacts that nobody wants and nobody touched lately.
pub(super) async fn artifacts(
    folder: PathBuf,
    wanted: BTreeSet<Digest>,
    now: Timestamp,
) -> io::Result<Swept> {
    blocking(move || {
        let mut swept = Swept::default();
        for shelf in entries(&folder)? {
            for entry in entries(&shelf.path())? {
                sweep(&entry.path(), &wanted, now, &mut swept)?;
            }
        }
        Ok(swept)
    })
    .await
}

fn sweep(path: &Path, wanted: &BTreeSet<Digest>, now: Timestamp, swept: &mut Swept) -> io::Result<()> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let stays_for = match digest_of(name) {
        Some(digest) if wanted.contains(&digest) => None,
        Some(_) => Some(GRACE),
        None if name.starts_with('.') => Some(HALF_MADE),
        // Nobody here put it there.
        None => return Ok(()),
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    // Whoever is about to use it holds it while its date is set.
    let is_held = match stays_for.map(|_| file.try_lock()) {
        None | Some(Ok(())) => false,
        Some(Err(TryLockError::WouldBlock)) => true,
        Some(Err(TryLockError::Error(error))) => return Err(error),
    };
    let metadata = file.metadata()?;
    let touched = to_timestamp(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    if is_held || stays_for.is_none_or(|stays_for| now.since(touched) < stays_for) {
        swept.kept_bytes += metadata.len();
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    swept.removed += 1;
    swept.removed_bytes += metadata.len();
    Ok(())
}

fn digest_of(name: &str) -> Option<Digest> {
    let hex = name
        .strip_suffix(".tar.zst")
        .or_else(|| name.strip_suffix(".blob"))?;
    format!("sha256:{hex}").parse().ok()
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        entries => entries?.collect(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
