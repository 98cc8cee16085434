//! Browser sessions: in memory, opened with the token, gone with the process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderMap, HeaderValue, header};
use hmac::{Hmac, KeyInit, Mac};
use pipekeeper_model::{Millis, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

const COOKIE: &str = "pipe_session";
const LIFE: Millis = Millis::hours(12);
const MOST: usize = 1_000;

/// The open sessions. Only hashes of their ids are kept.
pub(crate) struct Sessions {
    key: [u8; 64],
    open: Mutex<HashMap<[u8; 32], Timestamp>>,
}

/// A request's session; its forms are signed with it.
#[derive(Clone)]
pub(crate) struct Session {
    id: String,
    key: [u8; 64],
}

impl Sessions {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        Ok(Self {
            key,
            open: Mutex::default(),
        })
    }

    /// Opens a session and gives the cookie that carries it.
    pub(crate) fn open(&self, now: Timestamp) -> Result<HeaderValue, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let id = hex::encode(bytes);
        let mut open = self.lock();
        open.retain(|_, expires| *expires > now);
        if open.len() >= MOST
            && let Some(oldest) = open
                .iter()
                .min_by_key(|(_, expires)| **expires)
                .map(|(id, _)| *id)
        {
            open.remove(&oldest);
        }
        open.insert(hashed(&id), now + LIFE);
        Ok(cookie(&id, LIFE))
    }

    /// The session that a request brings.
    pub(crate) fn find(&self, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let id = cookie_value(headers)?;
        let expires = *self.lock().get(&hashed(id))?;
        (expires > now).then(|| Session {
            id: id.to_owned(),
            key: self.key,
        })
    }

    /// Ends a request's session and gives the cookie that removes it.
    pub(crate) fn close(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = cookie_value(headers) {
            self.lock().remove(&hashed(id));
        }
        cookie("", Millis(0))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Timestamp>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// What a form that posts to `path` carries.
    pub(crate) fn form_token(&self, path: &str) -> String {
        hex::encode(self.mac(path).finalize().into_bytes())
    }

    /// Whether a form brought its token, in constant time.
    pub(crate) fn accepts(&self, path: &str, token: &str) -> bool {
        let wanted = self.form_token(path);
        wanted.as_bytes().ct_eq(token.as_bytes()).into()
    }

    fn mac(&self, path: &str) -> Hmac<Sha256> {
        let mac = <Hmac<Sha256> as KeyInit>::new(&self.key.into());
        mac.chain_update(self.id.as_bytes())
            .chain_update([0])
            .chain_update(path.as_bytes())
    }
}

fn hashed(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

fn cookie(value: &str, life: Millis) -> HeaderValue {
    let seconds = life.0 / 1_000;
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    // Hex digits and fixed words are always a header value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn cookie_value(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::{LIFE, Sessions};
    use axum::http::{HeaderMap, HeaderValue, header};
    use pipekeeper_model::Timestamp;

    fn with_cookie(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let value = HeaderValue::try_from(format!("other=1; {pair}")).unwrap();
        HeaderMap::from_iter([(header::COOKIE, value)])
    }

    #[test]
    fn a_session_lives_until_it_expires_or_is_closed() {
        let sessions = Sessions::new().unwrap();
        let headers = with_cookie(&sessions.open(Timestamp(0)).unwrap());
        assert!(sessions.find(&headers, Timestamp(1)).is_some());
        assert!(sessions.find(&headers, Timestamp(0) + LIFE).is_none());
        assert!(sessions.find(&HeaderMap::new(), Timestamp(1)).is_none());
        sessions.close(&headers);
        assert!(sessions.find(&headers, Timestamp(1)).is_none());
    }

    #[test]
    fn a_form_token_fits_one_session_and_one_path() {
        let sessions = Sessions::new().unwrap();
        let one = sessions
            .find(&with_cookie(&sessions.open(Timestamp(0)).unwrap()), Timestamp(1))
            .unwrap();
        let other = sessions
            .find(&with_cookie(&sessions.open(Timestamp(0)).unwrap()), Timestamp(1))
            .unwrap();
        let token = one.form_token("/runs/1/cancel");
        assert!(one.accepts("/runs/1/cancel", &token));
        assert!(!one.accepts("/runs/2/cancel", &token));
        assert!(!other.accepts("/runs/1/cancel", &token));
        assert!(!one.accepts("/runs/1/cancel", ""));
    }
}
