//! Who may do what, before any handler sees a request: the meaning of each [`Access`].
//!
//! A route names a verb and what it is about. Where the address tells the project (a run, a delivery, a project), the check
//! is done here whole, so that no handler can forget it; a thing that somebody may not even look at is not there for them.
//! For lists and for what a body names, the handler asks the [`Caller`], whose right to do it somewhere was checked here.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use pipekeeper_access::{Denied, Place, Projects, Verb, authorize};
use pipekeeper_model::{Name, RunId};
use pipekeeper_store::DeliveryId;

use crate::{
    Exposure,
    app::App,
    error::{ApiError, Problem},
    extract::read_body,
    load::no_run,
    pages::{PageError, login, oidc},
    people::{Caller, Groups, Proof},
    routes::{failure, is_page},
};

/// What a route wants to see before it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing; but never an unsafe request of another site.
    Open,
    /// A project's address and signature, which the handler judges over the raw bytes.
    Hook,
    /// A link that this server signed, on the host that serves nothing else; who asks is not looked at.
    Signed,
    /// The right to look, however it is proved.
    Read(Verb, On),
    /// The right to act, proved by a token.
    Write(Verb, On),
    /// The right to act, proved by a session's cookie and the form's own token.
    Form(Verb, On),
    /// To be somebody, for what concerns oneself; proved by a token, for looking also by a cookie.
    Own,
    /// The same, proved by a session's cookie and the form's own token.
    OwnForm,
}

/// What a route is about, and so where its verb must be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The whole server.
    Server,
    /// The run that the address names.
    Run,
    /// The project that the address names.
    Project,
    /// The delivery that the address names.
    Delivery,
    /// Several projects, or one that the request names elsewhere: the handler looks to it.
    Some,
}

