//! YAML text to a tree with a span on every key and value.
//!
//! Scalars stay text: what they are is decided by what is wanted of them, so `on` stays a key and `1.10` stays text.
//! Entry: [`load`].

use std::{collections::BTreeMap, ops::Range, rc::Rc};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use crate::{codes, diagnostic::Sink, dialect::Dialect, source::SourceFile};

/// The largest file, in bytes.
pub(crate) const MAX_BYTES: usize = 512 * 1024;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 20_000;

/// One value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// What a node holds; shared, so that an alias costs nothing.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar { text: Rc<str>, style: Style },
    List(Rc<Vec<Node>>),
    Map(Rc<Vec<Pair>>),
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    Block,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Rc<str>,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.pair(key).map(|pair| &pair.value)
    }

    /// A key with its value.
    pub(crate) fn pair(&self, key: &str) -> Option<&Pair> {
        self.pairs().iter().find(|pair| &*pair.key == key)
    }

    /// The pairs of a mapping; none for anything else.
    pub(crate) fn pairs(&self) -> &[Pair] {
        match &self.value {
            Value::Map(pairs) => pairs,
            Value::Scalar { .. } | Value::List(_) => &[],
        }
    }

    /// The items of a list; anything else is its own only item.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar { .. } | Value::Map(_) => std::slice::from_ref(self),
        }
    }

    /// Whether it stands for "no value".
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is a value.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The truth value of a plain `true` or `false`.
    pub(crate) fn bool(&self) -> Option<bool> {
        match self.plain()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// The number of a plain decimal integer.
    pub(crate) fn int(&self) -> Option<i64> {
        self.plain()?.parse().ok()
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } if self.bool().is_some() => "a truth value",
            Value::Scalar { .. } if self.int().is_some() => "a number",
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// What to point at: the first key of a mapping rather than all of it.
    pub(crate) fn head(&self) -> Range<usize> {
        match &self.value {
            Value::Map(pairs) => pairs
                .first()
                .map_or(self.span.clone(), |pair| pair.key_span.clone()),
            Value::Scalar { .. } | Value::List(_) => self.span.clone(),
        }
    }

    fn plain(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar {
                text,
                style: Style::Plain,
            } => Some(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Reads the only document of a file; errors go to the sink. Syntax stops at its first error, everything else is collected.
pub(crate) fn load(file: &SourceFile<'_>, sink: &mut Sink<'_>) -> Option<Node> {
    load_all(file, sink)?.pop()
}

/// Reads the documents of a file likewise: as many as its dialect lets it have.
pub(crate) fn load_all(file: &SourceFile<'_>, sink: &mut Sink<'_>) -> Option<Vec<Node>> {
    let dialect = sink.dialect;
    if file.text.len() > MAX_BYTES {
        sink.error(codes::LIMIT, "", &(0..0), "the file is larger than 512 KiB")
            .help(dialect.how_to_split());
        return None;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(file.text, options) {
        let step = match next {
            Ok((event, span)) => builder.take(event, &span, sink),
            Err(error) => {
                report_syntax(file, &error, sink);
                Err(Stop)
            }
        };
        if step.is_err() {
            return None;
        }
    }
    if builder.roots.is_empty() {
        sink.error(codes::MISSING_KEY, "", &(0..0), "the file is empty")
            .help(dialect.how_to_begin());
    }
    Some(builder.roots)
}

/// The rest of the file cannot be read.
struct Stop;

fn report_syntax(file: &SourceFile<'_>, error: &ScanError, sink: &mut Sink<'_>) {
    let at = error.marker().byte_offset().unwrap_or(file.text.len());
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        report_depth(&(at..at), sink);
        return;
    }
    let rest = file.text.get(at..).unwrap_or("");
    let has_tab = rest.trim_start_matches(' ').starts_with('\t')
        || file
            .text
            .get(..at)
            .is_some_and(|before| before.ends_with('\t') || before.trim_end_matches(' ').ends_with('\t'));
    let help = has_tab.then(|| "YAML takes no tabs for indentation; use spaces".to_owned());
    sink.error(
        codes::SYNTAX,
        "",
        &(at..at),
        format!("the YAML cannot be read: {}", error.info()),
    )
    .maybe_help(help);
}

fn report_depth(span: &Range<usize>, sink: &mut Sink<'_>) {
    sink.error(
        codes::LIMIT,
        "",
        span,
        format!("values are nested deeper than {MAX_DEPTH} levels"),
    );
}

/// A node together with what it costs when an alias repeats it.
#[derive(Clone)]
struct Built {
    node: Node,
    size: usize,
    depth: usize,
}

/// A collection that is not closed yet.
struct Open {
    anchor: usize,
    start: usize,
    size: usize,
    depth: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        pairs: Vec<Pair>,
        seen: BTreeMap<Rc<str>, Range<usize>>,
        key: Option<(Rc<str>, Range<usize>)>,
    },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Built>,
    roots: Vec<Node>,
    nodes: usize,
}

impl Builder {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours and may grow")]
    fn take(&mut self, event: Event<'_>, span: &Span, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let range = span.byte_range().unwrap_or(0..0);
        match event {
            // Anchors reach no further than their document.
            Event::DocumentStart(..) if sink.dialect == Dialect::Documents => self.anchors.clear(),
            Event::DocumentStart(..) if !self.roots.is_empty() => {
                sink.error(
                    codes::DOCUMENTS,
                    "",
                    &range,
                    "the file holds more than one document",
                )
                .help("one file is one pipeline: move what follows `---` into a file of its own");
                return Err(Stop);
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), span, sink);
                if text.contains('\0') {
                    sink.error(codes::NUL, "", &range, "the text holds a NUL character")
                        .help("no program can be given one; let the script make it");
                }
                let built = Built {
                    node: Node {
                        span: range,
                        value: Value::Scalar {
                            text: Rc::from(&*text),
                            style: style_of(style),
                        },
                    },
                    size: 1,
                    depth: 1,
                };
                self.add(built, anchor, sink)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), span, sink);
                self.open(anchor, range.start, Content::List(Vec::new()), sink)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.is_some(), span, sink);
                let content = Content::Map {
                    pairs: Vec::new(),
                    seen: BTreeMap::new(),
                    key: None,
                };
                self.open(anchor, range.start, content, sink)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.end, sink)?,
            Event::Alias(anchor) => {
                let Some(built) = self.anchors.get(&anchor).cloned() else {
                    sink.error(
                        codes::SYNTAX,
                        "",
                        &range,
                        "an anchor cannot hold an alias of itself",
                    );
                    return Err(Stop);
                };
                self.add(built, 0, sink)?;
            }
            // Stream and document borders carry nothing; comments are off.
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        anchor: usize,
        start: usize,
        content: Content,
        sink: &mut Sink<'_>,
    ) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            report_depth(&(start..start), sink);
            return Err(Stop);
        }
        self.stack.push(Open {
            anchor,
            start,
            size: 1,
            depth: 1,
            content,
        });
        Ok(())
    }

    fn close(&mut self, end: usize, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let Some(open) = self.stack.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::List(items) => Value::List(Rc::new(items)),
            Content::Map { pairs, .. } => Value::Map(Rc::new(pairs)),
        };
        let built = Built {
            node: Node {
                span: open.start..end.max(open.start),
                value,
            },
            size: open.size,
            depth: open.depth,
        };
        // Its children were counted when they came.
        self.nodes = self.nodes.saturating_sub(open.size - 1);
        self.add(built, open.anchor, sink)
    }

    fn add(&mut self, built: Built, anchor: usize, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let span = built.node.span.clone();
        self.nodes += built.size;
        if self.nodes > MAX_NODES {
            sink.error(
                codes::LIMIT,
                "",
                &span,
                format!("the file holds more than {MAX_NODES} values, aliases counted"),
            );
            return Err(Stop);
        }
        if self.stack.len() + built.depth > MAX_DEPTH + 1 {
            report_depth(&span, sink);
            return Err(Stop);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            // What stands between two `---` may be nothing.
            if sink.dialect == Dialect::Pipeline || !built.node.is_null() {
                self.roots.push(built.node);
            }
            return Ok(());
        };
        open.size += built.size;
        open.depth = open.depth.max(built.depth + 1);
        match &mut open.content {
            Content::List(items) => items.push(built.node),
            Content::Map { pairs, seen, key } => match key.take() {
                None => *key = Some(key_of(&built.node, sink)),
                Some((key, key_span)) => {
                    accept_pair(pairs, seen, (key, key_span), built.node, sink);
                }
            },
        }
        Ok(())
    }
}

