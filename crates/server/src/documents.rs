//! The documents that people applied: a set is compared with what is there, and becomes true as a whole or not at all.
//!
//! Entries: [`apply`], [`all`]. What a document means is the business of whoever reads it: [`Bindings`] are for people.

use std::collections::BTreeSet;

use pipekeeper_access::{Grant, RoleError};
use pipekeeper_model::{Name, Timestamp};
use pipekeeper_spec::document::{self, Body, Document, Kind, Others, RoleBinding, check_set, diff};
use pipekeeper_store::{
    Change, ChangeError, Expected, NewRecord, Record, RecordKind, RecordVersion, Registry,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    error::{ApiError, Problem},
    people::Caller,
};

/// The kinds that this server keeps as documents. What the others say stands in its configuration file.
const KEPT: &[Kind] = &[Kind::RoleBinding];

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
/// If the set is not sound, names projects that there are not, or somebody else changed one of them at the same time.
pub(crate) async fn apply(
    registry: &dyn Registry,
    caller: &Caller,
    set: Vec<Document>,
    projects: &[Name],
    (mode, now): (Mode, Timestamp),
) -> Result<Vec<Step>, ApiError> {
    judge(&set, projects)?;
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
        if what != What::Unchanged {
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
    }
    Ok(steps)
}

/// Refuses a set that cannot be made true here.
fn judge(set: &[Document], projects: &[Name]) -> Result<(), ApiError> {
    let mut wrong: Vec<String> = check_set(set, Others::Unknown)
        .into_iter()
        .filter(|fault| fault.severity == pipekeeper_spec::Severity::Error)
        .map(|fault| fault.message)
        .collect();
    for document in set {
        let title = record_name(document.kind(), &document.name);
        if !KEPT.contains(&document.kind()) {
            let kind = document.kind();
            wrong.push(format!(
                "{title}: this server reads {kind}s from its configuration file"
            ));
        }
        if let Body::RoleBinding(binding) = &document.body {
            let unknown = binding
                .projects
                .iter()
                .filter(|project| !projects.contains(project));
            wrong.extend(unknown.map(|project| format!("{title}: there is no project `{project}`")));
            if !binding.environments.is_empty() || !binding.groups.is_empty() {
                wrong.push(format!(
                    "{title}: `environments` and `groups` grant nothing here yet"
                ));
            }
            if binding.users.is_empty() {
                wrong.push(format!(
                    "{title}: it names no `users`, and logins bring no groups here"
                ));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let detail = wrong.join("; ");
    Err(ApiError::new(Problem::Unprocessable, detail)
        .with_hint("`pipe apply --dry-run offline` checks files"))
}

/// Removes a document.
pub(crate) async fn remove(
    registry: &dyn Registry,
    caller: &Caller,
    (kind, name): (Kind, &Name),
    now: Timestamp,
) -> Result<Step, ApiError> {
    let record = find(registry, kind, name).await?;
    let subject = format!("document/{}", record.name);
    let mut entry = caller.audit("document.remove", subject, now);
    entry.before = Some(record.body.clone());
    let change = Change {
        expected: Expected::Version(record.version),
        ..removal(caller, (kind, name), now)
    };
    match registry.change(vec![change], vec![entry]).await {
        Ok(()) => Ok(Step {
            kind,
            name: name.clone(),
            what: What::Removed,
            changes: diff(&parse(&record.body)?, &Value::Null),
        }),
        Err(ChangeError::Conflict { found: None, .. }) => Err(missing(kind, name)),
        Err(error) => Err(error.into()),
    }
}

/// All documents, or those of one kind, by kind and name.
pub(crate) async fn all(registry: &dyn Registry, kind: Option<Kind>) -> Result<Vec<Kept>, ApiError> {
    let records = registry
        .records(RecordKind::Document, kind.map(Kind::as_str))
        .await?;
    records.into_iter().map(kept).collect()
}

/// One document.
pub(crate) async fn one(registry: &dyn Registry, kind: Kind, name: &Name) -> Result<Kept, ApiError> {
    kept(find(registry, kind, name).await?)
}

/// What a document was and is, newest first.
pub(crate) async fn versions(
    registry: &dyn Registry,
    kind: Kind,
    name: &Name,
) -> Result<Vec<RecordVersion>, ApiError> {
    let versions = registry
        .versions(RecordKind::Document, &record_name(kind, name))
        .await?;
    if versions.is_empty() {
        return Err(missing(kind, name));
    }
    Ok(versions)
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

    /// What they grant to a user.
    pub(crate) fn grants(&self, user: &Name) -> Result<Vec<Grant>, ApiError> {
        let theirs = self.0.iter().filter(|binding| binding.users.contains(user));
        theirs.map(grant).collect()
    }
}

fn grant(binding: &RoleBinding) -> Result<Grant, ApiError> {
    let some = |names: &BTreeSet<Name>| (!names.is_empty()).then(|| names.clone());
    let role = binding.role.as_str().parse();
    Ok(Grant {
        role: role.map_err(|error: RoleError| ApiError::internal(&error))?,
        projects: some(&binding.projects),
        environments: some(&binding.environments),
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

fn record_name(kind: Kind, name: &Name) -> String {
    format!("{kind}/{name}")
}

fn parse(body: &str) -> Result<Value, ApiError> {
    read(body)
}

fn read<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, ApiError> {
    serde_json::from_str(body)
        .map_err(|error| ApiError::internal(&format!("a document cannot be read: {error}")))
}
