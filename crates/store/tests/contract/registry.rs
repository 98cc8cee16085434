//! Records, their versions, and the audit log.

use pipekeeper_model::{Actor, Name, Timestamp};
use pipekeeper_store::{
    AuditEntry, AuditFilter, Change, ChangeError, Expected, NewRecord, RecordKind, Registry, StoreError,
};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn put(kind: RecordKind, name: &str, expected: Expected, body: &str) -> Change {
    Change {
        kind,
        name: name.to_owned(),
        expected,
        to: Some(NewRecord {
            owner: "own".to_owned(),
            body: body.to_owned(),
            expires: None,
        }),
        author: Actor::user("ann"),
        at: Timestamp(5),
    }
}

fn remove(kind: RecordKind, name: &str, expected: Expected) -> Change {
    Change {
        to: None,
        ..put(kind, name, expected, "")
    }
}

fn entry((actor, verb, subject): (&str, &str, &str)) -> AuditEntry {
    AuditEntry {
        at: Timestamp(7),
        actor: Actor::user(actor),
        from: Some("127.0.0.1".to_owned()),
        verb: verb.to_owned(),
        subject: subject.to_owned(),
        project: None,
        before: Some("{\"a\":1}".to_owned()),
        after: None,
        reason: Some("it's so".to_owned()),
    }
}

pub(crate) async fn a_record_is_made_changed_and_removed_in_versions(store: &impl Registry) -> TestResult {
    let kind = RecordKind::Document;
    let first = put(kind, "a", Expected::Absent, "1");
    store.change(vec![first.clone()], vec![]).await?;
    let conflict = |found| ChangeError::Conflict {
        kind,
        name: "a".to_owned(),
        found,
    };
    assert_eq!(
        store.change(vec![first.clone()], vec![]).await,
        Err(conflict(Some(1)))
    );
    let second = put(kind, "a", Expected::Version(1), "2");
    store.change(vec![second.clone()], vec![]).await?;
    assert_eq!(store.change(vec![second], vec![]).await, Err(conflict(Some(2))));
    let record = store.record(kind, "a").await?.ok_or("it is there")?;
    assert_eq!(
        (record.version, record.body.as_str(), record.owner.as_str()),
        (2, "2", "own")
    );
    assert_eq!(
        (record.author, record.at, record.expires),
        (Actor::user("ann"), Timestamp(5), None)
    );
    store
        .change(vec![remove(kind, "a", Expected::Present)], vec![])
        .await?;
    assert_eq!(store.record(kind, "a").await?, None);
    let gone = store
        .change(vec![remove(kind, "a", Expected::Present)], vec![])
        .await;
    assert_eq!(gone, Err(conflict(None)));
    store.change(vec![first], vec![]).await?;
    let versions: Vec<_> = (store.versions(kind, "a").await?.into_iter())
        .map(|version| (version.version, version.body))
        .collect();
    let body = |text: &str| Some(text.to_owned());
    assert_eq!(
        versions,
        [(4, body("1")), (3, None), (2, body("2")), (1, body("1"))]
    );
    Ok(())
}

pub(crate) async fn kinds_with_secrets_keep_no_history(store: &impl Registry) -> TestResult {
    for kind in [RecordKind::Token, RecordKind::Secret] {
        for body in ["1", "2"] {
            store
                .change(vec![put(kind, "t", Expected::Any, body)], vec![])
                .await?;
        }
        let record = store.record(kind, "t").await?.ok_or("it is there")?;
        assert_eq!((record.version, record.body.as_str()), (2, "2"));
        assert_eq!(store.versions(kind, "t").await?, []);
    }
    Ok(())
}

pub(crate) async fn changes_are_made_together_or_not_at_all(store: &impl Registry) -> TestResult {
    let kind = RecordKind::User;
    store
        .change(vec![put(kind, "ann", Expected::Absent, "1")], vec![])
        .await?;
    let changes = vec![
        put(kind, "bob", Expected::Absent, "1"),
        put(kind, "ann", Expected::Absent, "2"),
    ];
    let entries = vec![entry(("ann", "user.add", "user/bob"))];
    assert!(store.change(changes, entries.clone()).await.is_err());
    assert_eq!(store.record(kind, "bob").await?, None);
    assert_eq!(store.audit(&AuditFilter::default(), 9).await?, []);
    let twice = vec![
        put(kind, "bob", Expected::Any, "1"),
        put(kind, "bob", Expected::Any, "2"),
    ];
    assert!(store.change(twice, entries).await.is_err());
    assert_eq!(store.record(kind, "bob").await?, None);
    Ok(())
}

