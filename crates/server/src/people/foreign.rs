//! People whom an issuer knows: found by what it calls them alone, made at their first login, with the groups that it says.

use std::{collections::BTreeSet, net::IpAddr};

use pipekeeper_model::{Actor, Millis, Name, Timestamp};
use pipekeeper_store::{AuditEntry, Change, ChangeError, Expected, NewRecord, RecordKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Caller, People, Proof,
    body::{UserBody, read, write},
    login::refuse_reserved,
    manage::facts,
};
use crate::{
    documents::Bindings,
    error::{ApiError, Problem},
    session,
};

/// How long groups count after they were read.
pub(super) const GROUPS_COUNT: Millis = Millis::minutes(15);
/// Letters of a name that is made of what the issuer says; there is room behind them for a number.
const LONGEST_NAME: usize = 50;
/// Names that are tried for one person.
const TRIES: u32 = 100;

/// Who somebody is for an issuer. Nothing else says who they are here: names and addresses change hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The issuer, to the letter.
    pub(crate) issuer: String,
    /// What it calls them, for ever.
    pub(crate) subject: String,
}

/// What a user's record says of their issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    /// Their groups, as they were read last.
    pub(crate) groups: BTreeSet<String>,
    /// When that was.
    pub(crate) read: Timestamp,
}

/// Somebody who proved to an issuer who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreigner {
    pub(crate) subject: Subject,
    /// What they would like to be called.
    pub(crate) name: Option<String>,
    pub(crate) groups: BTreeSet<String>,
}

/// What becomes of people whom only the issuer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomers {
    /// They become users, without any role of their own.
    Welcome,
    /// They are not let in.
    Refused,
}

impl Subject {
    /// The name of the record that leads to their user.
    pub(super) fn record(&self) -> String {
        let hash = Sha256::new()
            .chain_update(self.issuer.len().to_be_bytes())
            .chain_update(&self.issuer)
            .chain_update(&self.subject);
        hex::encode(hash.finalize())
    }

    /// What makes that record lead to a user.
    pub(super) fn leads_to(&self, user: &Name, author: Actor, now: Timestamp) -> Result<Change, ApiError> {
        Ok(Change {
            kind: RecordKind::Subject,
            name: self.record(),
            expected: Expected::Absent,
            to: Some(NewRecord {
                owner: user.to_string(),
                body: write(self)?,
                expires: None,
            }),
            author,
            at: now,
        })
    }
}

impl Issued {
    /// Whether their groups still count.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.read) < GROUPS_COUNT
    }
}

impl People {
    /// The user whom an issuer's person is; a newcomer becomes one, if they are welcome.
    ///
    /// # Errors
    /// If they may not log in, or others log in as them at the same time.
    pub(crate) async fn by_issuer(
        &self,
        person: &Foreigner,
        newcomers: Newcomers,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        // What is done at the same time by another login of theirs is found at the second look.
        for _ in 0..TRIES {
            let link = self
                .registry
                .record(RecordKind::Subject, &person.subject.record())
                .await?;
            let done = match (link, newcomers) {
                (Some(link), _) => self.come_back(person, &link.owner, (from, now)).await?,
                (None, Newcomers::Welcome) => self.settle(person, (from, now)).await?,
                (None, Newcomers::Refused) => {
                    return Err(
                        ApiError::new(Problem::Forbidden, "no user here is linked to this login")
                            .with_hint("an admin can link one: `pipe user set NAME --subject SUBJECT`"),
                    );
                }
            };
            if let Some(name) = done {
                return self.arrived(&name, (from, now)).await;
            }
        }
        Err(ApiError::new(
            Problem::Conflict,
            "too many people log in under this name at once",
        ))
    }

    /// Notes the groups of somebody who was here before; none if something changed meanwhile.
    async fn come_back(
        &self,
        person: &Foreigner,
        owner: &str,
        (from, now): (Option<IpAddr>, Timestamp),
    ) -> Result<Option<Name>, ApiError> {
        let gone = || ApiError::new(Problem::Unauthorized, "this user may not log in");
        let record = self
            .registry
            .record(RecordKind::User, owner)
            .await?
            .ok_or_else(gone)?;
        let before: UserBody = read("a user", &record.body)?;
        // The user says it too: a record that leads to somebody is not enough to be them.
        let issued = before
            .issued
            .as_ref()
            .filter(|issued| issued.subject == person.subject);
        let known = issued.ok_or_else(gone)?.groups.clone();
        if before.disabled {
            return Err(gone());
        }
        let name: Name = owner.parse().map_err(|error| ApiError::internal(&error))?;
        let after = UserBody {
            issued: Some(Issued {
                subject: person.subject.clone(),
                groups: person.groups.clone(),
                read: now,
            }),
            ..before.clone()
        };
        let change = Change {
            kind: RecordKind::User,
            name: owner.to_owned(),
            expected: Expected::Version(record.version),
            to: Some(NewRecord {
                owner: record.owner,
                body: write(&after)?,
                expires: None,
            }),
            author: record.author,
            at: record.at,
        };
        let entry = (known != person.groups).then(|| -> Result<_, ApiError> {
            Ok(AuditEntry {
                before: Some(write(&facts(before))?),
                after: Some(write(&facts(after))?),
                ..entry("user.groups", &name, (from, now))
            })
        });
        self.made(vec![change], entry.transpose()?.into_iter().collect(), name)
            .await
    }

