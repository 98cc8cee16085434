//! Ways in: a password, a token, the link that a new server prints.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use axum::http::HeaderValue;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use pipekeeper_access::{Grant, Place, Principal, Role, Verb, authorize};
use pipekeeper_model::{Actor, Millis, Name, Timestamp};
use pipekeeper_store::{
    AuditEntry, Change, ChangeError, Expected, NewRecord, RecordKind, Registry, StoreError,
};
use tokio::sync::Semaphore;

use super::{
    ADMIN, CONFIGURATION, Caller, Groups, Known, People, Proof,
    body::{SessionBody, UserBody, write},
    hashed,
    password::{PasswordError, PasswordHash},
    standing::users,
};
use crate::{
    error::{ApiError, Problem},
    load::blocking,
    session::{LIFE, Session, random},
};

/// Tries for one name: so many at once, then one every few seconds.
const TRIES: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");
/// The same from all addresses together: many more, or whoever has a few of them would keep the user out.
const ALL_TRIES: NonZeroU32 = NonZeroU32::new(200).expect("it is not zero");
/// Passwords that are hashed at once; each takes a core and 19 MiB.
const HASHED_AT_ONCE: usize = 2;
/// Those together with the ones that wait for their turn.
const HASHED_SOON: usize = 32;
/// Names that are remembered at the most before those that were quiet are forgotten.
const NAMES: usize = 10_000;
/// Names that stand for somebody who is no user, however they are spelled.
const RESERVED: [&str; 5] = [ADMIN, CONFIGURATION, "nobody", "pipekeeper", "system"];
/// How long the first link holds.
const LINK_LIFE: Millis = Millis::hours(24);

/// What stands before a login.
pub(super) struct Doors {
    /// By name and address.
    tries: DefaultKeyedRateLimiter<String>,
    /// By name alone.
    all_tries: DefaultKeyedRateLimiter<String>,
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    nobodys: PasswordHash,
}

impl Doors {
    pub(super) fn new() -> Result<Self, ApiError> {
        Ok(Self {
            tries: RateLimiter::keyed(Quota::per_minute(TRIES)),
            all_tries: RateLimiter::keyed(Quota::per_minute(ALL_TRIES)),
            hashing: Arc::new(Semaphore::new(HASHED_AT_ONCE)),
            waiting: Arc::new(Semaphore::new(HASHED_SOON)),
            nobodys: PasswordHash::nobodys().map_err(ApiError::from)?,
        })
    }

    fn try_once(&self, name: &str, from: Option<IpAddr>) -> Result<(), ApiError> {
        let from = from.map_or_else(String::new, |from| from.to_string());
        for (tries, key) in [
            (&self.tries, format!("{name} {from}")),
            (&self.all_tries, name.to_owned()),
        ] {
            if tries.len() > NAMES {
                tries.retain_recent();
            }
            tries.check_key(&key).map_err(|_| {
                ApiError::new(Problem::Busy, "somebody tried to log in as this user too often")
                    .with_hint("wait a minute")
            })?;
        }
        Ok(())
    }

    /// Hashes something in its turn. The turn lasts as long as the work, not only as long as somebody waits for it.
    pub(super) async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = Arc::clone(&self.waiting).try_acquire_owned();
        let place = place.map_err(|_| ApiError::new(Problem::Busy, "too many people log in at once"))?;
        let turn = Arc::clone(&self.hashing).acquire_owned().await;
        let turn = turn.map_err(|error| ApiError::internal(&error))?;
        blocking(move || {
            let done = work();
            drop((turn, place));
            Ok::<_, std::io::Error>(done)
        })
        .await
    }
}

