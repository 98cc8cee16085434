//! `pipe server`.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{self, Flags, Log, LogFormat},
    failure::{Exit, Failure, OrFail},
    runtime, server,
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
        let config = config::load(&Flags {
            file: self.config,
            listen: self.listen,
            data_dir: self.data_dir,
        })?;
        start_logging(&config.log)?;
        runtime::block_on_all_cores(async move {
            let mut terminate = signal(SignalKind::terminate()).or_fail("listen for signals")?;
            let mut interrupt = signal(SignalKind::interrupt()).or_fail("listen for signals")?;
            let started = server::start(&config).await?;
            greet(&started);
            started
                .serve(async move {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    term::note("stopping; what runs works on and is found again at the next start");
                })
                .await
        })?;
        Ok(Exit::Done)
    }
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
        term::note("no project is configured: see config.example.toml");
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
