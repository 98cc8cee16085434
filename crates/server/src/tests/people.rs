//! Logging in and out, tokens, the first link, and what the audit log says of it.

use std::sync::Arc;

use pipekeeper_store::{AuditFilter, RecordKind, Registry as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    harness::{NOW, TestServer},
    plans,
    roles::{PASSWORD, add, grant, login, sign_in},
};
use crate::{
    AccessToken,
    people::{OpenReads, People, login::first_link, tokens::TokenWish},
};

async fn as_bearer(server: &TestServer, token: &str, path: &str) -> StatusCode {
    let request = server.request(Method::GET, path).bearer_auth(token);
    request.send().await.unwrap().status()
}

async fn with_cookie(server: &TestServer, cookie: &str, path: &str) -> StatusCode {
    let request = server.request(Method::GET, path).header("cookie", cookie);
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn once_there_are_people_nobody_else_looks() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/runs").await.status(), 200);
    assert_eq!(server.get("/api/v1/runs").await.status(), 200);
    add(&server, "ann", grant("viewer", "")).await;
    let page = server.get("/runs").await;
    assert_eq!(page.status(), 303);
    assert_eq!(page.headers()["location"], "/login?next=%2Fruns");
    assert_eq!(server.get("/api/v1/runs").await.status(), 401);
    let token = login(&server, "ann").await;
    assert_eq!(as_bearer(&server, &token, "/api/v1/runs").await, 200);
    let cookie = sign_in(&server, "ann").await;
    assert_eq!(with_cookie(&server, &cookie, "/runs").await, 200);
    assert_eq!(
        with_cookie(&server, &cookie, "/api/v1/runs").await,
        200,
        "pages ask it too"
    );
    let posted = server
        .request(Method::POST, "/api/v1/runs/1/cancel")
        .header("cookie", &cookie);
    assert_eq!(
        posted.send().await.unwrap().status(),
        401,
        "a browser sends cookies by itself"
    );
    // What only says that the server is there stays open.
    assert_eq!(server.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_are_told_the_same() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "")).await;
    let mut told = Vec::new();
    for (name, password) in [
        ("ann", "not it at all"),
        ("bob", PASSWORD),
        ("no name!", PASSWORD),
    ] {
        let body = json!({ "name": name, "password": password, "label": "" });
        let answer = server
            .request(Method::POST, "/api/v1/login")
            .json(&body)
            .send()
            .await
            .unwrap();
        told.push((answer.status(), answer.text().await.unwrap()));
    }
    assert_eq!(told[0].0, 401);
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

#[tokio::test]
async fn who_tries_too_often_waits() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "")).await;
    let body = json!({ "name": "ann", "password": "not it at all", "label": "" });
    let mut last = StatusCode::OK;
    // However slowly these are answered: they come faster than one in six seconds.
    for _ in 0..40 {
        let request = server.request(Method::POST, "/api/v1/login").json(&body);
        last = request.send().await.unwrap().status();
        if last != StatusCode::UNAUTHORIZED {
            break;
        }
    }
    assert_eq!(last, 503);
    add(&server, "bob", grant("viewer", "")).await;
    login(&server, "bob").await;
}

#[tokio::test]
async fn whoever_is_kept_out_is_out_at_once() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "")).await;
    let (token, cookie) = (login(&server, "ann").await, sign_in(&server, "ann").await);
    let user = "/api/v1/users/ann";
    let narrowed = json!({ "grants": [] });
    assert_eq!(server.post(user, &narrowed).await.status(), 200);
    assert_eq!(as_bearer(&server, &token, "/api/v1/runs").await, 403);
    assert_eq!(as_bearer(&server, &token, "/api/v1/me").await, 200);
    let changed = server.post(user, &json!({ "disabled": true })).await;
    assert_eq!(changed.json::<Value>().await.unwrap()["disabled"], true);
    assert_eq!(as_bearer(&server, &token, "/api/v1/me").await, 401);
    assert_eq!(with_cookie(&server, &cookie, "/runs").await, 303);
    server.post(user, &json!({ "disabled": false })).await;
    assert_eq!(
        as_bearer(&server, &token, "/api/v1/me").await,
        401,
        "tokens do not come back"
    );
    let token = login(&server, "ann").await;
    assert_eq!(
        server
            .post(user, &json!({ "password": "another horse battery" }))
            .await
            .status(),
        200
    );
    assert_eq!(
        as_bearer(&server, &token, "/api/v1/me").await,
        401,
        "the password is another"
    );
    assert_eq!(
        server.post(&format!("{user}/remove"), &json!({})).await.status(),
        200
    );
    assert_eq!(server.post(user, &json!({})).await.status(), 404);
}

