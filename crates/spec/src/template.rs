//! Expressions in the file: parsing, type check, and where in the file an error stands.
//!
//! What an expression may name depends on where it stands: [`Surroundings`]. Entry: [`check_site`].

use std::{collections::BTreeMap, ops::Range};

use pipekeeper_expr::{Environment, Expression, Reference, Span, Template, Type};

use crate::{
    codes,
    diagnostic::{Code, Sink},
    grammar::Text,
    shape::Site,
    suggest::did_you_mean,
    yaml::Node,
};

/// What the expressions of one entry, group or of the file may name.
pub(crate) struct Surroundings<'a> {
    /// The parameters by type.
    pub(crate) params: &'a BTreeMap<String, Type>,
    /// The axes of the entry's matrix.
    pub(crate) matrix: Vec<String>,
    /// Whether `run.outcome` is known.
    pub(crate) is_finally: bool,
    /// Every action of the file; whether its results are a map by cell.
    pub(crate) actions: &'a BTreeMap<String, Results>,
    /// Whether an action has surely ended when the expression is judged.
    pub(crate) has_ended: &'a dyn Fn(&str) -> bool,
}

/// What an action's outputs are to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Results {
    /// One value for each key.
    Single,
    /// A map by cell.
    ByCell,
}

/// Checks one text with expressions.
pub(crate) fn check_site(site: &Site, around: &Surroundings<'_>, source: &str, sink: &mut Sink<'_>) {
    let text = site.node.text().unwrap_or_default();
    match site.kind {
        Text::Condition | Text::PlanCondition => check_condition(site, text, around, source, sink),
        Text::Runtime | Text::PlanTime | Text::PlanName | Text::Duration => {
            check_template(site, text, around, source, sink);
        }
        // The shape check makes no sites of other kinds.
        Text::Free
        | Text::Length
        | Text::Name
        | Text::Identifier
        | Text::Script
        | Text::Glob
        | Text::Path
        | Text::Clock
        | Text::Zone
        | Text::Cron
        | Text::Cpu
        | Text::Memory
        | Text::Size
        | Text::Variable
        | Text::Label
        | Text::Credential
        | Text::Cell
        | Text::Fixed(_) => {}
    }
}

/// Whether a condition names what an action came to, and so is judged whatever its needs came to.
pub(crate) fn judges_outcomes(condition: &str) -> bool {
    Expression::parse(condition).is_ok_and(|expression| {
        expression
            .references()
            .iter()
            .any(|reference| matches!(reference, Reference::ActionOutcome { .. }))
    })
}

/// Refuses each `${{ }}` in a script and shows what to write instead.
pub(crate) fn refuse_in_script(node: &Node, text: &str, path: &str, sink: &mut Sink<'_>) {
    let raw = sink.lines.slice(&node.span).to_owned();
    let mut at = 0;
    let mut raw_at = 0;
    while let Some(open) = text.get(at..).and_then(|rest| rest.find("${{")) {
        let start = at + open + 3;
        let rest = text.get(start..).unwrap_or_default();
        let inner = rest.split("}}").next().unwrap_or_default().trim();
        let inner = inner.lines().next().unwrap_or_default();
        let variable = variable_for(inner);
        let place = raw.get(raw_at..).and_then(|rest| rest.find("${{"));
        let span = match place {
            Some(found) => {
                let from = node.span.start + raw_at + found;
                raw_at += found + 3;
                let length = rest.find("}}").map_or(3, |close| close + 5);
                from..from + length
            }
            None => node.span.clone(),
        };
        sink.error(
            codes::TEMPLATE_IN_SCRIPT,
            path,
            &span,
            "values never become script text",
        )
        .help(format!(
            "write `env: {{ {variable}: \"${{{{ {inner} }}}}\" }}` beside it and `\"${variable}\"` in the script"
        ));
        at = start;
    }
}

