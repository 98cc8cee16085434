//! The evaluator, which pays for each step; entry function [`evaluate`].

mod each;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::ast::{Callee, Kind, Node};
use crate::error::{EvalError, EvalErrorKind};
use crate::fuel::Fuel;
use crate::function::Function;
use crate::operate::{self, wrong_type};
use crate::pattern::Patterns;
use crate::scope::{Resolved, Scope};
use crate::value::Value;

/// The value of the tree.
pub(crate) fn evaluate(root: &Node, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Value, EvalError> {
    let mut evaluator = Evaluator {
        scope,
        fuel,
        locals: Vec::new(),
        patterns: Patterns::default(),
    };
    let value = evaluator.node(root)?;
    evaluator.owned(root, value)
}

/// A value, borrowed from the tree or the scope where it can be.
type Val<'a> = Cow<'a, Value>;

/// What a path of names leads to.
enum Place<'a> {
    Value(Val<'a>),
    /// Names to which the scope has no value as a whole.
    Branch(Vec<String>),
}

struct Evaluator<'a, 'f> {
    scope: &'a dyn Scope,
    fuel: &'f mut Fuel,
    locals: Vec<Val<'a>>,
    patterns: Patterns,
}

fn at(node: &Node, kind: impl Into<EvalErrorKind>) -> EvalError {
    EvalError {
        span: node.span,
        kind: kind.into(),
    }
}

impl<'a> Evaluator<'a, '_> {
    fn node(&mut self, node: &'a Node) -> Result<Val<'a>, EvalError> {
        self.fuel.spend(1).map_err(|error| at(node, error))?;
        match &node.kind {
            Kind::Literal(value) => Ok(Cow::Borrowed(value)),
            Kind::Local(index) => self.local(node, *index),
            Kind::Variable(_) | Kind::Member(..) | Kind::Index(..) => match self.place(node)? {
                Place::Value(value) => Ok(value),
                Place::Branch(path) => Err(at(node, EvalErrorKind::Whole(path.join(".")))),
            },
            Kind::Has(target, name) => self.has(node, target, name),
            Kind::List(items) => {
                let items: Result<Vec<Value>, EvalError> =
                    items.iter().map(|item| self.copied(item)).collect();
                Ok(Cow::Owned(Value::List(items?)))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Not(operand) => Ok(boolean(!self.boolean(operand, "!")?)),
            Kind::Negate(operand) => self.negate(node, operand),
            Kind::Binary(operator, left, right) => {
                let left = self.node(left)?;
                let right = self.node(right)?;
                let value = operate::binary(*operator, &left, &right, self.fuel);
                value.map(Cow::Owned).map_err(|kind| at(node, kind))
            }
            Kind::And(terms) => self.logic(terms, "&&", false),
            Kind::Or(terms) => self.logic(terms, "||", true),
            Kind::Conditional(parts) => {
                let [condition, then, otherwise] = &**parts;
                if self.boolean(condition, "?")? {
                    self.node(then)
                } else {
                    self.node(otherwise)
                }
            }
            Kind::Call(callee, arguments) => self.call(node, callee, arguments),
            Kind::Loop(each) => self.each(node, each),
        }
    }

    fn owned(&mut self, node: &Node, value: Val<'a>) -> Result<Value, EvalError> {
        if let Cow::Borrowed(value) = &value {
            self.fuel.spend_copy(value).map_err(|error| at(node, error))?;
        }
        Ok(value.into_owned())
    }

    fn copied(&mut self, node: &'a Node) -> Result<Value, EvalError> {
        let value = self.node(node)?;
        self.owned(node, value)
    }

    fn local(&mut self, node: &Node, index: usize) -> Result<Val<'a>, EvalError> {
        // The parser gives out only places that are in force.
        let Some(value) = self.locals.get(index) else {
            return Err(at(node, EvalErrorKind::UnknownVariable(index.to_string())));
        };
        if let Cow::Owned(value) = value {
            self.fuel.spend_copy(value).map_err(|error| at(node, error))?;
        }
        Ok(value.clone())
    }

    /// What a chain of names leads to, asking the scope no deeper than it wants.
    fn place(&mut self, node: &'a Node) -> Result<Place<'a>, EvalError> {
        if let Kind::Variable(name) = &node.kind {
            return match self.scope.resolve(&[name]) {
                Resolved::Value(value) => Ok(Place::Value(value)),
                Resolved::Branch => Ok(Place::Branch(vec![name.clone()])),
                Resolved::Refused(reason) => Err(at(node, EvalErrorKind::Refused(reason))),
                Resolved::Missing => Err(at(node, EvalErrorKind::UnknownVariable(name.clone()))),
            };
        }
        if let Kind::Member(target, name) = &node.kind {
            return match self.place(target)? {
                Place::Value(value) => member(value, name)
                    .map(Place::Value)
                    .map_err(|kind| at(node, kind)),
                Place::Branch(path) => self.deeper(node, path, name),
            };
        }
        let Kind::Index(target, index) = &node.kind else {
            return self.node(node).map(Place::Value);
        };
        let place = self.place(target)?;
        let index = self.node(index)?;
        match (place, &*index) {
            (Place::Value(value), _) => element(value, &index)
                .map(Place::Value)
                .map_err(|kind| at(node, kind)),
            (Place::Branch(path), Value::String(name)) => self.deeper(node, path, name),
            (Place::Branch(_), other) => Err(at(node, wrong_type("[]", "string", other))),
        }
    }

    fn deeper(&mut self, node: &Node, mut path: Vec<String>, name: &str) -> Result<Place<'a>, EvalError> {
        self.fuel.spend(1).map_err(|error| at(node, error))?;
        path.push(name.to_owned());
        match self.resolve(&path) {
            Resolved::Value(value) => Ok(Place::Value(value)),
            Resolved::Branch => Ok(Place::Branch(path)),
            Resolved::Refused(reason) => Err(at(node, EvalErrorKind::Refused(reason))),
            Resolved::Missing => Err(at(node, EvalErrorKind::MissingKey(name.to_owned()))),
        }
    }

    fn resolve(&self, path: &[String]) -> Resolved<'a> {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        self.scope.resolve(&names)
    }

    fn has(&mut self, node: &'a Node, target: &'a Node, name: &str) -> Result<Val<'a>, EvalError> {
        let found = match self.place(target)? {
            Place::Value(value) => {
                let entries = entries(&value, name).map_err(|kind| at(node, kind))?;
                entries.contains_key(name)
            }
            Place::Branch(mut path) => {
                path.push(name.to_owned());
                !matches!(self.resolve(&path), Resolved::Missing)
            }
        };
        Ok(boolean(found))
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Result<Val<'a>, EvalError> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            let name = self.node(key)?;
            let Value::String(name) = &*name else {
                return Err(at(key, wrong_type("{}", "string", &name)));
            };
            self.fuel.spend_text(name.len()).map_err(|error| at(key, error))?;
            let value = self.copied(value)?;
            if map.contains_key(name) {
                return Err(at(key, EvalErrorKind::DuplicateKey(name.clone())));
            }
            map.insert(name.clone(), value);
        }
        Ok(Cow::Owned(Value::Map(map)))
    }

    fn boolean(&mut self, node: &'a Node, what: &'static str) -> Result<bool, EvalError> {
        let value = self.node(node)?;
        let Value::Bool(value) = *value else {
            return Err(at(node, wrong_type(what, "bool", &value)));
        };
        Ok(value)
    }

    /// `&&` and `||`: one term that decides makes the errors of the others not matter, in any order.
    fn logic(&mut self, terms: &'a [Node], what: &'static str, deciding: bool) -> Result<Val<'a>, EvalError> {
        let mut failed = None;
        for term in terms {
            match self.boolean(term, what) {
                Ok(value) if value == deciding => return Ok(boolean(deciding)),
                Ok(_) => {}
                Err(error) if error.kind == EvalErrorKind::TooCostly => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(boolean(!deciding)), Err)
    }

    fn negate(&mut self, node: &Node, operand: &'a Node) -> Result<Val<'a>, EvalError> {
        let value = self.node(operand)?;
        if let Value::Int(number) = *value {
            let negative = number
                .checked_neg()
                .ok_or_else(|| at(node, EvalErrorKind::Overflow("-")))?;
            Ok(Cow::Owned(Value::Int(negative)))
        } else if let Value::Float(number) = *value {
            Ok(Cow::Owned(Value::Float(-number)))
        } else {
            Err(at(node, wrong_type("-", "int or double", &value)))
        }
    }

    fn call(&mut self, node: &Node, callee: &Callee, arguments: &'a [Node]) -> Result<Val<'a>, EvalError> {
        let function = match callee {
            Callee::Known(function) => *function,
            Callee::Unknown(name, _) => return Err(at(node, EvalErrorKind::UnknownFunction(name.clone()))),
        };
        let values: Result<Vec<Val<'a>>, EvalError> =
            arguments.iter().map(|argument| self.node(argument)).collect();
        let values = values?;
        let result = if function == Function::Changed {
            self.changed(&values)
        } else {
            function.apply(&values, &mut self.patterns, self.fuel)
        };
        result.map(Cow::Owned).map_err(|kind| at(node, kind))
    }

    fn changed(&self, values: &[Val<'a>]) -> Result<Value, EvalErrorKind> {
        let patterns: Result<Vec<String>, EvalErrorKind> = (0..values.len())
            .map(|at| Function::Changed.text(values, at).map(str::to_owned))
            .collect();
        self.scope
            .changed(&patterns?)
            .map(Value::Bool)
            .ok_or(EvalErrorKind::ChangedUnknown)
    }
}

fn boolean<'a>(value: bool) -> Val<'a> {
    Cow::Owned(Value::Bool(value))
}

/// The entries of a map that is asked for `name`.
fn entries<'v>(value: &'v Value, name: &str) -> Result<&'v BTreeMap<String, Value>, EvalErrorKind> {
    match value {
        Value::Map(entries) => Ok(entries),
        Value::Null => Err(EvalErrorKind::NullMember(name.to_owned())),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::List(_) => {
            Err(wrong_type(".", "map", value))
        }
    }
}