impl People {
    /// The user with this password.
    ///
    /// # Errors
    /// If there is none, the password is another, or there were too many tries; which of these it is cannot be told from
    /// the answer or from its time.
    pub(crate) async fn by_password(
        &self,
        (name, password): (&str, String),
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        let name = name.parse::<Name>().ok();
        // What is no name is nobody's, and takes as long.
        self.doors
            .try_once(name.as_ref().map_or("", Name::as_str), from)?;
        let user = match name {
            Some(name) => self.user(name.as_str(), now).await?,
            None => None,
        };
        let kept = user.as_ref().and_then(|known| known.body.password.clone());
        let kept = kept.unwrap_or_else(|| self.doors.nobodys.clone());
        let is_right = self.doors.hash(move || kept.is(&password)).await?;
        if is_right && let Some(known) = user {
            return Ok(Caller {
                from,
                ..known.caller(None, Proof::Session)
            });
        }
        let name = user.as_ref().map(|known| &known.name);
        self.note_refusal((name, "name and password do not fit"), from, now)
            .await;
        Err(
            ApiError::new(Problem::Unauthorized, "name and password do not fit")
                .with_hint("an admin can give you a new password: `pipe user set NAME --password`"),
        )
    }

    /// Opens a session for somebody who proved who they are; its cookie.
    pub(crate) async fn open_session(
        &self,
        caller: &Caller,
        is_secure: bool,
        now: Timestamp,
    ) -> Result<HeaderValue, ApiError> {
        let session = Session::draw()?;
        let owner = caller.user.as_ref().map_or("", Name::as_str);
        let body = SessionBody {
            created: now,
            era: caller.era.clone(),
            scope: caller.principal.scope.clone(),
            token: caller.token.clone(),
            from: caller.from.map(|address| address.to_string()),
        };
        let change = Change {
            kind: RecordKind::Session,
            name: session.hash(),
            expected: Expected::Absent,
            to: Some(NewRecord {
                owner: owner.to_owned(),
                body: write(&body)?,
                expires: Some(now + LIFE),
            }),
            author: caller.actor(),
            at: now,
        };
        let entry = caller.audit("session.open", format!("user/{}", caller.principal.actor), now);
        self.registry.change(vec![change], vec![entry]).await?;
        Ok(session.cookie(is_secure))
    }

    /// Ends a session.
    pub(crate) async fn close_session(&self, caller: &Caller, now: Timestamp) -> Result<(), ApiError> {
        let Some(session) = &caller.session else {
            return Ok(());
        };
        let change = Change {
            kind: RecordKind::Session,
            name: session.hash(),
            expected: Expected::Any,
            to: None,
            author: caller.actor(),
            at: now,
        };
        let entry = caller.audit("session.close", format!("user/{}", caller.principal.actor), now);
        Ok(self.registry.change(vec![change], vec![entry]).await?)
    }

    /// Whether a link's key is good.
    pub(crate) async fn is_link(&self, key: &str, now: Timestamp) -> Result<bool, ApiError> {
        let record = self.registry.record(RecordKind::Link, &hashed(key)).await?;
        let is_alive = record.is_some_and(|record| super::is_alive(&record, now));
        // Another server may have printed it while the first admin was made.
        Ok(is_alive && !has_admin(self.registry.as_ref()).await?)
    }

