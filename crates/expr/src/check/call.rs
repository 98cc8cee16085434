//! The check of calls.

use super::Checker;
use crate::ast::{Callee, Kind, Node, Style};
use crate::environment::Changed;
use crate::error::{Span, suggestion};
use crate::function::Function;
use crate::pattern;
use crate::types::Type;
use crate::value::Value;

impl Checker<'_> {
    pub(super) fn call(&mut self, span: Span, callee: &Callee, arguments: &[Node]) -> Type {
        let types: Vec<Type> = arguments.iter().map(|argument| self.node(argument)).collect();
        let function = match callee {
            Callee::Known(Function::Changed) if self.environment.changed() == Changed::Unknown => {
                return self.error(span, "`changed` is not known here".to_owned(), None);
            }
            Callee::Known(function) => *function,
            Callee::Unknown(name, style) => return self.unknown(span, name, *style),
        };
        let (least, parameters, result) = function.signature();
        let most = if function == Function::Changed {
            usize::MAX
        } else {
            parameters.len()
        };
        if arguments.len() < least || arguments.len() > most {
            return self.wrong_count(span, function, arguments.len());
        }
        let last = parameters.last();
        for ((argument, of), parameter) in arguments
            .iter()
            .zip(&types)
            .zip(parameters.iter().chain(std::iter::repeat(last).flatten()))
        {
            if !parameter.accepts(of) {
                let (name, expected) = (function.name(), parameter.describe());
                self.error(
                    argument.span,
                    format!("`{name}` needs {expected}, found {of}"),
                    None,
                );
            }
        }
        if let (
            Function::Matches,
            [
                _,
                Node {
                    kind: Kind::Literal(Value::String(text)),
                    span,
                    ..
                },
            ],
        ) = (function, arguments)
            && let Err(error) = pattern::compile(text)
        {
            self.error(*span, error.to_string(), None);
        }
        result
    }

    fn wrong_count(&mut self, span: Span, function: Function, found: usize) -> Type {
        let (least, parameters, _) = function.signature();
        // A method's receiver is no argument to its reader.
        let receiver = usize::from(!function.has(Style::Global));
        let (least, most) = (least - receiver, parameters.len() - receiver);
        let wanted = if function == Function::Changed {
            "at least one argument".to_owned()
        } else if least == most {
            format!("{least} argument(s)")
        } else {
            format!("{least} to {most} argument(s)")
        };
        let found = found.saturating_sub(receiver);
        self.error(
            span,
            format!("`{}` needs {wanted}, found {found}", function.name()),
            None,
        )
    }

    fn unknown(&mut self, span: Span, name: &str, style: Style) -> Type {
        let named = Function::ALL.into_iter().find(|function| function.name() == name);
        if let Some(function) = named {
            let (message, hint) = match style {
                Style::Global => ("is a method", format!("write `x.{name}(..)`")),
                Style::Method => ("is no method", format!("write `{name}(x)`")),
            };
            return self.error(span, format!("`{}` {message}", function.name()), Some(hint));
        }
        const MACROS: [&str; 6] = ["all", "exists", "exists_one", "map", "filter", "has"];
        let changed = self.environment.changed();
        let known: Vec<&str> = Function::ALL
            .iter()
            .filter(|function| **function != Function::Changed || changed == Changed::Known)
            .map(|function| function.name())
            .chain(MACROS)
            .collect();
        let hint = suggestion(name, known.into_iter());
        self.error(span, format!("unknown function `{name}`"), hint)
    }
}
