//! The bound on work.

use std::time::Instant;

use super::JsonScope;
use crate::{EvalErrorKind, Expression, Fuel, Value};

fn kind(text: &str, fuel: u32) -> Result<Value, EvalErrorKind> {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expression
        .evaluate(&JsonScope::sample(), &mut Fuel::new(fuel))
        .map_err(|error| error.kind)
}

#[test]
fn bombs_stop_by_fuel() {
    let wide = format!("[{}]", ["0"; 90].join(","));
    let double = "[x, x].map(x, x + x)";
    for bomb in [
        format!("{wide}.map(a, {wide}.map(b, [a, b]))"),
        format!(
            "{wide}.map(a, {wide}.map(b, 'x'.replace('x', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy')))"
        ),
        format!("{wide}.map(a, {wide}.exists(b, 1 / b == 1) || true)"),
        "big.map(a, big.map(b, big + big))".to_owned(),
        "big.map(a, big.filter(b, big == big))".to_owned(),
        "big.map(a, big.map(b, 'a'.matches('(x{50}){50}')))".to_owned(),
        format!("['aaaaaaaaaaaaaaaa'].map(x, {double})"),
        format!("['a'].map(x, x{})", ".replace('a', 'aaaaaaaa')".repeat(12)),
        "big.map(a, big.map(b, big.join(branch)))".to_owned(),
        "big.map(a, big.exists(b, big.size() == b || a in big))".to_owned(),
    ] {
        let start = Instant::now();
        let result = kind(&bomb, 10_000);
        let bounded = match result {
            Err(
                EvalErrorKind::TooCostly | EvalErrorKind::TooLarge { .. } | EvalErrorKind::WrongType { .. },
            ) => true,
            Ok(_) => bomb.contains(double),
            Err(other) => panic!("{bomb}: {other}"),
        };
        assert!(bounded, "{bomb}");
        // Far above what it takes, so that a busy machine does not fail the test.
        assert!(
            start.elapsed().as_millis() < 1000,
            "{bomb}: {:?}",
            start.elapsed()
        );
    }
}

#[test]
fn running_out_is_not_absorbed() {
    let text = "big.map(a, big.map(b, a + b)).size() > 0 || true";
    assert_eq!(kind(text, 10_000), Err(EvalErrorKind::TooCostly));
    assert_eq!(kind("true || big.map(a, a).size() > 0", 3), Ok(Value::Bool(true)));
    assert_eq!(
        kind("big.all(x, big.map(y, x + y).size() < 0)", 200),
        Err(EvalErrorKind::TooCostly)
    );
}

#[test]
fn text_and_copies_cost_by_size() {
    let spent = |text: &str| {
        let mut fuel = Fuel::new(10_000);
        Expression::parse(text)
            .unwrap()
            .evaluate(&JsonScope::sample(), &mut fuel)
            .unwrap();
        10_000 - fuel.remaining()
    };
    assert_eq!(spent("1"), 1);
    assert_eq!(spent("1 + 1"), 3);
    assert_eq!(spent("big"), 101);
    assert_eq!(spent("big + big"), 203);
    assert_eq!(spent(&format!("'{}' + ''", "x".repeat(640))), 13);
}
