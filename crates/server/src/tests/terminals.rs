//! Terminals of people who look into actions.

use std::{collections::BTreeMap, time::Duration};

use pipekeeper_backend::dummy::{Ending, Play};
use pipekeeper_model::{
    RunId, Timestamp,
    plan::{Body, Node, Script, Step},
};
use reqwest::{Method, StatusCode, Upgraded};
use serde_json::json;
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    time::timeout,
};

use super::{
    harness::{TestServer, first_attempt},
    plans,
};
use crate::{
    Limits,
    terminal::{Frame, FrameReader, PROTOCOL, send},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A person's end of a terminal.
struct Person {
    from: FrameReader<ReadHalf<Upgraded>>,
    to: WriteHalf<Upgraded>,
}

impl Person {
    async fn come(server: &TestServer, run: RunId, node: &str) -> Self {
        Self::come_with(server, run, node, "").await
    }

    async fn come_with(server: &TestServer, run: RunId, node: &str, rest: &str) -> Self {
        let path = format!("/api/v1/runs/{run}/nodes/{node}/debug?columns=80&rows=24&term=xterm{rest}");
        let response = ask(server, &path).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let (from, to) = split(response.upgrade().await.unwrap());
        let from = FrameReader::new(from);
        Self { from, to }
    }

    async fn hears(&mut self) -> Option<Frame> {
        loop {
            let next = timeout(DEADLINE, self.from.next()).await.unwrap();
            match next.unwrap() {
                Some(Frame::Alive) => {}
                other => return other,
            }
        }
    }

    async fn says(&mut self, frame: Frame) {
        send(&mut self.to, &frame).await.unwrap();
    }

    /// All output until a text comes.
    async fn sees(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.hears().await {
                Some(Frame::Output(bytes)) => seen.push_str(&String::from_utf8(bytes).unwrap()),
                other => panic!("after `{seen}` came {other:?}"),
            }
        }
    }
}

async fn ask(server: &TestServer, path: &str) -> reqwest::Response {
    server
        .request(Method::POST, path)
        .bearer_auth(&server.token)
        .header("connection", "upgrade")
        .header("upgrade", PROTOCOL)
        .send()
        .await
        .unwrap()
}

/// An action with one step.
fn stepped(name: &str) -> Node {
    let mut node = plans::work(name, &[]);
    if let Body::Work(work) = &mut node.body {
        work.steps.push(Step {
            name: "step 1".to_owned(),
            image: None,
            script: Script::Command { argv: Vec::new() },
            env: BTreeMap::new(),
            timeout: None,
            working_dir: None,
        });
    }
    node
}

/// A run whose action `build` ended.
async fn ended(server: &TestServer) -> RunId {
    let run = server
        .run(plans::request("s", "main", vec![stepped("build")]))
        .await;
    server.until(run, |run| run["phase"] == "finished").await;
    run
}

#[tokio::test]
async fn a_terminal_carries_both_ways_and_its_size() {
    let server = TestServer::start().await;
    let run = ended(&server).await;
    let mut person = Person::come(&server, run, "build").await;
    let note = "making it again up to `step 1`, which does not run";
    assert_eq!(person.hears().await, Some(Frame::Note(note.to_owned())));
    assert_eq!(person.hears().await, Some(Frame::Note("up to step 1".to_owned())));
    assert_eq!(person.hears().await, Some(Frame::Opened));
    person.sees("[80x24]").await;
    person.says(Frame::Input(b"ls\r".to_vec())).await;
    person.sees("ls\r").await;
    person
        .says(Frame::Size {
            columns: 132,
            rows: 50,
        })
        .await;
    person.sees("[132x50]").await;
    let much = vec![b'x'; 100_000];
    person.says(Frame::Input(much.clone())).await;
    person.sees(&"x".repeat(much.len())).await;
    person.says(Frame::Input(vec![4])).await;
    let afterwards = "what the shell ran in is removed";
    assert_eq!(person.hears().await, Some(Frame::Note(afterwards.to_owned())));
    assert_eq!(person.hears().await, Some(Frame::Closed));
    assert_eq!(person.hears().await, None);
}

