//! The client of a server's API: one request each, problems as errors with hints.

pub(crate) mod credentials;
mod target;
mod views;

use std::{net::IpAddr, path::Path, time::Duration};

use pipekeeper_model::RunId;
use pipekeeper_server::terminal::PROTOCOL;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Upgraded, Url, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

pub(crate) use self::{
    credentials::Credentials,
    target::{Target, find_run, find_run_to_change, run_number},
    views::{
        ApprovalView, Artifact, DeliveryView, Node, RunItem, RunView, TestDetailsView, TestView, TestsView,
    },
};
use crate::{
    cli::Remote,
    config::{self, Flags},
    failure::{Exit, Failure, OrFail, chain},
    server::tokens,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read as it comes may be silent for so long; a server says more often that it is still there.
const SILENCE: Duration = Duration::from_secs(45);

/// Speaks to one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    base: Url,
    token: Option<String>,
    http: reqwest::Client,
    /// For what may come slowly, but not stand still.
    streaming: reqwest::Client,
}

/// A part of a log.
#[derive(Debug)]
pub(crate) struct LogPart {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// The attempt that they belong to.
    pub(crate) attempt: u32,
}

/// RFC 9457 problem JSON, as the server writes it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    hint: Option<String>,
}

impl Client {
    /// A client of the server that the user means.
    pub(crate) fn new(remote: &Remote) -> Result<Self, Failure> {
        let server = remote.address();
        let login = Credentials::read().ok();
        let login = login.as_ref().and_then(|credentials| credentials.of(&server));
        let kept = || Some(login?.token.clone());
        // The token of this machine's own server is for that server alone.
        let own = || is_here(&server).then(local_token).flatten();
        let token = remote.token.clone().or_else(kept).or_else(own);
        Self::with_token(&server, token, login.and_then(|login| login.ca.as_deref()))
    }

    /// A client with this token, and these certificates to trust beside the usual ones.
    pub(crate) fn with_token(server: &str, token: Option<String>, ca: Option<&str>) -> Result<Self, Failure> {
        let base = Url::parse(server)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::usage(format!("`{server}` is no address of a server"))
                    .hint("write it like https://ci.example.org, or http://127.0.0.1:8080")
            })?;
        Ok(Self {
            base,
            token,
            http: built(http(), ca)?,
            streaming: built(http().read_timeout(SILENCE), ca)?,
        })
    }

    /// Reads something.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let request = self.request(Method::GET, path, query)?.timeout(ANSWER_TIMEOUT);
        read_json(self.send(request).await?).await
    }

    /// Asks for something.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        let request = self
            .request(Method::POST, path, &[])?
            .timeout(ANSWER_TIMEOUT)
            .json(body);
        read_json(self.send(request).await?).await
    }

    /// Sends a file, which may be large.
    pub(crate) async fn post_file(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        file: &Path,
    ) -> Result<Value, Failure> {
        let doing = format!("read `{}`", file.display());
        let file = tokio::fs::File::open(file).await.or_fail(&doing)?;
        let bytes = file.metadata().await.or_fail(&doing)?.len();
        let request = self
            .request(Method::POST, path, query)?
            .header(header::CONTENT_LENGTH, bytes)
            .body(reqwest::Body::wrap_stream(ReaderStream::new(file)));
        read_json(self.send(request).await?).await
    }

    /// The record of a run after that many events, to its end.
    pub(crate) async fn record(&self, run: RunId, after: u64) -> Result<Response, Failure> {
        let query = [("after", after.to_string())];
        let path = ["runs", &run.to_string(), "record"];
        self.send(self.request_by(&self.streaming, Method::GET, &path, &query)?)
            .await
    }

    /// The address of a page.
    pub(crate) fn page(&self, path: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| no_path())?.extend(path);
        Ok(url)
    }

    /// Whether the server is ready for work.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let mut url = self.base.clone();
        url.set_path("/readyz");
        let request = self.http.get(url).timeout(CONNECT_TIMEOUT);
        self.send(request).await.map(drop)
    }

    /// A run.
    pub(crate) async fn run(&self, run: u64) -> Result<RunView, Failure> {
        view(self.get(&["runs", &run.to_string()], &[]).await?)
    }

    /// The part of a log after `offset` that is written by now.
    pub(crate) async fn log(
        &self,
        run: u64,
        node: &str,
        attempt: Option<u32>,
        offset: u64,
    ) -> Result<LogPart, Failure> {
        let mut query = vec![("offset", offset.to_string())];
        query.extend(attempt.map(|number| ("attempt", number.to_string())));
        let path = ["runs", &run.to_string(), "nodes", node, "log"];
        let request = self.request_by(&self.streaming, Method::GET, &path, &query)?;
        let response = self.send(request).await?;
        let attempt = response
            .headers()
            .get("x-log-attempt")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(1);
        let bytes = response.bytes().await.or_fail("read the log")?.to_vec();
        Ok(LogPart { bytes, attempt })
    }

    /// An artifact's archive.
    pub(crate) async fn artifact(&self, run: u64, node: &str, name: &str) -> Result<Vec<u8>, Failure> {
        let path = ["runs", &run.to_string(), "nodes", node, "artifacts", name];
        let response = self.send(self.request(Method::GET, &path, &[])?).await?;
        Ok(response.bytes().await.or_fail("read the artifact")?.to_vec())
    }

    /// Writes what is at an address of the API into a file, as it comes.
    pub(crate) async fn download(&self, path: &[&str], to: &Path) -> Result<(), Failure> {
        let request = self.request_by(&self.streaming, Method::GET, path, &[])?;
        let mut response = self.send(request).await?;
        let doing = format!("write `{}`", to.display());
        let mut file = tokio::fs::File::create(to).await.or_fail(&doing)?;
        while let Some(chunk) = response.chunk().await.or_fail("read the server's answer")? {
            file.write_all(&chunk).await.or_fail(&doing)?;
        }
        file.sync_all().await.or_fail(&doing)
    }

    /// The live stream of a run; what it says is only a hint to look again.
    pub(crate) async fn live(&self, run: u64, node: &str) -> Result<Response, Failure> {
        let query = [("run", run.to_string()), ("node", node.to_owned())];
        self.send(self.request(Method::GET, &["live"], &query)?).await
    }

    /// A connection that becomes a terminal.
    pub(crate) async fn terminal(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Upgraded, Failure> {
        let request = self
            .request(Method::POST, path, query)?
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, PROTOCOL);
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::ours("the server does not open a terminal")
                .hint("are `pipe` and the server of the same version?"));
        }
        response.upgrade().await.or_fail("open a terminal")
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, Failure> {
        self.request_by(&self.http, method, path, query)
    }

    fn request_by(
        &self,
        http: &reqwest::Client,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| no_path())?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request
            .send()
            .await
            .map_err(|error| unreachable(&self.base, &error))?;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        let problem: Problem = match response.bytes().await {
            Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
            Err(_) => Problem::default(),
        };
        Err(refused(status, problem))
    }
}

