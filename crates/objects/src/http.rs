//! Requests without a body to an object store, over HTTP or TLS.

use std::{error::Error, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::timeout;

use crate::ObjectError;

const CONNECT_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// More than a list of a thousand objects takes.
const MOST_BYTES: usize = 8 << 20;

/// A client that trusts Mozilla's certificates, or those of an owner alone, as programs in pods do.
pub(crate) struct Http(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Http {
    pub(crate) fn new(ca: Option<&str>) -> Result<Self, ObjectError> {
        let wrong = |error: &dyn Error| ObjectError::Certificates {
            reason: error.to_string(),
        };
        let mut roots = RootCertStore::empty();
        match ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| wrong(&error))?;
                    roots.add(certificate).map_err(|error| wrong(&error))?;
                }
            }
        }
        if roots.is_empty() {
            return Err(ObjectError::Certificates {
                reason: "there is none in it".to_owned(),
            });
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_connect_timeout(Some(CONNECT_TIME));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Asks, and reads the answer. What is wrong is told without the URL.
    pub(crate) async fn ask(&self, method: Method, url: &str) -> Result<(StatusCode, Answer), String> {
        let request = Request::builder().method(method).uri(url).body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        let asked = async {
            let response = self.0.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            let length = head.headers.get(hyper::header::CONTENT_LENGTH);
            let answer = Answer {
                text: String::from_utf8_lossy(&body).into_owned(),
                length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
            };
            Ok((head.status, answer))
        };
        let answered = timeout(ANSWER_TIME, asked).await;
        answered.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIME.as_secs())))
    }
}

/// What an answer holds.
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The bytes that were announced.
    pub(crate) length: Option<u64>,
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
