//! Texts written to hurt.

use proptest::prelude::*;

use super::JsonScope;
use crate::{Environment, Expression, Fuel, Template, Type};

/// Runs a text all the way on a small stack, whatever it is worth.
fn survive(text: String) {
    let work = move || {
        if let Ok(expression) = Expression::parse(&text) {
            let _ = expression.check(&Environment::new().variable("a", Type::Dyn));
            let _ = expression.evaluate(&JsonScope::sample(), &mut Fuel::default());
        }
        let _ = Template::parse(&text);
        let _ = Template::parse(&format!("x${{{{{text}}}}}"));
    };
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn deep_texts_neither_panic_nor_overrun_the_stack() {
    for part in [
        "(",
        "[",
        "{",
        "{'a':",
        "!",
        "-",
        "a.",
        "a[",
        "[0]",
        "a?",
        "a?a:",
        "a?(",
        "f(",
        "1+",
        "1==",
        "a&&",
        "!(",
        "-[",
        "has(",
        "a.map(x,",
        "[[].map(x,",
        "a.f(",
        "1in",
        "\"",
        "'''",
        "\\",
        "${{",
        "}}",
        "a||(",
        "//",
        "x.y(",
        "+1",
        ".b",
        ".trim()",
        " in a",
    ] {
        survive(part.repeat(1024 / part.len()));
        survive(part.repeat(40_000 / part.len()));
        survive(format!("{}a", part.repeat(31)));
        survive(format!("a{}", part.repeat(95)));
    }
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{'a':", "}"),
        ("!(", ")"),
        ("size([", "])"),
        ("a[", "]"),
    ] {
        for depth in [1, 15, 16, 30, 31, 32, 200] {
            survive(format!("{}1{}", open.repeat(depth), close.repeat(depth)));
        }
    }
    assert!(Expression::parse(&format!("{}1{}", "(".repeat(31), ")".repeat(31))).is_ok());
    assert!(Expression::parse(&format!("{}1{}", "(".repeat(32), ")".repeat(32))).is_err());
}

pub(super) fn pieces() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "a",
        "x",
        "1",
        "0",
        "1.5",
        "'t'",
        "\"",
        "'",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        "?",
        ":",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "==",
        "<",
        "&&",
        "||",
        " in ",
        "has(",
        ".map(x,",
        ".all(x,",
        ".exists_one(x,",
        "size(",
        "null",
        "true",
        "branch",
        "event",
        ".labels",
        "actions",
        ".build",
        ".outputs",
        "big",
        "é",
        "\\",
        "\n",
        "${{",
        "}}",
        "int(",
        ".matches(",
        ".split(",
        ".join(",
        ".replace('',",
        "9223372036854775807",
        "\u{0}",
    ];
    proptest::collection::vec(proptest::sample::select(WORDS), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_pieces_never_panic(text in pieces()) {
        survive(text);
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,80}") {
        survive(text);
    }

    #[test]
    fn spans_lie_on_characters(text in pieces()) {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(text.get(error.span.start..error.span.end).is_some(), "{:?}", error);
        }
    }
}