/// The address at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Lets a request through if it has what its route wants; handlers find the [`Caller`] in it.
pub(crate) async fn check(
    app: Arc<App>,
    access: Access,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    let refuse = IntoResponse::into_response;
    if matches!(access, Access::Hook | Access::Signed) {
        return Ok(next.run(request).await);
    }
    same_site(&app.parts.exposure, request.method(), request.headers()).map_err(refuse)?;
    let (mut parts, body) = request.into_parts();
    let from = origin(&app.parts.exposure, &parts);
    let known = match app.people.caller(&parts.headers, app.now()).await {
        Ok(known) => known.map(|caller| Caller { from, ..caller }),
        // Whoever logs in may well come with something that is over.
        Err(_) if access == Access::Open => None,
        Err(error) => return Err(failure(&parts.uri, error)),
    };
    if access == Access::Open {
        parts.extensions.insert(known);
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let caller = prove(access, &parts, known).map_err(|refused| *refused)?;
    let judged = allow(&app, access, &mut parts, &caller).await;
    judged.map_err(|error| {
        refresh(&app, access, &parts, &caller).unwrap_or_else(|| failure(&parts.uri, error))
    })?;
    let body = match access {
        Access::Form(..) | Access::OwnForm => form(&app, &caller, &parts, body).await?,
        Access::Open | Access::Hook | Access::Signed | Access::Read(..) | Access::Write(..) | Access::Own => {
            body
        }
    };
    parts.extensions.insert(Some(caller));
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// A page that somebody may not see whose groups were read too long ago waits until the issuer was asked again, which takes
/// them no click. What they may see anyway does not want the issuer.
fn refresh(app: &App, access: Access, parts: &Parts, caller: &Caller) -> Option<Response> {
    let is_page = parts.method.is_safe() && is_page(&parts.uri) && matches!(access, Access::Read(..));
    let has_lapsed = caller.groups == Groups::Lapsed && caller.proof == Proof::Session;
    (is_page && has_lapsed && app.parts.oidc.is_some())
        .then(|| Redirect::to(&oidc::address(parts.uri.path())).into_response())
}

/// The caller, if they proved themselves as the route wants it.
fn prove(access: Access, parts: &Parts, known: Option<Caller>) -> Result<Caller, Box<Response>> {
    let is_enough = |proof: Proof| match access {
        Access::Form(..) | Access::OwnForm => proof == Proof::Session,
        Access::Write(..) => proof == Proof::Token,
        Access::Own if !parts.method.is_safe() => proof == Proof::Token,
        Access::Own => proof != Proof::Nothing,
        Access::Open | Access::Hook | Access::Signed | Access::Read(..) => true,
    };
    if let Some(caller) = known.filter(|caller| is_enough(caller.proof)) {
        return Ok(caller);
    }
    let wants_page = match access {
        Access::Form(..) | Access::OwnForm => {
            return Err(Box::new(Redirect::to("/login").into_response()));
        }
        Access::Read(..) | Access::Own => is_page(&parts.uri),
        Access::Open | Access::Hook | Access::Signed | Access::Write(..) => false,
    };
    if wants_page {
        let next = login::address(parts.uri.path());
        return Err(Box::new(Redirect::to(&next).into_response()));
    }
    let detail = "the request brings no token";
    let error = ApiError::new(Problem::Unauthorized, detail);
    Err(Box::new(failure(&parts.uri, error)))
}

/// Whether the caller may do there what the route is for.
async fn allow(app: &App, access: Access, parts: &mut Parts, caller: &Caller) -> Result<(), ApiError> {
    let (Access::Read(verb, on) | Access::Write(verb, on) | Access::Form(verb, on)) = access else {
        return Ok(());
    };
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|error| ApiError::internal(&error))?;
    let param = |name: &str| {
        params
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let nothing = || ApiError::not_found("the address names nothing");
    match on {
        On::Server => caller.check(verb, Place::SERVER),
        On::Some => match caller.principal.projects(verb) {
            Projects::Only(projects) if projects.is_empty() => caller.check(verb, Place::SERVER),
            Projects::Only(_) | Projects::All => Ok(()),
        },
        On::Project => {
            let project: Name = param("project")
                .and_then(|text| text.parse().ok())
                .ok_or_else(nothing)?;
            seen(caller, verb, &project, || {
                ApiError::not_found(format!("there is no project `{project}`"))
            })
        }
        On::Run => {
            let id = param("run")
                .and_then(|text| text.parse().ok())
                .map(RunId)
                .ok_or_else(nothing)?;
            let run = app.parts.store.summary(id).await?.ok_or_else(|| no_run(id))?;
            seen(caller, verb, &run.project, || no_run(id))
        }
        On::Delivery => {
            let id = param("delivery").and_then(|text| text.parse().ok());
            let id = id.map(DeliveryId).ok_or_else(nothing)?;
            let missing = || ApiError::not_found(format!("there is no delivery {}", id.0));
            // A list leaves the body where it is.
            let next = Some(DeliveryId(id.0.saturating_add(1)));
            let newest = app.parts.store.deliveries(None, next, 1).await?.pop();
            let delivery = newest.filter(|newest| newest.id == id).ok_or_else(missing)?;
            seen(caller, verb, &delivery.received.project, missing)
        }
    }
}

/// Refuses with `missing` whoever may not even look.
fn seen(
    caller: &Caller,
    verb: Verb,
    project: &Name,
    missing: impl FnOnce() -> ApiError,
) -> Result<(), ApiError> {
    let place = Place::project(project);
    match authorize(&caller.principal, verb, place) {
        Ok(()) => Ok(()),
        Err(_) if !caller.may(Verb::ReadRuns, place) => Err(missing()),
        Err(denied) => Err(denied.into()),
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let hint = denied.hint();
        Self::new(Problem::Forbidden, denied.to_string()).with_hint(hint)
    }
}

/// Where a request comes from, as far as that is known.
pub(crate) struct Origin(pub(crate) Option<IpAddr>);

impl FromRequestParts<Arc<App>> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(origin(&app.parts.exposure, parts)))
    }
}

/// The address that a request comes from: behind a proxy the one that it saw itself, which it writes last.
fn origin(exposure: &Exposure, parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<Peer>().map(|Peer(address)| *address);
    match exposure {
        Exposure::Loopback | Exposure::Tls { .. } => peer,
        Exposure::Proxied { .. } => {
            let forwarded = parts.headers.get_all("x-forwarded-for").iter().next_back();
            let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
            last.and_then(|address| address.trim().parse().ok()).or(peer)
        }
    }
}

/// Who is signed in, on pages that everybody may see.
pub(crate) struct Visitor(pub(crate) Option<Caller>);

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Option<Caller>>().cloned().flatten()))
    }
}

/// The caller that the guard found; a route without one is a mistake of ours.
impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let found = parts.extensions.get::<Option<Self>>().cloned().flatten();
        found.ok_or_else(|| ApiError::internal(&"a route has no caller"))
    }
}

/// The host that a request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// The server's own.
    Own,
    /// The one that serves artifacts.
    Artifacts,
}

