//! Files into a pod and out of it.

use std::{
    collections::BTreeMap,
    fs::FileTimes,
    io,
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use pipekeeper_agent::{
    is_whole_cache,
    protocol::{
        Answer, AttemptSpec, ExitRecord, MAX_ALL_REPORTS, MAX_OUTPUT_BYTES, MAX_OUTPUTS, MAX_REPORT_BYTES,
        MAX_REPORTS, Offer, ToAgent, Wanted, encode, is_output_key, try_decode,
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{
    PodStream,
    caches::is_cache,
    mirror::{Mirror, beside},
    order::Order,
    patient::Patient,
};

/// Bytes that come on the control stream.
const SMALL: u64 = 512 << 10;
/// The most bytes of a summary; a supervisor cuts it to less.
const MOST_OF_SUMMARY: u64 = 1 << 20;
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
        if is_cache(name) {
            note_use(open(path).await?.into_std().await);
        }
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
    for file in wanted(mirror, order, record) {
        let came = fetch(&mut stream, &mut received, &file).await?;
        fs::rename(&came.path, &file.target).await?;
    }
    let mut left = MAX_ALL_REPORTS;
    for file in reports(mirror, record) {
        left -= get_report(&mut stream, &mut received, file, left).await?;
    }
    for file in saved(order, record) {
        let target = file.target.clone();
        if blocking(move || Ok(is_whole_cache(&target))).await? {
            continue;
        }
        let came = fetch(&mut stream, &mut received, &file).await?;
        blocking(move || keep_once(&came.path, &file.target)).await?;
    }
    Ok(())
}

/// Fetches a test report, if there are so many bytes left for it; its bytes.
async fn get_report(
    stream: &mut Patient,
    received: &mut Vec<u8>,
    mut file: File,
    left: u64,
) -> io::Result<u64> {
    file.most = file.most.min(left);
    let came = fetch(stream, received, &file).await?;
    fs::rename(&came.path, &file.target).await?;
    Ok(came.bytes)
}

/// A key is saved once: another action may have saved it meanwhile. Only a damaged one gives way.
fn keep_once(came: &Path, target: &Path) -> io::Result<()> {
    match std::fs::hard_link(came, target) {
        Ok(()) => Ok(()),
        Err(_) if is_whole_cache(target) => Ok(()),
        Err(_) => std::fs::rename(came, target),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Whether a record names any file.
pub(super) fn names_any(mirror: &Mirror, order: &Order, record: &ExitRecord) -> bool {
    wanted(mirror, order, record).next().is_some()
        || reports(mirror, record).next().is_some()
        || saved(order, record).next().is_some()
}

/// Whether a record names no more than its attempt may leave; each file is held to what is said of it here.
pub(super) fn check(spec: &AttemptSpec, record: &ExitRecord) -> Result<(), String> {
    let counts = [
        ("artifacts", record.artifacts.len(), spec.artifacts.len()),
        ("caches", record.caches.len(), spec.caches.len()),
        ("test reports", record.reports.len(), MAX_REPORTS),
        ("large outputs", record.large_outputs.len(), MAX_OUTPUTS),
    ];
    if let Some((what, count, most)) = counts.into_iter().find(|(_, count, most)| count > most) {
        return Err(format!("its record names {count} {what}, more than {most}"));
    }
    let most = spec.limits.artifact;
    if let Some(artifact) = record.artifacts.iter().find(|artifact| artifact.bytes > most) {
        let (name, bytes) = (&artifact.name, artifact.bytes);
        return Err(format!(
            "artifact `{name}` has {bytes} bytes, more than the {most} that are kept of one"
        ));
    }
    let sizes = record.large_outputs.values().map(|output| output.bytes);
    let outputs = sizes.fold(0, u64::saturating_add);
    if outputs > MAX_OUTPUT_BYTES {
        return Err(format!(
            "its outputs have {outputs} bytes, more than {MAX_OUTPUT_BYTES}"
        ));
    }
    Ok(())
}

/// A file that is fetched: its name below the attempt's folder, its place on this side, and its most bytes.
struct File {
    name: String,
    target: PathBuf,
    most: u64,
}

/// The files that a record names beside reports and caches.
fn wanted(mirror: &Mirror, order: &Order, record: &ExitRecord) -> impl Iterator<Item = File> {
    let dir = mirror.dir();
    let file = |name: String, target, most| File { name, target, most };
    let asked_for = |name: &str| order.spec.artifacts.iter().any(|artifact| artifact.name == name);
    let artifacts = record.artifacts.iter();
    let artifacts = artifacts
        .filter(move |artifact| asked_for(&artifact.name))
        .map(move |artifact| {
            let name = &artifact.name;
            let path = format!("artifacts/{name}.tar.zst");
            file(path, dir.artifact(name), artifact.bytes)
        });
    let outputs = record.large_outputs.iter();
    let outputs = outputs
        .filter(|(key, _)| is_output_key(key))
        .map(move |(key, output)| file(format!("outputs/{key}"), dir.outputs().join(key), output.bytes));
    let summary = record
        .summary
        .then(|| file("out/summary.md".to_owned(), dir.summary(), MOST_OF_SUMMARY));
    artifacts.chain(outputs).chain(summary)
}

/// The test reports that it kept.
fn reports(mirror: &Mirror, record: &ExitRecord) -> impl Iterator<Item = File> {
    let stays_below = |path: &str| {
        Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    let reports = record.reports.iter();
    reports
        .filter(move |report| stays_below(report))
        .map(move |report| File {
            name: format!("reports/{report}"),
            target: mirror.dir().reports().join(report),
            most: MAX_REPORT_BYTES,
        })
}

/// The caches that it saved and that are here to be fetched; one that is too large is none.
fn saved(order: &Order, record: &ExitRecord) -> impl Iterator<Item = File> {
    record.caches.iter().filter_map(move |cache| {
        let most = cache.saved_bytes.filter(|_| !cache.in_store)?;
        let target = order.caches.get(&cache.name)?.clone();
        (most <= order.spec.limits.cache).then(|| File {
            name: format!("caches/{}", cache.name),
            target,
            most,
        })
    })
}

/// Fetches a file to a place beside its own.
async fn fetch(stream: &mut Patient, received: &mut Vec<u8>, file: &File) -> io::Result<Temporary> {
    let File { name, target, most } = file;
    tell(stream, &Wanted { name: name.clone() }).await?;
    let Offer { bytes, .. } = hear(stream, received).await?;
    if bytes > *most {
        let text = format!("`{name}` has {bytes} bytes, more than {most}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    receive(stream, received, bytes, target)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("`{name}`: {error}")))
}

async fn receive(
    stream: &mut Patient,
    received: &mut Vec<u8>,
    bytes: u64,
    target: &Path,
) -> io::Result<Temporary> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).await?;
    }
    // Two servers may fetch the same file at once: what either puts in its place is whole.
    let temporary = Temporary {
        path: beside(target),
        bytes,
    };
    let mut file = fs::File::create(&temporary.path).await?;
    let early = usize::try_from(bytes).unwrap_or(usize::MAX).min(received.len());
    file.write_all(received.get(..early).unwrap_or_default()).await?;
    received.drain(..early);
    let left = bytes - u64::try_from(early).unwrap_or_default();
    let copied = tokio::io::copy(&mut (&mut *stream).take(left), &mut file).await?;
    if copied < left {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.sync_all().await?;
    Ok(temporary)
}

/// A file that goes unless it was renamed, also when nobody waits for its end any more.
struct Temporary {
    path: PathBuf,
    bytes: u64,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
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
    blocking(open)
        .await
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

#[cfg(test)]
mod tests;
