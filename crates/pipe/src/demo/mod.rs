//! `pipe demo`: a push becomes a run, with everything real (git, webhook, SQLite, processes, HTTP), in a throw-away folder.

mod check;
mod repository;
mod story;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use pipekeeper_controller::{News, Patterns, Project, Retention, caches::CacheQuota};
use pipekeeper_engine::Fact;
use pipekeeper_forge::{ForgeKind, HookSecret};
use pipekeeper_server::Exposure;
use pipekeeper_source::{Repository, RepositoryUrl};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{broadcast, oneshot},
};

use self::{repository::Repositories, story::Story};
use crate::{
    client::Client,
    cmd::demo::{Approver, Demo},
    config::{ARTIFACT_LIMIT, Config, Database, Log, PlaceConfig, ProjectConfig},
    failure::{Exit, Failure, OrFail},
    folders,
    server::{self, Started, tokens},
    term::{self, Paint, Tone},
};

/// How long a cancelled run may take to end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(15);

/// The demo's one project.
const PROJECT: &str = "tally";

/// Shows it all; the folder goes with it, unless it is to be kept.
pub(crate) async fn show(options: Demo) -> Result<Exit, Failure> {
    let place = Place::make(options.keep.as_deref())?;
    let exit = play(&options, &place.root).await?;
    if options.keep.is_some() {
        say("kept", place.root.display());
    }
    Ok(exit)
}

/// The demo's folder.
struct Place {
    root: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn make(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(folder) = keep else {
            let temporary = tempfile::Builder::new()
                .prefix("pipe-demo-")
                .tempdir()
                .or_usage("make a folder for the demo")?;
            return Ok(Self {
                root: temporary.path().to_owned(),
                _temporary: Some(temporary),
            });
        };
        folders::make(folder)?;
        let mut entries = fs::read_dir(folder).or_usage(format_args!("read `{}`", folder.display()))?;
        if entries.next().is_some() {
            return Err(Failure::usage(format!("`{}` is not empty", folder.display()))
                .hint("name a folder that is empty or not there yet"));
        }
        Ok(Self {
            root: fs::canonicalize(folder).or_usage(format_args!("find `{}`", folder.display()))?,
            _temporary: None,
        })
    }
}

async fn play(options: &Demo, root: &Path) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    say("folder", root.display());
    let secret = tokens::random()?;
    let repositories = Repositories::make(root).await?;
    say(
        "git",
        format_args!("a bare repository, {}", repositories.bare().display()),
    );
    let config = config(options, root, repositories.bare(), &secret)?;
    let started = server::start(&config, None).await?;
    say("server", format_args!("SQLite in {}", config.data_dir.display()));
    say("page", format_args!("{}/", started.url()));
    let hook_url = hook_url(&started)?;
    repositories.set_hook(&hook_url, &secret)?;
    let client = Client::with_token(&started.url(), Some(started.admin.reveal().to_owned()), None)?;
    let story = Story {
        news: started.listen(),
        server: started.url(),
        token: started.admin.reveal().to_owned(),
        client: client.clone(),
    };
    let layout = started.layout.clone();
    let ends = started.listen();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // The sender going away means the same.
        let _ = stopped.await;
    };
    let serving = tokio::spawn(started.serve(stopped, None));
    let told = tokio::select! {
        told = tell(options, &repositories, story, &client, &layout) => told,
        () = signals.next() => {
            end_runs(&client, ends).await;
            Ok(Exit::Interrupted)
        }
    };
    if matches!(told, Ok(Exit::Done | Exit::RunFailed)) && !options.exit {
        say("open", "the server stays until Ctrl-C");
        signals.next().await;
    }
    drop(stop);
    serving
        .await
        .map_err(|error| Failure::ours(format!("the server broke: {error}")))??;
    told
}