/// Whether a server is one of this machine.
fn is_here(server: &str) -> bool {
    let url = Url::parse(server).ok();
    url.as_ref().and_then(Url::host_str).is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// The token of a server whose data folder this user can read.
fn local_token() -> Option<String> {
    let data_dir = config::data_dir(&Flags::from_environment()).ok()?;
    let token = tokens::stored_admin(&data_dir).ok()??;
    Some(token.reveal().to_owned())
}

/// No proxy: the server is on this machine.
fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        // What is sent is for the server that was named, and for no other that it names.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION")))
}

fn built(client: reqwest::ClientBuilder, ca: Option<&str>) -> Result<reqwest::Client, Failure> {
    let trusted = ca.map(|ca| reqwest::Certificate::from_pem_bundle(ca.as_bytes()));
    let trusted = trusted.transpose().or_usage("read the certificates to trust")?;
    let client = match trusted {
        Some(trusted) => client.tls_certs_merge(trusted),
        None => client,
    };
    client.build().or_fail("make an HTTP client")
}

async fn read_json(response: Response) -> Result<Value, Failure> {
    response.json().await.or_fail("read the server's answer")
}

/// An answer in the form that is wanted.
pub(crate) fn view<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::ours(format!("failed to understand the server: {error}"))
            .hint("are `pipe` and the server of the same version?")
    })
}

fn no_path() -> Failure {
    Failure::usage("the server's address cannot have a path")
}

fn unreachable(server: &Url, error: &reqwest::Error) -> Failure {
    let server = server.as_str().trim_end_matches('/');
    if error.is_connect() && chain(error).contains("certificate") {
        Failure::ours(format!(
            "{server} has a certificate that is not trusted: {}",
            chain(error)
        ))
        .hint("if it is of an authority of your own: `pipe login URL --ca FILE`")
    } else if error.is_connect() {
        Failure::ours(format!("nobody answers at {server}"))
            .hint("start a server with `pipe server`, or name another with `--server` or PIPE_SERVER")
    } else {
        Failure::ours(format!("failed to ask {server}: {}", chain(error)))
    }
}

fn refused(status: StatusCode, problem: Problem) -> Failure {
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Exit::NotFound,
        status if status.is_server_error() => Exit::Ours,
        _ => Exit::Usage,
    };
    let text = [problem.detail, problem.title]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| format!("the server answered {status}"));
    // What the server says to programs in general is worth less here than the command to type.
    let is_general = problem
        .hint
        .as_ref()
        .is_none_or(|hint| hint.starts_with("send `Authorization"));
    let hint = if status == StatusCode::UNAUTHORIZED && is_general {
        Some("`pipe login` logs you in; or give `--token` or PIPE_TOKEN: on the server's machine `pipe token`, with its `--config` or `--data-dir`, prints one".to_owned())
    } else {
        problem.hint
    };
    Failure {
        exit,
        message: text,
        hint,
    }
}

/// Posts a body to an address that is no part of the API; answers with the status.
pub(crate) async fn post_raw(
    url: &str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
) -> Result<StatusCode, Failure> {
    let mut request = built(http(), None)?.post(url).timeout(ANSWER_TIMEOUT).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.send().await.or_fail("post the webhook")?;
    let status = response.status();
    if status.is_success() {
        Ok(status)
    } else {
        Err(Failure::ours(format!("the webhook was answered with {status}")))
    }
}

/// Whether the server is ready for work.
pub(crate) async fn ready(server: &str) -> Result<(), Failure> {
    Client::with_token(server, None, None)?.ready().await
}
