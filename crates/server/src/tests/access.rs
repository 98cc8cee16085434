//! Every route, asked by everybody: what the table declares, and what that means, each written down a second time.

use std::collections::BTreeMap;

use reqwest::{Method, Response};

use super::{harness::TestServer, plans};
use crate::{guard::Access, routes::table};

/// Every route with what it wants. A new route must be written here by hand.
const ROUTES: &str = "
GET /healthz Open
GET /readyz Open
GET /metrics Read(ReadMetrics, Server)
GET /assets/{file} Open
POST /hooks/{token} Hook
GET /artifacts/{link}/{file} Signed
GET /api/v1/runs Read(ReadRuns, Some)
GET /api/v1/approvals Read(ReadRuns, Some)
GET /api/v1/runs/{run} Read(ReadRuns, Run)
GET /api/v1/runs/{run}/events Read(ReadRuns, Run)
GET /api/v1/runs/{run}/record Read(ReadRuns, Run)
GET /api/v1/runs/{run}/why Read(ReadRuns, Run)
GET /api/v1/runs/{run}/top Read(ReadRuns, Run)
GET /api/v1/runs/{run}/nodes/{node}/log Read(ReadRuns, Run)
GET /api/v1/runs/{run}/nodes/{node}/artifacts/{artifact} Read(ReadRuns, Run)
GET /api/v1/runs/{run}/nodes/{node}/outputs/{output} Read(ReadRuns, Run)
GET /api/v1/runs/{run}/nodes/{node}/tests Read(ReadRuns, Run)
GET /api/v1/live Read(ReadRuns, Some)
GET /api/v1/deliveries Read(ReadDeliveries, Some)
GET /api/v1/deliveries/{delivery} Read(ReadDeliveries, Delivery)
GET /api/v1/refusals Read(ReadDeliveries, Some)
GET /api/v1/projects Read(ReadRuns, Some)
GET /api/v1/caches Read(ReadCaches, Some)
GET /api/v1/locks Read(ReadRuns, Some)
POST /api/v1/caches/remove Write(RemoveCaches, Some)
POST /api/v1/projects/{project}/trees Write(SendTree, Project)
POST /api/v1/runs Write(StartRun, Some)
POST /api/v1/runs/{run}/cancel Write(CancelRun, Run)
POST /api/v1/runs/{run}/retry Write(RetryRun, Run)
POST /api/v1/runs/{run}/keep Write(KeepRun, Run)
POST /api/v1/runs/{run}/nodes/{node}/approve Write(Decide, Run)
POST /api/v1/runs/{run}/nodes/{node}/reject Write(Decide, Run)
POST /api/v1/runs/{run}/nodes/{node}/start Write(StartAction, Run)
POST /api/v1/runs/{run}/nodes/{node}/debug Write(OpenTerminal, Run)
POST /api/v1/runs/{run}/nodes/{node}/release Write(OpenTerminal, Run)
POST /api/v1/deliveries/{delivery}/replay Write(ReplayDelivery, Delivery)
POST /api/v1/login Open
GET /api/v1/me Own
GET /api/v1/tokens Own
POST /api/v1/tokens Own
POST /api/v1/tokens/{id}/revoke Own
GET /api/v1/users Read(ReadUsers, Server)
POST /api/v1/users/{user}/add Write(ManageUsers, Server)
POST /api/v1/users/{user} Write(ManageUsers, Server)
POST /api/v1/users/{user}/remove Write(ManageUsers, Server)
GET /api/v1/audit Read(ReadAudit, Some)
GET /api/v1/documents Read(ReadDocuments, Server)
GET /api/v1/documents/{kind}/{name} Read(ReadDocuments, Server)
GET /api/v1/documents/{kind}/{name}/versions Read(ReadDocuments, Server)
POST /api/v1/documents/apply Write(ApplyDocuments, Server)
POST /api/v1/documents/{kind}/{name}/remove Write(ApplyDocuments, Server)
GET /api/v1/secrets Read(ReadSecrets, Some)
POST /api/v1/secrets/set Write(ChangeSecrets, Some)
POST /api/v1/secrets/remove Write(ChangeSecrets, Some)
POST /api/v1/secrets/rotate-key Write(RotateKey, Server)
GET / Open
GET /runs Read(ReadRuns, Some)
GET /approvals Read(ReadRuns, Some)
GET /runs/{run} Read(ReadRuns, Run)
GET /runs/{run}/history Read(ReadRuns, Run)
GET /runs/{run}/nodes/{node} Read(ReadRuns, Run)
GET /deliveries Read(ReadDeliveries, Some)
GET /audit Read(ReadAudit, Some)
GET /login Open
POST /login Open
GET /login/oidc Open
GET /login/oidc/back Open
GET /setup Open
POST /setup Open
POST /logout OwnForm
GET /settings Own
POST /settings/password OwnForm
POST /settings/tokens OwnForm
POST /settings/tokens/{id}/revoke OwnForm
POST /settings/sessions/end-others OwnForm
POST /settings/sessions/{id}/end OwnForm
POST /runs/{run}/cancel Form(CancelRun, Run)
POST /runs/{run}/retry Form(RetryRun, Run)
POST /runs/{run}/nodes/{node}/decide Form(Decide, Run)
POST /runs/{run}/nodes/{node}/start Form(StartAction, Run)
POST /deliveries/{delivery}/replay Form(ReplayDelivery, Delivery)
";

