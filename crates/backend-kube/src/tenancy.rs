//! Makes the namespaces of pods, and keeps in them what keeps the pods within bounds: quota, limits, network policy. Only
//! where the cluster's owner wants it. Entry type: [`Tenancy`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Endpoints, Namespace, Service},
        rbac::v1::{ClusterRoleBinding, RoleBinding},
    },
};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams, PostParams},
};
use pipekeeper_backend::LaunchError;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::lookup_host, time::sleep};

use crate::{Block, ClusterOptions, Making, calls::bounded, names, refusal, render::namespace as render};

/// What was put right is looked at again after this long.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// A cluster takes a moment until a right that was given holds.
const SETTLING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// The service of the API server, in every cluster.
const API_SERVICE: (&str, &str) = ("default", "kubernetes");

/// The namespaces of a cluster whose owner lets us make them.
pub(crate) struct Tenancy {
    client: Client,
    cluster: ClusterOptions,
    making: Making,
    /// Where we reach the API server, without what is needed to be let in.
    server: Option<String>,
    /// When each namespace was put right; whoever works on one holds it.
    done: Mutex<BTreeMap<String, Arc<Done>>>,
}

type Done = tokio::sync::Mutex<Option<Instant>>;

impl Tenancy {
    /// The namespaces of this cluster, if they are ours to make.
    pub(crate) fn new(client: Client, cluster: &ClusterOptions, server: Option<&str>) -> Option<Self> {
        Some(Self {
            client,
            cluster: cluster.clone(),
            making: cluster.making.clone()?,
            server: server.map(str::to_owned),
            done: Mutex::default(),
        })
    }

    /// Sees to it that a namespace is there and furnished.
    pub(crate) async fn provide(&self, name: &str) -> Result<(), LaunchError> {
        let done = self.done(name);
        let mut done = done.lock().await;
        if done.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        if !self.is_there(name).await? {
            self.make(name).await?;
        }
        self.furnish(name).await?;
        *done = Some(Instant::now());
        Ok(())
    }

