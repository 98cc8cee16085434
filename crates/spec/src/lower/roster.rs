//! Who is in the file: every entry in the order of the file with its kind and name, before anything is looked up.

use std::{collections::BTreeMap, ops::Range};

use pipekeeper_model::{Name, plan::Section};

use super::name_of;
use crate::{
    codes,
    definition::Target,
    diagnostic::Sink,
    grammar::{DEFINING, Kinds},
    shape::join,
    yaml::Node,
};

/// The entries of a file by number.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub(super) leaves: Vec<Listed>,
    pub(super) groups: Vec<Listed>,
    pub(super) names: BTreeMap<String, Target>,
    /// Whether some entry builds an image, or may.
    pub(super) builds: bool,
    /// The numbers that made-up names have reached.
    numbers: BTreeMap<String, usize>,
}

/// A name whose entry has not been reached yet.
const UNNUMBERED: Target = Target::Group(usize::MAX);

/// One entry of the file.
#[derive(Debug)]
pub(super) struct Listed {
    /// A group without a name of its own has none.
    pub(super) name: Option<Name>,
    pub(super) section: Section,
    pub(super) artifacts: Vec<String>,
    /// The axes of its matrix.
    pub(super) axes: Vec<String>,
    path: String,
    span: Range<usize>,
}

/// What an entry is: the first key that says so.
pub(super) fn kind_of(node: &Node) -> Option<(&'static str, Kinds)> {
    let defining = |(key, kind): &(&'static str, Kinds)| {
        // Beside `promote`, `wait: tag` only says when it ends.
        let is_modifier = *kind == Kinds::WAIT && node.get("promote").is_some();
        node.get(key).is_some() && !is_modifier
    };
    DEFINING.into_iter().find(defining)
}

impl Roster {
    /// Lists the entries and refuses names given twice.
    pub(super) fn read(root: &Node, sink: &mut Sink<'_>) -> Self {
        let mut roster = Self::default();
        roster.given_names(root, sink);
        roster.list(root, "actions", "actions", Section::Main);
        roster.list(root, "finally", "finally", Section::Finally);
        roster.builds |= root.get("include").is_some();
        roster
    }

    /// The name of an entry; `parallel` or `serial` groups without one have their path.
    pub(super) fn name_of(&self, target: Target) -> String {
        let listed = self.listed(target);
        let name = listed.and_then(|listed| listed.name.as_ref());
        name.map_or_else(
            || listed.map(|listed| listed.path.clone()).unwrap_or_default(),
            Name::to_string,
        )
    }

    /// The key path and span of an entry.
    pub(super) fn place_of(&self, target: Target) -> (String, Range<usize>) {
        self.listed(target)
            .map(|listed| (listed.path.clone(), listed.span.clone()))
            .unwrap_or_default()
    }

    /// An entry.
    pub(super) fn listed(&self, target: Target) -> Option<&Listed> {
        match target {
            Target::Leaf(leaf) => self.leaves.get(leaf),
            Target::Group(group) => self.groups.get(group),
        }
    }

    /// Given names come first: a made-up name must not take one that stands further down.
    fn given_names(&mut self, root: &Node, sink: &mut Sink<'_>) {
        let mut seen: BTreeMap<String, Range<usize>> = BTreeMap::new();
        let mut take = |name: &str, path: &str, span: &Range<usize>| {
            if let Some(first) = seen.get(name) {
                let message = format!("the name `{name}` is taken");
                sink.error(codes::DUPLICATE_NAME, path, span, message)
                    .label(first, "first here")
                    .help("names are unique in the whole file, groups and `finally` included");
            } else {
                seen.insert(name.to_owned(), span.clone());
            }
        };
        collect_names(root, "actions", "actions", &mut take);
        collect_names(root, "finally", "finally", &mut take);
        // The entry behind a name is filled in when the lists are numbered.
        self.names = seen.into_keys().map(|name| (name, UNNUMBERED)).collect();
    }

    fn list(&mut self, node: &Node, key: &str, path: &str, section: Section) {
        let Some(list) = node.get(key) else { return };
        for (index, entry) in list.items().iter().enumerate() {
            self.entry(entry, &format!("{path}[{index}]"), section);
        }
    }

    fn entry(&mut self, node: &Node, path: &str, section: Section) {
        let Some((key, kind)) = kind_of(node) else { return };
        let given = node.get("name").and_then(Node::text).and_then(name_of);
        let is_new = |name: &Name| self.names.get(name.as_str()) == Some(&UNNUMBERED);
        let given = given.filter(is_new);
        let steps = node.get("steps").map(Node::items).unwrap_or_default();
        self.builds |=
            matches!(key, "build" | "call") || steps.iter().any(|step| step.get("build").is_some());
        let mut listed = Listed {
            name: given,
            section,
            artifacts: keys(node, "artifacts"),
            axes: keys(node, "matrix"),
            path: path.to_owned(),
            span: node
                .get("name")
                .map_or_else(|| node.head(), |name| name.span.clone()),
        };
        if kind == Kinds::GROUP {
            if let Some(name) = &listed.name {
                self.names
                    .insert(name.to_string(), Target::Group(self.groups.len()));
            }
            self.groups.push(listed);
            self.list(node, key, &join(path, key), section);
        } else {
            let name = listed.name.take().or_else(|| self.made_up(node, key));
            if let Some(name) = &name {
                self.names
                    .insert(name.to_string(), Target::Leaf(self.leaves.len()));
            }
            listed.name = name;
            self.leaves.push(listed);
        }
    }

    /// A name for an entry that has none: after what it names, else counted.
    fn made_up(&mut self, node: &Node, key: &str) -> Option<Name> {
        let subject = node.get(key).and_then(Node::text).unwrap_or_default();
        let (base, first) = match key {
            "promote" | "sync" | "call" if name_of(subject).is_some() => {
                let room = 63 - "promote-".len() - 5;
                let subject: String = subject.chars().take(room).collect();
                (format!("{key}-{subject}"), None)
            }
            "promote" | "sync" | "call" | "approve" | "wait" => (key.to_owned(), Some(1)),
            _ => ("action".to_owned(), Some(1)),
        };
        if first.is_none() && !self.names.contains_key(&base) {
            return name_of(&base);
        }
        let number = self.numbers.entry(base.clone()).or_insert(first.unwrap_or(2));
        loop {
            let name = format!("{base}-{number}");
            *number += 1;
            if !self.names.contains_key(&name) {
                return name_of(&name);
            }
        }
    }
}

fn collect_names(node: &Node, key: &str, path: &str, take: &mut impl FnMut(&str, &str, &Range<usize>)) {
    let Some(list) = node.get(key) else { return };
    for (index, entry) in list.items().iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some((key, kind)) = kind_of(entry) else {
            continue;
        };
        if let Some(name) = entry.get("name")
            && let Some(text) = name.text().filter(|text| name_of(text).is_some())
        {
            take(text, &join(&path, "name"), &name.span);
        }
        if kind == Kinds::GROUP {
            collect_names(entry, key, &join(&path, key), take);
        }
    }
}

fn keys(node: &Node, key: &str) -> Vec<String> {
    let pairs = node.get(key).map(Node::pairs).unwrap_or_default();
    pairs.iter().map(|pair| pair.key.to_string()).collect()
}
