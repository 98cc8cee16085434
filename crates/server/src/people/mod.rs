//! Who a request comes from: people, their tokens and their browsers' sessions, all of it records in the registry.
//!
//! Nothing is kept in memory, so whoever is removed, disabled or limited is so at the next request, in every replica.
//! Secrets are stored as hashes alone. Entry: [`People::caller`].

pub(crate) mod body;
pub(crate) mod foreign;
pub(crate) mod login;
pub(crate) mod manage;
pub(crate) mod own;
mod password;
mod refusals;
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
use refusals::Refusals;

/// The name that stands for the bearer of the server's own token.
pub(crate) const ADMIN: &str = "admin";
/// The name that stands for what the server's configuration says.
pub(crate) const CONFIGURATION: &str = "configuration";

/// Finds out who asks.
pub(crate) struct People {
    pub(crate) registry: Arc<dyn Registry>,
    admin_token: AccessToken,
    doors: Doors,
    refusals: Refusals,
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
    /// What their user's era was when they proved it.
    pub(crate) era: String,
    pub(crate) groups: Groups,
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

/// Whether the groups of the issuer count that somebody was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// They do, or they would grant nothing.
    Count,
    /// They were read too long ago, and would grant something.
    Lapsed,
}

/// A user who may log in.
pub(crate) struct Known {
    pub(crate) name: Name,
    pub(crate) body: UserBody,
    groups: Groups,
}

impl Known {
    /// Them, with the limits of a token.
    fn caller(self, scope: Option<Scope>, proof: Proof) -> Caller {
        Caller {
            principal: Principal {
                actor: Actor::user(self.name.as_str()),
                grants: self.body.grants,
                scope,
            },
            user: Some(self.name),
            session: None,
            token: None,
            proof,
            era: self.body.era,
            groups: self.groups,
            from: None,
        }
    }
}

impl Caller {
    /// Whoever has the server's own token, and nobody in particular.
    fn without_user(principal: Principal, proof: Proof) -> Self {
        Self {
            principal,
            user: None,
            session: None,
            token: None,
            proof,
            era: String::new(),
            groups: Groups::Count,
            from: None,
        }
    }

    /// Whoever keeps the server's machine, by what its configuration says.
    pub(crate) fn configuration() -> Self {
        let principal = Principal {
            actor: Actor::user(CONFIGURATION),
            grants: Vec::new(),
            scope: None,
        };
        Self::without_user(principal, Proof::Nothing)
    }

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
            refusals: Refusals::new(),
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
        let principal = Principal::with(Actor::user("nobody"), Role::Maintainer);
        Ok(Some(Caller::without_user(principal, Proof::Nothing)))
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
                token: Some(hashed(token)),
                ..Caller::without_user(Principal::admin(Actor::user(ADMIN)), Proof::Token)
            });
        }
        let record = self.registry.record(RecordKind::Token, &hashed(token)).await?;
        let record = record
            .filter(|record| is_alive(record, now))
            .ok_or_else(|| ApiError::new(Problem::Unauthorized, "the token is not valid"))?;
        let hash = Some(record.name.clone());
        let token: TokenBody = read("a token", &record.body)?;
        self.note_use(&record, &token, now).await;
        let known = self.user(&record.owner, now).await?;
        let known = known.filter(|known| known.body.era == token.era);
        let known =
            known.ok_or_else(|| ApiError::new(Problem::Unauthorized, "the token's owner may not log in"))?;
        Ok(Caller {
            token: hash,
            ..known.caller(token.scope, Proof::Token)
        })
    }

    async fn by_session(&self, session: Session, now: Timestamp) -> Result<Option<Caller>, ApiError> {
        let record = self.registry.record(RecordKind::Session, &session.hash()).await?;
        let Some(record) = record.filter(|record| is_alive(record, now)) else {
            return Ok(None);
        };
        let body: SessionBody = read("a session", &record.body)?;
        if let Some(token) = &body.token
            && !self.is_good(token, record.owner.is_empty(), now).await?
        {
            return Ok(None);
        }
        let caller = if record.owner.is_empty() {
            Caller::without_user(Principal::admin(Actor::user(ADMIN)), Proof::Session)
        } else {
            let known = self.user(&record.owner, now).await?;
            let Some(known) = known.filter(|known| known.body.era == body.era) else {
                return Ok(None);
            };
            known.caller(body.scope, Proof::Session)
        };
        Ok(Some(Caller {
            session: Some(session),
            token: body.token,
            ..caller
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
    pub(crate) async fn user(&self, name: &str, now: Timestamp) -> Result<Option<Known>, ApiError> {
        let Some(record) = self.registry.record(RecordKind::User, name).await? else {
            return Ok(None);
        };
        let mut body: UserBody = read("a user", &record.body)?;
        if body.disabled {
            return Ok(None);
        }
        let name: Name = name.parse().map_err(|error| ApiError::internal(&error))?;
        let bindings = Bindings::read(self.registry.as_ref()).await?;
        let all = bindings.grants(&name, body.groups())?;
        let is_fresh = body.issued.as_ref().is_none_or(|issued| issued.is_fresh(now));
        let granted = if is_fresh {
            all.clone()
        } else {
            bindings.grants(&name, &BTreeSet::new())?
        };
        let groups = if granted == all {
            Groups::Count
        } else {
            Groups::Lapsed
        };
        body.grants.extend(granted);
        Ok(Some(Known { name, body, groups }))
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
