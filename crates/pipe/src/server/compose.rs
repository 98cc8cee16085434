//! Puts a server together from its configuration.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use pipekeeper_backend::{LocalBackend, LocalOptions};
use pipekeeper_controller::{
    Clock as _, Controller, Ending, EngineRules, GitIntake, GitSupplies, Handle, Layout, News, Pace, Ports,
    Projects, SecretSource, Sharing, Upkeep,
};
use pipekeeper_model::Name;
use pipekeeper_server::{
    AccessToken, Composer, Exposure, FixedProjects, HookProject, HookSeal, KeptEnvironments, Limits, Oidc,
    RegisteredPeople, ServeError, ServerParts, Unusable, Vault, first_link, serve,
};
use pipekeeper_source::{GitSource, Source};
use pipekeeper_store::{Lease, Registry, Store, StoreError};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot},
    task::{JoinError, JoinHandle},
};

use super::{
    address,
    clusters::{self, Hosts},
    composing::{Composing, Kept},
    database::{self, Opened},
    lender::ServerLender,
    objects,
    secrets::FileSecrets,
    terms::ServerTerms,
    tokens,
    trees::SentTrees,
};
use crate::{
    clock::SystemClock,
    config::{self, Config, Flags},
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
    composing: Arc<Composing>,
    kept: Kept,
    controller: JoinHandle<Result<Ending, StoreError>>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// As it was told to.
    Stopped,
    /// It must begin anew: another server performs in its place, or documents changed.
    Outdated,
}

/// Opens everything that the configuration names; whatever is wrong with it is found here.
pub(crate) async fn start(
    config: &Config,
    handed: Option<std::net::TcpListener>,
) -> Result<Started, Failure> {
    let listener = address::bind(config.listen, &config.exposure, handed).await?;
    let address = listener.local_addr().or_fail("find the address")?;
    folders::make(&config.data_dir)?;
    // Of servers that share the folder one at a time makes what is not there yet.
    let _alone = folders::lock(&config.data_dir.join("start.lock"))?;
    let opened = database::open(&config.data_dir, &config.database).await?;
    let (store, registry) = (Arc::clone(&opened.store), Arc::clone(&opened.registry));
    let Documents {
        vault,
        composing,
        kept,
    } = Documents::read(config, &registry).await?;
    let config = &composing.compose(&kept);
    let left_out = composing.left_out(config);
    let admin = tokens::admin(&config.data_dir)?;
    let used = config.projects.iter().map(|one| &one.project.name);
    let known = used.chain(left_out.iter().map(|one| &one.name));
    let hook_tokens = tokens::hooks(&config.data_dir, known)?;
    let layout = Layout::new(&config.data_dir);
    let trees = Arc::new(SentTrees::open(&config.data_dir.join("trees"), &config.projects)?);
    let (hosts, unreached) = clusters::hosts(config).await?;
    composing.note(unreached);
    let sources = Sources {
        source: Arc::new(GitSource::open(&config.data_dir.join("git")).or_usage("use git")?),
        trees: trees.source(),
        secrets: Arc::new(FileSecrets::new(&config.projects, vault.clone())),
        hosts,
    };
    let (controller, handle) = controller(config, &opened, sources, &layout)?;
    let first_link = first_link(registry.as_ref(), SystemClock.now())
        .await
        .or_fail("make the link for the first admin")?;
    let parts = ServerParts {
        store: Arc::clone(&store),
        estates: Arc::clone(&opened.estates),
        registry,
        vault,
        oidc: issuer(config)?,
        exposure: config.exposure.clone(),
        artifact_host: config.artifact_host.clone(),
        handle: handle.clone(),
        layout: layout.clone(),
        projects: Arc::new(FixedProjects::new(hook_projects(
            (config, &left_out),
            &hook_tokens,
        ))),
        composer: Arc::clone(&composing) as Arc<dyn Composer>,
        trees,
        admin_token: admin.clone(),
        clock: Arc::new(SystemClock),
        cache_quota: config.caches,
        limits: Limits::default(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let known = parts.projects.names().into_iter();
    let hooks = known.filter_map(|name| {
        let path = format!("/hooks/{}", hook_tokens.get(&name)?);
        Some((name, path))
    });
    let hooks = hooks.collect();
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
        composing,
        kept,
        controller: tokio::spawn(controller.run()),
    })
}

/// What is kept, and what this server makes of it.
struct Documents {
    vault: Arc<Vault>,
    composing: Arc<Composing>,
    kept: Kept,
}

impl Documents {
    async fn read(config: &Config, registry: &Arc<dyn Registry>) -> Result<Self, Failure> {
        let vault = Arc::new(Vault::new(
            Arc::clone(registry),
            Arc::new(SystemClock),
            config.master_key_file.clone(),
        ));
        let composing = Composing::begin(config, registry.as_ref(), &vault).await?;
        let kept = Kept::read(registry.as_ref(), &vault).await;
        Ok(Self {
            composing: Arc::new(composing),
            kept: kept.or_fail("read the documents")?,
            vault,
        })
    }
}

/// Where what attempts are given comes from.
struct Sources {
    source: Arc<dyn Source>,
    trees: Arc<dyn Source>,
    secrets: Arc<dyn SecretSource>,
    hosts: Hosts,
}

