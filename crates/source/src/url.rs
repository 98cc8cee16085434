//! Where repositories are fetched from: parsed once, so that no address can reach git as an option or a command.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::credentials::Credentials;

/// Whether addresses without encryption are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// The administrator's configuration says so.
    Allowed,
    /// The default.
    Refused,
}

/// The address of a repository, as an administrator's configuration names it.
#[derive(Clone, PartialEq, Eq)]
pub struct RepositoryUrl(Location);

#[derive(Clone, PartialEq, Eq)]
enum Location {
    Path(PathBuf),
    Https(String, Option<Credentials>),
    Http(String, Option<Credentials>),
    Ssh(String),
}

/// Why an address is not taken. It never repeats the address, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RepositoryUrlError {
    /// A path that is not absolute.
    #[error("use the repository path: it is not absolute")]
    RelativePath,
    /// Another scheme, or none.
    #[error(
        "use the repository address: it is no absolute path and starts with neither `https://` nor `ssh://`"
    )]
    Scheme,
    /// Plain HTTP without leave.
    #[error("use the repository address: it is plain `http://`; hint: allow it with `plain_http = true`")]
    PlainHttp,
    /// A host, user, port or path outside the safe grammar.
    #[error("use the repository address: its {0} is missing or holds characters that are not safe")]
    Part(&'static str),
}

impl RepositoryUrl {
    /// A repository on this machine; only for paths from the administrator's configuration.
    pub fn from_path(path: impl Into<PathBuf>) -> Result<Self, RepositoryUrlError> {
        let path = path.into();
        if path.is_absolute() {
            Ok(Self(Location::Path(path)))
        } else {
            Err(RepositoryUrlError::RelativePath)
        }
    }

    /// Reads `https://HOST/PATH`, `ssh://USER@HOST/PATH` or, if allowed, `http://HOST/PATH`.
    ///
    /// A user and password before the host are taken out; git gets them in a header.
    pub fn parse(text: &str, plain: PlainHttp) -> Result<Self, RepositoryUrlError> {
        if let Some(rest) = text.strip_prefix("https://") {
            let (rest, credentials) = web(rest)?;
            Ok(Self(Location::Https(format!("https://{rest}"), credentials)))
        } else if let Some(rest) = text.strip_prefix("http://") {
            if plain == PlainHttp::Refused {
                return Err(RepositoryUrlError::PlainHttp);
            }
            let (rest, credentials) = web(rest)?;
            Ok(Self(Location::Http(format!("http://{rest}"), credentials)))
        } else if let Some(rest) = text.strip_prefix("ssh://") {
            let (user, host) = rest.split_once('@').ok_or(RepositoryUrlError::Part("user"))?;
            check(user, "user", |b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))?;
            check_host_and_path(host)?;
            Ok(Self(Location::Ssh(text.to_owned())))
        } else {
            Err(RepositoryUrlError::Scheme)
        }
    }

    /// The argument for git, without credentials.
    pub(crate) fn to_argument(&self) -> &std::ffi::OsStr {
        match &self.0 {
            Location::Path(path) => path.as_os_str(),
            Location::Https(url, _) | Location::Http(url, _) | Location::Ssh(url) => url.as_ref(),
        }
    }

    /// The one protocol that git may speak for this address, in the form of `GIT_ALLOW_PROTOCOL`.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.0 {
            Location::Path(_) => "file",
            Location::Https(..) => "https",
            Location::Http(..) => "http",
            Location::Ssh(_) => "ssh",
        }
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        match &self.0 {
            Location::Https(_, credentials) | Location::Http(_, credentials) => credentials.as_ref(),
            Location::Path(_) | Location::Ssh(_) => None,
        }
    }

    pub(crate) fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Location::Path(path) => Some(path),
            Location::Https(..) | Location::Http(..) | Location::Ssh(_) => None,
        }
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_argument().to_string_lossy())
    }
}

