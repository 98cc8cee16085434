use std::time::Duration;

use pipekeeper_backend::dummy::Play;
use reqwest::{Method, Response};
use serde_json::Value;

use super::{
    harness::TestServer,
    plans::{request, work},
};
use crate::Limits;

/// One event of a stream.
#[derive(Debug)]
struct Told {
    kind: String,
    id: Option<String>,
    data: Value,
}

struct Reader {
    response: Response,
    text: String,
}

impl Reader {
    async fn open(server: &TestServer, query: &str, last: Option<&str>) -> Self {
        let mut request = server.request(Method::GET, &format!("/api/v1/live?{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event; nothing once the server ended the stream.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                let field = |name: &str| {
                    let mut lines = event.lines();
                    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
                };
                if let Some(kind) = field("event") {
                    return Some(Told {
                        kind,
                        id: field("id"),
                        data: serde_json::from_str(&field("data").unwrap()).unwrap(),
                    });
                }
                continue;
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn until(&mut self, kind: &str) -> Told {
        loop {
            let told = self.next().await.expect("the stream goes on");
            if told.kind == kind {
                return told;
            }
        }
    }
}

fn held(_: u32) -> Play {
    Play {
        after: 1,
        ..Play::default()
    }
}

async fn held_server() -> TestServer {
    TestServer::with(Limits::default(), held).await
}

#[tokio::test]
async fn a_reader_gets_state_and_log_as_they_come() {
    let server = held_server().await;
    let run = server
        .run(request("s", "main", vec![work("build", &[]), work("ship", &[0])]))
        .await;
    server.until_state(run, 0, "running").await;
    let mut reader = Reader::open(&server, &format!("run={run}&node=build"), None).await;
    let first = reader.until("run").await;
    assert_eq!(first.data["nodes"].as_array().unwrap().len(), 2);
    server.write_log(run, 0, b"one\n");
    let log = reader.until("log").await;
    assert_eq!(log.data["text"], "one\n");
    assert_eq!(
        (&log.data["offset"], &log.data["next"]),
        (&Value::from(0), &Value::from(4))
    );
    server.end(run, 0).await;
    let told = reader.until("run").await;
    let names: Vec<_> = told.data["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["name"])
        .collect();
    assert!(names.contains(&&Value::from("build")), "{told:?}");
}

#[tokio::test]
async fn a_reader_is_told_of_silence() {
    let server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    let mut reader = Reader::open(&server, &format!("run={run}"), None).await;
    reader.until("run").await;
    server.be_silent(run, 0, 10);
    let note = reader.until("note").await.data;
    assert_eq!(
        note,
        serde_json::json!({"node": "build", "attempt": 1, "text": "no output for 10 s: 2 processes"})
    );
}

#[tokio::test]
async fn bytes_written_before_the_end_come_before_the_end() {
    let server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    let mut reader = Reader::open(&server, &format!("run={run}&node=build"), None).await;
    let big = "x".repeat(300_000);
    server.write_log(run, 0, big.as_bytes());
    server.end(run, 0).await;
    let mut text = String::new();
    loop {
        let told = reader.next().await.unwrap();
        match told.kind.as_str() {
            "log" => text.push_str(told.data["text"].as_str().unwrap()),
            "run" if told.data["phase"] == "finished" => break,
            _ => {}
        }
    }
    assert_eq!(text.len(), big.len());
}

#[tokio::test]
async fn resuming_at_any_event_loses_and_doubles_nothing() {
    let server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    let whole: String = (0..40).map(|line| format!("line {line} €\n")).collect();
    let (head, tail) = whole.as_bytes().split_at(101);
    server.write_log(run, 0, head);
    let query = format!("run={run}&node=build");
    let mut ids = vec![(None, String::new())];
    let mut reader = Reader::open(&server, &query, None).await;
    let mut seen = String::new();
    while seen.len() < 90 {
        let told = reader.until("log").await;
        seen.push_str(told.data["text"].as_str().unwrap());
        ids.push((told.id, seen.clone()));
    }
    drop(reader);
    server.write_log(run, 0, tail);
    for (id, mut text) in ids {
        let mut reader = Reader::open(&server, &query, id.as_deref()).await;
        while text.len() < whole.len() {
            text.push_str(reader.until("log").await.data["text"].as_str().unwrap());
        }
        assert_eq!(text, whole);
    }
}

#[tokio::test]
async fn a_reader_that_was_away_is_told_what_changed() {
    let server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    let before = server.until_state(run, 0, "running").await;
    server.end(run, 0).await;
    let after = server.until(run, |run| run["phase"] == "finished").await;
    let query = format!("run={run}");
    let mut away = Reader::open(&server, &query, Some(&before["version"].to_string())).await;
    assert_eq!(away.until("run").await.data["phase"], "finished");
    let mut wild = Reader::open(&server, &query, Some("made up")).await;
    assert_eq!(wild.next().await.unwrap().kind, "resync");
    assert_eq!(wild.next().await.unwrap().id, Some(after["version"].to_string()));
}

#[tokio::test]
async fn pages_get_lines_with_numbers_and_no_markup_of_others() {
    let server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    server.write_log(run, 0, b"one\ntwo\n<b>\x1b[31mred");
    let mut reader = Reader::open(
        &server,
        &format!("run={run}&node=build&log=html&cursor=0:0:1:4"),
        None,
    )
    .await;
    let log = reader.until("log").await;
    assert_eq!(log.data["first"], 2);
    assert_eq!(log.data["lines"], serde_json::json!(["two"]));
    assert_eq!(log.data["partial"], "&lt;b&gt;<span class=\"f1\">red</span>");
    assert!(log.id.unwrap().ends_with(":8"));
}

#[tokio::test]
async fn a_page_far_behind_is_taken_to_the_end() {
    let server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    server.write_log(run, 0, "a line\n".repeat(400_000).as_bytes());
    let mut reader = Reader::open(&server, &format!("run={run}&node=build&log=html"), None).await;
    let skipped = reader.until("resync").await;
    assert!(skipped.data["first"].as_u64().unwrap() > 300_000, "{skipped:?}");
    let log = reader.until("log").await;
    assert_eq!(log.data["first"], skipped.data["first"]);
}

#[tokio::test]
async fn every_run_is_named_where_none_is_asked_for() {
    let server = TestServer::start().await;
    let mut reader = Reader::open(&server, "", None).await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    assert_eq!(reader.until("run").await.data["run"], run.0);
}

#[tokio::test]
async fn draining_ends_streams_and_serving() {
    let mut server = held_server().await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    let mut reader = Reader::open(&server, &format!("run={run}"), None).await;
    reader.until("run").await;
    server.stop();
    while reader.next().await.is_some() {}
    (&mut server.serving).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn draining_does_not_wait_for_ever() {
    let limits = Limits {
        drain: Duration::from_millis(20),
        ..Limits::default()
    };
    let mut server = TestServer::with(limits, held).await;
    let _stuck = server
        .raw(b"POST /hooks/hook-token HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n")
        .await;
    while !server.text("/metrics").await.contains("pipe_hooks_in_progress 1") {}
    server.stop();
    (&mut server.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_dropped() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = TestServer::with(limits, held).await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    server.write_log(run, 0, "y".repeat(30_000_000).as_bytes());
    let path = format!("GET /api/v1/live?run={run}&node=build HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let _deaf = server.raw(path.as_bytes()).await;
    while !server
        .text("/metrics")
        .await
        .contains(r#"route="/api/v1/live",method="GET",status="200"} 1"#)
    {}
    while !server.text("/metrics").await.contains("pipe_live_streams 0") {}
}

#[tokio::test]
async fn streams_are_counted_out() {
    let limits = Limits {
        live_streams: 1,
        ..Limits::default()
    };
    let server = TestServer::with(limits, held).await;
    let first = Reader::open(&server, "", None).await;
    assert_eq!(server.get("/api/v1/live").await.status(), 503);
    drop(first);
    while server.get("/api/v1/live").await.status() == 503 {}
}
