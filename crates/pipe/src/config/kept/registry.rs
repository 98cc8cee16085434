//! A Registry becomes what images are pulled with, and what actions may borrow.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pipekeeper_agent::protocol::SecretText;
use pipekeeper_backend_kube::PullConfig;
use pipekeeper_spec::document::{Body, Document, Kind, PullSecret, Registry};

use super::{Additions, Values, of};
use crate::config::{Loan, RegistryLogin};

/// What Docker's own registry is called where logins are kept.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

impl Additions {
    pub(super) fn add_registries(&mut self, documents: &[Document], values: &dyn Values) {
        let all = of(documents, |body| {
            let Body::Registry(registry) = body else {
                return None;
            };
            Some(registry.as_ref())
        });
        let mut pulling: Vec<RegistryLogin> = Vec::new();
        let mut is_whole = true;
        for (name, body) in all {
            let Some(source) = &body.credentials else { continue };
            let Some(value) = values.value(source) else {
                continue;
            };
            let login = value.and_then(|value| login(body, &value));
            if let Err(reason) = &login {
                let reason = format!("nobody is logged in there: {reason}");
                self.cannot(Kind::Registry, name, reason);
            }
            if body.pull_secrets.contains(&PullSecret::Targets) {
                let reason =
                    "no pull secrets are made for Environments yet: nothing is deployed to them".to_owned();
                self.cannot(Kind::Registry, name, reason);
            }
            if body.pull_secrets.contains(&PullSecret::Build) {
                match &login {
                    Err(_) => is_whole = false,
                    Ok(login) if pulling.iter().any(|other| other.host == login.host) => {
                        let host = &login.host;
                        let reason =
                            format!("images of `{host}` are pulled with the credentials of another Registry");
                        self.cannot(Kind::Registry, name, reason);
                    }
                    Ok(login) => pulling.push(login.clone()),
                }
            }
            let loan = Loan {
                terms: body.lend.clone(),
                what: login,
            };
            self.lending.registries.insert(name.clone(), loan);
        }
        self.lending.pull_config = match (is_whole, pulling.as_slice()) {
            (false, _) => Some(PullConfig::AsBefore),
            (true, []) => None,
            (true, logins) => Some(PullConfig::File(docker_config(logins))),
        };
    }
}

fn login(registry: &Registry, value: &str) -> Result<RegistryLogin, String> {
    let (user, password) = value
        .split_once(':')
        .filter(|(user, password)| !user.is_empty() && !password.is_empty())
        .ok_or("its `credentials` are not `user:password`")?;
    Ok(RegistryLogin {
        host: host(&registry.url),
        user: user.to_owned(),
        password: SecretText::new(password),
    })
}

/// What a registry is called where logins are kept.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => host.to_owned(),
    }
}

impl RegistryLogin {
    /// User and password as they are written into a file of logins.
    pub(crate) fn auth(&self) -> String {
        BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password.reveal()))
    }
}

/// The file of logins that Docker, containers and clusters understand.
pub(crate) fn docker_config(logins: &[RegistryLogin]) -> String {
    let auths = logins.iter().map(|login| {
        let auth = serde_json::json!({ "auth": login.auth() });
        (login.host.clone(), auth)
    });
    let auths: serde_json::Map<_, _> = auths.collect();
    serde_json::json!({ "auths": auths }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_called_by_its_host_alone() {
        for (url, wanted) in [
            ("https://harbor.corp", "harbor.corp"),
            ("http://r.test:5000/", "r.test:5000"),
            ("https://harbor.corp/v2/x", "harbor.corp"),
            ("https://docker.io", DOCKER_HUB),
            ("https://registry-1.docker.io", DOCKER_HUB),
        ] {
            assert_eq!(host(url), wanted);
        }
    }

    #[test]
    fn logins_are_what_docker_reads() {
        let login = RegistryLogin {
            host: "harbor.corp".to_owned(),
            user: "robot".to_owned(),
            password: SecretText::new("a:b"),
        };
        assert_eq!(
            docker_config(&[login]),
            r#"{"auths":{"harbor.corp":{"auth":"cm9ib3Q6YTpi"}}}"#
        );
    }
}