/// Finds out which host a request is for, and refuses those for others.
pub(crate) fn site(
    exposure: &Exposure,
    artifact_host: Option<&str>,
    headers: &HeaderMap,
) -> Result<Site, ApiError> {
    let mut hosts = headers.get_all(header::HOST).iter();
    if let (Some(host), None, Some(wanted)) = (hosts.next(), hosts.next(), artifact_host)
        && host.to_str().is_ok_and(|host| host.eq_ignore_ascii_case(wanted))
    {
        return Ok(Site::Artifacts);
    }
    known_host(exposure, headers).map(|()| Site::Own)
}

/// Refuses every request that does not name this machine, or the address that people use, as its host: a page of another
/// site whose name was pointed here cannot read anything.
fn known_host(exposure: &Exposure, headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |detail| Err(ApiError::new(Problem::ForeignHost, detail));
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return refuse("the request names no host, or two");
    };
    let host = host.to_str().ok();
    if let Some(own) = exposure.host()
        && host.is_some_and(|host| host.eq_ignore_ascii_case(own))
    {
        return Ok(());
    }
    match host.and_then(host_name) {
        Some("localhost" | "127.0.0.1" | "[::1]") => Ok(()),
        Some(_) | None => refuse("this server does not answer to this name"),
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

fn same_site(exposure: &Exposure, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let foreign = || ApiError::new(Problem::ForeignOrigin, "the request was made by another site");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    for origin in headers.get_all(header::ORIGIN) {
        let named = origin.as_bytes();
        // What people type is the same site, whatever host their proxy names.
        if let Some(own) = exposure.host()
            && named == format!("https://{own}").as_bytes()
        {
            continue;
        }
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

/// Checks the form's token, and hands the form on.
async fn form(app: &App, caller: &Caller, parts: &Parts, body: Body) -> Result<Body, Response> {
    let bytes = read_body(&parts.headers, body, app.body_limits(), |_| Ok(()))
        .await
        .map_err(IntoResponse::into_response)?;
    let session = caller.session.as_ref();
    if session.is_some_and(|session| session.accepts(parts.uri.path(), &form_token(&bytes))) {
        Ok(Body::from(bytes))
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
    use super::{form_token, host_name, known_host, same_site};
    use crate::Exposure;
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
        assert!(known_host(&Exposure::Loopback, &headers(&[("host", "127.0.0.1:1")])).is_ok());
        for bad in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil"] {
            assert!(
                known_host(&Exposure::Loopback, &headers(&[("host", bad)])).is_err(),
                "{bad}"
            );
        }
        assert!(known_host(&Exposure::Loopback, &HeaderMap::new()).is_err());
        let own = "ci.corp:8443".to_owned();
        let proxied = Exposure::Proxied { host: own };
        for good in ["ci.corp:8443", "CI.corp:8443", "localhost"] {
            assert!(
                known_host(&proxied, &headers(&[("host", good)])).is_ok(),
                "{good}"
            );
        }
        for bad in ["ci.corp", "evil.example:8443", "ci.corp:8443.evil.example"] {
            assert!(known_host(&proxied, &headers(&[("host", bad)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_sites_may_link_but_not_act() {
        let host = ("host", "localhost:80");
        let post = Method::POST;
        assert!(same_site(&Exposure::Loopback, &post, &headers(&[host])).is_ok());
        assert!(
            same_site(
                &Exposure::Loopback,
                &post,
                &headers(&[host, ("origin", "http://localhost:80")])
            )
            .is_ok()
        );
        for origin in ["http://localhost:81", "null", "http://evil", "ftp://localhost:80"] {
            assert!(
                same_site(
                    &Exposure::Loopback,
                    &Method::GET,
                    &headers(&[host, ("origin", origin)])
                )
                .is_err(),
                "{origin}"
            );
        }
        let linked = headers(&[host, ("sec-fetch-site", "cross-site")]);
        assert!(same_site(&Exposure::Loopback, &Method::GET, &linked).is_ok());
        assert!(same_site(&Exposure::Loopback, &post, &linked).is_err());
        assert!(
            same_site(
                &Exposure::Loopback,
                &post,
                &headers(&[host, ("sec-fetch-site", "same-site")])
            )
            .is_err()
        );
        assert!(
            same_site(
                &Exposure::Loopback,
                &post,
                &headers(&[host, ("sec-fetch-site", "same-origin")])
            )
            .is_ok()
        );
    }

    #[test]
    fn a_form_has_one_token() {
        assert_eq!(form_token(b"a=1&_form=00ff&b=2"), "00ff");
        assert_eq!(form_token(b"_form=1&_form=2"), "");
        assert_eq!(form_token(b""), "");
    }
}
