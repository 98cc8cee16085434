//! Secrets as people change them: set, listed, bound otherwise, removed. No value ever comes back.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_access::{Place, Projects, Verb};
use pipekeeper_model::{EventKind, Name, Patterns, Timestamp};
use pipekeeper_spec::document::{Body, Document, Kind, Secret, SecretTier};
use pipekeeper_store::{AuditEntry, Change, Expected, NewRecord, Record, RecordKind};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    Entry, Kept, Vault, VaultError,
    envelope::{self, Label},
    keys::{KeyError, KeyFile, Ring},
    text_of,
};
use crate::{
    documents::{check_unnamed, record_name},
    error::{ApiError, Problem},
    people::Caller,
};

/// Bytes of a value.
const LONGEST: usize = 64 * 1024;

/// A secret that somebody sets. Bindings that are left out stay as they are.
pub(crate) struct SecretWish {
    pub(crate) name: Name,
    pub(crate) project: Option<Name>,
    pub(crate) environment: Option<Name>,
    pub(crate) events: Option<BTreeSet<EventKind>>,
    pub(crate) tiers: Option<BTreeSet<SecretTier>>,
    pub(crate) images: Option<Vec<String>>,
}

/// A secret was set.
#[derive(Debug, Serialize)]
pub(crate) struct SecretSet {
    #[serde(flatten)]
    view: SecretView,
    /// The file of the first master key, if it was made now.
    made_key_file: Option<String>,
}

/// What may be known of a secret.
#[derive(Debug, Serialize)]
pub(crate) struct SecretView {
    /// Its document's name.
    name: Name,
    /// What pipelines call it.
    known_as: Name,
    bindings: Secret,
    /// Its value, as far as that may be known; none as long as nobody set it.
    value: Option<ValueView>,
}

/// What may be known of a value.
#[derive(Debug, Serialize)]
struct ValueView {
    version: u64,
    by: String,
    set: Timestamp,
    used: Option<Timestamp>,
    key: String,
}

impl SecretWish {
    /// The document that is meant: a project's and an environment's secret of a name have names of their own.
    fn id(&self) -> Result<Name, ApiError> {
        let parts = [self.project.as_ref(), self.environment.as_ref(), Some(&self.name)];
        let id = parts
            .into_iter()
            .flatten()
            .map(Name::as_str)
            .collect::<Vec<_>>()
            .join(".");
        id.parse().map_err(|_| {
            ApiError::new(Problem::Unprocessable, format!("`{id}` is too long for a name")).with_hint(
                "apply a Secret with a short `name` and `known_as`, and set the value of that name",
            )
        })
    }

    /// Where it may be used from now on.
    fn bindings(&self, id: &Name, before: Option<&Secret>) -> Result<Secret, ApiError> {
        let known_as = (*id != self.name).then(|| self.name.clone());
        let mut bindings = match before {
            Some(before) => before.clone(),
            None => Secret {
                file: None,
                known_as: known_as.clone(),
                projects: self.project.iter().cloned().collect(),
                all_projects: self.project.is_none(),
                environments: self.environment.iter().cloned().collect(),
                events: BTreeSet::new(),
                tiers: BTreeSet::from([SecretTier::Protected]),
                images: Patterns::default(),
            },
        };
        let is_meant = bindings.known_as == known_as
            && self.project.iter().all(|name| bindings.projects.contains(name))
            && self
                .environment
                .iter()
                .all(|name| bindings.environments.contains(name));
        if known_as.is_some() && !is_meant {
            let detail = format!("the Secret `{id}` is bound otherwise");
            return Err(ApiError::new(Problem::Conflict, detail)
                .with_hint("`pipe secret list` shows it; without `--project` its own name sets its value"));
        }
        if let Some(events) = &self.events {
            bindings.events.clone_from(events);
        }
        if let Some(tiers) = self.tiers.as_ref().filter(|tiers| !tiers.is_empty()) {
            bindings.tiers.clone_from(tiers);
        }
        if let Some(images) = &self.images {
            bindings.images = images.clone().into();
        }
        Ok(bindings)
    }
}

