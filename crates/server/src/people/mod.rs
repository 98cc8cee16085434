//! Who a request comes from: people, their tokens and their browsers' sessions, all of it records in the registry.
//!
//! Nothing is kept in memory, so whoever is removed, disabled or limited is so at the next request, in every replica.
//! Secrets are stored as hashes alone. Entry: [`People::caller`].

pub(crate) mod body;
pub(crate) mod login;
pub(crate) mod manage;
mod password;
pub(crate) mod standing;
pub(crate) mod tokens;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::{HeaderMap, header};
use pipekeeper_access::{Place, Principal, Projects, Role, Scope, Verb, authorize};
use pipekeeper_model::{Actor, Name, Timestamp};
use pipekeeper_store::{AuditEntry, Record, RecordKind, Registry, StoreError};
use sha2::{Digest as _, Sha256};

use crate::{
    AccessToken,
    documents::Bindings,
    error::{ApiError, Problem},
    session::{self, Session},
};
use body::{SessionBody, TokenBody, UserBody, read};
use login::Doors;

/// The name that stands for the bearer of the server's own token.
pub(crate) const ADMIN: &str = "admin";

/// Finds out who asks.
pub(crate) struct People {
    pub(crate) registry: Arc<dyn Registry>,
    admin_token: AccessToken,
    doors: Doors,
    /// Whether there is anybody yet; once there was, there is.
    are_known: AtomicBool,
    open_reads: OpenReads,
}

/// Whether runs may be looked at by whoever reaches the server, as long as nobody can log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenReads {
    /// They may: it listens on loopback alone.
    UntilThereArePeople,
    /// Never.
    Never,
}

/// Somebody who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// Their user's name; none for the server's own token, and for nobody in particular.
    pub(crate) user: Option<Name>,
    /// The session that they came with.
    pub(crate) session: Option<Session>,
    /// The hash of the token that they came with.
    pub(crate) token: Option<String>,
    pub(crate) proof: Proof,
    /// Where the request came from.
    pub(crate) from: Option<IpAddr>,
}

/// How a caller proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Not at all.
    Nothing,
    /// With a token, which no other site can send.
    Token,
    /// With a cookie, which a browser sends by itself.
    Session,
}

impl Caller {
    /// Whether they may do this there.
    pub(crate) fn may(&self, verb: Verb, place: Place<'_>) -> bool {
        authorize(&self.principal, verb, place).is_ok()
    }

    /// Refuses them unless they may do this there.
    pub(crate) fn check(&self, verb: Verb, place: Place<'_>) -> Result<(), ApiError> {
        authorize(&self.principal, verb, place).map_err(ApiError::from)
    }

    /// The projects that a list is about in which they may do this: the one that they asked for, or all of theirs; none for
    /// all that there are.
    pub(crate) fn narrow(&self, verb: Verb, asked: Option<Name>) -> Result<Option<BTreeSet<Name>>, ApiError> {
        match (asked, self.principal.projects(verb)) {
            (Some(project), Projects::All) => Ok(Some(BTreeSet::from([project]))),
            (Some(project), Projects::Only(projects)) if projects.contains(&project) => {
                Ok(Some(BTreeSet::from([project])))
            }
            (Some(project), Projects::Only(_)) => {
                Err(ApiError::not_found(format!("there is no project `{project}`")))
            }
            (None, Projects::All) => Ok(None),
            (None, Projects::Only(projects)) => Ok(Some(projects)),
        }
    }

    /// An entry for the audit log about something that they do now.
    pub(crate) fn audit(&self, verb: &str, subject: String, now: Timestamp) -> AuditEntry {
        AuditEntry {
            at: now,
            actor: self.actor(),
            from: self.from.map(|address| address.to_string()),
            verb: verb.to_owned(),
            subject,
            project: None,
            before: None,
            after: None,
            reason: None,
        }
    }

    pub(crate) fn actor(&self) -> Actor {
        self.principal.actor.clone()
    }
}

