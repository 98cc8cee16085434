//! Whether documents may become what is kept: judged together with it, and with what the server makes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use pipekeeper_model::Name;
use pipekeeper_spec::{
    Diagnostics, Severity, SourceFile,
    document::{Document, Kind, Others, check_documents, check_set},
};
use pipekeeper_store::Registry;

use super::{Origin, documents, record_name};
use crate::{
    Composer, Elsewhere,
    error::{ApiError, Problem},
};

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wrong {
    /// Kind and name.
    title: String,
    /// The key path in it; empty for the document as a whole.
    path: String,
    message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, path, message } = self;
        let dot = if path.is_empty() { "" } else { "." };
        write!(f, "{title}{dot}{path}: {message}")
    }
}

/// Refuses a set that cannot be made true here.
pub(super) fn judge(
    set: &[Document],
    kept: &[Document],
    (composer, origin): (&dyn Composer, Origin),
) -> Result<(), ApiError> {
    let titles: BTreeSet<String> = set.iter().map(title).collect();
    let elsewhere = composer.elsewhere();
    let others = kept.iter().filter(|document| !titles.contains(&title(document)));
    let together: Vec<Document> = set.iter().chain(others).cloned().collect();
    // What is wrong already with others is not this set's to mend.
    let mut before = wrong_of(kept, composer, &elsewhere);
    before.retain(|wrong| !titles.contains(&wrong.title));
    let mut wrong = wrong_of(&together, composer, &elsewhere);
    wrong.retain(|one| !before.contains(one));
    for document in set {
        wrong.extend(ill_shaped(document)?);
        wrong.extend(refused(document, origin, &elsewhere));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let detail: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    Err(ApiError::new(Problem::Unprocessable, detail.join("; "))
        .with_hint("`pipe apply --dry-run offline` checks files"))
}

/// Refuses to let people change what somebody else says.
pub(crate) fn check_changeable((kind, name): (Kind, &Name), composer: &dyn Composer) -> Result<(), ApiError> {
    match composer.elsewhere().get(&(kind, name.clone())) {
        None => Ok(()),
        Some(place) => {
            let detail = format!("{}: {}", record_name(kind, name), place.refusal());
            Err(ApiError::new(Problem::Conflict, detail).with_hint("change it there"))
        }
    }
}

/// Refuses to take away what other documents name.
pub(crate) async fn check_unnamed(
    registry: &dyn Registry,
    (kind, name): (Kind, &Name),
) -> Result<(), ApiError> {
    let kept = documents(registry).await?;
    let is_it = |document: &&Document| document.kind() == kind && document.name == *name;
    let rest: Vec<Document> = kept.iter().filter(|one| !is_it(one)).cloned().collect();
    let before = faults(&kept, &BTreeSet::new());
    let after = faults(&rest, &BTreeSet::new());
    let by: Vec<String> = after
        .difference(&before)
        .map(|wrong| format!("{} (`{}`)", wrong.title, wrong.path))
        .collect();
    if by.is_empty() {
        return Ok(());
    }
    let title = record_name(kind, name);
    let detail = format!("{title} is named by {}", by.join(", "));
    Err(ApiError::new(Problem::Conflict, detail).with_hint("change or delete those first"))
}

fn wrong_of(
    documents: &[Document],
    composer: &dyn Composer,
    elsewhere: &BTreeMap<(Kind, Name), Elsewhere>,
) -> BTreeSet<Wrong> {
    let mut wrong = faults(documents, &elsewhere.keys().cloned().collect());
    wrong.extend(composer.judge(documents).into_iter().map(|unusable| Wrong {
        title: record_name(unusable.kind, &unusable.name),
        path: String::new(),
        message: unusable.reason,
    }));
    wrong
}

/// What is wrong with documents beside which nothing but these names is there.
fn faults(documents: &[Document], named: &BTreeSet<(Kind, Name)>) -> BTreeSet<Wrong> {
    let others = Others::Are {
        documents: &[],
        named,
    };
    let found = check_set(documents, others).into_iter();
    let errors = found.filter(|fault| fault.severity == Severity::Error);
    let wrong = errors.map(|fault| Wrong {
        title: documents.get(fault.document).map(title).unwrap_or_default(),
        path: fault.path,
        message: fault.message,
    });
    wrong.collect()
}

/// What is wrong with the keys of a document, as its text would be told: who sends one need not have checked it.
fn ill_shaped(document: &Document) -> Result<Vec<Wrong>, ApiError> {
    let canonical = document
        .to_canonical()
        .map_err(|error| ApiError::internal(&error))?;
    let (title, text) = (title(document), canonical.to_string());
    let file = SourceFile {
        path: &title,
        text: &text,
    };
    let found = match check_documents(&[file], Others::Unknown) {
        Ok(_) => Vec::new(),
        Err(found) => found,
    };
    let errors = found.iter().flat_map(Diagnostics::iter);
    let errors = errors.filter(|one| one.severity == Severity::Error);
    let wrong = errors.map(|one| Wrong {
        path: one
            .path
            .strip_prefix(&title)
            .unwrap_or(&one.path)
            .trim_start_matches('.')
            .to_owned(),
        title: title.clone(),
        message: one.message.clone(),
    });
    Ok(wrong.collect())
}

/// Why a document is not taken, whatever it says.
fn refused(document: &Document, origin: Origin, elsewhere: &BTreeMap<(Kind, Name), Elsewhere>) -> Vec<Wrong> {
    let wrong = |path: &str, message: String| Wrong {
        title: title(document),
        path: path.to_owned(),
        message,
    };
    let mut found = Vec::new();
    match document.kind() {
        Kind::App => found.push(wrong("", "this server does not sync Apps yet".to_owned())),
        Kind::Cluster
        | Kind::Project
        | Kind::Environment
        | Kind::Forge
        | Kind::Registry
        | Kind::RoleBinding
        | Kind::Secret
        | Kind::Notification => {}
    }
    let place = elsewhere.get(&(document.kind(), document.name.clone()));
    match (origin, place) {
        (Origin::Folder, None | Some(Elsewhere::Folder)) | (Origin::Caller, None) => {}
        (Origin::Folder | Origin::Caller, Some(place)) => found.push(wrong("", place.refusal().to_owned())),
    }
    // A Secret's value is given to the server, whoever brings its document.
    let is_refused =
        |path: &&str| origin == Origin::Caller || (document.kind(), *path) == (Kind::Secret, "file");
    for path in document.machine_files().into_iter().filter(is_refused) {
        let message = if document.kind() == Kind::Secret {
            "no file is read for a Secret; `pipe secret set` takes a value"
        } else {
            "files of the server's machine are named in its folder `kinds` alone"
        };
        found.push(wrong(path, message.to_owned()));
    }
    found
}

fn title(document: &Document) -> String {
    record_name(document.kind(), &document.name)
}
