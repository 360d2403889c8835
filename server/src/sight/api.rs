//! What the console shows, as JSON. Any node answers, from what it has itself and from those that
//! answer it within a second; it needs no quorum. Every answer says who told it and how old it is.

pub mod drills;
pub mod jobs;
pub mod lever;
pub mod now;
pub mod promises;
pub mod shards;
pub mod timeline;
pub mod whatif;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::id::NodeId;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::local::Local;
use super::report::{Report, answers};
use crate::config::Config;
use crate::deadline::forward;
use crate::service::admin::Admin;

/// How long a node may take to say how it is.
const ASK_MAX: Duration = Duration::from_secs(1);
/// The same for one that this node does not reach.
const ASK_LOST_MAX: Duration = Duration::from_millis(250);
/// Who looks within this time of another look is shown the same.
const SAME_LOOK: Duration = Duration::from_millis(500);

/// What the console shows.
pub struct Api {
    admin: Arc<Admin>,
    config: Config,
    last: Mutex<Option<(Instant, Arc<Look>)>>,
    losses: whatif::Losses,
    recent: timeline::Recent,
}

/// What all nodes said at one moment.
pub struct Look {
    /// Of each node of the cluster.
    pub reports: Vec<Report>,
    /// When they were asked, Unix milliseconds.
    at_ms: u64,
    /// How old what they said is at most.
    age: Duration,
    taken: Instant,
}

impl Look {
    /// Of what was said to who asked at `at_ms`, which was `taken`.
    pub fn of(reports: Vec<Report>, at_ms: u64, taken: Instant) -> Look {
        let answered = reports.iter().filter(|report| report.status.is_ok());
        let age = answered.map(|report| report.took).max();
        Look {
            reports,
            at_ms,
            age: age.unwrap_or_default(),
            taken,
        }
    }

    /// Who says it: `asker` did ask.
    pub fn seen_by(&self, asker: &str) -> SeenBy {
        let age = self.age.max(self.taken.elapsed());
        SeenBy {
            node: asker.to_owned(),
            at_ms: self.at_ms,
            age_ms: age.as_millis().max(1),
            answered: answers(&self.reports).count(),
            nodes: self.reports.len(),
        }
    }
}

/// Who says it, and how old it is.
#[derive(Clone, Debug, Serialize)]
pub struct SeenBy {
    /// Who asked the nodes.
    pub node: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// How old what they said was at most, when it was told.
    pub age_ms: u128,
    /// Nodes that answered.
    pub answered: usize,
    /// Nodes of the cluster.
    pub nodes: usize,
}

/// Why something is not told.
#[derive(Serialize)]
struct Problem {
    error: &'static str,
    message: String,
}

impl Api {
    /// Of the node that `admin` answers for, started with `config`.
    pub fn new(admin: Arc<Admin>, config: Config) -> Api {
        Api {
            admin,
            config,
            last: Mutex::default(),
            losses: whatif::Losses::default(),
            recent: timeline::Recent::default(),
        }
    }

    /// What the node knows of itself.
    pub fn local(&self) -> &Local {
        &self.admin.local
    }

    /// Why this node should not be sent clients; `None` when it should.
    pub fn why_not_ready(&self) -> Option<String> {
        let gateway = &self.local().gateway;
        if gateway.sends_away() {
            return Some("this node drains or stops".to_owned());
        }
        let laid_out = !gateway.view().shards.is_empty();
        (!laid_out)
            .then(|| "the cluster's shards are not laid out yet, or not known here".to_owned())
    }

    /// Whether a page of another node of the cluster asks.
    pub fn is_of_the_cluster(&self, origin: &HeaderValue) -> bool {
        let host = |address: &str| address.rsplit_once(':').map(|(host, _)| host.to_owned());
        let Some(asks) = origin.to_str().ok().and_then(|text| {
            let place = text
                .strip_prefix("http://")
                .or(text.strip_prefix("https://"))?;
            host(place)
        }) else {
            return false;
        };
        let view = self.local().gateway.view();
        view.nodes
            .iter()
            .any(|node| host(&node.address).as_ref() == Some(&asks))
    }

    /// Asks all nodes at once, unless they were a moment ago.
    async fn look(&self) -> Arc<Look> {
        let mut last = self.last.lock().await;
        if let Some((at, look)) = &*last
            && at.elapsed() < SAME_LOOK
        {
            return look.clone();
        }
        let look = Arc::new(self.ask(v1::GetStatusRequest::default()).await);
        *last = Some((Instant::now(), look.clone()));
        look
    }

