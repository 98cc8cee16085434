//! What files come to: edges, matrices, values fixed at plan time, selections.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeMap;

use pipekeeper_model::{
    EventKind, GitRef, Name, Plan, Revision, TriggerEvent,
    plan::{Body, Script},
};
use pipekeeper_spec::{
    Color, Pipeline, PlanError, PlanRequest, ProjectKind, SourceFile, changed_patterns, check, starter,
};

fn pipeline(text: &str) -> Pipeline {
    let file = SourceFile { path: "a.yaml", text };
    match check(&file) {
        Ok((pipeline, _)) => pipeline,
        Err(errors) => panic!("{}", errors.render(&file, Color::Never)),
    }
}

fn event() -> TriggerEvent {
    TriggerEvent {
        kind: EventKind::Push,
        revision: Revision {
            repository: "mall/web".to_owned(),
            sha: None,
            git_ref: Some(GitRef::Branch("main".to_owned())),
            subject: "Change the cart".to_owned(),
        },
        schedule: None,
    }
}

fn try_plan(text: &str, params: &[(&str, &str)], selected: Option<&[&str]>) -> Result<Plan, Vec<PlanError>> {
    let params: BTreeMap<Name, String> = params
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), (*value).to_owned()))
        .collect();
    let selected: Option<Vec<String>> =
        selected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    pipeline(text).plan(&PlanRequest {
        event: &event(),
        params: &params,
        selected: selected.as_deref(),
        environments: &BTreeMap::new(),
    })
}

fn plan(text: &str) -> Plan {
    try_plan(text, &[], None).unwrap()
}

/// `b<-a c<-a,b`: every node with its needs.
fn edges(text: &str) -> String {
    let plan = plan(text);
    let nodes = plan.nodes.iter().map(|node| {
        let needs: Vec<&str> = node
            .needs
            .iter()
            .map(|need| plan.node(*need).unwrap().name.as_str())
            .collect();
        if needs.is_empty() {
            node.name.clone()
        } else {
            format!("{}<-{}", node.name, needs.join(","))
        }
    });
    nodes.collect::<Vec<_>>().join(" ")
}

/// Files by their entries, with the edges that they make.
fn assert_edges(rows: impl IntoIterator<Item = (&'static str, String, &'static str)>) {
    for (what, entries, wanted) in rows {
        assert_eq!(edges(&format!("actions: {entries}")), wanted, "{what}");
    }
}

#[test]
fn lists_groups_and_needs_make_edges() {
    let a = "{ name: a, run: x }";
    let b = "{ name: b, run: x }";
    let c = "{ name: c, run: x }";
    assert_edges([
        ("a list is serial", format!("[{a}, {b}, {c}]"), "a b<-a c<-b"),
        (
            "a group is waited for as a whole",
            format!("[{{ parallel: [{a}, {b}] }}, {c}, {{ name: d, run: x }}]"),
            "a b c<-a,b d<-c",
        ),
        (
            "needs replace the order, and the next entry still waits for all",
            format!("[{a}, {b}, {{ name: c, run: x, needs: a }}, {{ name: d, run: x }}]"),
            "a b<-a c<-a d<-b,c",
        ),
        (
            "a group is needed as a whole",
            format!("[{{ name: g, parallel: [{a}, {b}] }}, {c}, {{ name: d, run: x, needs: [g] }}]"),
            "a b c<-a,b d<-a,b",
        ),
        (
            "a group's needs hold for its members",
            format!(
                "[{a}, {b}, {{ serial: [{c}, {{ name: d, run: x }}], needs: [a] }}, {{ name: e, run: x }}]"
            ),
            "a b<-a c<-a d<-c e<-b,d",
        ),
    ]);
}

