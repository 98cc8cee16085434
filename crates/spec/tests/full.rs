//! The example of the language's description: every kind of entry in one file.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::BTreeMap;

use pipekeeper_model::{
    EventKind, GitRef, Name, Plan, Revision, TriggerEvent,
    plan::{Body, Section},
};
use pipekeeper_spec::{
    Color, Pipeline, PlanRequest, SourceFile, check,
    document::{Body as Kept, Environment, Others, check_documents},
};

const FULL: SourceFile<'static> = SourceFile {
    path: ".pipe/web.yaml",
    text: include_str!("full.yaml"),
};

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

fn pipeline() -> Pipeline {
    match check(&FULL) {
        Ok((pipeline, warnings)) => {
            insta::assert_snapshot!("warnings", warnings.render(&FULL, Color::Never));
            pipeline
        }
        Err(errors) => panic!("{}", errors.render(&FULL, Color::Never)),
    }
}

/// The one that the file names on work.
fn environments() -> BTreeMap<Name, Environment> {
    let file = SourceFile {
        path: "dev.yaml",
        text: "kind: Environment\nname: dev\ncluster: eks\nvars: { BASE_URL: https://dev.shop }\n",
    };
    let (documents, _) = check_documents(&[file], Others::Unknown).unwrap();
    let only = documents.into_iter().map(|document| {
        let Kept::Environment(environment) = document.body else {
            panic!("no environment: {:?}", document.name)
        };
        (document.name, *environment)
    });
    only.collect()
}

fn plan(pipeline: &Pipeline) -> Plan {
    pipeline
        .plan(&PlanRequest {
            event: &event(),
            params: &BTreeMap::new(),
            selected: None,
            environments: &environments(),
        })
        .unwrap()
}

#[test]
fn it_checks_and_its_graph_is_stable() {
    let pipeline = pipeline();
    insta::assert_snapshot!("graph", pipeline.graph_text(&environments()));
}

#[test]
fn its_plan_is_stable() {
    let plan = plan(&pipeline());
    insta::assert_snapshot!("plan", serde_json::to_string_pretty(&plan).unwrap());
    assert_eq!(plan.digest(), self::plan(&pipeline()).digest());
}

#[test]
fn what_not_every_backend_can_do_is_listed() {
    let plan = plan(&pipeline());
    let features: Vec<String> = plan
        .features
        .iter()
        .map(|used| {
            format!(
                "{}:{} {} {}",
                used.place.line, used.place.column, used.path, used.feature
            )
        })
        .collect();
    insta::assert_snapshot!("features", features.join("\n"));
}

#[test]
fn matrix_artifacts_and_sections_are_resolved() {
    let plan = plan(&pipeline());
    assert!(plan.find("test[db=sqlite]").is_some());
    let image = plan.find("image").and_then(|id| plan.node(id)).unwrap();
    let Body::Work(work) = &image.body else {
        panic!("image is work");
    };
    assert_eq!(work.uses.len(), 1);
    assert_eq!(Some(work.uses[0].from), plan.find("binary"));
    assert_eq!(work.uses[0].into, "");
    let tell = plan.find("tell").and_then(|id| plan.node(id)).unwrap();
    assert_eq!(tell.section, Section::Finally);
    assert!(tell.needs.is_empty());
}