pub(crate) async fn records_are_listed_by_name_and_owner(store: &impl Registry) -> TestResult {
    let mut other = put(RecordKind::Token, "c", Expected::Any, "{}");
    if let Some(to) = &mut other.to {
        to.owner = "bob".to_owned();
    }
    let own = ["b", "a"].map(|name| put(RecordKind::Token, name, Expected::Any, "{}"));
    let user = put(RecordKind::User, "a", Expected::Any, "{}");
    store
        .change(own.into_iter().chain([other, user]).collect(), vec![])
        .await?;
    let names = async |owner| -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let found = store.records(RecordKind::Token, owner).await?;
        Ok(found.into_iter().map(|record| record.name).collect())
    };
    assert_eq!(names(None).await?, ["a", "b", "c"]);
    assert_eq!(names(Some("own")).await?, ["a", "b"]);
    assert_eq!(names(Some("bob")).await?, ["c"]);
    assert_eq!(names(Some("eve")).await?, [""; 0]);
    Ok(())
}

pub(crate) async fn what_is_over_goes(store: &impl Registry) -> TestResult {
    let ends = |name: &str, at: Option<i64>| {
        let mut change = put(RecordKind::Session, name, Expected::Any, "{}");
        if let Some(to) = &mut change.to {
            to.expires = at.map(Timestamp);
        }
        change
    };
    let changes = vec![
        ends("over", Some(9)),
        ends("later", Some(10)),
        ends("never", None),
    ];
    store.change(changes, vec![]).await?;
    assert_eq!(store.expire(Timestamp(9)).await?, 1);
    assert_eq!(store.expire(Timestamp(9)).await?, 0);
    let left = store.records(RecordKind::Session, None).await?;
    assert_eq!(left.len(), 2);
    assert!(left.iter().any(|record| record.expires == Some(Timestamp(10))));
    Ok(())
}

/// The numbers of the entries that fit, at most nine.
async fn found(store: &impl Registry, filter: AuditFilter) -> Result<Vec<u64>, StoreError> {
    let found = store.audit(&filter, 9).await?;
    Ok(found.into_iter().map(|stored| stored.id).collect())
}

pub(crate) async fn the_audit_log_is_searched_and_paged(store: &impl Registry) -> TestResult {
    let mut entries = [
        ("ann", "gate.approve", "run/5/publish"),
        ("ann", "run.cancel", "run/5"),
        ("bob", "run.cancel", "run/57"),
        ("bob", "user.add", "user/eve"),
    ]
    .map(entry);
    let mall: Name = "mall".parse()?;
    for entry in entries.iter_mut().take(3) {
        entry.project = Some(mall.clone());
    }
    store.change(vec![], entries.to_vec()).await?;
    let all = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let first = AuditFilter {
        before: Some(2),
        ..all()
    };
    let first: Vec<_> = (store.audit(&first, 9).await?.into_iter())
        .map(|stored| stored.entry)
        .collect();
    assert_eq!(first, entries.get(..1).unwrap_or_default());
    assert_eq!(store.audit(&all(), 2).await?.len(), 2);
    let cases = [
        (all(), vec![4, 3, 2, 1]),
        (
            AuditFilter {
                before: Some(3),
                ..all()
            },
            vec![2, 1],
        ),
        (
            AuditFilter {
                actor: text("ann"),
                ..all()
            },
            vec![2, 1],
        ),
        (
            AuditFilter {
                verb: text("run.cancel"),
                ..all()
            },
            vec![3, 2],
        ),
        (
            AuditFilter {
                subject: text("run/5"),
                ..all()
            },
            vec![2, 1],
        ),
        (
            AuditFilter {
                project: Some(mall),
                ..all()
            },
            vec![3, 2, 1],
        ),
    ];
    for (filter, ids) in cases {
        assert_eq!(found(store, filter.clone()).await?, ids, "{filter:?}");
    }
    Ok(())
}
