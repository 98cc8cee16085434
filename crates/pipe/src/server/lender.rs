//! Rights of this server, lent to the actions that may borrow them. Entry type: [`ServerLender`].

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use pipekeeper_backend::{LaunchError, Pointed, Pointer, SecretValue};
use pipekeeper_backend_kube::KubeHost;
use pipekeeper_controller::{Lender, SecretAsking};
use pipekeeper_model::{
    Name,
    plan::{Credential, SecretTarget},
};
use pipekeeper_server::unlent;
use pipekeeper_spec::document::{Lend, filled};
use serde_json::Value;

use super::clusters::Hosts;
use crate::config::{GitLogin, Lending, RegistryLogin, docker_config};

/// Below HOME, where no tool looks by itself: what a step keeps in its own places stays its own.
const ASKPASS: &str = "~/.pipe/git-askpass";
const DOCKER: &str = "~/.pipe/docker/config.json";
const KUBE: &str = "~/.pipe/kubeconfig";

/// Who forges take any token for.
const TOKEN_USER: &str = "x-access-token";

/// What this server has rights to.
pub(super) struct ServerLender {
    lending: Lending,
    hosts: Hosts,
}

impl ServerLender {
    pub(super) fn new(lending: Lending, hosts: Hosts) -> Self {
        Self { lending, hosts }
    }

    fn git(&self, asking: &SecretAsking<'_>) -> Result<&GitLogin, LaunchError> {
        let loan = self.lending.forges.get(asking.project);
        let loan = loan.ok_or_else(|| {
            terminal(
                "git",
                "is lent by a Forge with a `token`, and this project's repository is of none",
            )
        })?;
        checked("git", loan.terms.as_ref(), asking, loan.what.as_ref())
    }

    fn registry(&self, asking: &SecretAsking<'_>, name: &Name) -> Result<&RegistryLogin, LaunchError> {
        let right = format!("registry:{name}");
        let loan = self.lending.registries.get(name).ok_or_else(|| {
            terminal(
                &right,
                "is of no Registry with `credentials`; `pipe get Registry` lists what there is",
            )
        })?;
        checked(&right, loan.terms.as_ref(), asking, loan.what.as_ref())
    }

    /// The logins of all registries that are asked for; a file of them has one for each host.
    fn registries(
        &self,
        asking: &SecretAsking<'_>,
        rights: &[Credential],
    ) -> Result<Vec<RegistryLogin>, LaunchError> {
        let mut logins: Vec<RegistryLogin> = Vec::new();
        for right in rights {
            let Credential::Registry(name) = right else {
                continue;
            };
            let login = self.registry(asking, name)?;
            if logins.iter().any(|other| other.host == login.host) {
                let what = format!("is of `{}` like another one that the action asks for", login.host);
                return Err(terminal(&right.to_string(), &what));
            }
            logins.push(login.clone());
        }
        Ok(logins)
    }

    /// The cluster, and the namespace that rights in it are lent for.
    fn place(&self, asking: &SecretAsking<'_>, name: &Name) -> Result<(&Arc<KubeHost>, String), LaunchError> {
        let right = format!("cluster:{name}");
        let refused = |what: &str| terminal(&right, what);
        let host = self.hosts.get(name);
        let host = host.ok_or_else(|| refused("is of no Cluster; `pipe get Cluster` lists what there is"))?;
        let terms = self.lending.clusters.get(name);
        checked(&right, terms, asking, Ok(&()))?;
        let (Some(environment), Some(template)) = (asking.environment, asking.namespace) else {
            return Err(refused(
                "is for the namespace of an Environment: name one by `environment:` that has a `namespace`",
            ));
        };
        if asking.cluster != Some(name) {
            let what =
                format!("is not where the Environment `{environment}` is: it names another Cluster, or none");
            return Err(refused(&what));
        }
        let namespace = filled(template, "project", asking.project.as_str());
        // Environments are there for all projects; this one must not get what is another's.
        let is_sole = terms.is_some_and(|terms| !terms.all_projects && terms.projects.len() == 1);
        if namespace == *template && !is_sole {
            let what = format!(
                "is for one namespace of all its projects, `{namespace}`: write `${{{{ project }}}}` into the `namespace` of the Environment `{environment}`, or lend the Cluster to one project"
            );
            return Err(refused(&what));
        }
        if host.holds_pods_in(&namespace) {
            let what = format!(
                "is for the namespace `{namespace}`, which pods of actions are in: with it they could read what is lent to others"
            );
            return Err(refused(&what));
        }
        Ok((host, namespace))
    }
}

