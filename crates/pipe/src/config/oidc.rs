//! `[oidc]`: the issuer through which people log in.

use std::{fs, path::PathBuf};

use pipekeeper_server::{Newcomers, OidcOptions, Transport};
use serde::Deserialize;

use crate::failure::{Failure, OrFail};

/// `[oidc]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOidc {
    issuer: String,
    client_id: String,
    client_secret_file: PathBuf,
    name: Option<String>,
    groups_claim: Option<String>,
    scopes: Option<Vec<String>>,
    algorithms: Option<Vec<String>>,
    create_users: Option<bool>,
    #[serde(default)]
    insecure: bool,
    ca: Option<PathBuf>,
}

/// Signatures that need the issuer's own key, and that issuers use.
const ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];

/// Reads what the table names.
pub(super) fn oidc(raw: RawOidc) -> Result<OidcOptions, Failure> {
    let secret = fs::read_to_string(&raw.client_secret_file).or_usage(format_args!(
        "read `oidc.client_secret_file`, `{}`",
        raw.client_secret_file.display()
    ))?;
    let secret = secret.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err(Failure::usage("`oidc.client_secret_file` is empty")
            .hint("write the secret into it that the issuer gave to this server"));
    }
    let read = |file: &PathBuf| fs::read(file).or_usage(format_args!("read `oidc.ca`, `{}`", file.display()));
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok(OidcOptions {
        issuer: raw.issuer,
        client_id: raw.client_id,
        client_secret: secret.to_owned(),
        name: raw.name.unwrap_or_else(|| "single sign-on".to_owned()),
        groups_claim: raw.groups_claim.unwrap_or_else(|| "groups".to_owned()),
        scopes: raw.scopes.unwrap_or_else(|| words(&["profile"])),
        algorithms: raw.algorithms.unwrap_or_else(|| words(&ALGORITHMS)),
        newcomers: if raw.create_users.unwrap_or(true) {
            Newcomers::Welcome
        } else {
            Newcomers::Refused
        },
        transport: if raw.insecure {
            Transport::Plain
        } else {
            Transport::Tls
        },
        ca: raw.ca.as_ref().map(read).transpose()?,
    })
}
