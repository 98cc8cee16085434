//! A shell in containers of the user's own cluster or engine, for a run that was kept. Entry type: [`Kept`].

use std::path::Path;

use pipekeeper_backend::{DebugOrder, KeepWorkspace, LaunchError, Told};
use pipekeeper_controller::{Hold, Layout};
use pipekeeper_engine::{Run, Snapshot};
use pipekeeper_model::Millis;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{OnceCell, mpsc},
};

use super::OPEN;
use crate::{
    console,
    failure::{Exit, Failure, OrFail},
    folders,
    local::{LocalSupplies, pods::Containers, secrets::Secrets},
    runtime, term,
};

const FILE: &str = "containers.json";
/// How long the shell may be open.
const LIMIT: Millis = Millis::hours(1);

/// What is known of a run in containers after its end; no secret is in it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    run: Snapshot,
    containers: Containers,
}

impl Kept {
    /// Writes it down in the run's folder.
    pub(crate) fn write(root: &Path, run: &Run, containers: &Containers) -> Result<(), Failure> {
        let kept = Self {
            run: Snapshot::from(run),
            containers: containers.clone(),
        };
        let text = serde_json::to_string(&kept).or_fail("write down the run")?;
        folders::write_private(&root.join(FILE), &text)
    }

    /// Whether a run's folder has one.
    pub(crate) fn is_in(root: &Path) -> bool {
        root.join(FILE).is_file()
    }

    fn read(root: &Path) -> Result<Self, Failure> {
        let path = root.join(FILE);
        let doing = format!("read `{}`", path.display());
        let text = std::fs::read(&path).or_fail(&doing)?;
        serde_json::from_slice(&text).or_fail(&doing)
    }
}

/// Opens the shell, in the place of a step of an action of the run in this folder. `source` is the tree that it ran on.
pub(crate) fn open(root: &Path, source: &Path, action: &str, step: Option<&str>) -> Result<Exit, Failure> {
    console::check()?;
    let Kept { run, containers } = Kept::read(root)?;
    let run = Run::from(run);
    let plan = run.plan();
    let found = plan.and_then(|plan| plan.ids().zip(&plan.nodes).find(|(_, node)| node.name == action));
    let (node, _) = found.ok_or_else(|| Failure::not_found(format!("the run has no action `{action}`")))?;
    let hold = Hold::of(&run, node, step)
        .map_err(|error| Failure::usage(format!("cannot look into `{action}`: {error}")))?;
    let supplies = LocalSupplies {
        folder: source.to_owned(),
        secrets: Secrets::default(),
        is_far: true,
        archive: OnceCell::new(),
        keep_workspace: KeepWorkspace::Never,
    };
    let layout = Layout::new(root);
    runtime::block_on(async {
        let mut interrupts = signal(SignalKind::interrupt()).or_fail("listen for signals")?;
        term::note(format_args!("`{action}`: {}", hold.note()));
        let (on_observation, _observations) = mpsc::unbounded_channel();
        let (backend, _mark) = containers
            .backend(root.join("sessions"), &layout, on_observation)
            .await?;
        let launch = hold.launch(&run, &supplies, &layout).await.map_err(refused)?;
        let (teller, mut told) = mpsc::channel(16);
        let opening = backend.debug(DebugOrder {
            launch,
            limit: LIMIT,
            size: console::size(),
            term: console::name(),
            told: teller,
        });
        tokio::pin!(opening);
        let mut is_wanted = true;
        let opened = loop {
            tokio::select! {
                biased;
                Some(told) = told.recv() => show(&told),
                opened = &mut opening => break opened,
                // Its end is awaited, because it removes what was made.
                _ = interrupts.recv(), if is_wanted => {
                    is_wanted = false;
                    told.close();
                }
            }
        };
        if !is_wanted {
            if let Ok(terminal) = opened {
                terminal.end().await;
            }
            return Ok(Exit::Interrupted);
        }
        let mut terminal = opened.map_err(refused)?;
        term::note(OPEN);
        let exit = console::connect(&mut terminal.stream, terminal.sizes.clone()).await;
        term::note("what the shell ran in is removed");
        terminal.end().await;
        exit
    })
}

/// Shows what happens before the shell opens.
fn show(told: &Told) {
    match told {
        Told::Note(text) => term::note(term::clean(text)),
        Told::Log(bytes) => term::put(bytes),
    }
}

fn refused(error: LaunchError) -> Failure {
    match error {
        LaunchError::Transient { reason } | LaunchError::Occupied { reason } => Failure::ours(reason),
        LaunchError::Terminal { reason } => Failure::new(Exit::RunFailed, reason),
    }
}