/// Cancels what runs, so that nothing works on in a folder that goes away.
async fn end_runs(client: &Client, mut ends: broadcast::Receiver<News>) {
    // A run that is not there or has ended needs no cancel.
    let path = ["runs", "1", "cancel"];
    if client.post(&path, &serde_json::json!({})).await.is_err() {
        return;
    }
    let ended = async {
        while let Ok(news) = ends.recv().await {
            if let News::Run { events, .. } = news
                && events
                    .iter()
                    .any(|event| matches!(event.fact, Fact::RunFinished { .. }))
            {
                break;
            }
        }
    };
    if tokio::time::timeout(CANCEL_PATIENCE, ended).await.is_err() {
        term::warn("the run does not end; its processes may work on for a while");
    }
}

/// Pushes, follows the run to its end, and compares what is left with what must be.
async fn tell(
    options: &Demo,
    repositories: &Repositories,
    story: Story,
    client: &Client,
    layout: &pipekeeper_controller::Layout,
) -> Result<Exit, Failure> {
    let pushed = repositories.push().await?;
    say(
        "push",
        format_args!("commit {} to main: {}", pushed.sha.short(), pushed.answer),
    );
    let run = story.follow(options.approve).await?;
    let checks = check::all(client, layout, run, &pushed).await?;
    let failed = checks.iter().filter(|check| check.problem.is_some()).count();
    let paint = Paint::for_stdout();
    for check in &checks {
        match &check.problem {
            None => say(
                "check",
                format_args!("{} {}", paint.tone(Tone::Good, "✓"), check.what),
            ),
            Some(problem) => say(
                "check",
                format_args!("{} {}: {problem}", paint.tone(Tone::Bad, "✗"), check.what),
            ),
        }
    }
    if failed == 0 {
        say(
            "done",
            format_args!("{} checks, all as they must be", checks.len()),
        );
        Ok(Exit::Done)
    } else {
        say("done", format_args!("{failed} of {} checks failed", checks.len()));
        Ok(Exit::RunFailed)
    }
}

fn config(options: &Demo, root: &Path, bare: &Path, secret: &str) -> Result<Config, Failure> {
    let name: pipekeeper_model::Name = PROJECT.parse().or_fail("name the project")?;
    let main = "main".to_owned();
    Ok(Config {
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), options.port),
        exposure: Exposure::Loopback,
        artifact_host: None,
        data_dir: root.join("server"),
        oidc: None,
        master_key_file: root.join("master-keys"),
        database: Database::Sqlite,
        log: Log::default(),
        local_attempts: pipekeeper_backend::usual_attempts(),
        artifact_limit: ARTIFACT_LIMIT,
        retention: Retention::default(),
        retention_of: Some(BTreeMap::new()),
        caches: CacheQuota::default(),
        kinds: None,
        agent_image: None,
        lending: Default::default(),
        clusters: Vec::new(),
        projects: vec![ProjectConfig {
            place: PlaceConfig::Local,
            secrets: BTreeMap::new(),
            project: Project {
                repository: Repository {
                    name: name.clone(),
                    url: RepositoryUrl::from_path(bare).or_fail("name the repository")?,
                },
                name,
                forge: ForgeKind::Gitea,
                trusted: true,
                default_branch: main.clone(),
                protected_branches: Patterns::new(&[main]),
                protected_tags: Patterns::default(),
            },
            secret: Ok(HookSecret::new(secret).or_fail("use the secret")?),
        }],
    })
}

fn hook_url(started: &Started) -> Result<String, Failure> {
    let path = started
        .hooks
        .values()
        .next()
        .ok_or_else(|| Failure::ours("the demo's project has no webhook"))?;
    Ok(format!("{}{path}", started.url()))
}

/// A line of the story.
fn say(what: &str, text: impl std::fmt::Display) {
    let paint = Paint::for_stdout();
    term::say(format_args!(
        "{} {text}",
        paint.tone(Tone::Strong, format_args!("{what:<8}"))
    ));
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).or_fail("listen for signals")?,
            terminate: signal(SignalKind::terminate()).or_fail("listen for signals")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Says which approver is wanted, for those who wait.
fn is_automatic(approver: Approver) -> bool {
    match approver {
        Approver::Auto => true,
        Approver::Ask => false,
    }
}
