//! The keys of the file but for its entries: name, triggers, parameters, caches, concurrency.

use std::collections::BTreeMap;

use pipekeeper_expr::Type;
use pipekeeper_model::{
    Name, Param, ParamKind, ParamValue, Patterns,
    plan::{Cache, CacheKey, CacheMode, Concurrency, ConcurrencyScope, OnFailure, OnNew, Shell},
};

use super::{name_of, text, text_map, texts, work::shell_of};
use crate::{
    codes,
    definition::FixedText,
    diagnostic::Sink,
    shape::join,
    source::SourceFile,
    triggers::{CronTrigger, MergeRequestTrigger, PushTrigger, Triggers},
    yaml::Node,
};

/// The file without its entries.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: Option<Name>,
    pub(super) triggers: Triggers,
    pub(super) params: BTreeMap<Name, Param>,
    /// The same parameters as expressions see them.
    pub(super) param_types: BTreeMap<String, Type>,
    pub(super) caches: BTreeMap<Name, Cache>,
    /// Every declared cache, sound or not.
    pub(super) cache_names: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) image: Option<String>,
    pub(super) cluster: Option<FixedText>,
    pub(super) shell: Shell,
    pub(super) max_parallel: Option<u32>,
    pub(super) on_failure: OnFailure,
    pub(super) concurrency: Option<Concurrency>,
}

impl Header {
    pub(super) fn read(file: &SourceFile<'_>, root: &Node, sink: &mut Sink<'_>) -> Self {
        let params = params(root.get("params"), "params", sink);
        let caches = root.get("caches").map(Node::pairs).unwrap_or_default();
        Self {
            name: pipeline_name(file, root, sink),
            triggers: triggers(root.get("on"), sink),
            param_types: params
                .values()
                .map(|param| (param.name.to_string(), type_of(&param.kind)))
                .collect(),
            params,
            caches: caches
                .iter()
                .filter_map(|pair| {
                    let path = join("caches", &pair.key);
                    Some((name_of(&pair.key)?, cache(&pair.value, &path, sink)))
                })
                .collect(),
            cache_names: caches.iter().map(|pair| pair.key.to_string()).collect(),
            env: text_map(root.get("env")),
            image: text(root, "image"),
            cluster: text(root, "cluster").map(|text| FixedText {
                text,
                path: "cluster".to_owned(),
            }),
            shell: shell_of(root).unwrap_or(Shell::Sh),
            max_parallel: root
                .get("max_parallel")
                .and_then(Node::int)
                .and_then(|number| u32::try_from(number).ok()),
            on_failure: match text(root, "on_failure").as_deref() {
                Some("continue") => OnFailure::Continue,
                _ => OnFailure::Stop,
            },
            concurrency: root.get("concurrency").map(concurrency),
        }
    }
}

/// The type that expressions see.
fn type_of(kind: &ParamKind) -> Type {
    match kind {
        ParamKind::Text | ParamKind::Enum(_) => Type::String,
        ParamKind::Int => Type::Int,
        ParamKind::Bool => Type::Bool,
    }
}

/// The given name, or the file's without folder and ending.
fn pipeline_name(file: &SourceFile<'_>, root: &Node, sink: &mut Sink<'_>) -> Option<Name> {
    if let Some(node) = root.get("name") {
        return node.text().and_then(name_of);
    }
    let base = file.path.rsplit('/').next().unwrap_or_default();
    let stem = base
        .strip_suffix(".yaml")
        .or_else(|| base.strip_suffix(".yml"))
        .unwrap_or(base);
    let name = name_of(stem);
    if name.is_none() {
        sink.error(
            codes::BAD_NAME,
            "name",
            &(0..0),
            format!("the file's name `{stem}` cannot be the pipeline's name"),
        )
        .help("add `name:` with letters, digits, `_`, `.` or `-`");
    }
    name
}

fn triggers(node: Option<&Node>, sink: &mut Sink<'_>) -> Triggers {
    let Some(on) = node else {
        return Triggers {
            push: Some(PushTrigger::default()),
            manual: true,
            ..Triggers::default()
        };
    };
    if let (Some(_), Some(pair)) = (on.get("merge_request"), on.pair("pull_request")) {
        let message = "`pull_request` is another word for `merge_request`, which stands here too";
        sink.error(codes::KEYS_TOGETHER, "on.pull_request", &pair.key_span, message)
            .help("keep one of them");
    }
    // `false` stands for a trigger that is not there.
    let given = |key: &str| on.get(key).filter(|node| node.bool() != Some(false));
    let patterns = |node: &Node, key: &str| Patterns::new(texts(node.get(key)));
    Triggers {
        push: given("push").map(|push| PushTrigger {
            branches: patterns(push, "branches"),
            paths: patterns(push, "paths"),
        }),
        tag: given("tag").map(|tag| match tag.bool() {
            Some(_) => Patterns::default(),
            None => Patterns::new(texts(Some(tag))),
        }),
        merge_request: given("merge_request")
            .or_else(|| given("pull_request"))
            .map(|request| MergeRequestTrigger {
                into: patterns(request, "into"),
            }),
        cron: on
            .get("cron")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|cron| {
                Some(CronTrigger {
                    name: text(cron, "name")?,
                    at: text(cron, "at")?,
                    timezone: text(cron, "timezone").unwrap_or_else(|| "UTC".to_owned()),
                    if_changed: cron.get("if_changed").and_then(Node::bool).unwrap_or(false),
                    branches: patterns(cron, "branches"),
                })
            })
            .collect(),
        manual: given("manual").is_some(),
        image: given("image").is_some(),
        pipeline: given("pipeline").is_some(),
    }
}

