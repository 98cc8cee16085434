//! Compares a tree with the [`grammar`](crate::grammar): unknown keys, wrong kinds, misspelt words, malformed texts.
//!
//! It also notes where expressions stand and which features are used. Entries inside groups are left to the caller.
//! Entry: [`walk`].

use pipekeeper_model::plan::{Feature, FeatureUse};

use crate::{
    codes,
    diagnostic::Sink,
    grammar::{Fixed, Object, Presence, Shape, Text, Treatment, Word},
    suggest::{did_you_mean, nearest},
    template,
    yaml::{Node, Pair, Value},
};

/// What a walk notes beside errors.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sites: Vec<Site>,
    pub(crate) features: Vec<FeatureUse>,
}

/// A text that holds expressions.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) kind: Text,
    pub(crate) node: Node,
    pub(crate) path: String,
}

/// Compares a mapping with its shape.
pub(crate) fn walk(node: &Node, object: &Object, path: &str, sink: &mut Sink<'_>) -> Found {
    let mut walk = Walk {
        sink,
        found: Found::default(),
    };
    walk.object(node, object, path, None);
    walk.found
}

/// The path of a key below a path.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

struct Walk<'w, 's> {
    sink: &'w mut Sink<'s>,
    found: Found,
}

impl Walk<'_, '_> {
    /// `within` is the feature of a key around: it is not recorded again for the keys inside.
    fn value(&mut self, node: &Node, shape: &Shape, path: &str, within: Option<Feature>) {
        if node.is_null() {
            self.missing_value(node, shape, path);
            return;
        }
        match shape {
            Shape::Text(kind) => self.text(node, *kind, path),
            Shape::Bool if node.bool().is_some() => {}
            Shape::Int { min, max } if node.int().is_some() => self.int(node, (*min, *max), path),
            Shape::Words(words) => self.word(node, words, path, within),
            Shape::List(of) if is_list(node) => self.list(node, of, path, within),
            Shape::Map { key, of } if is_map(node) => {
                for pair in node.pairs() {
                    self.key(pair, *key, path);
                    self.value(&pair.value, of, &join(path, &pair.key), within);
                }
            }
            Shape::Object(object) if is_map(node) => self.object(node, object, path, within),
            Shape::Choice { object, of } if is_map(node) => {
                self.object(node, object, path, within);
                only_one(node, of, path, self.sink);
            }
            Shape::AnyOf(shapes) => match choose(node, shapes) {
                Some(shape) => self.value(node, shape, path, within),
                None => self.wrong_type(node, shape, path),
            },
            Shape::Entries if is_list(node) => self.non_empty(node, path),
            Shape::Bool
            | Shape::Int { .. }
            | Shape::List(_)
            | Shape::Map { .. }
            | Shape::Object(_)
            | Shape::Choice { .. }
            | Shape::Entries => self.wrong_type(node, shape, path),
        }
    }

    fn object(&mut self, node: &Node, object: &Object, path: &str, within: Option<Feature>) {
        if !is_map(node) {
            let message = format!("{} is a mapping of keys, not {}", object.what, node.describe());
            self.sink.error(codes::WRONG_TYPE, path, &node.head(), message);
            return;
        }
        for pair in node.pairs() {
            let path = join(path, &pair.key);
            let Some(key) = object.keys.iter().find(|key| key.name == &*pair.key) else {
                self.unknown_key(pair, object, &path);
                continue;
            };
            let within = self.note(&pair.value, key.treatment, &path, &pair.key_span, within);
            self.value(&pair.value, &key.shape, &path, within);
        }
        let missing = object
            .keys
            .iter()
            .filter(|key| key.presence == Presence::Required && node.get(key.name).is_none());
        for key in missing {
            let message = format!("{} needs the key `{}`", object.what, key.name);
            self.sink
                .error(codes::MISSING_KEY, path, &node.head(), message)
                .help(format!("add `{}:` — {}", key.name, lower_first(key.help)));
        }
    }

