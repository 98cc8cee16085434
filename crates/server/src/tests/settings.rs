//! What people see and change of themselves with a browser.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    pages::{hidden, page},
    roles::{PASSWORD, add, grant, login, sign_in},
};

const NEW: &str = "another+horse+battery";

/// Sends a form of the settings page with its token; the status, and the answer.
async fn send(server: &TestServer, cookie: &str, path: &str, fields: &str) -> (u16, String) {
    let shown = page(server, "/settings", cookie).await;
    let token = hidden(&shown, &format!("action=\"{path}\""), "_form");
    let answer = server
        .form(path, cookie, &format!("_form={token}&{fields}"))
        .await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn whoami(server: &TestServer, token: &str) -> u16 {
    let request = server.request(Method::GET, "/api/v1/me").bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

/// Whether a browser is still signed in.
async fn is_in(server: &TestServer, cookie: &str) -> bool {
    page(server, "/settings", cookie)
        .await
        .contains("<h1>Settings</h1>")
}

#[tokio::test]
async fn people_read_who_they_are_and_what_for() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("developer", "mall")).await;
    let binding = json!({ "kind": "RoleBinding", "name": "ops", "role": "ops", "users": ["ann"] });
    let documents = json!({ "documents": [binding], "mode": "apply" });
    let applied = server.post("/api/v1/documents/apply", &documents).await;
    assert_eq!(applied.status(), 200);
    let ann = sign_in(&server, "ann").await;
    let shown = page(&server, "/settings", &ann).await;
    for words in [
        "developer in mall, given to you",
        "ops everywhere, by a RoleBinding",
        "this one",
        "127.0.0.1",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(!shown.contains("End all others"));
    let cookie = server.login().await;
    let owner = page(&server, "/settings", &cookie).await;
    assert!(
        owner.contains("the server's own token is none") || owner.contains("server&#39;s own token is none")
    );
    assert!(!owner.contains("action=\"/settings/password\""));
    let nobody = server.get("/settings").await;
    assert_eq!(nobody.headers()["location"], "/login?next=%2Fsettings");
}

#[tokio::test]
async fn a_token_is_drawn_shown_once_and_revoked() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("developer", "")).await;
    let ann = sign_in(&server, "ann").await;
    let wish = "label=a+dashboard&days=7&role=viewer&projects=mall%2C+shop";
    let (status, shown) = send(&server, &ann, "/settings/tokens", wish).await;
    assert_eq!(status, 200, "{shown}");
    let token = shown.split_once("class=\"token\">").unwrap().1;
    let token = token.split('<').next().unwrap().to_owned();
    let request = server.request(Method::GET, "/api/v1/me").bearer_auth(&token);
    let me: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        me["scope"],
        json!({ "role": "viewer", "projects": ["mall", "shop"] })
    );
    let shown = page(&server, "/settings", &ann).await;
    assert!(
        shown.contains("a dashboard") && shown.contains("viewer in mall, shop"),
        "{shown}"
    );
    assert!(!shown.contains(&token) && shown.contains("in 7 d"));
    for (wrong, why) in [
        ("label=x&days=900&role=&projects=", "1 to 366 days"),
        ("label=x&days=1&role=Boss!&projects=", "read the role"),
        ("label=x&days=1&role=&projects=a%2Fb", "a/b"),
    ] {
        let (status, said) = send(&server, &ann, "/settings/tokens", wrong).await;
        assert_eq!(status, 422, "{wrong}");
        assert!(said.contains("Not done: ") && said.contains(why), "{why}: {said}");
    }
    let id = shown.split_once("/settings/tokens/").unwrap().1;
    let id = id.split('/').next().unwrap();
    let (status, _) = send(&server, &ann, &format!("/settings/tokens/{id}/revoke"), "").await;
    assert_eq!((status, whoami(&server, &token).await), (303, 401));
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_or_all_others() {
    let server = TestServer::start().await;
    for name in ["ann", "bob"] {
        add(&server, name, grant("developer", "")).await;
    }
    let bob = sign_in(&server, "bob").await;
    let [one, two, three] = [
        sign_in(&server, "ann").await,
        sign_in(&server, "ann").await,
        sign_in(&server, "ann").await,
    ];
    let own = page(&server, "/settings", &two).await;
    let own = own.split_once("<b>this one</b>").unwrap().1;
    let own = own
        .split_once("action=\"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    assert!(send(&server, &one, &own, "").await.0 == 303);
    assert!(is_in(&server, &one).await && !is_in(&server, &two).await && is_in(&server, &three).await);
    let (status, _) = send(&server, &one, "/settings/sessions/end-others", "").await;
    assert_eq!(status, 303);
    assert!(is_in(&server, &one).await && !is_in(&server, &three).await && is_in(&server, &bob).await);
    let path = "/settings/sessions/000000000000/end";
    let forged = server.form(path, &one, "_form=00").await;
    assert_eq!(forged.status(), 403, "the form is not one of this session");
}

#[tokio::test]
async fn another_password_ends_all_but_the_session_that_asked() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("developer", "")).await;
    let (ann, other) = (sign_in(&server, "ann").await, sign_in(&server, "ann").await);
    let token = login(&server, "ann").await;
    let old = PASSWORD.replace(' ', "+");
    for (fields, why) in [
        (
            format!("old=wrong&password={NEW}&again={NEW}"),
            "that is not your password",
        ),
        (
            format!("old={old}&password={NEW}&again=x"),
            "the two new passwords differ",
        ),
        (format!("old={old}&password=short&again=short"), "fewer than 12"),
    ] {
        let (status, said) = send(&server, &ann, "/settings/password", &fields).await;
        assert_eq!(status, 422, "{said}");
        assert!(said.contains(why), "{why}: {said}");
    }
    let shown = page(&server, "/settings", &ann).await;
    let form = hidden(&shown, "action=\"/settings/password\"", "_form");
    let fields = format!("_form={form}&old={old}&password={NEW}&again={NEW}");
    let changed = server.form("/settings/password", &ann, &fields).await;
    assert_eq!(changed.headers()["location"], "/settings?changed=password");
    let fresh = changed.headers()["set-cookie"].to_str().unwrap();
    let fresh = fresh.split(';').next().unwrap().to_owned();
    assert!(
        page(&server, "/settings?changed=password", &fresh)
            .await
            .contains("Your password is another now")
    );
    assert!(!is_in(&server, &ann).await && !is_in(&server, &other).await);
    assert_eq!(whoami(&server, &token).await, 401);
    let again = server
        .form("/login", "", &format!("name=ann&password={NEW}"))
        .await;
    assert_eq!(again.status(), 303);
}

#[tokio::test]
async fn a_session_of_a_limited_token_sees_itself_alone() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("developer", "")).await;
    let ann = sign_in(&server, "ann").await;
    let (_, shown) = send(
        &server,
        &ann,
        "/settings/tokens",
        "label=kiosk&days=1&role=viewer&projects=",
    )
    .await;
    let token = shown
        .split_once("class=\"token\">")
        .unwrap()
        .1
        .split('<')
        .next()
        .unwrap();
    let entered = server.form("/login", "", &format!("token={token}")).await;
    let kiosk = entered.headers()["set-cookie"].to_str().unwrap();
    let kiosk = kiosk.split(';').next().unwrap().to_owned();
    let shown = page(&server, "/settings", &kiosk).await;
    assert!(shown.contains("limited to: viewer everywhere"), "{shown}");
    assert_eq!(shown.matches("/end\"").count(), 1, "{shown}");
    for offered in ["/settings/password", "action=\"/settings/tokens\"", "end-others"] {
        assert!(!shown.contains(offered), "{offered}");
    }
    assert!(page(&server, "/settings", &ann).await.contains("a token"));
    assert!(is_in(&server, &ann).await);
}
