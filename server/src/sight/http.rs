//! What is served to browsers, scrapers and load balancers: plain HTTP, on the node's port or on one of
//! its own.
//!
//! ```text
//!   /livez           the process runs; depends on nothing else
//!   /readyz          it serves and does not drain
//!   /healthz         a client can append here now, or why not
//!   /metrics         for Prometheus; /metrics/shards?worst=20 for single shards
//!   /api/…           what the console shows, as JSON; POST /api/drills/lever pulls the safety lever
//!   /login           where callers must say who they are: a session for a key
//!   /                the console
//! ```

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tonic::service::Routes;

use super::api::{self, Api};
use super::login;
use super::metrics::{self, Metrics};
use crate::access::Doors;
use crate::access::table::is_grpc;
use crate::contained::contain;

/// Shards that are told at once at most.
const WORST_MAX: usize = 1_000;
/// Under `/api`, all that pages can change.
const LEVER: &str = "/drills/lever";
/// The pages run no code but their own and ask nobody but nodes.
const CONTENT_SECURITY: &str = "default-src 'self'; connect-src 'self' http: https:; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the routes share.
#[derive(Clone)]
pub struct Shared {
    /// What the console shows.
    pub api: Arc<Api>,
    /// For scrapers.
    pub metrics: Metrics,
    /// Who is let in.
    pub doors: Arc<Doors>,
}

/// All routes. `console` has the pages, where the program has any.
pub fn router(shared: Shared, console: Option<Router>) -> Router {
    let api = Router::new()
        .route("/now", get(api::now))
        .route("/timeline", get(api::timeline))
        .route("/shards", get(api::shards))
        .route("/whatif", get(api::whatif))
        .route("/jobs", get(api::jobs))
        .route("/drills", get(api::drills))
        .route(LEVER, post(api::lever::change).options(api::lever::ask))
        .route("/promises", get(api::promises))
        .route("/settings", get(api::settings))
        .fallback(api::unknown)
        .with_state(shared.api.clone());
    let api = Router::new().nest("/api", api);
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route(login::PATH, get(login::page).post(login::log_in))
        .route(login::OUT_PATH, post(login::log_out))
        .route("/metrics", get(scraped))
        .route("/metrics/shards", get(shards))
        .with_state(shared.clone())
        .merge(api);
    let router = match console {
        Some(pages) => router.fallback_service(pages.fallback(unknown)),
        None => router.fallback(unknown),
    };
    let Shared {
        api: allowed,
        doors,
        metrics: _,
    } = shared;
    router.layer(from_fn(move |request: Request, next: Next| {
        let (allowed, doors) = (allowed.clone(), doors.clone());
        async move {
            if login::is_needed(&doors, request.uri().path(), request.headers()) {
                return login::to(login::PATH);
            }
            let origin = request.headers().get(header::ORIGIN).cloned();
            let origin = origin.filter(|origin| allowed.is_of_the_cluster(origin));
            let mut response = match contain(next.run(request)).await {
                Some(response) => response,
                None => text(StatusCode::INTERNAL_SERVER_ERROR, "the request panicked\n"),
            };
            with_headers(&mut response, origin);
            response
        }
    }))
}

/// `routes`, and beside them `router` for what is not gRPC.
pub fn beside(routes: Routes, router: Router) -> Routes {
    let rules = from_fn(move |mut request: Request, next: Next| {
        let router = router.clone();
        name_host(&mut request);
        async move {
            match is_http(&request) {
                true => {
                    let served = tower::ServiceExt::oneshot(router, request).await;
                    served.unwrap_or_else(|never| match never {})
                }
                false => next.run(request).await,
            }
        }
    });
    Routes::from(routes.into_axum_router().layer(rules))
}

/// HTTP/2 says in the address what HTTP/1.1 says in a header: by which name it was called.
fn name_host(request: &mut Request) {
    if request.headers().contains_key(header::HOST) {
        return;
    }
    let called = request.uri().authority().map(|called| called.as_str());
    if let Some(called) = called.and_then(|called| HeaderValue::from_str(called).ok()) {
        request.headers_mut().insert(header::HOST, called);
    }
}

/// Whether a request is a browser's or a scraper's. What calls a gRPC method is told by gRPC's rules.
fn is_http(request: &Request) -> bool {
    let path = request.uri().path();
    let method = request.method();
    let asks = [Method::GET, Method::HEAD].contains(method);
    let changes = [Method::POST, Method::OPTIONS].contains(method)
        && path.strip_prefix("/api") == Some(LEVER);
    let logs_in = [login::PATH, login::OUT_PATH].contains(&path) && method == Method::POST;
    (asks || changes || logs_in) && !is_grpc(path)
}

fn with_headers(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross-origin",
        ),
    ];
    for (name, value) in fixed {
        // The page of the login has its own.
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn livez() -> Response {
    text(StatusCode::OK, "alive\n")
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.api.why_not_ready() {
        None => text(StatusCode::OK, "ready\n"),
        Some(why) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    match shared.api.local().canary.health().why_not {
        None => text(StatusCode::OK, "healthy: a client can append here\n"),
        Some(why) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("a client cannot append here: {why}\n"),
        ),
    }
}

fn told(series: Option<String>) -> Response {
    let Some(series) = series else {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node is starting or stopping\n",
        );
    };
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    let mut response = Response::new(Body::from(series));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn scraped(State(shared): State<Shared>) -> Response {
    told(shared.metrics.text())
}

#[derive(Deserialize)]
struct Worst {
    worst: Option<String>,
}

async fn shards(State(shared): State<Shared>, Query(asked): Query<Worst>) -> Response {
    let worst = asked.worst.as_deref().unwrap_or("20");
    match worst.parse() {
        Ok(worst @ 1..=WORST_MAX) => told(shared.metrics.shards(worst)),
        Ok(_) | Err(_) => text(
            StatusCode::BAD_REQUEST,
            format!("worst={worst} is wrong: say how many shards, 1 to {WORST_MAX}\n"),
        ),
    }
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    text(
        StatusCode::NOT_FOUND,
        format!(
            "there is no {path} here: the console is at /, metrics at /metrics, health at /livez, \
             /readyz and /healthz\n"
        ),
    )
}
