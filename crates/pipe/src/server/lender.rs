//! Rights of this server, lent to the actions that may borrow them. Entry type: [`ServerLender`].

use async_trait::async_trait;
use pipekeeper_backend::{LaunchError, Pointed, Pointer, SecretValue};
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

    fn git(&self, asking: &SecretAsking<'_>) -> Result<Vec<SecretValue>, LaunchError> {
        let loan = self.lending.forges.get(asking.project);
        let loan = loan.ok_or_else(|| {
            terminal(
                "git",
                "is lent by a Forge with a `token`, and this project's repository is of none",
            )
        })?;
        let login = checked("git", loan.terms.as_ref(), asking, loan.what.as_ref())?;
        let script = askpass(login).map_err(|reason| terminal("git", &reason))?;
        Ok(vec![
            file(ASKPASS, ("GIT_ASKPASS", Pointed::Program), script),
            mask(login.token.reveal()),
        ])
    }

    fn registry(&self, asking: &SecretAsking<'_>, name: &Name) -> Result<RegistryLogin, LaunchError> {
        let right = format!("registry:{name}");
        let loan = self.lending.registries.get(name).ok_or_else(|| {
            terminal(
                &right,
                "is of no Registry with `credentials`; `pipe get Registry` lists what there is",
            )
        })?;
        checked(&right, loan.terms.as_ref(), asking, loan.what.as_ref()).cloned()
    }

    /// A kubeconfig, and its token.
    async fn cluster(
        &self,
        asking: &SecretAsking<'_>,
        name: &Name,
    ) -> Result<(Value, SecretValue), LaunchError> {
        let right = format!("cluster:{name}");
        let host = self
            .hosts
            .get(name)
            .ok_or_else(|| terminal(&right, "is of no Cluster; `pipe get Cluster` lists what there is"))?;
        checked(&right, self.lending.clusters.get(name), asking, Ok(&()))?;
        let namespace = match asking.namespace {
            Some(template) => filled(template, "project", asking.project.as_str()),
            None => host.namespace_of(asking.project, asking.tier),
        };
        let lent = host.lend(&namespace).await?;
        Ok((lent.kubeconfig, mask(&lent.token)))
    }
}

