//! The variables of this machine that actions get: enough to find tools and the network, nothing that is personal.
//!
//! HOME is each attempt's own, so the toolchain of rustup is named by `RUSTUP_HOME`; `CARGO_HOME` is not passed on,
//! because it holds credentials: cargo then keeps its registry below the attempt's HOME, where a cache can hold it.

use std::{collections::BTreeMap, env, path::Path};

const PASSED_ON: [&str; 27] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "JAVA_HOME",
    "GOROOT",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "GOPROXY",
    "PIP_INDEX_URL",
    "NPM_CONFIG_REGISTRY",
    "CARGO_BUILD_JOBS",
];

/// The variables.
pub(crate) fn variables() -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = PASSED_ON
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?)))
        .collect();
    if let Ok(home) = env::var("HOME") {
        let rustup = Path::new(&home).join(".rustup");
        if !found.contains_key("RUSTUP_HOME") && rustup.is_dir() {
            found.insert("RUSTUP_HOME".to_owned(), rustup.display().to_string());
        }
    }
    found
}
