//! Files into a pod and out of it.

use std::{
    collections::BTreeMap,
    fs::FileTimes,
    io,
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use pipekeeper_agent::protocol::{
    Answer, ExitRecord, Offer, ToAgent, Wanted, encode, is_output_key, try_decode,
};
use serde::de::DeserializeOwned;
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{
    PodStream,
    mirror::{Mirror, beside},
    order::{Order, is_cache},
    patient::Patient,
};

/// Bytes that come on the control stream.
const SMALL: u64 = 512 << 10;
/// The most bytes of a file whose size a step decides; artifacts and caches have limits of their own.
const MOST_OF_SUMMARY: u64 = 1 << 20;
const MOST_OF_REPORT: u64 = 32 << 20;
const MOST_OF_OUTPUT: u64 = 64 << 20;
/// A stream on which nothing moves for so long is broken.
const STILL: Duration = Duration::from_secs(30);

/// The messages that bring files on the control stream, if they are few bytes; a stream of their own costs more.
pub(super) async fn small(uploads: &BTreeMap<String, PathBuf>) -> io::Result<Option<Vec<ToAgent>>> {
    let mut left = SMALL;
    let mut messages = Vec::with_capacity(uploads.len());
    for (name, path) in uploads {
        let mut content = Vec::new();
        open(path).await?.take(left + 1).read_to_end(&mut content).await?;
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let Some(rest) = left.checked_sub(bytes) else {
            return Ok(None);
        };
        left = rest;
        messages.push(ToAgent::File {
            name: name.clone(),
            content: hex::encode(content),
        });
    }
    Ok(Some(messages))
}

/// Sends files that the pod does not have yet.
pub(super) async fn put(stream: Box<dyn PodStream>, uploads: &BTreeMap<String, PathBuf>) -> io::Result<()> {
    let mut stream = Patient::new(stream, STILL);
    let mut received = Vec::new();
    for (name, path) in uploads {
        let mut file = match open(path).await {
            // One that was removed since is a miss.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_cache(name) => continue,
            file => file?,
        };
        let bytes = file.metadata().await?.len();
        let offer = Offer {
            name: name.clone(),
            bytes,
        };
        tell(&mut stream, &offer).await?;
        let Answer { yes: is_wanted } = hear(&mut stream, &mut received).await?;
        if !is_wanted {
            continue;
        }
        let copied = tokio::io::copy(&mut (&mut file).take(bytes), &mut stream).await?;
        if copied < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.flush().await?;
        let Answer { .. } = hear(&mut stream, &mut received).await?;
        if is_cache(name) {
            note_use(file.into_std().await);
        }
    }
    Ok(())
}

/// Who makes room for caches takes the longest unused; what is not noted as used goes earlier, that is all.
fn note_use(file: std::fs::File) {
    drop(file.set_times(FileTimes::new().set_accessed(SystemTime::now())));
}

/// Fetches everything that a record names to its place on this side.
pub(super) async fn get(
    stream: Box<dyn PodStream>,
    mirror: &Mirror,
    order: &Order,
    record: &ExitRecord,
) -> io::Result<()> {
    let mut stream = Patient::new(stream, STILL);
    let mut received = Vec::new();
    for File { name, target, most } in wanted(mirror, order, record) {
        tell(&mut stream, &Wanted { name: name.clone() }).await?;
        let Offer { bytes, .. } = hear(&mut stream, &mut received).await?;
        if bytes > most {
            return Err(io::Error::other(format!(
                "`{name}` has {bytes} bytes, more than {most}"
            )));
        }
        fetch(&mut stream, &mut received, bytes, &target)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("`{name}`: {error}")))?;
    }
    Ok(())
}

/// Whether a record names any file.
pub(super) fn names_any(mirror: &Mirror, order: &Order, record: &ExitRecord) -> bool {
    !wanted(mirror, order, record).is_empty()
}

/// A file that is fetched: its name below the attempt's folder, its place on this side, and its most bytes.
struct File {
    name: String,
    target: PathBuf,
    most: u64,
}

/// The files that a record names.
fn wanted(mirror: &Mirror, order: &Order, record: &ExitRecord) -> Vec<File> {
    let dir = mirror.dir();
    let file = |name: String, target, most| File { name, target, most };
    let asked_for = |name: &str| order.spec.artifacts.iter().any(|artifact| artifact.name == name);
    let artifacts = (record.artifacts.iter())
        .filter(|artifact| asked_for(&artifact.name))
        .map(|artifact| {
            let name = &artifact.name;
            file(format!("artifacts/{name}.tar.zst"), dir.artifact(name), u64::MAX)
        });
    let stays_below = |path: &str| {
        Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    let reports = (record.reports.iter())
        .filter(|report| stays_below(report))
        .map(|report| {
            let name = format!("reports/{report}");
            file(name, dir.reports().join(report), MOST_OF_REPORT)
        });
    let caches = (record.caches.iter())
        .filter(|cache| cache.saved_bytes.is_some() && !cache.in_store)
        .filter_map(|cache| {
            let place = order.caches.get(&cache.name)?;
            Some(file(format!("caches/{}", cache.name), place.clone(), u64::MAX))
        });
    let outputs = (record.large_outputs.keys())
        .filter(|key| is_output_key(key))
        .map(|key| file(format!("outputs/{key}"), dir.outputs().join(key), MOST_OF_OUTPUT));
    let summary = record
        .summary
        .then(|| file("out/summary.md".to_owned(), dir.summary(), MOST_OF_SUMMARY));
    let own = artifacts.chain(outputs);
    own.chain(reports).chain(caches).chain(summary).collect()
}

async fn fetch(stream: &mut Patient, received: &mut Vec<u8>, bytes: u64, target: &Path) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).await?;
    }
    // Two servers may fetch the same file at once: what either renames is whole.
    let temporary = beside(target);
    let mut file = fs::File::create(&temporary).await?;
    let early = usize::try_from(bytes).unwrap_or(usize::MAX).min(received.len());
    file.write_all(received.get(..early).unwrap_or_default()).await?;
    received.drain(..early);
    let left = bytes - u64::try_from(early).unwrap_or_default();
    let copied = tokio::io::copy(&mut (&mut *stream).take(left), &mut file).await?;
    if copied < left {
        drop(fs::remove_file(&temporary).await);
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.sync_all().await?;
    fs::rename(&temporary, target).await
}

/// Opens a file and shares its lock: who makes room for caches leaves alone what is read.
async fn open(path: &Path) -> io::Result<fs::File> {
    let opened = path.to_owned();
    let open = move || {
        let file = std::fs::File::open(opened)?;
        // Where there are no locks, an open file outlives its removal.
        drop(file.lock_shared());
        Ok(fs::File::from_std(file))
    };
    tokio::task::spawn_blocking(open)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
}

async fn tell(stream: &mut Patient, message: &impl serde::Serialize) -> io::Result<()> {
    let frame = encode(message).map_err(io::Error::other)?;
    stream.write_all(&frame).await?;
    stream.flush().await
}

async fn hear<T: DeserializeOwned>(stream: &mut Patient, received: &mut Vec<u8>) -> io::Result<T> {
    loop {
        if let Some((message, used)) = try_decode(received).map_err(io::Error::other)? {
            received.drain(..used);
            return Ok(message);
        }
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
