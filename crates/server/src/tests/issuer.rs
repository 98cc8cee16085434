//! A login through a real issuer, which `scripts/dev-issuer` starts.

use std::{env, io::Write as _, sync::Arc, time::SystemTime};

use futures_util::future::{BoxFuture, pending};
use pipekeeper_controller::Clock;
use pipekeeper_model::Timestamp;
use reqwest::{Client, Method, Response, redirect};
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    oidc::{options, session},
};
use crate::{Newcomers, session::random};

/// The issuer's time is this machine's.
struct Real;

impl Clock for Real {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp(since.as_millis().try_into().unwrap())
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(pending())
    }
}

/// The issuer, as its admin has it.
struct Issuer {
    url: String,
    admin: String,
    password: String,
    http: Client,
}

impl Issuer {
    /// The one that is there, or a word on why there is none.
    fn find() -> Option<Self> {
        let of = |name: &str| env::var(name).ok();
        let found = (
            of("PIPE_TEST_ISSUER"),
            of("PIPE_TEST_ISSUER_ADMIN"),
            of("PIPE_TEST_ISSUER_PASSWORD"),
        );
        let (Some(url), Some(admin), Some(password)) = found else {
            let why = "skipped: this needs PIPE_TEST_ISSUER: eval \"$(scripts/dev-issuer env)\"";
            drop(writeln!(std::io::stderr(), "{why}"));
            return None;
        };
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none());
        Some(Self {
            url,
            admin,
            password,
            http: http.build().unwrap(),
        })
    }

    async fn ask(&self, cookie: &str, method: Method, path: &str, body: Value) -> Response {
        let request = self.http.request(method, format!("{}/{path}", self.admin));
        let answer = request.header("cookie", cookie).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer
    }

    async fn sign_in(&self, name: &str, password: &str) -> String {
        let body = json!({ "username": name, "password": password });
        let answer = self.ask("", Method::POST, "auth/", body).await;
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Has it know somebody and a server, and somebody trust that server; their cookie.
    async fn introduce(&self, admin: &str, user: &str, (client, secret): (&str, &str), back: &str) -> String {
        let password = "correct horse battery";
        let person = json!({
            "username": user, "password": password, "name": "Ann", "enabled": true, "scope": ["openid", "g_profile"],
            "groups": ["ops", "dev"],
        });
        self.ask(admin, Method::POST, "user/", person).await;
        let known = json!({
            "client_id": client, "name": "Pipekeeper", "confidential": true, "client_secret": secret, "redirect_uri": [back],
            "authorization_type": ["code"], "scope": ["openid"], "token_endpoint_auth_method": ["client_secret_basic"],
            "enabled": true,
        });
        self.ask(admin, Method::POST, "client/", known).await;
        let own = self.sign_in(user, password).await;
        let grant = format!("auth/grant/{client}");
        self.ask(&own, Method::PUT, &grant, json!({ "scope": "openid" }))
            .await;
        own
    }
}

/// A browser's way there and back: how it is received, with what, and by which path.
async fn through(issuer: &Issuer, server: &TestServer, own: &str) -> (Response, String, String) {
    let away = server.get("/login/oidc?next=%2Fruns").await;
    let cookie = away.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    // Its page sets this once somebody said yes.
    let there = format!("{}&g_continue", location(&away));
    let there = issuer.http.get(there).header("cookie", own);
    let back = location(&there.send().await.unwrap());
    let (_, rest) = back.split_once("/login").unwrap();
    let path = format!("/login{rest}");
    let request = server.request(Method::GET, &path).header("cookie", &cookie);
    (request.send().await.unwrap(), cookie, path)
}

fn location(answer: &Response) -> String {
    assert!(answer.status().is_redirection(), "{}", answer.status());
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn somebody_logs_in_through_a_real_issuer() {
    let Some(issuer) = Issuer::find() else { return };
    let mark = random().unwrap().chars().take(12).collect::<String>();
    let (user, client, secret) = (
        format!("ann{mark}"),
        format!("client{mark}"),
        format!("secret{mark}"),
    );
    let options = crate::OidcOptions {
        client_id: client.clone(),
        client_secret: secret.clone(),
        algorithms: vec!["RS256".to_owned()],
        ..options(&issuer.url, Newcomers::Welcome)
    };
    let server = TestServer::with_issuer(options, Arc::new(Real)).await;
    let back = format!("http://{}/login/oidc/back", server.address);
    let admin = issuer.sign_in("admin", &issuer.password).await;
    let own = issuer.introduce(&admin, &user, (&client, &secret), &back).await;
    let binding =
        json!({ "documents": [{ "kind": "RoleBinding", "name": "g", "role": "viewer", "groups": ["ops"] }] });
    assert_eq!(
        server.post("/api/v1/documents/apply", &binding).await.status(),
        200
    );

    let (first, cookie, path) = through(&issuer, &server, &own).await;
    assert_eq!(location(&first), "/runs");
    let looked = server
        .request(Method::GET, "/runs")
        .header("cookie", session(&first));
    assert_eq!(
        looked.send().await.unwrap().status(),
        200,
        "by a group of the issuer"
    );
    let again = server.request(Method::GET, &path).header("cookie", &cookie);
    assert_eq!(again.send().await.unwrap().status(), 401, "a code is taken once");
    let (second, ..) = through(&issuer, &server, &own).await;
    assert_eq!(location(&second), "/runs");
    let users = server
        .request(Method::GET, "/api/v1/users")
        .bearer_auth(&server.token);
    let users: Value = users.send().await.unwrap().json().await.unwrap();
    let users = users["users"].as_array().unwrap();
    assert_eq!((users.len(), &users[0]["name"]), (1, &json!(user)));
    assert_eq!(users[0]["groups"], json!(["dev", "ops"]));
    issuer
        .ask(&admin, Method::DELETE, &format!("client/{client}"), json!({}))
        .await;
    issuer
        .ask(&admin, Method::DELETE, &format!("user/{user}"), json!({}))
        .await;
}
