//! From tree to definition: meaning, after the [`shape`] was compared.
//!
//! What is ill-shaped has been reported already; here it is passed over, so that everything else is still checked.
//! Entry: [`lower`].

mod entries;
mod expressions;
mod header;
mod locks;
mod lookups;
mod reuse;
mod roster;
mod timing;
mod work;

use std::collections::BTreeMap;

use pipekeeper_model::{
    Name,
    plan::{FeatureUse, Section},
};

use crate::{
    codes,
    definition::{Action, Definition, OwnedFeature, Owners, Target},
    diagnostic::Sink,
    grammar,
    graph::{self, Cycle, Leaf},
    shape::{self, Site},
    source::SourceFile,
    yaml::Node,
};

use entries::Entries;
use header::Header;
use roster::Roster;

/// The most nodes of one run.
const MAX_NODES: usize = 1_024;

/// Checks what a file means.
pub(crate) fn lower(file: &SourceFile<'_>, root: &Node, sink: &mut Sink<'_>) -> Option<Definition> {
    let found = shape::walk(root, &grammar::FILE, "", sink);
    let header = Header::read(file, root, sink);
    let roster = Roster::read(root, sink);
    let mut entries = Entries::new(&header, &roster, sink);
    let main = entries.list(root, "actions", Section::Main);
    let finally = entries.list(root, "finally", Section::Finally);
    let Lowered {
        mut actions,
        mut features,
        sites,
    } = entries.finish();
    features.extend(found.features.into_iter().map(|used| OwnedFeature {
        owners: owners_of(&used.path),
        used,
    }));
    sort_features(&mut features);
    check_size(root, &actions, sink);
    check_caches(root, &header, &actions, sink);
    let leaves: Vec<Leaf> = actions.iter().map(leaf_of).collect();
    let graph = match graph::draw(&[&main, &finally], &leaves, roster.groups.len()) {
        Ok(graph) => Some(graph),
        Err(cycle) => {
            report_cycle(&cycle, &roster, sink);
            None
        }
    };
    let sites = found
        .sites
        .into_iter()
        .map(|site| (Owner::File, site))
        .chain(sites);
    expressions::check(sites, &header, &roster, graph.as_ref(), file.text, sink);
    if let Some(graph) = &graph {
        locks::check(&actions, graph, &roster, sink);
    }
    for (action, needs) in actions.iter_mut().zip(graph?.needs) {
        action.needs = needs;
    }
    // A file that cannot run has worse news.
    if !sink.has_errors() {
        warn_of_idle_triggers(root, &features, sink);
    }
    Some(Definition {
        name: header.name?,
        file: file.path.to_owned(),
        triggers: header.triggers,
        params: header.params,
        caches: header.caches,
        max_parallel: header.max_parallel,
        on_failure: header.on_failure,
        concurrency: header.concurrency,
        actions,
        main,
        finally,
        features,
    })
}

/// Who uses what a key of the file asks for.
fn owners_of(path: &str) -> Owners {
    let cache = path
        .strip_prefix("caches.")
        .and_then(|rest| rest.rsplit_once('.'));
    match cache.and_then(|(name, _)| name_of(name)) {
        Some(cache) => Owners::Cache(cache),
        None => Owners::Pipeline,
    }
}

/// What the entries came to.
pub(super) struct Lowered {
    actions: Vec<Action>,
    features: Vec<OwnedFeature>,
    sites: Vec<(Owner, Site)>,
}

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    File,
    Entry(Target),
}

/// A name, if the text is one.
pub(super) fn name_of(text: &str) -> Option<Name> {
    text.parse().ok()
}

/// The texts of a value that is one text or a list of them.
pub(super) fn texts(node: Option<&Node>) -> Vec<String> {
    let items = node.map(Node::items).unwrap_or_default();
    items.iter().filter_map(Node::text).map(str::to_owned).collect()
}

/// The texts of a mapping from names to texts.
pub(super) fn text_map(node: Option<&Node>) -> BTreeMap<String, String> {
    let pairs = node.map(Node::pairs).unwrap_or_default();
    pairs
        .iter()
        .filter_map(|pair| Some((pair.key.to_string(), pair.value.text()?.to_owned())))
        .collect()
}

/// A text under a key.
pub(super) fn text(node: &Node, key: &str) -> Option<String> {
    node.get(key)?.text().map(str::to_owned)
}

fn leaf_of(action: &Action) -> Leaf {
    Leaf {
        uses: match action.node.section {
            Section::Main => action.uses.iter().map(|(from, _)| *from).collect(),
            // Entries under `finally` start after everything else anyway.
            Section::Finally => Vec::new(),
        },
        judges: action
            .node
            .conditions
            .iter()
            .any(|condition| condition.judges_outcomes),
    }
}

fn sort_features(features: &mut Vec<OwnedFeature>) {
    let key = |used: &FeatureUse| (used.place, used.feature);
    features.sort_by_key(|feature| key(&feature.used));
    features.dedup_by(|a, b| a.used == b.used);
}

fn check_size(root: &Node, actions: &[Action], sink: &mut Sink<'_>) {
    let cells = |action: &Action| {
        let axes = action.matrix.iter().map(|(_, values)| values.len().max(1));
        axes.fold(1, usize::saturating_mul)
    };
    let nodes = actions.iter().map(cells).fold(0, usize::saturating_add);
    if nodes > MAX_NODES
        && let Some(pair) = root.pair("actions")
    {
        let message = format!("the pipeline has {nodes} nodes, and a run has at most {MAX_NODES}");
        sink.error(codes::TOO_MANY_NODES, "actions", &pair.key_span, message)
            .help("matrix cells count one by one; split the pipeline or make the matrix smaller");
    }
}

fn check_caches(root: &Node, header: &Header, actions: &[Action], sink: &mut Sink<'_>) {
    let caches = root.get("caches").map(Node::pairs).unwrap_or_default();
    for pair in caches {
        let is_used = actions.iter().any(|action| action.has_cache(&pair.key));
        let is_known = header.caches.keys().any(|name| name.as_str() == &*pair.key);
        if is_known && !is_used {
            sink.warning(
                codes::UNUSED_CACHE,
                &shape::join("caches", &pair.key),
                &pair.key_span,
                format!("no action uses the cache `{}`", pair.key),
            )
            .help(format!("write `cache: [{}]` where it is wanted", pair.key));
        }
    }
}

fn warn_of_idle_triggers(root: &Node, features: &[OwnedFeature], sink: &mut Sink<'_>) {
    let triggers = root.get("on").map(Node::pairs).unwrap_or_default();
    for pair in triggers {
        let path = shape::join("on", &pair.key);
        let is_idle =
            |feature: &OwnedFeature| feature.used.feature.is_trigger() && feature.used.feature.key() == path;
        if features.iter().any(is_idle) {
            sink.warning(
                codes::IDLE_TRIGGER,
                &path,
                &pair.key_span,
                format!("`{path}` starts nothing in this version"),
            )
            .help("pushes, tags and people start runs");
        }
    }
}

fn report_cycle(cycle: &Cycle, roster: &Roster, sink: &mut Sink<'_>) {
    let names: Vec<String> = cycle
        .0
        .iter()
        .chain(cycle.0.first())
        .map(|target| format!("`{}`", roster.name_of(*target)))
        .collect();
    let spans = cycle.0.first().map(|target| roster.place_of(*target));
    let (path, span) = spans.unwrap_or_default();
    let message = format!("these entries wait for each other: {}", names.join(" → "));
    sink.error(codes::CYCLE, &path, &span, message).help(
        "remove one of the `needs`, or move an entry; without `needs` an entry waits for all before it",
    );
}
