//! The evaluation of macros.

use std::borrow::Cow;

use super::{Evaluator, Val, at, boolean};
use crate::ast::{Loop, Macro, Node};
use crate::error::{EvalError, EvalErrorKind};
use crate::operate::wrong_type;
use crate::value::Value;

impl<'a> Evaluator<'a, '_> {
    pub(super) fn each(&mut self, node: &Node, each: &'a Loop) -> Result<Val<'a>, EvalError> {
        let over = self.node(&each.over)?;
        let items = self.items(&each.over, over, each.of)?;
        let what = each.of.name();
        match each.of {
            Macro::All => self.quantified(items, each, false),
            Macro::Exists => self.quantified(items, each, true),
            Macro::ExistsOne => {
                let mut found = 0;
                for item in items {
                    found += usize::from(self.with(item, |this| this.boolean(&each.body, what))?);
                }
                Ok(boolean(found == 1))
            }
            Macro::Filter => {
                let mut kept = Vec::new();
                for item in items {
                    self.locals.push(item);
                    let keep = self.boolean(&each.body, what);
                    if let Some(item) = self.locals.pop().filter(|_| keep == Ok(true)) {
                        kept.push(self.owned(node, item)?);
                    }
                    keep?;
                }
                Ok(Cow::Owned(Value::List(kept)))
            }
            Macro::Map => {
                let mut made = Vec::new();
                for item in items {
                    made.extend(self.with(item, |this| this.mapped(each))?);
                }
                Ok(Cow::Owned(Value::List(made)))
            }
        }
    }

    fn mapped(&mut self, each: &'a Loop) -> Result<Option<Value>, EvalError> {
        match &each.condition {
            Some(condition) if !self.boolean(condition, each.of.name())? => Ok(None),
            _ => self.copied(&each.body).map(Some),
        }
    }

    /// The elements of a list or the keys of a map, paid for before they are made.
    fn items(&mut self, node: &Node, over: Val<'a>, of: Macro) -> Result<Vec<Val<'a>>, EvalError> {
        let length = if let Value::List(items) = &*over {
            items.len()
        } else if let Value::Map(entries) = &*over {
            entries.len()
        } else {
            return Err(at(node, wrong_type(of.name(), "list or map", &over)));
        };
        self.fuel.spend(length).map_err(|error| at(node, error))?;
        Ok(match over {
            Cow::Borrowed(Value::List(items)) => items.iter().map(Cow::Borrowed).collect(),
            Cow::Owned(Value::List(items)) => items.into_iter().map(Cow::Owned).collect(),
            Cow::Borrowed(Value::Map(entries)) => {
                for key in entries.keys() {
                    self.fuel.spend_text(key.len()).map_err(|error| at(node, error))?;
                }
                entries
                    .keys()
                    .map(|key| Cow::Owned(Value::from(key.as_str())))
                    .collect()
            }
            Cow::Owned(Value::Map(entries)) => entries
                .into_keys()
                .map(|key| Cow::Owned(Value::from(key)))
                .collect(),
            Cow::Borrowed(_) | Cow::Owned(_) => Vec::new(),
        })
    }

    fn with<T>(
        &mut self,
        item: Val<'a>,
        body: impl FnOnce(&mut Self) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        self.locals.push(item);
        let result = body(self);
        self.locals.pop();
        result
    }

    /// `all` and `exists`: one element that decides makes the errors of the others not matter.
    fn quantified(
        &mut self,
        items: Vec<Val<'a>>,
        each: &'a Loop,
        deciding: bool,
    ) -> Result<Val<'a>, EvalError> {
        let mut failed = None;
        for item in items {
            match self.with(item, |this| this.boolean(&each.body, each.of.name())) {
                Ok(value) if value == deciding => return Ok(boolean(deciding)),
                Ok(_) => {}
                Err(error) if error.kind == EvalErrorKind::TooCostly => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(boolean(!deciding)), Err)
    }
}
