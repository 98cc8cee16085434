//! Access tokens of people: drawn, listed, revoked. Each has an end, and may be limited.

use std::collections::BTreeSet;

use pipekeeper_access::{Role, Scope};
use pipekeeper_model::{Millis, Name, Timestamp};
use pipekeeper_store::{AuditEntry, Change, Expected, NewRecord, Record, RecordKind};
use serde::Serialize;

use super::{
    Caller, People,
    body::{TokenBody, read, write},
    hashed,
};
use crate::{
    AccessToken,
    error::{ApiError, Problem},
};

/// The most days that a token lives.
pub(crate) const MOST_DAYS: u32 = 366;
/// Tokens of one user.
const MOST: usize = 100;
/// Digits of a hash that name a token among those of its owner.
const ID: usize = 12;
/// Uses are noted so often at the most.
const USE_NOTED: Millis = Millis::hours(1);

/// A token, for its owner's eyes.
#[derive(Debug, Serialize)]
pub(crate) struct TokenView {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) scope: Option<Scope>,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) used: Option<Timestamp>,
}

/// A token that somebody wants.
pub(crate) struct TokenWish {
    pub(crate) label: String,
    pub(crate) days: u32,
    pub(crate) scope: Option<Scope>,
}

/// The limits of a token that is for this role at the most, in these projects.
pub(crate) fn scope(role: Option<Role>, projects: Option<BTreeSet<Name>>) -> Option<Scope> {
    match (role, projects) {
        (None, None) => None,
        (role, projects) => Some(Scope {
            role: role.unwrap_or(Role::Admin),
            projects,
        }),
    }
}

impl People {
    /// Draws a token for the caller; it is shown this once.
    pub(crate) async fn draw_token(
        &self,
        caller: &Caller,
        wish: TokenWish,
        now: Timestamp,
    ) -> Result<(AccessToken, TokenView), ApiError> {
        let owner = owner(caller)?;
        if wish.days == 0 || wish.days > MOST_DAYS {
            let detail = format!("a token lives for 1 to {MOST_DAYS} days, not for {}", wish.days);
            return Err(ApiError::new(Problem::Unprocessable, detail));
        }
        if wish.label.chars().count() > 100 || wish.label.chars().any(char::is_control) {
            return Err(ApiError::new(
                Problem::Unprocessable,
                "the label is too long, or no text",
            ));
        }
        if caller.principal.scope.is_some() {
            return Err(
                ApiError::new(Problem::Forbidden, "a limited token draws no other tokens")
                    .with_hint("log in with name and password: `pipe login`"),
            );
        }
        let living = self.token_records(owner).await?;
        if living
            .iter()
            .filter(|record| super::is_alive(record, now))
            .count()
            >= MOST
        {
            return Err(
                ApiError::new(Problem::Conflict, format!("`{owner}` has {MOST} tokens"))
                    .with_hint("`pipe token revoke` removes one"),
            );
        }
        let token = AccessToken::generate().map_err(|error| ApiError::internal(&error))?;
        let body = TokenBody {
            label: wish.label,
            scope: wish.scope,
            era: caller.era.clone(),
            created: now,
            used: None,
        };
        let expires = now + Millis::hours(24 * u64::from(wish.days));
        let name = hashed(token.reveal());
        let change = Change {
            kind: RecordKind::Token,
            name: name.clone(),
            expected: Expected::Absent,
            to: Some(NewRecord {
                owner: owner.as_str().to_owned(),
                body: write(&body)?,
                expires: Some(expires),
            }),
            author: caller.actor(),
            at: now,
        };
        let view = view(&name, Some(expires), body);
        let entry = audit(caller, "token.draw", &view, now)?;
        self.registry.change(vec![change], vec![entry]).await?;
        Ok((token, view))
    }

    /// The caller's tokens.
    pub(crate) async fn tokens(&self, caller: &Caller) -> Result<Vec<TokenView>, ApiError> {
        let records = self.token_records(owner(caller)?).await?;
        records
            .into_iter()
            .filter(|record| may_see(caller, record))
            .map(|record| Ok(view(&record.name, record.expires, read("a token", &record.body)?)))
            .collect()
    }

    /// Revokes one of the caller's tokens.
    pub(crate) async fn revoke_token(
        &self,
        caller: &Caller,
        id: &str,
        now: Timestamp,
    ) -> Result<TokenView, ApiError> {
        let records = self.token_records(owner(caller)?).await?;
        let is_meant = |record: &Record| short(&record.name) == id && may_see(caller, record);
        let named = records.into_iter().find(is_meant);
        let record = named.ok_or_else(|| {
            ApiError::not_found(format!("you have no token `{id}`")).with_hint("`pipe token list` shows them")
        })?;
        let view = view(&record.name, record.expires, read("a token", &record.body)?);
        let change = Change {
            kind: RecordKind::Token,
            name: record.name,
            expected: Expected::Any,
            to: None,
            author: caller.actor(),
            at: now,
        };
        let entry = audit(caller, "token.revoke", &view, now)?;
        self.registry.change(vec![change], vec![entry]).await?;
        Ok(view)
    }

    /// Notes that a token is used, now and then; that it cannot be noted keeps nobody out.
    pub(super) async fn note_use(&self, record: &Record, token: &TokenBody, now: Timestamp) {
        if token.used.is_some_and(|used| now.since(used) < USE_NOTED) {
            return;
        }
        let used = TokenBody {
            used: Some(now),
            ..token.clone()
        };
        let Ok(body) = write(&used) else {
            return;
        };
        let change = Change {
            kind: RecordKind::Token,
            name: record.name.clone(),
            // One that is revoked at this instant must not come back.
            expected: Expected::Version(record.version),
            to: Some(NewRecord {
                owner: record.owner.clone(),
                body,
                expires: record.expires,
            }),
            author: record.author.clone(),
            at: record.at,
        };
        if let Err(error) = self.registry.change(vec![change], Vec::new()).await {
            tracing::debug!("a token's use was not noted: {error}");
        }
    }

    async fn token_records(&self, owner: &Name) -> Result<Vec<Record>, ApiError> {
        Ok(self
            .registry
            .records(RecordKind::Token, Some(owner.as_str()))
            .await?)
    }
}

fn owner(caller: &Caller) -> Result<&Name, ApiError> {
    caller.user.as_ref().ok_or_else(|| {
        ApiError::new(
            Problem::Unprocessable,
            "tokens belong to users; the server's own token is none",
        )
        .with_hint("`pipe user add NAME` makes a user, `pipe login` logs one in")
    })
}

/// A limited token has nothing to do with the others of its owner.
fn may_see(caller: &Caller, record: &Record) -> bool {
    caller.principal.scope.is_none() || caller.token.as_ref() == Some(&record.name)
}

fn view(name: &str, expires: Option<Timestamp>, body: TokenBody) -> TokenView {
    TokenView {
        id: short(name).to_owned(),
        label: body.label,
        scope: body.scope,
        created: body.created,
        expires,
        used: body.used,
    }
}

fn short(name: &str) -> &str {
    name.get(..ID).unwrap_or(name)
}

fn audit(caller: &Caller, verb: &str, view: &TokenView, now: Timestamp) -> Result<AuditEntry, ApiError> {
    let user = caller.user.as_ref().map_or("", Name::as_str);
    let subject = format!("user/{user}/token/{}", view.id);
    Ok(AuditEntry {
        after: Some(write(view)?),
        ..caller.audit(verb, subject, now)
    })
}
