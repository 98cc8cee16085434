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
        cluster: None,
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
    for other in [
        "Password for 'https://x-access-token@git.corp': ",
        "Password for 'http://x-access-token@git.corp:8443': ",
        "Password for 'https://x-access-token@git.corp:8443.evil.test': ",
        "Password for 'https://x-access-token@evil.test': ",
        "Username for 'https://git.corp:84433': ",
        // What a git that does not encode the names of users asks for `https://'…'@evil.test`.
        "Password for 'https://'https://x-access-token@git.corp:8443'@evil.test': ",
        "Password for 'https://x-access-token@git.corp:8443': '@evil.test': ",
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

#[tokio::test]
async fn two_logins_of_one_host_are_not_one_file() {
    let mall = name("mall");
    let mut lender = lender(to_mall());
    let harbor = lender.lending.registries[&name("harbor")].clone();
    lender.lending.registries.insert(name("quay"), harbor);
    let rights = ["harbor", "quay"].map(|one| Credential::Registry(name(one)));
    let asking = asking(&mall, Tier::Protected);
    let refused = lender.check(&asking, &rights).await.unwrap_err();
    assert!(
        refused.to_string().contains("`harbor.corp` like another one"),
        "{refused}"
    );
    lender.check(&asking, &rights[..1]).await.unwrap();
}

/// A cluster whose pods are in `ci-PROJECT`.
fn with_cluster(terms: &str) -> ServerLender {
    let table = "[clusters.eks]\nagent_image = \"a\"\nnamespaces = { protected = \"ci-${project}\" }\n";
    let options = crate::config::of_text(table).clusters.remove(0).options;
    let host = KubeHost::away("for a test".to_owned(), options, Vec::new());
    let lend: Lend = serde_json::from_str(terms).unwrap();
    let lending = Lending {
        clusters: BTreeMap::from([(name("eks"), lend)]),
        ..Lending::default()
    };
    ServerLender::new(lending, Hosts::from([(name("eks"), Arc::new(host))]))
}

const BOTH: &str = r#"{ "projects": ["mall", "shop"] }"#;
const SOLE: &str = r#"{ "projects": ["mall"] }"#;
const PROD: &str = r#"{ "projects": ["mall"], "environments": ["prod"] }"#;

/// What is said to an action of mall in this environment with this namespace in this cluster.
async fn answer(
    terms: &str,
    environment: Option<&str>,
    namespace: Option<&str>,
    cluster: Option<&str>,
) -> String {
    let (mall, environment, cluster) = (name("mall"), environment.map(name), cluster.map(name));
    let asking = SecretAsking {
        environment: environment.as_ref(),
        namespace,
        cluster: cluster.as_ref(),
        ..asking(&mall, Tier::Protected)
    };
    let rights = [Credential::Cluster(name("eks"))];
    match with_cluster(terms).check(&asking, &rights).await {
        Ok(()) => "lent".to_owned(),
        Err(refused) => refused.to_string(),
    }
}

#[tokio::test]
async fn a_clusters_rights_are_for_the_projects_own_namespace_of_an_environment() {
    let own = "${{ project }}";
    for (terms, environment, namespace, cluster) in [
        (BOTH, "prod", own, "eks"),
        (SOLE, "prod", "mall-live", "eks"),
        (PROD, "prod", own, "eks"),
    ] {
        let answer = answer(terms, Some(environment), Some(namespace), Some(cluster)).await;
        assert_eq!(answer, "lent", "{terms} {namespace}");
    }
    let (prod, eks) = (Some("prod"), Some("eks"));
    let pods = "which pods of actions are in";
    for (terms, environment, namespace, cluster, wanted) in [
        (
            BOTH,
            prod,
            Some("shop"),
            eks,
            "for one namespace of all its projects, `shop`",
        ),
        (SOLE, None, None, eks, "name one by `environment:`"),
        (SOLE, prod, None, eks, "name one by `environment:`"),
        (
            SOLE,
            prod,
            Some(own),
            Some("dev"),
            "is not where the Environment `prod` is",
        ),
        (
            SOLE,
            prod,
            Some(own),
            None,
            "is not where the Environment `prod` is",
        ),
        (SOLE, prod, Some("ci-${{ project }}"), eks, pods),
        (SOLE, prod, Some("ci-shop"), eks, pods),
        (SOLE, prod, Some("ci-${{ project }}-branches"), eks, pods),
        (PROD, Some("test"), Some(own), eks, "this action is of test"),
    ] {
        let answer = answer(terms, environment, namespace, cluster).await;
        assert!(answer.contains(wanted), "{answer}");
    }
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
