//! A step that writes 1 GiB while somebody reads along.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use tokio::runtime::Builder;

use super::scheduling::burst;
use crate::{
    figure::{Figure, Samples, Target},
    forge::Repository,
    http::{self, Connection},
    served::{Served, data},
    user::User,
};

const BYTES: usize = 1 << 30;
const BLOCK: usize = 64 * 1024;
/// A line tells the time once in so many blocks.
const MARK_EVERY: usize = 16;
const MARK: &[u8] = b"@at=";
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);

/// Writes so many bytes of lines, some of which tell the time.
pub(crate) fn write(bytes: &str) -> Result<()> {
    let blocks = bytes.parse::<usize>()? / BLOCK;
    let line = format!(
        "{}\n",
        "the quick brown fox jumps over the lazy dog "
            .repeat(3)
            .trim_end()
    );
    let mut block: Vec<u8> = line.bytes().cycle().take(BLOCK - 1).collect();
    block.push(b'\n');
    let mut out = std::io::stdout().lock();
    for number in 0..blocks {
        if number % MARK_EVERY == 0 {
            let mark = format!("@at={:020}\n", nanos());
            if let Some(start) = block.get_mut(..mark.len()) {
                start.copy_from_slice(mark.as_bytes());
            }
        }
        out.write_all(&block)?;
    }
    Ok(())
}

pub(super) fn measure() -> Result<Vec<Figure>> {
    let user = User::new()?;
    let program = std::env::current_exe().context("find this program")?;
    let (program, go) = (program.display().to_string(), user.path("go"));
    let wait = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
    let pipeline = format!(
        "on: {{ push: {{ branches: [main] }} }}\nactions:\n  - name: work\n    log_limit: 2Gi\n    run: |\n      {wait}\n      {program} write-log {BYTES}\n"
    );
    let repository = Repository::make(&user, &pipeline, 2 * ROUNDS)?;
    let served = Served::start(&user, &repository.bare)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    let (mut lags, mut page_lags) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let copy = user.path("copy");
        let script = format!("{program} write-log {BYTES} | cat > {}", copy.display());
        floor.add(rate(user.time_shell(&script)?));
        fs::remove_file(copy).context("remove the copy")?;
        for reader in [Reader::Program, Reader::Page] {
            let number = 2 * round + usize::from(reader == Reader::Page);
            let followed = runtime.block_on(async {
                burst(&served, &repository, number, 1).await?;
                follow(&served, number + 1, &go, reader).await
            })?;
            match reader {
                Reader::Program => {
                    ours.add(rate(followed.took));
                    followed.lags.into_iter().for_each(|lag| lags.add(lag));
                }
                Reader::Page => followed.lags.into_iter().for_each(|lag| page_lags.add(lag)),
            }
            check(&data(&user).join("logs"))?;
            fs::remove_file(&go).context("hold the next step")?;
        }
    }
    served.stop()?;
    Ok(vec![
        Figure {
            what: "1 GiB from one step, until its one live reader has the last byte",
            unit: "MB/s",
            ours,
            floor: Some(("the same through `cat` into a file", floor)),
            target: Target::AtLeast(250.0),
        },
        Figure {
            what: "the same read by a page, which is taken to the end when it is far behind: lag, p99",
            unit: "ms",
            ours: [page_lags.quantile(0.99)].into_iter().collect(),
            floor: None,
            target: Target::AtMost(150.0),
        },
        Figure {
            what: "the same read by a program, which gets every byte: lag, p99",
            unit: "ms",
            ours: [lags.quantile(0.99)].into_iter().collect(),
            floor: None,
            target: Target::AtMost(150.0),
        },
    ])
}

/// Who reads along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Gets the whole log as text.
    Program,
    /// Gets lines as HTML, and what is newest when it cannot keep up.
    Page,
}

struct Followed {
    took: Duration,
    lags: Vec<f64>,
}

/// Reads a run's log along; the step begins once the reader is there.
async fn follow(served: &Served, run: usize, go: &Path, reader: Reader) -> Result<Followed> {
    let path = format!("/api/v1/runs/{run}");
    let asked = Instant::now();
    loop {
        let begun = http::json(&served.address, &path).await.ok().and_then(|answer| {
            let log = answer.pointer("/nodes/0/attempts/0/log_bytes")?.as_u64();
            log.filter(|bytes| *bytes > 0)
        });
        if begun.is_some() {
            break;
        }
        ensure!(asked.elapsed() < PATIENCE, "the step does not begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let connection = Connection::open(&served.address).await?;
    fs::write(go, "").context("let the step begin")?;
    let started = Instant::now();
    let (mut lags, mut last) = (Vec::new(), 0_u128);
    let form = match reader {
        Reader::Program => "text",
        Reader::Page => "html",
    };
    let request = http::get(&format!("/api/v1/live?run={run}&node=work&log={form}"));
    connection
        .follow(&request, |bytes| {
            let now = nanos();
            for at in memmem::find_iter(bytes, MARK) {
                let digits = bytes.get(at + MARK.len()..at + MARK.len() + 20);
                let told = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u128>().ok());
                // Seams are looked at twice.
                if let Some(told) = told.filter(|told| *told > last) {
                    last = told;
                    lags.push(now.saturating_sub(told) as f64 / 1e6);
                }
            }
            memmem::find(bytes, b"\"phase\":\"finished\"").is_some()
        })
        .await?;
    let took = started.elapsed();
    let wanted = match reader {
        Reader::Program => BYTES / BLOCK / MARK_EVERY - 2,
        Reader::Page => 1,
    };
    ensure!(
        lags.len() >= wanted,
        "the reader got {} of {wanted} marks",
        lags.len()
    );
    Ok(Followed { took, lags })
}

/// Checks that the log is whole, and removes it.
fn check(logs: &Path) -> Result<()> {
    let (mut marks, mut bytes) = (0, 0);
    for path in files(logs)? {
        let mut file = File::open(&path).context("open the log")?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).context("read the log")?;
            if read == 0 {
                break;
            }
            bytes += read;
            // Marks stand at the start of their block: at worst the echo of the command shifts one across a seam.
            marks += memmem::find_iter(buffer.get(..read).unwrap_or_default(), MARK).count();
        }
        fs::remove_file(path).context("remove the log")?;
    }
    let wanted = BYTES / BLOCK / MARK_EVERY;
    ensure!(
        bytes >= BYTES && marks + 8 >= wanted,
        "the log has {bytes} bytes and {marks} of {wanted} marks"
    );
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn rate(took: Duration) -> f64 {
    BYTES as f64 / 1e6 / took.as_secs_f64()
}

fn nanos() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos()
}
