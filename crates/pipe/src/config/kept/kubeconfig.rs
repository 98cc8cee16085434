//! A kubeconfig that somebody gave the server: it may say where a cluster is and who the server is there, and nothing about
//! the server's own machine.

use kube::config::{AuthInfo, Cluster, Kubeconfig};

/// Reads one, of which this context is meant, or else its current one.
///
/// # Errors
/// What is wrong with it, without a word of what it holds.
pub(super) fn parse(text: &str, context: Option<&str>) -> Result<Kubeconfig, String> {
    let hint = "hint: `kubectl config view --raw --flatten --minify` writes one that holds all it needs";
    let parsed = Kubeconfig::from_yaml(text);
    let parsed = parsed.map_err(|_| format!("its `kubeconfig` holds no kubeconfig; {hint}"))?;
    let users = parsed.auth_infos.iter().filter_map(|one| one.auth_info.as_ref());
    let clusters = parsed.clusters.iter().filter_map(|one| one.cluster.as_ref());
    let mut reaching = users.filter_map(of_user).chain(clusters.filter_map(of_cluster));
    match reaching.next() {
        None if is_somebody(&parsed, context) => Ok(parsed),
        // Nobody in particular would see no pod, and take them for gone.
        None => Err(format!(
            "its `kubeconfig` does not say who the server is in the context that is meant; {hint}"
        )),
        Some(key) => Err(format!(
            "its `kubeconfig` has `{key}`, which is of no use but on the machine that it was written on; {hint}"
        )),
    }
}

/// Whether the context is there, with a user who has something to show.
fn is_somebody(config: &Kubeconfig, context: Option<&str>) -> bool {
    let name = context.or(config.current_context.as_deref());
    let context = config.contexts.iter().find(|one| Some(one.name.as_str()) == name);
    let user = context.and_then(|one| one.context.as_ref()?.user.as_deref());
    let user = config
        .auth_infos
        .iter()
        .find(|one| Some(one.name.as_str()) == user);
    user.and_then(|one| one.auth_info.as_ref()).is_some_and(|user| {
        let has_certificate = user.client_certificate_data.is_some() && user.client_key_data.is_some();
        user.token.is_some() || has_certificate || (user.username.is_some() && user.password.is_some())
    })
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
        parse(GOOD, None).unwrap();
        parse(GOOD, Some("dev")).unwrap();
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
            let error = parse(&GOOD.replace(from, to), None).unwrap_err();
            assert!(error.contains(named) && error.contains("hint: "), "{error}");
        }
    }

    #[test]
    fn it_says_who_the_server_is() {
        for (from, to) in [
            ("user: { token: hunter2 }", "user: {}"),
            ("user: { token: hunter2 }", "user: { username: ada }"),
            ("user: pipe", "user: other"),
            ("current-context: dev", "current-context: other"),
        ] {
            let error = parse(&GOOD.replace(from, to), None).unwrap_err();
            assert!(error.contains("does not say who the server is"), "{error}");
        }
        assert!(parse(GOOD, Some("other")).is_err());
        assert!(
            parse("users: hunter2", None)
                .unwrap_err()
                .contains("holds no kubeconfig")
        );
    }
}
