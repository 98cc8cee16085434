//! Documents: every key has a meaning, schema and check agree, and one meaning has one form.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeSet;

use pipekeeper_spec::{
    Diagnostics, Severity, SourceFile,
    document::{
        Document, KeyRow, Kind, Others, check_documents, check_set, diff, document_schema, document_table,
        documents_schema, explain_key,
    },
};
use serde_json::{Value, json};

/// Documents that use every key; JSON is YAML.
fn samples() -> Vec<Value> {
    serde_json::from_str(include_str!("documents.json")).unwrap()
}

fn read(text: &str) -> Result<Vec<Document>, String> {
    let file = SourceFile {
        path: "kinds.yaml",
        text,
    };
    match check_documents(&[file], Others::Unknown) {
        Ok((documents, _)) => Ok(documents),
        Err(found) => Err(found.iter().map(|one| one.to_lines(&file)).collect()),
    }
}

/// The canonical form of one document, if it is accepted.
fn meaning(document: &Value) -> Option<Value> {
    let documents = read(&document.to_string()).ok()?;
    let [document] = documents.as_slice() else {
        return None;
    };
    document.to_canonical().ok()
}

/// The JSON pointers of a path of the table in a document.
fn pointers(value: &Value, path: &[&str], at: &str) -> Vec<String> {
    if let Some(items) = value.as_array() {
        let items = items.iter().enumerate();
        return items
            .flat_map(|(index, item)| pointers(item, path, &format!("{at}/{index}")))
            .collect();
    }
    let Some((key, rest)) = path.split_first() else {
        return vec![at.to_owned()];
    };
    let Some(map) = value.as_object() else {
        return Vec::new();
    };
    let fitting = map.iter().filter(|(name, _)| *key == "*" || key == name);
    fitting
        .flat_map(|(name, inner)| {
            let at = format!("{at}/{}", name.replace('/', "~1"));
            if rest.is_empty() {
                vec![at]
            } else {
                pointers(inner, rest, &at)
            }
        })
        .collect()
}

fn without(document: &Value, pointer: &str) -> Value {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    parent.as_object_mut().unwrap().remove(key);
    document
}

#[test]
fn every_key_has_a_meaning() {
    let samples: Vec<(Value, Value)> = samples()
        .into_iter()
        .map(|document| {
            let known = read(&document.to_string());
            assert!(known.is_ok(), "{known:?}");
            let meaning = meaning(&document).unwrap();
            (document, meaning)
        })
        .collect();
    let mut ignored = Vec::new();
    for kind in Kind::ALL {
        for KeyRow { path, .. } in document_table(*kind) {
            let parts: Vec<&str> = path
                .split(['.', '[', ']'])
                .filter(|part| !part.is_empty())
                .collect();
            let of_kind = samples
                .iter()
                .filter(|(document, _)| document["kind"] == kind.as_str());
            let acts = of_kind.clone().any(|(document, whole)| {
                let found = pointers(document, &parts, "");
                found
                    .iter()
                    .any(|pointer| meaning(&without(document, pointer)).is_none_or(|less| less != *whole))
            });
            // Forks have one profile, whether it is written or not.
            if !acts && path != "profiles.forks" {
                ignored.push(format!("{kind}.{path}"));
            }
        }
    }
    assert!(ignored.is_empty(), "mean nothing: {ignored:#?}");
}

#[test]
fn every_key_of_the_schema_is_in_the_table() {
    fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            walk(inner, &path, found);
            found.insert(path);
        }
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], &format!("{path}.*"), found);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"), found);
        }
    }
    for kind in Kind::ALL {
        let mut found = BTreeSet::new();
        walk(&document_schema(*kind), "", &mut found);
        let table = document_table(*kind).into_iter().map(|row| row.path);
        let table: BTreeSet<String> = table.chain(["kind".to_owned(), "name".to_owned()]).collect();
        assert_eq!(found, table, "{kind}");
    }
}

