//! The type check, which reports every error at once; entry function [`check`].

mod call;

use std::collections::BTreeMap;

use crate::ast::{Kind, Loop, Macro, Node, Operator};
use crate::environment::Environment;
use crate::error::{CheckError, Span, suggestion};
use crate::operate::operands;
use crate::types::Type;

/// The type of the tree, or everything that is wrong with it.
pub(crate) fn check(root: &Node, environment: &Environment) -> Result<Type, Vec<CheckError>> {
    let mut checker = Checker {
        environment,
        locals: Vec::new(),
        errors: Vec::new(),
    };
    let of = checker.node(root);
    if checker.errors.is_empty() {
        Ok(of)
    } else {
        Err(checker.errors)
    }
}

struct Checker<'a> {
    environment: &'a Environment,
    locals: Vec<Type>,
    errors: Vec<CheckError>,
}

impl Checker<'_> {
    /// The type of a node; what is wrong counts as anything, so that one mistake is one error.
    fn node(&mut self, node: &Node) -> Type {
        match &node.kind {
            Kind::Literal(value) => Type::of(value),
            Kind::Variable(name) => self.variable(node.span, name),
            Kind::Local(at) => self.locals.get(*at).cloned().unwrap_or(Type::Dyn),
            Kind::Member(target, name) => self.member(node.span, target, name),
            Kind::Has(target, name) => {
                self.member(node.span, target, name);
                Type::Bool
            }
            Kind::Index(target, index) => self.index(node.span, target, index),
            Kind::List(items) => {
                let types: Vec<Type> = items.iter().map(|item| self.node(item)).collect();
                Type::list(Type::joined(types))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Not(operand) => {
                self.boolean(operand, "`!`");
                Type::Bool
            }
            Kind::Negate(operand) => self.negate(operand),
            Kind::Binary(operator, left, right) => self.binary(node.span, *operator, left, right),
            Kind::And(terms) => self.logic(terms, "`&&`"),
            Kind::Or(terms) => self.logic(terms, "`||`"),
            Kind::Conditional(parts) => {
                let [condition, then, otherwise] = &**parts;
                self.boolean(condition, "the condition of `?`");
                let then = self.node(then);
                then.join(self.node(otherwise))
            }
            Kind::Call(callee, arguments) => self.call(node.span, callee, arguments),
            Kind::Loop(each) => self.each(each),
        }
    }

    fn error(&mut self, span: Span, message: String, hint: Option<String>) -> Type {
        self.errors.push(CheckError { span, message, hint });
        Type::Dyn
    }

    fn variable(&mut self, span: Span, name: &str) -> Type {
        match self.environment.type_of(name) {
            Some(of) => of.clone(),
            None => {
                let hint = suggestion(name, self.environment.names().collect::<Vec<_>>().into_iter());
                self.error(span, format!("unknown variable `{name}`"), hint)
            }
        }
    }

    fn member(&mut self, span: Span, target: &Node, name: &str) -> Type {
        let of = self.node(target);
        self.key(span, target, of, name)
    }

    /// The type of a fixed key of `target`, whose type is `of`.
    fn key(&mut self, span: Span, target: &Node, of: Type, name: &str) -> Type {
        match of {
            Type::Dyn => Type::Dyn,
            Type::Map(element) => *element,
            Type::Object(mut keys) => match keys.remove(name) {
                Some(of) => of,
                None => self.unknown_key(span, target, name, &keys),
            },
            other @ (Type::Null | Type::Bool | Type::Int | Type::Float | Type::String | Type::List(_)) => {
                self.error(
                    span,
                    format!("a value of type {other} has no member `{name}`"),
                    None,
                )
            }
        }
    }

    fn unknown_key(&mut self, span: Span, target: &Node, name: &str, keys: &BTreeMap<String, Type>) -> Type {
        let owner = if let Kind::Variable(owner) | Kind::Member(_, owner) = &target.kind {
            format!(" in `{owner}`")
        } else {
            String::new()
        };
        // Reading `a.unit-test` as a subtraction leaves the part before the dash as the key that is unknown.
        let start = format!("{name}-");
        let hint = keys
            .keys()
            .find(|key| key.starts_with(&start))
            .map(|key| format!("a name with a dash is written `[\"{key}\"]`"))
            .or_else(|| suggestion(name, keys.keys().map(String::as_str)));
        self.error(span, format!("no key `{name}`{owner}"), hint)
    }

    fn index(&mut self, span: Span, target: &Node, index: &Node) -> Type {
        let of = self.node(target);
        let by = self.node(index);
        let (expected, element) = match of {
            Type::Dyn => return Type::Dyn,
            Type::List(element) => (Type::Int, *element),
            Type::Map(element) => (Type::String, *element),
            Type::Object(_) => match index.text() {
                Some(name) => return self.key(span, target, of, name),
                None => (Type::String, Type::Dyn),
            },
            other @ (Type::Null | Type::Bool | Type::Int | Type::Float | Type::String) => {
                return self.error(span, format!("a value of type {other} has no elements"), None);
            }
        };
        if by != expected && by != Type::Dyn {
            return self.error(
                index.span,
                format!("the index needs {expected}, found {by}"),
                None,
            );
        }
        element
    }

    fn map(&mut self, entries: &[(Node, Node)]) -> Type {
        let mut fixed = BTreeMap::new();
        let mut values = Vec::new();
        for (key, value) in entries {
            let of = self.node(key);
            if !matches!(of, Type::String | Type::Dyn) {
                self.error(key.span, format!("a key needs string, found {of}"), None);
            }
            let value = self.node(value);
            if let Some(name) = key.text()
                && fixed.insert(name.to_owned(), value.clone()).is_some()
            {
                self.error(key.span, format!("key `{name}` is given twice"), None);
            }
            values.push(value);
        }
        if fixed.len() == entries.len() && !fixed.is_empty() {
            Type::Object(fixed)
        } else {
            Type::map(Type::joined(values))
        }
    }

    fn boolean(&mut self, node: &Node, what: &str) {
        let of = self.node(node);
        if !of.is_bool_or_dyn() {
            let hint = match of {
                Type::String => Some("compare it, such as `… == \"text\"`".to_owned()),
                Type::Int | Type::Float => Some("compare it, such as `… > 0`".to_owned()),
                Type::Null | Type::Bool | Type::List(_) | Type::Map(_) | Type::Object(_) | Type::Dyn => None,
            };
            self.error(node.span, format!("{what} needs bool, found {of}"), hint);
        }
    }

    fn logic(&mut self, terms: &[Node], what: &str) -> Type {
        for term in terms {
            self.boolean(term, what);
        }
        Type::Bool
    }

    fn negate(&mut self, operand: &Node) -> Type {
        let of = self.node(operand);
        if of.is_number_or_dyn() {
            return of;
        }
        self.error(operand.span, format!("`-` needs int or double, found {of}"), None)
    }

    fn binary(&mut self, span: Span, operator: Operator, left: &Node, right: &Node) -> Type {
        let a = self.node(left);
        let b = self.node(right);
        match operator {
            Operator::Equal | Operator::NotEqual => {
                if !a.may_equal(&b) {
                    let quotes = matches!(a, Type::String) != matches!(b, Type::String);
                    let hint = quotes.then(|| "text is written in quotes, other values without".to_owned());
                    self.error(span, format!("{a} and {b} are never equal"), hint);
                }
                Type::Bool
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                self.ordered(span, operator, &a, &b);
                Type::Bool
            }
            Operator::In => {
                self.contained(right.span, &a, &b);
                Type::Bool
            }
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => self.arithmetic(span, operator, a, b),
        }
    }

    fn ordered(&mut self, span: Span, operator: Operator, a: &Type, b: &Type) {
        let fits = match (a, b) {
            (Type::Dyn, Type::Dyn) => true,
            (Type::Dyn, other) | (other, Type::Dyn) => {
                matches!(other, Type::Bool | Type::String) || other.is_number_or_dyn()
            }
            (Type::String, Type::String) | (Type::Bool, Type::Bool) => true,
            (a, b) => a.is_number_or_dyn() && b.is_number_or_dyn(),
        };
        if !fits {
            let symbol = operator.symbol();
            self.error(
                span,
                format!("`{symbol}` needs two numbers, strings or bools, found {a} and {b}"),
                None,
            );
        }
    }

    fn contained(&mut self, span: Span, item: &Type, of: &Type) {
        match of {
            Type::Dyn | Type::Map(_) | Type::Object(_) => {}
            Type::List(element) => {
                if !item.may_equal(element) {
                    self.error(span, format!("{item} is never in {of}"), None);
                }
            }
            Type::Null | Type::Bool | Type::Int | Type::Float | Type::String => {
                let hint = matches!(of, Type::String)
                    .then(|| "for a part of text write `text.contains(part)`".to_owned());
                self.error(
                    span,
                    format!("`in` needs a list or map on the right, found {of}"),
                    hint,
                );
            }
        }
    }

    fn arithmetic(&mut self, span: Span, operator: Operator, a: Type, b: Type) -> Type {
        let takes = |of: &Type| match of {
            Type::Int | Type::Dyn => true,
            Type::Float => operator != Operator::Remainder,
            Type::String | Type::List(_) => operator == Operator::Add,
            Type::Null | Type::Bool | Type::Map(_) | Type::Object(_) => false,
        };
        if takes(&a) && takes(&b) {
            match (&a, &b) {
                (Type::List(_), Type::List(_)) => return a.join(b),
                // The one that is known tells the type of both, but for the elements of a list.
                (Type::Dyn, Type::List(_)) | (Type::List(_), Type::Dyn) => return Type::list(Type::Dyn),
                (Type::Dyn, _) => return b,
                (_, Type::Dyn) => return a,
                _ if a == b => return a,
                _ => {}
            }
        }
        let hint = match (&a, &b) {
            (Type::Int, Type::Float) | (Type::Float, Type::Int) => Some("convert the int with `double(..)`"),
            (Type::String, _) | (_, Type::String) if operator == Operator::Add => {
                Some("convert with `string(..)`")
            }
            _ => None,
        };
        let (symbol, expected) = (operator.symbol(), operands(operator));
        self.error(
            span,
            format!("`{symbol}` needs {expected}, found {a} and {b}"),
            hint.map(str::to_owned),
        )
    }

    fn each(&mut self, each: &Loop) -> Type {
        let element = match self.node(&each.over) {
            Type::List(element) => *element,
            Type::Map(_) | Type::Object(_) => Type::String,
            Type::Dyn => Type::Dyn,
            other @ (Type::Null | Type::Bool | Type::Int | Type::Float | Type::String) => self.error(
                each.over.span,
                format!("`{}` needs a list or map, found {other}", each.of.name()),
                None,
            ),
        };
        self.locals.push(element.clone());
        let what = format!("`{}`", each.of.name());
        if let Some(condition) = &each.condition {
            self.boolean(condition, &what);
        }
        let of = match each.of {
            Macro::All | Macro::Exists | Macro::ExistsOne => {
                self.boolean(&each.body, &what);
                Type::Bool
            }
            Macro::Filter => {
                self.boolean(&each.body, &what);
                Type::list(element)
            }
            Macro::Map => Type::list(self.node(&each.body)),
        };
        self.locals.pop();
        of
    }
}