    async fn ask(&self, request: v1::GetStatusRequest) -> Look {
        let (at_ms, taken) = (self.local().now_ms(), Instant::now());
        let listed = self.admin.nodes(&self.local().gateway.view());
        let asked = listed.into_iter().map(|node| self.ask_one(node, request));
        Look::of(futures::future::join_all(asked).await, at_ms, taken)
    }

    async fn ask_one(&self, listed: v1::NodeStatus, request: v1::GetStatusRequest) -> Report {
        let began = Instant::now();
        let raft = &self.local().gateway.raft;
        let node = NodeId(listed.node_id);
        let status = if node == self.local().gateway.me() {
            Ok(self.admin.status(request))
        } else {
            let limit = if raft.reachable(node) {
                ASK_MAX
            } else {
                ASK_LOST_MAX
            };
            match raft.channel(node) {
                None => Err("its address is not known here".to_owned()),
                Some(channel) => {
                    let mut client = AdminClient::new(channel)
                        .max_decoding_message_size(model::limits::FRAME_BYTES_MAX);
                    let request = forward(request, Some(limit));
                    match timeout(limit, client.get_status(request)).await {
                        Ok(Ok(answer)) => Ok(answer.into_inner()),
                        Ok(Err(status)) => Err(status.message().to_owned()),
                        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
                    }
                }
            }
        };
        Report {
            address: listed.address.clone(),
            listed: Some(listed),
            status,
            took: began.elapsed(),
        }
    }

    fn seen_by(&self, look: &Look) -> SeenBy {
        look.seen_by(&self.local().gateway.raft.identity().name)
    }
}

/// An answer.
fn json(value: &impl Serialize) -> Response {
    with_status(StatusCode::OK, value)
}

fn with_status(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = (status, Body::from(body)).into_response();
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer to the console cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn wrong(status: StatusCode, error: &'static str, message: String) -> Response {
    with_status(status, &Problem { error, message })
}

/// The first page.
pub async fn now(State(api): State<Arc<Api>>) -> Response {
    let look = api.look().await;
    json(&now::Now::of(&api, &look).await)
}

/// What happened when.
pub async fn timeline(
    State(api): State<Arc<Api>>,
    Query(range): Query<BTreeMap<String, String>>,
) -> Response {
    let range = match timeline::Range::parse(&range, api.local().now_ms()) {
        Ok(range) => range,
        Err(message) => return wrong(StatusCode::BAD_REQUEST, "bad_range", message),
    };
    let look = api.look().await;
    json(&timeline::Timeline::of(&api, &look, range).await)
}

/// Every shard.
pub async fn shards(State(api): State<Arc<Api>>) -> Response {
    let look = api
        .ask(v1::GetStatusRequest {
            with_heat: true,
            ..Default::default()
        })
        .await;
    json(&shards::Shards::of(&api, &look))
}

/// What would be left if some nodes were lost.
pub async fn whatif(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Response {
    let asked = match whatif::Asked::parse(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(message) => return wrong(StatusCode::BAD_REQUEST, "bad_query", message),
    };
    let look = api.look().await;
    match whatif::WhatIf::of(&api, &look, &asked).await {
        Ok(answer) => json(&answer),
        Err(message) => wrong(StatusCode::BAD_REQUEST, "unknown_name", message),
    }
}

/// What is under way.
pub async fn jobs(State(api): State<Arc<Api>>) -> Response {
    let look = api.look().await;
    json(&jobs::Jobs::of(&api, &look))
}

/// Drills, as this node knows them.
pub async fn drills(State(api): State<Arc<Api>>) -> Response {
    let look = api.look().await;
    let now = now::Now::of(&api, &look).await;
    json(&drills::Drills::of(&api, &look, now.figures.margin))
}

/// When each promise was last shown.
pub async fn promises(State(api): State<Arc<Api>>) -> Response {
    let look = api.look().await;
    json(&promises::Promises::of(&api, &look))
}

/// How this node is set.
pub async fn settings(State(api): State<Arc<Api>>) -> Response {
    let look = api.look().await;
    json(&jobs::Settings::of(&api, &look))
}

/// What there is not.
pub async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!(
        "there is no {path}: ask for now, timeline, shards, whatif, jobs, drills, promises or settings \
         under /api"
    );
    wrong(StatusCode::NOT_FOUND, "unknown_page", message)
}
