use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{RawDelivery, RefusalReason, sign, verify};
use crate::{ForgeKind, HookSecret};

fn secret() -> HookSecret {
    HookSecret::new("s3cret").unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn what_is_signed_is_taken() {
    for kind in ForgeKind::ALL {
        let headers = sign(kind, &secret(), b"{}");
        let raw = RawDelivery {
            headers: &headers,
            body: b"{}",
        };
        let verified = verify(kind, &secret(), &raw).unwrap();
        assert_eq!(verified.event, "push");
        assert_eq!(verified.delivery_id.len(), 64);

        let other = HookSecret::new("other").unwrap();
        assert_eq!(verify(kind, &other, &raw), Err(RefusalReason::WrongSignature));
    }
}

#[test]
fn bad_signatures_are_told_apart() {
    let good = sign(ForgeKind::GitHub, &secret(), b"{}").pop().unwrap().1;
    let bare = good.strip_prefix("sha256=").unwrap();
    let github = "x-hub-signature-256";
    let missing = RefusalReason::MissingSignature { header: github };
    let malformed = RefusalReason::MalformedSignature { header: github };
    let long = format!("{good}00");
    let table = [
        (headers(&[]), missing),
        (
            headers(&[("x-gitea-signature", bare)]),
            RefusalReason::OtherForge(ForgeKind::Gitea),
        ),
        (
            headers(&[("x-hub-signature", "sha1=00")]),
            RefusalReason::OutdatedSignature { header: github },
        ),
        (headers(&[(github, "")]), malformed),
        (headers(&[(github, bare)]), malformed),
        (headers(&[(github, "sha256=")]), malformed),
        (headers(&[(github, "sha256=é")]), malformed),
        (headers(&[(github, &long)]), malformed),
        (headers(&[(github, &good), (github, &good)]), malformed),
    ];
    for (headers, reason) in table {
        let raw = RawDelivery {
            headers: &headers,
            body: b"{}",
        };
        assert_eq!(
            verify(ForgeKind::GitHub, &secret(), &raw),
            Err(reason),
            "{headers:?}"
        );
    }
}

#[test]
fn a_good_signature_of_another_forge_does_not_rescue_a_bad_one() {
    let mut headers = sign(ForgeKind::GitHub, &secret(), b"{}");
    headers.push(("x-gitea-signature".to_owned(), "0".repeat(64)));
    let raw = RawDelivery {
        headers: &headers,
        body: b"{}",
    };
    assert_eq!(
        verify(ForgeKind::Gitea, &secret(), &raw),
        Err(RefusalReason::WrongSignature)
    );
}

#[test]
fn unusable_id_and_event_headers_are_replaced() {
    let long = "x".repeat(200);
    for bad in ["", "a b", "a\u{7}", long.as_str()] {
        let mut headers = sign(ForgeKind::Gitea, &secret(), b"{}");
        for (name, value) in &mut headers {
            if matches!(name.as_str(), "x-gitea-event" | "x-gitea-delivery") {
                *value = bad.to_owned();
            }
        }
        let raw = RawDelivery {
            headers: &headers,
            body: b"{}",
        };
        let verified = verify(ForgeKind::Gitea, &secret(), &raw).unwrap();
        assert_eq!(verified.event, "");
        assert_eq!(
            verified.delivery_id,
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }
}

proptest! {
    #[test]
    fn one_flipped_bit_is_refused(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        for kind in ForgeKind::ALL {
            let headers = sign(kind, &secret(), &body);
            let mut flipped = body.clone();
            flipped[at.index(body.len())] ^= 1_u8 << bit;
            let raw = RawDelivery { headers: &headers, body: &flipped };
            prop_assert_eq!(verify(kind, &secret(), &raw), Err(RefusalReason::WrongSignature));

            let mut bent = headers.clone();
            let signature = &mut bent.last_mut().unwrap().1;
            let at = signature.len() - 1 - at.index(64);
            let digit = if &signature[at..=at] == "0" { "1" } else { "0" };
            signature.replace_range(at..=at, digit);
            let raw = RawDelivery { headers: &bent, body: &body };
            prop_assert_eq!(verify(kind, &secret(), &raw), Err(RefusalReason::WrongSignature));
        }
    }

    #[test]
    fn arbitrary_headers_never_panic(value in any::<String>(), body in prop::collection::vec(any::<u8>(), 0..100)) {
        for kind in ForgeKind::ALL {
            for name in ["x-hub-signature-256", "x-gitea-signature"] {
                let headers = headers(&[(name, &value)]);
                let raw = RawDelivery { headers: &headers, body: &body };
                prop_assert!(verify(kind, &secret(), &raw).is_err());
            }
        }
    }
}
