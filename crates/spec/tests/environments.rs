//! Environments in plans: what they give to actions, their gates, and what cannot be planned.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeMap;

use pipekeeper_model::{
    EventKind, GitRef, Millis, Name, Plan, Revision, TriggerEvent,
    plan::{Body, EnvironmentRule, Feature, Gate, Node, Work},
};
use pipekeeper_spec::{
    Color, Pipeline, PlanError, PlanRequest, SourceFile, changed_rules, check,
    document::{Body as Document, Environment, Others, check_documents},
};

const PROD: &str = r#"
kind: Environment
name: prod
cluster: eks
namespace: "${{ project }}-live"
branches: [main, "hotfix/**"]
approvals: { count: 2, by: [role:ops, user:ann], expires: 2d }
windows: [{ deny: "Fri 18:00 - Mon 08:00", timezone: Asia/Shanghai }]
vars: { BASE_URL: "https://shop", LEVEL: info }
"#;
const DEV: &str = "kind: Environment\nname: dev\nvars: { BASE_URL: 'https://dev.shop' }\n";

fn environments(texts: &[&str]) -> BTreeMap<Name, Environment> {
    if texts.is_empty() {
        return BTreeMap::new();
    }
    let text = texts.join("---\n");
    let file = SourceFile {
        path: "kinds.yaml",
        text: &text,
    };
    let (documents, _) = check_documents(&[file], Others::Unknown).unwrap();
    let project = "mall".parse().unwrap();
    let only = documents.into_iter().map(|document| {
        let Document::Environment(environment) = document.body else {
            panic!("no environment: {:?}", document.name)
        };
        (document.name, environment.of_project(&project))
    });
    only.collect()
}

fn pipeline(text: &str) -> Pipeline {
    let file = SourceFile { path: "a.yaml", text };
    match check(&file) {
        Ok((pipeline, _)) => pipeline,
        Err(errors) => panic!("{}", errors.render(&file, Color::Never)),
    }
}

fn try_plan(text: &str, known: &[&str]) -> Result<Plan, Vec<PlanError>> {
    let event = TriggerEvent {
        kind: EventKind::Push,
        revision: Revision {
            repository: "mall/web".to_owned(),
            sha: None,
            git_ref: Some(GitRef::Branch("main".to_owned())),
            subject: "Change the cart".to_owned(),
        },
        schedule: None,
    };
    pipeline(text).plan(&PlanRequest {
        event: &event,
        params: &BTreeMap::new(),
        selected: None,
        environments: &environments(known),
    })
}

fn plan(text: &str) -> Plan {
    try_plan(text, &[PROD, DEV]).unwrap()
}

/// What cannot be planned, in words.
fn refused(text: &str) -> Vec<String> {
    let errors = try_plan(text, &[PROD, DEV]).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn node<'p>(plan: &'p Plan, name: &str) -> &'p Node {
    plan.node(plan.find(name).unwrap()).unwrap()
}

fn work<'p>(plan: &'p Plan, name: &str) -> &'p Work {
    let Body::Work(work) = &node(plan, name).body else {
        panic!("{name} is no work")
    };
    work
}

fn gate<'p>(plan: &'p Plan, name: &str) -> &'p Gate {
    let Body::Approve(gate) = &node(plan, name).body else {
        panic!("{name} is no gate")
    };
    gate
}

fn rule<'p>(plan: &'p Plan, name: &str) -> &'p EnvironmentRule {
    let name: Name = name.parse().unwrap();
    plan.environments.get(&name).unwrap()
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.nodes.iter().map(|node| node.name.as_str()).collect()
}

const CHAIN: &str = "
actions:
  - { name: build, run: make, artifacts: { web: out } }
  - { name: try, environment: dev, run: x }
  - { name: deploy, environment: prod, use: [build.web], run: x }
  - { name: smoke, environment: prod, run: x }
  - { name: tell, run: x }
";

