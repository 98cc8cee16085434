//! What the type check finds.

use crate::{Environment, Expression, Type};

fn environment() -> Environment {
    let action = || Type::object([("outcome", Type::String), ("outputs", Type::map(Type::String))]);
    Environment::new()
        .variable("branch", Type::String)
        .variable("n", Type::Int)
        .variable("any", Type::Dyn)
        .variable(
            "event",
            Type::object([("kind", Type::String), ("labels", Type::list(Type::String))]),
        )
        .variable(
            "actions",
            Type::object([("build", action()), ("unit-test", action())]),
        )
        .variable("matrix", Type::map(Type::String))
}

fn show(text: &str) -> String {
    match Expression::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .check(&environment())
    {
        Ok(of) => of.to_string(),
        Err(errors) => {
            let lines = errors.iter().map(|error| {
                let hint = error
                    .hint
                    .as_ref()
                    .map(|hint| format!(" ({hint})"))
                    .unwrap_or_default();
                format!(
                    "{}..{}: {}{hint}",
                    error.span.start, error.span.end, error.message
                )
            });
            lines.collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn types() {
    for (text, expected) in [
        ("branch == 'main' && event.kind != 'tag'", "bool"),
        ("n + 1", "int"),
        ("any + 1", "int"),
        ("any.x.y[0]", "dyn"),
        ("actions.build.outputs.anything", "string"),
        ("actions['unit-test'].outcome", "string"),
        ("actions[branch].outcome", "dyn"),
        ("matrix.db", "string"),
        ("[1, 2]", "list(int)"),
        ("[1, 'a']", "list(dyn)"),
        ("event.labels.map(l, size(l))", "list(int)"),
        ("event.labels.filter(l, l == branch)", "list(string)"),
        ("actions.map(a, a)", "list(string)"),
        ("any ? 1 : 2", "int"),
        ("any ? 1 : 'a'", "dyn"),
        ("{'a': 1}.a", "int"),
        ("branch.split('/').join('-')", "string"),
        ("has(matrix.x) || n == null || n < 1.5", "bool"),
    ] {
        assert_eq!(show(text), expected, "{text}");
    }
}

#[test]
fn errors_come_all_at_once_with_what_was_meant() {
    for (text, expected) in [
        (
            "brnch == 'x'",
            "0..5: unknown variable `brnch` (did you mean `branch`?)",
        ),
        (
            "event.knd == 'x'",
            "0..9: no key `knd` in `event` (did you mean `kind`?)",
        ),
        (
            "has(event.x)",
            "0..12: no key `x` in `event` (there is `kind`, `labels`)",
        ),
        (
            "actions.unit-test.outcome == 'x'",
            "0..12: no key `unit` in `actions` (a name with a dash is written `[\"unit-test\"]`); 13..17: unknown variable `test` (there is `actions`, `any`, `branch`, `event`, `matrix`, `n`)",
        ),
        (
            "branch.contain('x')",
            "0..19: unknown function `contain` (did you mean `contains`?)",
        ),
        (
            "contains(branch, 'x')",
            "0..21: `contains` is a method (write `x.contains(..)`)",
        ),
        ("n.int()", "0..7: `int` is no method (write `int(x)`)"),
        (
            "branch == 1 || n == 'x'",
            "0..11: string and int are never equal (text is written in quotes, other values without); 15..23: int and string are never equal (text is written in quotes, other values without)",
        ),
        (
            "branch && n",
            "0..6: `&&` needs bool, found string (compare it, such as `… == \"text\"`); 10..11: `&&` needs bool, found int (compare it, such as `… > 0`)",
        ),
        (
            "branch + n",
            "0..10: `+` needs two ints, doubles, strings or lists, found string and int (convert with `string(..)`)",
        ),
        (
            "n + 1.0",
            "0..7: `+` needs two ints, doubles, strings or lists, found int and double (convert the int with `double(..)`)",
        ),
        ("1.0 % 2.0", "0..9: `%` needs two ints, found double and double"),
        ("-branch", "1..7: `-` needs int or double, found string"),
        (
            "branch < n",
            "0..10: `<` needs two numbers, strings or bools, found string and int",
        ),
        (
            "'x' in branch",
            "7..13: `in` needs a list or map on the right, found string (for a part of text write `text.contains(part)`)",
        ),
        ("1 in event.labels", "5..17: int is never in list(string)"),
        ("event.labels['x']", "13..16: the index needs int, found string"),
        ("branch.x", "0..8: a value of type string has no member `x`"),
        ("n[0]", "0..4: a value of type int has no elements"),
        (
            "branch.startsWith()",
            "0..19: `startsWith` needs 1 argument(s), found 0",
        ),
        ("size(1)", "5..6: `size` needs string, list or map, found int"),
        (
            "branch.matches('(')",
            "15..18: `(` is not a usable regular expression",
        ),
        ("n.all(x, true)", "0..1: `all` needs a list or map, found int"),
        (
            "event.labels.exists(l, l)",
            "23..24: `exists` needs bool, found string (compare it, such as `… == \"text\"`)",
        ),
        ("changed('a')", "0..12: `changed` is not known here"),
        ("{1: 2}", "1..2: a key needs string, found int"),
        ("{'a': 1, 'a': 2}", "9..12: key `a` is given twice"),
    ] {
        assert_eq!(show(text), expected, "{text}");
    }
}

#[test]
fn changed_takes_texts_where_it_is_known() {
    let check = |text| {
        Expression::parse(text)
            .unwrap()
            .check(&environment().with_changed())
    };
    assert_eq!(check("changed('a', branch)"), Ok(Type::Bool));
    assert_eq!(
        check("changed()").unwrap_err()[0].message,
        "`changed` needs at least one argument, found 0"
    );
    assert_eq!(
        check("changed('a', 1)").unwrap_err()[0].message,
        "`changed` needs string, found int"
    );
}
