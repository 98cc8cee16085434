//! `pipe doctor`: looks at everything that `pipe` needs and says what to do about what is missing.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use pipekeeper_backend_kube::NamespaceState;
use pipekeeper_model::Name;
use pipekeeper_objects::{ObjectStore, StoreOptions};
use serde_json::json;

use crate::{
    cli::{Output, Remote},
    client, clock,
    config::{self, Config, Flags},
    failure::{Exit, Failure, OrFail},
    folders, runtime, server,
    term::{self, Paint, Tone},
};

const MIB: u64 = 1024 * 1024;
/// 2025-01-01: a clock before this is wrong.
const OLDEST_PLAUSIBLE: i64 = 1_735_689_600_000;
const OLDEST_GIT: (u32, u32) = (2, 30);

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The server's configuration
    #[arg(long, env = "PIPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
    hint: Option<Cow<'static, str>>,
}

impl Finding {
    fn ok(what: &'static str, text: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Ok,
            text: text.into(),
            hint: None,
        }
    }

    fn bad(
        what: &'static str,
        verdict: Verdict,
        text: impl Into<String>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            what,
            verdict,
            text: text.into(),
            hint: Some(hint.into()),
        }
    }

    /// What failed knows best what to do, if it knows anything.
    fn failed(what: &'static str, failure: Failure, otherwise: &'static str) -> Self {
        let hint = failure.hint.map_or(Cow::Borrowed(otherwise), Cow::Owned);
        Self::bad(what, Verdict::Fail, failure.message, hint)
    }
}

impl Doctor {
    /// Looks at everything.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let flags = Flags {
            file: self.config.clone(),
            ..Flags::default()
        };
        let mut findings = vec![git(), shell("sh", Verdict::Fail), shell("bash", Verdict::Warn)];
        findings.push(supervisor());
        findings.push(time());
        findings.extend(configured(&flags));
        findings.push(self.server());
        match output {
            Output::Text => findings.iter().for_each(show),
            Output::Json => {
                let all: Vec<_> = findings.iter().map(to_json).collect();
                term::say(serde_json::to_string_pretty(&all).or_fail("write the findings")?);
            }
        }
        let broken = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
        Ok(if broken { Exit::Usage } else { Exit::Done })
    }

    fn server(&self) -> Finding {
        let address = self.remote.address();
        let asked = runtime::block_on(client::ready(&address));
        match asked {
            Ok(()) => Finding::ok("server", format!("{address} is ready")),
            Err(failure) => {
                let hint = failure
                    .hint
                    .unwrap_or_else(|| "`pipe server` starts one".to_owned());
                Finding::bad(
                    "server",
                    Verdict::Warn,
                    failure.message,
                    format!("only needed for commands that talk to a server: {hint}"),
                )
            }
        }
    }
}

