//! A set of documents: names that are taken, documents that name each other, circles.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::Name;

use super::{
    Body, Document, Environment, Forge, Kind, Project,
    fault::{Fault, Reference, Spot},
    parts::Names,
};
use crate::{
    codes,
    diagnostic::{Code, Severity},
    suggest::did_you_mean,
};

/// What else there is beside a set.
#[derive(Clone, Copy, Debug)]
pub enum Others<'a> {
    /// Nobody knows: what a set does not hold may be on the server.
    Unknown,
    /// These; the set's own replace those of the same kind and name.
    Are {
        /// Documents.
        documents: &'a [Document],
        /// What is there too, though not as documents.
        named: &'a BTreeSet<(Kind, Name)>,
    },
}

impl Others<'_> {
    /// There is nothing else.
    pub const NONE: Self = Self::Are {
        documents: &[],
        named: &NOTHING,
    };
}

static NOTHING: BTreeSet<(Kind, Name)> = BTreeSet::new();

type Key<'a> = (Kind, &'a Name);

/// What is wrong with a set of documents, each of which is well formed.
pub fn check_set(set: &[Document], others: Others<'_>) -> Vec<Fault> {
    let mut faults = doubled(set);
    faults.extend(check_meaning(set, &BTreeSet::new(), others));
    faults
}

/// The same but for doubled names, which the files know better. `broken` are documents that could not be read.
pub(super) fn check_meaning<'a>(
    set: &'a [Document],
    broken: &'a BTreeSet<(Kind, Name)>,
    others: Others<'a>,
) -> Vec<Fault> {
    let (others_are, named): (&[Document], _) = match others {
        Others::Unknown => (&[], &NOTHING),
        Others::Are { documents, named } => (documents, named),
    };
    let mut known: BTreeMap<Key<'_>, &Document> = BTreeMap::new();
    for document in others_are.iter().chain(set) {
        known.insert((document.kind(), &document.name), document);
    }
    let mut view = View {
        known,
        named: broken.union(named).collect(),
        others,
        faults: Vec::new(),
    };
    for (index, document) in set.iter().enumerate() {
        let doubts = document.body.doubts().into_iter();
        view.faults.extend(doubts.map(|doubt| doubt.at(index)));
        for reference in document.body.references() {
            view.look_up(index, reference);
        }
        match &document.body {
            Body::Project(project) => {
                view.check_forge(index, project);
                view.check_settings(index, project);
            }
            Body::Cluster(_) => view.check_name(index, &document.name),
            Body::Environment(_)
            | Body::Forge(_)
            | Body::Registry(_)
            | Body::RoleBinding(_)
            | Body::Secret(_)
            | Body::Notification(_)
            | Body::App(_) => {}
        }
    }
    view.find_circles(set, Kind::Environment);
    view.find_circles(set, Kind::App);
    view.faults
}

fn doubled(set: &[Document]) -> Vec<Fault> {
    let mut seen = BTreeSet::new();
    let again = set
        .iter()
        .enumerate()
        .filter(|(_, document)| !seen.insert((document.kind(), &document.name)));
    again
        .map(|(index, document)| {
            let message = format!("the {} `{}` stands here twice", document.kind(), document.name);
            error(index, codes::SAME_DOCUMENT, Spot::of(&["name"]), message)
        })
        .collect()
}

fn error(document: usize, code: Code, spot: Spot, message: String) -> Fault {
    Fault {
        document,
        code,
        severity: Severity::Error,
        path: spot.path(),
        message,
        help: None,
        spot,
    }
}

struct View<'a> {
    known: BTreeMap<Key<'a>, &'a Document>,
    /// Those of which no more is known.
    named: BTreeSet<&'a (Kind, Name)>,
    others: Others<'a>,
    faults: Vec<Fault>,
}

impl<'a> View<'a> {
    fn look_up(&mut self, index: usize, reference: Reference) {
        let Reference { kind, name, spot } = reference;
        if let Some(found) = self.known.get(&(kind, &name)).copied() {
            return self.check_reach(index, found, spot);
        }
        let key = (kind, name);
        if self.named.contains(&key) {
            return;
        }
        let name = key.1;
        let of_kind = self.known.keys().filter(|(known, _)| *known == kind);
        let near = did_you_mean(name.as_str(), of_kind.map(|(_, name)| name.as_str()));
        let severity = match (self.others, &near) {
            // It may well be on the server.
            (Others::Unknown, None) => return,
            (Others::Unknown, Some(_)) => Severity::Warning,
            (Others::Are { .. }, _) => Severity::Error,
        };
        let message = match severity {
            Severity::Warning => format!("none of these documents is the {kind} `{name}`"),
            Severity::Error => format!("there is no {kind} `{name}`"),
        };
        let help = near.unwrap_or_else(|| format!("add a document with `kind: {kind}` and `name: {name}`"));
        self.faults.push(Fault {
            severity,
            help: Some(help),
            ..error(index, codes::UNKNOWN_DOCUMENT, spot, message)
        });
    }

    /// What the server itself uses is for no action: whoever may change a project's secrets could change it, and its actions read it.
    fn check_reach(&mut self, index: usize, found: &Document, spot: Spot) {
        let Body::Secret(secret) = &found.body else { return };
        if secret.projects.is_empty() && !secret.all_projects {
            return;
        }
        let message = format!(
            "the Secret `{}` is for actions of Projects, and so not for the server itself",
            found.name
        );
        self.faults.push(Fault {
            help: Some("name one without `projects` and `all_projects`".to_owned()),
            ..error(index, codes::KEYS_TOGETHER, spot, message)
        });
    }

