//! `pipe run --context`: the working tree's actions as pods of a cluster that the user's kubeconfig knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;
use kube::{Config, config::KubeConfigOptions};
use pipekeeper_backend::{
    Backend, Observation,
    pod::{PodBackend, PodOptions},
};
use pipekeeper_backend_kube::{ClusterOptions, KubeHost, Namespaces, Patience, Profile, Profiles};
use pipekeeper_controller::Layout;
use pipekeeper_model::{
    Name,
    plan::{Feature, Resources},
};
use tokio::sync::mpsc;

use crate::{
    failure::{Failure, OrFail},
    server::tokens,
};

/// What a run in pods may ask for.
pub(crate) const FEATURES: [Feature; 4] = [
    Feature::Image,
    Feature::Secrets,
    Feature::Services,
    Feature::Resources,
];

/// The flags about the cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ContextFlags {
    /// Run the actions as pods of this context of your kubeconfig
    #[arg(long, value_name = "CONTEXT", conflicts_with = "backend")]
    pub(crate) context: Option<String>,
    /// The namespace of the pods; by default the context's own
    #[arg(long, value_name = "NAMESPACE", requires = "context")]
    namespace: Option<String>,
    /// The image of the supervisor in each pod, as `scripts/agent-image` pushes it
    #[arg(long, value_name = "IMAGE", env = "PIPE_AGENT_IMAGE", requires = "context")]
    agent_image: Option<String>,
    /// A Secret in the namespace that images are pulled with; may be repeated
    #[arg(long = "pull-secret", value_name = "NAME", requires = "context")]
    pull_secrets: Vec<String>,
}

impl ContextFlags {
    /// The backend that these flags mean. Nothing is asked of the cluster yet.
    pub(crate) async fn backend(
        &self,
        context: &str,
        root: PathBuf,
        layout: &Layout,
        on_observation: mpsc::UnboundedSender<Observation>,
    ) -> Result<Arc<dyn Backend>, Failure> {
        let agent_image = self.agent_image.clone().ok_or_else(|| {
            Failure::usage("`--context` needs the image of the supervisor that runs in each pod")
                .hint("push it with `scripts/agent-image REPOSITORY`, and name it with `--agent-image` or PIPE_AGENT_IMAGE")
        })?;
        let choice = KubeConfigOptions {
            context: Some(context.to_owned()),
            ..KubeConfigOptions::default()
        };
        let doing = format!("use the context `{context}` of your kubeconfig");
        let config = Config::from_kubeconfig(&choice).await.or_usage(&doing)?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let options = self.cluster(agent_image, &namespace)?;
        let host = KubeHost::new(config, options, [namespace]).or_usage(&doing)?;
        let options = PodOptions {
            root,
            artifacts: layout.artifacts(),
            default_image: None,
            features: BTreeSet::from(FEATURES),
            on_observation,
        };
        Ok(Arc::new(PodBackend::new(Arc::new(host), options)))
    }

    /// A tree that nobody reviewed is trusted least, wherever it is sent from.
    fn cluster(&self, agent_image: String, namespace: &str) -> Result<ClusterOptions, Failure> {
        let name: Name = "context".parse().or_fail("name the cluster")?;
        let namespace = namespace.to_owned();
        Ok(ClusterOptions {
            name,
            instance: tokens::random()?.chars().take(8).collect(),
            namespaces: Namespaces {
                protected: namespace.clone(),
                branches: namespace.clone(),
                forks: namespace,
            },
            profiles: Profiles {
                protected: Profile::Restricted,
                branches: Profile::Restricted,
            },
            agent_image: pipekeeper_backend_kube::pinned(&agent_image, env!("CARGO_PKG_VERSION")),
            pull_secrets: self.pull_secrets.clone(),
            volumes: BTreeMap::new(),
            default_resources: Resources::default(),
            patience: Patience::default(),
        })
    }
}