/// The typed parameters of the file or of a gate.
pub(super) fn params(node: Option<&Node>, path: &str, sink: &mut Sink<'_>) -> BTreeMap<Name, Param> {
    let pairs = node.map(Node::pairs).unwrap_or_default();
    let read = pairs.iter().filter_map(|pair| {
        let name = name_of(&pair.key)?;
        Some((
            name.clone(),
            param(name, &pair.value, &join(path, &pair.key), sink),
        ))
    });
    read.collect()
}

fn param(name: Name, node: &Node, path: &str, sink: &mut Sink<'_>) -> Param {
    let values = texts(node.get("values"));
    let kind = match text(node, "type").as_deref() {
        Some("int") => ParamKind::Int,
        Some("bool") => ParamKind::Bool,
        Some("enum") => ParamKind::Enum(values),
        _ => ParamKind::Text,
    };
    let is_enum = matches!(kind, ParamKind::Enum(_));
    match node.pair("values") {
        None if is_enum => {
            sink.error(
                codes::MISSING_KEY,
                path,
                &node.head(),
                "an enum needs the key `values`",
            )
            .help("add `values:` with the words that it may be");
        }
        Some(pair) if !is_enum => {
            sink.error(
                codes::KEYS_TOGETHER,
                &join(path, "values"),
                &pair.key_span,
                "only an enum has `values`",
            )
            .help("write `type: enum`, or remove `values`");
        }
        Some(_) | None => {}
    }
    let default = node
        .get("default")
        .and_then(|node| read_default(node, &kind, path, sink));
    Param {
        name,
        kind,
        default,
        help: text(node, "help"),
    }
}

fn read_default(node: &Node, kind: &ParamKind, path: &str, sink: &mut Sink<'_>) -> Option<ParamValue> {
    let value = node.text()?;
    let read = kind.read(value);
    if read.is_none() {
        let message = format!(
            "the default `{value}` does not fit: the parameter takes {}",
            kind.describe()
        );
        sink.error(codes::BAD_DEFAULT, &join(path, "default"), &node.span, message);
    }
    read
}

fn concurrency(node: &Node) -> Concurrency {
    Concurrency {
        group: node
            .text()
            .map(str::to_owned)
            .or_else(|| text(node, "group"))
            .unwrap_or_default(),
        on_new: match text(node, "on_new").as_deref() {
            Some("cancel_running") => OnNew::CancelRunning,
            Some("cancel_waiting") => OnNew::CancelWaiting,
            _ => OnNew::Queue,
        },
        scope: match text(node, "scope").as_deref() {
            Some("project") => ConcurrencyScope::Project,
            Some("server") => ConcurrencyScope::Server,
            _ => ConcurrencyScope::Pipeline,
        },
    }
}

fn cache(node: &Node, path: &str, sink: &mut Sink<'_>) -> Cache {
    let is_volume = text(node, "mode").as_deref() == Some("volume");
    let volume = text(node, "volume");
    if is_volume && volume.is_none() {
        sink.error(
            codes::MISSING_KEY,
            path,
            &node.head(),
            "a cache in a volume needs the key `volume`",
        )
        .help("add `volume:` with a name from the Cluster document");
    }
    let misplaced: &[&str] = if is_volume {
        &["key", "restore"]
    } else {
        &["volume", "access"]
    };
    for key in misplaced {
        if let Some(pair) = node.pair(key) {
            let other = if is_volume { "archive" } else { "volume" };
            let message = format!("`{key}` belongs to a cache with `mode: {other}`");
            sink.error(codes::KEYS_TOGETHER, &join(path, key), &pair.key_span, message)
                .help(format!("write `mode: {other}`, or remove `{key}`"));
        }
    }
    let key = node.get("key");
    Cache {
        paths: texts(node.get("paths")),
        key: CacheKey {
            files: texts(key.and_then(|key| key.get("files"))),
            text: key.and_then(|key| key.text().map(str::to_owned).or_else(|| text(key, "text"))),
        },
        restore: texts(node.get("restore")),
        mode: match volume.as_deref().and_then(name_of) {
            Some(volume) if is_volume => CacheMode::Volume {
                volume,
                exclusive: text(node, "access").as_deref() == Some("one"),
            },
            Some(_) | None => CacheMode::Archive,
        },
    }
}
