//! A world for the local backend, with real supervisors.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use pipekeeper_backend::{
    AgentProgram, Backend, LocalBackend, LocalOptions, Observation,
    suite::{Act, World},
};
use pipekeeper_model::AttemptId;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A folder of its own; deleted at the end.
pub(crate) struct LocalWorld {
    folder: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) program: PathBuf,
}

impl LocalWorld {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        Self {
            folder,
            root,
            program: PathBuf::from(env!("CARGO_BIN_EXE_test-agent")),
        }
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }
}

impl World for LocalWorld {
    fn open(&self) -> (Arc<dyn Backend>, UnboundedReceiver<Observation>) {
        let (on_observation, observations) = unbounded_channel();
        let backend = LocalBackend::new(LocalOptions {
            root: self.root.clone(),
            artifacts: self.artifacts(),
            agent: AgentProgram {
                program: self.program.clone(),
                args: vec!["agent".to_owned()],
            },
            host_env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]),
            attempts: pipekeeper_backend::usual_attempts(),
            on_observation,
        });
        (Arc::new(backend), observations)
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn text(&self, act: Act) -> String {
        let act = match act {
            Act::Succeed => "true".to_owned(),
            Act::Fail(code) => format!("exit {code}"),
            Act::Hang => "sleep 1000".to_owned(),
        };
        format!("echo started >> \"$STARTS\"\n{act}\n")
    }

    fn starts(&self, attempt: AttemptId) -> u32 {
        let file = self.folder.path().join(format!("{attempt}.starts"));
        let lines = std::fs::read_to_string(file).unwrap_or_default().lines().count();
        u32::try_from(lines).unwrap()
    }
}
