//! A run's record as a stream, and working trees that arrive.

use pipekeeper_backend::dummy::Play;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{
    harness::{TREE, TestServer},
    plans::{request, work},
};
use crate::Limits;

fn held(_: u32) -> Play {
    Play {
        after: 1,
        ..Play::default()
    }
}

/// Reads a record line by line.
struct Record {
    response: Response,
    text: String,
}

impl Record {
    async fn open(server: &TestServer, path: &str) -> Self {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self {
            response,
            text: String::new(),
        }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(serde_json::from_str(&line).unwrap());
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn all(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(line) = self.next().await {
            all.push(line);
        }
        all
    }
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["number"].as_u64()).collect()
}

#[tokio::test]
async fn a_record_is_followed_to_the_runs_end() {
    let server = TestServer::with(Limits::default(), held).await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "running").await;
    let path = format!("/api/v1/runs/{run}/record");
    let mut record = Record::open(&server, &path).await;
    let first = record.next().await.unwrap();
    assert_eq!((&first["type"], &first["number"]), (&json!("event"), &json!(1)));
    assert_eq!(first["event"]["fact"]["request"]["project"], "mall");
    server.write_log(run, 0, b"one\n");
    server.be_silent(run, 0, 10);
    let mut rest = Vec::new();
    while rest.last().is_none_or(|line: &Value| line["type"] != "silent") {
        rest.push(record.next().await.unwrap());
    }
    server.end(run, 0).await;
    rest.extend(record.all().await);
    let mut told = vec![1];
    told.extend(numbers(&rest));
    let expected: Vec<u64> = (1..=told.len() as u64).collect();
    assert_eq!(told, expected, "every event once, in order");
    assert!(
        rest.iter()
            .any(|line| line["type"] == "log" && line["attempt"] == format!("r{run}-n0-a1")),
        "{rest:?}"
    );
    let silent = json!({"type": "silent", "attempt": format!("r{run}-n0-a1"), "seconds": 10, "processes": "2 processes"});
    assert!(rest.contains(&silent), "{rest:?}");

    // Who comes later, or comes again, hears the same and then the end.
    let whole = Record::open(&server, &path).await.all().await;
    assert_eq!(numbers(&whole), expected);
    let half = Record::open(&server, &format!("{path}?after=2"))
        .await
        .all()
        .await;
    assert_eq!(numbers(&half), expected[2..]);
    let none = Record::open(&server, &format!("{path}?after={}", expected.len()))
        .await
        .all()
        .await;
    assert!(none.is_empty(), "{none:?}");
    assert_eq!(server.get("/api/v1/runs/99/record").await.status(), 404);
}

#[tokio::test]
async fn a_working_tree_is_taken_within_limits() {
    let limits = Limits {
        tree_body: 100,
        ..Limits::default()
    };
    let server = TestServer::with(limits, held).await;
    let send = |project: &str, body: Vec<u8>| {
        server
            .request(
                Method::POST,
                &format!("/api/v1/projects/{project}/trees?subject=mine"),
            )
            .bearer_auth(&server.token)
            .body(body)
            .send()
    };
    let taken = send("mall", vec![1; 100]).await.unwrap();
    assert_eq!(taken.status(), 201);
    assert_eq!(taken.json::<Value>().await.unwrap(), json!({ "tree": TREE }));
    assert_eq!(send("mall", vec![1; 101]).await.unwrap().status(), 413);
    assert_eq!(send("mall", b"bad".to_vec()).await.unwrap().status(), 422);
    assert_eq!(send("shop", vec![1]).await.unwrap().status(), 404);

    let both = json!({"project": "mall", "pipeline": "web", "revision": "main", "tree": {"id": TREE, "cluster": "dev"}});
    assert_eq!(server.post("/api/v1/runs", &both).await.status(), 400);
    let made = json!({"project": "mall", "pipeline": "web", "tree": {"id": TREE, "cluster": "dev"}});
    assert_eq!(server.post("/api/v1/runs", &made).await.status(), 201);
    assert_eq!(
        server.json("/api/v1/projects").await,
        json!({ "projects": ["mall"] })
    );
}
