//! Witnesses: callers of one node each, without the client library, whose every call is one attempt.
//! A client goes elsewhere when it is refused; a witness, which cannot, sees what the node says and
//! how long it takes to say it. There is one at each site inside of a data center.
//!
//! What it writes goes to conversations of its own, which no other oracle looks at.

use std::sync::Arc;
use std::time::Duration;

use client::v1;
use proto::v1::messages_client::MessagesClient;
use rand::Rng as _;
use tokio::time::timeout;

use super::{Site, TENANT};
use crate::dice::dice;
use crate::history::{Level, Witnessed};

/// Its conversations, which lie in several shards.
const ROOMS: u32 = 4;
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two calls, ms.
const PAUSE_MS: (u64, u64) = (20, 120);
/// The bound of its BOUNDED reads, ms.
pub(crate) const BOUND_MS: u64 = 5_000;

/// The witness at `site`, until the load ends.
pub(super) async fn run(site: Arc<Site>) {
    let Some(Ok(channel)) = site
        .env
        .endpoints
        .first()
        .map(|node| site.env.dialer.dial(node))
    else {
        tracing::error!("there is no node to call");
        return;
    };
    let name = &site.env.site.name;
    let mut client = MessagesClient::new(channel);
    let mut dice = dice(site.env.plan.seed, &format!("witness {name}"));
    let levels = [
        None,
        Some(Level::Linearizable),
        Some(Level::Bounded { bound_ms: BOUND_MS }),
        Some(Level::Local),
    ];
    let mut calls = 0_u32;
    while site.pause(PAUSE_MS, &mut dice).await {
        // All of them first, twice.
        let room = match calls < ROOMS * 2 {
            true => calls % ROOMS,
            false => dice.random_range(0..ROOMS),
        };
        let parent = format!("tenants/{TENANT}/conversations/witness-{name}-{room}");
        let level = match calls < ROOMS * 2 {
            true => None,
            false => levels[calls as usize % levels.len()],
        };
        calls += 1;
        let invoked_us = site.env.now();
        let call = async {
            match level {
                None => append(&mut client, parent, calls).await,
                Some(level) => list(&mut client, parent, level).await,
            }
        };
        let end = match timeout(DEADLINE, call).await {
            Ok(end) => end.map_err(|status| why(&status)),
            Err(_) => Err("not answered".to_owned()),
        };
        site.env.recorder.witnessed(Witnessed {
            site: name.clone(),
            level,
            invoked_us,
            returned_us: site.env.now(),
            end,
        });
    }
}

async fn append(
    client: &mut MessagesClient<proto::net::Channel>,
    parent: String,
    number: u32,
) -> Result<Option<u64>, tonic::Status> {
    let message = v1::Message {
        sender: "witness".to_owned(),
        client_message_id: number.to_string(),
        r#type: "text".to_owned(),
        ..v1::Message::default()
    };
    let mut request = tonic::Request::new(v1::AppendMessageRequest {
        parent,
        message: Some(message),
        ..v1::AppendMessageRequest::default()
    });
    request.set_timeout(DEADLINE);
    client.append_message(request).await.map(|_| None)
}

/// Gives the age of the answer, ms.
async fn list(
    client: &mut MessagesClient<proto::net::Channel>,
    parent: String,
    level: Level,
) -> Result<Option<u64>, tonic::Status> {
    use v1::read_options::Level as Wire;
    let (wire, bound_ms) = match level {
        Level::Linearizable => (Wire::Linearizable, None),
        Level::Session => (Wire::Session, None),
        Level::Bounded { bound_ms } => (Wire::Bounded, Some(bound_ms)),
        Level::Local => (Wire::Local, None),
    };
    let bound = bound_ms.map(Duration::from_millis);
    let mut request = tonic::Request::new(v1::ListMessagesRequest {
        parent,
        page_size: 1,
        descending: true,
        read: Some(v1::ReadOptions {
            level: wire.into(),
            max_staleness: bound.and_then(|bound| bound.try_into().ok()),
            ..v1::ReadOptions::default()
        }),
        ..v1::ListMessagesRequest::default()
    });
    request.set_timeout(DEADLINE);
    let info = client.list_messages(request).await?.into_inner().info;
    let age = info.and_then(|info| Duration::try_from(info.staleness?).ok());
    Ok(age.map(|age| u64::try_from(age.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)))
}

/// Reason, RetryInfo and hint, as far as they are there, and the text.
fn why(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("-", |info| info.reason.as_str());
    let retry = match details.retry_info() {
        Some(_) => "with RetryInfo",
        None => "without RetryInfo",
    };
    format!("{reason} {retry}: {}", status.message())
}
