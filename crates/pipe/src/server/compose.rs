//! Puts a server together from its configuration.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use pipekeeper_backend::{LocalBackend, LocalOptions};
use pipekeeper_controller::{
    Clock as _, Controller, EngineRules, GitIntake, GitSupplies, Handle, Layout, News, Ports, Projects,
};
use pipekeeper_model::Name;
use pipekeeper_server::{
    AccessToken, Exposure, FixedProjects, HookProject, Limits, RegisteredPeople, ServeError, ServerParts,
    first_link, serve,
};
use pipekeeper_source::{GitSource, Source};
use pipekeeper_store::{Registry, Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc},
    task::JoinHandle,
};

use super::{
    address, clusters,
    database::{self, Opened},
    objects,
    secrets::FileSecrets,
    tokens,
    trees::SentTrees,
};
use crate::{
    clock::SystemClock,
    config::{Config, ProjectConfig},
    failure::{Failure, OrFail, chain},
    folders,
    local::{host_variables, session::agent_program},
};

/// How long the controller may take to put down what it has in hand.
const CONTROLLER_DRAIN: Duration = Duration::from_secs(3);

/// A server that is about to serve.
pub(crate) struct Started {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The token that unsafe requests want.
    pub(crate) admin: AccessToken,
    /// The file of that token.
    pub(crate) admin_file: PathBuf,
    /// The key of the link that makes the first admin, as long as there is nobody.
    pub(crate) first_link: Option<String>,
    /// The path of each project's webhook address.
    pub(crate) hooks: BTreeMap<Name, String>,
    /// Where its files are.
    pub(crate) layout: Layout,
    parts: ServerParts,
    listener: TcpListener,
    store: Arc<dyn Store>,
    handle: Handle,
    controller: JoinHandle<Result<(), StoreError>>,
}

/// Opens everything that the configuration names; whatever is wrong with it is found here.
pub(crate) async fn start(config: &Config) -> Result<Started, Failure> {
    let listener = address::bind(config.listen, &config.exposure).await?;
    let address = listener.local_addr().or_fail("find the address")?;
    folders::make(&config.data_dir)?;
    let Opened { store, registry } = database::open(&config.data_dir, &config.database).await?;
    let source: Arc<dyn Source> =
        Arc::new(GitSource::open(&config.data_dir.join("git")).or_usage("use git")?);
    let admin = tokens::admin(&config.data_dir)?;
    let hook_tokens = tokens::hooks(
        &config.data_dir,
        config.projects.iter().map(|one| &one.project.name),
    )?;
    let layout = Layout::new(&config.data_dir);
    let trees = Arc::new(SentTrees::open(&config.data_dir.join("trees"), &config.projects)?);
    let sources = (source, trees.source());
    let (controller, handle) = controller(config, (&store, &registry), sources, &layout).await?;
    let first_link = first_link(registry.as_ref(), SystemClock.now())
        .await
        .or_fail("make the link for the first admin")?;
    let parts = ServerParts {
        store: Arc::clone(&store),
        registry,
        exposure: config.exposure.clone(),
        handle: handle.clone(),
        layout: layout.clone(),
        projects: Arc::new(FixedProjects::new(hook_projects(config, &hook_tokens))),
        trees,
        admin_token: admin.clone(),
        clock: Arc::new(SystemClock),
        cache_quota: config.caches,
        limits: Limits::default(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let hooks = config
        .projects
        .iter()
        .filter_map(|one| {
            let token = hook_tokens.get(&one.project.name)?;
            Some((one.project.name.clone(), format!("/hooks/{token}")))
        })
        .collect();
    Ok(Started {
        address,
        admin,
        admin_file: tokens::admin_file(&config.data_dir),
        first_link,
        hooks,
        layout,
        parts,
        listener,
        store,
        handle,
        controller: tokio::spawn(controller.run()),
    })
}

async fn controller(
    config: &Config,
    (store, registry): (&Arc<dyn Store>, &Arc<dyn Registry>),
    (source, trees): (Arc<dyn Source>, Arc<dyn Source>),
    layout: &Layout,
) -> Result<(Controller, Handle), Failure> {
    let (on_observation, observations) = mpsc::unbounded_channel();
    let local = LocalBackend::new(LocalOptions {
        root: config.data_dir.clone(),
        artifacts: layout.artifacts(),
        agent: agent_program()?,
        host_env: host_variables(),
        on_observation: on_observation.clone(),
    });
    let stores = objects::open(config)?;
    let backend = clusters::router(config, layout, Arc::new(local), &stores, &on_observation).await?;
    let secrets = Arc::new(FileSecrets::new(&config.projects));
    let projects = Arc::new(Projects::new(
        config.projects.iter().map(|one| one.project.clone()),
    ));
    let store = Arc::clone(store);
    let intake = GitIntake::new(
        Arc::clone(&projects),
        Arc::clone(&source),
        Arc::clone(&trees),
        Arc::clone(&store),
    );
    Ok(Controller::new(Ports {
        store,
        backend: Arc::new(backend),
        observations,
        supplies: Arc::new(GitSupplies::new(projects, source, trees, secrets)),
        intake: Some(Arc::new(intake)),
        people: Arc::new(RegisteredPeople::new(Arc::clone(registry))),
        clock: Arc::new(SystemClock),
        rules: Arc::new(EngineRules),
        layout: layout.clone(),
        cache_quota: Some(config.caches),
        cache_stores: objects::keepers(&stores),
    }))
}

fn hook_projects(config: &Config, tokens: &BTreeMap<Name, String>) -> Vec<(String, HookProject)> {
    let hook = |one: &ProjectConfig| {
        let token = tokens.get(&one.project.name)?;
        let project = HookProject {
            name: one.project.name.clone(),
            forge: one.project.forge,
            secret: one.secret.clone(),
        };
        Some((token.clone(), project))
    };
    config.projects.iter().filter_map(hook).collect()
}

impl Started {
    /// The address of its pages, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        match &self.parts.exposure {
            Exposure::Loopback => format!("http://{}", self.address),
            Exposure::Proxied { host } => format!("https://{host}"),
        }
    }

    /// What happens from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<News> {
        self.handle.listen()
    }

    /// Serves until `shutdown`, then puts everything down in order; attempts work on.
    pub(crate) async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut controller = self.controller;
        let serving = tokio::spawn(serve(self.listener, self.parts, shutdown));
        let served = tokio::select! {
            served = serving => served.map_err(|error| Failure::ours(format!("the server broke: {error}")))?,
            ended = &mut controller => return Err(controller_ended(ended)),
        };
        self.handle.drain().await;
        if tokio::time::timeout(CONTROLLER_DRAIN, &mut controller)
            .await
            .is_err()
        {
            // What it had in hand is found again at the next start.
            controller.abort();
        }
        self.store.close().await;
        served.map_err(|error: ServeError| Failure::ours(format!("failed to {}", chain(&error))))
    }
}

fn controller_ended(ended: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::ours("the controller ended"),
        Ok(Err(error)) => Failure::ours(format!("failed to {}", chain(&error))),
        Err(error) => Failure::ours(format!("the controller broke: {error}")),
    }
}
