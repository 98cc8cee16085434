//! The store itself. Entry type: [`ObjectStore`].

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use rusty_s3::{Bucket, Credentials, S3Action, actions::ListObjectsV2};

use crate::{
    ObjectError, PresignedUrl, StoreOptions, UrlStyle,
    http::{Answer, Http},
};

/// No URL may be good for longer.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long the URLs of this server's own requests are good.
const OWN_LIFETIME: Duration = Duration::from_secs(300);

/// A bucket of an object store, below one prefix.
pub struct ObjectStore {
    bucket: Bucket,
    /// The bucket as others reach it.
    others: Bucket,
    credentials: Credentials,
    /// Ends with a slash.
    prefix: String,
    name: String,
    ca: Option<String>,
    http: Http,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its name, the prefix included.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// When it was stored, by the store's own clock.
    pub stored_at: SystemTime,
}

impl ObjectStore {
    /// The store that these options name; nothing is asked of it yet.
    ///
    /// # Errors
    /// If it can never be used.
    pub fn new(options: &StoreOptions) -> Result<Self, ObjectError> {
        let bucket = |url: &str| {
            let wrong = |reason: String| ObjectError::Address {
                url: url.to_owned(),
                bucket: options.bucket.clone(),
                reason,
            };
            let address = url.parse().map_err(|error| wrong(format!("{error}")))?;
            let style = match options.style {
                UrlStyle::Path => rusty_s3::UrlStyle::Path,
                UrlStyle::Host => rusty_s3::UrlStyle::VirtualHost,
            };
            Bucket::new(address, style, options.bucket.clone(), options.region.clone())
                .map_err(|error| wrong(error.to_string()))
        };
        let own = bucket(&options.url)?;
        Ok(Self {
            name: own.base_url().as_str().trim_end_matches('/').to_owned(),
            others: bucket(options.others_url.as_ref().unwrap_or(&options.url))?,
            bucket: own,
            credentials: Credentials::new(options.access_key.as_str(), options.secret_key.reveal()),
            prefix: format!("{}/", options.prefix.trim_matches('/')),
            ca: options.ca.clone(),
            http: Http::new(options.ca.as_deref())?,
        })
    }

    /// Its address with the bucket: what tells one store from another.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the names of its objects begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The certificates to trust in the place of Mozilla's, as PEM.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// A URL with which somebody else may fetch an object.
    pub fn url_to_get(&self, key: &str, lifetime: Duration) -> PresignedUrl {
        let action = self.others.get_object(Some(&self.credentials), key);
        PresignedUrl::new(action.sign(lifetime.min(LONGEST_LIFETIME)))
    }

    /// A URL with which somebody else may store an object.
    pub fn url_to_put(&self, key: &str, lifetime: Duration) -> PresignedUrl {
        let action = self.others.put_object(Some(&self.credentials), key);
        PresignedUrl::new(action.sign(lifetime.min(LONGEST_LIFETIME)))
    }

    /// Every object below the prefix.
    ///
    /// # Errors
    /// If the store does not answer, or not with a list.
    pub async fn list(&self) -> Result<Vec<StoredObject>, ObjectError> {
        let odd = |reason: String| ObjectError::Answer {
            store: self.name.clone(),
            reason,
        };
        let mut objects = Vec::new();
        let (mut before, mut token): (Option<String>, Option<String>) = (None, None);
        loop {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(self.prefix.as_str());
            if let Some(token) = token.take() {
                action.with_continuation_token(token);
            }
            let (status, answer) = self.ask(Method::GET, &action).await?;
            if !status.is_success() {
                return Err(self.refused(status, &answer));
            }
            let page = ListObjectsV2::parse_response(&answer.text).map_err(|error| odd(error.to_string()))?;
            for object in page.contents {
                let at = object.last_modified.unwrap_or_default();
                let at = at.parse::<Timestamp>();
                objects.push(StoredObject {
                    stored_at: at.map_err(|error| odd(error.to_string()))?.into(),
                    bytes: object.size.unwrap_or_default(),
                    key: object.key,
                });
            }
            let next = page.next_continuation_token;
            if next.is_none() {
                return Ok(objects);
            }
            if next == before {
                return Err(odd("its list has no end".to_owned()));
            }
            (before, token) = (next.clone(), next);
        }
    }