#[tokio::test]
async fn a_limited_token_does_what_it_is_for() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("admin", "")).await;
    let whole = login(&server, "ann").await;
    let draw = async |body: Value| {
        let request = server.request(Method::POST, "/api/v1/tokens").bearer_auth(&whole);
        request.json(&body).send().await.unwrap()
    };
    let limited = json!({ "label": "a robot", "days": 1, "role": "viewer", "projects": ["mall"] });
    let drawn: Value = draw(limited).await.json().await.unwrap();
    let token = drawn["token"].as_str().unwrap();
    assert_eq!(as_bearer(&server, token, "/api/v1/runs?project=mall").await, 200);
    assert_eq!(as_bearer(&server, token, "/api/v1/runs?project=shop").await, 404);
    assert_eq!(as_bearer(&server, token, "/api/v1/users").await, 403);
    let more = server.request(Method::POST, "/api/v1/tokens").bearer_auth(token);
    let more = more
        .json(&json!({ "label": "more", "days": 1 }))
        .send()
        .await
        .unwrap();
    assert_eq!(more.status(), 403, "{}", more.text().await.unwrap());
    for days in [0, 367] {
        assert_eq!(draw(json!({ "label": "", "days": days })).await.status(), 422);
    }
    let id = drawn["id"].as_str().unwrap();
    let revoke = server
        .request(Method::POST, &format!("/api/v1/tokens/{id}/revoke"))
        .bearer_auth(&whole);
    assert_eq!(revoke.send().await.unwrap().status(), 200);
    assert_eq!(as_bearer(&server, token, "/api/v1/runs").await, 401);
    // Nothing that was drawn stands anywhere in the store.
    let kept = server.store.records(RecordKind::Token, None).await.unwrap();
    assert!(!kept.is_empty());
    for record in kept {
        assert!(!whole.contains(&record.name) && !record.body.contains(&whole));
    }
}

#[tokio::test]
async fn the_first_link_makes_one_admin() {
    let server = TestServer::start().await;
    let old = first_link(&server.store, NOW).await.unwrap().unwrap();
    let key = first_link(&server.store, NOW).await.unwrap().unwrap();
    for printed in [&old, &key] {
        assert_eq!(server.get(&format!("/setup?key={printed}")).await.status(), 200);
    }
    let form = |name: &str, password: &str, again: &str| {
        format!("key={key}&name={name}&password={password}&again={again}")
    };
    for (refused, why) in [
        (form("ann", "long-enough-1", "long-enough-2"), "differ"),
        (form("ann", "short", "short"), "fewer than 12"),
        (
            form("admin", "long-enough-1", "long-enough-1"),
            "stands for somebody",
        ),
    ] {
        let answer = server.form("/setup", "", &refused).await;
        assert_eq!(answer.status(), 422);
        assert!(answer.text().await.unwrap().contains(why), "{why}");
    }
    let made = server
        .form("/setup", "", &form("ann", "long-enough-1", "long-enough-1"))
        .await;
    assert_eq!(made.status(), 303);
    let cookie = made.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(with_cookie(&server, &cookie, "/api/v1/users").await, 200);
    let again = server
        .form("/setup", "", &form("bob", "long-enough-1", "long-enough-1"))
        .await;
    assert_eq!(again.status(), 403);
    let old = format!("key={old}&name=bob&password=long-enough-1&again=long-enough-1");
    assert_eq!(server.form("/setup", "", &old).await.status(), 403);
    assert_eq!(first_link(&server.store, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn the_first_link_is_void_once_there_is_somebody() {
    let server = TestServer::start().await;
    let key = first_link(&server.store, NOW).await.unwrap().unwrap();
    add(&server, "ann", grant("viewer", "")).await;
    assert_eq!(server.get(&format!("/setup?key={key}")).await.status(), 403);
    let form = format!("key={key}&name=eve&password=long-enough-1&again=long-enough-1");
    assert_eq!(server.form("/setup", "", &form).await.status(), 403);
}

#[tokio::test]
async fn what_people_do_is_in_the_audit_log() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("developer", "mall")).await;
    let token = login(&server, "ann").await;
    // It waits, so that there is something to cancel.
    let nodes = vec![plans::gate("ok", &[], "Ship?"), plans::work("ship", &[0])];
    let gate = plans::request("s", "main", nodes);
    let run = server.run(gate).await;
    let cancel = server
        .request(Method::POST, &format!("/api/v1/runs/{run}/cancel"))
        .bearer_auth(&token);
    cancel.send().await.unwrap();
    let entries = server.store.audit(&AuditFilter::default(), 10).await.unwrap();
    let said: Vec<_> = entries.iter().rev().map(|stored| &stored.entry).collect();
    let verbs: Vec<_> = said.iter().map(|entry| entry.verb.as_str()).collect();
    assert_eq!(verbs, ["user.add", "token.draw", "run.cancel"]);
    let cancelled = said[2];
    assert_eq!(cancelled.subject, format!("run/{run}"));
    assert_eq!(cancelled.project, Some("mall".parse().unwrap()));
    assert_eq!(
        (cancelled.actor.to_string().as_str(), cancelled.from.as_deref()),
        ("ann", Some("127.0.0.1"))
    );
    assert!(entries.iter().all(|stored| !format!("{stored:?}").contains("argon") && !format!("{stored:?}").contains("salt")));
    // Who looks after another project does not see it.
    add(&server, "eve", grant("maintainer", "shop")).await;
    let eve = login(&server, "eve").await;
    let audit = server
        .request(Method::GET, "/api/v1/audit")
        .bearer_auth(&eve)
        .send()
        .await
        .unwrap();
    assert_eq!(audit.json::<Value>().await.unwrap()["entries"], json!([]));
    assert_eq!(as_bearer(&server, &eve, "/api/v1/audit?project=mall").await, 403);
}

#[tokio::test]
async fn lists_show_what_one_may_see() {
    let server = TestServer::start().await;
    let run = server
        .run(plans::request("s", "main", vec![plans::work("build", &[])]))
        .await;
    add(&server, "ann", grant("viewer", "mall")).await;
    add(&server, "eve", grant("viewer", "shop")).await;
    let runs = async |token: &str| {
        let request = server.request(Method::GET, "/api/v1/runs").bearer_auth(token);
        request.send().await.unwrap().json::<Value>().await.unwrap()["runs"]
            .as_array()
            .unwrap()
            .len()
    };
    let (ann, eve) = (login(&server, "ann").await, login(&server, "eve").await);
    assert_eq!((runs(&ann).await, runs(&eve).await), (1, 0));
    let live = format!("/api/v1/live?run={run}");
    assert_eq!(as_bearer(&server, &ann, &live).await, 200);
    assert_eq!(as_bearer(&server, &eve, &live).await, 404);
    let start = json!({ "project": "mall", "pipeline": "web" });
    for (token, told) in [(&ann, 403), (&eve, 403)] {
        let request = server.request(Method::POST, "/api/v1/runs").bearer_auth(token);
        assert_eq!(request.json(&start).send().await.unwrap().status(), told);
    }
    add(&server, "dev", grant("developer", "shop")).await;
    let dev = login(&server, "dev").await;
    let request = server.request(Method::POST, "/api/v1/runs").bearer_auth(&dev);
    assert_eq!(
        request.json(&start).send().await.unwrap().status(),
        403,
        "the project is another"
    );
}

#[tokio::test]
async fn a_session_ends_with_the_token_that_opened_it() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "")).await;
    let token = login(&server, "ann").await;
    let signed_in = server.form("/login", "", &format!("token={token}")).await;
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(with_cookie(&server, &cookie, "/runs").await, 200);
    let tokens = server.request(Method::GET, "/api/v1/tokens").bearer_auth(&token);
    let tokens: Value = tokens.send().await.unwrap().json().await.unwrap();
    let id = tokens["tokens"][0]["id"].as_str().unwrap();
    let revoke = format!("/api/v1/tokens/{id}/revoke");
    let revoke = server.request(Method::POST, &revoke).bearer_auth(&token);
    assert_eq!(revoke.send().await.unwrap().status(), 200);
    assert_eq!(with_cookie(&server, &cookie, "/runs").await, 303);
}

