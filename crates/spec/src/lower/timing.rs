//! When things happen: `start`, `wait`, `retry` and clocks.

use std::collections::BTreeSet;

use pipekeeper_model::{
    Millis, Outcome,
    plan::{Retry, Start, WaitFor},
};

use super::{text, texts};
use crate::{
    codes,
    diagnostic::Sink,
    shape::{join, only_one},
    yaml::Node,
};

/// `start:`; absent means at once.
pub(super) fn start(node: Option<&Node>, path: &str, sink: &mut Sink<'_>) -> Start {
    let Some(node) = node else { return Start::Auto };
    if let Some(word) = node.text() {
        return match word {
            "manual" => Start::Manual,
            "confirm" => Start::Confirm { by_other: false },
            _ => Start::Auto,
        };
    }
    if let Some(key) = only_one(node, &["confirm", "at", "after", "between"], path, sink)
        && key == "confirm"
    {
        refuse_timezone(node, key, path, sink);
        return Start::Confirm { by_other: true };
    }
    clock(node, path, sink).map_or(Start::Auto, Start::Timed)
}

/// `wait:`.
pub(super) fn wait(node: &Node, path: &str, sink: &mut Sink<'_>) -> Option<WaitFor> {
    let key = only_one(node, &["for", "until", "between"], path, sink)?;
    if key == "for" {
        refuse_timezone(node, key, path, sink);
        let length = text(node, "for")?.parse().ok()?;
        return Some(WaitFor::Elapsed { length });
    }
    clock(node, path, sink)
}

/// `retry:`.
pub(super) fn retry(node: Option<&Node>) -> Retry {
    let Some(node) = node else {
        return Retry::default();
    };
    let mut on: BTreeSet<Outcome> = texts(node.get("on"))
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect();
    if on.is_empty() {
        on = BTreeSet::from([Outcome::Failed, Outcome::Lost]);
    }
    Retry {
        attempts: node
            .get("attempts")
            .and_then(Node::int)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(1),
        on,
        backoff: text(node, "backoff")
            .and_then(|text| text.parse().ok())
            .unwrap_or(Millis(0)),
    }
}

fn clock(node: &Node, path: &str, sink: &mut Sink<'_>) -> Option<WaitFor> {
    let timezone = text(node, "timezone").unwrap_or_else(|| "UTC".to_owned());
    if let Some(time) = text(node, "at").or_else(|| text(node, "until")) {
        return Some(WaitFor::At { time, timezone });
    }
    if let Some(time) = text(node, "after") {
        return Some(WaitFor::After { time, timezone });
    }
    let between = node.get("between")?;
    let times = texts(Some(between));
    let [from, to] = times.as_slice() else {
        if !times.is_empty() {
            let message = format!("`between` takes two times of day, not {}", times.len());
            sink.error(
                codes::OUT_OF_RANGE,
                &join(path, "between"),
                &between.span,
                message,
            )
            .help("write `between: [\"22:00\", \"06:00\"]`");
        }
        return None;
    };
    Some(WaitFor::Between {
        from: from.clone(),
        to: to.clone(),
        timezone,
    })
}

fn refuse_timezone(node: &Node, key: &str, path: &str, sink: &mut Sink<'_>) {
    if let Some(pair) = node.pair("timezone") {
        let message = format!("`timezone` means nothing beside `{key}`");
        sink.error(
            codes::KEYS_TOGETHER,
            &join(path, "timezone"),
            &pair.key_span,
            message,
        )
        .help("remove it");
    }
}