impl Vault {
    /// Sets a value.
    pub(crate) async fn set(
        &self,
        caller: &Caller,
        (wish, value): (SecretWish, Zeroizing<String>),
        projects: &[Name],
        now: Timestamp,
    ) -> Result<SecretSet, ApiError> {
        check_value(&value)?;
        check_images(wish.images.as_deref().unwrap_or_default())?;
        let id = wish.id()?;
        let document = self.document(&id).await?;
        let before = document.as_ref().map(|(_, secret)| secret);
        match before {
            Some(before) if knows(caller, before) => permit(caller, before)?,
            // For whoever may not know of it, it is as if there were none.
            Some(_) => {
                permit(caller, &wish.bindings(&id, None)?)?;
                return Err(missing(&id));
            }
            None => {}
        }
        let bindings = wish.bindings(&id, before)?;
        permit(caller, &bindings)?;
        if let Some(unknown) = bindings.projects.iter().find(|name| !projects.contains(name)) {
            return Err(ApiError::not_found(format!("there is no project `{unknown}`")));
        }
        let _steady = self.steady().await?;
        let (ring, made) = self.ring_to_seal().await?;
        let record = self.registry.record(RecordKind::Secret, id.as_str()).await?;
        let kept = record.map(Kept::read).transpose()?;
        let entry = self.seal(&ring, &id, &bindings, (kept.as_ref(), &value), (caller, now))?;
        // Also one that stays as it is: what was read of it must still be so when the value is sealed for it.
        let changes = vec![
            document_change(caller, &id, (document.as_ref(), &bindings), now)?,
            entry_change(caller, &id, (kept.as_ref(), &entry), now)?,
        ];
        let old = before
            .zip(kept.as_ref())
            .map(|(bound, kept)| summary(bound, kept.entry.version));
        let audit = AuditEntry {
            before: old.map(|old| old.to_string()),
            after: Some(summary(&bindings, entry.version).to_string()),
            ..audit(caller, "secret.set", (&id, &bindings), now)
        };
        self.registry.change(changes, vec![audit]).await?;
        Ok(SecretSet {
            view: view(id, bindings, Some(&entry)),
            made_key_file: made,
        })
    }

    /// The secrets that somebody may know of, by name.
    pub(crate) async fn list(&self, caller: &Caller) -> Result<Vec<SecretView>, ApiError> {
        let mut values = BTreeMap::new();
        for record in self.registry.records(RecordKind::Secret, None).await? {
            let kept = Kept::read(record)?;
            values.insert(kept.name, kept.entry);
        }
        let kind = Some(Kind::Secret.as_str());
        let mut views = Vec::new();
        for record in self.registry.records(RecordKind::Document, kind).await? {
            let (name, secret) = read_document(&record)?;
            if knows(caller, &secret) {
                let entry = values.get(name.as_str());
                views.push(view(name, secret, entry));
            }
        }
        Ok(views)
    }

    /// Removes a secret with its document.
    pub(crate) async fn remove(
        &self,
        caller: &Caller,
        wish: &SecretWish,
        now: Timestamp,
    ) -> Result<SecretView, ApiError> {
        let id = wish.id()?;
        let found = self.document(&id).await?;
        let found = found.filter(|(_, secret)| knows(caller, secret));
        let (record, secret) = found.ok_or_else(|| missing(&id))?;
        permit(caller, &secret)?;
        check_unnamed(self.registry.as_ref(), (Kind::Secret, &id)).await?;
        let changes = vec![
            Change {
                expected: Expected::Version(record.version),
                ..removal(caller, (RecordKind::Document, record.name), now)
            },
            removal(caller, (RecordKind::Secret, id.to_string()), now),
        ];
        let audit = AuditEntry {
            before: Some(summary_text(&secret)?),
            ..audit(caller, "secret.remove", (&id, &secret), now)
        };
        self.registry.change(changes, vec![audit]).await?;
        Ok(view(id, secret, None))
    }

