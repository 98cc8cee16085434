//! Changing people: added, changed, removed, each with an entry in the audit log.

use std::collections::BTreeSet;

use pipekeeper_access::Grant;
use pipekeeper_model::{Actor, Name, Timestamp};
use pipekeeper_store::{AuditEntry, Change, ChangeError, Expected, NewRecord, Record, RecordKind};
use serde::Serialize;

use super::{
    Caller, People,
    body::{UserBody, read, write},
    foreign::{Issued, Subject},
    login::refuse_reserved,
};
use crate::{
    error::{ApiError, Problem},
    session,
};

/// A user, without what is secret.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UserView {
    pub(crate) name: String,
    version: u64,
    #[serde(flatten)]
    facts: UserFacts,
}

/// What may be known of a user.
#[derive(Clone, Debug, Serialize)]
pub(super) struct UserFacts {
    has_password: bool,
    grants: Vec<Grant>,
    identities: BTreeSet<Actor>,
    disabled: bool,
    /// What the issuer of logins calls them.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    /// Their groups there, as they were read last.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<String>,
}

/// What changes about a user; what is none stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserChange {
    pub(crate) password: Option<String>,
    pub(crate) grants: Option<Vec<Grant>>,
    pub(crate) identities: Option<BTreeSet<Actor>>,
    pub(crate) disabled: Option<bool>,
    /// None within takes the link away.
    pub(crate) subject: Option<Option<Subject>>,
}

impl People {
    /// Everybody, by name.
    pub(crate) async fn users(&self) -> Result<Vec<UserView>, ApiError> {
        let records = self.registry.records(RecordKind::User, None).await?;
        records.iter().map(view).collect()
    }

    /// Adds somebody.
    pub(crate) async fn add_user(
        &self,
        caller: &Caller,
        name: Name,
        wanted: UserChange,
        now: Timestamp,
    ) -> Result<UserView, ApiError> {
        refuse_reserved(&name)?;
        let new = UserBody {
            era: session::random()?,
            ..UserBody::default()
        };
        let user = self.changed(new, wanted).await?;
        self.put(caller, (&name, Expected::Absent), (None, &user), now)
            .await
    }

    /// Changes somebody. With another password or subject, or kept out, they are logged out everywhere.
    pub(crate) async fn change_user(
        &self,
        caller: &Caller,
        name: &Name,
        wanted: UserChange,
        now: Timestamp,
    ) -> Result<UserView, ApiError> {
        let (record, before) = self.there(name).await?;
        let after = self.changed(before.clone(), wanted).await?;
        let expected = Expected::Version(record.version);
        self.put(caller, (name, expected), (Some(&before), &after), now)
            .await
    }

    /// Removes somebody, with their tokens and sessions.
    pub(crate) async fn remove_user(
        &self,
        caller: &Caller,
        name: &Name,
        now: Timestamp,
    ) -> Result<UserView, ApiError> {
        let (record, before) = self.there(name).await?;
        let removed = view(&record)?;
        let mut changes = self.ends(caller, name, now).await?;
        changes.push(change(caller, RecordKind::User, name.as_str(), now));
        changes.extend(relinked(caller, name, (Some(&before), None), now)?);
        // What was decided under this name must not become another's.
        changes.push(Change {
            to: Some(NewRecord {
                owner: String::new(),
                body: "{}".to_owned(),
                expires: None,
            }),
            ..change(caller, RecordKind::FormerUser, name.as_str(), now)
        });
        let entry = audit(caller, "user.remove", name, (Some(&before), None), now)?;
        self.registry.change(changes, vec![entry]).await?;
        Ok(removed)
    }

    async fn put(
        &self,
        caller: &Caller,
        (name, expected): (&Name, Expected),
        (before, after): (Option<&UserBody>, &UserBody),
        now: Timestamp,
    ) -> Result<UserView, ApiError> {
        // Nothing of somebody who had this name before comes back.
        let is_shut_out = after.disabled || before.is_none_or(|before| before.era != after.era);
        let mut changes = if is_shut_out {
            self.ends(caller, name, now).await?
        } else {
            Vec::new()
        };
        changes.extend(relinked(caller, name, (before, Some(after)), now)?);
        // Whoever is the first, the link that makes one is void.
        let links = self.registry.records(RecordKind::Link, None).await?;
        changes.extend(
            links
                .iter()
                .map(|link| change(caller, RecordKind::Link, &link.name, now)),
        );
        changes.push(Change {
            expected,
            to: Some(NewRecord {
                owner: String::new(),
                body: write(after)?,
                expires: None,
            }),
            ..change(caller, RecordKind::User, name.as_str(), now)
        });
        let verb = if before.is_some() {
            "user.change"
        } else {
            "user.add"
        };
        let entry = audit(caller, verb, name, (before, Some(after)), now)?;
        match self.registry.change(changes, vec![entry]).await {
            Ok(()) => view(&self.there(name).await?.0),
            Err(ChangeError::Conflict {
                kind: RecordKind::Subject,
                ..
            }) => Err(ApiError::new(
                Problem::Conflict,
                "another user is linked to this subject",
            )),
            Err(ChangeError::Conflict { .. }) if before.is_none() => Err(ApiError::new(
                Problem::Conflict,
                format!("there is a user `{name}` already"),
            )),
            Err(error) => Err(error.into()),
        }
    }

