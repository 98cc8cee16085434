//! The documents that a server is made of, read at start and watched: whoever hears of a change begins anew. Entry type:
//! [`Composing`].

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pipekeeper_controller::{Clock as _, Retention};
use pipekeeper_model::{Digest, Name};
use pipekeeper_server::{Composer, Elsewhere, Unusable, Vault, configure};
use pipekeeper_spec::document::{Body, Document, Kind, Others, ValueSource, check_documents};
use pipekeeper_store::{Record, RecordKind, Registry, StoreError};
use tokio::{sync::Notify, time::sleep};
use zeroize::Zeroizing;

use crate::{
    clock::SystemClock,
    config::{Config, Values},
    documents::{self, DocumentFile},
    failure::{Failure, OrFail},
    find::color,
    term::{self, Paint},
};

/// How often is looked for what other servers were told.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long further changes are waited for.
const COALESCE: Duration = Duration::from_secs(1);

/// Set for a server that has begun anew: the folder that it applied before. One that is as it was is not applied again, or
/// servers whose folders differ would make each other begin anew without end.
pub(crate) const FOLDER: &str = "PIPE_KINDS_APPLIED";

/// What this server makes of documents.
pub(super) struct Composing {
    /// As the file alone says.
    config: Config,
    /// What the folder holds.
    folder: Vec<Document>,
    unusable: Mutex<Vec<Unusable>>,
    changed: Notify,
}

/// The documents that a server is made of, and the values that they name.
pub(super) struct Kept {
    documents: Vec<Document>,
    /// Those that this release cannot read.
    unreadable: Vec<Unusable>,
    secrets: BTreeMap<Name, Result<Zeroizing<String>, String>>,
}

impl Composing {
    /// Reads the folder of documents, if there is one, and makes it true; what is wrong with it is told, and leaves everything
    /// as it is kept.
    pub(super) async fn begin(
        config: &Config,
        registry: &dyn Registry,
        vault: &Vault,
    ) -> Result<Self, Failure> {
        let folder = match &config.kinds {
            None => Vec::new(),
            Some(folder) => match read_folder(config, folder, registry).await {
                Ok(documents) => documents,
                Err(failure) => {
                    tracing::error!("the folder `{}` is left out: {failure}", folder.display());
                    Vec::new()
                }
            },
        };
        let own = Self {
            config: config.clone(),
            folder,
            unusable: Mutex::default(),
            changed: Notify::new(),
        };
        let is_applied = env::var(FOLDER).is_ok_and(|digest| digest == own.folder_digest());
        if !own.folder.is_empty() && !is_applied {
            let set = own.folder.clone();
            match configure((registry, vault, &own), set, SystemClock.now()).await {
                Ok(changed) => {
                    for (kind, name) in changed {
                        tracing::info!("{kind}/{name} is now as the folder of documents says");
                    }
                }
                Err(reason) => {
                    tracing::error!("the folder of documents is left out: {reason}");
                    return Ok(Self {
                        folder: Vec::new(),
                        ..own
                    });
                }
            }
        }
        Ok(own)
    }

    /// Stands for the folder as it was read.
    pub(super) fn folder_digest(&self) -> String {
        Digest::of(format!("{:?}", self.folder).as_bytes()).to_string()
    }

    /// The configuration with what is kept, which it notes as far as it cannot be used.
    pub(super) fn compose(&self, kept: &Kept) -> Config {
        let mut config = self.config.clone();
        let mut made = self.config.kept(&kept.documents, kept);
        let mut unusable = std::mem::take(&mut made.unusable);
        unusable.extend(kept.unreadable.iter().cloned());
        made.add_closed(&kept.unreadable);
        for one in &made.projects {
            if let Err(reason) = &one.secret {
                unusable.push(Unusable {
                    kind: Kind::Project,
                    name: one.project.name.clone(),
                    reason: format!("it takes no webhooks: {reason}"),
                });
            }
        }
        config.extend(made);
        // Also of those that cannot be used now.
        let of_projects = kept.documents.iter();
        let of_projects = of_projects.filter_map(|one| retention(&self.config, one));
        config.retention_of = kept.unreadable.is_empty().then(|| of_projects.collect());
        self.note(unusable);
        config
    }