/// A variable's name for an expression: its last word in capitals.
fn variable_for(expression: &str) -> String {
    let word = expression
        .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .find(|word| word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()));
    word.unwrap_or("VALUE").to_ascii_uppercase()
}

fn check_condition(site: &Site, text: &str, around: &Surroundings<'_>, source: &str, sink: &mut Sink<'_>) {
    let locate = |span: Span| locate(&site.node, text, source, span);
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            let help = if text.contains("${{") {
                Some("an `if` is an expression already: write it without `${{ }}`".to_owned())
            } else {
                error.hint
            };
            sink.error(
                codes::BAD_EXPRESSION,
                &site.path,
                &locate(error.span),
                error.message,
            )
            .maybe_help(help);
            return;
        }
    };
    let checker = Checker { site, around, source };
    if let Some(found) = checker.expression(&expression, text, 0, sink)
        && !found.is_bool_or_dyn()
    {
        let message = format!("an `if` says whether: this is {found}, not bool");
        sink.error(codes::NOT_A_CONDITION, &site.path, &site.node.span, message)
            .help("compare it with something, as in `branch == \"main\"`");
    }
}

fn check_template(site: &Site, text: &str, around: &Surroundings<'_>, source: &str, sink: &mut Sink<'_>) {
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            let at = error.offset();
            let span = locate(
                &site.node,
                text,
                source,
                Span {
                    start: at,
                    end: at + 3,
                },
            );
            sink.error(codes::BAD_EXPRESSION, &site.path, &span, error.to_string())
                .maybe_help(error.hint().map(str::to_owned));
            return;
        }
    };
    let checker = Checker { site, around, source };
    for (offset, expression) in template.expressions() {
        let Some(found) = checker.expression(expression, text, offset, sink) else {
            continue;
        };
        let is_one = match found {
            Type::List(_) | Type::Map(_) | Type::Object(_) => false,
            Type::Null | Type::Bool | Type::Int | Type::Float | Type::String | Type::Dyn => true,
        };
        if !is_one {
            let span = Span {
                start: offset,
                end: offset + expression.text().len() + 1,
            };
            let span = locate(&site.node, text, source, span);
            let message = format!("one value stands here, and this is {found}");
            sink.error(codes::ONE_VALUE, &site.path, &span, message).help(
                "the outputs of a matrix are a map by cell: name one, as in `actions.test.outputs[\"db=sqlite\"].KEY`",
            );
        }
    }
}

struct Checker<'c> {
    site: &'c Site,
    around: &'c Surroundings<'c>,
    source: &'c str,
}

