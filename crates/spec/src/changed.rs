//! The `changed(…)` calls of a plan, so that its answers can be worked out before the run. Entry: [`changed_patterns`].

use std::{cell::RefCell, collections::BTreeSet};

use pipekeeper_expr::{Expression, Fuel, Resolved, Scope};
use pipekeeper_model::{
    Plan,
    plan::{Body, Node, Script, Sync},
};

/// The patterns of every `changed(…)` in the plan's expressions, each list once.
pub fn changed_patterns(plan: &Plan) -> Vec<Vec<String>> {
    let mut found = BTreeSet::new();
    for node in &plan.nodes {
        for text in texts(node) {
            collect(text, &mut found);
        }
    }
    found.into_iter().collect()
}

/// The texts of a node that may hold expressions.
fn texts(node: &Node) -> Vec<&str> {
    let conditions = node
        .conditions
        .iter()
        .map(|condition| condition.expression.as_str());
    let mut texts: Vec<&str> = conditions.collect();
    match &node.body {
        Body::Work(work) => {
            texts.extend(work.env.values().map(String::as_str));
            for step in &work.steps {
                texts.extend(step.env.values().map(String::as_str));
                match &step.script {
                    Script::Shell { .. } => {}
                    Script::Command { argv } => texts.extend(argv.iter().map(String::as_str)),
                    Script::Build(build) => texts.extend(build.args.values().map(String::as_str)),
                }
            }
        }
        Body::Promote(promotion) => texts.extend(promotion.images.iter().map(String::as_str)),
        Body::Sync(Sync::Inline { images, .. }) => texts.extend(images.iter().map(String::as_str)),
        Body::Call(call) => texts.extend(call.with.values().map(String::as_str)),
        Body::Sync(Sync::App { .. }) | Body::Approve(_) | Body::Wait(_) => {}
    }
    texts
}

/// Each call is evaluated by itself, so that none hides behind an `&&`.
fn collect(text: &str, found: &mut BTreeSet<Vec<String>>) {
    for (at, word) in text.match_indices("changed") {
        let after = text.get(at + word.len()..).unwrap_or_default();
        let Some(length) = call_length(after) else {
            continue;
        };
        let Some(call) = text.get(at..at + word.len() + length) else {
            continue;
        };
        let listener = Listener(RefCell::default());
        if let Ok(expression) = Expression::parse(call) {
            // Only what the function is asked matters.
            let _ = expression.evaluate(&listener, &mut Fuel::default());
        }
        found.extend(listener.0.into_inner());
    }
}

/// The length of the bracketed arguments at the start of a text.
fn call_length(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_escaped = false;
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '(' => depth += 1,
                ')' if depth == 1 => return Some(at + 1),
                ')' => depth = depth.checked_sub(1)?,
                c if depth == 0 && !c.is_whitespace() => return None,
                _ => {}
            },
        }
    }
    None
}

struct Listener(RefCell<Vec<Vec<String>>>);

impl Scope for Listener {
    fn resolve(&self, _path: &[&str]) -> Resolved<'_> {
        Resolved::Missing
    }

    fn changed(&self, patterns: &[String]) -> Option<bool> {
        self.0.borrow_mut().push(patterns.to_vec());
        Some(true)
    }
}
