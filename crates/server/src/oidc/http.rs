//! What asks an issuer: no redirects, bounds on time and size, and no plain address unless that is allowed.

use std::time::Duration;

use axum::http::Response;
use futures_util::future::BoxFuture;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect;
use thiserror::Error;

use super::Transport;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const LARGEST: usize = 256 * 1024;

/// A client.
pub(super) struct Http {
    client: reqwest::Client,
    transport: Transport,
}

/// Something was not answered.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    #[error("`{0}` is not asked without TLS")]
    Plain(String),
    #[error("ask the issuer")]
    Request(#[from] reqwest::Error),
    #[error("the answer is too large")]
    TooLarge,
    #[error("the answer cannot be read")]
    Answer(#[from] axum::http::Error),
}

impl Http {
    pub(super) fn new(transport: Transport, ca: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let mut client = reqwest::Client::builder()
            .no_proxy()
            // What an issuer says stands at its own address.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(WHOLE);
        if let Some(ca) = ca {
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(ca)?);
        }
        Ok(Self {
            client: client.build()?,
            transport,
        })
    }

    /// Whether an address may be asked, or browsers be sent there.
    pub(super) fn allows(&self, url: &str) -> bool {
        match self.transport {
            Transport::Tls => url.starts_with("https://"),
            Transport::Plain => url.starts_with("https://") || url.starts_with("http://"),
        }
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = request.uri().to_string();
        if !self.allows(&url) {
            return Err(HttpError::Plain(url));
        }
        let mut answer = self.client.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(response.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}