#[tokio::test]
async fn who_may_not_stand_there_is_told_why() {
    let server = TestServer::start().await;
    let run = ended(&server).await;
    let path =
        |node: &str, rest: &str| format!("/api/v1/runs/{run}/nodes/{node}/debug?columns=80&rows=24{rest}");
    let response = ask(&server, &path("nothing", "")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let response = ask(&server, &path("build", "&step=no-such")).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(
        response
            .text()
            .await
            .unwrap()
            .contains("it has no step `no-such`")
    );
    let plain = server
        .request(Method::POST, &path("build", ""))
        .bearer_auth(&server.token);
    let response = plain.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let live = server
        .run(plans::request("s", "main", vec![plans::manual(stepped("build"))]))
        .await;
    let response = ask(
        &server,
        &format!("/api/v1/runs/{live}/nodes/build/debug?columns=80&rows=24"),
    )
    .await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(response.text().await.unwrap().contains("it has not ended"));
}

/// Asks again until the answer is so.
async fn until(server: &TestServer, path: &str, is: impl Fn(&str) -> bool) {
    let asking = async { while !is(&server.text(path).await) {} };
    timeout(DEADLINE, asking).await.unwrap();
}

#[tokio::test]
async fn a_held_pod_is_entered_unless_a_new_one_is_wanted_and_goes_when_it_is_released() {
    let fails = |_| Play {
        ending: Ending::Fail { code: 3 },
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), fails).await;
    let run = ended(&server).await;
    let why = format!("/api/v1/runs/{run}/why?node=build");
    server.backend.hold(first_attempt(run, 0), Timestamp(50_700_000));
    let held = format!("its pod is held until 14:05 UTC: `pipe debug {run}/build`");
    until(&server, &why, |text| text.contains(&held)).await;
    let page = server.text(&format!("/runs/{run}")).await;
    assert!(page.contains("its pod is held until 14:05 UTC"), "{page}");

    let mut person = Person::come(&server, run, "build").await;
    let note = |text: &str| Some(Frame::Note(text.to_owned()));
    assert_eq!(person.hears().await, note("as the step left it"));
    assert_eq!(person.hears().await, Some(Frame::Opened));
    person.sees("[80x24]").await;
    person.says(Frame::Input(vec![4])).await;
    assert_eq!(person.hears().await, note("its pod is held"));
    let mut other = Person::come_with(&server, run, "build", "&pod=new").await;
    let made = "making it again up to `step 1`, which does not run";
    assert_eq!(other.hears().await, note(made));

    let release = format!("/api/v1/runs/{run}/nodes/build/release");
    let released = server.post(&release, &json!({})).await;
    assert_eq!(released.status(), StatusCode::OK);
    let again = server.post(&release, &json!({})).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    until(&server, &why, |text| !text.contains("its pod")).await;
    let mut late = Person::come(&server, run, "build").await;
    assert_eq!(
        late.hears().await,
        note("its own pod is not held, or not any more")
    );
    assert_eq!(late.hears().await, note(made));
}

#[tokio::test]
async fn terminals_are_few_and_end_with_the_server() {
    let limits = Limits {
        terminals: 1,
        ..Limits::default()
    };
    let mut server = TestServer::with(limits, |_| Default::default()).await;
    let run = ended(&server).await;
    let mut first = Person::come(&server, run, "build").await;
    let path = format!("/api/v1/runs/{run}/nodes/build/debug?columns=80&rows=24");
    assert_eq!(
        ask(&server, &path).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    first.sees_end_of_opening().await;
    server.stop();
    assert!(matches!(first.hears().await, Some(Frame::Refused(_))));
}

impl Person {
    async fn sees_end_of_opening(&mut self) {
        while self.hears().await != Some(Frame::Opened) {}
        self.sees("[80x24]").await;
    }
}