#[async_trait]
impl Lender for ServerLender {
    async fn lend(
        &self,
        asking: &SecretAsking<'_>,
        rights: &[Credential],
    ) -> Result<Vec<SecretValue>, LaunchError> {
        let mut values = Vec::new();
        let mut logins = Vec::new();
        let mut access: Option<Value> = None;
        for right in rights {
            match right {
                Credential::Git => values.extend(self.git(asking)?),
                Credential::Registry(name) => logins.push(self.registry(asking, name)?),
                Credential::Cluster(name) => {
                    let (kubeconfig, token) = self.cluster(asking, name).await?;
                    values.push(token);
                    access = Some(match access {
                        None => kubeconfig,
                        Some(before) => together(before, kubeconfig),
                    });
                }
            }
        }
        if !logins.is_empty() {
            let masks = logins
                .iter()
                .flat_map(|login| [mask(login.password.reveal()), mask(&login.auth())]);
            values.extend(masks);
            values.push(file(
                DOCKER,
                ("DOCKER_CONFIG", Pointed::Folder),
                docker_config(&logins),
            ));
        }
        let access = access.map(|access| file(KUBE, ("KUBECONFIG", Pointed::File), access.to_string()));
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
*"'{scheme}://{host}'"* | *"'{scheme}://{host}/"*) printf '%s\n' '{TOKEN_USER}' ;;
*"'{scheme}://{TOKEN_USER}@{host}'"* | *"'{scheme}://{TOKEN_USER}@{host}/"*) printf '%s\n' '{token}' ;;
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, process::Command};

    use pipekeeper_agent::protocol::SecretText;
    use pipekeeper_backend::Tier;
    use pipekeeper_model::EventKind;

    use super::*;
    use crate::config::Loan;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn login(base: &str, token: &str) -> GitLogin {
        GitLogin {
            base: base.to_owned(),
            token: SecretText::new(token),
        }
    }

    fn asking(project: &Name, tier: Tier) -> SecretAsking<'_> {
        SecretAsking {
            project,
            tier,
            event: EventKind::Push,
            environment: None,
            namespace: None,
            images: Vec::new(),
        }
    }

    fn lender(terms: Option<Lend>) -> ServerLender {
        let loan = Loan {
            terms: terms.clone(),
            what: Ok(login("https://git.corp", "t0ken-of-the-forge")),
        };
        let registry = |host: &str| Loan {
            terms: terms.clone(),
            what: Ok(RegistryLogin {
                host: host.to_owned(),
                user: "robot".to_owned(),
                password: SecretText::new("hunter2"),
            }),
        };
        let lending = Lending {
            forges: BTreeMap::from([(name("mall"), loan)]),
            registries: BTreeMap::from([
                (name("harbor"), registry("harbor.corp")),
                (name("quay"), registry("quay.corp")),
            ]),
            ..Lending::default()
        };
        ServerLender::new(lending, Hosts::new())
    }

    fn to_mall() -> Option<Lend> {
        serde_json::from_str(r#"{ "projects": ["mall"] }"#).ok()
    }

    #[test]
    fn the_forges_password_is_for_that_forge_alone() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("askpass");
        std::fs::write(
            &program,
            askpass(&login("https://git.corp:8443/sub", "it's $(id) \"x\"")).unwrap(),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let ask = |prompt: &str| {
            let output = Command::new(&program).arg(prompt).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(ask("Username for 'https://git.corp:8443': "), "x-access-token\n");
        assert_eq!(
            ask("Password for 'https://x-access-token@git.corp:8443': "),
            "it's $(id) \"x\"\n"
        );
        assert_eq!(
            ask("Password for 'https://x-access-token@git.corp:8443/mall/web.git': "),
            "it's $(id) \"x\"\n"
        );
        for other in [
            "Password for 'https://x-access-token@git.corp': ",
            "Password for 'http://x-access-token@git.corp:8443': ",
            "Password for 'https://x-access-token@git.corp:8443.evil.test': ",
            "Password for 'https://x-access-token@evil.test': ",
            "Username for 'https://git.corp:84433': ",
            "",
        ] {
            assert_eq!(ask(other), "", "{other}");
        }
        assert!(askpass(&login("https://a$(id)", "t")).is_err());
    }

    #[tokio::test]
    async fn what_is_lent_is_lent_by_terms_alone() {
        let (mall, shop) = (name("mall"), name("shop"));
        let rights = [Credential::Git, Credential::Registry(name("harbor"))];
        for right in &rights {
            let right = std::slice::from_ref(right);
            lender(to_mall())
                .lend(&asking(&mall, Tier::Protected), right)
                .await
                .unwrap();
            for (terms, project, tier) in [
                (None, &mall, Tier::Protected),
                (to_mall(), &shop, Tier::Protected),
                (to_mall(), &mall, Tier::Branches),
                (to_mall(), &mall, Tier::Forks),
                (to_mall(), &mall, Tier::Local),
            ] {
                let refused = lender(terms).lend(&asking(project, tier), right).await;
                let Err(LaunchError::Terminal { reason }) = refused else {
                    panic!("lent to {project} of {tier:?}");
                };
                assert!(reason.contains(&format!("`{}`", right[0])), "{reason}");
            }
        }
    }

    #[tokio::test]
    async fn several_registries_are_one_file_and_every_form_is_masked() {
        let mall = name("mall");
        let rights = ["harbor", "quay"].map(|one| Credential::Registry(name(one)));
        let given = lender(to_mall())
            .lend(&asking(&mall, Tier::Protected), &rights)
            .await
            .unwrap();
        let files: Vec<&SecretValue> = given.iter().filter(|one| one.target.is_some()).collect();
        let [file] = files.as_slice() else {
            panic!("one file")
        };
        assert!(file.value.contains("harbor.corp") && file.value.contains("quay.corp"));
        let pointer = file.pointer.as_ref().unwrap();
        assert_eq!(
            (pointer.variable.as_str(), pointer.at),
            ("DOCKER_CONFIG", Pointed::Folder)
        );
        let masked: Vec<&str> = given.iter().map(|one| one.value.as_str()).collect();
        assert!(masked.contains(&"hunter2") && masked.contains(&"cm9ib3Q6aHVudGVyMg=="));
    }

    #[test]
    fn two_clusters_are_one_kubeconfig_with_the_first_ones_context() {
        let one = |name: &str| serde_json::json!({ "current-context": name, "contexts": [{ "name": name }], "clusters": [{ "name": name }], "users": [{ "name": name }] });
        let both = together(one("a"), one("b"));
        assert_eq!(both["current-context"], "a");
        for list in ["contexts", "clusters", "users"] {
            assert_eq!(both[list].as_array().unwrap().len(), 2, "{list}");
        }
    }
}