    async fn changed(&self, mut user: UserBody, wanted: UserChange) -> Result<UserBody, ApiError> {
        if let Some(password) = wanted.password {
            user.password = Some(self.new_password(password).await?);
            user.era = session::random()?;
        }
        user.grants = wanted.grants.unwrap_or(user.grants);
        user.identities = wanted.identities.unwrap_or(user.identities);
        if wanted.disabled.is_some_and(|disabled| disabled != user.disabled) {
            user.era = session::random()?;
        }
        user.disabled = wanted.disabled.unwrap_or(user.disabled);
        if let Some(subject) = wanted.subject {
            let old = user.issued.as_ref().map(|issued| &issued.subject);
            // Who logged in as that may be another person.
            if old.is_some() && old != subject.as_ref() {
                user.era = session::random()?;
            }
            let same = |issued: &Issued| Some(&issued.subject) == subject.as_ref();
            let kept = user.issued.take().filter(same);
            user.issued = kept.or(subject.map(|subject| Issued {
                subject,
                groups: BTreeSet::new(),
                read: Timestamp(0),
            }));
        }
        Ok(user)
    }

    /// What ends the sessions and tokens of somebody.
    async fn ends(&self, caller: &Caller, name: &Name, now: Timestamp) -> Result<Vec<Change>, ApiError> {
        let mut changes = Vec::new();
        for kind in [RecordKind::Session, RecordKind::Token] {
            let records = self.registry.records(kind, Some(name.as_str())).await?;
            changes.extend(
                records
                    .iter()
                    .map(|record| change(caller, kind, &record.name, now)),
            );
        }
        Ok(changes)
    }

    pub(super) async fn there(&self, name: &Name) -> Result<(Record, UserBody), ApiError> {
        let record = self.registry.record(RecordKind::User, name.as_str()).await?;
        let record = record.ok_or_else(|| {
            ApiError::not_found(format!("there is no user `{name}`")).with_hint("`pipe user list` shows them")
        })?;
        let body = read("a user", &record.body)?;
        Ok((record, body))
    }
}

/// What has the issuer's name for somebody lead to them, and no longer what did.
fn relinked(
    caller: &Caller,
    name: &Name,
    (before, after): (Option<&UserBody>, Option<&UserBody>),
    now: Timestamp,
) -> Result<Vec<Change>, ApiError> {
    let subject = |body: Option<&UserBody>| Some(body?.issued.as_ref()?.subject.clone());
    let (old, new) = (subject(before), subject(after));
    if old == new {
        return Ok(Vec::new());
    }
    let gone = old.map(|old| change(caller, RecordKind::Subject, &old.record(), now));
    let come = new
        .map(|new| new.leads_to(name, caller.actor(), now))
        .transpose()?;
    Ok(gone.into_iter().chain(come).collect())
}

/// A change that removes a record.
fn change(caller: &Caller, kind: RecordKind, name: &str, now: Timestamp) -> Change {
    Change {
        kind,
        name: name.to_owned(),
        expected: Expected::Any,
        to: None,
        author: caller.actor(),
        at: now,
    }
}

fn view(record: &Record) -> Result<UserView, ApiError> {
    Ok(UserView {
        name: record.name.clone(),
        version: record.version,
        facts: facts(read("a user", &record.body)?),
    })
}

pub(super) fn facts(body: UserBody) -> UserFacts {
    UserFacts {
        has_password: body.password.is_some(),
        groups: body.groups().clone(),
        grants: body.grants,
        identities: body.identities,
        disabled: body.disabled,
        subject: body.issued.map(|issued| issued.subject),
    }
}

fn audit(
    caller: &Caller,
    verb: &str,
    name: &Name,
    (before, after): (Option<&UserBody>, Option<&UserBody>),
    now: Timestamp,
) -> Result<AuditEntry, ApiError> {
    let is_other = |before: &UserBody, after: &UserBody| before.password != after.password;
    let has_other_password = before
        .zip(after)
        .is_some_and(|(before, after)| is_other(before, after));
    Ok(AuditEntry {
        before: before.map(|body| write(&facts(body.clone()))).transpose()?,
        after: after.map(|body| write(&facts(body.clone()))).transpose()?,
        reason: has_other_password.then(|| "with another password".to_owned()),
        ..caller.audit(verb, format!("user/{name}"), now)
    })
}
