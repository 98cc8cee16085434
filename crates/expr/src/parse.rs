//! Text to tree, with bounds on length, nesting and macros; entry function [`expression`].
//!
//! The grammar is CEL's; `tests/agreement.rs` compares it with the `cel` crate. It is written by hand because a
//! generated parser would cost a millisecond at its first use and bound neither its stack nor its messages.

mod lexer;
mod literal;
mod primary;

use crate::ast::{Kind, Node, Operator};
use crate::error::{ParseError, Span};
use lexer::{Lexer, Token};

/// The most bytes of an expression.
pub(crate) const MAX_LENGTH: usize = 1024;
/// The most levels in the text, each of which takes the parser ten calls.
const MAX_NESTING: u16 = 32;
/// The most levels of the tree, which a chain such as `a + b + c` reaches without nesting.
const MAX_HEIGHT: u16 = 96;

/// How an expression ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// With its text.
    Text,
    /// With the `}}` of a template.
    Braces,
}

/// Parses the expression that starts at `start`; also tells where its text ends.
pub(crate) fn expression(text: &str, start: usize, ending: Ending) -> Result<(Node, usize), ParseError> {
    let mut parser = Parser::new(text, start)?;
    let root = parser.conditional()?;
    let end = parser.span.start;
    let ended = match ending {
        Ending::Text => parser.token == Token::End,
        Ending::Braces => text.get(end..).is_some_and(|rest| rest.starts_with("}}")),
    };
    if !ended {
        return Err(parser.unexpected("the end of the expression"));
    }
    if end - start > MAX_LENGTH {
        let message = format!(
            "an expression is at most {MAX_LENGTH} bytes, this one has {}",
            end - start
        );
        return Err(ParseError {
            span: Span { start, end },
            message,
            hint: None,
        });
    }
    Ok((root, end))
}

/// A parser with one token of lookahead.
struct Parser<'s> {
    lexer: Lexer<'s>,
    token: Token<'s>,
    span: Span,
    /// The byte after the token before.
    last_end: usize,
    nesting: u16,
    /// Macro variables in force, outermost first.
    locals: Vec<&'s str>,
}

impl<'s> Parser<'s> {
    fn new(text: &'s str, start: usize) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text, start);
        let (token, span) = lexer.token()?;
        Ok(Self {
            lexer,
            token,
            span,
            last_end: start,
            nesting: 0,
            locals: Vec::new(),
        })
    }

    /// Goes to the next token and returns the one before.
    fn advance(&mut self) -> Result<Token<'s>, ParseError> {
        let (token, span) = self.lexer.token()?;
        self.last_end = std::mem::replace(&mut self.span, span).end;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// Takes `mark` if it is next.
    fn take(&mut self, mark: &'static str) -> Result<Option<Span>, ParseError> {
        let span = self.span;
        if self.token != Token::Mark(mark) {
            return Ok(None);
        }
        self.advance()?;
        Ok(Some(span))
    }

    fn expect(&mut self, mark: &'static str) -> Result<Span, ParseError> {
        self.take(mark)?
            .ok_or_else(|| self.unexpected(&format!("`{mark}`")))
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        let found = match &self.token {
            Token::Name(name) => format!("`{name}`"),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::Text(_) => "text".to_owned(),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end".to_owned(),
        };
        self.error(self.span, format!("expected {expected}, found {found}"), None)
    }

    fn error(&self, span: Span, message: String, hint: Option<&str>) -> ParseError {
        ParseError {
            span,
            message,
            hint: hint.map(str::to_owned),
        }
    }

    fn node(&self, start: Span, kind: Kind) -> Result<Node, ParseError> {
        let span = Span {
            start: start.start,
            end: self.last_end.max(start.end),
        };
        let mut node = Node {
            span,
            height: 1,
            kind,
        };
        node.height += node
            .children()
            .iter()
            .map(|child| child.height)
            .max()
            .unwrap_or(0);
        if node.height > MAX_HEIGHT {
            return Err(self.too_deep(span, MAX_HEIGHT));
        }
        Ok(node)
    }

    fn too_deep(&self, span: Span, levels: u16) -> ParseError {
        self.error(
            span,
            format!("the expression is more than {levels} levels deep"),
            None,
        )
    }

