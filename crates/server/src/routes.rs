//! The one table of routes: each with its method, its path and the right it wants. The router is built from it alone.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    handler::Handler,
    http::{HeaderName, HeaderValue, Method, Uri, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use futures_util::FutureExt;
use pipekeeper_access::Verb;

use crate::{
    Exposure,
    api::{
        approvals, audit, caches, commands, debug, deliveries, documents, events, files, keep, locks, people,
        projects, runs, secrets, trees,
    },
    app::App,
    assets,
    error::{ApiError, Problem},
    guard::{
        self,
        Access::{self, Form, Read, Write},
        On, Site,
    },
    hooks, links, live, ops, pages,
};

/// One way to ask the server for something.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    handler: MethodRouter<Arc<App>>,
}

fn get<H, T>(access: Access, path: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    Route {
        method: Method::GET,
        path,
        access,
        handler: on(MethodFilter::GET, handler),
    }
}

fn post<H, T>(access: Access, path: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    Route {
        method: Method::POST,
        path,
        access,
        handler: on(MethodFilter::POST, handler),
    }
}

/// Every route.
pub(crate) fn table() -> Vec<Route> {
    let mut routes = vec![
        get(Access::Open, "/healthz", ops::health),
        get(Access::Open, "/readyz", ops::ready),
        get(Read(Verb::ReadMetrics, On::Server), "/metrics", ops::metrics),
        get(Access::Open, "/assets/{file}", assets::serve),
        post(Access::Hook, "/hooks/{token}", hooks::receive),
        get(Access::Signed, links::PATH, links::follow),
    ];
    routes.extend(api());
    routes.extend(deeds());
    routes.extend(people_api());
    routes.extend(documents_api());
    routes.extend(secrets_api());
    routes.extend(site());
    routes
}

fn api() -> Vec<Route> {
    let look = Read(Verb::ReadRuns, On::Run);
    vec![
        get(Read(Verb::ReadRuns, On::Some), "/api/v1/runs", runs::list),
        get(
            Read(Verb::ReadRuns, On::Some),
            "/api/v1/approvals",
            approvals::list,
        ),
        get(look, "/api/v1/runs/{run}", runs::show),
        get(look, "/api/v1/runs/{run}/events", events::list),
        get(look, "/api/v1/runs/{run}/record", live::record::stream),
        get(look, "/api/v1/runs/{run}/why", runs::why),
        get(look, "/api/v1/runs/{run}/top", runs::top),
        get(look, "/api/v1/runs/{run}/nodes/{node}/log", files::log),
        get(
            look,
            "/api/v1/runs/{run}/nodes/{node}/artifacts/{artifact}",
            files::artifact,
        ),
        get(
            look,
            "/api/v1/runs/{run}/nodes/{node}/outputs/{output}",
            files::output,
        ),
        get(look, "/api/v1/runs/{run}/nodes/{node}/tests", runs::tests),
        get(Read(Verb::ReadRuns, On::Some), "/api/v1/live", live::stream),
        get(
            Read(Verb::ReadDeliveries, On::Some),
            "/api/v1/deliveries",
            deliveries::list,
        ),
        get(
            Read(Verb::ReadDeliveries, On::Delivery),
            "/api/v1/deliveries/{delivery}",
            deliveries::show,
        ),
        get(
            Read(Verb::ReadDeliveries, On::Some),
            "/api/v1/refusals",
            deliveries::refusals,
        ),
        get(Read(Verb::ReadRuns, On::Some), "/api/v1/projects", projects::list),
        get(Read(Verb::ReadCaches, On::Some), "/api/v1/caches", caches::list),
        get(Read(Verb::ReadRuns, On::Some), "/api/v1/locks", locks::list),
    ]
}