    /// What seals a value anew that is sealed for something else than its document says, or is about to; none if there is
    /// none such.
    pub(crate) async fn rebound(&self, id: &Name, bindings: &Secret) -> Result<Option<Change>, ApiError> {
        let Some(record) = self.registry.record(RecordKind::Secret, id.as_str()).await? else {
            return Ok(None);
        };
        let kept = Kept::read(record)?;
        if kept.entry.bindings == *bindings {
            return Ok(None);
        }
        let value = self.open(&kept).await?;
        let ring = self.ring().await?;
        let text = text_of(bindings)?;
        let label = Label {
            bindings: &text,
            ..kept.label("")
        };
        let entry = Entry {
            bindings: bindings.clone(),
            sealed: envelope::seal(current(&ring, self)?, label, &value).map_err(VaultError::from)?,
            ..kept.entry.clone()
        };
        let mut change = kept.change(&entry)?;
        if let Some(to) = &mut change.to {
            to.owner = known_as(id, bindings).to_string();
        }
        Ok(Some(change))
    }

    /// What removes the value of a document that is about to go.
    pub(crate) fn removal(caller: &Caller, id: &Name, now: Timestamp) -> Change {
        removal(caller, (RecordKind::Secret, id.to_string()), now)
    }

    async fn document(&self, id: &Name) -> Result<Option<(Record, Secret)>, ApiError> {
        let name = record_name(Kind::Secret, id);
        let record = self.registry.record(RecordKind::Document, &name).await?;
        let read = |record: Record| Ok((read_document(&record)?.1, record));
        let found = record.map(read).transpose();
        found.map(|found: Option<(Secret, Record)>| found.map(|(secret, record)| (record, secret)))
    }