    /// `a ? b : c`, and all that binds tighter.
    fn conditional(&mut self) -> Result<Node, ParseError> {
        if self.nesting >= MAX_NESTING {
            return Err(self.too_deep(self.span, MAX_NESTING));
        }
        self.nesting += 1;
        let condition = self.any()?;
        let node = if self.take("?")?.is_some() {
            let then = self.any()?;
            self.expect(":")?;
            let otherwise = self.conditional()?;
            self.node(
                condition.span,
                Kind::Conditional(Box::new([condition, then, otherwise])),
            )?
        } else {
            condition
        };
        self.nesting -= 1;
        Ok(node)
    }

    fn any(&mut self) -> Result<Node, ParseError> {
        let mut terms = vec![self.all()?];
        while self.take("||")?.is_some() {
            terms.push(self.all()?);
        }
        self.joined(terms, Kind::Or)
    }

    fn all(&mut self) -> Result<Node, ParseError> {
        let mut terms = vec![self.binary(0)?];
        while self.take("&&")?.is_some() {
            terms.push(self.binary(0)?);
        }
        self.joined(terms, Kind::And)
    }

    fn joined(&self, mut terms: Vec<Node>, kind: fn(Vec<Node>) -> Kind) -> Result<Node, ParseError> {
        match (terms.pop(), terms.first().map(|first| first.span)) {
            (Some(last), Some(first)) => {
                terms.push(last);
                self.node(first, kind(terms))
            }
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.unexpected("an expression")),
        }
    }

    /// Comparisons, sums and products, all left-associative.
    fn binary(&mut self, least: u8) -> Result<Node, ParseError> {
        let mut left = self.unary()?;
        while let Some((operator, power)) = operator(&self.token).filter(|(_, power)| *power >= least) {
            self.advance()?;
            let right = self.binary(power + 1)?;
            left = self.node(left.span, Kind::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    /// `!!a` and `--a`; as in CEL the two do not mix.
    fn unary(&mut self) -> Result<Node, ParseError> {
        let Token::Mark(sign @ ("!" | "-")) = self.token else {
            return self.member();
        };
        let mut signs = Vec::new();
        while let Some(span) = self.take(sign)? {
            signs.push(span);
        }
        if let (Token::Int(magnitude), Some(span)) =
            (&self.token, signs.last().copied().filter(|_| sign == "-"))
        {
            let number = 0i64.checked_sub_unsigned(*magnitude);
            let number = number.ok_or_else(|| self.out_of_range())?;
            signs.pop();
            self.advance()?;
            let literal = self.node(span, Kind::Literal(number.into()))?;
            let operand = self.members(literal)?;
            return self.signed(sign, &signs, operand);
        }
        let operand = self.member()?;
        self.signed(sign, &signs, operand)
    }

    /// Pairs of signs are kept: they check that the operand has the right type.
    fn signed(&self, sign: &str, signs: &[Span], operand: Node) -> Result<Node, ParseError> {
        signs.iter().rev().try_fold(operand, |operand, span| {
            let operand = Box::new(operand);
            self.node(
                *span,
                if sign == "!" {
                    Kind::Not(operand)
                } else {
                    Kind::Negate(operand)
                },
            )
        })
    }

    fn out_of_range(&self) -> ParseError {
        self.error(self.span, "the number does not fit 64 bits".to_owned(), None)
    }
}

fn operator(token: &Token<'_>) -> Option<(Operator, u8)> {
    let (Token::Mark(symbol) | Token::Name(symbol)) = token else {
        return None;
    };
    Some(match *symbol {
        "==" => (Operator::Equal, 1),
        "!=" => (Operator::NotEqual, 1),
        "<" => (Operator::Less, 1),
        "<=" => (Operator::LessOrEqual, 1),
        ">" => (Operator::Greater, 1),
        ">=" => (Operator::GreaterOrEqual, 1),
        "in" => (Operator::In, 1),
        "+" => (Operator::Add, 2),
        "-" => (Operator::Subtract, 2),
        "*" => (Operator::Multiply, 3),
        "/" => (Operator::Divide, 3),
        "%" => (Operator::Remainder, 3),
        _ => return None,
    })
}