/// What acts on runs, deliveries and caches.
fn deeds() -> Vec<Route> {
    vec![
        post(
            Write(Verb::RemoveCaches, On::Some),
            "/api/v1/caches/remove",
            caches::remove,
        ),
        post(
            Write(Verb::SendTree, On::Project),
            "/api/v1/projects/{project}/trees",
            trees::take,
        ),
        post(
            Write(Verb::StartRun, On::Some),
            "/api/v1/runs",
            commands::start_run,
        ),
        post(
            Write(Verb::CancelRun, On::Run),
            "/api/v1/runs/{run}/cancel",
            commands::cancel,
        ),
        post(
            Write(Verb::RetryRun, On::Run),
            "/api/v1/runs/{run}/retry",
            commands::retry,
        ),
        post(
            Write(Verb::KeepRun, On::Run),
            "/api/v1/runs/{run}/keep",
            keep::change,
        ),
        post(
            Write(Verb::Decide, On::Run),
            "/api/v1/runs/{run}/nodes/{node}/approve",
            commands::approve,
        ),
        post(
            Write(Verb::Decide, On::Run),
            "/api/v1/runs/{run}/nodes/{node}/reject",
            commands::reject,
        ),
        post(
            Write(Verb::StartAction, On::Run),
            "/api/v1/runs/{run}/nodes/{node}/start",
            commands::start_node,
        ),
        post(
            Write(Verb::OpenTerminal, On::Run),
            "/api/v1/runs/{run}/nodes/{node}/debug",
            debug::open,
        ),
        post(
            Write(Verb::OpenTerminal, On::Run),
            "/api/v1/runs/{run}/nodes/{node}/release",
            debug::release,
        ),
        post(
            Write(Verb::ReplayDelivery, On::Delivery),
            "/api/v1/deliveries/{delivery}/replay",
            deliveries::replay,
        ),
    ]
}

fn people_api() -> Vec<Route> {
    let manage = Write(Verb::ManageUsers, On::Server);
    vec![
        post(Access::Open, "/api/v1/login", people::login),
        get(Access::Own, "/api/v1/me", people::me),
        get(Access::Own, "/api/v1/tokens", people::tokens),
        post(Access::Own, "/api/v1/tokens", people::draw_token),
        post(Access::Own, "/api/v1/tokens/{id}/revoke", people::revoke_token),
        get(Read(Verb::ReadUsers, On::Server), "/api/v1/users", people::users),
        post(manage, "/api/v1/users/{user}/add", people::add_user),
        post(manage, "/api/v1/users/{user}", people::change_user),
        post(manage, "/api/v1/users/{user}/remove", people::remove_user),
        get(Read(Verb::ReadAudit, On::Some), "/api/v1/audit", audit::list),
    ]
}

fn documents_api() -> Vec<Route> {
    let look = Read(Verb::ReadDocuments, On::Server);
    let change = Write(Verb::ApplyDocuments, On::Server);
    vec![
        get(look, "/api/v1/documents", documents::list),
        get(look, "/api/v1/documents/{kind}/{name}", documents::show),
        get(
            look,
            "/api/v1/documents/{kind}/{name}/versions",
            documents::versions,
        ),
        post(change, "/api/v1/documents/apply", documents::apply),
        post(
            change,
            "/api/v1/documents/{kind}/{name}/remove",
            documents::remove,
        ),
    ]
}

fn secrets_api() -> Vec<Route> {
    let change = Write(Verb::ChangeSecrets, On::Some);
    vec![
        get(
            Read(Verb::ReadSecrets, On::Some),
            "/api/v1/secrets",
            secrets::list,
        ),
        post(change, "/api/v1/secrets/set", secrets::set),
        post(change, "/api/v1/secrets/remove", secrets::remove),
        post(
            Write(Verb::RotateKey, On::Server),
            "/api/v1/secrets/rotate-key",
            secrets::rotate_key,
        ),
    ]
}

