//! Records and the audit log of a [`MemoryStore`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use pipekeeper_model::Timestamp;

use crate::{
    AuditEntry, AuditFilter, Change, ChangeError, MemoryStore, Record, RecordKind, RecordVersion, Registry,
    StoreError, StoredAudit, registry::each_record_once,
};

#[derive(Debug, Default)]
pub(super) struct Records {
    present: BTreeMap<(RecordKind, String), Record>,
    versions: BTreeMap<(RecordKind, String), Vec<RecordVersion>>,
    audit: Vec<StoredAudit>,
}

impl Records {
    /// Whether there is a record of this kind and name.
    pub(super) fn has(&self, kind: RecordKind, name: &str) -> bool {
        self.present.contains_key(&(kind, name.to_owned()))
    }

    fn change(&mut self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError> {
        each_record_once(&changes)?;
        for change in &changes {
            let present = self.present.get(&(change.kind, change.name.clone()));
            let found = present.map(|record| record.version);
            if !change.expected.fits(found) {
                return Err(ChangeError::Conflict {
                    kind: change.kind,
                    name: change.name.clone(),
                    found,
                });
            }
        }
        changes.into_iter().for_each(|change| self.write(change));
        for entry in audit {
            let id = u64::try_from(self.audit.len()).unwrap_or(u64::MAX) + 1;
            self.audit.push(StoredAudit { id, entry });
        }
        Ok(())
    }

    fn write(&mut self, change: Change) {
        let key = (change.kind, change.name.clone());
        let last = self.versions.get(&key).and_then(|versions| versions.last());
        let last = last.map(|version| version.version);
        let present = self.present.get(&key).map(|record| record.version);
        let version = last.or(present).unwrap_or(0) + 1;
        if change.kind.has_history() {
            self.versions.entry(key.clone()).or_default().push(RecordVersion {
                version,
                body: change.to.as_ref().map(|to| to.body.clone()),
                author: change.author.clone(),
                at: change.at,
            });
        }
        match change.to {
            Some(to) => {
                let record = Record {
                    name: change.name,
                    owner: to.owner,
                    version,
                    body: to.body,
                    author: change.author,
                    at: change.at,
                    expires: to.expires,
                };
                self.present.insert(key, record);
            }
            None => {
                self.present.remove(&key);
            }
        }
    }
}

#[async_trait]
impl Registry for MemoryStore {
    async fn change(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError> {
        self.data()?.records.change(changes, audit)
    }

    async fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, StoreError> {
        let data = self.data()?;
        Ok(data.records.present.get(&(kind, name.to_owned())).cloned())
    }

    async fn records(&self, kind: RecordKind, owner: Option<&str>) -> Result<Vec<Record>, StoreError> {
        let data = self.data()?;
        let all = data.records.present.iter();
        let wanted = all
            .filter(|((found, _), record)| *found == kind && owner.is_none_or(|owner| record.owner == owner));
        Ok(wanted.map(|(_, record)| record.clone()).collect())
    }

    async fn versions(&self, kind: RecordKind, name: &str) -> Result<Vec<RecordVersion>, StoreError> {
        let data = self.data()?;
        let versions = data.records.versions.get(&(kind, name.to_owned()));
        Ok(versions.into_iter().flatten().rev().cloned().collect())
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut data = self.data()?;
        let before = data.records.present.len();
        data.records
            .present
            .retain(|_, record| record.expires.is_none_or(|end| end > now));
        let removed = before - data.records.present.len();
        Ok(u64::try_from(removed).unwrap_or(u64::MAX))
    }

    async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredAudit>, StoreError> {
        let data = self.data()?;
        let shown = data
            .records
            .audit
            .iter()
            .rev()
            .filter(|stored| filter.shows(stored));
        Ok(shown.take(super::to_usize(limit)).cloned().collect())
    }
}