#[test]
fn holds_are_told_by_the_new_numbers_too() {
    let plan = plan(
        "
actions:
  - name: release
    lock: live
    serial:
      - { name: migrate, run: x }
      - { name: deploy, environment: prod, run: x }
      - { name: smoke, run: x }
  - { name: tidy, lock: live, environment: prod, run: x }
",
    );
    let held = |node: &Node| {
        let hold = plan.node(node.hold?)?;
        Some(format!("{}@{}", node.name, hold.name))
    };
    let held: Vec<String> = plan.nodes.iter().filter_map(held).collect();
    assert_eq!(
        held,
        ["migrate@migrate", "deploy@migrate", "smoke@migrate", "tidy@tidy"]
    );
}

#[test]
fn the_gate_stands_before_the_first_action_and_edges_are_told_by_the_new_numbers() {
    let plan = plan(CHAIN);
    assert_eq!(
        names(&plan),
        ["build", "try", "approve-prod", "deploy", "smoke", "tell"]
    );
    let needs = |name: &str| -> Vec<&str> {
        let needs = node(&plan, name).needs.iter();
        needs
            .map(|need| plan.node(*need).unwrap().name.as_str())
            .collect()
    };
    assert_eq!(needs("approve-prod"), [""; 0]);
    assert_eq!(
        [needs("try"), needs("deploy"), needs("smoke"), needs("tell")],
        [vec!["build"], vec!["build", "try"], vec!["deploy"], vec!["smoke"]]
    );
    let used = &work(&plan, "deploy").uses[0];
    assert_eq!(plan.node(used.from).unwrap().name, "build");
}

#[test]
fn the_plan_keeps_the_rules_of_the_environments_that_it_names() {
    let plan = plan(CHAIN);
    let (dev, prod) = (rule(&plan, "dev"), rule(&plan, "prod"));
    assert_eq!(dev.gate, None);
    assert_eq!(prod.gate, plan.find("approve-prod"));
    assert_eq!(prod.windows.len(), 1);
    assert_eq!(Vec::from(prod.branches.clone()), ["hotfix/**", "main"]);
    assert_eq!(prod.namespace.as_deref(), Some("mall-live"));
    let gate = gate(&plan, "approve-prod");
    assert_eq!(gate.text, "start `deploy`, `smoke` in `prod`?");
    assert_eq!((gate.count, gate.by.len()), (2, 2));
    assert_eq!(node(&plan, "approve-prod").timeout, Millis::days(2));
    let only_dev = try_plan("actions: [{ name: a, environment: dev, run: x }]", &[PROD, DEV]).unwrap();
    assert_eq!(only_dev.environments.len(), 1);
}

#[test]
fn the_digest_changes_with_the_rule_and_not_with_other_environments() {
    let digest = |known: &[&str]| try_plan(CHAIN, known).unwrap().digest();
    let stricter = PROD.replace("count: 2", "count: 3");
    assert_ne!(digest(&[PROD, DEV]), digest(&[&stricter, DEV]));
    let test = "kind: Environment\nname: test\n";
    assert_eq!(digest(&[PROD, DEV]), digest(&[PROD, DEV, test]));
}

#[test]
fn variables_stand_between_those_of_the_pipeline_and_those_of_the_action() {
    let plan = plan(
        "
env: { BASE_URL: pipeline, LEVEL: pipeline, OTHER: pipeline }
actions:
  - name: g
    environment: prod
    env: { LEVEL: group }
    serial:
      - { name: a, run: x }
      - { name: b, env: { BASE_URL: pipeline }, run: x }
",
    );
    let env = |name: &str, key: &str| work(&plan, name).env.get(key).cloned().unwrap();
    assert_eq!(env("a", "BASE_URL"), "https://shop");
    assert_eq!(env("a", "LEVEL"), "group");
    assert_eq!(env("a", "OTHER"), "pipeline");
    // It says what the pipeline says, and means it.
    assert_eq!(env("b", "BASE_URL"), "pipeline");
}

