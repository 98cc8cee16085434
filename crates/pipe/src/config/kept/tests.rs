use std::collections::BTreeMap;

use pipekeeper_model::Name;
use pipekeeper_spec::{
    SourceFile,
    document::{Document, Kind, Others, ValueSource, check_documents},
};

use pipekeeper_backend_kube::PullConfig;
use pipekeeper_server::Unusable;

use super::{Additions, Values};
use crate::config::{Access, Config, PlaceConfig, clusters, of_text as config};

const KUBECONFIG: &str = "
clusters: [{ name: c, cluster: { server: 'https://10.0.0.1' } }]
contexts: [{ name: ci, context: { cluster: c, user: u } }]
users: [{ name: u, user: { token: t } }]
";

/// These values, and no others.
struct These<'a>(&'a [(&'a str, &'a str)]);

impl Values for These<'_> {
    fn value(&self, source: &ValueSource) -> Option<Result<String, String>> {
        let ValueSource::Secret(name) = source else {
            return None;
        };
        let found = self.0.iter().find(|(known, _)| name.as_str() == *known);
        Some(
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or_else(|| format!("there is no Secret `{name}`")),
        )
    }
}

fn documents(text: &str) -> Vec<Document> {
    let source = SourceFile { path: "x.yaml", text };
    check_documents(&[source], Others::Unknown).unwrap().0
}

fn kept(config: &Config, text: &str, values: &[(&str, &str)]) -> Additions {
    config.kept(&documents(text), &These(values))
}

fn reasons(made: &Additions) -> BTreeMap<(Kind, &str), &str> {
    let all = made.unusable.iter();
    all.map(|one| ((one.kind, one.name.as_str()), one.reason.as_str()))
        .collect()
}

#[test]
fn a_cluster_is_what_its_table_would_be() {
    let table = r#"
agent_image = "r.test/agent"
[clusters.eks]
context = "ci"
default_image = "debian:12"
namespaces = { protected = "ci-${project}", forks = "ci-fork" }
create_namespaces = true
limits = { pods = 40, cpu = "16", memory = "32Gi", container = { cpu = "8" } }
resources = { cpu = "1", memory = "1Gi" }
deny = ["10.0.0.0/8"]
profiles = { protected = "restricted" }
pull_secrets = ["closed"]
mirrors = { "docker.io" = "harbor.corp/hub" }
env = { GOPROXY = "https://go.corp" }
pod_allow = ["nodeSelector"]
pool = { idle = "7m", max = 3 }
hold = { failed = "20m", max = 1 }
volumes.m2 = { host_path = "/data/m2", nodes = { app = "ci" } }
volumes.npm = { size = "50Gi", class = "fast", access = "ReadWriteMany" }
object_store = { url = "https://s3.corp", bucket = "ci", access_key = "k", secret_key = "s" }
"#;
    let document = r#"
kind: Cluster
name: eks
kubeconfig: { secret: EKS }
context: ci
default_image: debian:12
namespaces: { protected: "ci-${{ project }}", forks: ci-fork }
create_namespaces: true
limits: { pods: 40, cpu: 16, memory: 32Gi, container: { cpu: 8 } }
resources: { cpu: 1, memory: 1Gi }
deny: 10.0.0.0/8
profiles: { protected: restricted }
pull_secrets: closed
mirrors: { docker.io: harbor.corp/hub }
env: { GOPROXY: "https://go.corp" }
pod_allow: [nodeSelector]
pool: { idle: 7m, max: 3 }
hold: { failed: 20m, max: 1 }
volumes:
  m2: { host_path: /data/m2, nodes: { app: ci } }
  npm: { size: 50Gi, class: fast, access: ReadWriteMany }
object_store: { url: "https://s3.corp", bucket: ci, access_key: k, secret_key: { secret: STORE } }
"#;
    let written = config(table).clusters.remove(0);
    let empty = config("agent_image = \"r.test/agent\"");
    let made = kept(&empty, document, &[("EKS", KUBECONFIG), ("STORE", "s")]);
    assert_eq!(reasons(&made), BTreeMap::new());
    let [cluster] = made.clusters.as_slice() else {
        panic!("one cluster")
    };
    assert_eq!(cluster.options, written.options);
    assert_eq!(cluster.object_store, written.object_store);
    assert_eq!((cluster.pool, cluster.hold), (written.pool, written.hold));
    assert_eq!(
        (&cluster.context, &cluster.default_image),
        (&written.context, &written.default_image)
    );
    assert!(matches!(cluster.access, Access::Kubeconfig(_)));
}

