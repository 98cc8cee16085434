//! What people see and change of themselves: their sessions, their password.

use std::collections::BTreeSet;

use pipekeeper_access::Grant;
use pipekeeper_model::{Actor, Name, Timestamp};
use pipekeeper_store::{Change, Expected, Record, RecordKind};

use super::{
    Caller, People, Proof,
    body::{SessionBody, read},
    is_alive,
    manage::UserChange,
};
use crate::error::{ApiError, Problem};

/// Digits of a hash that name a session among those of its owner.
const ID: usize = 12;

/// What there is to know of somebody.
#[derive(Default)]
pub(crate) struct Own {
    pub(crate) has_password: bool,
    /// The roles that they were given themselves; documents may bind more to them.
    pub(crate) given: Vec<Grant>,
    pub(crate) identities: BTreeSet<Actor>,
    /// Their groups at the issuer of logins, as they were read last.
    pub(crate) groups: BTreeSet<String>,
}

/// A session, for its owner's eyes.
pub(crate) struct SessionView {
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) from: Option<String>,
    pub(crate) opened: Opened,
    /// Whether the caller came with it.
    pub(crate) is_this: bool,
}

/// What opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// A password, or the issuer of logins.
    ByLogin,
    /// A token; the session ends with it.
    ByToken,
}

/// Which sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    /// The one of this id.
    One(&'a str),
    /// All but the one that the caller came with.
    Others,
}

impl People {
    /// What there is to know of the caller; nothing of who is no user.
    pub(crate) async fn own(&self, caller: &Caller) -> Result<Own, ApiError> {
        let Some(name) = &caller.user else {
            return Ok(Own::default());
        };
        let (_, body) = self.there(name).await?;
        Ok(Own {
            has_password: body.password.is_some(),
            groups: body.groups().clone(),
            given: body.grants,
            identities: body.identities,
        })
    }

    /// The caller's open sessions, newest first.
    pub(crate) async fn sessions(
        &self,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Vec<SessionView>, ApiError> {
        let mut views = Vec::new();
        for record in self.session_records(caller).await? {
            let body: SessionBody = read("a session", &record.body)?;
            if !is_alive(&record, now) || body.era != caller.era {
                continue;
            }
            views.push(SessionView {
                id: short(&record.name).to_owned(),
                created: body.created,
                expires: record.expires,
                from: body.from,
                opened: match body.token {
                    Some(_) => Opened::ByToken,
                    None => Opened::ByLogin,
                },
                is_this: is_this(caller, &record),
            });
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.created));
        Ok(views)
    }

    /// Ends sessions of the caller.
    pub(crate) async fn end_sessions(
        &self,
        caller: &Caller,
        which: Which<'_>,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let mut records = self.session_records(caller).await?;
        records.retain(|record| match which {
            Which::One(id) => short(&record.name) == id,
            Which::Others => !is_this(caller, record),
        });
        if let (Which::One(id), []) = (which, records.as_slice()) {
            return Err(ApiError::not_found(format!("you have no session `{id}`")));
        }
        let subject = format!("user/{}", caller.principal.actor);
        let entries = records
            .iter()
            .map(|_| caller.audit("session.close", subject.clone(), now))
            .collect();
        let end = |record: Record| Change {
            kind: RecordKind::Session,
            name: record.name,
            expected: Expected::Any,
            to: None,
            author: caller.actor(),
            at: now,
        };
        let changes = records.into_iter().map(end).collect();
        Ok(self.registry.change(changes, entries).await?)
    }

    /// Gives the caller another password, which ends all their sessions and tokens; they, as they may log in now.
    pub(crate) async fn change_password(
        &self,
        caller: &Caller,
        (old, new): (String, String),
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        if caller.principal.scope.is_some() {
            return Err(ApiError::new(
                Problem::Forbidden,
                "who came with a limited token changes no password",
            )
            .with_hint("sign in with name and password"));
        }
        let name = caller
            .user
            .as_ref()
            .ok_or_else(|| ApiError::new(Problem::Unprocessable, "the server's own token has no password"))?;
        let asked = self.by_password((name.as_str(), old), caller.from, now).await;
        asked.map_err(|error| {
            if error.problem() == Problem::Unauthorized {
                ApiError::new(Problem::Unprocessable, "that is not your password")
            } else {
                error
            }
        })?;
        let wanted = UserChange {
            password: Some(new),
            ..UserChange::default()
        };
        self.change_user(caller, name, wanted, now).await?;
        let known = self
            .user(name.as_str(), now)
            .await?
            .ok_or_else(|| ApiError::new(Problem::Unauthorized, "you may not log in any more"))?;
        Ok(Caller {
            from: caller.from,
            ..known.caller(None, Proof::Session)
        })
    }

    /// Who came with a limited token has nothing to do with the other sessions of its owner.
    async fn session_records(&self, caller: &Caller) -> Result<Vec<Record>, ApiError> {
        let owner = caller.user.as_ref().map_or("", Name::as_str);
        let mut records = self.registry.records(RecordKind::Session, Some(owner)).await?;
        records.retain(|record| caller.principal.scope.is_none() || is_this(caller, record));
        Ok(records)
    }
}

fn is_this(caller: &Caller, record: &Record) -> bool {
    let session = caller.session.as_ref();
    session.is_some_and(|session| session.hash() == record.name)
}

fn short(name: &str) -> &str {
    name.get(..ID).unwrap_or(name)
}