#[test]
fn its_cluster_is_the_actions_and_another_one_is_an_error() {
    let plan = plan("cluster: kind\nactions: [{ name: a, environment: prod, run: x }, { name: b, run: x }]");
    let cluster = |name: &str| work(&plan, name).cluster.as_ref().map(Name::to_string);
    assert_eq!(cluster("a").as_deref(), Some("eks"));
    assert_eq!(cluster("b").as_deref(), Some("kind"));
    let used = plan
        .features
        .iter()
        .filter(|used| used.feature == Feature::Cluster);
    let used: Vec<_> = used
        .map(|used| (used.path.as_str(), used.detail.as_deref()))
        .collect();
    assert_eq!(
        used,
        [("cluster", Some("kind")), ("actions[0].environment", Some("eks"))]
    );
    assert_eq!(
        refused("actions: [{ name: a, environment: prod, cluster: kind, run: x }]"),
        ["run `a` on the cluster `kind`: its environment `prod` is in `eks`; remove `cluster`"]
    );
    let same = try_plan(
        "actions: [{ name: a, environment: prod, cluster: eks, run: x }]",
        &[PROD],
    );
    assert!(same.is_ok());
}

#[test]
fn an_unknown_environment_says_which_there_are() {
    assert_eq!(
        refused("actions: [{ name: a, environment: pord, run: x }]"),
        ["plan `a` for the environment `pord`: there is `dev`, `prod`"]
    );
    let none = try_plan("actions: [{ name: a, environment: prod, run: x }]", &[]).unwrap_err();
    assert_eq!(
        none[0].to_string(),
        "plan `a` for the environment `prod`: there is none"
    );
}

#[test]
fn nobody_waits_under_finally() {
    let text = |name: &str| {
        format!("actions: [{{ name: a, run: x }}]\nfinally: [{{ name: z, environment: {name}, run: x }}]")
    };
    assert_eq!(
        refused(&text("prod")),
        ["plan `z` for the environment `prod`: that has approvals, and nobody waits under `finally`"]
    );
    assert_eq!(plan(&text("dev")).environments.len(), 1);
}

#[test]
fn a_matrix_may_name_its_environments_and_a_gate_finds_a_free_name() {
    let plan = plan(
        "
actions:
  - { name: approve-prod, run: x }
  - { name: deploy, matrix: { to: [dev, prod] }, environment: \"${{ matrix.to }}\", run: x }
",
    );
    assert_eq!(
        names(&plan),
        [
            "approve-prod",
            "deploy[to=dev]",
            "approve-prod-2",
            "deploy[to=prod]"
        ]
    );
    assert_eq!(rule(&plan, "prod").gate, plan.find("approve-prod-2"));
}

#[test]
fn the_graph_shows_what_stands_in_front() {
    let pipeline = pipeline(CHAIN);
    let graph = pipeline.graph_text(&environments(&[PROD]));
    assert!(
        graph.contains(
            "deploy (environment prod: gate, 2 approvals; windows; only `hotfix/**`, `main`) <- build, try"
        ),
        "{graph}"
    );
    assert!(graph.contains("try (environment dev) <- build"), "{graph}");
}

#[test]
fn what_an_environment_says_of_starts_is_compared_with_a_plan() {
    let plan = plan(CHAIN);
    let changed = |texts: &[&str]| {
        let names = changed_rules(&plan, &environments(texts)).into_iter();
        names.map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(changed(&[PROD, DEV]), [""; 0]);
    assert_eq!(changed(&[DEV]), ["prod"]);
    for (before, after) in [
        ("count: 2", "count: 1"),
        ("user:ann", "user:bob"),
        ("count: 2", "count: 2, self: true"),
        ("Fri 18:00", "Fri 17:00"),
        ("main, ", ""),
        ("-live", ""),
        (
            "approvals: { count: 2, by: [role:ops, user:ann], expires: 2d }\n",
            "",
        ),
    ] {
        assert!(PROD.contains(before), "{before}");
        assert_eq!(
            changed(&[&PROD.replace(before, after), DEV]),
            ["prod"],
            "{before}"
        );
    }
    let gated = DEV.to_owned() + "approvals: { count: 1 }\n";
    assert_eq!(changed(&[PROD, &gated]), ["dev"]);
    let variables = PROD.replace("LEVEL: info", "LEVEL: debug");
    assert_eq!(changed(&[&variables, DEV]), [""; 0]);
}
