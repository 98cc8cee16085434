//! From where a server can be reached: `url`, `behind_proxy`, `[tls]` and `artifacts_url`.

use pipekeeper_server::{Exposure, TlsFiles};

use super::raw::RawTls;
use crate::failure::Failure;

/// What `url`, `behind_proxy` and `[tls]` say together.
pub(super) fn exposure(
    url: Option<&str>,
    is_behind_proxy: bool,
    tls: Option<RawTls>,
) -> Result<Exposure, Failure> {
    const HINT: &str =
        "write it like `url = \"https://ci.example.org\"`, with `behind_proxy = true` or a table `[tls]`";
    if is_behind_proxy && tls.is_some() {
        let text = "`behind_proxy` and `[tls]` are both set: either a proxy speaks TLS or the server itself";
        return Err(Failure::usage(text).hint("keep one of them"));
    }
    let Some(url) = url else {
        if is_behind_proxy || tls.is_some() {
            let what = if is_behind_proxy {
                "`behind_proxy`"
            } else {
                "`[tls]`"
            };
            let text =
                format!("{what} is set, and `url` is not: browsers are answered under that name alone");
            return Err(Failure::usage(text).hint(HINT));
        }
        return Ok(Exposure::Loopback);
    };
    if !is_behind_proxy && tls.is_none() {
        let text = "`url` is set, and neither `behind_proxy` nor `[tls]` is: there is no TLS";
        return Err(Failure::usage(text).hint(HINT));
    }
    let host = https_host(url).ok_or_else(|| {
        Failure::usage(format!(
            "`url` is `{url}`, which is no `https://` address of a host"
        ))
        .hint(HINT)
    })?;
    Ok(match tls {
        None => Exposure::Proxied { host },
        Some(tls) => Exposure::Tls {
            host,
            files: TlsFiles {
                certificate: tls.certificate,
                key: tls.key,
            },
        },
    })
}

/// The host, with its port if it is another than 443, of an address that is nothing but a host.
fn https_host(url: &str) -> Option<String> {
    let host = url.strip_prefix("https://")?.trim_end_matches('/');
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let is_host = !host.is_empty() && host.chars().all(is_part);
    // No browser names the port that it means anyway.
    is_host.then(|| host.strip_suffix(":443").unwrap_or(host).to_owned())
}

/// The host that serves artifacts. Browsers send cookies to every port of a name, so it has to be another name.
pub(super) fn artifact_host(url: Option<&str>, exposure: &Exposure) -> Result<Option<String>, Failure> {
    const HINT: &str = "write it like `artifacts_url = \"https://ci-artifacts.example.org\"`";
    let Some(url) = url else { return Ok(None) };
    let own = match exposure {
        Exposure::Loopback => {
            let text = "`artifacts_url` is set, and `url` is not: this machine alone reaches the server";
            return Err(Failure::usage(text).hint("leave it out, or set `url`"));
        }
        Exposure::Proxied { host } | Exposure::Tls { host, .. } => host,
    };
    let host = https_host(url).ok_or_else(|| {
        let text = format!("`artifacts_url` is `{url}`, which is no `https://` address of a host");
        Failure::usage(text).hint(HINT)
    })?;
    let name = |host: &str| host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if name(&host) == name(own) || host.starts_with('[') {
        let text = format!("`artifacts_url` is `{url}`, which is not another name than that of `url`");
        return Err(Failure::usage(text).hint(HINT));
    }
    Ok(Some(host))
}
