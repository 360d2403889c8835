//! Who speaks plainly to a node that takes TLS only is told so, and nothing else.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use proto::net::is_grpc;
use proto::{CERTIFIED, PLAIN};
use tonic::Status;
use tonic::service::Routes;

use crate::error::Failure;

/// `routes`, for connections that may be served.
pub fn refused(routes: Routes) -> Routes {
    let rules = from_fn(|request: Request, next: Next| async move {
        match is_refused(&request) {
            true => refusal(&request),
            false => next.run(request).await,
        }
    });
    Routes::from(routes.into_axum_router().layer(rules))
}

fn is_refused(request: &Request) -> bool {
    let certified = request.headers().get(CERTIFIED);
    certified.is_some_and(|certified| certified == PLAIN)
}

fn refusal(request: &Request) -> Response {
    match is_grpc(request.headers()) {
        true => Status::from(Failure::TlsRequired).into_http(),
        false => (
            StatusCode::FORBIDDEN,
            "this node takes TLS only: ask it with https://\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn only_who_is_plain_is_refused_in_the_words_of_its_protocol() {
        let router = Router::new().route("/x", get(|| async { "served" }));
        let routes = refused(Routes::from(router)).into_axum_router();
        for (certified, kind, status, grpc) in [
            (None, None, 200, None),
            (Some("none"), None, 200, None),
            (Some("node/a"), None, 200, None),
            (Some(PLAIN), None, 403, None),
            (Some(PLAIN), Some("application/grpc"), 200, Some("16")),
        ] {
            let mut request = Request::builder().uri("/x");
            for (name, value) in [(CERTIFIED, certified), ("content-type", kind)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let request = request.body(Body::empty()).unwrap();
            let answer = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{certified:?} {kind:?}");
            let code = answer.headers().get("grpc-status");
            assert_eq!(code.map(|code| code.to_str().unwrap()), grpc);
        }
    }
}
