//! One request. Entry function: [`run`].

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use pipekeeper_agent::protocol::{Transfer, TransferOrder};
use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};

use crate::refusal::{Refusal, code_of};

/// What is read of the answer that says no.
const MOST_OF_ANSWER: u64 = 16 << 10;

/// Does what is ordered.
pub(crate) fn run(order: &TransferOrder) -> Result<(), Refusal> {
    let agent = agent(order)?;
    match order.what {
        Transfer::Get { most } => get(&agent, order.url.reveal(), &order.file, most),
        Transfer::Put => put(&agent, order.url.reveal(), &order.file),
    }
}

/// A client that goes to the store itself, and nowhere else if that says so.
fn agent(order: &TransferOrder) -> Result<Agent, Refusal> {
    let still = Some(Duration::from_millis(order.still_ms));
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .root_certs(roots(order.ca.as_deref())?)
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_millis(order.connect_ms)))
        .timeout_per_read(still)
        .timeout_per_write(still)
        .timeout_recv_response(still)
        .timeout_global(Some(Duration::from_millis(order.total_ms)))
        .build()
        .new_agent())
}

fn roots(ca: Option<&str>) -> Result<RootCerts, Refusal> {
    let Some(pem) = ca else {
        return Ok(RootCerts::WebPki);
    };
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| Refusal::Certificates)? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(Refusal::Certificates);
    }
    Ok(certificates.into())
}

fn get(agent: &Agent, url: &str, file: &Path, most: u64) -> Result<(), Refusal> {
    let mut response = judged(agent.get(url).call()?)?;
    let announced = response.body().content_length();
    if announced.is_some_and(|bytes| bytes > most) {
        return Err(Refusal::TooLarge { most });
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(Refusal::File)?;
    }
    let making = file.with_added_extension("part");
    let taken = take(&mut response, &making, most, announced);
    if taken.is_err() {
        // There may be none, and nobody looks for it.
        drop(fs::remove_file(&making));
    }
    taken?;
    fs::rename(&making, file).map_err(Refusal::File)
}

fn take(
    response: &mut Response<Body>,
    making: &Path,
    most: u64,
    announced: Option<u64>,
) -> Result<(), Refusal> {
    let mut target = File::create(making).map_err(Refusal::File)?;
    let mut from = response.body_mut().as_reader().take(most + 1);
    let copied = io::copy(&mut from, &mut target).map_err(ureq::Error::from)?;
    if copied > most {
        return Err(Refusal::TooLarge { most });
    }
    if announced.is_some_and(|bytes| copied < bytes) {
        return Err(Refusal::Cut);
    }
    Ok(())
}

fn put(agent: &Agent, url: &str, file: &Path) -> Result<(), Refusal> {
    let file = File::open(file).map_err(Refusal::File)?;
    // A store that refuses does so before it reads the file: who sends that without waiting never hears why.
    let request = agent.put(url).header(header::EXPECT, "100-continue");
    judged(request.send(file)?).map(drop)
}

/// The answer, if it is yes.
fn judged(mut response: Response<Body>) -> Result<Response<Body>, Refusal> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let mut answer = String::new();
    let mut from = response.body_mut().as_reader().take(MOST_OF_ANSWER);
    // An answer that cannot be read has no word of its own.
    drop(from.read_to_string(&mut answer));
    let code = code_of(&answer);
    if code == Some("NoSuchKey") {
        return Err(Refusal::Gone);
    }
    Err(Refusal::Status {
        status: status.as_u16(),
        code: code.map_or(String::new(), |code| format!(" ({code})")),
    })
}