    /// The keys; the first one is made if nothing is sealed yet.
    pub(super) async fn ring_to_seal(&self) -> Result<(Ring, Option<String>), ApiError> {
        match self.ring().await {
            Ok(ring) => Ok((ring, None)),
            Err(VaultError::Key(missing @ KeyError::Missing { .. })) => {
                // With another key nothing of what is there could be opened again.
                if !self.registry.records(RecordKind::Secret, None).await?.is_empty() {
                    return Err(VaultError::Key(missing).into());
                }
                let ring = self.with_keys(KeyFile::make).await?;
                let path = self.keys.path().display().to_string();
                tracing::warn!(
                    "made the master key of secrets in `{path}`: keep a copy apart from the database"
                );
                Ok((ring, Some(path)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn seal(
        &self,
        ring: &Ring,
        id: &Name,
        bindings: &Secret,
        (kept, value): (Option<&Kept>, &str),
        (caller, now): (&Caller, Timestamp),
    ) -> Result<Entry, VaultError> {
        let version = kept.map_or(0, |kept| kept.entry.version) + 1;
        let text = text_of(bindings)?;
        let label = Label {
            name: id.as_str(),
            bindings: &text,
            version,
        };
        Ok(Entry {
            bindings: bindings.clone(),
            version,
            sealed: envelope::seal(current(ring, self)?, label, value)?,
            by: caller.actor(),
            set: now,
            used: kept.and_then(|kept| kept.entry.used),
        })
    }
}

fn current<'r>(ring: &'r Ring, vault: &Vault) -> Result<&'r super::keys::MasterKey, VaultError> {
    ring.current().ok_or_else(|| {
        VaultError::Key(KeyError::Missing {
            path: vault.keys.path().to_owned(),
        })
    })
}

fn check_value(value: &str) -> Result<(), ApiError> {
    let wrong = |detail: &str| Err(ApiError::new(Problem::Unprocessable, detail));
    match value {
        "" => wrong("the value is empty"),
        value if value.len() > LONGEST => wrong("the value has more than 64 KiB"),
        value if value.contains('\0') => wrong("the value has a NUL character, which no variable can hold"),
        _ => Ok(()),
    }
}

/// A pattern that cannot be read would be left out, and what it was to keep away let in.
fn check_images(images: &[String]) -> Result<(), ApiError> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-/:@*".contains(c);
    match images
        .iter()
        .find(|image| image.is_empty() || !image.chars().all(is_part))
    {
        None => Ok(()),
        Some(wrong) => Err(
            ApiError::new(Problem::Unprocessable, format!("`{wrong}` is no image"))
                .with_hint("write it like `registry.example.org/tools/npm`; `*` stands for a part of it"),
        ),
    }
}

/// Whoever changes a secret must be allowed to wherever it is used.
fn permit(caller: &Caller, secret: &Secret) -> Result<(), ApiError> {
    if secret.all_projects || secret.projects.is_empty() {
        return caller.check(Verb::ChangeSecrets, Place::SERVER);
    }
    let mut projects = secret.projects.iter();
    projects.try_for_each(|project| caller.check(Verb::ChangeSecrets, Place::project(project)))
}

fn missing(id: &Name) -> ApiError {
    ApiError::not_found(format!("there is no secret `{id}`"))
        .with_hint("`pipe secret list` shows what there is")
}

/// Whether somebody may know that there is this secret.
pub(crate) fn knows(caller: &Caller, secret: &Secret) -> bool {
    match caller.principal.projects(Verb::ReadSecrets) {
        Projects::All => true,
        Projects::Only(own) => !own.is_empty() && (secret.all_projects || !secret.projects.is_disjoint(&own)),
    }
}

fn known_as(id: &Name, secret: &Secret) -> Name {
    secret.known_as.clone().unwrap_or_else(|| id.clone())
}

fn read_document(record: &Record) -> Result<(Name, Secret), ApiError> {
    let read: Result<Document, _> = serde_json::from_str(&record.body);
    match read.map(|document| (document.name, document.body)) {
        Ok((name, Body::Secret(secret))) => Ok((name, *secret)),
        Ok((name, body)) => Err(ApiError::internal(&format!("`{name}` is a {}", body.kind()))),
        Err(error) => Err(ApiError::internal(&format!("a Secret cannot be read: {error}"))),
    }
}

fn document_change(
    caller: &Caller,
    id: &Name,
    (before, bindings): (Option<&(Record, Secret)>, &Secret),
    now: Timestamp,
) -> Result<Change, ApiError> {
    let document = Document {
        name: id.clone(),
        body: Body::Secret(Box::new(bindings.clone())),
    };
    let body = document
        .to_canonical()
        .map_err(|error| ApiError::internal(&error))?;
    let expected = before.map_or(Expected::Absent, |(record, _)| Expected::Version(record.version));
    let same = before.filter(|(_, before)| before == bindings);
    let (author, at) = same.map_or((caller.actor(), now), |(record, _)| {
        (record.author.clone(), record.at)
    });
    Ok(Change {
        expected,
        author,
        at,
        to: Some(NewRecord {
            owner: Kind::Secret.as_str().to_owned(),
            body: body.to_string(),
            expires: None,
        }),
        ..removal(caller, (RecordKind::Document, record_name(Kind::Secret, id)), now)
    })
}

fn entry_change(
    caller: &Caller,
    id: &Name,
    (before, entry): (Option<&Kept>, &Entry),
    now: Timestamp,
) -> Result<Change, VaultError> {
    let expected = before.map_or(Expected::Absent, |kept| Expected::Version(kept.record.version));
    Ok(Change {
        expected,
        to: Some(NewRecord {
            owner: known_as(id, &entry.bindings).to_string(),
            body: serde_json::to_string(entry).map_err(VaultError::Entry)?,
            expires: None,
        }),
        ..removal(caller, (RecordKind::Secret, id.to_string()), now)
    })
}

fn removal(caller: &Caller, (kind, name): (RecordKind, String), now: Timestamp) -> Change {
    Change {
        kind,
        name,
        expected: Expected::Any,
        to: None,
        author: caller.actor(),
        at: now,
    }
}

fn view(name: Name, bindings: Secret, entry: Option<&Entry>) -> SecretView {
    SecretView {
        known_as: known_as(&name, &bindings),
        name,
        bindings,
        value: entry.map(|entry| ValueView {
            version: entry.version,
            by: entry.by.to_string(),
            set: entry.set,
            used: entry.used,
            key: entry.sealed.key.clone(),
        }),
    }
}

fn summary(bindings: &Secret, version: u64) -> Value {
    json!({ "bindings": bindings, "version": version })
}

fn summary_text(bindings: &Secret) -> Result<String, ApiError> {
    serde_json::to_string(bindings).map_err(|error| ApiError::internal(&error))
}

fn audit(caller: &Caller, verb: &str, (id, bindings): (&Name, &Secret), now: Timestamp) -> AuditEntry {
    let mut projects = bindings.projects.iter();
    AuditEntry {
        project: projects.next().filter(|_| projects.next().is_none()).cloned(),
        ..caller.audit(verb, format!("secret/{id}"), now)
    }
}
