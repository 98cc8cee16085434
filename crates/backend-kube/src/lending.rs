//! Rights in a namespace that an action borrows: a token of the account `pipekeeper-actions` there, which is for its owner to
//! make and to give rights to.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use pipekeeper_backend::LaunchError;
use pipekeeper_model::Name;
use serde_json::{Value, json};

use crate::{KubeHost, refusal};

/// The account whose rights are lent.
pub const LENT_ACCOUNT: &str = "pipekeeper-actions";
/// For how many seconds they are.
const LIFETIME: i64 = 60 * 60;

/// Rights in one namespace.
#[derive(Clone, PartialEq, Eq)]
pub struct LentAccess {
    /// A kubeconfig that holds all it needs.
    pub kubeconfig: Value,
    /// The token in it, for masks.
    pub token: String,
}

/// Where the cluster is, as a kubeconfig says it.
pub(crate) struct Place {
    server: String,
    /// In PEM.
    ca: Option<String>,
    accepts_any: bool,
    server_name: Option<String>,
}

impl Place {
    pub(crate) fn new(config: &kube::Config) -> Self {
        let pem = |der: &Vec<u8>| {
            let text = BASE64_STANDARD.encode(der);
            let lines: Vec<String> = text
                .as_bytes()
                .chunks(64)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                lines.join("\n")
            )
        };
        Self {
            server: config.cluster_url.to_string(),
            ca: match (&config.root_cert, &config.root_cert_file) {
                (Some(all), _) => Some(all.iter().map(pem).collect()),
                // The account of a pod: there it is known to be.
                (None, Some(file)) => std::fs::read_to_string(file).ok(),
                (None, None) => None,
            },
            accepts_any: config.accept_invalid_certs,
            server_name: config.tls_server_name.clone(),
        }
    }

    fn kubeconfig(&self, (cluster, namespace): (&Name, &str), token: &str) -> Value {
        let mut place = json!({ "server": self.server });
        if let Some(ca) = &self.ca {
            place["certificate-authority-data"] = BASE64_STANDARD.encode(ca).into();
        }
        if self.accepts_any {
            place["insecure-skip-tls-verify"] = true.into();
        }
        if let Some(name) = &self.server_name {
            place["tls-server-name"] = name.as_str().into();
        }
        let name = cluster.as_str();
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{ "name": name, "context": { "cluster": name, "user": name, "namespace": namespace } }],
            "clusters": [{ "name": name, "cluster": place }],
            "users": [{ "name": name, "user": { "token": token } }],
        })
    }
}

impl KubeHost {
    /// Whether the pods of any project may be in this namespace.
    pub fn holds_pods_in(&self, namespace: &str) -> bool {
        self.cluster().namespaces.may_be(namespace)
    }

    /// Rights in a namespace for an hour, in the form of a kubeconfig.
    ///
    /// # Errors
    /// If the account is not there or its rights are not ours to lend: terminal; if nobody can say now: transient.
    pub async fn lend(&self, namespace: &str) -> Result<LentAccess, LaunchError> {
        let cluster = &self.cluster().name;
        let place = self.place_of_server().ok_or_else(|| LaunchError::Transient {
            reason: format!("the cluster `{cluster}` cannot be reached"),
        })?;
        let accounts: Api<ServiceAccount> = self.api(namespace);
        let wanted = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Vec::new(),
                expiration_seconds: Some(LIFETIME),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let how = PostParams::default();
        let made = accounts.create_token_request(LENT_ACCOUNT, &how, &wanted);
        let made = self.counted().bounded(made).await;
        let made = made.map_err(|error| refusal::of_lending(cluster, &error, (namespace, LENT_ACCOUNT)))?;
        let token = made.status.map(|status| status.token).unwrap_or_default();
        if token.is_empty() {
            return Err(LaunchError::Transient {
                reason: format!("the cluster `{cluster}` gave no token of `{LENT_ACCOUNT}` in `{namespace}`"),
            });
        }
        Ok(LentAccess {
            kubeconfig: place.kubeconfig((cluster, namespace), &token),
            token,
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn what_is_lent_is_a_whole_kubeconfig_of_one_namespace() {
        let mut config = kube::Config::new("https://10.0.0.1:6443".parse().unwrap());
        config.root_cert = Some(vec![vec![1; 100]]);
        let text = Place::new(&config).kubeconfig((&"eks".parse().unwrap(), "ci-web"), "hunter2");
        let read = Kubeconfig::from_yaml(&text.to_string()).unwrap();
        let context = read.contexts[0].context.as_ref().unwrap();
        assert_eq!(context.namespace.as_deref(), Some("ci-web"));
        let cluster = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.0.0.1:6443/"));
        let pem = BASE64_STANDARD
            .decode(cluster.certificate_authority_data.as_ref().unwrap())
            .unwrap();
        let pem = String::from_utf8(pem).unwrap();
        let lines: Vec<&str> = pem.lines().collect();
        assert_eq!(lines.first(), Some(&"-----BEGIN CERTIFICATE-----"));
        assert!(lines.iter().all(|line| line.len() <= 64) && pem.ends_with("-----END CERTIFICATE-----\n"));
    }
}
