//! 32 kept connections that deliver signed pushes of 8 KiB, beside axum and a group commit alone, on each database.

use std::{collections::VecDeque, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, ConnectOptions as _, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use tokio::{runtime::Builder, task::JoinSet};

use crate::{
    database::Database,
    figure::{Figure, Samples, Target},
    forge::{NOTHING, Repository, delivery},
    http::Connection,
    served::{Served, data},
    user::{User, millis},
};

const CLIENTS: usize = 32;
const EACH: usize = 200;
const ROUNDS: usize = 9;
const SIZE: usize = 8 * 1024;

pub(super) fn measure() -> Result<Vec<Figure>> {
    on(None)
}

pub(super) fn measure_postgres() -> Result<Vec<Figure>> {
    on(Some(&Database::make()?))
}

fn on(database: Option<&Database>) -> Result<Vec<Figure>> {
    let user = User::new()?;
    let repository = Repository::make(&user, "on: { manual: true }\nactions: [{ run: 'true' }]\n", 1)?;
    let address = database.map(Database::address);
    let served = Served::start_on(&user, &repository.bare, address)?;
    let floor = Served::start_floor(&user, address)?;
    let (mut ours, mut bare) = (Load::default(), Load::default());
    for round in 0..=ROUNDS {
        let is_warm = round > 0;
        deliver(&floor, round, is_warm.then_some(&mut bare))?;
        deliver(&served, round, is_warm.then_some(&mut ours))?;
    }
    served.stop()?;
    drop(floor);
    let sent = (ROUNDS + 1) * CLIENTS * EACH;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match address {
        Some(address) => {
            runtime.block_on(count_in_postgres(address, "deliveries", sent))?;
            runtime.block_on(count_in_postgres(address, "floor", sent))?;
        }
        None => {
            runtime.block_on(count(&data(&user).join("pipekeeper.db"), sent))?;
            runtime.block_on(count(&user.path("floor/floor.db"), sent))?;
        }
    }
    let single = |samples: &Samples, share| Samples::from_iter([samples.quantile(share)]);
    let name = match database {
        Some(_) => "axum and group commit into Postgres",
        None => "axum and group commit",
    };
    let floor = |share| Some((name, single(&bare.waits, share)));
    Ok(vec![
        Figure {
            what: "signed 8 KiB pushes from 32 clients, 202 after the commit; 0 lost, 0 doubled",
            unit: "/s",
            ours: ours.rates,
            floor: Some((name, bare.rates)),
            target: if database.is_some() {
                Target::None
            } else {
                Target::RatioAtLeast(0.5)
            },
        },
        Figure {
            what: "the same, p50 of the answer",
            unit: "ms",
            ours: single(&ours.waits, 0.5),
            floor: floor(0.5),
            target: Target::None,
        },
        Figure {
            what: "the same, p99 of the answer",
            unit: "ms",
            ours: single(&ours.waits, 0.99),
            floor: floor(0.99),
            target: Target::None,
        },
    ])
}

#[derive(Default)]
struct Load {
    rates: Samples,
    waits: Samples,
}

fn deliver(served: &Served, round: usize, load: Option<&mut Load>) -> Result<()> {
    let requests = |client: usize| -> Result<VecDeque<Vec<u8>>> {
        (0..EACH)
            .map(|number| {
                let after = format!("{:040x}", (round * CLIENTS + client) * EACH + number + 1);
                // Such a push is stored like any other and costs nothing later.
                delivery(&served.hook, NOTHING, &after, "Tell [skip ci]", SIZE)
            })
            .collect()
    };
    let all: Vec<VecDeque<Vec<u8>>> = (0..CLIENTS).map(requests).collect::<Result<_>>()?;
    // One thread for all clients: the server has the rest of the machine.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (took, waits) = runtime.block_on(async {
        let mut clients = Vec::new();
        for requests in all {
            clients.push((Connection::open(&served.address).await?, requests));
        }
        let started = Instant::now();
        let mut running = JoinSet::new();
        for (connection, requests) in clients {
            running.spawn(client(connection, requests));
        }
        let mut waits = Vec::new();
        while let Some(ended) = running.join_next().await {
            waits.extend(ended??);
        }
        Ok::<_, anyhow::Error>((started.elapsed(), waits))
    })?;
    if let Some(load) = load {
        load.rates.add((CLIENTS * EACH) as f64 / took.as_secs_f64());
        waits.into_iter().for_each(|wait| load.waits.add(wait));
    }
    Ok(())
}

async fn client(mut connection: Connection, requests: VecDeque<Vec<u8>>) -> Result<Vec<f64>> {
    let mut waits = Vec::with_capacity(requests.len());
    for request in requests {
        let started = Instant::now();
        let answer = connection.send(&request).await?;
        ensure!(answer.status == 202, "a delivery was answered {}", answer.status);
        waits.push(millis(started.elapsed()));
    }
    Ok(waits)
}

/// Checks that every delivery was stored, and once.
async fn count(database: &Path, sent: usize) -> Result<()> {
    let mut connection = SqliteConnectOptions::new().filename(database).connect().await?;
    let found = sqlx::query_as("SELECT count(*), count(DISTINCT forge_id) FROM deliveries")
        .fetch_one(&mut connection)
        .await?;
    check(found, sent)
}

async fn count_in_postgres(address: &str, table: &str, sent: usize) -> Result<()> {
    let mut connection = address.parse::<PgConnectOptions>()?.connect().await?;
    let question = format!("SELECT count(*), count(DISTINCT forge_id) FROM {table}");
    let found = sqlx::query_as(AssertSqlSafe(question))
        .fetch_one(&mut connection)
        .await?;
    check(found, sent)
}

fn check((rows, distinct): (i64, i64), sent: usize) -> Result<()> {
    let sent = i64::try_from(sent).context("count")?;
    ensure!(
        rows == sent && distinct == sent,
        "{rows} rows, {distinct} of them distinct, of {sent} deliveries"
    );
    Ok(())
}
