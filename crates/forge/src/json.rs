//! Reading a body as JSON: also from a form, and never deeper than a payload needs.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::ParseFailure;

const MAX_DEPTH: usize = 64;

/// The JSON text of a body, which forges can also be told to send as the form field `payload`.
pub(crate) fn json_text(body: &[u8]) -> Result<Cow<'_, [u8]>, ParseFailure> {
    match body.strip_prefix(b"payload=") {
        None => Ok(Cow::Borrowed(body)),
        Some(field) => {
            let end = field.iter().position(|b| *b == b'&').unwrap_or(field.len());
            let (field, _) = field.split_at(end);
            form_decoded(field).map(Cow::Owned).ok_or(ParseFailure::BadForm)
        }
    }
}

/// Reads JSON of bounded depth.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, ParseFailure> {
    if depth_exceeds(json, MAX_DEPTH) {
        return Err(ParseFailure::TooDeep { limit: MAX_DEPTH });
    }
    serde_json::from_slice(json).map_err(ParseFailure::BadJson)
}

fn form_decoded(field: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = field.iter();
    let mut decoded = Vec::with_capacity(field.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut code = [0];
                hex::decode_to_slice([*bytes.next()?, *bytes.next()?], &mut code).ok()?;
                u8::from_be_bytes(code)
            }
            other => *other,
        });
    }
    Some(decoded)
}

/// Counts brackets outside strings, since the reader skips unknown values without counting.
fn depth_exceeds(json: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match (in_string, byte) {
            (true, b'\\') => {
                bytes.next();
            }
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{depth_exceeds, json_text};

    #[test]
    fn forms_are_unpacked() {
        let text = json_text(b"payload=%7B%22a%22%3A+1%7D&x=1").unwrap();
        assert_eq!(text.as_ref(), br#"{"a": 1}"#);
        assert_eq!(json_text(b"{}").unwrap().as_ref(), b"{}");
        for broken in [&b"payload=%"[..], b"payload=%4", b"payload=%zz"] {
            assert!(json_text(broken).is_err());
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(!depth_exceeds(br#"{"a":["[[[["]}"#, 2));
        assert!(!depth_exceeds(br#"["\"[[[", []]"#, 2));
        assert!(depth_exceeds(b"[[[", 2));
        assert!(!depth_exceeds(b"[][][]", 1));
        assert!(!depth_exceeds(br#""\"#, 1));
    }
}