#[test]
fn gates_stand_in_front() {
    let a = "{ name: a, run: x }";
    let b = "{ name: b, run: x }";
    let c = "{ name: c, run: x }";
    assert_edges([
        (
            "an earlier gate stands in front of needs",
            format!("[{a}, {{ approve: ok? }}, {{ name: b, run: x, needs: [a] }}]"),
            "a approve-1<-a b<-a,approve-1",
        ),
        (
            "unless the entry is ungated",
            format!("[{a}, {{ approve: ok? }}, {{ name: b, run: x, needs: [a], ungated: true }}]"),
            "a approve-1<-a b<-a",
        ),
        (
            "so does a gate of an enclosing list",
            format!("[{a}, {{ approve: ok? }}, {{ serial: [{b}, {{ name: c, run: x, needs: [a] }}] }}]"),
            "a approve-1<-a b<-approve-1 c<-a,approve-1",
        ),
        (
            "a gate beside it in a parallel list does not",
            format!("[{a}, {{ parallel: [{{ approve: ok? }}, {{ name: b, run: x, needs: [a] }}] }}, {c}]"),
            "a approve-1<-a b<-a c<-approve-1,b",
        ),
        (
            "only the last of several gates is named",
            format!("[{a}, {{ approve: 1? }}, {{ approve: 2? }}, {{ name: b, run: x, needs: [a] }}]"),
            "a approve-1<-a approve-2<-approve-1 b<-a,approve-2",
        ),
    ]);
}

#[test]
fn other_things_make_edges_too() {
    let a = "{ name: a, run: x }";
    let c = "{ name: c, run: x }";
    assert_edges([
        (
            "what judges outcomes hides nothing that stands before it",
            format!("[{a}, {{ name: b, run: x, if: actions.a.outcome == \"failed\" }}, {c}]"),
            "a b<-a c<-a,b",
        ),
        (
            "not even a gate",
            format!(
                "[{{ name: gate, approve: ok? }}, {{ name: b, run: x, if: actions.gate.outcome == \"rejected\" }}, {c}]"
            ),
            "gate b<-gate c<-gate,b",
        ),
        (
            "an artifact is waited for",
            "[{ parallel: [{ name: b, run: x, use: [a.web] }, { name: a, run: x, artifacts: { web: out } }] }]"
                .to_owned(),
            "b<-a a",
        ),
        (
            "needs may point forward",
            format!("[{{ parallel: [{{ name: z, run: x, needs: [c] }}, {a}, {c}] }}]"),
            "z<-c a c",
        ),
        (
            "cells are needed all",
            format!("[{{ name: m, run: x, matrix: {{ v: [1, 2] }} }}, {a}]"),
            "m[v=1] m[v=2] a<-m[v=1],m[v=2]",
        ),
        (
            "entries without names get some",
            "[{ run: x }, { wait: { for: 1m } }, { approve: a? }, { sync: web }, { call: other }, { promote: dev, images: [a] }, { promote: dev, images: [a] }]"
                .to_owned(),
            "action-1 wait-1<-action-1 approve-1<-wait-1 sync-web<-approve-1 call-other<-sync-web promote-dev<-call-other promote-dev-2<-promote-dev",
        ),
    ]);
    assert_eq!(
        edges(
            "actions: [{ name: a, run: x, artifacts: { o: p } }]\nfinally: [{ name: f, run: x, use: [a.o] }, { name: g, run: x }]"
        ),
        "a f g<-f"
    );
}

#[test]
fn a_matrix_has_a_node_for_every_cell_and_its_artifacts_a_folder() {
    let plan = plan(
        "actions:\n  - { name: t, run: x, matrix: { db: [sqlite, pg], os: [linux/amd64] }, artifacts: { out: o } }\n  - { name: u, run: x, use: [t.out] }",
    );
    let names: Vec<&str> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        ["t[db=sqlite,os=linux/amd64]", "t[db=pg,os=linux/amd64]", "u"]
    );
    assert_eq!(plan.cells("t").count(), 2);
    let Body::Work(work) = &plan.nodes[2].body else {
        panic!("work");
    };
    let folders: Vec<(u32, &str)> = work
        .uses
        .iter()
        .map(|used| (used.from.0, used.into.as_str()))
        .collect();
    assert_eq!(
        folders,
        [
            (0, "out/db=sqlite,os=linux%2Famd64"),
            (1, "out/db=pg,os=linux%2Famd64")
        ]
    );
}

