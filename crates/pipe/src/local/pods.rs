//! `pipe run` in containers: pods of a cluster that the user's kubeconfig knows, or this machine's own engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use kube::{Config, config::KubeConfigOptions};
use pipekeeper_backend::{
    Backend, Observation,
    docker::{self, AgentImage, DockerHost, DockerOptions, find_socket},
    pod::{FileLimits, PodBackend, PodHost, PodOptions, StreamLimit},
};
use pipekeeper_backend_kube::{ClusterOptions, KubeHost, Namespaces, Patience, Profile, Profiles, pinned};
use pipekeeper_controller::Layout;
use pipekeeper_model::{
    Name,
    plan::{Feature, Resources},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::leftovers::{self, Mark};
use crate::failure::{Failure, OrFail};

/// What a run in pods may ask for.
pub(crate) const FEATURES: [Feature; 4] = [
    Feature::Image,
    Feature::Secrets,
    Feature::Services,
    Feature::Resources,
];

/// The flags about pods and containers.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct PodFlags {
    /// Run the actions as pods of this context of your kubeconfig
    #[arg(long, value_name = "CONTEXT", conflicts_with = "backend")]
    pub(crate) context: Option<String>,
    /// The namespace of the pods; by default the context's own
    #[arg(long, value_name = "NAMESPACE", requires = "context")]
    namespace: Option<String>,
    /// The image of the supervisor beside the steps, as `scripts/agent-image` pushes it
    #[arg(long, value_name = "IMAGE", env = "PIPE_AGENT_IMAGE")]
    agent_image: Option<String>,
    /// The supervisor's static program, of which an image is made where none is named: `scripts/agent-image --program`
    #[arg(long, value_name = "FILE", env = "PIPE_AGENT_PROGRAM")]
    agent_program: Option<PathBuf>,
    /// A Secret in the namespace that images are pulled with; may be repeated
    #[arg(long = "pull-secret", value_name = "NAME", requires = "context")]
    pull_secrets: Vec<String>,
}

/// Where actions run that do not run as processes of this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Containers {
    /// In the pods of a cluster.
    Cluster {
        /// The context of the kubeconfig.
        context: String,
        /// Everything else.
        flags: PodFlags,
    },
    /// In the containers of this machine's engine.
    Engine {
        /// Where it listens.
        socket: String,
        /// Where the supervisor's image comes from.
        agent: AgentImage,
    },
}

impl Containers {
    /// What tells them from other places to run.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cluster { context, .. } => format!("context {context}"),
            Self::Engine { .. } => "engine".to_owned(),
        }
    }
}

impl PodFlags {
    /// The cluster, if one is named.
    pub(crate) fn cluster(&self) -> Option<Containers> {
        let context = self.context.clone()?;
        let flags = self.clone();
        Some(Containers::Cluster { context, flags })
    }

    /// This machine's container engine; what is missing is an error.
    pub(crate) fn engine(&self) -> Result<Containers, Failure> {
        let host = env::var("DOCKER_HOST").ok();
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let socket = find_socket(host.as_deref(), runtime.as_deref()).ok_or_else(|| {
            Failure::usage("there is no container engine here").hint(
                "start Docker, or Podman with `systemctl --user start podman.socket`, or set DOCKER_HOST",
            )
        })?;
        let agent = self.agent().ok_or_else(|| {
            Failure::usage("containers need the supervisor that runs beside the steps")
                .hint("build it with `scripts/agent-image --program` and set PIPE_AGENT_PROGRAM to what that prints")
        })?;
        Ok(Containers::Engine { socket, agent })
    }

    /// The supervisor's image, or the program to make one of: what is named, or what lies beside this program.
    fn agent(&self) -> Option<AgentImage> {
        if let Some(image) = &self.agent_image {
            return Some(AgentImage::Named(pinned(image, env!("CARGO_PKG_VERSION"))));
        }
        let beside = || Some(env::current_exe().ok()?.with_file_name("pipekeeper-agent"));
        let program = self.agent_program.clone().or_else(beside)?;
        program.is_file().then_some(AgentImage::Program(program))
    }
}

