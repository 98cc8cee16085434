//! A kubeconfig that somebody gave the server: it may say where a cluster is and who the server is there, and nothing about
//! the server's own machine.

use kube::config::{AuthInfo, Cluster, Kubeconfig};

/// Reads one.
///
/// # Errors
/// What is wrong with it, without a word of what it holds.
pub(super) fn parse(text: &str) -> Result<Kubeconfig, String> {
    let hint = "hint: `kubectl config view --raw --flatten --minify` writes one that holds all it needs";
    let parsed = Kubeconfig::from_yaml(text);
    let parsed = parsed.map_err(|_| format!("its `kubeconfig` holds no kubeconfig; {hint}"))?;
    let users = parsed.auth_infos.iter().filter_map(|one| one.auth_info.as_ref());
    let clusters = parsed.clusters.iter().filter_map(|one| one.cluster.as_ref());
    let mut reaching = users.filter_map(of_user).chain(clusters.filter_map(of_cluster));
    match reaching.next() {
        None => Ok(parsed),
        Some(key) => Err(format!(
            "its `kubeconfig` has `{key}`, which is of no use but on the machine that it was written on; {hint}"
        )),
    }
}

/// Whatever runs a program or reads a file of this machine.
fn of_user(user: &AuthInfo) -> Option<&'static str> {
    let found = [
        ("exec", user.exec.is_some()),
        ("auth-provider", user.auth_provider.is_some()),
        ("tokenFile", user.token_file.is_some()),
        ("client-certificate", user.client_certificate.is_some()),
        ("client-key", user.client_key.is_some()),
    ];
    found
        .into_iter()
        .find_map(|(key, is_there)| is_there.then_some(key))
}

fn of_cluster(cluster: &Cluster) -> Option<&'static str> {
    cluster
        .certificate_authority
        .is_some()
        .then_some("certificate-authority")
}

#[cfg(test)]
mod tests {
    use super::parse;

    const GOOD: &str = "
apiVersion: v1
kind: Config
current-context: dev
contexts: [{ name: dev, context: { cluster: dev, user: pipe } }]
clusters: [{ name: dev, cluster: { server: 'https://10.0.0.1:6443', certificate-authority-data: QQ== } }]
users: [{ name: pipe, user: { token: hunter2 } }]
";

    #[test]
    fn it_says_where_and_who_and_reaches_nothing_of_this_machine() {
        parse(GOOD).unwrap();
        let cases = [
            (
                "token: hunter2",
                "exec: { command: /bin/sh, apiVersion: client.authentication.k8s.io/v1 }",
                "`exec`",
            ),
            (
                "token: hunter2",
                "auth-provider: { name: gcp, config: {} }",
                "`auth-provider`",
            ),
            ("token: hunter2", "tokenFile: /etc/shadow", "`tokenFile`"),
            (
                "token: hunter2",
                "client-certificate: /a, client-key: /b",
                "`client-certificate`",
            ),
            ("token: hunter2", "client-key: /b", "`client-key`"),
            (
                "certificate-authority-data: QQ==",
                "certificate-authority: /etc/x",
                "`certificate-authority`",
            ),
        ];
        for (from, to, named) in cases {
            let error = parse(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(named) && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn what_it_holds_is_not_told() {
        for text in [
            "hunter2",
            "users: hunter2",
            "users: [{ name: [hunter2] }]",
            "\t:hunter2",
        ] {
            if let Err(error) = parse(text) {
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
        assert!(parse("users: hunter2").is_err());
    }
}