    /// Makes a user of somebody who was never here; none if something changed meanwhile.
    async fn settle(
        &self,
        person: &Foreigner,
        (from, now): (Option<IpAddr>, Timestamp),
    ) -> Result<Option<Name>, ApiError> {
        let name = self.free_name(person.name.as_deref()).await?;
        let user = UserBody {
            era: session::random()?,
            issued: Some(Issued {
                subject: person.subject.clone(),
                groups: person.groups.clone(),
                read: now,
            }),
            ..UserBody::default()
        };
        let author = Actor::user(name.as_str());
        let changes = vec![
            Change {
                kind: RecordKind::User,
                name: name.to_string(),
                expected: Expected::Absent,
                to: Some(NewRecord {
                    owner: String::new(),
                    body: write(&user)?,
                    expires: None,
                }),
                author: author.clone(),
                at: now,
            },
            person.subject.leads_to(&name, author.clone(), now)?,
        ];
        let added = AuditEntry {
            after: Some(write(&facts(user))?),
            ..entry("user.add", &name, (from, now))
        };
        self.made(changes, vec![added], name).await
    }

    async fn made(
        &self,
        changes: Vec<Change>,
        audit: Vec<AuditEntry>,
        name: Name,
    ) -> Result<Option<Name>, ApiError> {
        match self.registry.change(changes, audit).await {
            Ok(()) => Ok(Some(name)),
            Err(ChangeError::Conflict { .. }) => Ok(None),
            Err(ChangeError::Store(error)) => Err(error.into()),
        }
    }

    async fn arrived(
        &self,
        name: &Name,
        (from, now): (Option<IpAddr>, Timestamp),
    ) -> Result<Caller, ApiError> {
        let known = self.user(name.as_str(), now).await?;
        let known = known.ok_or_else(|| ApiError::new(Problem::Unauthorized, "this user may not log in"))?;
        Ok(Caller {
            from,
            ..known.caller(None, Proof::Session)
        })
    }

    /// A name that stands for nobody yet, in any spelling: what the issuer says of a name gives nobody what is another's.
    async fn free_name(&self, wanted: Option<&str>) -> Result<Name, ApiError> {
        let base = plain(wanted.unwrap_or_default());
        let taken = self.taken_names().await?;
        for number in 1..=TRIES {
            let text = if number == 1 {
                base.clone()
            } else {
                format!("{base}-{number}")
            };
            let name: Name = text.parse().map_err(|error| ApiError::internal(&error))?;
            if !taken.contains(&text.to_ascii_lowercase()) && refuse_reserved(&name).is_ok() {
                return Ok(name);
            }
        }
        Err(
            ApiError::new(Problem::Conflict, format!("too many users are called `{base}`"))
                .with_hint("an admin can make one and link it: `pipe user add NAME --subject SUBJECT`"),
        )
    }

    /// In small letters, the names of those who are here, who were, and whom roles wait for.
    async fn taken_names(&self) -> Result<BTreeSet<String>, ApiError> {
        let mut taken = BTreeSet::new();
        for kind in [RecordKind::User, RecordKind::FormerUser] {
            let records = self.registry.records(kind, None).await?;
            taken.extend(records.iter().map(|record| record.name.to_ascii_lowercase()));
        }
        let bindings = Bindings::read(self.registry.as_ref()).await?;
        taken.extend(bindings.users().map(|name| name.as_str().to_ascii_lowercase()));
        Ok(taken)
    }
}

fn entry(verb: &str, name: &Name, (from, now): (Option<IpAddr>, Timestamp)) -> AuditEntry {
    AuditEntry {
        at: now,
        actor: Actor::user(name.as_str()),
        from: from.map(|address| address.to_string()),
        verb: verb.to_owned(),
        subject: format!("user/{name}"),
        project: None,
        before: None,
        after: None,
        reason: Some("as the issuer says".to_owned()),
    }
}

/// What a name may hold. An address is not cut: who has it elsewhere is another person.
fn plain(wanted: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let text: String = wanted.chars().map(letter).collect();
    let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let text: String = text.chars().take(LONGEST_NAME).collect();
    if text.is_empty() { "user".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::{Subject, plain};

    #[test]
    fn a_name_is_made_of_whatever_the_issuer_says() {
        for (said, name) in [
            ("ann", "ann"),
            ("ann.b@corp.example", "ann.b-corp.example"),
            ("Ann Bär", "Ann-B-r"),
            ("../..", "user"),
            ("", "user"),
            ("@x", "x"),
        ] {
            assert_eq!(plain(said), name, "{said}");
        }
        assert_eq!(plain(&"x".repeat(200)).len(), 50);
    }

    #[test]
    fn no_two_subjects_share_a_record() {
        let subject = |issuer: &str, subject: &str| {
            Subject {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
            }
            .record()
        };
        assert_ne!(subject("https://a", "b"), subject("https://ab", ""));
        assert_ne!(subject("https://a", "b"), subject("https://a", "B"));
        assert_eq!(subject("https://a", "b"), subject("https://a", "b"));
    }
}
