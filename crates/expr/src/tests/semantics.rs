//! What expressions are worth.

use std::collections::BTreeSet;

use super::show;
use crate::{Expression, Reference};

fn table(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(&show(text), expected, "{text}");
    }
}

#[test]
fn operators() {
    table(&[
        ("1 + 2 * 3 - 4", "3"),
        ("(1 + 2) * 3", "9"),
        ("7 / 2", "3"),
        ("-7 % 3", "-1"),
        ("10 - 4 - 3", "3"),
        ("1.5 * 2.0", "3.0"),
        ("0x10 + 1", "17"),
        ("1e3", "1000.0"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("--3", "3"),
        ("'a' + \"b\"", "\"ab\""),
        ("[1] + [2, 'x',]", "[1,2,\"x\"]"),
        ("{'a': 1, 'b': [null]}", "{\"a\":1,\"b\":[null]}"),
        ("1 == 1.0 && 2 > 1.5 && 1 != 2", "true"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("1 == '1'", "false"),
        ("null == null && nothing == null", "true"),
        ("'a' < 'b' && false < true", "true"),
        ("[1, 2] == [1.0, 2]", "true"),
        ("{'a': 1} == {'a': 2}", "false"),
        ("2 in [1, 2]", "true"),
        ("'a' in {'a': 1}", "true"),
        ("!!true", "true"),
        ("true ? 1 : 2", "1"),
        ("false ? 1 : false ? 2 : 3", "3"),
        ("'yes' // a comment", "\"yes\""),
        ("1 < 2 == true", "true"),
    ]);
}

#[test]
fn variables_and_members() {
    table(&[
        ("branch", "\"main\""),
        ("event.kind == \"push\" && branch == \"main\"", "true"),
        ("event.n + 1", "8"),
        ("event.labels[1]", "\"b\""),
        ("event['kind']", "\"push\""),
        ("actions.build.outcome", "\"succeeded\""),
        ("actions[\"unit-test\"].outcome", "\"failed\""),
        ("actions['unit-' + 'test'].outcome", "\"failed\""),
        ("double(actions.build.outputs.covered) > 80.0", "true"),
        ("has(event.kind) && !has(event.nope)", "true"),
        ("has(actions.build) && !has(actions.deploy)", "true"),
        (
            "has(actions.build.outputs.covered) && !has(actions.build.outputs.nope)",
            "true",
        ),
        ("{'a': {'b': 1}}.a.b", "1"),
        ("[[1, 2], [3]][0][1]", "2"),
    ]);
}

#[test]
fn macros_and_functions() {
    table(&[
        ("[1, 2, 3].all(x, x > 0)", "true"),
        ("[1, 2, 3].exists(x, x > 2)", "true"),
        ("[1, 2, 3].exists_one(x, x > 1)", "false"),
        ("[1, 2, 3].map(x, x * 2)", "[2,4,6]"),
        ("[1, 2, 3].map(x, x > 1, x * 2)", "[4,6]"),
        ("[1, 2, 3].filter(x, x != 2)", "[1,3]"),
        ("{'a': 1, 'b': 2}.filter(k, k != 'a')", "[\"b\"]"),
        ("event.labels.map(x, x + branch)", "[\"amain\",\"bmain\"]"),
        ("[1, 2].map(x, [10, 20].map(y, x + y))", "[[11,21],[12,22]]"),
        ("[1, 2].map(x, [3].map(x, x))", "[[3],[3]]"),
        ("[].all(x, false) && ![].exists(x, true)", "true"),
        ("size('äb') + 'abc'.size() + size([1]) + size({})", "6"),
        (
            "'release/1'.startsWith('release/') && 'a.rs'.endsWith('.rs') && 'abc'.contains('b')",
            "true",
        ),
        ("'v1.2'.matches('^v[0-9]+') && !matches('x', 'y')", "true"),
        (
            "'aÄ'.upperAscii() + 'BÄ'.lowerAscii() + ' c '.trim()",
            "\"AÄbÄc\"",
        ),
        ("'a-b-c'.replace('-', '.')", "\"a.b.c\""),
        ("'a,b'.split(',')", "[\"a\",\"b\"]"),
        ("'äb'.split('')", "[\"ä\",\"b\"]"),
        ("['a', 'b'].join() + ['a', 'b'].join(', ')", "\"aba, b\""),
        ("int('12') + int(1.9) + int(-1.9)", "12"),
        ("double('1.5') + double(1)", "2.5"),
        (
            "string(1) + string(1.0) + string(1.5) + string(true) + string('x')",
            "\"111.5truex\"",
        ),
        ("changed('src/**', 'docs/**') && !changed('docs/**')", "true"),
    ]);
}

#[test]
fn errors_have_a_place_and_a_reason() {
    table(&[
        ("1 + nope", "error 4..8: unknown variable `nope`"),
        ("event.nope == 1", "error 0..10: no key `nope`"),
        ("actions.nope.outcome", "error 0..12: no key `nope`"),
        ("actions", "error 0..7: `actions` has no value as a whole"),
        (
            "actions.build == 1",
            "error 0..13: `actions.build` has no value as a whole",
        ),
        ("nothing.x", "error 0..9: null has no member `x`"),
        ("event.parent.x.y", "error 0..14: null has no member `x`"),
        ("branch.x", "error 0..8: `.` needs map, found string"),
        (
            "1 + 'a'",
            "error 0..7: `+` needs two ints, doubles, strings or lists, found int and string",
        ),
        (
            "1 + 1.0",
            "error 0..7: `+` needs two ints, doubles, strings or lists, found int and double",
        ),
        (
            "9223372036854775807 + 1",
            "error 0..23: the result of `+` is out of range",
        ),
        (
            "-9223372036854775808 / -1",
            "error 0..25: the result of `/` is out of range",
        ),
        (
            "-9223372036854775808 % -1",
            "error 0..25: the result of `%` is out of range",
        ),
        ("1 / 0", "error 0..5: division by zero"),
        ("1 % 0", "error 0..5: division by zero"),
        ("[1][1]", "error 0..6: no element 1 in a list of 1"),
        ("[1][-1]", "error 0..7: no element -1 in a list of 1"),
        ("int('x')", "error 0..8: `x` is not a whole number"),
        ("int(1e300)", "error 0..10: the result of `int` is out of range"),
        (
            "'a'.matches('(')",
            "error 0..16: `(` is not a usable regular expression",
        ),
        ("{'a': 1, 'a': 2}", "error 9..12: key `a` is given twice"),
        ("1 ? 2 : 3", "error 0..1: `?` needs bool, found int"),
        ("nofun(1)", "error 0..8: unknown function `nofun`"),
    ]);
}

#[test]
fn one_side_that_decides_absorbs_the_other_sides_error() {
    table(&[
        ("true || nope", "true"),
        ("nope || true", "true"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 && false", "false"),
        ("nope || false", "error 0..4: unknown variable `nope`"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].all(x, 1 / x == 2)", "false"),
        ("[0, 1].all(x, 1 / x == 1)", "error 14..19: division by zero"),
    ]);
}

#[test]
fn texts_that_are_no_expression() {
    for (text, expected) in [
        ("", "0..0: expected an expression, found the end"),
        ("a b", "2..3: expected the end of the expression, found `b`"),
        ("a = b", "2..3: unexpected `=`"),
        ("a &", "2..3: unexpected `&`"),
        ("(a", "2..2: expected `)`, found the end"),
        ("f(a,)", "4..5: expected an expression, found `)`"),
        ("'a", "0..2: the quote is not closed"),
        ("!-a", "1..2: expected an expression, found `-`"),
        ("if", "0..2: `if` is a reserved word"),
        ("1u", "0..2: unsigned numbers are not offered"),
        ("1x", "0..2: `1x` is not a number of 64 bits"),
        ("b'x'", "0..0: bytes are not offered"),
        ("9223372036854775808", "0..19: the number does not fit 64 bits"),
        ("has(a)", "4..5: `has` takes a member"),
        ("[1].map(1, x)", "8..9: expected a name, found a number"),
        (
            "a.map(x, a.map(y, a.map(z, 1)))",
            "23..24: macros stand at most 2 deep in each other",
        ),
        (
            "Type{a: 1}",
            "4..5: expected the end of the expression, found `{`",
        ),
        ("a.?b", "2..3: expected a name, found `?`"),
        ("é", "0..2: unexpected `é`"),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(
            format!("{}..{}: {error}", error.span.start, error.span.end),
            expected,
            "{text}"
        );
    }
    assert_eq!(
        Expression::parse("a = b").unwrap_err().hint.as_deref(),
        Some("write `==` to compare")
    );
    let long = format!("'{}'", "x".repeat(1023));
    assert!(
        Expression::parse(&long)
            .unwrap_err()
            .message
            .contains("at most 1024 bytes")
    );
    assert!(Expression::parse(&long.replacen("x", "", 1)).is_ok());
}

#[test]
fn references_are_what_the_text_names() {
    let text = "branch == 'x' && actions.build.outputs['k'] == actions['unit-test'].outcome
        && has(actions.lint.outputs.n) && actions.image.outputs != null && ['x'].all(l, l == params.p) && changed('a')";
    let name = |name: &str| name.to_owned();
    let expected = BTreeSet::from([
        Reference::Variable(name("branch")),
        Reference::Variable(name("actions")),
        Reference::Variable(name("params")),
        Reference::ActionOutput {
            action: name("build"),
            key: name("k"),
        },
        Reference::ActionOutcome {
            action: name("unit-test"),
        },
        Reference::ActionOutput {
            action: name("lint"),
            key: name("n"),
        },
        Reference::Action {
            action: name("image"),
        },
        Reference::Changed,
    ]);
    assert_eq!(Expression::parse(text).unwrap().references(), &expected);
    for whole in ["actions[branch].outcome", "actions.all(a, true)", "actions"] {
        assert!(
            Expression::parse(whole)
                .unwrap()
                .references()
                .contains(&Reference::AllActions),
            "{whole}"
        );
    }
}
