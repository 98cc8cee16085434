use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use pipekeeper_controller::Layout;
use pipekeeper_engine::{Earlier, Event, Fact, Look, Next, Origin, Run, RunRequest, evolve};
use pipekeeper_model::{
    Actor, AttemptId, AttemptOutcome, AttemptRecord, EventKind, NodeId, Outcome, Revision, RunContext, RunId,
    Timestamp, TriggerEvent,
};
use pipekeeper_spec::{PlanRequest, SourceFile, check};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{chosen, link::RemoteLink};
use crate::{
    client::Client,
    failure::{Exit, Failure},
    follow::{Ask, Heard, Link},
};

const RUN: RunId = RunId(7);
const ATTEMPT: AttemptId = AttemptId {
    run: RUN,
    node: NodeId(0),
    number: 1,
};

/// What a server does with a request.
enum Answer {
    /// It hangs up.
    Nothing,
    /// A status with a body.
    Whole(u16, String),
    /// A body that does not end.
    Begun(String),
}

/// A server that answers as it is told, by what is asked and how often that was asked before.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                let before = count(&noted, &request);
                noted.lock().unwrap().push(request.clone());
                let (status, body, stays) = match answer(&request, before) {
                    Answer::Nothing => continue,
                    Answer::Whole(status, body) => (status, body, false),
                    Answer::Begun(body) => (200, body, true),
                };
                let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).await.unwrap();
                if stays {
                    open.push(stream);
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self, request: &str) -> usize {
        count(&self.asked, request)
    }
}

fn count(asked: &Mutex<Vec<String>>, request: &str) -> usize {
    let asked = asked.lock().unwrap();
    asked.iter().filter(|known| *known == request).count()
}

/// Reads a request; its method and its path below the API.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        stream.read_buf(&mut read).await.unwrap();
        let text = String::from_utf8(read.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let path = path.split('?').next().unwrap();
        return format!("{method} {}", path.trim_start_matches("/api/v1/runs/7/"));
    }
}

fn created() -> Event {
    let event = TriggerEvent {
        kind: EventKind::Manual,
        revision: Revision {
            repository: "web".to_owned(),
            sha: None,
            git_ref: None,
            subject: String::new(),
        },
        schedule: None,
    };
    let file = SourceFile {
        path: ".pipe/web.yaml",
        text: "name: web\non: { manual: true }\nactions: [{ name: test, run: 'true' }]\n",
    };
    let (pipeline, _) = check(&file).unwrap();
    let request = PlanRequest {
        event: &event,
        params: &BTreeMap::new(),
        selected: None,
        environments: &BTreeMap::new(),
    };
    let plan = pipeline.plan(&request).unwrap();
    let request = Arc::new(RunRequest {
        project: "web".parse().unwrap(),
        plan,
        context: RunContext {
            event,
            changed: Vec::new(),
        },
        group: None,
        adopted: None,
        earlier: Earlier::Adopt,
        origin: Origin::Repository,
        asked_before: std::collections::BTreeSet::new(),
    });
    of(Fact::RunCreated { request })
}

fn of(fact: Fact) -> Event {
    Event {
        at: Timestamp(0),
        actor: Actor::System,
        fact,
    }
}

/// The record after so many events, as a server writes it.
fn record(events: &[Event], after: usize) -> String {
    let lines = events.iter().zip(1..).skip(after);
    let lines = lines.map(|(event, number)| json!({ "type": "event", "number": number, "event": event }));
    lines.map(|line| format!("{line}\n")).collect()
}

async fn open(server: &Server, folder: &std::path::Path) -> Result<RemoteLink, Failure> {
    let client = Client::with_token(&server.address, None, None).unwrap();
    let opened = RemoteLink::open(client, RUN, Layout::new(folder)).await;
    opened.map(|(link, _)| link)
}

async fn heard(link: &mut RemoteLink) -> Result<Heard, Failure> {
    timeout(Duration::from_secs(30), link.hear())
        .await
        .expect("something is heard")
}