fn member<'a>(value: Val<'a>, name: &str) -> Result<Val<'a>, EvalErrorKind> {
    let found = match value {
        Cow::Borrowed(map) => entries(map, name)?.get(name).map(Cow::Borrowed),
        Cow::Owned(Value::Map(mut entries)) => entries.remove(name).map(Cow::Owned),
        Cow::Owned(other) => entries(&other, name)?.get(name).cloned().map(Cow::Owned),
    };
    found.ok_or_else(|| EvalErrorKind::MissingKey(name.to_owned()))
}

fn element<'a>(value: Val<'a>, index: &Value) -> Result<Val<'a>, EvalErrorKind> {
    match (&*value, index) {
        (Value::List(items), Value::Int(index)) => {
            let length = items.len();
            let place = usize::try_from(*index).ok().filter(|place| *place < length);
            let found = place.and_then(|place| match value {
                Cow::Borrowed(Value::List(items)) => items.get(place).map(Cow::Borrowed),
                Cow::Owned(Value::List(mut items)) => Some(Cow::Owned(items.swap_remove(place))),
                Cow::Borrowed(_) | Cow::Owned(_) => None,
            });
            found.ok_or(EvalErrorKind::OutOfRange {
                index: *index,
                length,
            })
        }
        (Value::Map(_), Value::String(name)) => member(value, name),
        (Value::Null, _) => Err(EvalErrorKind::NullMember(index.to_string())),
        (Value::List(_), other) => Err(wrong_type("[]", "int", other)),
        (Value::Map(_), other) => Err(wrong_type("[]", "string", other)),
        (other, _) => Err(wrong_type("[]", "list or map", other)),
    }
}