#[test]
fn a_document_comes_back_from_its_canonical_form() {
    for sample in samples() {
        let canonical = meaning(&sample).unwrap();
        assert_eq!(meaning(&canonical), Some(canonical.clone()));
        let document: Document = serde_json::from_value(canonical.clone()).unwrap();
        assert_eq!(read(&sample.to_string()), Ok(vec![document.clone()]));
        assert_eq!(document.kind().as_str(), sample["kind"]);
        assert_eq!(document.name.as_str(), sample["name"]);
        assert_eq!(diff(&canonical, &document.to_canonical().unwrap()), []);
    }
}

#[test]
fn two_texts_of_one_meaning_are_equal() {
    let long = "
name: prod
kind: Environment
after: { all: [b, a, b], any: c }
approvals: { by: [user:ann, role:ops], count: 1, expires: 168h, self: false }
soak: 90m
branches: [\"hotfix/**\", main]
windows: [{ deny: Thu-Wed 22:00 - 06:00, timezone: UTC }, { allow: Sat }]
keep: 20
timeout: 15m
on_failure: stay
rollback: { approvals: 0 }
auto: false
";
    let short = "
{ kind: Environment, name: prod, soak: 1h30m, branches: [main, \"hotfix/**\"], after: { any: [c], all: [a, b] },
  approvals: { by: [role:ops, user:ann] }, windows: [{ allow: Sat }, { deny: \"22:00 - 06:00\" }] }
";
    let only = |text| read(text).unwrap().pop().unwrap();
    let (long, short) = (only(long), only(short));
    assert_eq!(long, short);
    assert_eq!(
        long.to_canonical().unwrap(),
        json!({
            "kind": "Environment", "name": "prod", "after": { "all": ["a", "b"], "any": ["c"] },
            "approvals": { "by": ["role:ops", "user:ann"] }, "branches": ["hotfix/**", "main"], "soak": "1h30m",
            "windows": [{ "allow": "Sat" }, { "deny": "22:00 - 06:00" }],
        })
    );
}

/// A document of the least keys with some more.
fn with(kind: &str, keys: Value) -> Value {
    let mut document = match kind {
        "Forge" => json!({ "type": "gitea" }),
        "Registry" => json!({ "url": "https://r.test" }),
        "Cluster" => json!({ "namespaces": { "protected": "ci" } }),
        "Project" => json!({ "forge": "g", "repository": "a/b" }),
        "RoleBinding" => json!({ "role": "ops", "users": ["ann"] }),
        "Notification" => json!({ "to": { "url": "https://c.test" }, "on": ["drift"] }),
        "App" => json!({ "project": "p", "environment": "e", "source": { "path": "x" } }),
        _ => json!({}),
    };
    let map = document.as_object_mut().unwrap();
    map.insert("kind".to_owned(), json!(kind));
    map.insert("name".to_owned(), json!("x"));
    map.extend(keys.as_object().unwrap().clone());
    document
}

/// What schema and check both refuse.
fn refused() -> Vec<Value> {
    vec![
        json!({ "kind": "Environment" }),
        json!({ "name": "x" }),
        json!({ "kind": "environment", "name": "x" }),
        json!({ "kind": "Environment", "name": "a b" }),
        json!([]),
        with("Environment", json!({ "tga": "prod" })),
        with("Environment", json!({ "after": ["test"] })),
        with("Environment", json!({ "approvals": { "count": 0 } })),
        with("Environment", json!({ "approvals": { "by": ["ops"] } })),
        with("Environment", json!({ "soak": "soon" })),
        with("Environment", json!({ "windows": [{ "timezone": "UTC" }] })),
        with(
            "Environment",
            json!({ "windows": [{ "allow": "Sat", "deny": "Sun" }] }),
        ),
        with(
            "Environment",
            json!({ "windows": [{ "deny": "Fri 18:00 to Mon 08:00" }] }),
        ),
        with("Environment", json!({ "windows": [] })),
        with("Environment", json!({ "on_failure": "explode" })),
        with("Environment", json!({ "project_may_set": ["approvals"] })),
        with("Forge", json!({ "type": "svn" })),
        with("Forge", json!({ "url": "gogs.corp" })),
        with("Forge", json!({ "token": "hunter2" })),
        with("Forge", json!({ "token": { "secret": "A", "file": "/b" } })),
        with("Forge", json!({ "token": {} })),
        with("Registry", json!({ "ca": "corp.crt" })),
        with("Cluster", json!({ "namespaces": {} })),
        with("Cluster", json!({ "mirrors": { "docker.io/library": "x" } })),
        with(
            "Cluster",
            json!({ "volumes": { "a": { "nodes": { "x": "y" } } } }),
        ),
        with(
            "Cluster",
            json!({ "volumes": { "a": { "host_path": "/a", "size": "1Gi" } } }),
        ),
        with("Cluster", json!({ "profiles": { "forks": "baseline" } })),
        with("Cluster", json!({ "hold": { "max": 21 } })),
        with("Cluster", json!({ "pod_allow": ["hostNetwork"] })),
        with("Cluster", json!({ "env": { "1X": "y" } })),
        with("Secret", json!({ "value": "hunter2" })),
        with("Secret", json!({ "tiers": ["forks"], "projects": ["p"] })),
        with("Notification", json!({ "on": [] })),
        with("Notification", json!({ "to": {} })),
        with("App", json!({ "source": { "renderer": "helm" } })),
        with("App", json!({ "source": { "artifact": "r.test/x:latest" } })),
        with("App", json!({ "images": { "web": "prod" } })),
        with("Project", json!({ "retention": { "runs": "a while" } })),
    ]
}

#[test]
fn schema_and_check_agree() {
    let all = jsonschema::validator_for(&documents_schema()).unwrap();
    for sample in samples() {
        let kind: Kind = sample["kind"].as_str().unwrap().parse().unwrap();
        let one = jsonschema::validator_for(&document_schema(kind)).unwrap();
        for validator in [&all, &one] {
            let errors = validator.iter_errors(&sample).map(|error| error.to_string());
            let errors: Vec<String> = errors.collect();
            assert!(errors.is_empty(), "{sample}: {errors:?}");
        }
    }
    let good = [
        with(
            "Environment",
            json!({ "after": { "any": "dev" }, "vars": { "A": 1.5, "B": true } }),
        ),
        with(
            "Environment",
            json!({ "windows": [{ "deny": "Sat-Sun" }, { "allow": "22:00 - 06:00" }] }),
        ),
        with("Secret", json!({})),
        with("RoleBinding", json!({})),
        with("App", json!({})),
    ];
    for document in good {
        assert!(all.is_valid(&document), "schema: {document}");
        assert!(
            meaning(&document).is_some(),
            "check: {:?}",
            read(&document.to_string())
        );
    }
    for document in refused() {
        assert!(!all.is_valid(&document), "schema: {document}");
        assert_eq!(meaning(&document), None, "check: {document}");
    }
}

fn problems(documents: &[Value]) -> String {
    let text: Vec<String> = documents.iter().map(Value::to_string).collect();
    read(&text.join("\n---\n")).err().unwrap_or_default()
}

/// Asserts that each document is refused for this one reason.
fn assert_refused<const N: usize>(documents: [(Value, &str); N]) {
    for (document, wanted) in documents {
        let found = problems(std::slice::from_ref(&document));
        assert!(found.contains(&format!("error[{wanted}]")), "{document}: {found}");
        assert_eq!(found.lines().count(), 1, "{document}: {found}");
    }
}

#[test]
fn keys_of_rules_that_do_not_go_together_are_refused() {
    assert_refused([
        (with("Environment", json!({ "soak": "4h" })), "PK0039"),
        (
            with(
                "Environment",
                json!({ "approvals": { "count": 2, "by": ["user:ann"] } }),
            ),
            "PK0079",
        ),
        (
            with(
                "Environment",
                json!({ "expedite": { "approvals": { "count": 2, "by": ["user:ann"] } } }),
            ),
            "PK0079",
        ),
        (
            with("Environment", json!({ "namespace": "${{ image }}" })),
            "PK0077",
        ),
        (
            with("Environment", json!({ "vars": { "A": "${{ project }}" } })),
            "PK0051",
        ),
        (
            with(
                "Environment",
                json!({ "windows": [{ "deny": "Sat", "timezone": "Mars/Olympus" }] }),
            ),
            "PK0024",
        ),
        (with("RoleBinding", json!({ "users": null })), "PK0013"),
        (with("RoleBinding", json!({ "projects": [] })), "PK0013"),
        (
            json!({ "kind": "RoleBinding", "name": "x", "role": "ops" }),
            "PK0079",
        ),
        (with("Forge", json!({ "url": "http://gitea.corp" })), "PK0039"),
        (with("Registry", json!({ "url": "http://r.corp" })), "PK0039"),
        (with("Registry", json!({ "pull_secrets": ["build"] })), "PK0039"),
        (
            with("Registry", json!({ "lend": { "projects": ["p"] } })),
            "PK0039",
        ),
        (
            with("Forge", json!({ "token": { "secret": "T" }, "lend": {} })),
            "PK0039",
        ),
        (
            with(
                "Cluster",
                json!({ "lend": { "projects": ["p"], "all_projects": true } }),
            ),
            "PK0039",
        ),
    ]);
}

#[test]
fn keys_of_places_that_do_not_go_together_are_refused() {
    assert_refused([
        (with("Cluster", json!({ "limits": { "pods": 3 } })), "PK0039"),
        (with("Cluster", json!({ "deny": ["10.0.0.0/8"] })), "PK0039"),
        (
            with(
                "Cluster",
                json!({ "create_namespaces": true, "limits": { "cpu": 3 } }),
            ),
            "PK0039",
        ),
        (with("Cluster", json!({ "hold": { "failed": "13h" } })), "PK0015"),
        (
            with(
                "Cluster",
                json!({ "volumes": { "a": { "host_path": "/data" }, "b": { "host_path": "/data/m2/" } } }),
            ),
            "PK0027",
        ),
        (
            with(
                "Cluster",
                json!({ "volumes": { "a": { "host_path": "/data", "class": "x" } } }),
            ),
            "PK0039",
        ),
        (with("Cluster", json!({ "name": "local" })), "PK0020"),
        (with("Secret", json!({ "events": ["push"] })), "PK0039"),
        (
            with("Secret", json!({ "all_projects": true, "projects": ["p"] })),
            "PK0039",
        ),
        (with("App", json!({ "environment": null })), "PK0013"),
        (
            json!({ "kind": "App", "name": "x", "project": "p", "source": { "path": "x" } }),
            "PK0012",
        ),
        (with("App", json!({ "write_back": true })), "PK0039"),
        (
            with("App", json!({ "source": { "path": "x", "values": ["y"] } })),
            "PK0039",
        ),
        (
            with(
                "App",
                json!({ "source": { "ref": "main", "artifact": format!("r.test/x@sha256:{}", "a".repeat(64)) } }),
            ),
            "PK0039",
        ),
    ]);
}

/// What is wrong with a set that nothing else is beside, as `KIND/NAME PATH CODE`.
fn faults(documents: &[Value], others: &[Value]) -> Vec<String> {
    let typed = |documents: &[Value]| -> Vec<Document> {
        let all = documents.iter().cloned();
        all.map(|one| serde_json::from_value(one).unwrap()).collect()
    };
    let (set, others) = (typed(documents), typed(others));
    let found = check_set(
        &set,
        Others::Are {
            documents: &others,
            named: &BTreeSet::new(),
        },
    );
    let show = |fault: &pipekeeper_spec::document::Fault| {
        assert_eq!(fault.severity, Severity::Error);
        let document = &set[fault.document];
        format!(
            "{}/{} {} {}",
            document.kind(),
            document.name,
            fault.path,
            fault.code
        )
    };
    found.iter().map(show).collect()
}

#[test]
fn what_the_server_uses_is_no_secret_of_actions() {
    let forge = json!({ "kind": "Forge", "name": "git", "type": "gitea", "token": { "secret": "TOKEN" } });
    let secret = |more: Value| {
        let mut secret = json!({ "kind": "Secret", "name": "TOKEN" });
        secret
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        secret
    };
    let wanted = ["Forge/git token.secret PK0039"];
    assert!(faults(std::slice::from_ref(&forge), &[secret(json!({}))]).is_empty());
    assert_eq!(
        faults(
            std::slice::from_ref(&forge),
            &[secret(json!({ "all_projects": true }))]
        ),
        wanted
    );
    let bound = secret(json!({ "projects": ["web"] }));
    let web = json!({ "kind": "Project", "name": "web", "forge": "git", "repository": "https://git.test/a" });
    assert_eq!(faults(&[forge, bound], &[web]), wanted);
}

#[test]
fn documents_of_a_set_know_each_other() {
    let environment = |name: &str, after: &[&str]| {
        let after = if after.is_empty() {
            json!({})
        } else {
            json!({ "all": after })
        };
        json!({ "kind": "Environment", "name": name, "after": after })
    };
    let none: &[&str] = &[];
    let cases = [
        // A name is there in the set, or beside it, or not.
        (
            vec![environment("b", &["a"])],
            vec![environment("a", none)],
            vec![],
        ),
        (
            vec![environment("b", &["a"])],
            vec![],
            vec!["Environment/b after.all PK0072"],
        ),
        (
            vec![environment("a", none), environment("a", none)],
            vec![],
            vec!["Environment/a name PK0071"],
        ),
        // A circle is told once, also through what is beside the set; the set replaces what is beside it.
        (
            vec![
                environment("a", &["c"]),
                environment("b", &["a"]),
                environment("c", &["b"]),
                environment("d", &["a"]),
            ],
            vec![],
            vec!["Environment/a after PK0073"],
        ),
        (
            vec![environment("a", &["b"])],
            vec![environment("b", &["a"])],
            vec!["Environment/a after PK0073"],
        ),
        (
            vec![environment("a", none), environment("b", &["a"])],
            vec![environment("a", &["b"])],
            vec![],
        ),
        (
            vec![environment("a", &["a"])],
            vec![],
            vec!["Environment/a after PK0073"],
        ),
        (
            vec![
                json!({ "kind": "App", "name": "a", "project": "p", "environment": "e", "source": { "path": "x" }, "depends_on": ["a"] }),
            ],
            vec![
                environment("e", none),
                json!({ "kind": "Project", "name": "p", "forge": "f", "repository": "https://g.test/a" }),
            ],
            vec!["App/a depends_on PK0073"],
        ),
    ];
    for (set, others, wanted) in cases {
        assert_eq!(faults(&set, &others), wanted, "{set:?} beside {others:?}");
    }
}

#[test]
fn a_project_keeps_to_its_forge_and_environments() {
    let forge = |keys: Value| with("Forge", keys);
    let project = |repository: &str, set: Value| json!({ "kind": "Project", "name": "p", "forge": "x", "repository": repository, "environments": set });
    let environment = json!({ "kind": "Environment", "name": "prod", "project_may_set": ["namespace"] });
    let open = json!({ "url": "http://g.test", "insecure": true });
    for (documents, wanted) in [
        (
            vec![forge(json!({})), project("a/b", json!({}))],
            vec!["Project/p repository PK0039"],
        ),
        (vec![forge(json!({})), project("/srv/a.git", json!({}))], vec![]),
        (
            vec![forge(json!({ "type": "github" })), project("a/b", json!({}))],
            vec![],
        ),
        (
            vec![forge(json!({})), project("http://g.test/a", json!({}))],
            vec!["Project/p repository PK0039"],
        ),
        (vec![forge(open), project("http://g.test/a", json!({}))], vec![]),
        (
            vec![
                forge(json!({ "type": "github" })),
                environment,
                project(
                    "a/b",
                    json!({ "prod": { "namespace": "p", "vars": { "A": "b" } }, "dev": {} }),
                ),
            ],
            vec![
                "Project/p environments PK0072",
                "Project/p environments.prod.vars PK0078",
            ],
        ),
        (
            vec![project("/srv/a.git", json!({}))],
            vec!["Project/p forge PK0072"],
        ),
    ] {
        assert_eq!(faults(&documents, &[]), wanted, "{documents:?}");
    }
}

#[test]
fn every_error_of_every_file_comes_at_once_with_its_place() {
    let one = SourceFile {
        path: "one.yaml",
        text: "\
kind: Cluster
name: eks
namespaces: { protected: \"ci-${{ projct }}\" }
---
kind: Environment
name: prod
cluster: eks
after: { all: [prod, tset] }
aprovals: { count: 2 }
---
kind: Enviroment
name: test
---
kind: Environment
name: staging
after: { all: [staging] }
---
name: a b
---
- x
",
    };
    let two = SourceFile {
        path: "two.yaml",
        text: "\
{ kind: Environment, name: staging }
---
---
{ kind: Environment, name: dev, cluster: ekz, windows: [{ deny: Sat, allow: Sun }] }
---
{ kind: Environment, name: test, cluster: ekz }
---
{ kind: Environment, name: test }
",
    };
    let found = check_documents(&[one, two], Others::Unknown).unwrap_err();
    let lines = |found: &Diagnostics, file: &SourceFile<'_>| {
        let paths = found.iter().map(|one| one.path.clone());
        let lines = found.to_lines(file);
        let lines = lines.lines().zip(paths);
        lines
            .map(|(line, path)| format!("{line} ({path})\n"))
            .collect::<String>()
    };
    let text = [(&found[0], &one), (&found[1], &two)].map(|(found, file)| lines(found, file));
    insta::assert_snapshot!(text.concat());
}

#[test]
fn nothing_in_a_set_depends_on_how_it_is_cut_into_files() {
    let samples = samples();
    let texts: Vec<String> = samples.iter().map(Value::to_string).collect();
    let files: Vec<SourceFile<'_>> = texts
        .iter()
        .map(|text| SourceFile { path: "x.yaml", text })
        .collect();
    let apart = check_documents(&files, Others::Unknown).unwrap().0;
    assert_eq!(read(&texts.join("\n---\n")), Ok(apart));
}

#[test]
fn an_anchor_ends_with_its_document() {
    let text =
        "{ kind: Environment, name: a, vars: &v { A: b } }\n---\n{ kind: Environment, name: b, vars: *v }\n";
    assert!(read(text).unwrap_err().contains("error[PK0001]"));
}

#[test]
fn kinds_and_keys_have_pages() {
    let page = explain_key("environment.approvals").unwrap();
    insta::assert_snapshot!(page, @r"
    # Environment

    A place that a release may reach, and what stands in front of it.

    approvals          keys             Who must approve; without it, nobody.
    approvals.count    1 to 50          How many distinct people; default 1.
    approvals.by       list: text       Who counts: `role:ops`, `user:ann`; default whoever may approve in the project.
    approvals.self     `true`, `false`  Whether the one who asked for the move counts too.
    approvals.expires  text             How long the question stands; default 7d.
    ");
    for kind in Kind::ALL {
        assert!(
            explain_key(kind.as_str())
                .unwrap()
                .starts_with(&format!("# {kind}\n"))
        );
    }
    assert!(
        explain_key("Environment.windows.deny")
            .unwrap()
            .contains("windows[].deny")
    );
    for text in ["Environmen", "Environment.x", "Environment.approval", ""] {
        assert_eq!(explain_key(text), None, "{text}");
    }
}
