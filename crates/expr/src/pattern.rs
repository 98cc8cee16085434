//! Regular expressions with bounded work; entry type [`Patterns`].

use regex::{Regex, RegexBuilder};

use crate::error::EvalErrorKind;
use crate::fuel::Fuel;

/// The cost of compiling, which is far dearer than a node.
const COST: usize = 500;
/// The most memory of a compiled pattern, which also bounds the work per byte of text.
const MAX_SIZE: usize = 1 << 18;

/// Compiles a pattern; matching it is linear in the text.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalErrorKind> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_SIZE)
        .build()
        .map_err(|_| EvalErrorKind::BadPattern {
            pattern: pattern.to_owned(),
        })
}

/// The pattern used last, so that a macro over a list compiles its pattern once.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Option<Regex>);

impl Patterns {
    /// Whether a part of `text` fits the pattern.
    pub(crate) fn matches(
        &mut self,
        text: &str,
        pattern: &str,
        fuel: &mut Fuel,
    ) -> Result<bool, EvalErrorKind> {
        // A hard pattern costs as much for a byte as a node does.
        fuel.spend(text.len())?;
        if let Some(regex) = self.0.as_ref().filter(|regex| regex.as_str() == pattern) {
            return Ok(regex.is_match(text));
        }
        fuel.spend(COST)?;
        Ok(self.0.insert(compile(pattern)?).is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_patterns_fit_and_bombs_do_not() {
        for usual in [
            r"^v\d+\.\d+\.\d+(-\w+)?$",
            r"^(feature|fix)/[\w.-]+$",
            "(?i)release",
            r"\bé+\b",
        ] {
            assert!(compile(usual).is_ok(), "{usual}");
        }
        for bomb in [r"(x{200}){200}", r"\w{500}", "(", "(?=x)"] {
            assert!(compile(bomb).is_err(), "{bomb}");
        }
    }

    #[test]
    fn the_same_pattern_is_compiled_once() {
        let (mut patterns, mut fuel) = (Patterns::default(), Fuel::new(600));
        assert_eq!(patterns.matches("ab", "b$", &mut fuel), Ok(true));
        assert_eq!(patterns.matches("ba", "b$", &mut fuel), Ok(false));
        assert_eq!(fuel.remaining(), 600 - 500 - 4);
        assert_eq!(
            patterns.matches("ba", "a$", &mut fuel),
            Err(EvalErrorKind::TooCostly)
        );
    }
}
