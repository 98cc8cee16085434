//! Logins through an issuer that lies, in every way that it can, and through one that changes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering},
};

use axum::{Json, Router, extract::State, routing};
use futures_util::future::{BoxFuture, pending};
use openidconnect::{
    JsonWebKeyId, PrivateSigningKey as _,
    core::{CoreEdDsaPrivateSigningKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use pipekeeper_controller::Clock;
use pipekeeper_model::Timestamp;
use pipekeeper_store::{AuditFilter, Registry as _};
use reqwest::{Method, Response, StatusCode, Url, header::HeaderValue};
use serde_json::{Value, json};

use super::{
    harness::{Frozen, NOW, TestServer},
    roles::{add, grant},
};
use crate::{Newcomers, OidcOptions, Transport, first_link};

const KEYS: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEt8oVDiBu+KhnODbNykJlkrG/hh03kHPtbgw3mgGMVb\n-----END PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEICm02bO9bp048mLXfgyOdGsnYo5MXU5Zc4doMM8aHFl2\n-----END PRIVATE KEY-----\n",
];
const CLIENT: &str = "pipekeeper";

fn key(number: usize) -> CoreEdDsaPrivateSigningKey {
    let id = JsonWebKeyId::new(format!("key-{number}"));
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(KEYS[number], Some(id)).unwrap()
}

/// Base64 as tokens have it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let letter = word >> (18 - 6 * place) & 63;
            text.push(LETTERS[usize::try_from(letter).unwrap()].into());
        }
    }
    text
}

/// What the issuer shows and says at the moment.
struct Lies {
    issuer: String,
    shown: usize,
    token: String,
    asked: Vec<String>,
    is_away: bool,
}

impl Lies {
    fn times_asked(&self, what: &str) -> usize {
        self.asked.iter().filter(|asked| *asked == what).count()
    }
}

type Shared = Arc<Mutex<Lies>>;

async fn configuration(State(lies): State<Shared>) -> Result<Json<Value>, StatusCode> {
    let mut lies = lies.lock().unwrap();
    lies.asked.push("configuration".to_owned());
    if lies.is_away {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let issuer = lies.issuer.clone();
    Ok(Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    })))
}

async fn keys(State(lies): State<Shared>) -> Json<CoreJsonWebKeySet> {
    let mut lies = lies.lock().unwrap();
    lies.asked.push("keys".to_owned());
    Json(CoreJsonWebKeySet::new(vec![
        key(lies.shown).as_verification_key(),
    ]))
}

async fn token(State(lies): State<Shared>, form: String) -> Json<Value> {
    let mut lies = lies.lock().unwrap();
    lies.asked.push(form);
    Json(json!({ "access_token": "a", "token_type": "Bearer", "id_token": lies.token }))
}

/// A clock that is put forward by hand.
struct ByHand(AtomicI64);

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(pending())
    }
}

struct Site {
    server: TestServer,
    lies: Shared,
}

/// A browser on its way.
struct Way {
    cookie: String,
    state: String,
    nonce: String,
}

impl Site {
    async fn with(newcomers: Newcomers) -> Self {
        Self::by(newcomers, Arc::new(Frozen)).await
    }

