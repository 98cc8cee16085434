//! Three servers of one database: how fast they decide, and how fast the one that performs takes up what others decided.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};
use tokio::{runtime::Builder, task::JoinSet};

use super::{
    memory::wait_for_gates,
    scheduling::{burst, wait_for_lines},
};
use crate::{
    database::Database,
    figure::{Figure, Samples, Target},
    forge::Repository,
    http::{self, Connection},
    served::{Served, data},
    user::User,
};

const SERVERS: usize = 3;
const RUNS: usize = 300;
const CLIENTS: usize = 12;
const ROUNDS: usize = 3;

pub(super) fn measure() -> Result<Vec<Figure>> {
    let (mut decided, mut ended) = (Samples::default(), Samples::default());
    let (mut floor, mut loops) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let database = Database::make()?;
        let user = User::new()?;
        let told = user.told().display().to_string();
        let pipeline = format!(
            "on: {{ push: {{ branches: [main] }} }}\nactions:\n  - {{ name: go, approve: {{ text: Go on?, keep: all }} }}\n  \
             - {{ name: work, run: 'echo $PIPE_SHA >> {told}' }}\n"
        );
        let repository = Repository::make(&user, &pipeline, RUNS)?;
        let servers: Vec<Served> = (0..SERVERS)
            .map(|_| Served::start_on(&user, &repository.bare, Some(database.address())))
            .collect::<Result<_>>()?;
        let first = servers.first().context("no server")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let approvals = runtime.block_on(async {
            burst(first, &repository, 0, RUNS).await?;
            wait_for_gates(first, RUNS).await?;
            approvals(first, &user).await
        })?;
        let started = Instant::now();
        runtime.block_on(say(&servers, approvals))?;
        decided.add(RUNS as f64 / started.elapsed().as_secs_f64());
        wait_for_lines(&user.told(), RUNS)?;
        ended.add(RUNS as f64 / started.elapsed().as_secs_f64());
        ensure!(user.take_told()?.len() == RUNS, "an action ran twice");
        floor.add(RUNS as f64 / runtime.block_on(transactions(database.address()))?);
        let script =
            format!("i=0; while [ $i -lt {RUNS} ]; do i=$((i+1)); sh -c \"echo $i >> {told}\"; done");
        loops.add(RUNS as f64 / user.time_shell(&script)?.as_secs_f64());
        for served in servers {
            served.stop()?;
        }
    }
    Ok(vec![
        Figure {
            what: "300 approvals of 300 runs by 12 clients at three servers, until the last is answered",
            unit: "/s",
            ours: decided,
            floor: Some((
                "300 transactions of one row under one lock, 12 connections",
                floor,
            )),
            target: Target::None,
        },
        Figure {
            what: "the same, until the last of their actions has run at the server that performs",
            unit: "/s",
            ours: ended,
            floor: Some(("300 × `sh -c` in a loop", loops)),
            target: Target::None,
        },
    ])
}

/// A request to approve each run.
async fn approvals(served: &Served, user: &User) -> Result<Vec<Vec<u8>>> {
    let token = fs::read_to_string(data(user).join("admin.token")).context("read the token")?;
    let mut requests = Vec::new();
    for run in 1..=RUNS {
        let told = http::json(&served.address, &format!("/api/v1/runs/{run}")).await?;
        let subject = told
            .pointer("/nodes/0/gate/subject")
            .and_then(|subject| subject.as_str())
            .context("a run without a gate")?;
        let body = serde_json::json!({ "subject": subject }).to_string();
        let head = format!(
            "POST /api/v1/runs/{run}/nodes/go/approve HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            token.trim(),
            body.len()
        );
        requests.push((head + &body).into_bytes());
    }
    Ok(requests)
}

/// Sends these by all clients, each at one of the servers.
async fn say(servers: &[Served], requests: Vec<Vec<u8>>) -> Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = servers
            .get(client % servers.len())
            .context("no server")?
            .address
            .clone();
        let own: Vec<Vec<u8>> = requests.iter().skip(client).step_by(CLIENTS).cloned().collect();
        clients.spawn(async move {
            let mut connection = Connection::open(&address).await?;
            for request in own {
                let answer = connection.send(&request).await?;
                ensure!(
                    answer.status == 200,
                    "an approval was answered {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                );
            }
            Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

/// The seconds that as many bare transactions take.
async fn transactions(address: &str) -> Result<f64> {
    let options: PgConnectOptions = address.parse()?;
    let mut first = options.connect().await?;
    first
        .execute("CREATE TABLE bare (id BIGSERIAL PRIMARY KEY, text TEXT)")
        .await?;
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(options.connect().await?);
    }
    let started = Instant::now();
    let mut working = JoinSet::new();
    for mut connection in connections {
        working.spawn(async move {
            for _ in 0..RUNS / CLIENTS {
                connection.execute("BEGIN").await?;
                connection.execute("SELECT pg_advisory_xact_lock(1)").await?;
                connection
                    .execute("INSERT INTO bare (text) VALUES ('approved')")
                    .await?;
                connection.execute("COMMIT").await?;
            }
            Ok::<_, sqlx::Error>(())
        });
    }
    while let Some(ended) = working.join_next().await {
        ended??;
    }
    Ok(started.elapsed().as_secs_f64())
}
