//! The object store of a cluster's archive caches.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pipekeeper_objects::{ObjectStore, SecretKey, StoreOptions, UrlStyle};

use super::raw::RawObjectStore;
use crate::failure::Failure;

const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_PREFIX: &str = "pipekeeper";

/// The store as it is written; a failure is what follows the cluster's name.
pub(super) fn options(raw: RawObjectStore) -> Result<StoreOptions, Failure> {
    let url = needed(
        raw.url,
        "url",
        "write its address, for example `https://s3.example.org`",
    )?;
    let bucket = needed(raw.bucket, "bucket", "name a bucket that is there; none is made")?;
    let access_key = needed(
        raw.access_key,
        "access_key",
        "write the access key that may put, get, list and remove objects of the bucket",
    )?;
    let prefix = raw.prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let prefix = prefix.trim_matches('/').to_owned();
    if !is_path(&prefix) {
        return Err(Failure::usage(format!(
            "has the `object_store.prefix` `{prefix}`, which cannot begin the names of objects"
        ))
        .hint("write letters, digits, `-`, `_`, `.` and single slashes"));
    }
    let options = StoreOptions {
        url,
        others_url: raw.pods_url,
        bucket,
        region: raw.region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        prefix,
        style: match raw.path_style {
            None | Some(true) => UrlStyle::Path,
            Some(false) => UrlStyle::Host,
        },
        access_key,
        secret_key: secret_key(raw.secret_key, raw.secret_key_file)?,
        ca: raw.ca.map(|file| read("ca", &file)).transpose()?,
    };
    // Whatever is wrong with an address or a certificate is better known before a pod needs it.
    ObjectStore::new(&options)
        .map(|_| options)
        .map_err(|error| Failure::usage(format!("has a wrong `object_store`: failed to {error}")))
}

fn needed(value: Option<String>, key: &str, hint: &str) -> Result<String, Failure> {
    value
        .filter(|value| !value.trim().is_empty())
        .ok_or_else(|| Failure::usage(format!("has no `object_store.{key}`")).hint(hint))
}

fn secret_key(text: Option<String>, file: Option<PathBuf>) -> Result<SecretKey, Failure> {
    let text = match (text, file) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "has both `object_store.secret_key` and `object_store.secret_key_file`",
            )
            .hint("keep one of them"));
        }
        (Some(text), None) => Some(text),
        (None, Some(file)) => {
            let text = read("secret_key_file", &file)?;
            Some(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        (None, None) => None,
    };
    let hint = "write `object_store.secret_key_file`, the file that holds the key";
    needed(text, "secret_key", hint).map(SecretKey::new)
}

fn read(key: &str, file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!(
            "has an `object_store.{key}` that cannot be read: `{}`: {error}",
            file.display()
        ))
    })
}

/// Whether a text has parts that no URL takes for something else.
fn is_path(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_plain);
    text.split('/').all(is_part)
}