    /// Makes the first admin, once.
    pub(crate) async fn use_link(
        &self,
        key: &str,
        (name, password): (Name, String),
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        let void = || {
            ApiError::new(Problem::Forbidden, "this link was used, or its time is over")
                .with_hint("a server without people prints a new one when it starts")
        };
        if !self.is_link(key, now).await? {
            return Err(void());
        }
        refuse_reserved(&name)?;
        let user = UserBody {
            era: random()?,
            password: Some(self.new_password(password).await?),
            grants: vec![Grant {
                role: Role::Admin,
                projects: None,
                environments: None,
            }],
            ..UserBody::default()
        };
        let author = Actor::user(name.as_str());
        let change = |kind, name: &str, expected, to| Change {
            kind,
            name: name.to_owned(),
            expected,
            to,
            author: author.clone(),
            at: now,
        };
        let record = NewRecord {
            owner: String::new(),
            body: write(&user)?,
            expires: None,
        };
        let own = hashed(key);
        let mut changes = vec![
            change(RecordKind::Link, &own, Expected::Present, None),
            change(RecordKind::User, name.as_str(), Expected::Absent, Some(record)),
        ];
        let links = self.registry.records(RecordKind::Link, None).await?;
        let others = links.iter().filter(|link| link.name != own);
        changes.extend(others.map(|link| change(RecordKind::Link, &link.name, Expected::Any, None)));
        let known = Known {
            name: name.clone(),
            body: user,
            groups: Groups::Count,
        };
        let caller = Caller {
            from,
            ..known.caller(None, Proof::Session)
        };
        let entry = AuditEntry {
            reason: Some("the first admin, by the link that the server printed".to_owned()),
            ..caller.audit("user.add", format!("user/{name}"), now)
        };
        match self.registry.change(changes, vec![entry]).await {
            Ok(()) => Ok(caller),
            Err(ChangeError::Conflict { .. }) => Err(void()),
            Err(ChangeError::Store(error)) => Err(error.into()),
        }
    }

    pub(super) async fn new_password(&self, password: String) -> Result<PasswordHash, ApiError> {
        let hashed = self.doors.hash(move || PasswordHash::of(&password)).await?;
        hashed.map_err(ApiError::from)
    }
}

/// Draws the key of a link that makes the first admin: `/setup?key=…`; none if there is one already. Who came through an
/// issuer is somebody, and no admin by that. Links of earlier starts are void.
///
/// # Errors
/// If the registry does not work, or the system gives no random bytes.
pub async fn first_link(registry: &dyn Registry, now: Timestamp) -> Result<Option<String>, ChangeError> {
    let away = |error: ApiError| StoreError::Unavailable {
        reason: error.detail().to_owned(),
    };
    if has_admin(registry).await.map_err(away)? {
        return Ok(None);
    }
    let session = Session::draw().map_err(away)?;
    let change = |name: String, to| Change {
        kind: RecordKind::Link,
        name,
        expected: Expected::Any,
        to,
        author: Actor::System,
        at: now,
    };
    let link = NewRecord {
        owner: String::new(),
        body: "{}".to_owned(),
        expires: Some(now + LINK_LIFE),
    };
    let old = registry.records(RecordKind::Link, None).await?;
    // What was printed before stays good: a server begins anew whenever it must.
    let expired = old.into_iter().filter(|old| !super::is_alive(old, now));
    let mut changes: Vec<_> = expired.map(|old| change(old.name, None)).collect();
    changes.push(change(session.hash(), Some(link)));
    registry.change(changes, Vec::new()).await?;
    Ok(Some(session.reveal().to_owned()))
}

/// Whether anybody is admin of the whole server, also somebody who is kept out.
async fn has_admin(registry: &dyn Registry) -> Result<bool, ApiError> {
    let users = users(registry, None).await?;
    Ok(users.iter().any(|(name, user)| {
        let principal = Principal {
            actor: Actor::user(name.as_str()),
            grants: user.grants.clone(),
            scope: None,
        };
        authorize(&principal, Verb::ManageUsers, Place::SERVER).is_ok()
    }))
}

/// Nobody else may look like the bearer of the server's own token, or like nobody.
pub(super) fn refuse_reserved(name: &Name) -> Result<(), ApiError> {
    if RESERVED
        .iter()
        .any(|word| name.as_str().eq_ignore_ascii_case(word))
    {
        let detail = format!("`{name}` stands for somebody already");
        return Err(ApiError::new(Problem::Unprocessable, detail).with_hint("choose another name"));
    }
    Ok(())
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        let problem = match error {
            PasswordError::Short | PasswordError::Long => Problem::Unprocessable,
            PasswordError::System => Problem::Unavailable,
        };
        Self::new(problem, error.to_string()).with_hint("a few words in a row make a good one")
    }
}
