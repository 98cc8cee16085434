use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use pipekeeper_backend::dummy::{Ending, Play};
use pipekeeper_model::{Digest, Millis, TestCase, TestCounts, TestDetails, TestTime};
use serde_json::Value;

use super::{
    harness::{HOOK, TestServer},
    plans::{gate, manual, request, work},
};
use crate::Limits;

const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

/// The value of the first hidden field of this name after `from`.
pub(super) fn hidden(page: &str, from: &str, name: &str) -> String {
    let form = page.split_once(from).expect(from).1;
    let field = form.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1;
    field.split('"').next().unwrap().to_owned()
}

pub(super) async fn page(server: &TestServer, path: &str, cookie: &str) -> String {
    let request = server
        .request(reqwest::Method::GET, path)
        .header("cookie", cookie);
    request.send().await.unwrap().text().await.unwrap()
}

fn failing(node: u32) -> Play {
    let log: String = (1..=500)
        .map(|line| format!("\x1b[32mline {line}\x1b[0m\n"))
        .collect();
    Play {
        log,
        ending: if node == 1 {
            Ending::Fail { code: 3 }
        } else {
            Ending::Succeed
        },
        ..Play::default()
    }
}

#[tokio::test]
async fn the_first_failure_is_open_with_its_last_lines() {
    let server = TestServer::with(Limits::default(), failing).await;
    let nodes = vec![work("lint", &[]), work("test[db=a]", &[0]), work("ship", &[1])];
    let run = server.run(request("Sell more", "main", nodes)).await;
    server.until(run, |run| run["phase"] == "finished").await;
    let page = server.text(&format!("/runs/{run}")).await;
    assert!(page.contains("<h1>Sell more</h1>"));
    assert!(
        page.contains("data-node=\"test[db=a]\""),
        "the failing node is shown"
    );
    assert!(page.contains("<p id=L500><a href=#L500>500</a><span class=\"f2\">line 500</span></p>"));
    assert!(page.contains("<p id=L301>") && !page.contains("<p id=L300>"));
    assert!(page.contains("failed: exit code 3"));
    assert!(
        page.contains("`test[db=a]` failed before it") || page.contains("did not succeed"),
        "why of `ship`"
    );
    assert!(page.contains("href=\"?node=test%5Bdb%3Da%5D\""));
    let other = server.text(&format!("/runs/{run}?node=lint")).await;
    assert!(other.contains("data-node=\"lint\""));
}

#[tokio::test]
async fn the_whole_log_has_every_line_once() {
    let server = TestServer::with(Limits::default(), failing).await;
    let run = server.run(request("s", "main", vec![work("lint", &[])])).await;
    server.until(run, |run| run["phase"] == "finished").await;
    let page = server.text(&format!("/runs/{run}/nodes/lint")).await;
    for line in [1, 250, 500] {
        assert_eq!(page.matches(&format!("<p id=L{line}>")).count(), 1);
    }
    assert_eq!(
        server.get(&format!("/runs/{run}/nodes/nothing")).await.status(),
        404
    );
    let history = server.text(&format!("/runs/{run}/history")).await;
    assert!(history.contains("attempt 1 succeeded") && history.contains("the run ended: succeeded"));
}

#[tokio::test]
async fn text_from_outside_stays_text() {
    let play = |_| Play {
        log: format!("{EVIL}\n\x1b]8;;javascript:alert(1)\x07x\x1b]8;;\x07\n"),
        outputs: BTreeMap::from([(EVIL.to_owned(), EVIL.into())]),
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), play).await;
    let mut odd = work("build", &[]);
    odd.name = format!("build[{EVIL}]");
    odd.groups = vec![EVIL.to_owned()];
    let nodes = vec![odd, gate("ship-it", &[0], EVIL)];
    let run = server.run(request(EVIL, EVIL, nodes)).await;
    server.until_state(run, 1, "awaiting approval").await;
    let cookie = server.login().await;
    let paths = [
        "/runs".to_owned(),
        "/approvals".to_owned(),
        format!("/runs/{run}"),
        format!("/runs/{run}/history"),
        "/deliveries".to_owned(),
        "/runs?project=%3Cscript%3E".to_owned(),
        "/%3Cscript%3Ealert(1)%3C/script%3E".to_owned(),
        "/login?next=%22%3E%3Cscript%3E".to_owned(),
    ];
    for path in paths {
        let page = page(&server, &path, &cookie).await;
        for sign in ["<script>", "<img", "onerror=alert(1)>", "href=\"javascript:"] {
            assert!(!page.contains(sign), "{path} holds {sign}");
        }
    }
    let shown = page(&server, &format!("/runs/{run}"), &cookie).await;
    assert!(shown.contains("&lt;script&gt;") || shown.contains("&#60;script&#62;"));
}

