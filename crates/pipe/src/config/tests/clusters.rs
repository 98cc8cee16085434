//! Clusters and their object stores.

use super::*;

const CLUSTER: &str =
    "[clusters.dev]\nagent_image = \"r.test/agent\"\nnamespaces = { protected = \"ci-${project}\" }\n";
const IN_PODS: &str = "[projects.Web_1]\nforge = \"gitea\"\nrepository = \"/x\"\nhook_secret = \"0123456789abcdef\"\nbackend = \"dev\"\n";

#[test]
fn a_cluster_that_cannot_be_used_is_refused() {
    let cases = [
        (
            "limits = { pods = 4 }",
            "has `limits` for namespaces that it does not make",
        ),
        (
            "deny = [\"10.0.0.0/8\"]",
            "has `deny` for namespaces that it does not make",
        ),
        (
            "create_namespaces = true\nlimits = { cpu = \"4\" }",
            "`dev` has `limits.cpu`, and does not say how much",
        ),
        (
            "create_namespaces = true\ndeny = [\"example.org\"]",
            "has a wrong `deny`: failed to read `example.org`",
        ),
        ("default_image = \"\"", "`dev` has an empty `default_image`"),
        ("hold = { failed = \"soon\" }", "has a wrong `hold.failed`: "),
        (
            "hold = { failed = \"13h\" }",
            "has a wrong `hold.failed`: no pod is held for more than 12h",
        ),
        ("hold = { idle = \"1m\" }", "unknown field `idle`"),
        ("hold = { max = 21 }", "has a wrong `hold.max`: at most 20"),
        (
            "resources = { cpu = \"lots\" }",
            "has a wrong `resources.cpu`: `lots`",
        ),
        ("limits = { pod = 4 }", "unknown field `pod`"),
        ("pod_allow = [\"hostNetwork\"]", "unknown variant `hostNetwork`"),
        (
            "env = { \"A=B\" = \"c\" }",
            "has a variable `A=B`, which is no name of one",
        ),
        (
            "mirrors = { \"docker.io/library\" = \"r.test\" }",
            "has a mirror of `docker.io/library`, which is no host",
        ),
        (
            "volumes = { a = { host_path = \"/data\" }, b = { host_path = \"/data/m2/\" } }",
            "has the volume `b` inside the volume `a`",
        ),
    ];
    for (keys, wanted) in cases {
        let error = parse(&format!("{CLUSTER}{keys}\n"), &[]).unwrap_err();
        assert!(error.message.contains(wanted), "{keys}: {}", error.message);
    }
    let unnamed = CLUSTER.replace("r.test/agent", " ");
    let error = parse(&unnamed, &[]).unwrap_err();
    assert!(
        error.message.contains("has no `agent_image`"),
        "{}",
        error.message
    );
    let error = parse(&format!("{CLUSTER}{IN_PODS}"), &[]).unwrap_err();
    let wanted = "would put pods of the project `Web_1` into `ci-Web_1";
    assert!(error.message.contains(wanted), "{}", error.message);
}

#[test]
fn failed_pods_are_held_only_where_that_is_asked_for() {
    let hold = |keys: &str| {
        let config = parse(&format!("{CLUSTER}{keys}\n"), &[]).unwrap();
        config.clusters.into_iter().next().unwrap().hold
    };
    let held = |minutes: u64, max| {
        let failed = Duration::from_secs(minutes * 60);
        Some(HoldOptions { failed, max })
    };
    assert_eq!(hold(""), None);
    assert_eq!(hold("hold = {}"), held(15, 2));
    assert_eq!(hold("hold = { failed = \"1h\", max = 5 }"), held(60, 5));
}