    fn note(
        &mut self,
        value: &Node,
        treatment: Treatment,
        path: &str,
        span: &std::ops::Range<usize>,
        within: Option<Feature>,
    ) -> Option<Feature> {
        match treatment {
            Treatment::Acts => within,
            Treatment::Needs(feature) => {
                if within != Some(feature) && value.bool() != Some(false) {
                    self.found.features.push(FeatureUse {
                        feature,
                        path: path.to_owned(),
                        place: self.sink.lines.place(span.start),
                        detail: value.text().map(str::to_owned),
                    });
                }
                Some(feature)
            }
        }
    }

    fn text(&mut self, node: &Node, kind: Text, path: &str) {
        let Some(text) = node.text() else {
            self.wrong_type(node, &Shape::Text(kind), path);
            return;
        };
        let has_template = text.contains("${{") && !matches!(kind, Text::Fixed(Fixed::Filled(_)));
        let is_condition = matches!(kind, Text::Condition | Text::PlanCondition);
        if is_condition || (has_template && kind.takes_templates()) {
            self.found.sites.push(Site {
                kind,
                node: node.clone(),
                path: path.to_owned(),
            });
        } else if has_template && kind == Text::Script {
            template::refuse_in_script(node, text, path, self.sink);
        } else if has_template {
            let dialect = self.sink.dialect;
            self.sink
                .error(
                    codes::TEMPLATE_NOT_ALLOWED,
                    path,
                    &node.span,
                    "expressions do not work here",
                )
                .help(dialect.where_expressions_stand());
        } else if let Err(misfit) = kind.check(text) {
            self.sink
                .error(misfit.code, path, &node.span, misfit.message)
                .maybe_help(misfit.help);
        }
    }

    fn key(&mut self, pair: &Pair, kind: Text, path: &str) {
        if let Err(misfit) = kind.check(&pair.key) {
            self.sink
                .error(
                    misfit.code,
                    &join(path, &pair.key),
                    &pair.key_span,
                    misfit.message,
                )
                .maybe_help(misfit.help);
        }
    }

    fn int(&mut self, node: &Node, (min, max): (i64, i64), path: &str) {
        let number = node.int().unwrap_or(min);
        if number < min || number > max {
            let message = format!("`{number}` is out of range: from {min} to {max}");
            self.sink.error(codes::OUT_OF_RANGE, path, &node.span, message);
        }
    }

    fn word(&mut self, node: &Node, words: &[Word], path: &str, within: Option<Feature>) {
        let Some(text) = node.text() else {
            self.wrong_type(node, &Shape::Words(&[]), path);
            return;
        };
        match words.iter().find(|word| word.text == text) {
            Some(word) => {
                self.note(node, word.treatment, path, &node.span, within);
            }
            None => {
                let known: Vec<&str> = words.iter().map(|word| word.text).collect();
                let help = did_you_mean(text, known.iter().copied())
                    .unwrap_or_else(|| format!("there is `{}`", known.join("`, `")));
                let message = format!("`{text}` is none of the words that stand here");
                self.sink
                    .error(codes::UNKNOWN_WORD, path, &node.span, message)
                    .help(help);
            }
        }
    }

    fn list(&mut self, node: &Node, of: &Shape, path: &str, within: Option<Feature>) {
        self.non_empty(node, path);
        for (index, item) in node.items().iter().enumerate() {
            self.value(item, of, &format!("{path}[{index}]"), within);
        }
    }

    fn non_empty(&mut self, node: &Node, path: &str) {
        if node.items().is_empty() {
            self.sink
                .error(codes::MISSING_VALUE, path, &node.span, "the list is empty")
                .help("fill it, or remove the key");
        }
    }