impl People {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        admin_token: AccessToken,
        open_reads: OpenReads,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            registry,
            admin_token,
            doors: Doors::new()?,
            are_known: AtomicBool::new(false),
            open_reads,
        })
    }

    /// Who sent a request with these headers; none if it says nothing, and that is not enough.
    ///
    /// # Errors
    /// If it says something that is not true: a token that is wrong, over or somebody's who is kept out.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Caller>, ApiError> {
        if let Some(token) = bearer(headers) {
            return self.by_token(token, now).await.map(Some);
        }
        let is_secure = self.open_reads == OpenReads::Never;
        if let Some(session) = session::of(headers, is_secure)
            && let Some(caller) = self.by_session(session, now).await?
        {
            return Ok(Some(caller));
        }
        if self.open_reads == OpenReads::Never || self.are_known().await? {
            return Ok(None);
        }
        Ok(Some(Caller {
            principal: Principal::with(Actor::user("nobody"), Role::Maintainer),
            user: None,
            session: None,
            token: None,
            proof: Proof::Nothing,
            from: None,
        }))
    }

    /// Whether there is anybody who may log in.
    pub(crate) async fn are_known(&self) -> Result<bool, StoreError> {
        if self.are_known.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let some = !self.registry.records(RecordKind::User, None).await?.is_empty();
        if some {
            self.are_known.store(true, Ordering::Relaxed);
        }
        Ok(some)
    }

    /// Whose token this is.
    pub(crate) async fn by_token(&self, token: &str, now: Timestamp) -> Result<Caller, ApiError> {
        if self.admin_token.is(token) {
            return Ok(Caller {
                principal: Principal::admin(Actor::user(ADMIN)),
                user: None,
                session: None,
                token: Some(hashed(token)),
                proof: Proof::Token,
                from: None,
            });
        }
        let record = self.registry.record(RecordKind::Token, &hashed(token)).await?;
        let record = record
            .filter(|record| is_alive(record, now))
            .ok_or_else(|| ApiError::new(Problem::Unauthorized, "the token is not valid"))?;
        let hash = Some(record.name.clone());
        let token: TokenBody = read("a token", &record.body)?;
        self.note_use(&record, &token, now).await;
        let user = self.user(&record.owner).await?;
        let (name, user) =
            user.ok_or_else(|| ApiError::new(Problem::Unauthorized, "the token's owner may not log in"))?;
        Ok(Caller {
            principal: principal(&name, user, token.scope),
            user: Some(name),
            session: None,
            token: hash,
            proof: Proof::Token,
            from: None,
        })
    }

    async fn by_session(&self, session: Session, now: Timestamp) -> Result<Option<Caller>, ApiError> {
        let record = self.registry.record(RecordKind::Session, &session.hash()).await?;
        let Some(record) = record.filter(|record| is_alive(record, now)) else {
            return Ok(None);
        };
        let SessionBody { scope, token, .. } = read("a session", &record.body)?;
        if let Some(token) = &token
            && !self.is_good(token, record.owner.is_empty(), now).await?
        {
            return Ok(None);
        }
        let (principal, user) = if record.owner.is_empty() {
            (Principal::admin(Actor::user(ADMIN)), None)
        } else {
            let Some((name, user)) = self.user(&record.owner).await? else {
                return Ok(None);
            };
            (principal(&name, user, scope), Some(name))
        };
        Ok(Some(Caller {
            principal,
            user,
            session: Some(session),
            token,
            proof: Proof::Session,
            from: None,
        }))
    }

    /// Whether the token with this hash is still one, for a session that it opened.
    async fn is_good(&self, hash: &str, is_own: bool, now: Timestamp) -> Result<bool, ApiError> {
        if is_own {
            return Ok(hashed(self.admin_token.reveal()) == hash);
        }
        let record = self.registry.record(RecordKind::Token, hash).await?;
        Ok(record.is_some_and(|record| is_alive(&record, now)))
    }

    /// A user who may log in, with what role bindings grant.
    pub(crate) async fn user(&self, name: &str) -> Result<Option<(Name, UserBody)>, ApiError> {
        let Some(record) = self.registry.record(RecordKind::User, name).await? else {
            return Ok(None);
        };
        let mut user: UserBody = read("a user", &record.body)?;
        if user.disabled {
            return Ok(None);
        }
        let name: Name = name.parse().map_err(|error| ApiError::internal(&error))?;
        let bindings = Bindings::read(self.registry.as_ref()).await?;
        user.grants.extend(bindings.grants(&name)?);
        Ok(Some((name, user)))
    }
}

fn principal(name: &Name, user: UserBody, scope: Option<Scope>) -> Principal {
    Principal {
        actor: Actor::user(name.as_str()),
        grants: user.grants,
        scope,
    }
}

/// A record whose time is over may be there until the next sweep.
fn is_alive(record: &Record, now: Timestamp) -> bool {
    record.expires.is_none_or(|end| end > now)
}

/// The token in the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The name of a record about a secret: what the secret is cannot be found out of it, as it is drawn at random.
pub(crate) fn hashed(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}
