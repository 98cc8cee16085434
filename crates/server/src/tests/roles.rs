//! Every route, asked by people of every role, against the table of roles and verbs, which is written here a second time.

use std::collections::BTreeMap;

use pipekeeper_access::Verb;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    access::concrete,
    harness::{SECRET, TestServer},
    hooks::deliver,
    plans,
};
use crate::{
    guard::{Access, On},
    routes::table,
};

pub(super) const PASSWORD: &str = "correct horse battery";

/// Somebody with a role, and where they have it.
const PEOPLE: [(&str, &str, &str); 8] = [
    ("viewer-here", "viewer", "mall"),
    ("viewer-elsewhere", "viewer", "shop"),
    ("maintainer-elsewhere", "maintainer", "shop"),
    ("developer-here", "developer", "mall"),
    ("maintainer-here", "maintainer", "mall"),
    ("ops-here", "ops", "mall"),
    ("maintainer-of-all", "maintainer", ""),
    ("admin-of-all", "admin", ""),
];

fn rank(role: &str) -> u8 {
    match role {
        "viewer" | "ops" => 1,
        "developer" => 2,
        "maintainer" => 3,
        "admin" => 4,
        other => panic!("{other}"),
    }
}

fn least(verb: Verb) -> &'static str {
    match verb {
        Verb::ReadRuns | Verb::Decide | Verb::ReadMetrics | Verb::ReadCaches => "viewer",
        Verb::ReadDeliveries
        | Verb::ReadDocuments
        | Verb::StartRun
        | Verb::SendTree
        | Verb::CancelRun
        | Verb::RetryRun
        | Verb::KeepRun
        | Verb::StartAction
        | Verb::OpenTerminal => "developer",
        Verb::ReplayDelivery
        | Verb::RemoveCaches
        | Verb::ReadSecrets
        | Verb::ChangeSecrets
        | Verb::ReadAudit => "maintainer",
        Verb::Bypass | Verb::ApplyDocuments | Verb::RotateKey | Verb::ReadUsers | Verb::ManageUsers => {
            "admin"
        }
    }
}

/// What somebody is told: `heard`, `denied`, or `hidden` if they may not even know of it.
fn expected(access: Access, (role, place): (&str, &str)) -> &'static str {
    let (verb, on) = match access {
        Access::Open | Access::Hook | Access::Signed | Access::Own | Access::OwnForm => return "heard",
        Access::Read(verb, on) | Access::Write(verb, on) | Access::Form(verb, on) => (verb, on),
    };
    let is_enough = rank(role) >= rank(least(verb));
    let covers = match on {
        On::Server => place.is_empty(),
        On::Some => true,
        On::Run | On::Project | On::Delivery if place == "shop" => return "hidden",
        On::Run | On::Project | On::Delivery => true,
    };
    if is_enough && covers { "heard" } else { "denied" }
}

/// Adds somebody, whose grants are JSON.
pub(super) async fn add(server: &TestServer, name: &str, grants: Value) {
    let body = json!({ "password": PASSWORD, "grants": grants });
    let added = server.post(&format!("/api/v1/users/{name}/add"), &body).await;
    assert_eq!(added.status(), 201, "{}", added.text().await.unwrap());
}

pub(super) fn grant(role: &str, project: &str) -> Value {
    if project.is_empty() {
        json!([{ "role": role }])
    } else {
        json!([{ "role": role, "projects": [project] }])
    }
}

/// Logs somebody in; their token.
pub(super) async fn login(server: &TestServer, name: &str) -> String {
    let body = json!({ "name": name, "password": PASSWORD, "label": "a test" });
    let answer = server
        .request(Method::POST, "/api/v1/login")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    answer.json::<Value>().await.unwrap()["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Signs somebody in with a browser; their cookie.
pub(super) async fn sign_in(server: &TestServer, name: &str) -> String {
    let form = format!("name={name}&password={}", PASSWORD.replace(' ', "+"));
    let answer = server.form("/login", "", &form).await;
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn told(
    server: &TestServer,
    (method, path): (Method, &str),
    access: Access,
    by: (&str, &str),
) -> String {
    let (token, cookie) = by;
    let request = server.request(method, path);
    let is_form = matches!(access, Access::Form(..) | Access::OwnForm);
    let request = if is_form {
        request.header("cookie", cookie)
    } else {
        request.bearer_auth(token)
    };
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    // A live stream never ends; only refusals have a body worth reading.
    let body = if status >= 400 {
        answer.text().await.unwrap()
    } else {
        String::new()
    };
    match status {
        401 => "nobody".to_owned(),
        403 if body.contains("may not ") => "denied".to_owned(),
        404 if ["no run", "no project `mall`", "no delivery"]
            .iter()
            .any(|words| body.contains(&format!("there is {words}"))) =>
        {
            "hidden".to_owned()
        }
        _ => "heard".to_owned(),
    }
}

#[tokio::test]
async fn every_route_answers_every_role_by_the_table() {
    let server = TestServer::start().await;
    server
        .run(plans::request("s", "main", vec![plans::work("build", &[])]))
        .await;
    assert_eq!(deliver(&server, SECRET, b"{}".to_vec()).await.status(), 202);
    let mut wrong = BTreeMap::new();
    for (name, role, place) in PEOPLE {
        add(&server, name, grant(role, place)).await;
        let (token, cookie) = (login(&server, name).await, sign_in(&server, name).await);
        for route in table() {
            let path = concrete(route.path);
            let said = told(
                &server,
                (route.method.clone(), &path),
                route.access,
                (&token, &cookie),
            )
            .await;
            let wanted = expected(route.access, (role, place));
            let is_judged = !matches!(
                route.access,
                Access::Open | Access::Hook | Access::Signed | Access::OwnForm
            );
            if is_judged && said != wanted {
                wrong.insert(format!("{name}: {} {}", route.method, route.path), (said, wanted));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The table in the documentation says what the code does.
#[test]
fn the_table_of_the_documentation_is_this_one() {
    let mut table = String::from(
        "| may | viewer | developer | maintainer | admin | a group of approvers |\n|---|---|---|---|---|---|\n",
    );
    for verb in Verb::ALL {
        let least = rank(least(verb));
        let cell = |role| if rank(role) >= least { " yes |" } else { " – |" };
        let cells: String = ["viewer", "developer", "maintainer", "admin", "ops"]
            .map(cell)
            .concat();
        table.push_str(&format!("| {} |{cells}\n", verb.words()));
    }
    let page = std::fs::read_to_string("../../docs/people.md").unwrap();
    assert!(page.contains(&table), "docs/people.md wants this table:\n{table}");
}
