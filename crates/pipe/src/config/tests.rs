use std::{path::Path, time::Duration};

use pipekeeper_backend::pod::HoldOptions;
use pipekeeper_spec::document::{Kind, document_table};

use super::{Config, Database, Flags, LogFormat, Raw, overlay, raw};
use crate::failure::Failure;

fn vars(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    owned.into_iter()
}

fn parse(text: &str, pairs: &[(&str, &str)]) -> Result<Config, Failure> {
    let mut raw: Raw = raw::parse("config.toml", text)?;
    overlay::apply(&mut raw, vars(pairs))?;
    raw.finish()
}

const PROJECT: &str = "[projects.my-web]\nforge = \"gitea\"\nrepository = \"/srv/web.git\"\nhook_secret = \"s\"\ntrusted = true\n";

#[test]
fn the_example_is_valid_and_complete() {
    let text = include_str!("../../../../config.example.toml");
    let Err(failure) = parse(text, &[]) else {
        panic!("the secret of the example opens a server to everybody");
    };
    assert!(
        failure
            .to_string()
            .contains("still has the `hook_secret` of the example")
    );
    let text = &text.replace("replace-me-by-20-random-characters", "5b0c4d0a8e8f4a52b6c1");
    let config = parse(text, &[]).unwrap();
    assert!(!config.projects.is_empty());
    // Every key stands in the example, at least in a comment.
    let keys = [
        "listen",
        "data_dir",
        "database",
        "database_password_file",
        "format",
        "level",
        "forge",
        "repository",
        "plain_http",
        "hook_secret",
        "hook_secret_file",
        "trusted",
        "backend",
        "default_branch",
        "protected_branches",
        "protected_tags",
        "kubeconfig",
        "context",
        "agent_image",
        "default_image",
        "namespaces",
        "create_namespaces",
        "limits",
        "deny",
        "profiles",
        "pull_secrets",
        "resources",
        "mirrors",
        "env",
        "pod_allow",
        "pool",
        "hold",
        "url",
        "pods_url",
        "bucket",
        "region",
        "prefix",
        "path_style",
        "access_key",
        "secret_key_file",
        "ca",
        "max",
        "project",
        "total",
    ];
    for key in keys {
        assert!(text.contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!("listen = \"127.0.0.1:1\"\ndata_dir = \"/a\"\n[log]\nformat = \"text\"\n{PROJECT}");
    let config = parse(
        &text,
        &[
            ("PIPE_LISTEN", "127.0.0.1:2"),
            ("PIPE_LOG__FORMAT", "json"),
            ("PIPE_PROJECTS__MY_WEB__DEFAULT_BRANCH", "trunk"),
            ("PIPE_PROJECTS__MY_WEB__PROTECTED_TAGS", "v*, rel-*"),
            ("PIPE_RUN_ID", "7"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.data_dir, Path::new("/a"));
    assert_eq!(config.log.format, LogFormat::Json);
    let [web] = config.projects.as_slice() else {
        panic!("{:?}", config.projects);
    };
    assert_eq!(web.project.name.as_str(), "my-web");
    assert_eq!(web.project.default_branch, "trunk");
    assert!(web.project.protected_branches.admit("trunk"));
    assert!(web.project.protected_tags.admit("rel-1"));
}

#[test]
fn flags_win_over_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:1\"\n").unwrap();
    let flags = Flags {
        file: Some(file),
        listen: Some("127.0.0.1:3".to_owned()),
        data_dir: Some("/x".into()),
    };
    let raw = super::read(&flags, vars(&[("PIPE_LISTEN", "127.0.0.1:2")])).unwrap();
    let config = raw.finish().unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.data_dir, Path::new("/x"));
}

#[test]
fn the_database_is_a_file_unless_postgres_is_named() {
    let database = |text: &str, pairs: &[(&str, &str)]| parse(text, pairs).map(|config| config.database);
    assert!(matches!(database("", &[]), Ok(Database::Sqlite)));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let password = format!("database_password_file = {file:?}\n");
    let named = format!("database = \"postgres://ann@db.example.org/ci\"\n{password}");
    let Ok(Database::Postgres(url)) = database(&named, &[]) else {
        panic!("Postgres is named");
    };
    assert_eq!(url.to_string(), "postgres://db.example.org:5432/ci");
    assert!(url.variables().contains(&("PGPASSWORD", "s3cret".to_owned())));
    let Ok(Database::Postgres(url)) = database(&named, &[("PIPE_DATABASE", "postgres://h/other")]) else {
        panic!("Postgres is named");
    };
    assert_eq!(url.to_string(), "postgres://h:5432/other");
    for (text, wanted) in [
        (
            "database = \"mysql://ann:s3cret@h/d\"".to_owned(),
            "does not begin with `postgres://`",
        ),
        (password.clone(), "no `database`"),
        (
            format!("database = \"postgres://ann:s3cret@h/d\"\n{password}"),
            "`database` has a password",
        ),
        (named.replace("password\"", "none\""), "cannot be read"),
    ] {
        let failure = database(&text, &[]).unwrap_err();
        assert!(failure.message.contains(wanted), "{text}: {failure}");
        assert!(!failure.message.contains("s3cret"), "{failure}");
    }
}

/// A file, variables over it, and what the error says.
type Mistake<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn every_mistake_is_one_line_with_its_place() {
    let cases: &[Mistake<'_>] = &[
        ("lisen = 1\n", &[], "config.toml:1:1: unknown field `lisen`"),
        (
            "[log]\n  form = 1\n",
            &[],
            "config.toml:2:3: unknown field `form`",
        ),
        ("listen = \n", &[], "config.toml:1:"),
        ("listen = 7\n", &[], "config.toml:1:10: invalid type"),
        ("listen = \"x\"\n", &[], "`listen` is `x`"),
        (
            "behind_proxy = true\n",
            &[],
            "`behind_proxy` is set, and `url` is not",
        ),
        (
            "url = \"https://a\"\n",
            &[],
            "`url` is set, and `behind_proxy` is not",
        ),
        (
            "behind_proxy = true\nurl = \"http://a\"\n",
            &[],
            "no `https://` address of a host",
        ),
        (
            "behind_proxy = true\nurl = \"https://a/b\"\n",
            &[],
            "no `https://` address of a host",
        ),
        ("", &[("PIPE_BEHIND_PROXY", "yes")], "neither `true` nor `false`"),
        ("", &[("PIPE_LOG__X", "1")], "`PIPE_LOG__X` names no key"),
        (
            "",
            &[("PIPE_PROJECTS__A__TRUSTED", "yes")],
            "neither `true` nor `false`",
        ),
        ("[projects.a]\n", &[], "the project `a` has no `forge`"),
        (
            "[projects.a]\nforge = \"gogs\"\n",
            &[],
            "config.toml:2:9: unknown variant `gogs`",
        ),
        ("[projects.\"a b\"]\n", &[], "`a b`"),
        (
            "[projects.a]\nforge = \"gitea\"\nrepository = \"/x\"\nhook_secret = \"s\"\n",
            &[],
            "is not trusted",
        ),
        (
            "[projects.a]\nforge = \"gitea\"\nrepository = \"/x\"\ntrusted = true\n",
            &[],
            "has no `hook_secret`",
        ),
        (
            "[projects.a]\nforge = \"gitea\"\nrepository = \"x\"\ntrusted = true\nhook_secret = \"s\"\n",
            &[],
            "wrong `repository`",
        ),
        (
            "[projects.a]\nforge = \"gitea\"\nrepository = \"/x\"\ntrusted = true\nhook_secret_file = \"/no/such\"\n",
            &[],
            "cannot be read",
        ),
    ];
    for (text, pairs, wanted) in cases {
        let error = parse(text, pairs).unwrap_err();
        assert!(error.message.contains(wanted), "{text}: {}", error.message);
        assert!(!error.message.contains('\n'), "{text}: {}", error.message);
    }
}

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

#[test]
fn a_secret_file_is_read_without_its_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let path = file.display().to_string();
    let config = parse(PROJECT, &[("PIPE_PROJECTS__MY_WEB__HOOK_SECRET_FILE", &path)]).unwrap();
    let project = config.projects.first().unwrap();
    let signed = pipekeeper_forge::sign(project.project.forge, &project.secret, b"x");
    let same = pipekeeper_forge::HookSecret::new("s3cret").unwrap();
    assert_eq!(signed, pipekeeper_forge::sign(project.project.forge, &same, b"x"));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_room_for_an_artifact_is_read_and_a_wrong_size_is_refused() {
    use pipekeeper_model::Bytes;
    let read = |text: &str, pairs| parse(&format!("{text}{PROJECT}"), pairs);
    assert_eq!(read("", &[]).unwrap().artifact_limit, Bytes::gib(8));
    let text = "[artifacts]\nmax = \"2GiB\"\n";
    assert_eq!(read(text, &[]).unwrap().artifact_limit, Bytes::gib(2));
    let over = read(text, &[("PIPE_ARTIFACTS__MAX", "3Gi")]).unwrap();
    assert_eq!(over.artifact_limit, Bytes::gib(3));
    let wrong = read("[artifacts]\nmax = \"much\"\n", &[]).unwrap_err();
    assert!(wrong.message.contains("`artifacts.max`"), "{wrong}");
}

#[test]
fn the_room_for_caches_is_read_and_wrong_sizes_are_refused() {
    use pipekeeper_model::Bytes;
    let text = format!("[caches]\nproject = \"2GiB\"\n{PROJECT}");
    let caches = parse(&text, &[]).unwrap().caches;
    assert_eq!((caches.project, caches.total), (Bytes::gib(2), Bytes::gib(50)));
    let over = parse(&text, &[("PIPE_CACHES__PROJECT", "3Gi")]).unwrap().caches;
    assert_eq!(over.project, Bytes::gib(3));
    let wrong = parse(&text, &[("PIPE_CACHES__TOTAL", "much")]).unwrap_err();
    assert!(wrong.to_string().contains("`caches.total`"), "{wrong}");
    assert!(parse(&text, &[("PIPE_CACHES__MORE", "1")]).is_err());
}

/// The keys that a table of the file may have.
fn keys_of(table: &str) -> Vec<String> {
    let error = raw::parse("config.toml", &format!("[{table}]\nno_such_key = 1\n"))
        .err()
        .unwrap();
    let (_, known) = error.message.split_once("expected ").unwrap();
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_clusters_and_projects_has_its_place_in_a_document() {
    let elsewhere = [
        ("projects.x.plain_http", Kind::Forge, "insecure"),
        ("projects.x.hook_secret", Kind::Project, "hook_secret.secret"),
        ("projects.x.hook_secret_file", Kind::Project, "hook_secret.file"),
        ("projects.x.backend", Kind::Project, "cluster"),
        ("projects.x.secrets", Kind::Secret, "projects"),
        ("projects.x.secrets.y.file", Kind::Secret, "file"),
        ("projects.x.secrets.y.tiers", Kind::Secret, "tiers"),
        (
            "projects.x.protected_branches",
            Kind::Project,
            "protected.branches",
        ),
        ("projects.x.protected_tags", Kind::Project, "protected.tags"),
        (
            "clusters.x.object_store.secret_key_file",
            Kind::Cluster,
            "object_store.secret_key.file",
        ),
    ];
    for table in [
        "projects.x",
        "projects.x.secrets.y",
        "clusters.x",
        "clusters.x.namespaces",
        "clusters.x.limits",
        "clusters.x.limits.container",
        "clusters.x.profiles",
        "clusters.x.volumes.*",
        "clusters.x.resources",
        "clusters.x.pool",
        "clusters.x.hold",
        "clusters.x.object_store",
    ] {
        let keys = keys_of(&table.replace('*', "y"));
        assert!(keys.len() > 1, "{table}: {keys:?}");
        for key in keys {
            let key = format!("{table}.{key}");
            let moved = elsewhere.iter().find(|(known, ..)| *known == key);
            let (kind, path) = match (moved, key.strip_prefix("projects.x.")) {
                (Some((_, kind, path)), _) => (*kind, (*path).to_owned()),
                (None, Some(path)) => (Kind::Project, path.to_owned()),
                (None, None) => (Kind::Cluster, key.replacen("clusters.x.", "", 1)),
            };
            let is_there = document_table(kind).iter().any(|row| row.path == path);
            assert!(is_there, "{key} is no {kind}.{path}");
        }
    }
}