    fn forge(&self, name: &Name) -> Option<&'a Forge> {
        match &self.known.get(&(Kind::Forge, name))?.body {
            Body::Forge(forge) => Some(forge),
            Body::Project(_)
            | Body::Environment(_)
            | Body::Cluster(_)
            | Body::Registry(_)
            | Body::RoleBinding(_)
            | Body::Secret(_)
            | Body::Notification(_)
            | Body::App(_) => None,
        }
    }

    fn environment(&self, name: &Name) -> Option<&'a Environment> {
        match &self.known.get(&(Kind::Environment, name))?.body {
            Body::Environment(environment) => Some(environment),
            Body::Project(_)
            | Body::Cluster(_)
            | Body::Forge(_)
            | Body::Registry(_)
            | Body::RoleBinding(_)
            | Body::Secret(_)
            | Body::Notification(_)
            | Body::App(_) => None,
        }
    }

    /// A repository that is no whole address wants a forge that has one, and one without TLS the owner's word.
    fn check_forge(&mut self, index: usize, project: &Project) {
        let Some(forge) = self.forge(&project.forge) else {
            return;
        };
        let repository = &project.repository;
        let is_whole = repository.starts_with('/') || repository.contains("://");
        let has_address = forge.url.is_some() || forge.forge_type.public_url().is_some();
        let (message, help) = if !is_whole && !has_address {
            (
                format!(
                    "`{repository}` is no whole address, and the Forge `{}` has none",
                    project.forge
                ),
                "give the Forge a `url`, or write the whole address here",
            )
        } else if repository.starts_with("http://") && !forge.insecure {
            (
                format!("`{repository}` is not encrypted"),
                "write `https://`, or add `insecure: true` to the Forge if you trust every network on the way",
            )
        } else {
            return;
        };
        self.faults.push(Fault {
            help: Some(help.to_owned()),
            ..error(index, codes::KEYS_TOGETHER, Spot::of(&["repository"]), message)
        });
    }

    /// A project sets what an environment lets it.
    fn check_settings(&mut self, index: usize, project: &Project) {
        for (name, settings) in &project.environments {
            let Some(environment) = self.environment(name) else {
                continue;
            };
            let refused = settings
                .set()
                .filter(|key| !environment.project_may_set.contains(key));
            for key in refused {
                let spot = Spot::of(&["environments", name.as_str(), key.as_str()]);
                let message = format!("the Environment `{name}` lets no project set `{}`", key.as_str());
                self.faults.push(Fault {
                    help: Some(format!(
                        "add `{}` to its `project_may_set`, or remove it here",
                        key.as_str()
                    )),
                    ..error(index, codes::NOT_SETTABLE, spot, message)
                });
            }
        }
    }

    fn check_name(&mut self, index: usize, name: &Name) {
        if name.as_str() == "local" {
            let message = "`local` is the name of the server's own machine".to_owned();
            self.faults.push(Fault {
                help: Some("call the Cluster differently".to_owned()),
                ..error(index, codes::BAD_NAME, Spot::of(&["name"]), message)
            });
        }
    }

    /// Each circle once, at the first document of the set in it.
    fn find_circles(&mut self, set: &[Document], kind: Kind) {
        let mut edges: BTreeMap<Name, Names> = self
            .known
            .iter()
            .filter(|((known, _), _)| *known == kind)
            .map(|((_, name), document)| ((*name).clone(), waits_for(&document.body)))
            .collect();
        for (index, document) in set.iter().enumerate() {
            if document.kind() != kind {
                continue;
            }
            let Some(circle) = circle_from(&document.name, &edges) else {
                continue;
            };
            // What is left may hold further circles, but not this one.
            for name in &circle {
                edges.remove(name);
            }
            let (key, what) = match kind {
                Kind::App => ("depends_on", "Apps"),
                Kind::Environment
                | Kind::Project
                | Kind::Cluster
                | Kind::Forge
                | Kind::Registry
                | Kind::RoleBinding
                | Kind::Secret
                | Kind::Notification => ("after", "Environments"),
            };
            let names: Vec<String> = circle
                .iter()
                .chain(circle.first())
                .map(|name| format!("`{name}`"))
                .collect();
            let message = format!("these {what} wait for each other: {}", names.join(" → "));
            self.faults.push(Fault {
                help: Some(format!("remove one of them from `{key}`")),
                ..error(index, codes::DOCUMENT_CYCLE, Spot::of(&[key]), message)
            });
        }
    }
}

fn waits_for(body: &Body) -> Names {
    match body {
        Body::Environment(environment) => environment.before(),
        Body::App(app) => app.depends_on.clone(),
        Body::Project(_)
        | Body::Cluster(_)
        | Body::Forge(_)
        | Body::Registry(_)
        | Body::RoleBinding(_)
        | Body::Secret(_)
        | Body::Notification(_) => Names::new(),
    }
}

/// The shortest way from a name back to it.
fn circle_from(start: &Name, edges: &BTreeMap<Name, Names>) -> Option<Vec<Name>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let next = way.last().and_then(|last| edges.get(*last));
            for name in next.into_iter().flatten() {
                if name == start {
                    return Some(way.into_iter().cloned().collect());
                }
                if seen.insert(name) {
                    longer.push(way.iter().copied().chain([name]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}
