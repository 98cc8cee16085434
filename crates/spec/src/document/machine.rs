//! What documents name on the server's own machine: only whoever keeps that machine may let the server read it.

use super::{Body, Cluster, ClusterObjectStore, Document, ValueSource};

impl Document {
    /// The key paths under which it names files of the server's machine.
    pub fn machine_files(&self) -> Vec<&'static str> {
        let named = match &self.body {
            Body::Project(project) => vec![("hook_secret.file", is_file(project.hook_secret.as_ref()))],
            Body::Cluster(cluster) => of_cluster(cluster),
            Body::Forge(forge) => vec![
                ("ca", forge.ca.is_some()),
                ("token.file", is_file(forge.token.as_ref())),
            ],
            Body::Registry(registry) => vec![
                ("ca", registry.ca.is_some()),
                ("credentials.file", is_file(registry.credentials.as_ref())),
            ],
            Body::Secret(secret) => vec![("file", secret.file.is_some())],
            Body::Environment(_) | Body::RoleBinding(_) | Body::Notification(_) | Body::App(_) => Vec::new(),
        };
        let named = named.into_iter().filter(|(_, is_named)| *is_named);
        named.map(|(path, _)| path).collect()
    }
}

fn of_cluster(cluster: &Cluster) -> Vec<(&'static str, bool)> {
    let store = cluster.object_store.as_ref();
    let is_in_store = |has: fn(&ClusterObjectStore) -> bool| store.is_some_and(has);
    vec![
        ("kubeconfig.file", is_file(cluster.kubeconfig.as_ref())),
        ("object_store.ca", is_in_store(|store| store.ca.is_some())),
        (
            "object_store.secret_key.file",
            is_in_store(|store| is_file(Some(&store.secret_key))),
        ),
    ]
}

fn is_file(source: Option<&ValueSource>) -> bool {
    match source {
        Some(ValueSource::File(_)) => true,
        Some(ValueSource::Secret(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::document::Document;

    #[test]
    fn every_file_of_the_machine_is_found_and_no_other_path() {
        let cases = [
            (
                json!({ "kind": "Project", "name": "a", "forge": "f", "repository": "/srv/a", "hook_secret": { "file": "/x" } }),
                vec!["hook_secret.file"],
            ),
            (
                json!({ "kind": "Project", "name": "a", "forge": "f", "repository": "a/a", "hook_secret": { "secret": "X" } }),
                vec![],
            ),
            (
                json!({ "kind": "Cluster", "name": "a", "namespaces": { "protected": "ci" }, "kubeconfig": { "file": "/x" },
                    "volumes": { "m2": { "host_path": "/data" } },
                    "object_store": { "url": "https://s", "bucket": "b", "access_key": "k", "secret_key": { "file": "/y" }, "ca": "/z" } }),
                vec![
                    "kubeconfig.file",
                    "object_store.ca",
                    "object_store.secret_key.file",
                ],
            ),
            (
                json!({ "kind": "Forge", "name": "a", "type": "gitea", "ca": "/x", "token": { "file": "/y" } }),
                vec!["ca", "token.file"],
            ),
            (
                json!({ "kind": "Registry", "name": "a", "url": "https://r", "ca": "/x", "credentials": { "file": "/y" } }),
                vec!["ca", "credentials.file"],
            ),
            (
                json!({ "kind": "Secret", "name": "A", "file": "/x" }),
                vec!["file"],
            ),
        ];
        for (document, wanted) in cases {
            let read: Document = serde_json::from_value(document.clone()).unwrap();
            assert_eq!(read.machine_files(), wanted, "{document}");
        }
    }
}
