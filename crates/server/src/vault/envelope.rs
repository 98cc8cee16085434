//! Sealing: each value under a data key of its own, each data key under a master key. What is sealed opens only under its own
//! [`Label`], so that a row which is moved to another name, other bindings or another version is of no use.

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::keys::MasterKey;

const NONCE: usize = 24;

/// What a value is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label<'a> {
    /// The name of its record.
    pub(super) name: &'a str,
    /// Where it may be used, in the one form of that.
    pub(super) bindings: &'a str,
    /// Which value of that name it is.
    pub(super) version: u64,
}

/// A sealed value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sealed {
    /// The master key that its data key is sealed with.
    pub(super) key: String,
    /// The data key, sealed: nonce and text, in hex.
    data_key: String,
    /// The value, sealed with that.
    value: String,
}

/// Something was not sealed or opened.
#[derive(Debug, Error)]
pub(crate) enum SealError {
    /// It is not what was sealed under this label.
    #[error(
        "open a secret: what is stored is not what was sealed under this name; hint: set it again with `pipe secret set`"
    )]
    Broken,
    /// The system has no randomness.
    #[error("draw a random key: {0}")]
    Random(getrandom::Error),
}

/// Seals a value.
pub(super) fn seal(master: &MasterKey, label: Label<'_>, value: &str) -> Result<Sealed, SealError> {
    let mut data_key = Zeroizing::new([0; 32]);
    getrandom::fill(data_key.as_mut()).map_err(SealError::Random)?;
    Ok(Sealed {
        key: master.id.clone(),
        value: lock(&data_key, &aad("value", label, ""), value.as_bytes())?,
        data_key: lock(
            &master.key,
            &aad("data key", label, &master.id),
            data_key.as_ref(),
        )?,
    })
}

/// Opens a value that was sealed with this master key.
pub(super) fn open(
    master: &MasterKey,
    label: Label<'_>,
    sealed: &Sealed,
) -> Result<Zeroizing<String>, SealError> {
    let data_key = open_data_key(master, label, sealed)?;
    let value = unlock(&data_key, &aad("value", label, ""), &sealed.value)?;
    let text = std::str::from_utf8(&value).map_err(|_| SealError::Broken)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Seals the data key with another master key; the value stays as it is.
pub(super) fn rewrap(
    from: &MasterKey,
    to: &MasterKey,
    label: Label<'_>,
    sealed: &Sealed,
) -> Result<Sealed, SealError> {
    let data_key = open_data_key(from, label, sealed)?;
    Ok(Sealed {
        key: to.id.clone(),
        data_key: lock(&to.key, &aad("data key", label, &to.id), data_key.as_ref())?,
        value: sealed.value.clone(),
    })
}

fn open_data_key(
    master: &MasterKey,
    label: Label<'_>,
    sealed: &Sealed,
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let opened = unlock(
        &master.key,
        &aad("data key", label, &sealed.key),
        &sealed.data_key,
    )?;
    let mut data_key = Zeroizing::new([0; 32]);
    if opened.len() != data_key.len() {
        return Err(SealError::Broken);
    }
    data_key.copy_from_slice(&opened);
    Ok(data_key)
}

fn lock(key: &[u8; 32], aad: &[u8], text: &[u8]) -> Result<String, SealError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(SealError::Random)?;
    let payload = Payload { msg: text, aad };
    let locked = XChaCha20Poly1305::new(&Key::from(*key)).encrypt(&XNonce::from(nonce), payload);
    // Only what is longer than any secret cannot be sealed.
    let locked = locked.map_err(|_| SealError::Broken)?;
    Ok(hex::encode([nonce.as_slice(), &locked].concat()))
}

