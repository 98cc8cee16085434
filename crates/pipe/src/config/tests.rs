mod clusters;

use std::{path::Path, time::Duration};

use pipekeeper_backend::pod::HoldOptions;
use pipekeeper_server::{Newcomers, Transport};
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
        "kinds",
        "master_key_file",
        "certificate",
        "issuer",
        "client_id",
        "client_secret_file",
        "groups_claim",
        "scopes",
        "algorithms",
        "create_users",
        "insecure",
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
            "`url` is set, and neither `behind_proxy` nor `[tls]` is",
        ),
        (
            "[tls]\ncertificate = \"/a\"\nkey = \"/b\"\n",
            &[],
            "`[tls]` is set, and `url` is not",
        ),
        (
            "behind_proxy = true\nurl = \"https://a\"\n[tls]\ncertificate = \"/a\"\nkey = \"/b\"\n",
            &[],
            "are both set",
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

#[test]
fn a_secret_file_is_read_without_its_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let path = file.display().to_string();
    let config = parse(PROJECT, &[("PIPE_PROJECTS__MY_WEB__HOOK_SECRET_FILE", &path)]).unwrap();
    let project = config.projects.first().unwrap();
    let signed = pipekeeper_forge::sign(project.project.forge, project.secret.as_ref().unwrap(), b"x");
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

#[test]
fn artifacts_have_a_name_of_their_own() {
    let with = |url: &str| {
        let text =
            format!("url = \"https://ci.corp\"\nbehind_proxy = true\nartifacts_url = \"{url}\"\n{PROJECT}");
        parse(&text, &[])
    };
    let host = with("https://artifacts.corp:443/").unwrap().artifact_host;
    assert_eq!(host.as_deref(), Some("artifacts.corp"));
    assert_eq!(parse(PROJECT, &[]).unwrap().artifact_host, None);
    for url in ["https://ci.corp", "https://CI.corp:8443", "https://[::1]"] {
        let wrong = with(url).unwrap_err().to_string();
        assert!(wrong.contains("not another name"), "{wrong}");
    }
    for url in [
        "http://artifacts.corp",
        "https://artifacts.corp/path",
        "https://a@b",
        "",
    ] {
        let wrong = with(url).unwrap_err().to_string();
        assert!(wrong.contains("no `https://` address"), "{wrong}");
    }
    let alone = format!("artifacts_url = \"https://artifacts.corp\"\n{PROJECT}");
    assert!(
        parse(&alone, &[])
            .unwrap_err()
            .to_string()
            .contains("`url` is not")
    );
}

#[test]
fn how_long_things_are_kept_is_read_and_wrong_lengths_are_refused() {
    use pipekeeper_controller::Retention;
    use pipekeeper_model::{Bytes, Millis};
    let text = format!("[retention]\nartifacts = \"2d\"\nmax_logs = \"1GiB\"\n{PROJECT}");
    let expected = Retention {
        artifacts: Millis::days(2),
        log_bytes: Bytes::gib(1),
        ..Retention::default()
    };
    assert_eq!(parse(&text, &[]).unwrap().retention, expected);
    let over = parse(&text, &[("PIPE_RETENTION__RUNS", "200d")])
        .unwrap()
        .retention;
    assert_eq!(over.runs, Millis::days(200));
    for (name, value, says) in [
        ("PIPE_RETENTION__LOGS", "long", "`retention.logs`"),
        ("PIPE_RETENTION__LOGS", "5m", "less than an hour"),
        (
            "PIPE_RETENTION__MAX_ARTIFACTS",
            "much",
            "`retention.max_artifacts`",
        ),
        ("PIPE_RETENTION__MORE", "1", "names no key"),
    ] {
        let wrong = parse(&text, &[(name, value)]).unwrap_err();
        assert!(wrong.to_string().contains(says), "{wrong}");
    }
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

#[test]
fn an_issuer_is_read_without_showing_its_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2\n").unwrap();
    let table = format!(
        "[oidc]\nissuer = \"https://sso.test\"\nclient_id = \"ci\"\nclient_secret_file = \"{}\"\n",
        file.display()
    );
    let config = parse(&table, &[]).unwrap();
    let issuer = config.oidc.as_ref().unwrap();
    assert_eq!(
        (issuer.client_secret.as_str(), issuer.groups_claim.as_str()),
        ("hunter2", "groups")
    );
    assert_eq!(
        (issuer.newcomers, issuer.transport),
        (Newcomers::Welcome, Transport::Tls)
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    let closed = parse(&format!("{table}create_users = false\ninsecure = true\n"), &[]).unwrap();
    let closed = closed.oidc.unwrap();
    assert_eq!(
        (closed.newcomers, closed.transport),
        (Newcomers::Refused, Transport::Plain)
    );
    std::fs::write(&file, "\n").unwrap();
    for (text, why) in [
        (table.as_str(), "is empty"),
        ("[oidc]\nissuer = \"https://sso.test\"\n", "client_id"),
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