fn accept_pair(
    pairs: &mut Vec<Pair>,
    seen: &mut BTreeMap<Rc<str>, Range<usize>>,
    (key, key_span): (Rc<str>, Range<usize>),
    value: Node,
    sink: &mut Sink<'_>,
) {
    if &*key == "<<" {
        let dialect = sink.dialect;
        sink.error(
            codes::MERGE_KEY,
            "<<",
            &key_span,
            "merge keys are not part of YAML 1.2",
        )
        .help(dialect.how_to_do_without_merge_keys());
        return;
    }
    if let Some(first) = seen.get(&key) {
        sink.error(
            codes::DUPLICATE_KEY,
            &key,
            &key_span,
            format!("the key `{key}` stands here twice"),
        )
        .label(first, "first here");
        return;
    }
    seen.insert(key.clone(), key_span.clone());
    pairs.push(Pair { key, key_span, value });
}

fn key_of(node: &Node, sink: &mut Sink<'_>) -> (Rc<str>, Range<usize>) {
    match &node.value {
        Value::Scalar { text, .. } => (text.clone(), node.span.clone()),
        Value::List(_) | Value::Map(_) => {
            let message = format!("a key is text, not {}", node.describe());
            sink.error(codes::WRONG_TYPE, "", &node.span, message);
            (Rc::from(""), node.span.clone())
        }
    }
}

fn refuse_tag(tagged: bool, span: &Span, sink: &mut Sink<'_>) {
    if tagged {
        let range = span.tag_span().unwrap_or(*span).byte_range().unwrap_or(0..0);
        sink.error(codes::TAG, "", &range, sink.dialect.refuses_tags())
            .help("remove the tag; quote the value if it must stay text");
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}