fn unlock(key: &[u8; 32], aad: &[u8], locked: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let bytes = hex::decode(locked).map_err(|_| SealError::Broken)?;
    let (nonce, text) = bytes.split_first_chunk::<NONCE>().ok_or(SealError::Broken)?;
    let payload = Payload { msg: text, aad };
    let opened = XChaCha20Poly1305::new(&Key::from(*key)).decrypt(&XNonce::from(*nonce), payload);
    opened.map(Zeroizing::new).map_err(|_| SealError::Broken)
}

/// Parts with their lengths, so that no two lists of parts are the same bytes.
fn aad(what: &str, label: Label<'_>, key: &str) -> Vec<u8> {
    let version = label.version.to_string();
    let parts = [
        "pipekeeper secret v1",
        what,
        label.name,
        label.bindings,
        &version,
        key,
    ];
    parts
        .iter()
        .flat_map(|part| [format!("{}:", part.len()).into_bytes(), part.as_bytes().to_vec()].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Label, SealError, Sealed, open, rewrap, seal};
    use crate::vault::keys::{KeyFile, MasterKey};

    const LABEL: Label<'static> = Label {
        name: "npm",
        bindings: "{\"projects\":[\"mall\"]}",
        version: 3,
    };

    fn master() -> MasterKey {
        let folder = tempfile::tempdir().unwrap();
        let ring = KeyFile::new(folder.path().join("keys")).make().unwrap();
        ring.current().unwrap().clone()
    }

    #[test]
    fn what_is_sealed_opens_under_its_own_label_alone() {
        let (one, other) = (master(), master());
        let sealed = seal(&one, LABEL, "hunter2").unwrap();
        assert_eq!(open(&one, LABEL, &sealed).unwrap().as_str(), "hunter2");
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains("hunter2") && !text.contains(&hex::encode("hunter2")));
        let labels = [
            Label { name: "npn", ..LABEL },
            Label {
                bindings: "{}",
                ..LABEL
            },
            Label { version: 4, ..LABEL },
        ];
        for label in labels {
            assert!(
                matches!(open(&one, label, &sealed), Err(SealError::Broken)),
                "{label:?}"
            );
        }
        assert!(open(&other, LABEL, &sealed).is_err());
        assert_ne!(
            seal(&one, LABEL, "hunter2").unwrap(),
            sealed,
            "nothing is used twice"
        );
    }

    #[test]
    fn every_flipped_digit_is_noticed() {
        let master = master();
        let sealed = seal(&master, LABEL, "x").unwrap();
        let flipped = |text: &str, at: usize| {
            let mut digits: Vec<char> = text.chars().collect();
            digits[at] = if digits[at] == '0' { '1' } else { '0' };
            String::from_iter(digits)
        };
        for at in 0..sealed.value.len() {
            let value = flipped(&sealed.value, at);
            assert!(
                open(
                    &master,
                    LABEL,
                    &Sealed {
                        value,
                        ..sealed.clone()
                    }
                )
                .is_err()
            );
        }
        for at in 0..sealed.data_key.len() {
            let data_key = flipped(&sealed.data_key, at);
            assert!(
                open(
                    &master,
                    LABEL,
                    &Sealed {
                        data_key,
                        ..sealed.clone()
                    }
                )
                .is_err()
            );
        }
        for short in ["", "00", "zz"] {
            let value = short.to_owned();
            assert!(
                open(
                    &master,
                    LABEL,
                    &Sealed {
                        value,
                        ..sealed.clone()
                    }
                )
                .is_err()
            );
        }
    }

    #[test]
    fn another_master_key_takes_over() {
        let (old, new) = (master(), master());
        let sealed = seal(&old, LABEL, "hunter2").unwrap();
        let moved = rewrap(&old, &new, LABEL, &sealed).unwrap();
        assert_eq!((&moved.key, &moved.value), (&new.id, &sealed.value));
        assert_eq!(open(&new, LABEL, &moved).unwrap().as_str(), "hunter2");
        assert!(open(&old, LABEL, &moved).is_err());
        assert!(rewrap(&new, &old, LABEL, &sealed).is_err());
    }
}
