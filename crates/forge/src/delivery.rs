//! Raw deliveries: judging their signature and making one. It reads headers and bytes, never the payload.

use pipekeeper_model::Digest;
use thiserror::Error;

use crate::{
    ForgeKind, HookSecret,
    dialect::{Dialect, dialect},
    text,
};

const SHA1_HEADER: &str = "x-hub-signature";
const MAX_EVENT: usize = 64;
const MAX_DELIVERY_ID: usize = 128;

/// One webhook request as received.
#[derive(Clone, Copy, Debug)]
pub struct RawDelivery<'a> {
    /// The headers in order, names in lower case.
    pub headers: &'a [(String, String)],
    /// The bytes of the body, untouched.
    pub body: &'a [u8],
}

/// What the headers of a genuine delivery say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The forge's id of the delivery, or the body's digest where the forge sent none that can be used.
    pub delivery_id: String,
    /// The event's word, or nothing where the forge sent none that can be used.
    pub event: String,
}

/// Why a delivery is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefusalReason {
    /// No signature at all.
    #[error("the header `{header}` is missing; hint: give the webhook at the forge the project's secret")]
    MissingSignature {
        /// The header looked for.
        header: &'static str,
    },
    /// A signature as another kind of forge sends it.
    #[error("it is signed as {0} does; hint: compare `forge` in the project's configuration")]
    OtherForge(ForgeKind),
    /// Only the outdated SHA-1 signature.
    #[error("the delivery is signed with SHA-1 only; hint: the forge must send `{header}`")]
    OutdatedSignature {
        /// The header looked for.
        header: &'static str,
    },
    /// The signature header stands there twice, or holds something else than a SHA-256 code.
    #[error("the header `{header}` holds no single HMAC-SHA256 in hex")]
    MalformedSignature {
        /// The header looked at.
        header: &'static str,
    },
    /// The signature belongs to another secret or to other bytes.
    #[error("the signature does not match; hint: compare the secret at the forge with the project's")]
    WrongSignature,
}

/// Judges a delivery's signature over its raw bytes, in constant time.
pub fn verify(
    kind: ForgeKind,
    secret: &HookSecret,
    raw: &RawDelivery<'_>,
) -> Result<Verified, RefusalReason> {
    let dialect = dialect(kind);
    let code = signature(dialect, raw)?;
    if !secret.is_code_of(raw.body, &code) {
        return Err(RefusalReason::WrongSignature);
    }
    Ok(Verified {
        delivery_id: word(raw, dialect.delivery_header, MAX_DELIVERY_ID)
            .unwrap_or_else(|| Digest::of(raw.body).to_string()),
        event: word(raw, dialect.event_header, MAX_EVENT).unwrap_or_default(),
    })
}

/// The headers with which a forge of this kind would deliver `body` as a push.
pub fn sign(kind: ForgeKind, secret: &HookSecret, body: &[u8]) -> Vec<(String, String)> {
    let dialect = dialect(kind);
    let signature = format!("{}{}", dialect.signature_prefix, secret.hex_code_of(body));
    [
        ("content-type", "application/json".to_owned()),
        (dialect.event_header, "push".to_owned()),
        (dialect.delivery_header, Digest::of(body).to_hex()),
        (dialect.signature_header, signature),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn signature(dialect: &Dialect, raw: &RawDelivery<'_>) -> Result<[u8; 32], RefusalReason> {
    let header = dialect.signature_header;
    let mut values = values(raw, header);
    let Some(value) = values.next() else {
        let is_signed_by = |kind: &ForgeKind| {
            let other = self::dialect(*kind).signature_header;
            other != header && self::values(raw, other).next().is_some()
        };
        return Err(match ForgeKind::ALL.into_iter().find(is_signed_by) {
            Some(other) => RefusalReason::OtherForge(other),
            None if self::values(raw, SHA1_HEADER).next().is_some() => {
                RefusalReason::OutdatedSignature { header }
            }
            None => RefusalReason::MissingSignature { header },
        });
    };
    let mut code = [0; 32];
    let decoded = value
        .strip_prefix(dialect.signature_prefix)
        .is_some_and(|digits| hex::decode_to_slice(digits, &mut code).is_ok());
    match (decoded, values.next()) {
        (true, None) => Ok(code),
        (false, _) | (true, Some(_)) => Err(RefusalReason::MalformedSignature { header }),
    }
}

/// A header's value, if it is one printable word of bounded length.
fn word(raw: &RawDelivery<'_>, header: &str, limit: usize) -> Option<String> {
    let value = values(raw, header).next()?;
    text::is_word(value, limit).then(|| value.to_owned())
}

fn values<'a>(raw: &RawDelivery<'a>, header: &str) -> impl Iterator<Item = &'a str> {
    raw.headers
        .iter()
        .filter(move |(name, _)| name == header)
        .map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