#[tokio::test]
async fn a_login_under_way_does_not_outlive_another_password() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "")).await;
    let registry = Arc::new(server.store.clone());
    let own = AccessToken::generate().unwrap();
    let people = People::new(registry, own, OpenReads::Never).unwrap();
    let try_it = async || {
        let proved = people.by_password(("ann", PASSWORD.to_owned()), None, NOW).await;
        proved.ok().unwrap()
    };
    let (in_time, late) = (try_it().await, try_it().await);
    let opened = async |caller| {
        let cookie = people.open_session(&caller, false, NOW).await.unwrap();
        let wish = TokenWish {
            label: String::new(),
            days: 1,
            scope: None,
        };
        let (token, _) = people.draw_token(&caller, wish, NOW).await.unwrap();
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        (
            with_cookie(&server, &cookie, "/runs").await.as_u16(),
            as_bearer(&server, token.reveal(), "/api/v1/runs").await.as_u16(),
        )
    };
    assert_eq!(opened(in_time).await, (200, 200));
    let changed = json!({ "password": "another horse battery" });
    assert_eq!(server.post("/api/v1/users/ann", &changed).await.status(), 200);
    assert_eq!(opened(late).await, (303, 401));
}

#[tokio::test]
async fn a_refused_login_is_written_down_without_what_was_typed() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "")).await;
    for (name, password) in [("ann", "not it at all"), ("correct-horse", "x")] {
        let body = json!({ "name": name, "password": password, "label": "" });
        let request = server.request(Method::POST, "/api/v1/login").json(&body);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let form = server.form("/login", "", "token=pk_wrong").await;
    assert_eq!(form.status(), 401);
    let filter = AuditFilter {
        verb: Some("login.refused".to_owned()),
        ..AuditFilter::default()
    };
    let noted = server.store.audit(&filter, 10).await.unwrap();
    let subjects: Vec<_> = noted.iter().map(|one| one.entry.subject.as_str()).collect();
    assert_eq!(subjects, ["user/?", "user/?", "user/ann"]);
    assert!(!format!("{noted:?}").contains("correct-horse"));
}
