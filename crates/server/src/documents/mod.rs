//! The documents that people applied: a set is compared with what is there, and becomes true as a whole or not at all.
//!
//! Entries: [`apply`], [`all`]. What a document means is the business of whoever reads it: [`Bindings`] are for people.

mod configured;
mod judge;

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_access::{Grant, RoleError};
use pipekeeper_model::{Name, Timestamp};
use pipekeeper_spec::document::{self, Body, Document, Environment, Kind, RoleBinding, diff};
use pipekeeper_store::{
    Change, ChangeError, Expected, NewRecord, Record, RecordKind, RecordVersion, Registry,
};
use serde::Serialize;
use serde_json::Value;

pub use self::configured::configure;
pub(crate) use self::judge::{check_changeable, check_unnamed};
use crate::{
    Composer, Unusable,
    error::ApiError,
    people::Caller,
    vault::{Vault, knows},
};

/// What documents are judged and kept with.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) registry: &'a dyn Registry,
    pub(crate) vault: &'a Vault,
    pub(crate) composer: &'a dyn Composer,
}

/// Who brings documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody who asks.
    Caller,
    /// The folder of whoever keeps the server's machine.
    Folder,
}

/// A document as it is kept.
#[derive(Debug, Serialize)]
pub(crate) struct Kept {
    pub(crate) version: u64,
    author: String,
    at: Timestamp,
    document: Value,
}

/// What becomes of one document of a set.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    kind: Kind,
    name: Name,
    what: What,
    changes: Vec<document::Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Created,
    Changed,
    Unchanged,
    Removed,
}

/// Whether a set is only compared, or becomes true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Compare,
    Apply,
}

/// Compares a set of documents with what is there, and makes it true if that is asked for.
///
/// # Errors
/// If the set and what is kept are not sound together, or somebody else changed one of them at the same time.
pub(crate) async fn apply(
    desk: Desk<'_>,
    caller: &Caller,
    (set, origin): (Vec<Document>, Origin),
    (mode, now): (Mode, Timestamp),
) -> Result<Vec<Step>, ApiError> {
    let Desk {
        registry,
        vault,
        composer,
    } = desk;
    judge::judge(&set, &documents(registry).await?, (composer, origin))?;
    let seals = set.iter().any(|document| document.kind() == Kind::Secret);
    let _steady = if seals { Some(vault.steady().await?) } else { None };
    let mut steps = Vec::with_capacity(set.len());
    let (mut changes, mut audit) = (Vec::new(), Vec::new());
    for document in set {
        let name = record_name(document.kind(), &document.name);
        let record = registry.record(RecordKind::Document, &name).await?;
        let new = document
            .to_canonical()
            .map_err(|error| ApiError::internal(&error))?;
        let old = record.as_ref().map(|record| parse(&record.body)).transpose()?;
        let what = match &old {
            None => What::Created,
            Some(old) if *old == new => What::Unchanged,
            Some(_) => What::Changed,
        };
        let rebound = if let (Body::Secret(secret), Mode::Apply) = (&document.body, mode) {
            vault.rebound(&document.name, secret).await?
        } else {
            None
        };
        if what != What::Unchanged || rebound.is_some() {
            let expected = record
                .as_ref()
                .map_or(Expected::Absent, |record| Expected::Version(record.version));
            changes.push(Change {
                expected,
                to: Some(NewRecord {
                    owner: document.kind().as_str().to_owned(),
                    body: new.to_string(),
                    expires: None,
                }),
                ..removal(caller, (document.kind(), &document.name), now)
            });
            let mut entry = caller.audit("document.apply", format!("document/{name}"), now);
            entry.before = old.as_ref().map(Value::to_string);
            entry.after = Some(new.to_string());
            audit.push(entry);
            changes.extend(rebound);
        }
        steps.push(Step {
            kind: document.kind(),
            name: document.name,
            what,
            changes: diff(old.as_ref().unwrap_or(&Value::Null), &new),
        });
    }
    if mode == Mode::Apply && !changes.is_empty() {
        registry.change(changes, audit).await?;
        composer.changed();
    }
    Ok(steps)
}

/// Removes a document that no other one names.
pub(crate) async fn remove(
    Desk {
        registry, composer, ..
    }: Desk<'_>,
    caller: &Caller,
    (kind, name): (Kind, &Name),
    now: Timestamp,
) -> Result<Step, ApiError> {
    let record = find(registry, kind, name).await?;
    judge::check_changeable((kind, name), composer)?;
    check_unnamed(registry, (kind, name)).await?;
    let subject = format!("document/{}", record.name);
    let mut entry = caller.audit("document.remove", subject, now);
    entry.before = Some(record.body.clone());
    let change = Change {
        expected: Expected::Version(record.version),
        ..removal(caller, (kind, name), now)
    };
    let value = (kind == Kind::Secret).then(|| Vault::removal(caller, name, now));
    let changes = [change].into_iter().chain(value).collect();
    match registry.change(changes, vec![entry]).await {
        Ok(()) => {
            composer.changed();
            Ok(Step {
                kind,
                name: name.clone(),
                what: What::Removed,
                changes: diff(&parse(&record.body)?, &Value::Null),
            })
        }
        Err(ChangeError::Conflict { found: None, .. }) => Err(missing(kind, name)),
        Err(error) => Err(error.into()),
    }
}

