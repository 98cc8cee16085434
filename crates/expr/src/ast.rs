//! The tree of a parsed expression; entry type [`Node`].

use crate::error::Span;
use crate::function::Function;
use crate::value::Value;

/// One node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    /// Levels of the tree below and with this node, bounded by the parser.
    pub(crate) height: u16,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    Variable(String),
    /// A macro's variable, by its place among those in force.
    Local(usize),
    /// `target.name`.
    Member(Box<Node>, String),
    /// `has(target.name)`.
    Has(Box<Node>, String),
    /// `target[index]`.
    Index(Box<Node>, Box<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// Condition, value if it holds, value if not.
    Conditional(Box<[Node; 3]>),
    /// A call; a method's receiver is the first argument.
    Call(Callee, Vec<Node>),
    Loop(Box<Loop>),
}

/// The function of a call.
#[derive(Clone, Debug)]
pub(crate) enum Callee {
    Known(Function),
    /// Kept so that the check can report it with the other errors.
    Unknown(String, Style),
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Style {
    /// `f(x)`.
    Global,
    /// `x.f()`.
    Method,
}

/// A macro: something done for each element.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) of: Macro,
    pub(crate) over: Node,
    /// The condition of `map` with three arguments.
    pub(crate) condition: Option<Node>,
    pub(crate) body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl Macro {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Macro::All,
            "exists" => Macro::Exists,
            "exists_one" | "existsOne" => Macro::ExistsOne,
            "map" => Macro::Map,
            "filter" => Macro::Filter,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Macro::All => "all",
            Macro::Exists => "exists",
            Macro::ExistsOne => "exists_one",
            Macro::Map => "map",
            Macro::Filter => "filter",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::In => "in",
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
        }
    }
}

impl Node {
    pub(crate) fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Literal(_) | Kind::Variable(_) | Kind::Local(_) => Vec::new(),
            Kind::Member(target, _) | Kind::Has(target, _) => vec![target],
            Kind::Not(operand) | Kind::Negate(operand) => vec![operand],
            Kind::Index(left, right) | Kind::Binary(_, left, right) => vec![left, right],
            Kind::List(nodes) | Kind::And(nodes) | Kind::Or(nodes) | Kind::Call(_, nodes) => {
                nodes.iter().collect()
            }
            Kind::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Kind::Conditional(parts) => parts.iter().collect(),
            Kind::Loop(each) => {
                let mut nodes = vec![&each.over, &each.body];
                nodes.extend(&each.condition);
                nodes
            }
        }
    }

    /// The text, if the node is a literal one.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Kind::Literal(Value::String(text)) = &self.kind {
            Some(text)
        } else {
            None
        }
    }

    /// The key that this node names of another one: `.name` or `["name"]`.
    pub(crate) fn key(&self) -> Option<(&Node, &str)> {
        if let Kind::Member(target, name) | Kind::Has(target, name) = &self.kind {
            Some((target, name))
        } else if let Kind::Index(target, index) = &self.kind {
            Some((target, index.text()?))
        } else {
            None
        }
    }
}
