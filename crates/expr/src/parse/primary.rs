//! The innermost parts of the grammar: literals, names, calls, members, brackets.

use super::Parser;
use super::lexer::Token;
use crate::ast::{Callee, Kind, Loop, Macro, Node, Style};
use crate::error::{ParseError, Span};
use crate::function::Function;
use crate::value::Value;

/// The most macros inside each other.
const MAX_LOOPS: usize = 2;

/// Words that CEL keeps for other languages' sake.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

impl<'s> Parser<'s> {
    /// A primary with what follows it.
    pub(super) fn member(&mut self) -> Result<Node, ParseError> {
        let target = self.primary()?;
        self.members(target)
    }

    /// `.name`, `.name(..)` and `[index]` after `target`.
    pub(super) fn members(&mut self, mut target: Node) -> Result<Node, ParseError> {
        loop {
            let start = target.span;
            if self.take(".")?.is_some() {
                let name = self.name()?;
                target = if self.token != Token::Mark("(") {
                    self.node(start, Kind::Member(Box::new(target), name.to_owned()))?
                } else if let Some(of) = Macro::named(name) {
                    self.each(of, target)?
                } else {
                    self.call(start, name, Some(target))?
                };
            } else if self.take("[")?.is_some() {
                let index = self.conditional()?;
                self.expect("]")?;
                target = self.node(start, Kind::Index(Box::new(target), Box::new(index)))?;
            } else {
                return Ok(target);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, ParseError> {
        let span = self.span;
        match &self.token {
            Token::Name(_) => self.named(span),
            Token::Int(number) => {
                let number = i64::try_from(*number).map_err(|_| self.out_of_range())?;
                self.literal(span, Value::Int(number))
            }
            Token::Float(number) => {
                let number = *number;
                self.literal(span, Value::Float(number))
            }
            Token::Text(text) => {
                let text = text.clone();
                self.literal(span, Value::String(text))
            }
            Token::Mark("(") => {
                self.advance()?;
                let inner = self.conditional()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Mark("[") => {
                self.advance()?;
                let items = self.listed("]", Self::conditional)?;
                self.node(span, Kind::List(items))
            }
            Token::Mark("{") => {
                self.advance()?;
                let entries = self.listed("}", Self::entry)?;
                self.node(span, Kind::Map(entries))
            }
            Token::Mark(_) | Token::End => Err(self.unexpected("an expression")),
        }
    }

    fn literal(&mut self, span: Span, value: Value) -> Result<Node, ParseError> {
        self.advance()?;
        self.node(span, Kind::Literal(value))
    }

    fn entry(&mut self) -> Result<(Node, Node), ParseError> {
        let key = self.conditional()?;
        self.expect(":")?;
        Ok((key, self.conditional()?))
    }

    /// Parts up to `close`, with a comma between them and maybe after the last.
    fn listed<T>(
        &mut self,
        close: &'static str,
        part: fn(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut parts = Vec::new();
        loop {
            if self.take(close)?.is_some() {
                return Ok(parts);
            }
            parts.push(part(self)?);
            if self.take(",")?.is_none() {
                self.expect(close)?;
                return Ok(parts);
            }
        }
    }

    fn name(&mut self) -> Result<&'s str, ParseError> {
        let Token::Name(name) = self.token else {
            return Err(self.unexpected("a name"));
        };
        if matches!(name, "true" | "false" | "null" | "in") {
            return Err(self.unexpected("a name"));
        }
        self.advance()?;
        Ok(name)
    }

    /// What starts with a word: a constant, a variable, a function, `has`.
    fn named(&mut self, span: Span) -> Result<Node, ParseError> {
        let constant = match &self.token {
            Token::Name("true") => Some(Value::Bool(true)),
            Token::Name("false") => Some(Value::Bool(false)),
            Token::Name("null") => Some(Value::Null),
            Token::Name(_)
            | Token::Int(_)
            | Token::Float(_)
            | Token::Text(_)
            | Token::Mark(_)
            | Token::End => None,
        };
        if let Some(value) = constant {
            return self.literal(span, value);
        }
        let name = self.name()?;
        if RESERVED.contains(&name) {
            return Err(self.error(span, format!("`{name}` is a reserved word"), None));
        }
        if self.token != Token::Mark("(") {
            let local = self.locals.iter().rposition(|local| *local == name);
            let kind = local.map_or_else(|| Kind::Variable(name.to_owned()), Kind::Local);
            return self.node(span, kind);
        }
        if name == "has" {
            return self.has(span);
        }
        self.call(span, name, None)
    }

    fn has(&mut self, span: Span) -> Result<Node, ParseError> {
        self.expect("(")?;
        let of = self.conditional()?;
        self.expect(")")?;
        let Kind::Member(target, name) = of.kind else {
            return Err(self.error(
                of.span,
                "`has` takes a member".to_owned(),
                Some("write `has(a.b)`"),
            ));
        };
        self.node(span, Kind::Has(target, name))
    }

    fn call(&mut self, start: Span, name: &str, receiver: Option<Node>) -> Result<Node, ParseError> {
        let style = if receiver.is_some() {
            Style::Method
        } else {
            Style::Global
        };
        self.expect("(")?;
        let mut arguments = Vec::from_iter(receiver);
        // The grammar allows a trailing comma in lists and maps, not in calls.
        if self.take(")")?.is_none() {
            arguments.push(self.conditional()?);
            while self.take(",")?.is_some() {
                arguments.push(self.conditional()?);
            }
            self.expect(")")?;
        }
        let callee = Function::named(name, style)
            .map_or_else(|| Callee::Unknown(name.to_owned(), style), Callee::Known);
        self.node(start, Kind::Call(callee, arguments))
    }

    /// A macro's arguments: a variable, for `map` maybe a condition, and what is done for each element.
    fn each(&mut self, of: Macro, over: Node) -> Result<Node, ParseError> {
        let start = over.span;
        if self.locals.len() >= MAX_LOOPS {
            let message = format!("macros stand at most {MAX_LOOPS} deep in each other");
            return Err(self.error(self.span, message, None));
        }
        self.expect("(")?;
        if matches!(self.token, Token::Name(name) if RESERVED.contains(&name)) {
            return Err(self.unexpected(&format!("the variable of `{}`", of.name())));
        }
        let variable = self.name()?;
        self.expect(",")?;
        self.locals.push(variable);
        let first = self.conditional()?;
        let second = match of {
            Macro::Map => self.take(",")?.map(|_| self.conditional()).transpose()?,
            Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter => None,
        };
        self.locals.pop();
        self.expect(")")?;
        let (condition, body) = match second {
            Some(body) => (Some(first), body),
            None => (None, first),
        };
        self.node(
            start,
            Kind::Loop(Box::new(Loop {
                of,
                over,
                condition,
                body,
            })),
        )
    }
}