#[test]
fn no_project_meets_what_is_protected_of_another() {
    let refused = |namespaces: &str, projects: [&str; 2]| {
        let cluster = CLUSTER.replace("protected = \"ci-${project}\"", namespaces);
        let projects = projects.map(|name| IN_PODS.replace("Web_1", name));
        let text = format!("{cluster}{}", projects.concat());
        parse(&text, &[]).err().map(|failure| failure.to_string())
    };
    let meets = |tier: &str, namespace: &str, one: &str, other: &str| {
        format!(
            "the protected pods of the project `{one}` and the pods for {tier} of the project `{other}` into one namespace, `{namespace}`"
        )
    };
    let suffix = "protected = \"x-${project}\"";
    let literal = "protected = \"ci\", branches = \"${project}\"";
    for (namespaces, projects, wanted) in [
        (
            suffix,
            ["web", "web-branches"],
            meets("branches", "x-web-branches", "web-branches", "web"),
        ),
        (
            suffix,
            ["web-forks", "web"],
            meets("forks", "x-web-forks", "web-forks", "web"),
        ),
        (literal, ["ci", "web"], meets("branches", "ci", "web", "ci")),
        (
            "protected = \"x-${project}\", forks = \"x-web\"",
            ["web", "shop"],
            meets("forks", "x-web", "web", "shop"),
        ),
    ] {
        let text = refused(namespaces, projects).unwrap_or_default();
        assert!(text.contains(&wanted), "{namespaces}: {text}");
    }
    let one_for_all = "protected = \"ci\", branches = \"ci\", forks = \"ci\"";
    let one_for_each = "protected = \"${project}\", branches = \"${project}\", forks = \"${project}\"";
    let apart = "protected = \"x-${project}\", branches = \"branches-of-${project}\", forks = \"forks\"";
    for namespaces in [suffix, one_for_all, one_for_each, apart] {
        assert_eq!(refused(namespaces, ["web", "shop"]), None, "{namespaces}");
    }
    assert_eq!(refused(apart, ["web", "web-branches"]), None);
}

#[test]
fn a_cluster_makes_namespaces_only_if_it_is_told_to() {
    let making = |keys: &str| {
        let config = parse(&format!("{CLUSTER}{keys}\n"), &[]).unwrap();
        config.clusters.into_iter().next().unwrap().options.making
    };
    assert_eq!(making(""), None);
    let keys = "create_namespaces = true\nlimits = { pods = 40, container = { memory = \"4Gi\" } }\ndeny = [\"10.0.0.1\"]";
    let made = making(keys).unwrap();
    assert_eq!(made.limits.pods, Some(40));
    assert_eq!(made.limits.container.memory.as_deref(), Some("4Gi"));
    assert_eq!(made.deny, ["10.0.0.1/32".parse().unwrap()]);
}

const STORE: &str =
    "[clusters.dev.object_store]\nurl = \"http://10.0.0.1:9000\"\nbucket = \"ci\"\naccess_key = \"pipe\"\n";

#[test]
fn an_object_store_has_defaults_and_hides_its_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let text = format!(
        "{CLUSTER}{STORE}secret_key_file = \"{}\"\n",
        file.path().display()
    );
    let config = parse(&text, &[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let store = config.clusters.into_iter().next().unwrap().object_store.unwrap();
    assert_eq!(
        (store.region.as_str(), store.prefix.as_str()),
        ("us-east-1", "pipekeeper")
    );
    assert_eq!(store.style, pipekeeper_objects::UrlStyle::Path);
    assert_eq!(store.secret_key, pipekeeper_objects::SecretKey::new("hunter2"));
    assert_eq!((store.others_url, store.ca), (None, None));
    let config = parse(CLUSTER, &[]).unwrap();
    assert_eq!(config.clusters[0].object_store, None);
}

#[test]
fn an_object_store_that_cannot_be_used_is_refused() {
    let key = "secret_key = \"hunter2\"\n";
    let without = |name: &str| {
        let lines = STORE.lines().filter(|line| !line.starts_with(name));
        let rest: String = lines.map(|line| format!("{line}\n")).collect();
        format!("{rest}{key}")
    };
    let with = |line: &str| format!("{STORE}{key}{line}\n");
    let cases = [
        (without("url"), "`dev` has no `object_store.url`"),
        (without("bucket"), "`dev` has no `object_store.bucket`"),
        (without("access_key"), "`dev` has no `object_store.access_key`"),
        (STORE.to_owned(), "`dev` has no `object_store.secret_key`"),
        (
            with("secret_key_file = \"/no/such\""),
            "has both `object_store.secret_key` and `object_store.secret_key_file`",
        ),
        (
            format!("{STORE}secret_key_file = \"/no/such\"\n"),
            "has an `object_store.secret_key_file` that cannot be read: `/no/such`",
        ),
        (
            with("ca = \"/no/such.pem\""),
            "has an `object_store.ca` that cannot be read",
        ),
        (
            with("ca = \"/dev/null\""),
            "failed to read the certificates to trust: there is none",
        ),
        (
            with("prefix = \"a/../b\""),
            "has the `object_store.prefix` `a/../b`",
        ),
        (
            with("pods_url = \"s3.example.org\""),
            "failed to use `s3.example.org` as the address",
        ),
        (with("paths = true"), "unknown field `paths`"),
    ];
    for (keys, wanted) in cases {
        let error = parse(&format!("{CLUSTER}{keys}"), &[]).unwrap_err();
        assert!(error.message.contains(wanted), "{keys}: {}", error.message);
        assert!(!error.message.contains("hunter2"), "{keys}: {}", error.message);
    }
}
