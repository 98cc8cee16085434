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

use crate::{
    api::{caches, commands, debug, deliveries, events, files, projects, runs, trees},
    app::App,
    assets,
    error::{ApiError, Problem},
    guard::{self, Access},
    hooks, live, ops, pages,
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
        get(Access::Read, "/metrics", ops::metrics),
        get(Access::Open, "/assets/{file}", assets::serve),
        post(Access::Hook, "/hooks/{token}", hooks::receive),
    ];
    routes.extend(api());
    routes.extend(site());
    routes
}

fn api() -> Vec<Route> {
    use Access::{Read, Write};
    vec![
        get(Read, "/api/v1/runs", runs::list),
        get(Read, "/api/v1/runs/{run}", runs::show),
        get(Read, "/api/v1/runs/{run}/events", events::list),
        get(Read, "/api/v1/runs/{run}/record", live::record::stream),
        get(Read, "/api/v1/runs/{run}/why", runs::why),
        get(Read, "/api/v1/runs/{run}/top", runs::top),
        get(Read, "/api/v1/runs/{run}/nodes/{node}/log", files::log),
        get(
            Read,
            "/api/v1/runs/{run}/nodes/{node}/artifacts/{artifact}",
            files::artifact,
        ),
        get(
            Read,
            "/api/v1/runs/{run}/nodes/{node}/outputs/{output}",
            files::output,
        ),
        get(Read, "/api/v1/runs/{run}/nodes/{node}/tests", runs::tests),
        get(Read, "/api/v1/live", live::stream),
        get(Read, "/api/v1/deliveries", deliveries::list),
        get(Read, "/api/v1/deliveries/{delivery}", deliveries::show),
        get(Read, "/api/v1/refusals", deliveries::refusals),
        get(Read, "/api/v1/projects", projects::list),
        get(Read, "/api/v1/caches", caches::list),
        post(Write, "/api/v1/caches/remove", caches::remove),
        post(Write, "/api/v1/projects/{project}/trees", trees::take),
        post(Write, "/api/v1/runs", commands::start_run),
        post(Write, "/api/v1/runs/{run}/cancel", commands::cancel),
        post(Write, "/api/v1/runs/{run}/retry", commands::retry),
        post(
            Write,
            "/api/v1/runs/{run}/nodes/{node}/approve",
            commands::approve,
        ),
        post(Write, "/api/v1/runs/{run}/nodes/{node}/reject", commands::reject),
        post(
            Write,
            "/api/v1/runs/{run}/nodes/{node}/start",
            commands::start_node,
        ),
        post(Write, "/api/v1/runs/{run}/nodes/{node}/debug", debug::open),
        post(Write, "/api/v1/runs/{run}/nodes/{node}/release", debug::release),
        post(Write, "/api/v1/deliveries/{delivery}/replay", deliveries::replay),
    ]
}

fn site() -> Vec<Route> {
    use Access::{Form, Open, Read};
    vec![
        get(Read, "/", pages::root),
        get(Read, "/runs", pages::runs::show),
        get(Read, "/runs/{run}", pages::run::show),
        get(Read, "/runs/{run}/history", pages::history::show),
        get(Read, "/runs/{run}/nodes/{node}", pages::log::show),
        get(Read, "/deliveries", pages::deliveries::show),
        get(Open, "/login", pages::login::show),
        post(Open, "/login", pages::login::enter),
        post(Form, "/logout", pages::login::leave),
        post(Form, "/runs/{run}/cancel", pages::forms::cancel),
        post(Form, "/runs/{run}/retry", pages::forms::retry),
        post(Form, "/runs/{run}/nodes/{node}/decide", pages::forms::decide),
        post(Form, "/runs/{run}/nodes/{node}/start", pages::forms::start),
        post(Form, "/deliveries/{delivery}/replay", pages::forms::replay),
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
    failure(&uri, ApiError::not_found("the address names nothing"))
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

fn is_page(uri: &Uri) -> bool {
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
    let mut response = match guard::local_host(request.headers()) {
        Err(error) => error.into_response(),
        Ok(()) => AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| failure(&uri, ApiError::internal(&"a handler panicked"))),
    };
    app.metrics.request(route.as_deref(), &method, response.status());
    secure(&mut response);
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
