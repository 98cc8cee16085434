//! Texts with `${{ }}` in them.

use super::JsonScope;
use crate::{Environment, EvalErrorKind, Fuel, Template, Type};

fn show(text: &str) -> String {
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    match template.evaluate(&JsonScope::sample(), &mut Fuel::default()) {
        Ok(value) => serde_json::to_string(&value).unwrap(),
        Err(error) => format!("error {}..{}: {error}", error.span.start, error.span.end),
    }
}

#[test]
fn values() {
    for (text, expected) in [
        ("", "\"\""),
        ("plain", "\"plain\""),
        ("${{ n }}", "3"),
        ("${{n}}", "3"),
        ("${{ event.labels }}", "[\"a\",\"b\"]"),
        (" ${{ n }}", "\" 3\""),
        ("v${{ n }}-${{ branch }}.", "\"v3-main.\""),
        ("${{ n }}${{ nothing }}", "\"3\""),
        ("x${{ event.labels }}", "\"x[\\\"a\\\",\\\"b\\\"]\""),
        ("$${{ n }}", "\"${{ n }}\""),
        ("a$${{b}} ${{ n }}", "\"a${{b}} 3\""),
        ("$${{ and ${{ n }}", "\"${{ and 3\""),
        ("$$${{ n }}", "\"$${{ n }}\""),
        ("${{ '}}' }}", "\"}}\""),
        ("${{ {'a': {'b': 1}}}}", "{\"a\":{\"b\":1}}"),
        ("$HOME ${X} }} {{", "\"$HOME ${X} }} {{\""),
        ("ä${{ nope }}", "error 6..10: unknown variable `nope`"),
    ] {
        assert_eq!(show(text), expected, "{text}");
    }
}

#[test]
fn errors_count_from_the_start_of_the_text() {
    for (text, offset, message) in [
        ("ab${{ n", 2, "`${{` is not closed"),
        ("ab${{ n }", 2, "`${{` is not closed"),
        ("ab${{ n + }}", 10, "expected an expression, found `}`"),
        ("${{ n }} ${{ }}", 13, "expected an expression, found `}`"),
        ("${{ 'a }}", 4, "the quote is not closed"),
    ] {
        let error = Template::parse(text).expect_err(text);
        assert_eq!(
            (error.offset(), error.to_string().as_str()),
            (offset, message),
            "{text}"
        );
    }
    let long = format!("${{{{ '{}' }}}}", "x".repeat(1024));
    assert!(
        Template::parse(&long)
            .unwrap_err()
            .to_string()
            .contains("at most 1024 bytes")
    );
}

#[test]
fn parts_are_known_before_evaluation() {
    let template = Template::parse("a ${{ n }} b ${{branch}}").unwrap();
    let expressions: Vec<_> = template
        .expressions()
        .map(|(at, expression)| (at, expression.text()))
        .collect();
    assert_eq!(expressions, [(5, "n"), (16, "branch")]);
    assert!(!template.is_literal());
    assert_eq!(template.references().len(), 2);
    assert_eq!(Template::parse("a $${{ b").unwrap().literal(), Some("a ${{ b"));

    let environment = Environment::new().variable("n", Type::Int);
    let errors = template.check(&environment).unwrap_err();
    assert_eq!((errors.len(), errors[0].span.start), (1, 16));
    assert_eq!(
        Template::parse("${{ n }}").unwrap().check(&environment),
        Ok(Type::Int)
    );
    assert_eq!(
        Template::parse("${{ n }}!").unwrap().check(&environment),
        Ok(Type::String)
    );
    assert_eq!(
        Template::parse("n").unwrap().check(&environment),
        Ok(Type::String)
    );
}

#[test]
fn a_text_grows_no_further_than_its_limit() {
    let text = format!("{}${{{{ branch }}}}", "x".repeat(64 * 1024));
    let error = Template::parse(&text)
        .unwrap()
        .evaluate(&JsonScope::sample(), &mut Fuel::default())
        .unwrap_err();
    assert_eq!(error.kind, EvalErrorKind::TooLarge { limit: 64 * 1024 });
    assert_eq!(show(&text[1024..]).len(), 63 * 1024 + 6);
}