    fn unknown_key(&mut self, pair: &Pair, object: &Object, path: &str) {
        let known: Vec<&str> = object.keys.iter().map(|key| key.name).collect();
        let habit = HABITS
            .iter()
            .find(|(word, ours)| *word == &*pair.key && known.contains(ours))
            .map(|(_, ours)| format!("the key is `{ours}` here"));
        let help = match nearest(&pair.key, known.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => habit.unwrap_or_else(|| format!("{} has `{}`", object.what, known.join("`, `"))),
        };
        let message = format!("{} has no key `{}`", object.what, pair.key);
        self.sink
            .error(codes::UNKNOWN_KEY, path, &pair.key_span, message)
            .help(help);
    }

    fn missing_value(&mut self, node: &Node, shape: &Shape, path: &str) {
        let help = if matches!(shape, Shape::Text(_)) {
            "write a value; `\"\"` is the empty text".to_owned()
        } else {
            format!("write {}, or remove the key", describe(shape))
        };
        self.sink
            .error(
                codes::MISSING_VALUE,
                path,
                &node.span,
                format!("`{path}` has no value"),
            )
            .help(help);
    }

    fn wrong_type(&mut self, node: &Node, shape: &Shape, path: &str) {
        let message = format!("{} is wanted here, not {}", describe(shape), node.describe());
        let help = match (shape, node.text()) {
            (Shape::Bool, Some("yes" | "on" | "y")) => Some("write `true`".to_owned()),
            (Shape::Bool, Some("no" | "off" | "n")) => Some("write `false`".to_owned()),
            _ => None,
        };
        self.sink
            .error(codes::WRONG_TYPE, path, &node.head(), message)
            .maybe_help(help);
    }
}

/// The one key of a set that is there; an error when there are none or several.
pub(crate) fn only_one(
    node: &Node,
    keys: &'static [&'static str],
    path: &str,
    sink: &mut Sink<'_>,
) -> Option<&'static str> {
    let mut there = keys.iter().filter(|key| node.get(key).is_some());
    let choice = format!("`{}`", keys.join("`, `"));
    let Some(first) = there.next() else {
        if is_map(node) {
            sink.error(
                codes::KEYS_TOGETHER,
                path,
                &node.head(),
                format!("one of {choice} is missing"),
            );
        }
        return None;
    };
    for other in there {
        if let Some(pair) = node.pair(other) {
            let message = format!("`{other}` does not go together with `{first}`");
            sink.error(codes::KEYS_TOGETHER, &join(path, other), &pair.key_span, message)
                .help(format!("write one of {choice}"));
        }
    }
    Some(first)
}

/// Keys of other engines.
const HABITS: [(&str, &str); 10] = [
    ("script", "run"),
    ("commands", "run"),
    ("depends_on", "needs"),
    ("when", "if"),
    ("jobs", "actions"),
    ("stages", "actions"),
    ("tasks", "actions"),
    ("steps", "actions"),
    ("variables", "env"),
    ("triggers", "on"),
];

fn is_list(node: &Node) -> bool {
    matches!(node.value, Value::List(_))
}

fn is_map(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
}

/// The alternative that fits a node's kind; among scalars the first that could be meant.
pub(crate) fn choose(node: &Node, shapes: &'static [Shape]) -> Option<&'static Shape> {
    let fits = |shape: &&Shape| match shape {
        Shape::Text(_) | Shape::Words(_) => node.text().is_some(),
        Shape::Bool => node.bool().is_some(),
        Shape::Int { .. } => node.int().is_some(),
        Shape::List(_) | Shape::Entries => is_list(node),
        Shape::Map { .. } | Shape::Object(_) | Shape::Choice { .. } => is_map(node),
        Shape::AnyOf(_) => true,
    };
    shapes.iter().find(fits)
}

fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Text(_) => "text".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Int { .. } => "a whole number".to_owned(),
        Shape::Words(_) => "a word".to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Map { .. } | Shape::Object(_) | Shape::Choice { .. } => "a mapping".to_owned(),
        Shape::AnyOf(shapes) => {
            let mut parts: Vec<String> = shapes.iter().map(describe).collect();
            parts.dedup();
            parts.join(" or ")
        }
        Shape::Entries => "a list of entries".to_owned(),
    }
}

fn lower_first(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
