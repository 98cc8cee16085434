//! Files of documents: the way in for everybody who has their texts.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
};

use pipekeeper_model::Name;

use super::{Document, Fault, Kind, Others, fault::Spot, read, set};
use crate::{
    codes,
    diagnostic::{Diagnostics, Severity, Sink},
    dialect::Dialect,
    grammar::Text,
    shape,
    source::SourceFile,
    suggest::did_you_mean,
    yaml::{self, Node, Value},
};

/// Checks files of documents together: the documents and the warnings of each file, or everything that is wrong with each.
pub fn check_documents(
    files: &[SourceFile<'_>],
    others: Others<'_>,
) -> Result<(Vec<Document>, Vec<Diagnostics>), Vec<Diagnostics>> {
    let mut sinks: Vec<Sink<'_>> = files
        .iter()
        .map(|file| Sink::new(file, Dialect::Documents))
        .collect();
    let mut found = Found::default();
    for (index, (file, sink)) in files.iter().zip(&mut sinks).enumerate() {
        for node in yaml::load_all(file, sink).unwrap_or_default() {
            found.take(index, node, sink);
        }
    }
    report_doubled(files, &found.named, &mut sinks);
    for fault in set::check_meaning(&found.documents, &found.broken, others) {
        if let Some(one) = found.whole.get(fault.document)
            && let Some(sink) = sinks.get_mut(one.file)
        {
            report(&fault, one, sink);
        }
    }
    let diagnostics: Vec<Diagnostics> = sinks.into_iter().map(Sink::finish).collect();
    if diagnostics.iter().any(Diagnostics::has_errors) {
        Err(diagnostics)
    } else {
        Ok((found.documents, diagnostics))
    }
}

/// What files hold.
#[derive(Default)]
struct Found {
    documents: Vec<Document>,
    /// Where these documents are, in the same order.
    whole: Vec<Placed>,
    /// Every document that has a kind and a name, readable or not.
    named: Vec<Named>,
    /// Those that could not be read.
    broken: BTreeSet<(Kind, Name)>,
}

/// A document's tree in its file.
struct Placed {
    file: usize,
    /// What key paths begin with, such as `Environment/prod`.
    prefix: String,
    node: Node,
}

/// Where a document says its name.
struct Named {
    file: usize,
    kind: Kind,
    name: Name,
    prefix: String,
    span: Range<usize>,
}

impl Found {
    fn take(&mut self, file: usize, node: Node, sink: &mut Sink<'_>) {
        let before = sink.errors();
        let Value::Map(pairs) = &node.value else {
            let message = format!("a document is a mapping of keys, not {}", node.describe());
            sink.error(codes::WRONG_TYPE, "", &node.head(), message);
            return;
        };
        let kind = kind_of(&node, sink);
        let name = name_of(&node, kind, sink);
        let Some(kind) = kind else { return };
        let prefix = match &name {
            Some(name) => format!("{kind}/{name}"),
            None => kind.to_string(),
        };
        let own = pairs.iter().filter(|pair| !matches!(&*pair.key, "kind" | "name"));
        let body = Node {
            span: node.span.clone(),
            value: Value::Map(Rc::new(own.cloned().collect())),
        };
        shape::walk(&body, kind.keys(), &prefix, sink);
        let Some(name) = name else { return };
        if let Some(pair) = node.pair("name") {
            self.named.push(Named {
                file,
                kind,
                name: name.clone(),
                prefix: prefix.clone(),
                span: pair.value.span.clone(),
            });
        }
        let document = (sink.errors() == before).then(|| read::read(kind, &name, &body));
        match document {
            Some(Ok(document)) => {
                self.documents.push(document);
                self.whole.push(Placed { file, prefix, node });
            }
            Some(Err(error)) => {
                let message = format!("the document cannot be read: {error}");
                sink.error(codes::WRONG_TYPE, &prefix, &node.head(), message);
                self.broken.insert((kind, name));
            }
            None => {
                self.broken.insert((kind, name));
            }
        }
    }
}

fn kind_of(node: &Node, sink: &mut Sink<'_>) -> Option<Kind> {
    let all = Kind::ALL.iter().map(|kind| kind.as_str());
    let list = all.clone().collect::<Vec<_>>().join("`, `");
    let Some(pair) = node.pair("kind") else {
        sink.error(
            codes::MISSING_KEY,
            "",
            &node.head(),
            "a document needs the key `kind`",
        )
        .help(format!("there is `{list}`"));
        return None;
    };
    let text = pair.value.text().unwrap_or_default();
    let kind = text.parse().ok();
    if kind.is_none() {
        // People write kinds in small letters, too.
        let same = Kind::ALL
            .iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        let help = same
            .map(|kind| format!("did you mean `{kind}`?"))
            .or_else(|| did_you_mean(text, all))
            .unwrap_or_else(|| format!("there is `{list}`"));
        sink.error(
            codes::UNKNOWN_KIND,
            "kind",
            &pair.value.span,
            format!("`{text}` is no kind of document"),
        )
        .help(help);
    }
    kind
}

fn name_of(node: &Node, kind: Option<Kind>, sink: &mut Sink<'_>) -> Option<Name> {
    let path = match kind {
        Some(kind) => format!("{kind}.name"),
        None => "name".to_owned(),
    };
    let Some(pair) = node.pair("name") else {
        sink.error(
            codes::MISSING_KEY,
            &path,
            &node.head(),
            "a document needs the key `name`",
        )
        .help("add `name:` — what other documents call it");
        return None;
    };
    let text = pair.value.text().unwrap_or_default();
    if let Err(misfit) = Text::Name.check(text) {
        sink.error(misfit.code, &path, &pair.value.span, misfit.message)
            .maybe_help(misfit.help);
    }
    text.parse().ok()
}

fn report_doubled(files: &[SourceFile<'_>], named: &[Named], sinks: &mut [Sink<'_>]) {
    let mut first: BTreeMap<(Kind, &Name), &Named> = BTreeMap::new();
    for one in named {
        let Some(earlier) = first.get(&(one.kind, &one.name)) else {
            first.insert((one.kind, &one.name), one);
            continue;
        };
        let Some(sink) = sinks.get_mut(one.file) else {
            continue;
        };
        let path = format!("{}.name", one.prefix);
        if earlier.file == one.file {
            let message = format!("the {} `{}` stands here twice", one.kind, one.name);
            sink.error(codes::SAME_DOCUMENT, &path, &one.span, message)
                .label(&earlier.span, "first here")
                .help("rename one of the two, or remove it");
        } else {
            let other = files.get(earlier.file).map_or("another file", |file| file.path);
            let message = format!("the {} `{}` stands in `{other}` too", one.kind, one.name);
            sink.error(codes::SAME_DOCUMENT, &path, &one.span, message)
                .help("rename one of the two, or remove it");
        }
    }
}

fn report(fault: &Fault, one: &Placed, sink: &mut Sink<'_>) {
    let span = span_of(&fault.spot, &one.node);
    let path = shape::join(&one.prefix, &fault.path);
    let path = path.trim_end_matches('.');
    let draft = match fault.severity {
        Severity::Error => sink.error(fault.code, path, &span, fault.message.clone()),
        Severity::Warning => sink.warning(fault.code, path, &span, fault.message.clone()),
    };
    draft.maybe_help(fault.help.clone());
}

/// The place of a spot, or of the nearest key around it that is there.
fn span_of(spot: &Spot, node: &Node) -> Range<usize> {
    let mut span = node.head();
    let mut at = node;
    for key in &spot.keys {
        let Some(pair) = at.pair(key) else { return span };
        span = pair.key_span.clone();
        at = &pair.value;
    }
    let Some(word) = &spot.word else { return span };
    let item = at.items().iter().find(|item| item.text() == Some(word));
    let key = || at.pair(word).map(|pair| &pair.key_span);
    item.map(|item| &item.span).or_else(key).unwrap_or(&span).clone()
}
