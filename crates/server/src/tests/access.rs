//! Every route, asked by everybody: what the table declares, and what that means, each written down a second time.

use std::collections::BTreeMap;

use reqwest::{Method, Response};

use super::{harness::TestServer, plans};
use crate::{guard::Access, routes::table};

/// Every route with what it wants. A new route must be written here by hand.
const ROUTES: &str = "
GET /healthz Open
GET /readyz Open
GET /metrics Read
GET /assets/{file} Open
POST /hooks/{token} Hook
GET /api/v1/runs Read
GET /api/v1/runs/{run} Read
GET /api/v1/runs/{run}/events Read
GET /api/v1/runs/{run}/record Read
GET /api/v1/runs/{run}/why Read
GET /api/v1/runs/{run}/top Read
GET /api/v1/runs/{run}/nodes/{node}/log Read
GET /api/v1/runs/{run}/nodes/{node}/artifacts/{artifact} Read
GET /api/v1/runs/{run}/nodes/{node}/outputs/{output} Read
GET /api/v1/runs/{run}/nodes/{node}/tests Read
GET /api/v1/live Read
GET /api/v1/deliveries Read
GET /api/v1/deliveries/{delivery} Read
GET /api/v1/refusals Read
GET /api/v1/projects Read
GET /api/v1/caches Read
POST /api/v1/caches/remove Write
POST /api/v1/projects/{project}/trees Write
POST /api/v1/runs Write
POST /api/v1/runs/{run}/cancel Write
POST /api/v1/runs/{run}/retry Write
POST /api/v1/runs/{run}/nodes/{node}/approve Write
POST /api/v1/runs/{run}/nodes/{node}/reject Write
POST /api/v1/runs/{run}/nodes/{node}/start Write
POST /api/v1/runs/{run}/nodes/{node}/debug Write
POST /api/v1/runs/{run}/nodes/{node}/release Write
POST /api/v1/deliveries/{delivery}/replay Write
GET / Read
GET /runs Read
GET /runs/{run} Read
GET /runs/{run}/history Read
GET /runs/{run}/nodes/{node} Read
GET /deliveries Read
GET /login Open
POST /login Open
POST /logout Form
POST /runs/{run}/cancel Form
POST /runs/{run}/retry Form
POST /runs/{run}/nodes/{node}/decide Form
POST /runs/{run}/nodes/{node}/start Form
POST /deliveries/{delivery}/replay Form
";

/// What nobody, a bad token, the good token, another site with the good token, and another host with it are told.
fn expected(access: Access) -> [&'static str; 5] {
    match access {
        Access::Open | Access::Read => ["heard", "heard", "heard", "foreign origin", "foreign host"],
        Access::Hook => ["unknown", "unknown", "unknown", "unknown", "foreign host"],
        Access::Write => ["no right", "no right", "heard", "foreign origin", "foreign host"],
        Access::Form => ["login", "login", "login", "foreign origin", "foreign host"],
    }
}

async fn verdict(response: Response) -> &'static str {
    let status = response.status().as_u16();
    let leads_to = response.headers().get("location").cloned();
    if leads_to.is_some_and(|to| to == "/login") {
        return "login";
    }
    // A live stream never ends; only refusals have a body worth reading.
    let body = if status >= 400 {
        response.text().await.unwrap()
    } else {
        String::new()
    };
    match status {
        401 if body.contains("urn:pipekeeper:problem:unauthorized") => "no right",
        403 if body.contains("foreign-origin") => "foreign origin",
        421 if body.contains("foreign-host") => "foreign host",
        404 if body.contains("no project has this address") => "unknown",
        _ => "heard",
    }
}

fn concrete(path: &str) -> String {
    let values = [
        ("{file}", "pipe.css"),
        ("{token}", "no-such-token"),
        ("{project}", "mall"),
        ("{run}", "1"),
        ("{node}", "build"),
        ("{artifact}", "web"),
        ("{output}", "version"),
        ("{delivery}", "1"),
    ];
    let path = values
        .iter()
        .fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    assert!(
        !path.contains('{'),
        "{path} has a part that this test does not know"
    );
    path
}

#[test]
fn the_table_is_the_one_written_down() {
    let written: Vec<_> = ROUTES.trim().lines().map(str::to_owned).collect();
    let declared: Vec<_> = table()
        .iter()
        .map(|route| format!("{} {} {:?}", route.method, route.path, route.access))
        .collect();
    assert_eq!(declared, written);
}

#[test]
fn nothing_unsafe_is_open_but_the_login() {
    for route in table().iter().filter(|route| route.method != Method::GET) {
        let is_guarded = matches!(route.access, Access::Write | Access::Form | Access::Hook);
        assert!(is_guarded || route.path == "/login", "{}", route.path);
    }
}

#[tokio::test]
async fn everybody_is_told_what_they_may() {
    let server = TestServer::start().await;
    server
        .run(plans::request("s", "main", vec![plans::work("build", &[])]))
        .await;
    let mut wrong = BTreeMap::new();
    for route in table() {
        let path = concrete(route.path);
        let ask = || server.request(route.method.clone(), &path);
        let good = || ask().bearer_auth(&server.token);
        let requests = [
            ask(),
            ask().bearer_auth("pk_0000"),
            good(),
            good().header("origin", "http://evil.example"),
            good().header("host", "evil.example"),
        ];
        let mut told = Vec::new();
        for request in requests {
            told.push(verdict(request.send().await.unwrap()).await);
        }
        if told != expected(route.access) {
            wrong.insert(format!("{} {}", route.method, route.path), told);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn every_answer_carries_safe_headers() {
    let server = TestServer::start().await;
    for path in ["/runs", "/api/v1/runs", "/nowhere", "/api/v1/nowhere", "/login"] {
        let response = server.get(path).await;
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert!(
            headers["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'self'"),
            "{path}"
        );
    }
}