#[tokio::test]
async fn a_server_that_goes_away_is_listened_to_again_and_no_log_is_missed() {
    let ended = of(Fact::AttemptFinished {
        attempt: ATTEMPT,
        record: Box::new(AttemptRecord::without_steps(
            AttemptOutcome::Succeeded,
            "",
            Timestamp(0),
        )),
        next: Next::Settled {
            outcome: Outcome::Succeeded,
        },
    });
    let finished = of(Fact::RunFinished {
        outcome: Outcome::Succeeded,
    });
    let events = [created(), ended, finished];
    let server = Server::start(move |request, before| match (request, before) {
        ("GET record", 0) => Answer::Whole(200, record(&events, 0)),
        // What was told is not asked for again.
        ("GET record", 1) => Answer::Whole(200, record(&events, 1)),
        ("GET nodes/test/log", 0) => Answer::Nothing,
        ("GET nodes/test/log", 1) => Answer::Whole(200, "what it said\n".to_owned()),
        _ => Answer::Whole(404, String::new()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut link = open(&server, folder.path()).await.unwrap();
    for number in 0..3 {
        let Heard::Events(events) = heard(&mut link).await.unwrap() else {
            panic!("{number} is no event");
        };
        let fact = &events[0].fact;
        assert!(
            match number {
                0 => matches!(fact, Fact::RunCreated { .. }),
                1 => matches!(fact, Fact::AttemptFinished { .. }),
                _ => matches!(fact, Fact::RunFinished { .. }),
            },
            "{number}: {fact:?}"
        );
        if number == 1 {
            let log = Layout::new(folder.path()).log(ATTEMPT);
            assert_eq!(fs::read_to_string(log).unwrap(), "what it said\n");
        }
    }
    assert_eq!(server.asked("GET record"), 2);
}

#[tokio::test]
async fn a_line_that_nobody_understands_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["no json\n", "{\"type\":\"event\",\"number\":2,\"event\":{}}\n"] {
        let server = Server::start(move |_, _| Answer::Begun(record(&[created()], 0) + line)).await;
        let mut link = open(&server, folder.path()).await.unwrap();
        heard(&mut link).await.unwrap();
        let failure = heard(&mut link).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Ours, "{failure}");
        assert_eq!(server.asked("GET record"), 1);
    }
}

#[tokio::test]
async fn what_is_asked_waits_for_the_server_and_a_cancel_comes_once() {
    let server = Server::start(|request, before| match (request, before) {
        ("GET record", _) => Answer::Begun(record(&[created()], 0)),
        ("GET /readyz", 0) => Answer::Nothing,
        ("GET /readyz", _) => Answer::Whole(200, "{}".to_owned()),
        ("POST nodes/test/start", 1) => Answer::Whole(200, "{}".to_owned()),
        ("POST nodes/test/start", 2) => Answer::Whole(409, String::new()),
        ("POST nodes/test/start" | "POST cancel", 0) => Answer::Nothing,
        _ => Answer::Whole(404, String::new()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut link = open(&server, folder.path()).await.unwrap();
    heard(&mut link).await.unwrap();
    let mut run = Run::new(RUN);
    evolve(&mut run, &created());
    let start = Ask::Start {
        node: NodeId(0),
        look: Look::First,
    };
    // The first is repeated until it is answered, the second is refused and means nothing.
    for ask in [start.clone(), Ask::Cancel, start.clone(), start] {
        link.ask(&run, ask).await.unwrap();
    }
    let failure = heard(&mut link).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound, "{failure}");
    assert_eq!(server.asked("POST cancel"), 1, "a second one would stop more");
    assert_eq!(server.asked("POST nodes/test/start"), 4);
}

#[test]
fn a_tree_belongs_to_the_project_of_its_repositorys_name_or_to_the_only_one() {
    let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let (web, api) = ("web".parse().unwrap(), "api".parse().unwrap());
    assert_eq!(chosen(&names(&["api", "web"]), "mall/web"), Some(&web));
    assert_eq!(chosen(&names(&["api", "web"]), "mall/shop"), None);
    assert_eq!(chosen(&names(&["api"]), "mall/shop"), Some(&api));
    assert_eq!(chosen(&[], "web"), None);
}