fn git() -> Finding {
    const HINT: &str = "install git 2.30 or newer: `apt-get install git`";
    let Ok(output) = Command::new("git").arg("--version").output() else {
        return Finding::bad("git", Verdict::Fail, "git is not there", HINT);
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().trim_start_matches("git version ");
    let mut numbers = version.split('.').filter_map(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST_GIT {
        Finding::ok("git", version)
    } else {
        Finding::bad("git", Verdict::Fail, format!("`{version}` is too old"), HINT)
    }
}

fn shell(name: &'static str, otherwise: Verdict) -> Finding {
    let works = Command::new(name)
        .args(["-c", "exit 0"])
        .status()
        .is_ok_and(|status| status.success());
    if works {
        Finding::ok(name, "works")
    } else {
        Finding::bad(
            name,
            otherwise,
            "does not work",
            "actions with this shell will not run",
        )
    }
}

fn supervisor() -> Finding {
    match std::env::current_exe() {
        Ok(path) if path.exists() => Finding::ok("backend", format!("local, by {}", path.display())),
        Ok(_) | Err(_) => Finding::bad(
            "backend",
            Verdict::Fail,
            "this program's own file is gone",
            "was it replaced while running? start it again",
        ),
    }
}

fn time() -> Finding {
    if clock::now().0 >= OLDEST_PLAUSIBLE {
        Finding::ok("clock", "plausible")
    } else {
        Finding::bad(
            "clock",
            Verdict::Fail,
            "stands before 2025",
            "set it: deadlines and certificates depend on it",
        )
    }
}

fn configured(flags: &Flags) -> Vec<Finding> {
    let config = match config::load(flags) {
        Ok(config) => config,
        Err(failure) => {
            return vec![Finding::failed(
                "config",
                failure,
                "`config.example.toml` shows every key",
            )];
        }
    };
    let projects = Finding::ok("config", format!("{} projects", config.projects.len()));
    let mut findings = vec![projects, writable(&config.data_dir), space(&config.data_dir)];
    match runtime::block_on(async { Ok(clusters(&config).await) }) {
        Ok(found) => findings.extend(found),
        Err(failure) => findings.push(Finding::failed(
            "cluster",
            failure,
            "nothing was asked of any cluster",
        )),
    }
    findings
}

/// Whether the namespaces of the clusters open to the server that has this configuration.
async fn clusters(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cluster in &config.clusters {
        let name = &cluster.options.name;
        if let Some(options) = &cluster.object_store {
            findings.push(object_store(name, options).await);
        }
        let bad = |text: String, hint: String| Finding::bad("cluster", Verdict::Fail, text, hint);
        let namespaces = match server::inspect(config, cluster).await {
            Ok(namespaces) => namespaces,
            Err(failure) => {
                let hint = failure
                    .hint
                    .unwrap_or_else(|| "its `kubeconfig` and `context` say how it is reached".to_owned());
                findings.push(bad(format!("{name}: {}", failure.message), hint));
                continue;
            }
        };
        for (namespace, found) in namespaces {
            findings.push(match found {
                Ok(NamespaceState::Open) => {
                    Finding::ok("cluster", format!("{name}: `{namespace}` is open to us"))
                }
                Ok(NamespaceState::Absent) => Finding::ok(
                    "cluster",
                    format!("{name}: `{namespace}` will be made when it is needed"),
                ),
                Err(error) => bad(
                    format!("{name}: `{namespace}`: {error}"),
                    "create the namespace if it is missing, and grant the role in deploy/kubernetes"
                        .to_owned(),
                ),
            });
        }
    }
    findings
}

/// Whether an object store answers, and knows bucket and key.
async fn object_store(cluster: &Name, options: &StoreOptions) -> Finding {
    let listed = match ObjectStore::new(options) {
        Ok(store) => match store.list().await {
            // Where an object may not be asked after, none becomes a cache.
            Ok(_) => store
                .head(&format!("{}no-such-object", store.prefix()))
                .await
                .map(drop),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match listed {
        Ok(()) => Finding::ok("store", format!("{cluster}: the object store is open to us")),
        Err(error) => Finding::bad(
            "store",
            Verdict::Fail,
            format!("{cluster}: failed to {error}"),
            "see that its bucket is there, and that its key may put, get, list and remove objects",
        ),
    }
}

fn writable(folder: &Path) -> Finding {
    let tried = folders::make(folder)
        .map_err(|failure| failure.message)
        .and_then(|()| tempfile::tempfile_in(folder).map_err(|error| error.to_string()));
    match tried {
        Ok(_) => Finding::ok("data", format!("{} is writable", folder.display())),
        Err(error) => Finding::bad(
            "data",
            Verdict::Fail,
            error,
            "choose another with `--data-dir`, PIPE_DATA_DIR or `data_dir`",
        ),
    }
}

fn space(folder: &Path) -> Finding {
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    match rustix::fs::statvfs(&real) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize) / MIB;
            if free >= 1024 {
                Finding::ok("disk", format!("{free} MiB free"))
            } else {
                Finding::bad(
                    "disk",
                    Verdict::Warn,
                    format!("only {free} MiB free"),
                    "builds may need more",
                )
            }
        }
        Err(error) => Finding::bad(
            "disk",
            Verdict::Warn,
            error.to_string(),
            "make the data folder first",
        ),
    }
}

fn word(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Ok => ("ok", Tone::Good),
        Verdict::Warn => ("warn", Tone::Attention),
        Verdict::Fail => ("fail", Tone::Bad),
    }
}

fn show(finding: &Finding) {
    let paint = Paint::for_stdout();
    let (word, tone) = word(finding.verdict);
    term::say(format_args!(
        "{} {:<8} {}",
        paint.tone(tone, format_args!("{word:<4}")),
        finding.what,
        finding.text
    ));
    if let Some(hint) = &finding.hint {
        term::say(format_args!("              {}", paint.tone(Tone::Faint, hint)));
    }
}

fn to_json(finding: &Finding) -> serde_json::Value {
    json!({
        "what": finding.what,
        "verdict": word(finding.verdict).0,
        "text": finding.text,
        "hint": finding.hint,
    })
}