    /// Puts right what is in a namespace. False if there is none.
    pub(crate) async fn tend(&self, name: &str) -> Result<bool, LaunchError> {
        let done = self.done(name);
        let mut done = done.lock().await;
        if done.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(true);
        }
        if !self.is_there(name).await? {
            return Ok(false);
        }
        self.furnish(name).await?;
        *done = Some(Instant::now());
        Ok(true)
    }

    /// A namespace is not as we left it.
    pub(crate) async fn doubt(&self, name: &str) {
        *self.done(name).lock().await = None;
    }

    fn done(&self, name: &str) -> Arc<Done> {
        let mut all = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    /// Whether there is such a namespace; an error if it is not ours.
    async fn is_there(&self, name: &str) -> Result<bool, LaunchError> {
        let found = bounded(self.namespaces().get_opt(name)).await;
        let Some(found) = found.map_err(|error| self.refused(&error))? else {
            return Ok(false);
        };
        let phase = found.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Terminating") {
            let reason = format!("the namespace `{name}` is being removed; it is made anew after that");
            return Err(LaunchError::Transient { reason });
        }
        let ours = names::owned(&self.cluster.instance);
        let labels = found.metadata.labels.unwrap_or_default();
        if ours.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            return Ok(true);
        }
        let wanted: Vec<String> = ours.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Err(LaunchError::Terminal {
            reason: format!(
                "the namespace `{name}` of the cluster `{}` was not made by this server, which leaves it alone: name another one in `namespaces`, or hand it over with `kubectl label --overwrite namespace {name} {}`",
                self.cluster.name,
                wanted.join(" ")
            ),
        })
    }

    async fn make(&self, name: &str) -> Result<(), LaunchError> {
        let wanted = render::namespace(name, &self.cluster);
        match bounded(self.namespaces().create(&PostParams::default(), &wanted)).await {
            Ok(_) => Ok(()),
            // Somebody was quicker, and it matters who.
            Err(error) if refusal::is_there_already(&error) => self.is_there(name).await.map(|_| ()),
            Err(error) => Err(self.refused(&error)),
        }
    }

    async fn furnish(&self, name: &str) -> Result<(), LaunchError> {
        self.bind(name).await?;
        let denied: BTreeSet<Block> = self.api_server().await?;
        let denied = denied.into_iter().chain(self.making.deny.iter().copied());
        // First what no pod may be without.
        self.apply(name, &render::policy(&self.cluster, &denied.collect()))
            .await?;
        self.apply(name, &render::limit_range(&self.cluster, &self.making.limits))
            .await?;
        self.apply_quota(name).await
    }

    /// A quota counts a moment after it is there; before that, any number of pods would come in.
    async fn apply_quota(&self, namespace: &str) -> Result<(), LaunchError> {
        let wanted = render::quota(&self.cluster, &self.making.limits);
        let patience = Instant::now() + SETTLING;
        loop {
            let status = self.apply(namespace, &wanted).await?.status;
            let counted = status.and_then(|status| status.hard).unwrap_or_default();
            let hard = wanted.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            let counts = hard.is_none_or(|hard| hard.keys().all(|name| counted.contains_key(name)));
            if counts || Instant::now() > patience {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// Lets ourselves in. Who we are is written where the cluster's owner let us make namespaces.
    async fn bind(&self, name: &str) -> Result<(), LaunchError> {
        let role = &self.making.role;
        let known: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let known = bounded(known.get(role))
            .await
            .map_err(|error| self.refused(&error))?;
        let wanted = render::binding(&self.cluster, role, known.subjects.unwrap_or_default());
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), name);
        match bounded(bindings.create(&PostParams::default(), &wanted)).await {
            Ok(_) => Ok(()),
            Err(error) if refusal::is_there_already(&error) => Ok(()),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Every address of the API server that is known.
    async fn api_server(&self) -> Result<BTreeSet<Block>, LaunchError> {
        let (namespace, name) = API_SERVICE;
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let service = bounded(services.get_opt(name)).await;
        let service = service.map_err(|error| self.refused(&error))?;
        let endpoints: Api<Endpoints> = Api::namespaced(self.client.clone(), namespace);
        let endpoints = bounded(endpoints.get_opt(name)).await;
        let endpoints = endpoints.map_err(|error| self.refused(&error))?;
        let spec = service.and_then(|service| service.spec).unwrap_or_default();
        let subsets = endpoints
            .and_then(|endpoints| endpoints.subsets)
            .unwrap_or_default();
        let behind = subsets
            .into_iter()
            .flat_map(|subset| subset.addresses.unwrap_or_default());
        let texts = spec.cluster_ip.into_iter();
        let texts = texts
            .chain(spec.cluster_ips.unwrap_or_default())
            .chain(behind.map(|address| address.ip));
        let told = texts.filter_map(|text| text.parse::<IpAddr>().ok());
        let all = told.chain(self.resolved().await);
        Ok(all
            .filter(|address| !address.is_loopback())
            .map(Block::from)
            .collect())
    }

    /// Where we ourselves reach it.
    async fn resolved(&self) -> Vec<IpAddr> {
        let Some(server) = &self.server else {
            return Vec::new();
        };
        match lookup_host((server.as_str(), 0)).await {
            Ok(found) => found.map(|address| address.ip()).collect(),
            Err(error) => {
                // A proxy may find what we do not.
                tracing::info!(
                    cluster = %self.cluster.name,
                    "the addresses of `{server}` are not known, so the network policy leaves them out: {error}"
                );
                Vec::new()
            }
        }
    }

    /// Makes an object so, whatever others made of it.
    async fn apply<T>(&self, namespace: &str, wanted: &T) -> Result<T, LaunchError>
    where
        T: kube::Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
        T::DynamicType: Default,
    {
        let api: Api<T> = Api::namespaced(self.client.clone(), namespace);
        let how = PatchParams::apply(names::PRODUCT).force();
        let patience = Instant::now() + SETTLING;
        loop {
            match bounded(api.patch(names::PRODUCT, &how, &Patch::Apply(wanted))).await {
                Ok(made) => return Ok(made),
                Err(error) if refusal::is_forbidden(&error) && Instant::now() < patience => {
                    sleep(PAUSE).await
                }
                Err(error) => return Err(self.refused(&error)),
            }
        }
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    fn refused(&self, error: &Error) -> LaunchError {
        refusal::of_making(&self.cluster.name, error)
    }
}