#[test]
fn plan_time_values_are_worked_out_and_others_stay() {
    let text = "\
params: { v: { default: '15' }, minutes: { type: int, default: 3 } }
concurrency: \"web-${{ branch }}\"
actions:
  - name: t
    matrix: { db: [a, b] }
    image: \"postgres:${{ params.v }}-${{ matrix.db }}\"
    timeout: \"${{ params.minutes }}m\"
    lock: [\"db-${{ matrix.db }}\"]
    cluster: \"${{ event.kind }}\"
    env: { X: \"${{ matrix.db }}\" }
    run: x
  - approve: \"Deploy ${{ branch }}?\"
";
    let plan = plan(text);
    assert_eq!(plan.concurrency.as_ref().unwrap().group, "web-main");
    let node = &plan.nodes[1];
    let Body::Work(work) = &node.body else {
        panic!("work")
    };
    assert_eq!(work.steps[0].image.as_deref(), Some("postgres:15-b"));
    assert_eq!(node.timeout.to_string(), "3m");
    assert_eq!(node.locks[0].name.as_str(), "db-b");
    assert_eq!(work.cluster.as_ref().unwrap().as_str(), "push");
    assert_eq!(work.env["X"], "${{ matrix.db }}");
    let Body::Approve(gate) = &plan.nodes[2].body else {
        panic!("gate")
    };
    assert_eq!(gate.text, "Deploy main?");
    let errors = try_plan(text, &[("minutes", "-1")], None).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn parameters_are_typed() {
    let text = "params: { n: { type: int }, k: { type: enum, values: [a, b], default: a } }\nactions: [{ run: x, if: params.n > 3 && params.k == \"a\" }]";
    let messages = |params: &[(&str, &str)]| -> Vec<String> {
        let errors = try_plan(text, params, None).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        messages(&[("k", "c"), ("z", "1")]),
        [
            "set the parameter `z`: the pipeline has `k`, `n`",
            "set the parameter `k` to `c`: it takes one of `a`, `b`",
            "plan without the parameter `n`: it has no default; give a whole number",
        ]
    );
    assert!(try_plan(text, &[("n", "4")], None).is_ok());
}

#[test]
fn a_selection_brings_what_it_needs_and_its_features_alone() {
    let text = "actions: [{ name: a, run: x }, { parallel: [{ name: b, run: x, image: alpine }, { name: c, run: x }] }]\nfinally: [{ name: f, run: x }]";
    let some = try_plan(text, &[], Some(&["c"])).unwrap();
    let names: Vec<&str> = some.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    assert!(some.features.is_empty());
    assert_eq!(plan(text).features.len(), 1);
    let errors = try_plan(text, &[], Some(&["bb"])).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "select `bb`: the pipeline has no such action; did you mean `b`?"
    );
}

#[test]
fn what_groups_say_holds_for_their_members() {
    let plan = plan(
        "env: { A: 1, B: 1, C: 1 }\nactions: [{ serial: [{ run: x, env: { C: 3 }, if: tag == \"\" }], env: { B: 2, C: 2 }, if: branch == \"main\", name: g }]",
    );
    let node = &plan.nodes[0];
    let conditions: Vec<&str> = node
        .conditions
        .iter()
        .map(|one| one.expression.as_str())
        .collect();
    assert_eq!(conditions, ["branch == \"main\"", "tag == \"\""]);
    assert_eq!(node.groups, ["g"]);
    let Body::Work(work) = &node.body else {
        panic!("work")
    };
    assert_eq!(work.env.values().collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[test]
fn scripts_know_their_line() {
    for (text, wanted) in [
        ("actions:\n  - run: x", 2),
        ("actions:\n  - run: |\n      x", 3),
        ("actions:\n  - run: >-\n      x", 3),
        ("actions:\n  - run:\n      x y", 3),
        ("actions:\n  - run: \"x\"", 2),
    ] {
        let plan = plan(text);
        let Body::Work(work) = &plan.nodes[0].body else {
            panic!("work")
        };
        let Script::Shell { line, .. } = &work.steps[0].script else {
            panic!("shell")
        };
        assert_eq!(*line, wanted, "{text}");
    }
}

#[test]
fn changed_calls_are_found_wherever_they_hide() {
    let plan = plan(
        "actions:\n  - run: x\n    if: branch == \"other\" && changed( \"a/**\", 'b)' )\n    env: { X: \"${{ changed('c') ? 1 : 2 }}\", Y: changed('no') }\n  - { run: y, if: changed('c') }",
    );
    assert_eq!(
        changed_patterns(&plan),
        [vec!["a/**", "b)"], vec!["c"], vec!["no"]]
    );
}

#[test]
fn starters_check_clean() {
    for kind in ProjectKind::ALL {
        let text = starter(kind, "web");
        let file = SourceFile {
            path: ".pipe/web.yaml",
            text: &text,
        };
        let (pipeline, warnings) = check(&file).unwrap();
        assert!(warnings.is_empty(), "{}", warnings.render(&file, Color::Never));
        assert_eq!(pipeline.name().as_str(), "web");
        assert!(pipeline.features().next().is_none(), "{kind:?} runs everywhere");
        assert!(starter(kind, "no name").contains("actions:"));
    }
}

#[test]
fn the_digest_depends_on_the_text_and_the_parameters_alone() {
    let text = "params: { v: { default: a } }\nactions: [{ run: x }]";
    let one = plan(text).digest();
    assert_eq!(one, plan(text).digest());
    assert_ne!(one, try_plan(text, &[("v", "b")], None).unwrap().digest());
    assert_ne!(one, plan(&text.replace("run: x", "run: y")).digest());
}

#[test]
fn a_large_file_is_planned() {
    let mut text = "actions:\n".to_owned();
    for group in 0..16 {
        text += "  - parallel:\n";
        for member in 0..64 {
            text += &format!("      - {{ name: a{group}-{member}, run: x, if: branch == \"main\" }}\n");
        }
    }
    let plan = plan(&text);
    assert_eq!(plan.nodes.len(), 1_024);
    assert_eq!(plan.nodes[1_023].needs.len(), 64);
    let axis = (0..256)
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let matrix = |name| format!("  - {{ name: {name}, run: x, matrix: {{ v: [{axis}] }} }}\n");
    let plan = self::plan(&format!(
        "actions:\n{}{}{}{}",
        matrix("a"),
        matrix("b"),
        matrix("c"),
        matrix("d")
    ));
    assert_eq!(plan.nodes.len(), 1_024);
    assert_eq!(plan.nodes[1_023].needs.len(), 256);
}

/// `a@0:db b@0:db,net`: every node with its hold and its locks.
fn holds(plan: &Plan) -> String {
    let nodes = plan.nodes.iter().map(|node| {
        let locks: Vec<&str> = node.locks.iter().map(|lock| lock.name.as_str()).collect();
        let hold = node
            .hold
            .map_or_else(|| "-".to_owned(), |hold| hold.0.to_string());
        format!("{}@{hold}:{}", node.name, locks.join(","))
    });
    nodes.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_outermost_locked_entry_holds_the_locks_of_everything_inside() {
    let text = "
actions:
  - { name: free, run: x }
  - name: deploy
    lock: prod
    serial:
      - { name: a, run: x }
      - { name: b, lock: [{ name: dns, scope: server }], run: x }
  - name: test
    matrix: { db: [one, two] }
    lock: \"db-${{ matrix.db }}\"
    run: x
finally:
  - { name: tidy, lock: prod, run: x }
";
    assert_eq!(
        holds(&plan(text)),
        "free@-: a@1:prod b@1:prod,dns test[db=one]@3:db-one test[db=two]@4:db-two tidy@5:prod"
    );
    let part = try_plan(text, &[], Some(&["b"])).unwrap();
    assert_eq!(holds(&part), "free@-: a@1:prod b@1:prod,dns");
}

#[test]
fn locked_entries_in_a_row_are_no_circle() {
    let text = "
actions:
  - { name: a, lock: db, run: x }
  - name: g
    lock: net
    parallel:
      - { name: b, run: x }
      - { name: c, needs: [a], run: x }
  - { name: d, lock: db, run: x }
";
    assert_eq!(holds(&plan(text)), "a@0:db b@1:net c@1:net d@3:db");
}