impl fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn web(rest: &str) -> Result<(&str, Option<Credentials>), RepositoryUrlError> {
    let (authority, _) = rest.split_once('/').ok_or(RepositoryUrlError::Part("path"))?;
    let (credentials, rest) = match authority.rsplit_once('@') {
        None => (None, rest),
        Some((user_info, _)) => {
            let credentials =
                Credentials::from_user_info(user_info).ok_or(RepositoryUrlError::Part("password"))?;
            let rest = rest.get(user_info.len() + 1..).unwrap_or_default();
            (Some(credentials), rest)
        }
    };
    check_host_and_path(rest)?;
    Ok((rest, credentials))
}

fn check_host_and_path(text: &str) -> Result<(), RepositoryUrlError> {
    let (authority, path) = text.split_once('/').ok_or(RepositoryUrlError::Part("path"))?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(RepositoryUrlError::Part("host"))?;
            check(host, "host", |b| b.is_ascii_hexdigit() || b == b':')?;
            ("v6", port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    check(host, "host", |b| b.is_ascii_alphanumeric() || b".-".contains(&b))?;
    if let Some(port) = port.strip_prefix(':') {
        port.parse::<u16>()
            .map_err(|_| RepositoryUrlError::Part("port"))?;
    } else if !port.is_empty() {
        return Err(RepositoryUrlError::Part("port"));
    }
    check(path, "path", |b| {
        b.is_ascii_alphanumeric() || b"_./-~+@%".contains(&b)
    })
}

/// A part is not empty, does not start like an option and holds expected characters only.
fn check(text: &str, part: &'static str, holds: impl Fn(u8) -> bool) -> Result<(), RepositoryUrlError> {
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(holds) {
        Ok(())
    } else {
        Err(RepositoryUrlError::Part(part))
    }
}

#[cfg(test)]
mod tests {
    use super::{PlainHttp, RepositoryUrl, RepositoryUrlError};

    fn parse(text: &str) -> Result<RepositoryUrl, RepositoryUrlError> {
        RepositoryUrl::parse(text, PlainHttp::Allowed)
    }

    #[test]
    fn honest_addresses_are_taken() {
        for (text, protocol) in [
            ("https://git.corp/mall/web.git", "https"),
            ("https://git.corp:8443/mall/web", "https"),
            ("https://[2001:db8::1]:8443/mall/web", "https"),
            ("http://gitea.corp/mall/web.git", "http"),
            ("ssh://git@git.corp:2222/mall/web.git", "ssh"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.protocol()), (text, protocol));
        }
    }

    #[test]
    fn hostile_addresses_are_refused() {
        for text in [
            "",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c touch% /tmp/x",
            "file:///etc",
            "/etc",
            "git@host:path",
            "https://",
            "https://host",
            "https://host/",
            "https://-oProxyCommand=x/y",
            "https://ho st/y",
            "https://host/y\n",
            "https://host/y?x=1",
            "https://host:99999/y",
            "https://host:/y",
            "https://[::1/y",
            "https://[::1]x/y",
            "https://a%zz@host/y",
            "ssh://host/y",
            "ssh://-oProxyCommand=x@host/y",
            "ssh://git@-oProxyCommand=x/y",
            "ssh://git@host/-x",
            "ssh://git:pw@host/x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            RepositoryUrl::parse("http://host/x", PlainHttp::Refused),
            Err(RepositoryUrlError::PlainHttp)
        );
        assert_eq!(
            RepositoryUrl::from_path("../x"),
            Err(RepositoryUrlError::RelativePath)
        );
    }

    #[test]
    fn credentials_are_never_shown() {
        let url = parse("https://ada:hunter2@host/x").unwrap();
        assert!(url.credentials().is_some());
        assert_eq!(format!("{url} {url:?}"), "https://host/x https://host/x");
        assert_eq!(url.to_argument(), "https://host/x");
    }
}
