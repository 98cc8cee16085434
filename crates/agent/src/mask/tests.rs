use proptest::prelude::*;

use super::*;

fn masked(values: &[&str], chunks: &[&[u8]]) -> String {
    let mut masker = Masker::new(values.iter().copied()).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        masker.push(chunk, &mut out);
    }
    masker.flush(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_secret_is_hidden_at_every_split() {
    let text = b"say hunter2, hunter2hunter2 and hunt";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let out = masked(
                &["hunter2"],
                &[&text[..first], &text[first..second], &text[second..]],
            );
            assert_eq!(out, "say ***, ****** and hunt", "split at {first} and {second}");
        }
    }
}

#[test]
fn overlapping_secrets_share_a_mark_at_every_split() {
    let text = b"x abcdefgh y cdef abcdef z";
    for split in 0..=text.len() {
        let out = masked(&["abcdef", "efgh", "cdef"], &[&text[..split], &text[split..]]);
        assert_eq!(out, "x *** y *** *** z", "split at {split}");
    }
}

#[test]
fn usual_spellings_are_hidden() {
    let secret = "pa\"ss wörd/+?~'x";
    let json = serde_json::to_string(secret).unwrap();
    // `base64` of the secret after 0, 1 and 2 other bytes, with something behind it.
    let cases = [
        ("url", "pa%22ss%20w%C3%B6rd%2F%2B%3F~%27x".to_owned()),
        (
            "url in small letters",
            "pa%22ss%20w%c3%b6rd%2f%2b%3f~%27x".to_owned(),
        ),
        ("url with slashes", "pa%22ss%20w%C3%B6rd/%2B%3F~%27x".to_owned()),
        ("url of a form", "pa%22ss+w%C3%B6rd%2F%2B%3F~%27x".to_owned()),
        ("hex", "706122737320 77c3b67264 2f2b3f7e2778".replace(' ', "")),
        ("html", "pa&quot;ss wörd/+?~&#39;x".to_owned()),
        ("json", json.trim_matches('"').to_owned()),
        (
            "json with escaped slashes",
            json.trim_matches('"').replace('/', r"\/"),
        ),
        ("echo of bash", secret.replace('\'', r"'\''")),
    ];
    for (name, text) in cases {
        assert_eq!(masked(&[secret], &[text.as_bytes()]), "***", "{name}");
    }
}

#[test]
fn base64_is_hidden_at_all_alignments() {
    // printf 'hunter2secret' | base64; printf 'ahunter2secretz' | base64; printf 'abhunter2secretz' | base64
    for text in [
        "aHVudGVyMnNlY3JldA==",
        "YWh1bnRlcjJzZWNyZXR6",
        "YWJodW50ZXIyc2VjcmV0eg==",
    ] {
        let out = masked(&["hunter2secret"], &[text.as_bytes()]);
        assert!(out.contains("***") && out.len() <= 10, "{text} became {out}");
    }
}

#[test]
fn lines_of_long_secrets_are_hidden_and_short_values_are_not() {
    let out = masked(
        &["-----BEGIN-----\nMIIEvQIBADAN\nshort\n"],
        &[b"> MIIEvQIBADAN <\nshort\n"],
    );
    assert_eq!(out, "> *** <\nshort\n");
    assert!(Masker::new(["abc", ""]).is_none());
}

#[test]
fn only_a_real_start_is_held_back() {
    let mut masker = Masker::new(["hunter2"]).unwrap();
    let mut out = Vec::new();
    masker.push(b"Continue? [y/n] ", &mut out);
    assert_eq!(out, b"Continue? [y/n] ");
    masker.push(b"hunt", &mut out);
    assert_eq!(out, b"Continue? [y/n] ");
    masker.push(b"ing", &mut out);
    assert_eq!(out, b"Continue? [y/n] hunting");
}

#[test]
fn a_whole_text_is_masked() {
    let masker = Masker::new(["hunter2"]).unwrap();
    assert_eq!(masker.mask("a hunter2 b"), "a *** b");
    assert_eq!(masker.mask("nothing"), "nothing");
}

proptest! {
    #[test]
    fn chunks_do_not_matter_and_nothing_leaks(
        secrets in prop::collection::vec("[ab]{4,7}", 1..4),
        text in "[abc]{0,60}",
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let values: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let whole = masked(&values, &[text.as_bytes()]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(masked(&values, &chunks), whole.clone());
        for secret in &secrets {
            prop_assert!(!whole.contains(secret.as_str()));
        }
    }
}
