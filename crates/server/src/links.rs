//! Links to artifacts on the host that serves nothing else: each names one artifact of one run, is good for some minutes, and
//! needs no cookie, so that no browser has a session where bytes of strangers are.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{Redirect, Response},
};
use hmac::{Hmac, KeyInit, Mac};
use pipekeeper_model::{ArtifactResult, Digest, Millis, RunId, Timestamp};
use sha2::Sha256;

use crate::{
    api::files::{archive, file_name},
    app::App,
    error::{ApiError, Problem},
    extract::ApiPath,
    load::no_run,
};

/// The one route of that host.
pub(crate) const PATH: &str = "/artifacts/{link}/{file}";
/// How long a link may be followed.
const GOOD_FOR: Millis = Millis::minutes(5);
const LABEL: &str = "pipekeeper artifact link 1";

/// What a link is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link<'a> {
    run: RunId,
    digest: Digest,
    expires: Timestamp,
    /// What the file is called.
    file: &'a str,
}

/// Why a link leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadLink {
    Foreign,
    Expired,
}

impl<'a> Link<'a> {
    /// Reads one that was signed with this key.
    fn read(text: &str, file: &'a str, key: &[u8], now: Timestamp) -> Result<Self, BadLink> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(BadLink::Foreign);
        let (run, expires, digest, mac) = (part()?, part()?, part()?, part()?);
        let link = Self {
            run: RunId(run.parse().map_err(|_| BadLink::Foreign)?),
            digest: format!("sha256:{digest}").parse().map_err(|_| BadLink::Foreign)?,
            expires: Timestamp(expires.parse().map_err(|_| BadLink::Foreign)?),
            file,
        };
        let given = hex::decode(mac).map_err(|_| BadLink::Foreign)?;
        let is_signed = link.mac(key).is_some_and(|mac| mac.verify_slice(&given).is_ok());
        if !is_signed || parts.next().is_some() {
            return Err(BadLink::Foreign);
        }
        if link.expires <= now {
            return Err(BadLink::Expired);
        }
        Ok(link)
    }

    /// As it stands in an address; none if there is no key.
    fn write(&self, key: &[u8]) -> Option<String> {
        let mac = hex::encode(self.mac(key)?.finalize().into_bytes());
        let Self {
            run,
            digest,
            expires,
            file: _,
        } = self;
        Some(format!("{run}.{}.{}.{mac}", expires.0, digest.to_hex()))
    }

    fn mac(&self, key: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok()?;
        // A name of a file has no line ends, and the other parts are of one form only.
        let signed = format!(
            "{LABEL}\n{}\n{}\n{}\n{}",
            self.run, self.expires.0, self.digest, self.file
        );
        mac.update(signed.as_bytes());
        Some(mac)
    }
}

impl App {
    /// The way to an artifact on the host that is there for them; none where there is no such host.
    pub(crate) fn way_to(&self, run: RunId, artifact: &ArtifactResult) -> Result<Option<Redirect>, ApiError> {
        let Some(host) = &self.parts.artifact_host else {
            return Ok(None);
        };
        let file = file_name(artifact);
        let link = Link {
            run,
            digest: artifact.digest.clone(),
            expires: self.now() + GOOD_FOR,
            file: &file,
        };
        let link = link
            .write(self.parts.admin_token.reveal().as_bytes())
            .ok_or_else(|| ApiError::internal(&"an empty key"))?;
        Ok(Some(Redirect::to(&format!(
            "https://{host}/artifacts/{link}/{file}"
        ))))
    }
}

/// `GET /artifacts/{link}/{file}`: the archive, whoever follows the link.
pub(crate) async fn follow(
    State(app): State<Arc<App>>,
    ApiPath((link, file)): ApiPath<(String, String)>,
) -> Result<Response, ApiError> {
    let key = app.parts.admin_token.reveal().as_bytes();
    let link = Link::read(&link, &file, key, app.now()).map_err(|bad| match bad {
        BadLink::Foreign => ApiError::new(Problem::Forbidden, "the link is not one of this server's")
            .with_hint("follow the link of the run's page"),
        BadLink::Expired => ApiError::new(Problem::Gone, "the link was good for 5 minutes")
            .with_hint("follow the link of the run's page again"),
    })?;
    if app.parts.store.stamp(link.run).await?.is_none() {
        return Err(no_run(link.run));
    }
    archive(&app, link.run, &link.digest, link.file).await
}

#[cfg(test)]
mod tests {
    use super::{BadLink, Digest, Link, RunId, Timestamp};

    const NOW: Timestamp = Timestamp(1_000);

    fn link(file: &str) -> Link<'_> {
        Link {
            run: RunId(41),
            digest: Digest::of(b"archive"),
            expires: Timestamp(1_001),
            file,
        }
    }

    #[test]
    fn a_link_is_good_for_what_it_was_made_for_alone() {
        let made = link("web.tar.zst");
        let text = made.write(b"key").unwrap();
        assert_eq!(Link::read(&text, "web.tar.zst", b"key", NOW), Ok(made));
        let expired = Link::read(&text, "web.tar.zst", b"key", Timestamp(1_001));
        assert_eq!(expired, Err(BadLink::Expired));
        for file in ["web.html", "../web.tar.zst", "web.tar.zst\n", "wéb.tar.zst", ""] {
            assert_eq!(
                Link::read(&text, file, b"key", NOW),
                Err(BadLink::Foreign),
                "{file}"
            );
        }
        assert_eq!(
            Link::read(&text, "web.tar.zst", b"other", NOW),
            Err(BadLink::Foreign)
        );
    }

    #[test]
    fn tampered_links_lead_nowhere() {
        let text = link("web.tar.zst").write(b"key").unwrap();
        let other = Digest::of(b"secret").to_hex();
        let digest = Digest::of(b"archive").to_hex();
        let tampered = [
            text.replacen("41.", "42.", 1),
            text.replacen(".1001.", ".9999.", 1),
            text.replace(&digest, &other),
            format!("{text}.x"),
            format!("{text}0"),
            text.split('.').take(3).collect::<Vec<_>>().join("."),
            "\u{0}.\u{202e}..".to_owned(),
            String::new(),
        ];
        for tampered in tampered {
            let read = Link::read(&tampered, "web.tar.zst", b"key", NOW);
            assert_eq!(read, Err(BadLink::Foreign), "{tampered}");
        }
    }
}