/// What nobody, a bad token, the server's token, another site with it, and another host with it are told, as long as there
/// is nobody who could log in.
fn expected(access: Access, method: &Method, path: &str) -> [&'static str; 5] {
    let others = ["foreign origin", "foreign host"];
    let [nobody, bad, good] = match access {
        Access::Open => ["heard", "heard", "heard"],
        // Not on this host, whoever asks.
        Access::Signed => return ["heard", "heard", "heard", "heard", "foreign host"],
        Access::Hook => return ["unknown", "unknown", "unknown", "unknown", "foreign host"],
        Access::Read(..) => ["heard", "no right", "heard"],
        Access::Own if method.is_safe() && !path.starts_with("/api/") => ["login", "no right", "heard"],
        Access::Own if method.is_safe() => ["no right", "no right", "heard"],
        Access::Write(..) | Access::Own => ["no right", "no right", "heard"],
        Access::Form(..) | Access::OwnForm => ["login", "no right", "login"],
    };
    [nobody, bad, good, others[0], others[1]]
}

async fn verdict(response: Response) -> &'static str {
    let status = response.status().as_u16();
    let leads_to = response.headers().get("location").cloned();
    let is_login = |to: &str| to == "/login" || to.starts_with("/login?next=");
    if leads_to.is_some_and(|to| is_login(to.to_str().unwrap())) {
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
        401 if body.contains("the token is not valid") => "no right",
        403 if body.contains("foreign-origin") => "foreign origin",
        421 if body.contains("foreign-host") => "foreign host",
        404 if body.contains("no project has this address") => "unknown",
        _ => "heard",
    }
}

pub(super) fn concrete(path: &str) -> String {
    let values = [
        ("{file}", "pipe.css"),
        ("{token}", "no-such-token"),
        ("{link}", "no-such-link"),
        ("{project}", "mall"),
        ("{run}", "1"),
        ("{node}", "build"),
        ("{artifact}", "web"),
        ("{output}", "version"),
        ("{delivery}", "1"),
        ("{id}", "0123456789ab"),
        ("{user}", "somebody"),
        ("{kind}", "RoleBinding"),
        ("{name}", "team"),
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
fn nothing_unsafe_is_open_but_the_ways_in() {
    for route in table().iter().filter(|route| route.method != Method::GET) {
        let is_way_in = ["/login", "/setup", "/api/v1/login"].contains(&route.path);
        assert_eq!(route.access == Access::Open, is_way_in, "{}", route.path);
        let is_looked_at = matches!(route.access, Access::Read(..));
        assert!(!is_looked_at, "{} acts with a right to look", route.path);
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
        if told != expected(route.access, &route.method, route.path) {
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