#[tokio::test]
async fn a_gate_is_approved_by_a_form_without_scripts() {
    let server = TestServer::start().await;
    let nodes = vec![gate("ship-it", &[], "Ship to prod?"), work("ship", &[0])];
    let run = server.run(request("Sell more", "main", nodes)).await;
    server.until_state(run, 0, "awaiting approval").await;
    let anonymous = server.text(&format!("/runs/{run}")).await;
    assert!(anonymous.contains("Ship to prod?") && anonymous.contains("Sign in to decide"));
    assert!(!anonymous.contains("name=\"verdict\""));
    let list = server.text("/runs").await;
    assert!(list.contains("Needs you") && list.contains("Sell more"));

    let cookie = server.login().await;
    let shown = page(&server, &format!("/runs/{run}"), &cookie).await;
    let path = format!("/runs/{run}/nodes/ship-it/decide");
    let from = format!("action=\"{path}\"");
    let (token, subject) = (hidden(&shown, &from, "_form"), hidden(&shown, &from, "subject"));
    let cancel_token = hidden(&shown, &format!("action=\"/runs/{run}/cancel\""), "_form");
    let body = |token: &str| format!("_form={token}&subject={subject}&comment=fine+by+me&verdict=approve");

    for (cookie, token) in [(cookie.as_str(), ""), (&cookie, "00"), (&cookie, &cancel_token)] {
        let refused = server.form(&path, cookie, &body(token)).await;
        assert_eq!(refused.status(), 403);
    }
    let nobody = server.form(&path, "", &body(&token)).await;
    assert_eq!(nobody.headers()["location"], "/login");
    let done = server.form(&path, &cookie, &body(&token)).await;
    assert_eq!(done.status(), 303);
    assert_eq!(done.headers()["location"], format!("/runs/{run}"));
    server.until(run, |run| run["outcome"] == "succeeded").await;
    let history = server.text(&format!("/runs/{run}/history")).await;
    assert!(history.contains("fine by me"));
    let late = server.form(&path, &cookie, &body(&token)).await;
    assert_eq!(late.status(), 409);
    assert!(
        late.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
}

#[tokio::test]
async fn forms_start_cancel_and_run_again() {
    let server = TestServer::start().await;
    let cookie = server.login().await;
    let run = server
        .run(request(
            "s",
            "main",
            vec![manual(work("build", &[])), gate("g", &[0], "?")],
        ))
        .await;
    server.until_state(run, 0, "awaiting start").await;
    let shown = page(&server, &format!("/runs/{run}"), &cookie).await;
    let path = format!("/runs/{run}/nodes/build/start");
    let token = hidden(&shown, &format!("action=\"{path}\""), "_form");
    let pressed = server
        .form(&path, &cookie, &format!("_form={token}&look=first"))
        .await;
    assert_eq!(pressed.status(), 303);
    server.until_state(run, 1, "awaiting approval").await;

    let path = format!("/runs/{run}/cancel");
    let token = hidden(&shown, &format!("action=\"{path}\""), "_form");
    assert_eq!(
        server
            .form(&path, &cookie, &format!("_form={token}"))
            .await
            .status(),
        303
    );
    server.until(run, |run| run["outcome"] == "cancelled").await;

    let shown = page(&server, &format!("/runs/{run}"), &cookie).await;
    let path = format!("/runs/{run}/retry");
    let token = hidden(&shown, &format!("action=\"{path}\""), "_form");
    let again = server
        .form(&path, &cookie, &format!("_form={token}&which=all"))
        .await;
    assert_eq!(again.headers()["location"], format!("/runs/{}", run.0 + 1));
}

#[tokio::test]
async fn signing_in_and_out() {
    let server = TestServer::start().await;
    let wrong = server.form("/login", "", "token=pk_wrong&next=/runs").await;
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers().get("set-cookie").is_none());
    assert!(!wrong.text().await.unwrap().contains("pk_wrong"));
    let away = server
        .form(
            "/login",
            "",
            &format!("token={}&next=//evil.example", server.token),
        )
        .await;
    assert_eq!(away.headers()["location"], "/runs");

    let cookie = server.login().await;
    let shown = page(&server, "/runs", &cookie).await;
    assert!(shown.contains("Sign out"));
    let token = hidden(&shown, "action=\"/logout\"", "_form");
    let left = server.form("/logout", &cookie, &format!("_form={token}")).await;
    assert!(
        left.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert!(page(&server, "/runs", &cookie).await.contains("Sign in"));
}

#[tokio::test]
async fn errors_are_pages_for_people_and_problems_for_programs() {
    let server = TestServer::start().await;
    for path in ["/nowhere", "/runs/77", "/runs/x"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html"),
            "{path}"
        );
        assert!(response.text().await.unwrap().contains("All runs"), "{path}");
    }
    let hook = server.get(HOOK).await;
    assert_eq!(hook.status(), 405);
    assert_eq!(hook.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn deliveries_show_what_became_of_them_and_are_replayed() {
    use pipekeeper_store::{NewDelivery, Store};
    let server = TestServer::start().await;
    let delivery = NewDelivery {
        project: "mall".parse().unwrap(),
        forge_id: "a".to_owned(),
        event: "push".to_owned(),
        received_at: super::harness::NOW,
        body: b"{}".to_vec(),
    };
    server.store.accept_delivery(delivery).await.unwrap();
    let mut news = server.handle.listen();
    server.handle.delivery_stored();
    while server.json("/api/v1/deliveries").await["deliveries"][0]["outcome"]["what"] != "ignored" {
        news.recv().await.unwrap();
    }
    let cookie = server.login().await;
    let shown = page(&server, "/deliveries", &cookie).await;
    assert!(shown.contains("ignored") && !shown.contains("<everything>"));
    let token = hidden(&shown, "action=\"/deliveries/1/replay\"", "_form");
    let replayed = server
        .form("/deliveries/1/replay", &cookie, &format!("_form={token}"))
        .await;
    assert_eq!(replayed.headers()["location"], "/deliveries");
}

#[tokio::test]
async fn a_large_run_is_painted_from_60_kib() {
    let play = |_| Play {
        log: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n".repeat(500),
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), play).await;
    let nodes = (0..200).map(|at| work(&format!("action-{at}"), &[])).collect();
    let run = server.run(request("s", "main", nodes)).await;
    server.until(run, |run| run["phase"] == "finished").await;
    let html = server.text(&format!("/runs/{run}")).await.len();
    let css = server.text("/assets/pipe.css").await.len();
    assert!(html + css <= 60 * 1024, "{html} + {css}");
    let list: Value = server.json("/api/v1/runs").await;
    assert_eq!(list["runs"][0]["outcome"], "succeeded");
}

/// A play whose reports say this, with the details in place.
fn with_tests(server: &TestServer, failures: &[(&str, &str)]) -> TestCounts {
    let case = |(name, text): &(&str, &str)| TestCase {
        suite: "shop::cart".to_owned(),
        name: (*name).to_owned(),
        duration: Millis(1_500),
        message: text.lines().next().unwrap_or_default().to_owned(),
        text: (*text).to_owned(),
    };
    let details = TestDetails {
        failures: failures.iter().map(case).collect(),
        slowest: vec![TestTime {
            suite: String::new(),
            name: "slow one".to_owned(),
            duration: Millis(61_000),
        }],
        problems: vec!["`b.xml` cannot be read: <odd>".to_owned()],
    };
    let text = serde_json::to_vec(&details).unwrap();
    let digest = Digest::of(&text);
    let path = server.layout.blob(&digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    TestCounts {
        passed: 123,
        failed: u32::try_from(failures.len()).unwrap(),
        skipped: 1,
        details: digest,
    }
}

#[tokio::test]
async fn tests_and_summaries_are_shown_and_strangers_write_no_markup() {
    let told: Arc<Mutex<Option<TestCounts>>> = Arc::default();
    let counts = Arc::clone(&told);
    let server = TestServer::with(Limits::default(), move |_| Play {
        ending: Ending::Fail { code: 1 },
        tests: counts.lock().unwrap().clone(),
        summary: Some(format!("# Covered\n\n**87 %** {EVIL}\n[x](javascript:alert(1))")),
        ..Play::default()
    })
    .await;
    let long = format!("boom\n{}", "at somewhere\n".repeat(100));
    let failures = [
        ("adds <b>up</b>", EVIL),
        ("counts", long.as_str()),
        ("stops", "no"),
    ];
    *told.lock().unwrap() = Some(with_tests(&server, &failures));
    let run = server.run(request("s", "main", vec![work("test", &[])])).await;
    server.until(run, |run| run["phase"] == "finished").await;
    let page = server.text(&format!("/runs/{run}")).await;
    assert!(page.contains("123 passed, 3 failed, 1 skipped"), "{page}");
    assert!(page.contains("<strong>counts</strong><i>"), "{page}");
    assert!(page.contains("at somewhere") && page.contains("slow one"));
    assert!(page.contains("adds &#60;b&#62;up"), "{page}");
    assert!(page.contains("<h4>Covered</h4>") && page.contains("<strong>87 %</strong>"));
    for bad in ["<script>alert", "<img", "<b>up", "javascript:", "<odd>"] {
        assert!(!page.contains(bad), "{bad}");
    }
    let api = server.json(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(api["nodes"][0]["tests"]["failed"], 3);
    let details = server.json(&format!("/api/v1/runs/{run}/nodes/test/tests")).await;
    assert_eq!(details["failures"][1]["text"], long);
    assert_eq!(details["failures"][0]["duration_ms"], 1_500);
    let none = server
        .run(request("s", "main", vec![gate("ask", &[], "Ship?")]))
        .await;
    server.until_state(none, 0, "awaiting approval").await;
    let missing = server.get(&format!("/api/v1/runs/{none}/nodes/ask/tests")).await;
    assert_eq!(missing.status(), 404);
}