    /// Tells what cannot be used.
    pub(super) fn note(&self, unusable: Vec<Unusable>) {
        let mut all = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        for one in unusable {
            let is_same = |other: &Unusable| {
                (other.kind, &other.name) == (one.kind, &one.name) && other.reason.contains(&one.reason)
            };
            if !all.iter().any(is_same) {
                let Unusable { kind, name, reason } = &one;
                tracing::warn!("{kind}/{name} cannot be used as it is: {reason}");
                all.push(one);
            }
        }
    }

    /// The projects that are known and cannot be used at all, with the reason.
    pub(super) fn left_out(&self, config: &Config) -> Vec<Unusable> {
        let mut unusable = self.unusable();
        let is_used = |name: &Name| config.projects.iter().any(|one| one.project.name == *name);
        unusable.retain(|one| one.kind == Kind::Project && !is_used(&one.name));
        unusable
    }

    /// Resolves once what is kept is something else for good; `reload` says whether a server could begin with its
    /// configuration file as it is now.
    pub(super) async fn outdated(
        &self,
        (registry, vault): (&dyn Registry, &Vault),
        kept: &Kept,
        reload: impl Fn() -> Result<(), Failure>,
    ) {
        loop {
            tokio::select! {
                () = self.changed.notified() => sleep(COALESCE).await,
                () = sleep(LOOK_EVERY) => {}
            }
            match Kept::read(registry, vault).await {
                Ok(now) if !kept.is_outdated_by(&now) => {}
                Ok(_) => match reload() {
                    Ok(()) => return,
                    Err(failure) => {
                        tracing::error!(
                            "changed documents wait for a configuration that can be read: {failure}"
                        );
                    }
                },
                Err(error) => tracing::debug!("cannot look for changed documents: {error}"),
            }
        }
    }
}

/// The documents of the folder; what is wrong with them is told with its place.
async fn read_folder(
    config: &Config,
    folder: &std::path::Path,
    registry: &dyn Registry,
) -> Result<Vec<Document>, Failure> {
    let files = documents::read(&[folder.to_owned()])?;
    let sources: Vec<_> = files.iter().map(DocumentFile::source).collect();
    let kept = registry.records(RecordKind::Document, None).await;
    let kept: Vec<Document> = kept
        .or_fail("read the documents")?
        .iter()
        .filter_map(read)
        .collect();
    let others = Others::Are {
        documents: &kept,
        named: &in_file(config),
    };
    match check_documents(&sources, others) {
        Ok((documents, _)) => Ok(documents),
        Err(found) => {
            for (file, diagnostics) in sources.iter().zip(&found) {
                let rendered = diagnostics.render(file, color(Paint::for_stderr()));
                if !rendered.is_empty() {
                    term::note(rendered.trim_end());
                }
            }
            Err(Failure::usage("its documents have errors"))
        }
    }
}

fn in_file(config: &Config) -> BTreeSet<(Kind, Name)> {
    let projects = config.projects.iter().map(|one| one.project.name.clone());
    let clusters = config.clusters.iter().map(|one| one.options.name.clone());
    projects
        .map(|name| (Kind::Project, name))
        .chain(clusters.map(|name| (Kind::Cluster, name)))
        .collect()
}

/// A document as it is kept; one of another release may be beyond this one.
fn read(record: &Record) -> Option<Document> {
    let document = serde_json::from_str(&record.body);
    document
        .inspect_err(|error| tracing::error!("the document {} cannot be read: {error}", record.name))
        .ok()
}

impl Kept {
    /// Whether something else is kept now. A value that cannot be had at the moment is no news: the one that was read serves on.
    fn is_outdated_by(&self, now: &Self) -> bool {
        let is_news =
            |(name, value): (&Name, &Result<_, _>)| value.is_ok() && self.secrets.get(name) != Some(value);
        self.documents != now.documents || now.secrets.iter().any(is_news)
    }

