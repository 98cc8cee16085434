//! Who may do what, before any handler sees a request: the meaning of each [`Access`].

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::read_body,
    pages::PageError,
};

/// What a route wants to see before it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing; but never an unsafe request of another site.
    Open,
    /// A project's address and signature, which the handler judges over the raw bytes.
    Hook,
    /// Nothing while the server listens on loopback only; but no request that a script of another site made.
    Read,
    /// The access token in the header `Authorization`.
    Write,
    /// A session's cookie and the form's own token.
    Form,
}

/// Lets a request through if it has what its route wants.
pub(crate) async fn check(
    app: Arc<App>,
    access: Access,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    let refuse = IntoResponse::into_response;
    let request = match access {
        Access::Hook => request,
        Access::Open | Access::Read => {
            same_site(request.method(), request.headers()).map_err(refuse)?;
            request
        }
        Access::Write => {
            same_site(request.method(), request.headers()).map_err(refuse)?;
            bearer(&app, request.headers()).map_err(refuse)?;
            request
        }
        Access::Form => {
            same_site(request.method(), request.headers()).map_err(refuse)?;
            form(&app, request).await?
        }
    };
    Ok(next.run(request).await)
}

/// Refuses every request that does not name this machine as its host: a page of another site whose name was pointed
/// here cannot read anything.
pub(crate) fn local_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |detail| Err(ApiError::new(Problem::ForeignHost, detail));
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return refuse("the request names no host, or two");
    };
    match host.to_str().ok().and_then(host_name) {
        Some("localhost" | "127.0.0.1" | "[::1]") => Ok(()),
        Some(_) | None => refuse("this server answers on loopback names only"),
    }
}

/// The name in `name`, `name:port` or `[v6]:port`.
fn host_name(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') {
        host.find(']')? + 1
    } else {
        host.find(':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at_checked(end)?;
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    is_port.then_some(name)
}

fn same_site(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let foreign = || ApiError::new(Problem::ForeignOrigin, "the request was made by another site");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    for origin in headers.get_all(header::ORIGIN) {
        let named = origin.as_bytes();
        let authority = named
            .strip_prefix(b"http://")
            .or_else(|| named.strip_prefix(b"https://"));
        if authority.is_none() || authority != host {
            return Err(foreign());
        }
    }
    // Following a link from another site is fine; posting from there is not.
    let fetched = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    match fetched {
        Some(b"same-origin" | b"none") | None => Ok(()),
        Some(_) if method.is_safe() => Ok(()),
        Some(_) => Err(foreign()),
    }
}

fn bearer(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match token {
        Some((_, token)) if app.parts.admin_token.is(token.trim()) => Ok(()),
        Some(_) => Err(ApiError::new(Problem::Unauthorized, "the token is not valid")),
        None => Err(ApiError::new(
            Problem::Unauthorized,
            "the request brings no token",
        )),
    }
}

/// Checks session and form token, and hands the form on. Who has no session is sent to the login page.
async fn form(app: &App, request: Request) -> Result<Request, Response> {
    let Some(session) = app.session(request.headers()) else {
        return Err(Redirect::to("/login").into_response());
    };
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let bytes = read_body(&parts.headers, body, app.body_limits(), |_| Ok(()))
        .await
        .map_err(IntoResponse::into_response)?;
    if session.accepts(&path, &form_token(&bytes)) {
        Ok(Request::from_parts(parts, Body::from(bytes)))
    } else {
        let error = ApiError::new(Problem::Forbidden, "the form is not one of this session")
            .with_hint("open the page again and press the button there");
        Err(PageError::from(error).into_response())
    }
}

/// The form's token; it is hex, so it needs no decoding.
fn form_token(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == b'&');
    let mut tokens = fields.filter_map(|field| field.strip_prefix(b"_form="));
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => String::from_utf8_lossy(token).into_owned(),
        (None | Some(_), _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{form_token, host_name, local_host, same_site};
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn hosts_are_read_strictly() {
        assert_eq!(host_name("localhost:8080"), Some("localhost"));
        assert_eq!(host_name("[::1]:80"), Some("[::1]"));
        assert_eq!(host_name("[::1]"), Some("[::1]"));
        for bad in ["[::1", "localhost:x", "localhost:80:80", "[::1]x", "localhost:"] {
            assert_ne!(host_name(bad), Some("localhost"), "{bad}");
            assert_ne!(host_name(bad), Some("[::1]"), "{bad}");
        }
        assert!(local_host(&headers(&[("host", "127.0.0.1:1")])).is_ok());
        for bad in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil"] {
            assert!(local_host(&headers(&[("host", bad)])).is_err(), "{bad}");
        }
        assert!(local_host(&HeaderMap::new()).is_err());
    }

    #[test]
    fn other_sites_may_link_but_not_act() {
        let host = ("host", "localhost:80");
        let post = Method::POST;
        assert!(same_site(&post, &headers(&[host])).is_ok());
        assert!(same_site(&post, &headers(&[host, ("origin", "http://localhost:80")])).is_ok());
        for origin in ["http://localhost:81", "null", "http://evil", "ftp://localhost:80"] {
            assert!(
                same_site(&Method::GET, &headers(&[host, ("origin", origin)])).is_err(),
                "{origin}"
            );
        }
        let linked = headers(&[host, ("sec-fetch-site", "cross-site")]);
        assert!(same_site(&Method::GET, &linked).is_ok());
        assert!(same_site(&post, &linked).is_err());
        assert!(same_site(&post, &headers(&[host, ("sec-fetch-site", "same-site")])).is_err());
        assert!(same_site(&post, &headers(&[host, ("sec-fetch-site", "same-origin")])).is_ok());
    }

    #[test]
    fn a_form_has_one_token() {
        assert_eq!(form_token(b"a=1&_form=00ff&b=2"), "00ff");
        assert_eq!(form_token(b"_form=1&_form=2"), "");
        assert_eq!(form_token(b""), "");
    }
}