    async fn by(newcomers: Newcomers, clock: Arc<dyn Clock>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let lies = Arc::new(Mutex::new(Lies {
            issuer: issuer.clone(),
            shown: 0,
            token: String::new(),
            asked: Vec::new(),
            is_away: false,
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", routing::get(configuration))
            .route("/keys", routing::get(keys))
            .route("/token", routing::post(token))
            .with_state(Arc::clone(&lies));
        tokio::spawn(async move { serve_plain(listener, router).await });
        let server = TestServer::with_issuer(options(&issuer, newcomers), clock).await;
        Self { server, lies }
    }

    async fn leave(&self) -> Way {
        let away = self.server.get("/login/oidc?next=%2Fruns%3Fproject%3Dmall").await;
        assert_eq!(away.status(), 303);
        let cookie = away.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly; SameSite=Lax; Max-Age=600"), "{cookie}");
        let url = Url::parse(away.headers()["location"].to_str().unwrap()).unwrap();
        let of = |wanted: &str| {
            let found = url.query_pairs().find(|(name, _)| name == wanted);
            found.unwrap_or_else(|| panic!("{wanted}: {url}")).1.into_owned()
        };
        assert_eq!(
            (of("response_type"), of("code_challenge_method")),
            ("code".into(), "S256".into())
        );
        let back = format!("http://{}/login/oidc/back", self.server.address);
        assert_eq!((of("client_id"), of("redirect_uri")), (CLIENT.to_owned(), back));
        Way {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            state: of("state"),
            nonce: of("nonce"),
        }
    }

    async fn back(&self, cookie: &str, query: &str) -> Response {
        let path = format!("/login/oidc/back?{query}");
        let request = self.server.request(Method::GET, &path).header("cookie", cookie);
        request.send().await.unwrap()
    }

    /// What a good token says.
    fn claims(&self, way: &Way) -> Value {
        let seconds = NOW.0 / 1_000;
        json!({
            "iss": self.lies.lock().unwrap().issuer, "aud": CLIENT, "sub": "4711", "nonce": way.nonce,
            "iat": seconds, "exp": seconds + 300, "preferred_username": "ann", "groups": ["ops"],
        })
    }

    fn say(&self, claims: &Value, signer: usize) {
        let header = json!({ "alg": "EdDSA", "kid": format!("key-{signer}") });
        let signed = format!(
            "{}.{}",
            base64(header.to_string().as_bytes()),
            base64(claims.to_string().as_bytes())
        );
        let signature = key(signer)
            .sign(&CoreJwsSigningAlgorithm::EdDsa, signed.as_bytes())
            .unwrap();
        self.lies.lock().unwrap().token = format!("{signed}.{}", base64(&signature));
    }

    /// A login with these changes to what a good token says.
    async fn login(&self, changes: Value) -> Response {
        let way = self.leave().await;
        let mut claims = self.claims(&way);
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        self.say(&claims, 0);
        self.back(&way.cookie, &format!("code=c&state={}", way.state))
            .await
    }

    async fn users(&self) -> Vec<Value> {
        let request = self
            .server
            .request(Method::GET, "/api/v1/users")
            .bearer_auth(&self.server.token);
        let users: Value = request.send().await.unwrap().json().await.unwrap();
        users["users"].as_array().unwrap().clone()
    }

    async fn look(&self, cookie: &str) -> StatusCode {
        let request = self.server.request(Method::GET, "/runs").header("cookie", cookie);
        request.send().await.unwrap().status()
    }
}

/// `axum::serve` without its feature.
async fn serve_plain(listener: tokio::net::TcpListener, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let io = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
    }
}

pub(super) fn options(issuer: &str, newcomers: Newcomers) -> OidcOptions {
    OidcOptions {
        issuer: issuer.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: "shh".to_owned(),
        name: "Example".to_owned(),
        groups_claim: "groups".to_owned(),
        scopes: Vec::new(),
        algorithms: ["RS256", "EdDSA"].map(str::to_owned).into(),
        newcomers,
        transport: Transport::Plain,
        ca: None,
    }
}

pub(super) fn session(answer: &Response) -> String {
    let cookies = answer.headers().get_all("set-cookie").iter();
    let mut cookies = cookies.map(|cookie| cookie.to_str().unwrap());
    let session = cookies.find(|cookie| cookie.starts_with("pipe_session="));
    session.unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_newcomer_becomes_a_user_and_is_the_same_one_ever_after() {
    let site = Site::with(Newcomers::Welcome).await;
    add(&site.server, "ann", grant("admin", "")).await;
    assert!(site.server.text("/login").await.contains("Sign in with Example"));
    let first = site.login(json!({})).await;
    assert_eq!(first.status(), 303);
    assert_eq!(first.headers()["location"], "/runs?project=mall");
    // Another user is called `ann` here already; that one is never somebody else's.
    let second = site
        .login(json!({ "preferred_username": "other", "groups": ["ops", "dev"] }))
        .await;
    assert_eq!(second.status(), 303);
    let users = site.users().await;
    assert_eq!(users.len(), 2);
    assert_eq!(
        (&users[1]["name"], &users[1]["groups"]),
        (&json!("ann-2"), &json!(["dev", "ops"]))
    );
    assert_eq!(users[1]["grants"], json!([]));
    assert_eq!(first_link(&site.server.store, NOW).await.unwrap(), None);
    let removed = site.server.post("/api/v1/users/ann/remove", &json!({})).await;
    assert_eq!(removed.status(), 200);
    let link = first_link(&site.server.store, NOW).await.unwrap();
    assert!(link.is_some(), "a newcomer takes nobody the first link");
    assert_eq!(
        site.look(&session(&second)).await,
        403,
        "there are no roles of their own"
    );
    let binding =
        json!({ "documents": [{ "kind": "RoleBinding", "name": "g", "role": "viewer", "groups": ["dev"] }] });
    assert_eq!(
        site.server
            .post("/api/v1/documents/apply", &binding)
            .await
            .status(),
        200
    );
    assert_eq!(site.look(&session(&second)).await, 200);
    let fewer = site.login(json!({ "groups": "ops" })).await;
    assert_eq!(site.look(&session(&fewer)).await, 403);
    let out = site
        .server
        .post("/api/v1/users/ann-2", &json!({ "disabled": true }))
        .await;
    assert_eq!(out.status(), 200);
    assert_eq!(site.look(&session(&fewer)).await, 303);
    assert_eq!(site.login(json!({})).await.status(), 401);
    // The verifier goes along with each code, and none of it stays in a log.
    let asked = site.lies.lock().unwrap().asked.join("\n");
    assert!(asked.contains("code_verifier="), "{asked}");
}

#[tokio::test]
async fn a_name_that_roles_wait_for_or_that_was_somebodys_is_no_newcomers() {
    let site = Site::with(Newcomers::Welcome).await;
    let binding =
        json!({ "documents": [{ "kind": "RoleBinding", "name": "g", "role": "admin", "users": ["Ann"] }] });
    let applied = site.server.post("/api/v1/documents/apply", &binding).await;
    assert_eq!(applied.status(), 200);
    let login = site.login(json!({})).await;
    assert_eq!(site.look(&session(&login)).await, 403, "the roles are another's");
    add(&site.server, "Bob", grant("admin", "")).await;
    let removed = site.server.post("/api/v1/users/Bob/remove", &json!({})).await;
    assert_eq!(removed.status(), 200);
    for (subject, wanted) in [("1", "bob"), ("2", "ann@guest.example"), ("3", "SYSTEM")] {
        let login = site
            .login(json!({ "sub": subject, "preferred_username": wanted }))
            .await;
        assert_eq!(login.status(), 303, "{wanted}");
    }
    let mut names: Vec<Value> = site
        .users()
        .await
        .iter()
        .map(|user| user["name"].clone())
        .collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["SYSTEM-2", "ann-2", "ann-guest.example", "bob-2"]);
    // An admin may say that it is the same person, or another one who gets all of it.
    add(&site.server, "Bob", grant("viewer", "")).await;
}

#[tokio::test]
async fn groups_count_for_a_quarter_of_an_hour_and_are_read_again() {
    const QUARTER: i64 = 15 * 60 * 1_000;
    let clock = Arc::new(ByHand(AtomicI64::new(NOW.0)));
    let site = Site::by(Newcomers::Welcome, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let binding =
        json!({ "documents": [{ "kind": "RoleBinding", "name": "g", "role": "viewer", "groups": ["ops"] }] });
    assert_eq!(
        site.server
            .post("/api/v1/documents/apply", &binding)
            .await
            .status(),
        200
    );
    let cookie = session(&site.login(json!({})).await);
    clock.0.fetch_add(QUARTER - 1, Ordering::SeqCst);
    assert_eq!(site.look(&cookie).await, 200);
    clock.0.fetch_add(1, Ordering::SeqCst);
    let request = site
        .server
        .request(Method::GET, "/runs")
        .header("cookie", &cookie);
    let sent = request.send().await.unwrap();
    assert_eq!(
        (sent.status(), &sent.headers()["location"]),
        (
            StatusCode::SEE_OTHER,
            &HeaderValue::from_static("/login/oidc?next=%2Fruns")
        )
    );
    let asked = site
        .server
        .request(Method::GET, "/api/v1/runs")
        .header("cookie", &cookie);
    assert_eq!(
        asked.send().await.unwrap().status(),
        403,
        "a program is not sent anywhere"
    );
    let seconds = (NOW.0 + QUARTER) / 1_000;
    let again = site.login(json!({ "iat": seconds, "exp": seconds + 300 })).await;
    assert_eq!(site.look(&session(&again)).await, 200);
    assert_eq!(site.look(&cookie).await, 200, "it is the same person");
}

#[tokio::test]
async fn roles_of_ones_own_do_not_wait_for_the_issuer() {
    let clock = Arc::new(ByHand(AtomicI64::new(NOW.0)));
    let site = Site::by(Newcomers::Welcome, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let bindings = json!({ "documents": [
        { "kind": "RoleBinding", "name": "g", "role": "maintainer", "groups": ["ops"] },
        { "kind": "RoleBinding", "name": "u", "role": "viewer", "users": ["ann-2"] },
    ] });
    add(&site.server, "ann", grant("viewer", "")).await;
    let cookie = session(&site.login(json!({})).await);
    let applied = site.server.post("/api/v1/documents/apply", &bindings).await;
    assert_eq!(applied.status(), 200);
    clock.0.fetch_add(60 * 60 * 1_000, Ordering::SeqCst);
    assert_eq!(site.look(&cookie).await, 200, "it is a viewer's page");
    let audit = site
        .server
        .request(Method::GET, "/audit")
        .header("cookie", &cookie);
    assert_eq!(
        audit.send().await.unwrap().status(),
        303,
        "it is a maintainer's page"
    );
}

#[tokio::test]
async fn an_issuer_that_is_away_is_not_asked_by_everybody() {
    let site = Site::with(Newcomers::Welcome).await;
    site.lies.lock().unwrap().is_away = true;
    for _ in 0..5 {
        assert_eq!(site.server.get("/login/oidc").await.status(), 503);
    }
    assert_eq!(site.lies.lock().unwrap().times_asked("configuration"), 1);
}

#[tokio::test]
async fn an_address_brings_so_many_codes() {
    const MANY: usize = 200;

    let site = Site::with(Newcomers::Welcome).await;
    let way = site.leave().await;
    let query = format!("code=c&state={}", way.state);
    let mut refused = 0;
    for _ in 0..MANY {
        match site.back(&way.cookie, &query).await.status().as_u16() {
            401 => {}
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused > MANY / 2, "{refused}");
}

#[tokio::test]
async fn tokens_that_are_not_for_this_login_are_refused() {
    let site = Site::with(Newcomers::Welcome).await;
    let seconds = NOW.0 / 1_000;
    for changes in [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "aud": "another" }),
        json!({ "aud": [CLIENT, "another"], "azp": CLIENT }),
        json!({ "aud": [CLIENT, CLIENT] }),
        json!({ "azp": "another" }),
        json!({ "iss": "http://another" }),
        json!({ "exp": seconds - 1 }),
        json!({ "exp": null }),
        json!({ "iat": seconds + 3_600 }),
        json!({ "sub": null }),
    ] {
        assert_eq!(site.login(changes.clone()).await.status(), 401, "{changes}");
    }
    let way = site.leave().await;
    site.say(&site.claims(&way), 0);
    let good = site.lies.lock().unwrap().token.clone();
    let payload = good.split('.').nth(1).unwrap();
    let unsigned = |header: Value| format!("{}.{payload}.", base64(header.to_string().as_bytes()));
    // Its last digit may hold no more than two bits.
    let (front, digit) = good.split_at(good.len() - 9);
    let other = if digit.starts_with('A') { "B" } else { "A" };
    let broken = format!("{front}{other}{}", &digit[1..]);
    let hmac = format!("{}{}", unsigned(json!({ "alg": "HS256" })), base64(&[7; 32]));
    for token in [
        unsigned(json!({ "alg": "none" })),
        hmac,
        broken,
        String::new(),
        "a.b.c".to_owned(),
    ] {
        site.lies.lock().unwrap().token.clone_from(&token);
        let answer = site
            .back(&way.cookie, &format!("code=c&state={}", way.state))
            .await;
        assert_eq!(answer.status(), 401, "{token}");
    }
    assert_eq!(site.users().await, Vec::<Value>::new());
    let refused = AuditFilter {
        verb: Some("login.refused".to_owned()),
        ..AuditFilter::default()
    };
    let refused = site.server.store.audit(&refused, 100).await.unwrap();
    assert!(
        (10..16).contains(&refused.len()),
        "as many as one address may have written"
    );
    assert!(
        refused
            .iter()
            .all(|one| one.entry.reason.is_some() && one.entry.from.is_some())
    );
}

#[tokio::test]
async fn whoever_comes_back_must_have_left() {
    let site = Site::with(Newcomers::Welcome).await;
    let (way, other) = (site.leave().await, site.leave().await);
    site.say(&site.claims(&way), 0);
    let state = &way.state;
    for (cookie, query) in [
        ("", format!("code=c&state={state}")),
        (other.cookie.as_str(), format!("code=c&state={state}")),
        (way.cookie.as_str(), "code=c&state=".to_owned()),
        (way.cookie.as_str(), "code=c".to_owned()),
        (way.cookie.as_str(), format!("state={state}")),
        (
            way.cookie.as_str(),
            format!("code=c&state={state}&iss=http%3A%2F%2Fanother"),
        ),
        (way.cookie.as_str(), format!("error=access_denied&state={state}")),
    ] {
        let answer = site.back(cookie, &query).await;
        assert_eq!(answer.status(), 401, "{query}");
        assert!(!answer.text().await.unwrap().contains("pipe_session"));
    }
    assert_eq!(site.users().await, Vec::<Value>::new());
}

#[tokio::test]
async fn keys_that_change_are_asked_for_and_unknown_ones_not_for_ever() {
    let site = Site::with(Newcomers::Welcome).await;
    assert_eq!(site.login(json!({})).await.status(), 303);
    site.lies.lock().unwrap().shown = 1;
    let by = async |signer: usize| {
        let way = site.leave().await;
        site.say(&site.claims(&way), signer);
        let answer = site
            .back(&way.cookie, &format!("code=c&state={}", way.state))
            .await;
        answer.status().as_u16()
    };
    assert_eq!(by(1).await, 303);
    assert_eq!(by(0).await, 401, "the old key is gone");
    assert_eq!(by(0).await, 401);
    let asked = site.lies.lock().unwrap().times_asked("keys");
    assert_eq!(asked, 2, "once at first, once for the new key");
}

#[tokio::test]
async fn only_whom_an_admin_linked_is_let_in_where_newcomers_are_not() {
    let site = Site::with(Newcomers::Refused).await;
    assert_eq!(site.login(json!({})).await.status(), 403);
    add(&site.server, "bob", grant("viewer", "")).await;
    add(&site.server, "eve", grant("viewer", "")).await;
    let link = json!({ "subject": "4711" });
    assert_eq!(site.server.post("/api/v1/users/bob", &link).await.status(), 200);
    assert_eq!(
        site.server.post("/api/v1/users/eve", &link).await.status(),
        409,
        "one is one's alone"
    );
    let login = site.login(json!({})).await;
    assert_eq!(site.look(&session(&login)).await, 200);
    assert_eq!(
        site.server
            .post("/api/v1/users/bob", &json!({ "subject": "" }))
            .await
            .status(),
        200
    );
    assert_eq!(
        site.look(&session(&login)).await,
        303,
        "nobody is here by what was taken away"
    );
    assert_eq!(site.login(json!({})).await.status(), 403);
    assert_eq!(
        site.server.post("/api/v1/users/eve", &link).await.status(),
        200,
        "it is free again"
    );
    assert_eq!(
        site.server
            .post("/api/v1/users/eve/remove", &json!({}))
            .await
            .status(),
        200
    );
    assert_eq!(site.login(json!({})).await.status(), 403);
}