#[async_trait]
impl Lender for ServerLender {
    async fn check(&self, asking: &SecretAsking<'_>, rights: &[Credential]) -> Result<(), LaunchError> {
        self.registries(asking, rights)?;
        for right in rights {
            match right {
                Credential::Git => drop(self.git(asking)?),
                Credential::Registry(_) => {}
                Credential::Cluster(name) => drop(self.place(asking, name)?),
            }
        }
        Ok(())
    }

    async fn lend(
        &self,
        asking: &SecretAsking<'_>,
        rights: &[Credential],
    ) -> Result<Vec<SecretValue>, LaunchError> {
        self.check(asking, rights).await?;
        let mut values = Vec::new();
        let mut access: Option<Value> = None;
        for right in rights {
            match right {
                Credential::Git => {
                    let login = self.git(asking)?;
                    let script = askpass(login).map_err(|reason| terminal("git", &reason))?;
                    values.push(file(ASKPASS, ("GIT_ASKPASS", Pointed::Program), script));
                    values.push(mask(login.token.reveal()));
                }
                Credential::Registry(_) => {}
                Credential::Cluster(name) => {
                    let (host, namespace) = self.place(asking, name)?;
                    let lent = host.lend(&namespace).await?;
                    values.push(mask(&lent.token));
                    access = Some(match access {
                        None => lent.kubeconfig,
                        Some(before) => together(before, lent.kubeconfig),
                    });
                }
            }
        }
        let logins = self.registries(asking, rights)?;
        if !logins.is_empty() {
            let masks = logins
                .iter()
                .flat_map(|login| [mask(login.password.reveal()), mask(&login.auth())]);
            values.extend(masks);
            let text = format!("{}\n", docker_config(&logins));
            values.push(file(DOCKER, ("DOCKER_CONFIG", Pointed::Folder), text));
        }
        let access = access.map(|access| file(KUBE, ("KUBECONFIG", Pointed::File), format!("{access}\n")));
        values.extend(access);
        Ok(values)
    }
}

/// The right, if it is there and lent to this action.
fn checked<'a, T>(
    right: &str,
    terms: Option<&Lend>,
    asking: &SecretAsking<'_>,
    what: Result<&'a T, &String>,
) -> Result<&'a T, LaunchError> {
    if let Some(refusal) = unlent(terms, asking) {
        return Err(terminal(right, &refusal));
    }
    // It may be there in a moment: somebody sets a Secret, or brings the keys back.
    what.map_err(|reason| LaunchError::Transient {
        reason: format!("the right `{right}` cannot be lent now: {reason}"),
    })
}

fn terminal(right: &str, what: &str) -> LaunchError {
    LaunchError::Terminal {
        reason: format!("the right `{right}` {what}"),
    }
}

/// A program that tells git user and password of one forge, and of no other.
fn askpass(login: &GitLogin) -> Result<String, String> {
    let (scheme, rest) = login
        .base
        .split_once("://")
        .ok_or("is of a Forge whose `url` is no web address")?;
    let host = rest.split('/').next().unwrap_or(rest);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:[]-".contains(&byte);
    if !host.bytes().all(is_plain) {
        return Err("is of a Forge whose `url` has a host of other letters than `a-z0-9.:[]-`".to_owned());
    }
    let token = login.token.reveal().replace('\'', r"'\''");
    Ok(format!(
        r#"#!/bin/sh
case "$1" in
"Username for '{scheme}://{host}': ") printf '%s\n' '{TOKEN_USER}' ;;
"Password for '{scheme}://{TOKEN_USER}@{host}': ") printf '%s\n' '{token}' ;;
*) exit 1 ;;
esac
"#
    ))
}

/// Two kubeconfigs as one, in which the first one's context is the current one.
fn together(mut first: Value, second: Value) -> Value {
    for list in ["contexts", "clusters", "users"] {
        let more = second.get(list).and_then(Value::as_array).cloned();
        if let Some(all) = first.get_mut(list).and_then(Value::as_array_mut) {
            all.extend(more.unwrap_or_default());
        }
    }
    first
}

fn file(path: &str, (variable, at): (&str, Pointed), value: String) -> SecretValue {
    SecretValue {
        target: Some(SecretTarget::File(path.to_owned())),
        pointer: Some(Pointer {
            variable: variable.to_owned(),
            at,
        }),
        value,
    }
}

fn mask(value: &str) -> SecretValue {
    SecretValue {
        target: None,
        pointer: None,
        value: value.to_owned(),
    }
}
