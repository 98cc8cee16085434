//! One way to the issuer and back: a secret in the browser's cookie, of which everything is made that the way needs.
//!
//! Whoever comes back without the cookie, or with that of another way, has another state. The issuer takes a code once.

use axum::http::{HeaderMap, HeaderValue};
use hmac::{Hmac, KeyInit, Mac};
use pipekeeper_model::Millis;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{error::ApiError, session};

/// Over plain HTTP, and over TLS, where the prefix keeps other hosts of the same domain from setting it.
const COOKIES: [&str; 2] = ["pipe_login", "__Host-pipe_login"];
/// How long somebody may take at the issuer.
const LIFE: Millis = Millis::minutes(10);
const SECRET: usize = 64;
/// Letters of the path to go to.
const LONGEST_NEXT: usize = 1_000;

/// A way to the issuer and back.
pub(crate) struct Flow {
    secret: String,
    /// The path of this server to go to afterwards.
    pub(crate) next: String,
}

impl Flow {
    /// A new one.
    pub(crate) fn draw(next: &str) -> Result<Self, ApiError> {
        let next = if next.len() > LONGEST_NEXT { "/runs" } else { next };
        Ok(Self {
            secret: session::random()?,
            next: next.to_owned(),
        })
    }

    /// The one that a browser is in.
    pub(super) fn of(headers: &HeaderMap, is_secure: bool) -> Option<Self> {
        let value = session::cookie_of(headers, name(is_secure))?;
        let (secret, next) = value.split_at_checked(SECRET)?;
        let next = String::from_utf8(hex::decode(next).ok()?).ok()?;
        Some(Self {
            secret: secret.to_owned(),
            next,
        })
    }

    /// The cookie that carries it.
    pub(crate) fn cookie(&self, is_secure: bool) -> HeaderValue {
        let value = format!("{}{}", self.secret, hex::encode(&self.next));
        session::cookie(name(is_secure), &value, LIFE, is_secure)
    }

    /// What removes the cookie.
    pub(crate) fn no_cookie(is_secure: bool) -> HeaderValue {
        session::cookie(name(is_secure), "", Millis(0), is_secure)
    }

    /// Whether the issuer sent somebody back from this way, in constant time.
    pub(crate) fn is(&self, state: &str) -> bool {
        let own = self.state();
        !own.is_empty() && bool::from(own.as_bytes().ct_eq(state.as_bytes()))
    }

    pub(super) fn state(&self) -> String {
        self.made("state")
    }

    pub(super) fn nonce(&self) -> String {
        self.made("nonce")
    }

    pub(super) fn verifier(&self) -> String {
        self.made("verifier")
    }

    fn made(&self, what: &str) -> String {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.secret.as_bytes());
        // A key of any length is taken.
        mac.map_or_else(
            |_| String::new(),
            |mac| {
                let mac = mac.chain_update("pipekeeper login v1");
                let mac = mac.chain_update([0]).chain_update(what);
                let mac = mac.chain_update([0]).chain_update(&self.next);
                hex::encode(mac.finalize().into_bytes())
            },
        )
    }
}

fn name(is_secure: bool) -> &'static str {
    let [plain, prefixed] = COOKIES;
    if is_secure { prefixed } else { plain }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::Flow;

    fn back(flow: &Flow) -> HeaderMap {
        let cookie = flow.cookie(true);
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(pair).unwrap())])
    }

    #[test]
    fn the_way_back_is_the_way_there() {
        let flow = Flow::draw("/runs/7").unwrap();
        let found = Flow::of(&back(&flow), true).unwrap();
        assert_eq!(found.next, "/runs/7");
        assert!(found.is(&flow.state()));
        assert_eq!((found.nonce(), found.verifier()), (flow.nonce(), flow.verifier()));
        assert_ne!(flow.nonce(), flow.state());
        let other = Flow::draw("/runs/7").unwrap();
        assert!(!other.is(&flow.state()) && !flow.is(""));
        let elsewhere = Flow {
            next: "/runs/8".to_owned(),
            secret: flow.secret.clone(),
        };
        assert!(!elsewhere.is(&flow.state()), "where it leads is part of it");
        assert!(Flow::of(&back(&flow), false).is_none());
        assert!(Flow::of(&HeaderMap::new(), true).is_none());
    }
}
