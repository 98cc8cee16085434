//! Bytes that arrive in pieces and are text in the end.

/// How many bytes make whole characters; bytes that are no text at all count as whole.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => {
            let tail = bytes.get(bytes.len().saturating_sub(3)..).unwrap_or_default();
            let open = (1..=tail.len()).find(|back| {
                let end = bytes.get(bytes.len() - back..).unwrap_or_default();
                std::str::from_utf8(end)
                    .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
            });
            match (error.error_len(), open) {
                (None, _) => error.valid_up_to(),
                (Some(_), Some(back)) => bytes.len() - back,
                (Some(_), None) => bytes.len(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    #[test]
    fn characters_are_not_cut() {
        let euro = "a€".as_bytes();
        assert_eq!(whole_characters(euro), 4);
        assert_eq!(whole_characters(&euro[..3]), 1);
        assert_eq!(whole_characters(&euro[..2]), 1);
        assert_eq!(whole_characters(b"\xff\xffx"), 3);
        assert_eq!(whole_characters(b"\xff a\xe2\x82"), 3);
        assert_eq!(whole_characters(b""), 0);
    }
}
