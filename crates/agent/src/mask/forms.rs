//! The spellings in which a secret may show up.

/// Shorter values would shred the log.
const SHORTEST: usize = 4;
/// Shorter lines of a long value are too common to hide.
const SHORTEST_LINE: usize = 8;
/// Longer values are hidden line by line only.
const LONGEST: usize = 64 << 10;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// All spellings of all values, sorted and without doubles.
pub(super) fn patterns<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    let mut patterns = Vec::new();
    for value in values {
        // Whatever holds the value holds it trimmed, and the log keeps its line ends.
        let text = value.trim();
        if (SHORTEST..=LONGEST).contains(&text.len()) {
            spell(text, &mut patterns);
        }
        if value.contains('\n') {
            patterns.extend(
                value
                    .lines()
                    .map(str::trim)
                    .filter(|line| line.len() >= SHORTEST_LINE)
                    .map(|line| line.as_bytes().to_vec()),
            );
        }
    }
    patterns.retain(|pattern| pattern.len() >= SHORTEST);
    patterns.sort_unstable();
    patterns.dedup();
    patterns
}

fn spell(text: &str, patterns: &mut Vec<Vec<u8>>) {
    patterns.push(text.as_bytes().to_vec());
    for shift in 0..3 {
        let encoded = base64_inside(text.as_bytes(), shift);
        patterns.push(encoded.iter().map(|byte| url_safe(*byte)).collect());
        patterns.push(encoded);
    }
    // Languages differ in what they leave as it is: nothing but unreserved characters, slashes, or pluses for spaces.
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        patterns.push(percent(text, digits, b"-._~"));
        patterns.push(percent(text, digits, b"-._~/"));
        let form = percent(text, digits, b"-._~ ");
        patterns.push(
            form.iter()
                .map(|byte| if *byte == b' ' { b'+' } else { *byte })
                .collect(),
        );
    }
    patterns.push(hex::encode(text).into_bytes());
    patterns.push(hex::encode_upper(text).into_bytes());
    if let Ok(json) = serde_json::to_string(text) {
        let json = json.trim_matches('"');
        patterns.push(json.as_bytes().to_vec());
        patterns.push(json.replace('/', r"\/").into_bytes());
    }
    let html = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    patterns.push(html.replace('"', "&quot;").replace('\'', "&#39;").into_bytes());
    patterns.push(html.replace('"', "&quot;").replace('\'', "&#x27;").into_bytes());
    patterns.push(html.into_bytes());
    // The echo of a command quotes its words, in bash and in dash each in its own way.
    patterns.push(text.replace('\'', r"'\''").into_bytes());
    patterns.push(text.replace('\'', r#"'"'"'"#).into_bytes());
}

/// The characters of a Base64 text that depend on `bytes` alone, when `shift` other bytes stand before them.
fn base64_inside(bytes: &[u8], shift: usize) -> Vec<u8> {
    let mut data = vec![0; shift];
    data.extend_from_slice(bytes);
    let mut encoded = Vec::with_capacity(data.len().div_ceil(3) * 4);
    for group in data.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            let index = (bits >> (18 - 6 * place)) & 63;
            encoded.push(
                usize::try_from(index)
                    .ok()
                    .and_then(|index| BASE64.get(index))
                    .copied()
                    .unwrap_or(b'='),
            );
        }
    }
    if !data.len().is_multiple_of(3) {
        encoded.pop();
    }
    let mixed = if shift == 0 { 0 } else { shift + 1 };
    encoded.split_off(mixed.min(encoded.len()))
}

fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

/// Percent-encodes what is neither a letter, a digit nor `kept`.
fn percent(text: &str, digits: &[u8; 16], kept: &[u8]) -> Vec<u8> {
    let digit = |value: u8| digits.get(usize::from(value)).copied().unwrap_or(b'0');
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(byte);
        } else {
            encoded.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}
