//! The safety lever, pulled and released from the console. It is all that a page can change.
//!
//! A page of somebody else must not pull it through an operator's browser. So it takes JSON only, which a
//! browser sends to another origin not without asking first, and who asks is answered by two rules. The page
//! is a node's: it comes from the address that it calls, or from that of another node. And that address is no
//! name that somebody else may have pointed here: it is an IP address, `localhost`, or one that the cluster
//! has for a node.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use tonic::Code;

use super::{Api, Arc, HeaderValue, Response, State, StatusCode, json, v1, wrong};
use crate::deadline::{Call, Deadline};
use crate::sight::report::answers;
use v1::change_drill_request::Change;

/// How long the cluster may take to decide it.
const DECIDE_MAX: Duration = Duration::from_secs(5);
/// The largest request, bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// All drills end and none begins; or else they may again.
    pull: bool,
    /// Who asks.
    who: String,
    /// Why; of a pull only.
    #[serde(default)]
    why: String,
}

/// host:port of a page, as browsers tell it.
fn place(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let text = headers.get(name)?.to_str().ok()?;
    let bare = text
        .strip_prefix("http://")
        .or(text.strip_prefix("https://"));
    Some(bare.unwrap_or(text))
}

/// host of host:port, which an IPv6 address has in brackets.
fn host(place: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match place.rsplit_once(':') {
        Some((host, port)) if is_port(port) && !host.is_empty() => host,
        _ => place,
    }
}

/// Why a page may not change anything here; `nodes` has host:port of all nodes and their consoles.
fn refused(headers: &HeaderMap, nodes: &[String]) -> Option<&'static str> {
    let called = place(headers, header::HOST).unwrap_or_default();
    let name = host(called);
    let bare = name.trim_matches(['[', ']']);
    let known = |place: &str| nodes.iter().any(|node| node == place);
    let named = nodes.iter().any(|node| host(node) == name);
    if bare.parse::<IpAddr>().is_err() && name != "localhost" && !named {
        return Some("it was called by a name that no node of the cluster has");
    }
    match place(headers, header::ORIGIN) {
        // Programs tell none, and need no browser for what they do.
        None => None,
        Some(origin) if origin == called || known(origin) => None,
        Some(_) => Some("the page that asks is not a node's"),
    }
}

impl Api {
    /// host:port of all nodes and of their consoles, as far as that is known here.
    async fn places(&self) -> Vec<String> {
        let view = self.local().gateway.view();
        let addresses = view.nodes.iter().map(|node| node.address.clone());
        let look = self.look().await;
        let consoles = answers(&look.reports).map(|status| status.http.clone());
        addresses.chain(consoles).collect()
    }
}

/// Pulls the lever, or releases it.
pub async fn change(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(why) = refused(&headers, &api.places().await) {
        let message = format!("nothing was changed: {why}");
        return wrong(StatusCode::FORBIDDEN, "not_allowed", message);
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json || body.len() > BODY_BYTES_MAX {
        let message = format!("send JSON, as content-type says, of {BODY_BYTES_MAX} bytes at most");
        return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message);
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => {
            let message = format!("send {{\"pull\": true, \"who\": NAME, \"why\": TEXT}}: {error}");
            return wrong(StatusCode::BAD_REQUEST, "bad_request", message);
        }
    };
    let Asked { pull, who, why } = asked;
    tracing::warn!(pull, who, why, "the safety lever is moved from the console");
    let change = match pull {
        true => Change::Pull(v1::PullLever { who, why }),
        false => Change::Release(v1::ReleaseLever { who }),
    };
    let request = v1::ChangeDrillRequest {
        change: Some(change),
    };
    let call = Call::within(Deadline::after(DECIDE_MAX));
    match api.admin.change_drill(&request, &call).await {
        Ok(changed) => json(&serde_json::json!({"pulled": pull, "epoch": changed.epoch})),
        Err(failure) => {
            let status = tonic::Status::from(failure);
            let message = format!(
                "{}; firebreak drill stop-all asks all nodes",
                status.message()
            );
            let code = match status.code() {
                Code::FailedPrecondition | Code::InvalidArgument => StatusCode::CONFLICT,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            wrong(code, "not_done", message)
        }
    }
}

/// A browser asks whether a page of one node may change something at another.
pub async fn ask(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    if refused(&headers, &api.places().await).is_some() {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let told = response.headers_mut();
    let post = HeaderValue::from_static(Method::POST.as_str());
    told.insert(header::ACCESS_CONTROL_ALLOW_METHODS, post);
    let kind = HeaderValue::from_static("content-type");
    told.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_a_node_that_is_called_by_its_address_may_change_anything() {
        let nodes = ["seoul-1:7101", "10.0.0.2:7101"].map(str::to_owned);
        let check = |host: &str, origin: &str, right: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if !origin.is_empty() {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let refused = refused(&headers, &nodes);
            assert_eq!(refused.is_none(), right, "{host} {origin}: {refused:?}");
        };
        check("127.0.0.1:7101", "http://127.0.0.1:7101", true);
        check("localhost:7101", "http://localhost:7101", true);
        check("[::1]:7101", "http://[::1]:7101", true);
        check("seoul-1:7101", "http://seoul-1:7101", true);
        check("seoul-1:7101", "http://10.0.0.2:7101", true);
        check("10.0.0.9:7101", "", true);
        // Another page, also on the same machine.
        check("127.0.0.1:7101", "http://127.0.0.1:8080", false);
        check("127.0.0.1:7101", "http://evil.example", false);
        check("127.0.0.1:7101", "null", false);
        // A name that somebody has pointed at a node.
        check("evil.example:7101", "http://evil.example:7101", false);
        check("evil.example:7101", "", false);
    }
}