fn controller(
    config: &Config,
    opened: &Opened,
    sources: Sources,
    layout: &Layout,
) -> Result<(Controller, Handle), Failure> {
    let Sources {
        source,
        trees,
        secrets,
        hosts,
    } = sources;
    let (on_observation, observations) = mpsc::unbounded_channel();
    let local = LocalBackend::new(LocalOptions {
        root: config.data_dir.clone(),
        artifacts: layout.artifacts(),
        agent: agent_program()?,
        host_env: host_variables(),
        attempts: config.local_attempts,
        on_observation: on_observation.clone(),
    });
    let stores = objects::open(config)?;
    let backend = clusters::router(
        config,
        layout,
        (Arc::new(local), &hosts),
        &stores,
        &on_observation,
    );
    let lender = Arc::new(ServerLender::new(config.lending.clone(), hosts));
    let projects = Arc::new(Projects::new(
        config.projects.iter().map(|one| one.project.clone()),
    ));
    let store = Arc::clone(&opened.store);
    let intake = GitIntake::new(
        Arc::clone(&projects),
        Arc::clone(&source),
        Arc::clone(&trees),
        Arc::clone(&store),
        Arc::new(KeptEnvironments::new(Arc::clone(&opened.registry))),
    );
    Ok(Controller::new(Ports {
        store,
        sharing: opened.lease.as_ref().map(sharing),
        backend: Arc::new(backend),
        observations,
        supplies: Arc::new(GitSupplies::new(projects, (source, trees), (secrets, lender))),
        intake: Some(Arc::new(intake)),
        people: Arc::new(RegisteredPeople::new(Arc::clone(&opened.registry))),
        clock: Arc::new(SystemClock),
        rules: Arc::new(EngineRules),
        layout: layout.clone(),
        upkeep: Some(Upkeep {
            estates: Arc::clone(&opened.estates),
            terms: Arc::new(ServerTerms::new(config, Arc::clone(&opened.registry))),
        }),
        cache_quota: Some(config.caches),
        outer_locks: None,
        cache_stores: objects::keepers(&stores),
    }))
}

/// How this server shares its database with others.
fn sharing(lease: &Arc<dyn Lease>) -> Sharing {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy().into_owned();
    Sharing {
        lease: Arc::clone(lease),
        hints: lease.hints(),
        name: format!("{host}, process {}", std::process::id()),
        pace: Pace::default(),
    }
}

/// The issuer of logins; it is asked when somebody logs in.
fn issuer(config: &Config) -> Result<Option<Arc<Oidc>>, Failure> {
    let made = config.oidc.clone().map(Oidc::new).transpose();
    Ok(made.or_usage("use `[oidc]`")?.map(Arc::new))
}

fn hook_projects(
    (config, left_out): (&Config, &[Unusable]),
    tokens: &BTreeMap<Name, String>,
) -> Vec<(String, HookProject)> {
    let used = config.projects.iter().map(|one| {
        let seal = one.secret.clone().map(|secret| HookSeal {
            forge: one.project.forge,
            secret,
        });
        (&one.project.name, seal)
    });
    let left_out = left_out.iter().map(|one| (&one.name, Err(one.reason.clone())));
    let hook = |(name, seal): (&Name, Result<HookSeal, String>)| {
        let name = name.clone();
        Some((tokens.get(&name)?.clone(), HookProject { name, seal }))
    };
    used.chain(left_out).filter_map(hook).collect()
}

impl Started {
    /// The address of its pages, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        match &self.parts.exposure {
            Exposure::Loopback => format!("http://{}", self.address),
            Exposure::Proxied { host } | Exposure::Tls { host, .. } => format!("https://{host}"),
        }
    }

    /// What happens from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<News> {
        self.handle.listen()
    }

    /// Stands for the folder of documents as it was applied.
    pub(crate) fn folder_digest(&self) -> String {
        self.composing.folder_digest()
    }

    /// Its socket, to be listened on by whoever comes after it in this process.
    pub(crate) fn socket(&self) -> Result<OwnedFd, Failure> {
        let socket = self.listener.as_fd().try_clone_to_owned();
        socket.or_fail("keep the socket")
    }

    /// Serves until `shutdown`, or until documents change and the configuration of `flags` can be read, if there are any; then
    /// puts everything down in order; attempts work on. Should another server perform in its place, it ends at once.
    pub(crate) async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
        flags: Option<Flags>,
    ) -> Result<Closed, Failure> {
        let (registry, vault) = (Arc::clone(&self.parts.registry), Arc::clone(&self.parts.vault));
        let (composing, kept) = (self.composing, self.kept);
        let (closes, closed) = oneshot::channel();
        let closing = async move {
            let outdated = async {
                let Some(flags) = flags else {
                    return std::future::pending().await;
                };
                let reload = || address::check(&config::load(&flags)?.exposure);
                composing
                    .outdated((registry.as_ref(), &vault), &kept, reload)
                    .await;
            };
            let closed = tokio::select! {
                () = shutdown => Closed::Stopped,
                () = outdated => Closed::Outdated,
            };
            // Whoever wanted to know is gone with everything else.
            let _ = closes.send(closed);
        };
        let mut controller = self.controller;
        let serving = tokio::spawn(serve(self.listener, self.parts, closing));
        let served = tokio::select! {
            served = serving => served.map_err(|error| Failure::ours(format!("the server broke: {error}")))?,
            ended = &mut controller => return controller_ended(ended),
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
        served.map_err(|error: ServeError| Failure::ours(format!("failed to {}", chain(&error))))?;
        Ok(closed.await.unwrap_or(Closed::Stopped))
    }
}

fn controller_ended(ended: Result<Result<Ending, StoreError>, JoinError>) -> Result<Closed, Failure> {
    match ended {
        Ok(Ok(Ending::LeaseLost)) => Ok(Closed::Outdated),
        Ok(Ok(Ending::Drained)) => Err(Failure::ours("the controller ended")),
        Ok(Err(error)) => Err(Failure::ours(format!("failed to {}", chain(&error)))),
        Err(error) => Err(Failure::ours(format!("the controller broke: {error}"))),
    }
}