    /// The size of an object; none if it is not there.
    ///
    /// # Errors
    /// If the store does not answer, or does not say.
    pub async fn head(&self, key: &str) -> Result<Option<u64>, ObjectError> {
        let action = self.bucket.head_object(Some(&self.credentials), key);
        let (status, answer) = self.ask(Method::HEAD, &action).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        match answer.length.filter(|_| status.is_success()) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(self.refused(status, &answer)),
        }
    }

    /// Removes an object; one that is not there counts as removed.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let action = self.bucket.delete_object(Some(&self.credentials), key);
        let (status, answer) = self.ask(Method::DELETE, &action).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(self.refused(status, &answer))
    }

    async fn ask<'a>(
        &'a self,
        method: Method,
        action: &impl S3Action<'a>,
    ) -> Result<(StatusCode, Answer), ObjectError> {
        let asked = self.http.ask(method, action.sign(OWN_LIFETIME).as_str()).await;
        asked.map_err(|reason| ObjectError::Unreachable {
            store: self.name.clone(),
            reason,
        })
    }

    fn refused(&self, status: StatusCode, answer: &Answer) -> ObjectError {
        ObjectError::Refused {
            store: self.name.clone(),
            status: status.as_u16(),
            code: code_of(&answer.text).map_or(String::new(), |code| format!(" ({code})")),
        }
    }
}

impl fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectStore({}/{})", self.name, self.prefix)
    }
}

/// The word of an error's answer; the rest of such an answer may quote what was signed.
fn code_of(answer: &str) -> Option<&str> {
    let (_, rest) = answer.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn options() -> StoreOptions {
        StoreOptions {
            url: "http://10.0.0.1:9000".to_owned(),
            others_url: Some("https://s3.example.org".to_owned()),
            bucket: "ci".to_owned(),
            region: "us-east-1".to_owned(),
            prefix: "/pipekeeper/i1".to_owned(),
            style: UrlStyle::Path,
            access_key: "pipe".to_owned(),
            secret_key: SecretKey::new("hunter2-of-the-store"),
            ca: None,
        }
    }

    #[test]
    fn a_url_is_for_others_for_one_object_and_for_some_time() {
        let store = ObjectStore::new(&options()).unwrap();
        assert_eq!(store.name(), "http://10.0.0.1:9000/ci");
        assert_eq!(store.prefix(), "pipekeeper/i1/");
        let url = store.url_to_get("pipekeeper/i1/web/a b", Duration::from_secs(60));
        let text = url.reveal();
        assert!(
            text.starts_with("https://s3.example.org/ci/pipekeeper/i1/web/a%20b?"),
            "{text}"
        );
        assert!(
            text.contains("X-Amz-Expires=60&") && text.contains("X-Amz-Signature="),
            "{text}"
        );
        let put = store.url_to_put("pipekeeper/i1/web/a b", Duration::from_secs(60));
        assert_ne!(put.reveal(), text);
        let long = store.url_to_put("k", Duration::MAX);
        assert!(
            long.reveal().contains("X-Amz-Expires=604800&"),
            "{}",
            long.reveal()
        );
    }

    #[test]
    fn nothing_shows_a_right() {
        let options = options();
        let store = ObjectStore::new(&options).unwrap();
        let url = store.url_to_put("k", Duration::from_secs(1));
        let shown = format!("{options:?} {store:?} {url:?}");
        for secret in ["hunter2", "X-Amz", "Signature"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("https://s3.example.org/ci/k?…"), "{shown}");
    }

    #[test]
    fn an_address_that_can_never_be_used_is_refused() {
        for url in ["10.0.0.1:9000", "ftp://example.org", "http://"] {
            let options = StoreOptions {
                url: url.to_owned(),
                ..options()
            };
            let error = ObjectStore::new(&options).unwrap_err().to_string();
            assert!(error.contains(&format!("use `{url}` as")), "{error}");
        }
        let options = StoreOptions {
            ca: Some("no certificate".to_owned()),
            ..options()
        };
        let error = ObjectStore::new(&options).unwrap_err().to_string();
        assert!(error.contains("there is none"), "{error}");
    }

    #[test]
    fn only_the_word_of_an_error_is_told() {
        let answer = "<Error><Code>AccessDenied</Code><Message>for X-Amz-Signature=abc</Message></Error>";
        assert_eq!(code_of(answer), Some("AccessDenied"));
        assert_eq!(code_of("<Code>a b</Code>"), None);
        assert_eq!(code_of("<html>"), None);
    }
}
