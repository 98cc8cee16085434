//! Quantities as pipeline files write them: `500m`, `2`, `1.5`, `512Mi`, `4G`.

/// A quantity in thousandths of its unit; none if it is no quantity.
pub fn thousandths(text: &str) -> Option<i64> {
    let at = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(at);
    let scale: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    i64::try_from(digits.checked_mul(scale)? / divisor).ok()
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn quantities_are_read() {
        let cases = [
            ("2", Some(2000)),
            ("500m", Some(500)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("64Mi", Some(64_000 << 20)),
            ("1.5Gi", Some(1_500 << 30)),
            ("1G", Some(1_000_000_000_000)),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("4Gx", None),
            ("99999999999999999999Ti", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(thousandths(text), wanted, "{text}");
        }
    }
}
