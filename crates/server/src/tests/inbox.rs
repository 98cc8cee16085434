//! What waits for people, over all runs: what somebody sees of it, and may do about it.

use pipekeeper_model::{
    NodeId, Param, ParamKind, RunId,
    plan::{Body, EnvironmentRule, Node, Start},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    pages::{hidden, page},
    plans::{gate, manual, request, work},
    roles::{add, grant, login, sign_in},
};

fn for_ops(mut node: Node) -> Node {
    if let Body::Approve(rule) = &mut node.body {
        rule.by = vec!["role:ops".parse().unwrap()];
    }
    node
}

/// What somebody sees there.
async fn seen(server: &TestServer, token: &str) -> Value {
    let request = server.request(Method::GET, "/api/v1/approvals");
    let answer = request.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

fn targets(seen: &Value) -> Vec<&str> {
    let all = seen["approvals"].as_array().unwrap().iter();
    all.map(|one| one["target"].as_str().unwrap()).collect()
}

/// Presses a button of a form that is at the inbox; the status, and where it leads.
async fn press(server: &TestServer, cookie: &str, path: &str, fields: &str) -> (u16, String) {
    let shown = page(server, "/approvals", cookie).await;
    let form = format!("action=\"{path}\"");
    let field = |name| format!("{name}={}", hidden(&shown, &form, name));
    let (token, next) = (field("_form"), field("next"));
    let answer = server
        .form(path, cookie, &format!("{token}&{next}&{fields}"))
        .await;
    let place = answer.headers().get("location");
    let place = place.map(|place| place.to_str().unwrap().to_owned());
    (answer.status().as_u16(), place.unwrap_or_default())
}

async fn asks_ops_and_a_developer(server: &TestServer) -> RunId {
    let nodes = vec![for_ops(gate("ok", &[], "Ship?")), manual(work("clean", &[]))];
    let run = server.run(request("Sell more", "main", nodes)).await;
    server.until_state(run, 0, "awaiting approval").await;
    server.until_state(run, 1, "awaiting start").await;
    run
}

#[tokio::test]
async fn everybody_sees_what_waits_where_they_may_look_and_first_what_they_can_decide() {
    let server = TestServer::start().await;
    let run = asks_ops_and_a_developer(&server).await;
    for (name, role, project) in [
        ("ann", "developer", "mall"),
        ("olga", "ops", "mall"),
        ("eve", "maintainer", "shop"),
    ] {
        add(&server, name, grant(role, project)).await;
    }
    let (ok, clean) = (format!("{run}/ok"), format!("{run}/clean"));
    let ann = seen(&server, &login(&server, "ann").await).await;
    assert_eq!(targets(&ann), [&clean, &ok]);
    let [start, open] = [&ann["approvals"][0], &ann["approvals"][1]];
    assert_eq!(
        (&start["may"]["approve"], &start["asks"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(
        open["may"],
        json!({ "approve": false, "reject": false, "bypass": false })
    );
    assert!(open["why_not"].as_str().unwrap().contains("role:ops"), "{open}");
    assert_eq!(
        (&open["asks"], &open["run"]["subject"]),
        (&json!("Ship?"), &json!("Sell more"))
    );
    let why = open["why"].as_str().unwrap();
    assert!(
        why.contains("0 of 1 approval, needs role:ops; not by dev"),
        "{why}"
    );
    let olga = seen(&server, &login(&server, "olga").await).await;
    assert_eq!(targets(&olga), [&ok, &clean]);
    assert_eq!(olga["approvals"][0]["may"]["reject"], true);
    assert!(
        olga["approvals"][1]["why_not"]
            .as_str()
            .unwrap()
            .contains("may not"),
        "{olga}"
    );
    let eve = seen(&server, &login(&server, "eve").await).await;
    assert_eq!(eve, json!({ "approvals": [], "more": false }));
}

#[tokio::test]
async fn what_is_offered_is_what_the_engine_takes() {
    let server = TestServer::start().await;
    let ship = Node {
        start: Start::Confirm { by_other: true },
        ..work("ship", &[])
    };
    let mut twice = gate("twice", &[], "Ship?");
    if let Body::Approve(rule) = &mut twice.body {
        rule.count = 2;
    }
    let run = server.run(request("s", "main", vec![ship, twice])).await;
    server.until_state(run, 1, "awaiting approval").await;
    for name in ["ann", "bob"] {
        add(&server, name, grant("developer", "")).await;
    }
    let (ann, bob) = (sign_in(&server, "ann").await, sign_in(&server, "bob").await);
    let start = format!("/runs/{run}/nodes/ship/start");
    let back = (303, "/approvals".to_owned());
    assert_eq!(press(&server, &ann, &start, "look=first").await, back);
    let decide = format!("/runs/{run}/nodes/twice/decide");
    let shown = page(&server, "/approvals", &ann).await;
    let subject = hidden(&shown, &format!("action=\"{decide}\""), "subject");
    let approve = format!("subject={subject}&verdict=approve&comment=");
    assert_eq!(press(&server, &ann, &decide, &approve).await, back);
    let shown = page(&server, "/approvals", &ann).await;
    assert!(!shown.contains("<h2>You can decide</h2>"), "{shown}");
    assert!(shown.contains("confirmed by another person"), "{shown}");
    assert!(
        shown.contains("you have done your part") && shown.contains("1 of 2 approvals"),
        "{shown}"
    );
    assert!(!shown.contains("name=\"look\"") && !shown.contains("value=\"approve\""));
    assert_eq!(press(&server, &bob, &start, "look=second").await, back);
    assert_eq!(press(&server, &bob, &decide, &approve).await, back);
    let left = seen(&server, &server.token).await;
    assert_eq!(targets(&left), Vec::<&str>::new());
}

#[tokio::test]
async fn the_page_says_what_goes_where_and_asks_for_values() {
    let server = TestServer::start().await;
    let mut ask = gate("approve-prod", &[], "Ship to prod?");
    if let Body::Approve(rule) = &mut ask.body {
        let channel = Param {
            name: "channel".parse().unwrap(),
            kind: ParamKind::Enum(vec!["beta".to_owned(), "stable".to_owned()]),
            default: None,
            help: None,
        };
        rule.params = [(channel.name.clone(), channel)].into();
    }
    let mut deploy = work("deploy", &[]);
    if let Body::Work(work) = &mut deploy.body {
        work.environment = Some("prod".parse().unwrap());
    }
    let mut wanted = request("Sell more", "main", vec![ask, deploy]);
    let rule = EnvironmentRule {
        gate: Some(NodeId(0)),
        ..EnvironmentRule::default()
    };
    wanted.plan.environments = [("prod".parse().unwrap(), rule)].into();
    let run = server.run(wanted).await;
    server.until_state(run, 0, "awaiting approval").await;
    let anonymous = server.text("/approvals").await;
    assert!(anonymous.contains("Ship to prod?") && anonymous.contains("Sign in to decide"));
    let cookie = server.login().await;
    let shown = page(&server, "/approvals", &cookie).await;
    for words in [
        "to <b>prod</b>",
        "mall / web",
        "Sell more",
        "main",
        "01234567",
        "by dev",
        "0 of 1 approval",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let decide = format!("/runs/{run}/nodes/approve-prod/decide");
    let subject = hidden(&shown, &format!("action=\"{decide}\""), "subject");
    let fields = format!("subject={subject}&verdict=approve&comment=&param.channel=beta");
    let answer = press(&server, &cookie, &decide, &fields).await;
    assert_eq!(answer, (303, "/approvals".to_owned()));
    let ended = server.until(run, |run| run["phase"] == "finished").await;
    assert_eq!(ended["nodes"][0]["outputs"]["channel"], "beta");
    assert!(
        page(&server, "/approvals", &cookie)
            .await
            .contains("Nothing waits")
    );
}

#[tokio::test]
async fn whoever_may_bypass_has_a_button_and_gives_a_reason() {
    let server = TestServer::start().await;
    let run = asks_ops_and_a_developer(&server).await;
    add(&server, "root", grant("admin", "")).await;
    add(&server, "ann", grant("developer", "")).await;
    let address = format!("/runs/{run}");
    let (root, ann) = (sign_in(&server, "root").await, sign_in(&server, "ann").await);
    let shown = page(&server, &address, &ann).await;
    assert!(!shown.contains("value=\"bypass\"") && !shown.contains("value=\"approve\""));
    assert!(
        shown.contains("You may not approve this: `ok` is decided by role:ops"),
        "{shown}"
    );
    let shown = page(&server, &address, &root).await;
    assert!(shown.contains("value=\"bypass\" class=\"alarm\"") && !shown.contains("value=\"approve\""));
    let path = format!("{address}/nodes/ok/decide");
    let form = format!("action=\"{path}\"");
    let field = |name| hidden(&shown, &form, name);
    let body = |why: &str| {
        let (token, subject) = (field("_form"), field("subject"));
        format!("_form={token}&subject={subject}&verdict=bypass&comment={why}")
    };
    assert_eq!(server.form(&path, &root, &body("")).await.status(), 422);
    let done = server.form(&path, &root, &body("it+burns")).await;
    assert_eq!(done.headers()["location"], address);
    let shown = page(&server, &address, &root).await;
    assert!(shown.contains("bypassed by root: it burns"), "{shown}");
}

#[tokio::test]
async fn a_full_inbox_says_so() {
    let server = TestServer::start().await;
    let gates = |count: usize| (0..count).map(|at| gate(&format!("g{at}"), &[], "?")).collect();
    let run = server.run(request("s", "main", gates(200))).await;
    server.until_state(run, 199, "awaiting approval").await;
    let full = seen(&server, &server.token).await;
    assert_eq!((targets(&full).len(), &full["more"]), (200, &json!(false)));
    let run = server.run(request("s", "main", gates(1))).await;
    server.until_state(run, 0, "awaiting approval").await;
    let cut = seen(&server, &server.token).await;
    assert_eq!((targets(&cut).len(), &cut["more"]), (200, &json!(true)));
    assert_eq!(targets(&cut)[0], format!("{run}/g0"));
    assert!(
        server
            .text("/approvals")
            .await
            .contains("These are the newest 200")
    );
}