fn site() -> Vec<Route> {
    let look = Read(Verb::ReadRuns, On::Run);
    vec![
        get(Access::Open, "/", pages::root),
        get(Read(Verb::ReadRuns, On::Some), "/runs", pages::runs::show),
        get(
            Read(Verb::ReadRuns, On::Some),
            "/approvals",
            pages::approvals::show,
        ),
        get(look, "/runs/{run}", pages::run::show),
        get(look, "/runs/{run}/history", pages::history::show),
        get(look, "/runs/{run}/nodes/{node}", pages::log::show),
        get(
            Read(Verb::ReadDeliveries, On::Some),
            "/deliveries",
            pages::deliveries::show,
        ),
        get(Read(Verb::ReadAudit, On::Some), "/audit", pages::audit::show),
        get(Access::Open, "/login", pages::login::show),
        post(Access::Open, "/login", pages::login::enter),
        get(Access::Open, "/login/oidc", pages::oidc::leave),
        get(Access::Open, "/login/oidc/back", pages::oidc::back),
        get(Access::Open, "/setup", pages::setup::show),
        post(Access::Open, "/setup", pages::setup::enter),
        post(Access::OwnForm, "/logout", pages::login::leave),
        get(Access::Own, "/settings", pages::settings::show),
        post(Access::OwnForm, "/settings/password", pages::settings::password),
        post(Access::OwnForm, "/settings/tokens", pages::settings::draw),
        post(
            Access::OwnForm,
            "/settings/tokens/{id}/revoke",
            pages::settings::revoke,
        ),
        post(
            Access::OwnForm,
            "/settings/sessions/end-others",
            pages::settings::end_others,
        ),
        post(
            Access::OwnForm,
            "/settings/sessions/{id}/end",
            pages::settings::end,
        ),
        post(
            Form(Verb::CancelRun, On::Run),
            "/runs/{run}/cancel",
            pages::forms::cancel,
        ),
        post(
            Form(Verb::RetryRun, On::Run),
            "/runs/{run}/retry",
            pages::forms::retry,
        ),
        post(
            Form(Verb::Decide, On::Run),
            "/runs/{run}/nodes/{node}/decide",
            pages::forms::decide,
        ),
        post(
            Form(Verb::StartAction, On::Run),
            "/runs/{run}/nodes/{node}/start",
            pages::forms::start,
        ),
        post(
            Form(Verb::ReplayDelivery, On::Delivery),
            "/deliveries/{delivery}/replay",
            pages::forms::replay,
        ),
    ]
}

impl App {
    /// The router over the table.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new();
        for route in table() {
            tracing::debug!(method = %route.method, path = route.path, access = ?route.access, "serves");
            let app = Arc::clone(self);
            let access = route.access;
            let checked = from_fn(move |request: Request, next: Next| {
                guard::check(Arc::clone(&app), access, request, next)
            });
            router = router.route(route.path, route.handler.route_layer(checked));
        }
        let app = Arc::clone(self);
        router
            .fallback(nowhere)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn(move |request: Request, next: Next| {
                around(Arc::clone(&app), request, next)
            }))
            .with_state(Arc::clone(self))
    }
}

async fn nowhere(uri: Uri) -> Response {
    failure(&uri, nothing())
}

fn nothing() -> ApiError {
    ApiError::not_found("the address names nothing")
}

async fn wrong_method(uri: Uri) -> Response {
    failure(
        &uri,
        ApiError::new(Problem::MethodNotAllowed, "the address does not take this method"),
    )
}

/// Says an error to a program or to a person.
pub(crate) fn failure(uri: &Uri, error: ApiError) -> Response {
    if is_page(uri) {
        pages::PageError::from(error).into_response()
    } else {
        error.into_response()
    }
}

/// Whether a person asks with a browser.
pub(crate) fn is_page(uri: &Uri) -> bool {
    !uri.path().starts_with("/api/") && !uri.path().starts_with("/hooks/")
}

/// What holds for every request: the host check, a count, safe headers, and an answer even when a handler panics.
async fn around(app: Arc<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let uri = request.uri().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let host = app.parts.artifact_host.as_deref();
    let site = guard::site(&app.parts.exposure, host, request.headers());
    // Each of the two hosts serves what the other does not.
    let belongs = |site| (site == Site::Artifacts) == (route.as_deref() == Some(links::PATH));
    let mut response = match site {
        Err(error) => error.into_response(),
        Ok(site) if !belongs(site) => nothing().into_response(),
        Ok(Site::Own | Site::Artifacts) => AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| failure(&uri, ApiError::internal(&"a handler panicked"))),
    };
    app.metrics.request(route.as_deref(), &method, response.status());
    secure(&mut response);
    if let Exposure::Tls { .. } = app.parts.exposure {
        // A proxy says this itself, if it wants it.
        let always = HeaderValue::from_static("max-age=31536000");
        response
            .headers_mut()
            .insert(header::STRICT_TRANSPORT_SECURITY, always);
    }
    response
}

const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

fn secure(response: &mut Response) {
    for (name, value) in HEADERS {
        // A handler that knows better keeps its own.
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}