#[test]
fn a_cluster_that_cannot_be_reached_stays_a_place() {
    let text = "
{ kind: Cluster, name: eks, kubeconfig: { secret: EKS }, agent_image: a, namespaces: { protected: ci },
  object_store: { url: 'https://s3.corp', bucket: ci, access_key: k, secret_key: { secret: STORE } } }
---
{ kind: Forge, name: git, type: gitea, url: 'https://git.corp' }
---
{ kind: Project, name: web, forge: git, repository: mall/web, cluster: eks, hook_secret: { secret: HOOK } }
";
    for (value, named) in [
        (None, "there is no Secret `EKS`"),
        (Some("x"), "holds no kubeconfig"),
    ] {
        let values: Vec<_> = value.map(|value| ("EKS", value)).into_iter().collect();
        let made = kept(&config(""), text, &values);
        let [web] = made.projects.as_slice() else {
            panic!("one project")
        };
        assert_eq!(web.place, PlaceConfig::Cluster("eks".parse().unwrap()));
        let [eks] = made.clusters.as_slice() else {
            panic!("one cluster")
        };
        assert!(matches!(&eks.access, Access::Away(reason) if reason.contains(named)));
        assert!(eks.object_store.is_none());
        let told: Vec<&str> = made.unusable.iter().map(|one| one.reason.as_str()).collect();
        assert!(
            told.iter()
                .any(|reason| reason.contains("cannot be reached") && reason.contains(named))
        );
        assert!(
            told.iter()
                .any(|reason| reason.contains("its caches are kept with the server"))
        );
    }
}

#[test]
fn a_cluster_that_is_wrong_stays_a_place_too() {
    let text = "
{ kind: Cluster, name: bare, namespaces: { protected: ci } }
---
{ kind: Cluster, name: dev, agent_image: a, namespaces: { protected: ci } }
---
{ kind: Cluster, name: blank, agent_image: a, namespaces: { protected: ci },
  object_store: { url: 'https://s3.corp', bucket: ci, access_key: k, secret_key: { secret: BLANK } } }
---
{ kind: Forge, name: git, type: gitea, url: 'https://git.corp' }
---
{ kind: Project, name: one, forge: git, repository: a/one, cluster: bare }
---
{ kind: Project, name: two, forge: git, repository: a/two, cluster: none }
";
    let file = "[clusters.dev]\nagent_image = \"a\"\nnamespaces = { protected = \"ci\" }\n";
    let mut made = kept(&config(file), text, &[("BLANK", " ")]);
    let told = reasons(&made);
    assert!(told[&(Kind::Cluster, "bare")].contains("has no `agent_image`; hint: push one"));
    assert!(told[&(Kind::Cluster, "dev")].contains("in the configuration file"));
    assert!(
        told[&(Kind::Cluster, "blank")]
            .contains("kept with the server: the cluster `blank` has no `object_store.secret_key`")
    );
    assert!(told[&(Kind::Project, "two")].contains("there is no such cluster"));
    let names = |all: Vec<&Name>| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        names(made.projects.iter().map(|one| &one.project.name).collect()),
        ["one"]
    );
    made.add_closed(&[Unusable {
        kind: Kind::Cluster,
        name: "old".parse().unwrap(),
        reason: "of a newer release".to_owned(),
    }]);
    let places: Vec<_> = made
        .clusters
        .iter()
        .map(|one| (one.options.name.as_str(), matches!(one.access, Access::Away(_))))
        .collect();
    assert_eq!(places, [("bare", true), ("blank", false), ("old", true)]);
}

