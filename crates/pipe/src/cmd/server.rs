//! `pipe server`.

use std::{
    env,
    net::TcpListener,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args;
use futures_util::FutureExt as _;
use rustix::io::FdFlags;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{self, Config, Flags, Log, LogFormat},
    failure::{Exit, Failure, OrFail},
    runtime,
    server::{self, Closed},
    term::{self, Paint, Tone},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The configuration; by default /etc/pipekeeper/config.toml, if it is there
    #[arg(long, env = "PIPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The folder of everything that the server keeps
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Server {
    /// Serves until it is told to stop.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let flags = Flags {
            file: self.config,
            listen: self.listen,
            data_dir: self.data_dir,
        };
        let config = config::load(&flags)?;
        start_logging(&config.log)?;
        let handed = server::address::handed()?;
        // Once a newer release has taken its place, the running program has no path any more.
        let program = env::current_exe().or_fail("find this program")?;
        let (left, closed) = runtime::block_on_all_cores(async move {
            let mut told = Told::listen()?;
            // Whoever tells while it puts everything down is heard afterwards.
            let mut told_late = Told::listen()?;
            let Some(started) = begin(&config, handed, &mut told).await? else {
                return Ok((None, Closed::Stopped));
            };
            greet(&started);
            let left = Left {
                socket: started.socket()?,
                folder: started.folder_digest(),
            };
            let stop = async move {
                told.recv().await;
                term::note("stopping; what runs works on and is found again at the next start");
            };
            let closed = started.serve(stop, Some(flags)).await?;
            if told_late.recv().now_or_never().is_some() {
                return Ok((None, Closed::Stopped));
            }
            Ok::<_, Failure>((Some(left), closed))
        })?;
        match (closed, left) {
            (Closed::Outdated, Some(left)) => Err(begin_anew(&program, &left)),
            (Closed::Stopped | Closed::Outdated, _) => Ok(Exit::Done),
        }
    }
}

/// The signals that end a server.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).or_fail("listen for signals")?,
            interrupt: signal(SignalKind::interrupt()).or_fail("listen for signals")?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What is left of a server for the one that it becomes.
struct Left {
    socket: OwnedFd,
    /// Stands for the folder of documents that it applied.
    folder: String,
}

/// How long one that begins anew waits before it tries again.
const PAUSE: Duration = Duration::from_secs(2);

/// Starts the server; none if it is told to end before it could. One that begins anew served a moment ago, and what is in its
/// way now may pass: it keeps its socket, on which whoever connects waits, and tries again.
async fn begin(
    config: &Config,
    handed: Option<TcpListener>,
    told: &mut Told,
) -> Result<Option<server::Started>, Failure> {
    loop {
        let socket = handed.as_ref().map(TcpListener::try_clone).transpose();
        let failure = match server::start(config, socket.or_fail("keep the socket")?).await {
            Ok(started) => return Ok(Some(started)),
            Err(failure) => failure,
        };
        if env::var_os(server::BEGUN_ANEW).is_none() {
            return Err(failure);
        }
        tracing::error!("cannot begin anew yet: {failure}");
        tokio::select! {
            () = told.recv() => return Ok(None),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Becomes a new server in the same process, as it was started: nothing is left of what this one had in memory or under way but
/// the socket, on which whoever connects meanwhile waits.
fn begin_anew(program: &Path, Left { socket, folder }: &Left) -> Failure {
    if let Err(error) = rustix::io::fcntl_setfd(socket, FdFlags::empty()) {
        return Failure::ours(format!("failed to keep the socket: {error}"));
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "pipe".into());
    let program = if program.exists() {
        program
    } else {
        Path::new("/proc/self/exe")
    };
    let error = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env(server::BEGUN_ANEW, "1")
        .env(server::FOLDER, folder)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS_FIRST_FD", socket.as_raw_fd().to_string())
        .exec();
    Failure::ours(format!("failed to begin anew: {error}"))
}

fn greet(started: &server::Started) {
    let paint = Paint::for_stderr();
    let line = |what: &str, text: String| {
        term::note(format_args!(
            "{} {text}",
            paint.tone(Tone::Strong, format_args!("{what:<8}"))
        ));
    };
    line("page", format!("{}/", started.url()));
    line(
        "token",
        format!(
            "{} (`pipe token --data-dir {}` prints it)",
            started.admin_file.display(),
            started.layout.root().display()
        ),
    );
    if let Some(key) = &started.first_link {
        line(
            "first",
            format!("{}/setup?key={key}  (makes the first admin, once)", started.url()),
        );
    }
    for (project, path) in &started.hooks {
        line("webhook", format!("{}{path}  ({project})", started.url()));
    }
    if started.hooks.is_empty() {
        term::note("there is no project yet: `pipe apply` makes one of a document, see docs/documents.md");
    }
}

/// Logs go to stderr. `RUST_LOG` is not read: there is one place for settings.
fn start_logging(log: &Log) -> Result<(), Failure> {
    let level = log.level.as_deref().unwrap_or("info");
    // The client calls a stream that is tried a moment too early an error.
    let quieter = format!("kube_client::client::builder=off,{level}");
    let filter = EnvFilter::try_new(quieter).map_err(|error| {
        Failure::usage(format!("`log.level` is `{level}`: {error}"))
            .hint("write error, warn, info, debug, trace, or a filter such as `info,pipekeeper_source=debug`")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(Paint::for_stderr() == Paint::Always).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
