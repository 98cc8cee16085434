//! What several kinds have in common.

use std::collections::BTreeSet;

use pipekeeper_model::Name;
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    fault::{Doubt, Reference, refer},
};
use crate::{
    codes,
    grammar::{ACTS, Fixed, Key, NAME, Object, Shape, Text, key},
};

/// Where a value comes from that no document holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// A [`Secret`](super::Secret) of this name.
    Secret(Name),
    /// A file of the server's machine.
    File(String),
}

impl ValueSource {
    pub(super) fn references(source: Option<&Self>, keys: &[&str]) -> Vec<Reference> {
        let name = source.and_then(|source| match source {
            Self::Secret(name) => Some(name),
            Self::File(_) => None,
        });
        let keys: Vec<&str> = keys.iter().copied().chain(["secret"]).collect();
        refer(Kind::Secret, name, &keys).collect()
    }
}

/// The keys of a [`ValueSource`].
pub(super) const VALUE: Shape = Shape::Choice {
    object: &VALUE_KEYS,
    of: &["secret", "file"],
};

static VALUE_KEYS: Object = Object {
    what: "where a value comes from",
    keys: &[
        key("secret", ACTS, NAME, "The Secret that holds it."),
        key(
            "file",
            ACTS,
            ABSOLUTE,
            "The file of the server's machine that holds it.",
        ),
    ],
};

pub(super) const ABSOLUTE: Shape = Shape::Text(Text::Fixed(Fixed::Absolute));
pub(super) const URL: Shape = Shape::Text(Text::Fixed(Fixed::Url));
pub(super) const LENGTH: Shape = Shape::Text(Text::Length);
pub(super) const NAMES: Shape = Shape::AnyOf(&[NAME, Shape::List(&NAME)]);
pub(super) const VARIABLES: Shape = Shape::Map {
    key: Text::Variable,
    of: &Shape::Text(Text::Free),
};

/// `ca:` of whatever is reached over TLS.
pub(super) const CA: Key = key(
    "ca",
    ACTS,
    ABSOLUTE,
    "The file of certificates to trust in the place of Mozilla's.",
);
/// `insecure:` of whatever has an address.
pub(super) const INSECURE: Key = key(
    "insecure",
    ACTS,
    Shape::Bool,
    "Whether `http://` is allowed; only for networks that you trust.",
);

/// An address without TLS wants the owner's word.
pub(super) fn doubt_plain(url: Option<&str>, insecure: bool) -> Option<Doubt> {
    let plain = url.filter(|url| url.starts_with("http://") && !insecure)?;
    Some(Doubt::new(
        codes::KEYS_TOGETHER,
        &["url"],
        format!("`{plain}` is not encrypted"),
        "write `https://`, or add `insecure: true` if you trust every network on the way",
    ))
}

/// A template with its placeholders of this name filled: `${{ NAME }}`, with spaces or without.
pub fn filled(template: &str, name: &str, value: &str) -> String {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, inner, after)) = rest.split_once("${{").and_then(|(before, after)| {
        let (inner, after) = after.split_once("}}")?;
        Some((before, inner, after))
    }) {
        text.push_str(before);
        if inner.trim() == name {
            text.push_str(value);
        } else {
            text.extend(["${{", inner, "}}"]);
        }
        rest = after;
    }
    text + rest
}

/// Names as a set: their order means nothing.
pub(super) type Names = BTreeSet<Name>;

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Lengths of time as documents write them, in the place of numbers.
pub(super) mod length {
    use pipekeeper_model::Millis;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(length: &Millis, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(length)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Millis, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same where there may be none.
pub(super) mod maybe_length {
    use pipekeeper_model::Millis;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(length: &Option<Millis>, to: S) -> Result<S::Ok, S::Error> {
        match length {
            Some(length) => to.collect_str(length),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Millis>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
