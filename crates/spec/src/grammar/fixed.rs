//! The grammars of texts that documents alone have.

use std::{fmt, net::IpAddr, str::FromStr};

use pipekeeper_model::{Approver, Digest, WeekSpan};

use super::text::{Misfit, misfit};
use crate::{codes, diagnostic::Code, suggest::did_you_mean};

/// What a text of a document must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// A text with placeholders such as `${{ project }}`, each one of these.
    Filled(&'static [&'static str]),
    /// A file or folder of a machine.
    Absolute,
    /// A web address.
    Url,
    /// The host of a registry, with a port if it has one.
    Host,
    /// An address, or a range of them.
    Cidr,
    /// An artifact of a registry, with its digest.
    Pinned,
    Approver,
    /// A window of the week.
    Span,
}

impl Fixed {
    pub(super) fn check(self, text: &str) -> Result<(), Misfit> {
        match self {
            Self::Filled(known) => check_filled(text, known),
            Self::Absolute => check_absolute(text),
            Self::Url => check_url(text),
            Self::Host => check_host(text),
            Self::Cidr => check_cidr(text),
            Self::Pinned => check_pinned(text),
            Self::Approver => check_parsed::<Approver>(text, codes::BAD_APPROVER),
            Self::Span => check_parsed::<WeekSpan>(text, codes::BAD_WINDOW),
        }
    }

    /// The same for a JSON Schema, as far as that can say it.
    pub(crate) fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Absolute => Some("^/"),
            Self::Url => Some(r"^https?://[^/@?#\s][^@?#\s]*$"),
            Self::Host => Some(r"^[A-Za-z0-9.:\[\]-]+$"),
            Self::Pinned => Some(r"^[^@\s]+/[^@\s]+@sha256:[0-9a-f]{64}$"),
            Self::Approver => Some("^(role|user):[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"),
            Self::Span => Some(SPAN),
            Self::Filled(_) | Self::Cidr => None,
        }
    }
}

const SPAN: &str = "^((Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))? )?([01][0-9]|2[0-3]):[0-5][0-9] - ((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01][0-9]|2[0-3]):[0-5][0-9]$|^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?$";

fn check_parsed<T: FromStr<Err: fmt::Display>>(text: &str, code: Code) -> Result<(), Misfit> {
    text.parse::<T>()
        .map(drop)
        .map_err(|error| misfit(code, error.to_string()))
}

/// `${{ }}` here names a value, and is no expression.
fn check_filled(text: &str, known: &[&str]) -> Result<(), Misfit> {
    let wanted = format!("`${{{{ {} }}}}`", known.join(" }}`, `${{ "));
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${{") {
        let Some((inner, after)) = after.split_once("}}") else {
            let message = format!("read `{text}`: `${{{{` has no end; there is {wanted}");
            return Err(misfit(codes::BAD_PLACEHOLDER, message));
        };
        let name = inner.trim();
        if !known.contains(&name) {
            return Err(Misfit {
                code: codes::BAD_PLACEHOLDER,
                message: format!("`${{{{ {name} }}}}` stands for nothing here"),
                help: did_you_mean(name, known.iter().copied()).or(Some(format!("there is {wanted}"))),
            });
        }
        rest = after;
    }
    Ok(())
}

fn check_absolute(text: &str) -> Result<(), Misfit> {
    let leaves = text.split('/').any(|part| part == "..");
    if text.starts_with('/') && !leaves && !text.contains('\0') {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_PATH,
            format!("use the path `{text}`: it is a whole path such as `/etc/pipekeeper/x`, without `..`"),
        ))
    }
}

fn check_url(text: &str) -> Result<(), Misfit> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let is_plain = |rest: &str| {
        !rest
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "@?#".contains(c))
    };
    if rest.is_some_and(|rest| is_plain(rest) && !rest.starts_with('/') && !rest.is_empty()) {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_ADDRESS,
            format!(
                "use the address `{text}`: write it like `https://git.example.org`, without a user or a query"
            ),
        ))
    }
}

fn check_host(text: &str) -> Result<(), Misfit> {
    let holds_well = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
    if holds_well && !text.is_empty() {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_ADDRESS,
            format!("use `{text}` as a host: write it like `docker.io` or `harbor.example.org:8443`"),
        ))
    }
}

fn check_pinned(text: &str) -> Result<(), Misfit> {
    let fits = text.split_once('@').is_some_and(|(name, digest)| {
        let is_plain = !name.contains("://") && !name.chars().any(char::is_whitespace);
        is_plain && name.contains('/') && digest.parse::<Digest>().is_ok()
    });
    if fits {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_ADDRESS,
            format!(
                "use the artifact `{text}`: write it like `harbor.example.org/shop/manifests@sha256:…`, with its digest"
            ),
        ))
    }
}

fn check_cidr(text: &str) -> Result<(), Misfit> {
    let (address, length) = match text.split_once('/') {
        None => (text, None),
        Some((address, length)) => (address, Some(length)),
    };
    let fits = address.parse::<IpAddr>().is_ok_and(|address| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= longest))
    });
    if fits {
        Ok(())
    } else {
        Err(misfit(
            codes::BAD_ADDRESS,
            format!("use the addresses `{text}`: write them like `10.0.0.0/8`"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Fixed;

    #[test]
    fn texts_fit_or_not() {
        let digest = "a".repeat(64);
        let pinned = format!("r.test/shop/manifests@sha256:{digest}");
        let unnamed = format!("sha256:{digest}");
        let table = [
            (
                Fixed::Pinned,
                vec![pinned.as_str()],
                vec![
                    "r.test/shop:1",
                    unnamed.as_str(),
                    "oci://r.test/shop@sha256:1",
                    "",
                ],
            ),
            (
                Fixed::Filled(&["project"]),
                vec!["ci", "ci-${{ project }}", "${{project}}-${{ project }}"],
                vec![
                    "${{ projct }}",
                    "${{ project",
                    "${{ }}",
                    "${{ project }} ${{ image }}",
                ],
            ),
            (
                Fixed::Absolute,
                vec!["/", "/etc/x"],
                vec!["etc", "~/x", "/a/../b", ""],
            ),
            (
                Fixed::Url,
                vec!["https://a", "http://a.corp:3000/git"],
                vec![
                    "a.corp",
                    "ftp://a",
                    "https://",
                    "https:///a",
                    "https://u:p@a",
                    "https://a b",
                    "",
                ],
            ),
            (
                Fixed::Host,
                vec!["docker.io", "a:5000", "[::1]:5000"],
                vec!["docker.io/library", "", "a b"],
            ),
            (
                Fixed::Cidr,
                vec!["10.0.0.1", "10.0.0.0/8", "fd00::/8"],
                vec!["10.0.0.0/33", "example.org", "10.0.0/8", "10.0.0.0/", ""],
            ),
        ];
        for (kind, good, bad) in table {
            for text in good {
                assert!(kind.check(text).is_ok(), "{kind:?} refuses {text}");
            }
            for text in bad {
                assert!(kind.check(text).is_err(), "{kind:?} takes {text}");
            }
        }
    }
}
