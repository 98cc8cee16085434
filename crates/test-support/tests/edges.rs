//! Which crate may see which: the table of DESIGN section 13, read from `cargo metadata`.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A crate of ours and what it must never depend on directly.
const DIRECT: [(&str, &[&str]); 15] = [
    (
        "access",
        &[
            "tokio",
            "sqlx",
            "kube",
            "axum",
            "pipekeeper-store",
            "pipekeeper-engine",
        ],
    ),
    (
        "model",
        &["tokio", "sqlx", "kube", "axum", "chrono", "jiff", "rustix"],
    ),
    (
        "expr",
        &[
            "tokio",
            "sqlx",
            "kube",
            "axum",
            "chrono",
            "granit-parser",
            "rustix",
        ],
    ),
    (
        "spec",
        &[
            "tokio",
            "sqlx",
            "kube",
            "axum",
            "pipekeeper-engine",
            "pipekeeper-store",
            "reqwest",
        ],
    ),
    (
        "engine",
        &[
            "tokio",
            "sqlx",
            "kube",
            "axum",
            "granit-parser",
            "rustix",
            "getrandom",
            "pipekeeper-spec",
        ],
    ),
    ("store", &["kube", "axum"]),
    ("backend", &["sqlx", "axum", "kube", "pipekeeper-store"]),
    (
        "backend-kube",
        &["sqlx", "axum", "pipekeeper-store", "pipekeeper-engine"],
    ),
    ("agent", &["pipekeeper-store", "axum", "kube", "tokio", "sqlx"]),
    (
        "objects",
        &["pipekeeper-store", "pipekeeper-engine", "axum", "kube", "sqlx"],
    ),
    ("transfer", &["tokio", "pipekeeper-objects"]),
    (
        "forge",
        &["pipekeeper-store", "pipekeeper-engine", "sqlx", "axum"],
    ),
    (
        "source",
        &["pipekeeper-store", "pipekeeper-engine", "axum", "sqlx"],
    ),
    ("controller", &["axum", "kube", "sqlx", "pipekeeper-server"]),
    ("server", &["kube", "sqlx", "pipekeeper-agent"]),
];

/// A crate of ours and what it must not see however far away.
const ANYWHERE: [(&str, &[&str]); 8] = [
    ("model", &["tokio", "sqlx", "kube", "axum"]),
    ("expr", &["tokio", "sqlx", "kube", "axum"]),
    ("spec", &["pipekeeper-engine", "pipekeeper-store"]),
    ("engine", &["tokio", "sqlx", "kube", "axum", "pipekeeper-spec"]),
    (
        "agent",
        &["pipekeeper-store", "axum", "kube", "tokio", "rustls", "ureq"],
    ),
    (
        "objects",
        &["pipekeeper-store", "pipekeeper-engine", "axum", "kube"],
    ),
    ("transfer", &["pipekeeper-store", "axum", "kube", "tokio"]),
    ("forge", &["pipekeeper-store", "pipekeeper-engine"]),
];

/// What no crate may bring in: one TLS provider, no OpenSSL.
const NOWHERE: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

struct Graph {
    ours: BTreeSet<String>,
    /// Normal dependencies by package id, as they were resolved.
    edges: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, String>,
}

impl Graph {
    fn read() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
            .other_options(vec![
                "--offline".to_owned(),
                "--locked".to_owned(),
                "--filter-platform".to_owned(),
                host(),
            ])
            .exec()
            .unwrap();
        let resolve = metadata.resolve.as_ref().unwrap();
        let is_normal = |dep: &cargo_metadata::NodeDep| {
            dep.dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        };
        let edges = resolve
            .nodes
            .iter()
            .map(|node| {
                let normal = node.deps.iter().filter(|dep| is_normal(dep));
                (
                    node.id.repr.clone(),
                    normal.map(|dep| dep.pkg.repr.clone()).collect(),
                )
            })
            .collect();
        Self {
            ours: metadata
                .workspace_members
                .iter()
                .map(|id| id.repr.clone())
                .collect(),
            edges,
            names: metadata
                .packages
                .iter()
                .map(|package| (package.id.repr.clone(), package.name.to_string()))
                .collect(),
        }
    }

    fn of(&self, name: &str) -> &String {
        let full = format!("pipekeeper-{name}");
        self.ours
            .iter()
            .find(|id| self.names[*id] == full)
            .unwrap_or_else(|| panic!("there is a crate `{full}`"))
    }

    fn direct(&self, id: &str) -> BTreeSet<&str> {
        self.edges[id].iter().map(|to| self.names[to].as_str()).collect()
    }

    fn anywhere(&self, id: &str) -> BTreeSet<&str> {
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        let mut open: Vec<&String> = self.edges[id].iter().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(&self.edges[next]);
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

/// The platform that is built for: other platforms' packages may never have been downloaded.
fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

#[test]
fn no_crate_depends_on_what_it_must_never_see() {
    let graph = Graph::read();
    let mut wrong = Vec::new();
    for (name, forbidden) in DIRECT {
        let seen = graph.direct(graph.of(name));
        wrong.extend(
            forbidden
                .iter()
                .filter(|to| seen.contains(**to))
                .map(|to| format!("{name} -> {to}")),
        );
    }
    for (name, forbidden) in ANYWHERE {
        let seen = graph.anywhere(graph.of(name));
        wrong.extend(
            forbidden
                .iter()
                .filter(|to| seen.contains(**to))
                .map(|to| format!("{name} -> … -> {to}")),
        );
    }
    assert!(wrong.is_empty(), "forbidden edges: {wrong:#?}");
}

#[test]
fn nothing_brings_a_second_tls() {
    // The metadata also name optional packages that no feature turns on; the tree holds what is built.
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--workspace",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"),
        ])
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains("rustls"), "the tree is not read right");
    let found: Vec<&str> = NOWHERE.into_iter().filter(|name| built.contains(name)).collect();
    assert!(found.is_empty(), "forbidden packages: {found:?}");
}

#[test]
fn only_tests_see_the_test_support() {
    let graph = Graph::read();
    let users: Vec<&String> = graph
        .ours
        .iter()
        .filter(|id| graph.direct(id).contains("pipekeeper-test-support"))
        .collect();
    assert!(users.is_empty(), "{users:?}");
}