#[test]
fn what_images_are_pulled_with_stays_while_a_login_cannot_be_had() {
    let text = "
{ kind: Registry, name: harbor, url: 'https://harbor.corp', credentials: { secret: HARBOR }, pull_secrets: [build] }
---
{ kind: Registry, name: quay, url: 'https://quay.corp', credentials: { secret: QUAY }, pull_secrets: [build] }
---
{ kind: Registry, name: robot, url: 'https://harbor.corp/mall', credentials: { secret: HARBOR }, pull_secrets: [build] }
";
    let (harbor, quay) = (("HARBOR", "robot:pass"), ("QUAY", "bot:pass"));
    let part = kept(&config(""), text, &[harbor]);
    assert_eq!(part.lending.pull_config, Some(PullConfig::AsBefore));
    let whole = kept(&config(""), text, &[harbor, quay]);
    let Some(PullConfig::File(file)) = &whole.lending.pull_config else {
        panic!("a file")
    };
    assert!(file.contains("harbor.corp") && file.contains("quay.corp"));
    let told = reasons(&whole);
    assert!(told[&(Kind::Registry, "robot")].contains("the credentials of another Registry"));
    assert_eq!(
        kept(
            &config(""),
            "{ kind: Registry, name: a, url: 'https://a.corp' }",
            &[]
        )
        .lending
        .pull_config,
        None
    );
}

#[test]
fn namespaces_are_kept_apart_across_documents_and_file() {
    let text = "
{ kind: Cluster, name: eks, agent_image: a, namespaces: { protected: 'ci-${{project}}', branches: 'ci-${{ project }}-pr' } }
---
{ kind: Forge, name: git, type: gitea, url: 'https://git.corp' }
---
{ kind: Project, name: web, forge: git, repository: a/web, cluster: eks }
---
{ kind: Project, name: web-pr, forge: git, repository: a/pr, cluster: eks }
";
    let made = kept(&config(""), text, &[]);
    let told = reasons(&made);
    assert!(
        told[&(Kind::Project, "web-pr")].contains("into one namespace, `ci-web-pr`"),
        "{told:?}"
    );
    assert_eq!(made.projects.len(), 1);
    assert!(clusters::check_namespaces(&made.clusters, &made.projects).is_ok());
}

#[test]
fn registries_and_forges_are_lent_as_their_documents_say() {
    let text = "
{ kind: Registry, name: harbor, url: 'https://harbor.corp', credentials: { secret: HARBOR }, pull_secrets: [build], lend: { projects: web } }
---
{ kind: Registry, name: quay, url: 'https://quay.corp', credentials: { secret: QUAY }, pull_secrets: [build] }
---
{ kind: Registry, name: open, url: 'https://open.corp' }
---
{ kind: Forge, name: git, type: gitea, url: 'https://git.corp/', token: { secret: TOKEN }, lend: { projects: web } }
---
{ kind: Project, name: web, forge: git, repository: a/web, trusted: true, hook_secret: { secret: HOOK } }
";
    let values = [
        ("HARBOR", "robot:pass"),
        ("QUAY", "no colon"),
        ("TOKEN", "t"),
        ("HOOK", "a-secret-of-20-letters"),
    ];
    let made = kept(&config(""), text, &values);
    let told = reasons(&made);
    assert!(told[&(Kind::Registry, "quay")].contains("are not `user:password`"));
    let lent = &made.lending;
    let names: Vec<&str> = lent.registries.keys().map(Name::as_str).collect();
    assert_eq!(names, ["harbor", "quay"]);
    let harbor = lent.registries.values().next().unwrap();
    assert_eq!(harbor.what.as_ref().unwrap().host, "harbor.corp");
    assert!(harbor.terms.is_some());
    let git = lent.forges.values().next().unwrap();
    assert_eq!(git.what.as_ref().unwrap().base, "https://git.corp");
    let mut config = config("[clusters.dev]\nagent_image = \"a\"\nnamespaces = { protected = \"ci\" }\n");
    config.extend(made);
    assert!(
        config
            .clusters
            .iter()
            .all(|one| one.options.pull_config.is_some())
    );
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("robot:pass") && !shown.contains("cm9ib3"),
        "{shown}"
    );
}