    pub(super) async fn read(registry: &dyn Registry, vault: &Vault) -> Result<Self, StoreError> {
        let (mut documents, mut unreadable) = (Vec::new(), Vec::new());
        for kind in [Kind::Forge, Kind::Project, Kind::Cluster, Kind::Registry] {
            let records = registry
                .records(RecordKind::Document, Some(kind.as_str()))
                .await?;
            for record in &records {
                match read(record) {
                    Some(document) => documents.push(document),
                    None => unreadable.extend(Unusable::unread(&record.name)),
                }
            }
        }
        let named: BTreeSet<Name> = documents.iter().flat_map(secrets_of).cloned().collect();
        let mut secrets = BTreeMap::new();
        for name in named {
            let value = vault.own(&name).await;
            secrets.insert(name, value);
        }
        Ok(Self {
            documents,
            unreadable,
            secrets,
        })
    }
}

/// The Secrets that the server itself uses for it.
fn secrets_of(document: &Document) -> impl Iterator<Item = &Name> {
    let sources = match &document.body {
        Body::Project(project) => [project.hook_secret.as_ref(), None],
        Body::Forge(forge) => [forge.token.as_ref(), None],
        Body::Registry(registry) => [registry.credentials.as_ref(), None],
        Body::Cluster(cluster) => {
            let store = cluster.object_store.as_ref();
            [cluster.kubeconfig.as_ref(), store.map(|store| &store.secret_key)]
        }
        Body::Environment(_)
        | Body::RoleBinding(_)
        | Body::Secret(_)
        | Body::Notification(_)
        | Body::App(_) => [None, None],
    };
    sources.into_iter().flatten().filter_map(|source| match source {
        ValueSource::Secret(name) => Some(name),
        ValueSource::File(_) => None,
    })
}

impl Values for Kept {
    fn value(&self, source: &ValueSource) -> Option<Result<String, String>> {
        Some(match source {
            ValueSource::Secret(name) => match self.secrets.get(name) {
                Some(value) => value.clone().map(|value| value.to_string()),
                None => Err(format!("there is no Secret `{name}`")),
            },
            ValueSource::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
                Err(error) => Err(format!("`{path}` cannot be read: {error}")),
            },
        })
    }
}

/// Documents are judged whatever their values are.
struct AnyValue;

impl Values for AnyValue {
    fn value(&self, _: &ValueSource) -> Option<Result<String, String>> {
        None
    }
}

impl Composer for Composing {
    fn elsewhere(&self) -> BTreeMap<(Kind, Name), Elsewhere> {
        let folder = self.folder.iter().map(|one| (one.kind(), one.name.clone()));
        let mut all: BTreeMap<_, _> = folder.map(|key| (key, Elsewhere::Folder)).collect();
        all.extend(
            in_file(&self.config)
                .into_iter()
                .map(|key| (key, Elsewhere::File)),
        );
        all
    }

    fn judge(&self, documents: &[Document]) -> Vec<Unusable> {
        self.config.kept(documents, &AnyValue).unusable
    }

    fn unusable(&self) -> Vec<Unusable> {
        self.unusable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn changed(&self) {
        self.changed.notify_one();
    }
}

fn retention(config: &Config, document: &Document) -> Option<(Name, Retention)> {
    let Body::Project(project) = &document.body else {
        return None;
    };
    Some((
        document.name.clone(),
        config.retention.of_project(&project.retention),
    ))
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::Millis;
    use pipekeeper_spec::SourceFile;

    use super::*;
    use crate::config::{Flags, load};

    #[test]
    fn a_project_says_how_long_its_own_things_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, "[retention]\nruns = \"40d\"\nlogs = \"30d\"\n").unwrap();
        let flags = Flags {
            file: Some(file),
            ..Flags::default()
        };
        let config = load(&flags).unwrap();
        let text = "kind: Project\nname: mall\nforge: gogs\nrepository: /mall\nretention: { logs: 365d }\n";
        let source = SourceFile {
            path: "mall.yaml",
            text,
        };
        let (documents, _) = check_documents(&[source], Others::Unknown).unwrap();
        let found = documents.iter().find_map(|one| retention(&config, one));
        let (name, retention) = found.unwrap();
        assert_eq!(name.as_str(), "mall");
        assert_eq!(retention.runs, Millis::days(40));
        assert_eq!(retention.logs, Millis::days(365));
    }
}