impl Containers {
    /// The backend over them, and what says that its containers are wanted. What earlier runs left there goes meanwhile.
    pub(crate) async fn backend(
        &self,
        root: PathBuf,
        layout: &Layout,
        on_observation: mpsc::UnboundedSender<Observation>,
    ) -> Result<(Arc<dyn Backend>, Mark), Failure> {
        let instance = leftovers::instance()?;
        let host = self.host(&instance).await?;
        let marks = leftovers::folder()?;
        let mark = leftovers::mark(&marks, &instance, self)?;
        tokio::spawn(leftovers::sweep(marks, self.clone()));
        let options = PodOptions {
            root,
            artifacts: layout.artifacts(),
            default_image: None,
            objects: None,
            features: BTreeSet::from(FEATURES),
            // The disk is the user's own.
            limits: FileLimits::default(),
            pool: None,
            hold: None,
            streams: StreamLimit::default(),
            on_observation,
        };
        Ok((Arc::new(PodBackend::new(host, options)), mark))
    }

    /// Those of an instance. Nothing is asked of anybody yet.
    pub(super) async fn host(&self, instance: &str) -> Result<Arc<dyn PodHost>, Failure> {
        Ok(match self {
            Self::Cluster { context, flags } => Arc::new(flags.host(context, instance).await?),
            Self::Engine { socket, agent } => Arc::new(DockerHost::new(DockerOptions {
                socket: socket.clone(),
                instance: instance.to_owned(),
                agent: agent.clone(),
                network: None,
                default_resources: Resources::default(),
                patience: docker::Patience::default(),
            })),
        })
    }
}

impl PodFlags {
    async fn host(&self, context: &str, instance: &str) -> Result<KubeHost, Failure> {
        let agent_image = self.agent_image.clone().ok_or_else(|| {
            Failure::usage("`--context` needs the image of the supervisor that runs in each pod")
                .hint("push it with `scripts/agent-image REPOSITORY`, and name it with `--agent-image` or PIPE_AGENT_IMAGE")
        })?;
        let choice = KubeConfigOptions {
            context: Some(context.to_owned()),
            ..KubeConfigOptions::default()
        };
        let doing = format!("use the context `{context}` of your kubeconfig");
        let config = Config::from_kubeconfig(&choice).await.map_err(|error| {
            Failure::usage(format!("failed to {doing}: {error}"))
                .hint("`kubectl config get-contexts` lists the contexts there are")
        })?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let options = self.cluster_options(context, instance, agent_image, &namespace)?;
        KubeHost::new(config, options, [namespace]).or_usage(&doing)
    }

    /// A tree that nobody reviewed is trusted least, wherever it is sent from.
    fn cluster_options(
        &self,
        context: &str,
        instance: &str,
        agent_image: String,
        namespace: &str,
    ) -> Result<ClusterOptions, Failure> {
        let name = cluster_name(context)?;
        let namespace = namespace.to_owned();
        Ok(ClusterOptions {
            name,
            instance: instance.to_owned(),
            namespaces: Namespaces {
                protected: namespace.clone(),
                branches: namespace.clone(),
                forks: namespace,
            },
            profiles: Profiles {
                protected: Profile::Restricted,
                branches: Profile::Restricted,
            },
            agent_image: pinned(&agent_image, env!("CARGO_PKG_VERSION")),
            pull_secrets: self.pull_secrets.clone(),
            pull_config: None,
            mirrors: BTreeMap::new(),
            env: BTreeMap::new(),
            pod_allow: BTreeSet::new(),
            volumes: BTreeMap::new(),
            default_resources: Resources::default(),
            making: None,
            patience: Patience::default(),
        })
    }
}

/// What messages call the cluster: its context, as far as a name can hold that.
fn cluster_name(context: &str) -> Result<Name, Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    // Clouds write accounts and regions into it: `arn:aws:eks:…:cluster/dev`.
    let plain: String = context
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    plain
        .parse::<Name>()
        .or_else(|_| "context".parse())
        .or_fail("name the cluster")
}

#[cfg(test)]
mod tests {
    use super::cluster_name;

    #[test]
    fn a_cluster_is_called_like_its_context() {
        let long = "x".repeat(64);
        let cases = [
            ("dev", "dev"),
            ("admin@Dev_1.example", "admin-Dev_1.example"),
            ("arn:aws:eks:eu-1:1:cluster/dev", "arn-aws-eks-eu-1-1-cluster-dev"),
            ("", "context"),
            ("@dev", "context"),
            (long.as_str(), "context"),
        ];
        for (context, wanted) in cases {
            assert_eq!(cluster_name(context).unwrap().as_str(), wanted);
        }
    }
}