impl Checker<'_> {
    /// The type of an expression, if it has one.
    fn expression(
        &self,
        expression: &Expression,
        text: &str,
        at: usize,
        sink: &mut Sink<'_>,
    ) -> Option<Type> {
        let actions = self.actions(expression, text, at, sink)?;
        let environment = self.environment(actions);
        match expression.check(&environment) {
            Ok(found) => Some(found),
            Err(errors) => {
                for error in errors {
                    let span = locate(&self.site.node, text, self.source, error.span);
                    sink.error(codes::EXPRESSION_TYPE, &self.site.path, &span, error.message)
                        .maybe_help(error.hint);
                }
                None
            }
        }
    }

    /// The types of the actions that an expression names; none if it may not name them.
    fn actions(
        &self,
        expression: &Expression,
        text: &str,
        at: usize,
        sink: &mut Sink<'_>,
    ) -> Option<BTreeMap<String, Type>> {
        let mut types = BTreeMap::new();
        let mut is_sound = true;
        for reference in expression.references() {
            let name = match reference {
                Reference::Action { action }
                | Reference::ActionOutcome { action }
                | Reference::ActionOutput { action, .. } => action,
                Reference::AllActions => "",
                Reference::Variable(_) | Reference::Changed => continue,
            };
            if let Some((code, message, help)) = self.refusal(name) {
                let word = text.get(at..).and_then(|rest| rest.find(name)).unwrap_or(0);
                let span = Span {
                    start: at + word,
                    end: at + word + name.len().max(1),
                };
                let span = locate(&self.site.node, text, self.source, span);
                sink.error(code, &self.site.path, &span, message).maybe_help(help);
                is_sound = false;
            } else if let Some(results) = self.around.actions.get(name) {
                types.insert(name.to_owned(), action_type(*results));
            }
        }
        is_sound.then_some(types)
    }

    /// Why an action may not be named here.
    fn refusal(&self, name: &str) -> Option<(Code, String, Option<String>)> {
        if self.is_plan_time() {
            return Some((
                codes::PLAN_TIME,
                "this value is fixed when the run is planned, before any action ran".to_owned(),
                Some("`actions.*` works in `if`, `env`, `with`, `args` and `images`".to_owned()),
            ));
        }
        if name.is_empty() {
            return Some((
                codes::EXPRESSION_TYPE,
                "`actions` has no value as a whole".to_owned(),
                Some("name one action, as in `actions.test.outcome`".to_owned()),
            ));
        }
        if !self.around.actions.contains_key(name) {
            let known = self.around.actions.keys().map(String::as_str);
            return Some((
                codes::UNKNOWN_ACTION,
                format!("no action is called `{name}`"),
                did_you_mean(name, known),
            ));
        }
        if !(self.around.has_ended)(name) {
            return Some((
                codes::NOT_BEFORE,
                format!("`{name}` need not have ended when this is judged"),
                Some(format!("add `{name}` to `needs`")),
            ));
        }
        None
    }

    fn is_plan_time(&self) -> bool {
        match self.site.kind {
            Text::PlanTime | Text::PlanName | Text::Duration | Text::PlanCondition => true,
            Text::Free
            | Text::Length
            | Text::Name
            | Text::Identifier
            | Text::Script
            | Text::Condition
            | Text::Runtime
            | Text::Glob
            | Text::Path
            | Text::Clock
            | Text::Zone
            | Text::Cron
            | Text::Cpu
            | Text::Memory
            | Text::Size
            | Text::Variable
            | Text::Label
            | Text::Credential
            | Text::Cell
            | Text::Fixed(_) => false,
        }
    }

    fn environment(&self, actions: BTreeMap<String, Type>) -> Environment {
        let matrix = self.around.matrix.iter().map(|axis| (axis.clone(), Type::String));
        let base = Environment::new()
            .variable(
                "event",
                Type::object([("kind", Type::String), ("schedule", Type::String)]),
            )
            .variable("branch", Type::String)
            .variable("tag", Type::String)
            .variable(
                "revision",
                Type::object([
                    ("sha", Type::String),
                    ("repository", Type::String),
                    ("subject", Type::String),
                ]),
            )
            .variable("params", Type::Object(self.around.params.clone()))
            .variable("matrix", Type::object(matrix));
        if self.is_plan_time() {
            return base;
        }
        let mut run = vec![("id", Type::String), ("pipeline", Type::String)];
        if self.around.is_finally {
            run.push(("outcome", Type::String));
        }
        base.variable("run", Type::object(run))
            .variable("actions", Type::Object(actions))
            .with_changed()
    }
}

fn action_type(results: Results) -> Type {
    let outputs = match results {
        Results::Single => Type::map(Type::String),
        Results::ByCell => Type::map(Type::map(Type::String)),
    };
    Type::object([("outcome", Type::String), ("outputs", outputs)])
}

/// Where in the file a place of a value's text stands; the whole value where that cannot be told.
fn locate(node: &Node, text: &str, source: &str, span: Span) -> Range<usize> {
    let raw = source.get(node.span.clone()).unwrap_or_default();
    match raw.find(text.trim_end()) {
        Some(found) if !text.is_empty() => {
            let base = node.span.start + found;
            base + span.start..base + span.end.max(span.start + 1)
        }
        Some(_) | None => node.span.clone(),
    }
}
