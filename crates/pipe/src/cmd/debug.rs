//! `pipe debug`: a shell where a step of an action began, or in what a local run left.

use clap::Args;
use pipekeeper_backend::LocalBackend;

use crate::{
    cli::Remote,
    client::{Client, Target},
    debug::{Kept, Pod, open_folder, open_kept, open_remote, release},
    failure::{Exit, Failure},
    local::{KeptRun, kept_runs},
    runtime, term,
};

const LONG: &str = "\
Where the server holds the pod of an action whose step failed (`hold` of its cluster's configuration), the shell opens in \
that very pod, as the step left it, with the step's folder, HOME and variables. The pod stays until its time is over; \
`--release` lets it go before.

Otherwise, with `--new` or another `--step`, and for a local run in containers (`pipe run --keep` with `--context` or `--backend docker`), \
new containers are made like the action's, from the same source, images, artifacts and caches. The steps before run once \
more; where the failing one would begin, a shell opens instead: with its folder, HOME and variables, without secrets. \
Nothing of it counts for the run, and it is removed when the shell ends.";

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = LONG)]
pub(crate) struct Debug {
    /// RUN/ACTION of the server, or an ACTION of the newest local run that was kept
    #[arg(value_name = "RUN/ACTION")]
    target: Target,
    /// Stand before this step; by default before the one that failed
    #[arg(long, value_name = "STEP", conflicts_with = "print")]
    step: Option<String>,
    /// Make a new pod that stands before the step, even if that of the action is held
    #[arg(long, conflicts_with = "print")]
    new: bool,
    /// Let the held pod of the action go before its time, and open no shell
    #[arg(long, conflicts_with_all = ["print", "step", "new"])]
    release: bool,
    /// Print the folder of a local run's action instead of opening a shell in it
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Debug {
    /// Opens the shell.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let action = self.target.action.ok_or_else(|| {
            Failure::usage("`pipe debug` wants an action")
                .hint("write `pipe debug RUN/ACTION`; `pipe show RUN` lists them")
        })?;
        let step = self.step.as_deref();
        let Some(run) = self.target.run else {
            if self.release {
                return Err(Failure::usage("no pod of a local run is held")
                    .hint("name the server's run: `pipe debug --release RUN/ACTION`"));
            }
            if self.new {
                return Err(Failure::usage("a local run has no pod that is held")
                    .hint("leave `--new` out, or name the server's run: `pipe debug --new RUN/ACTION`"));
            }
            return open_local(&action, step, self.print);
        };
        if self.print {
            return Err(Failure::usage("only a local run has a folder to print")
                .hint("leave the run's number or `--print` out"));
        }
        let client = Client::new(&self.remote)?;
        if self.release {
            return runtime::block_on(release(&client, run, &action));
        }
        let pod = if self.new { Pod::New } else { Pod::Held };
        runtime::block_on(open_remote(&client, run, &action, (step, pod)))
    }
}

/// Looks into the newest local run that was kept.
fn open_local(action: &str, step: Option<&str>, print: bool) -> Result<Exit, Failure> {
    let runs = kept_runs()?;
    let newest = runs.last().ok_or_else(|| {
        Failure::not_found("no local run was kept").hint(
            "run it again with `pipe run --keep`; an action of a server's run is named `pipe debug RUN/ACTION`",
        )
    })?;
    let names: Vec<&str> = newest.actions.iter().map(|(name, _)| name.as_str()).collect();
    if !names.contains(&action) {
        return Err(
            Failure::not_found(format!("the newest kept run has no action `{action}`"))
                .hint(format!("it ran: {}", names.join(", "))),
        );
    }
    if Kept::is_in(&newest.root) {
        if print {
            return Err(Failure::usage("that run was in containers: there is no folder"));
        }
        return open_kept(&newest.root, &newest.source(), action, step);
    }
    if step.is_some() {
        return Err(Failure::usage("`--step` is for runs in containers")
            .hint("the workspace is as the action left it; leave `--step` out"));
    }
    let folder = folder_of(newest, action)?;
    if print {
        term::say(folder.join("workspace").display());
        return Ok(Exit::Done);
    }
    open_folder(&folder)
}

/// The folder that an action of a run left.
fn folder_of(run: &KeptRun, action: &str) -> Result<std::path::PathBuf, Failure> {
    let attempt = (run.actions.iter()).find_map(|(name, attempt)| (name == action).then_some(*attempt));
    let folder = attempt.map(|attempt| LocalBackend::kept_folder(&run.root, attempt));
    folder
        .filter(|folder| folder.join("workspace").is_dir())
        .ok_or_else(|| Failure::not_found(format!("the workspace of `{action}` is not there any more")))
}
