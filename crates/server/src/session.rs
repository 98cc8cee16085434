//! Browser sessions: a secret in a cookie, whose hash names a record in the registry; and the tokens of a session's forms.

use axum::http::{HeaderMap, HeaderValue, header};
use hmac::{Hmac, KeyInit, Mac};
use pipekeeper_model::Millis;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    error::{ApiError, Problem},
    people::hashed,
};

/// Over plain HTTP, and over TLS, where the prefix keeps other hosts of the same domain from setting it.
const COOKIES: [&str; 2] = ["pipe_session", "__Host-pipe_session"];
/// How long a session is open.
pub(crate) const LIFE: Millis = Millis::hours(12);
/// What sets the key of form tokens apart from all else that is made of the secret.
const FORMS: &[u8] = b"pipekeeper form tokens v1";

/// The secret of one session; its forms are signed with it, so that every replica knows them.
#[derive(Clone)]
pub(crate) struct Session {
    secret: String,
}

impl Session {
    /// Draws a new one.
    pub(crate) fn draw() -> Result<Self, ApiError> {
        Ok(Self { secret: random()? })
    }

    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.secret
    }

    /// The name of its record.
    pub(crate) fn hash(&self) -> String {
        hashed(&self.secret)
    }

    /// The cookie that carries it.
    pub(crate) fn cookie(&self, is_secure: bool) -> HeaderValue {
        cookie(cookie_name(is_secure), &self.secret, LIFE, is_secure)
    }

    /// What a form that posts to `path` carries.
    pub(crate) fn form_token(&self, path: &str) -> String {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.secret.as_bytes());
        // A key of any length is taken.
        mac.map_or_else(
            |_| String::new(),
            |mac| {
                let mac = mac
                    .chain_update(FORMS)
                    .chain_update([0])
                    .chain_update(path.as_bytes());
                hex::encode(mac.finalize().into_bytes())
            },
        )
    }

    /// Whether a form brought its token, in constant time.
    pub(crate) fn accepts(&self, path: &str, token: &str) -> bool {
        let wanted = self.form_token(path);
        !wanted.is_empty() && bool::from(wanted.as_bytes().ct_eq(token.as_bytes()))
    }
}

/// The session that a request brings, which may be over. Where browsers come over TLS only the name counts that nobody else
/// can set.
pub(crate) fn of(headers: &HeaderMap, is_secure: bool) -> Option<Session> {
    let secret = cookie_of(headers, cookie_name(is_secure))?.to_owned();
    Some(Session { secret })
}

/// The value of the first cookie of this name.
pub(crate) fn cookie_of<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then_some(value)
    });
    values.next()
}

/// A secret that nobody guesses, in hex.
pub(crate) fn random() -> Result<String, ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|_| ApiError::new(Problem::Unavailable, "the system gives no random bytes"))?;
    Ok(hex::encode(bytes))
}

fn cookie_name(is_secure: bool) -> &'static str {
    let [plain, prefixed] = COOKIES;
    if is_secure { prefixed } else { plain }
}

/// What removes the cookie.
pub(crate) fn no_cookie(is_secure: bool) -> HeaderValue {
    cookie(cookie_name(is_secure), "", Millis(0), is_secure)
}

pub(crate) fn cookie(name: &str, value: &str, life: Millis, is_secure: bool) -> HeaderValue {
    let seconds = life.0 / 1_000;
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    // Hex digits and fixed words are always a header value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::{Session, no_cookie, of};
    use axum::http::{HeaderMap, HeaderValue, header};

    fn with_cookie(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let value = HeaderValue::try_from(format!("other=1; {pair}")).unwrap();
        HeaderMap::from_iter([(header::COOKIE, value)])
    }

    #[test]
    fn a_cookie_carries_its_session() {
        let session = Session::draw().unwrap();
        for is_secure in [false, true] {
            let cookie = session.cookie(is_secure);
            let headers = with_cookie(&cookie);
            assert_eq!(of(&headers, is_secure).unwrap().hash(), session.hash());
            assert!(of(&headers, !is_secure).is_none());
            let text = cookie.to_str().unwrap();
            assert!(text.contains("; HttpOnly; SameSite=Lax"), "{text}");
            assert_eq!(
                text.starts_with("__Host-") && text.ends_with("; Secure"),
                is_secure
            );
            assert!(no_cookie(is_secure).to_str().unwrap().contains("Max-Age=0"));
        }
        assert!(of(&HeaderMap::new(), false).is_none());
        assert!(!session.hash().contains(session.reveal()));
    }

    #[test]
    fn a_form_token_fits_one_session_and_one_path() {
        let [one, other] = [Session::draw().unwrap(), Session::draw().unwrap()];
        let token = one.form_token("/runs/1/cancel");
        assert!(one.accepts("/runs/1/cancel", &token));
        assert!(!one.accepts("/runs/2/cancel", &token));
        assert!(!other.accepts("/runs/1/cancel", &token));
        assert!(!one.accepts("/runs/1/cancel", ""));
    }
}