/// All documents, or those of one kind, by kind and name; and those that this release cannot read.
pub(crate) async fn all(
    registry: &dyn Registry,
    caller: &Caller,
    kind: Option<Kind>,
) -> Result<(Vec<Kept>, Vec<Unusable>), ApiError> {
    let records = registry
        .records(RecordKind::Document, kind.map(Kind::as_str))
        .await?;
    let (mut shown, mut unreadable) = (Vec::new(), Vec::new());
    for record in records {
        match is_shown(caller, &record.body) {
            Ok(true) => shown.push(kept(record)?),
            Ok(false) => {}
            // Whoever may know of a secret cannot be said.
            Err(_) => {
                let unread = Unusable::unread(&record.name);
                unreadable.extend(unread.filter(|one| one.kind != Kind::Secret));
            }
        }
    }
    Ok((shown, unreadable))
}

/// One document.
pub(crate) async fn one(
    registry: &dyn Registry,
    caller: &Caller,
    (kind, name): (Kind, &Name),
) -> Result<Kept, ApiError> {
    let record = find(registry, kind, name).await?;
    if !is_shown(caller, &record.body)? {
        return Err(missing(kind, name));
    }
    kept(record)
}

/// Whether somebody who may look at documents may look at this one: that there is a secret is not everybody's to know.
fn is_shown(caller: &Caller, body: &str) -> Result<bool, ApiError> {
    let document: Document = read(body)?;
    Ok(if let Body::Secret(secret) = &document.body {
        knows(caller, secret)
    } else {
        true
    })
}

/// What a document was and is, newest first. Whoever may not look at one of them knows of none.
pub(crate) async fn versions(
    registry: &dyn Registry,
    caller: &Caller,
    (kind, name): (Kind, &Name),
) -> Result<Vec<RecordVersion>, ApiError> {
    let versions = registry
        .versions(RecordKind::Document, &record_name(kind, name))
        .await?;
    let bodies = versions.iter().filter_map(|version| version.body.as_deref());
    let shown: Result<Vec<bool>, ApiError> = bodies.map(|body| is_shown(caller, body)).collect();
    if versions.is_empty() || shown?.contains(&false) {
        return Err(missing(kind, name));
    }
    Ok(versions)
}

/// All documents as they are kept, but for those that this release cannot read: they stand in nobody's way.
pub(crate) async fn documents(registry: &dyn Registry) -> Result<Vec<Document>, ApiError> {
    let records = registry.records(RecordKind::Document, None).await?;
    let readable = records.iter().filter_map(|record| {
        let document = read(&record.body);
        document
            .inspect_err(|error| tracing::error!("{} cannot be read: {}", record.name, error.detail()))
            .ok()
    });
    Ok(readable.collect())
}

/// The environments that there are.
pub(crate) async fn environments(registry: &dyn Registry) -> Result<BTreeMap<Name, Environment>, ApiError> {
    let kind = Some(Kind::Environment.as_str());
    let mut environments = BTreeMap::new();
    for record in registry.records(RecordKind::Document, kind).await? {
        let document: Document = read(&record.body)?;
        if let Body::Environment(environment) = document.body {
            environments.insert(document.name, *environment);
        }
    }
    Ok(environments)
}

/// The role bindings, read once for all whom they may concern.
pub(crate) struct Bindings(Vec<RoleBinding>);

impl Bindings {
    pub(crate) async fn read(registry: &dyn Registry) -> Result<Self, ApiError> {
        let kind = Some(Kind::RoleBinding.as_str());
        let mut bindings = Vec::new();
        for record in registry.records(RecordKind::Document, kind).await? {
            let document: Document = read(&record.body)?;
            if let Body::RoleBinding(binding) = document.body {
                bindings.push(*binding);
            }
        }
        Ok(Self(bindings))
    }

    /// The users that they name, who need not be there.
    pub(crate) fn users(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().flat_map(|binding| &binding.users)
    }

    /// What they grant to a user in these groups of the issuer.
    pub(crate) fn grants(&self, user: &Name, groups: &BTreeSet<String>) -> Result<Vec<Grant>, ApiError> {
        let is_theirs =
            |binding: &&RoleBinding| binding.users.contains(user) || !binding.groups.is_disjoint(groups);
        let theirs = self.0.iter().filter(is_theirs);
        theirs.map(grant).collect()
    }
}

fn grant(binding: &RoleBinding) -> Result<Grant, ApiError> {
    let role = binding.role.as_str().parse();
    Ok(Grant {
        role: role.map_err(|error: RoleError| ApiError::internal(&error))?,
        projects: binding.projects.clone(),
        environments: binding.environments.clone(),
    })
}

fn kept(record: Record) -> Result<Kept, ApiError> {
    Ok(Kept {
        version: record.version,
        author: record.author.to_string(),
        at: record.at,
        document: parse(&record.body)?,
    })
}

async fn find(registry: &dyn Registry, kind: Kind, name: &Name) -> Result<Record, ApiError> {
    let record = registry
        .record(RecordKind::Document, &record_name(kind, name))
        .await?;
    record.ok_or_else(|| missing(kind, name))
}

fn missing(kind: Kind, name: &Name) -> ApiError {
    ApiError::not_found(format!("there is no {kind} `{name}`")).with_hint("`pipe get` lists what there is")
}

fn removal(caller: &Caller, (kind, name): (Kind, &Name), now: Timestamp) -> Change {
    Change {
        kind: RecordKind::Document,
        name: record_name(kind, name),
        expected: Expected::Any,
        to: None,
        author: caller.actor(),
        at: now,
    }
}

pub(crate) fn record_name(kind: Kind, name: &Name) -> String {
    format!("{kind}/{name}")
}

fn parse(body: &str) -> Result<Value, ApiError> {
    read(body)
}

fn read<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, ApiError> {
    serde_json::from_str(body)
        .map_err(|error| ApiError::internal(&format!("a document cannot be read: {error}")))
}
