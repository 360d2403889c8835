//! The conversations of a tenant, over all shards.
//!
//! They are listed in the order of their keys, whose first part is the slot: so a page token is a key, it
//! means the same on every node, and splits and moves change nothing of it.

use std::sync::Arc;

use model::id::{ConversationKey, Slot};
use model::limits;
use proto::v1;
use proto::v1::conversations_client::ConversationsClient;
use store::state::ShardState;

use super::conversations::options;
use crate::check::{Checker, Wanted};
use crate::convert;
use crate::deadline::{Call, forward};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::read::{Found, read};
use crate::sealed::{open, seal, tenant_hash};
use crate::tenants::class::Class;

/// Conversations of whichever tenant that one call looks at: a page may end early.
const LOOKED_AT_MAX: usize = 2_000;
/// Version, hash of the tenant, key.
const TOKEN_BYTES: usize = 1 + 8 + 16;
const VERSION: u8 = 1;

/// A list request, checked.
struct ConversationsQuery {
    tenant: String,
    size: usize,
    wanted: Wanted,
    /// Where to go on.
    from: ConversationKey,
}

/// A page of a tenant's conversations.
///
/// # Errors
/// What [`read`] says.
pub async fn list(
    gateway: &Arc<Gateway>,
    request: v1::ListConversationsRequest,
    call: Call,
) -> Result<v1::ListConversationsResponse, Failure> {
    let plan = ConversationsQuery::of(&request, &call);
    let plan = super::decided::checked(gateway, plan)?;
    let _turn = gateway.enter(&plan.tenant, Class::History, &call).await?;
    let page = gather(gateway, &plan, call).await;
    page.inspect_err(|failure| gateway.traffic.refused(Some(failure)))
}

/// One shard after the other, until the page is full.
async fn gather(
    gateway: &Arc<Gateway>,
    plan: &ConversationsQuery,
    call: Call,
) -> Result<v1::ListConversationsResponse, Failure> {
    let mut from = Some(plan.from);
    let mut page = v1::ListConversationsResponse::default();
    while let Some(at) = from {
        let left = plan.size - page.conversations.len();
        let part = of_shard(gateway, plan, at, left, &call).await?;
        from = match part.next_page_token.as_str() {
            "" => None,
            token => Some(decode(token, &plan.tenant).map_err(Failure::Internal)?),
        };
        let looked_at_enough = part.conversations.len() >= left;
        page.conversations.extend(part.conversations);
        page.info = older(page.info, part.info);
        // Whoever forwarded the call asks on.
        if looked_at_enough || call.forwarded || is_inside(gateway, from) {
            break;
        }
    }
    page.next_page_token = from.map_or_else(String::new, |key| encode(key, &plan.tenant));
    Ok(page)
}

/// Whether a shard was left before its end: there was much of other tenants in it.
fn is_inside(gateway: &Gateway, from: Option<ConversationKey>) -> bool {
    let Some(key) = from else { return false };
    let view = gateway.view();
    let starts = |slot: Slot| {
        view.shard_of(slot)
            .is_some_and(|shard| shard.slot_first == u32::from(slot.0))
    };
    !(starts(key.slot()) && key.0[2..].iter().all(|byte| *byte == 0))
}

async fn of_shard(
    gateway: &Arc<Gateway>,
    plan: &ConversationsQuery,
    from: ConversationKey,
    size: usize,
    call: &Call,
) -> Result<v1::ListConversationsResponse, Failure> {
    read(
        gateway,
        from.slot(),
        &plan.wanted,
        call,
        |shard, state| {
            let last = gateway
                .view()
                .shard_of(from.slot())
                .map(|shard| shard.slot_last);
            part(state, plan, from, (size, shard.0, last))
        },
        |channel, timeout| {
            let request = v1::ListConversationsRequest {
                parent: format!("tenants/{}", plan.tenant),
                page_size: i32::try_from(size).unwrap_or(i32::MAX),
                page_token: encode(from, &plan.tenant),
                read: Some(options(&plan.wanted)),
            };
            async move {
                let request = forward(request, Some(timeout));
                let mut client = ConversationsClient::new(channel)
                    .max_decoding_message_size(limits::FRAME_BYTES_MAX);
                Ok(client.list_conversations(request).await?.into_inner())
            }
        },
    )
    .await
}

/// What this node's replica has of a page.
fn part(
    state: &ShardState,
    plan: &ConversationsQuery,
    from: ConversationKey,
    (size, shard, slot_last): (usize, u32, Option<u32>),
) -> Result<Found<v1::ListConversationsResponse>, Failure> {
    let revision = state.reached().revision;
    let prefix = format!("tenants/{}/conversations/", plan.tenant);
    let mut conversations = Vec::new();
    let next = state.heads(&from, LOOKED_AT_MAX, |head| {
        if head.name.starts_with(&prefix) && !head.is_deleted() {
            conversations.push(convert::conversation(head, shard));
        }
        conversations.len() < size
    })?;
    // Behind the last of this shard comes the first of the next.
    let next = match (next, slot_last) {
        (Some(next), _) => Some(next),
        (None, Some(last)) => slot_start(last + 1),
        (None, None) => return Err(Failure::NotReady),
    };
    let page = v1::ListConversationsResponse {
        conversations,
        next_page_token: next.map_or_else(String::new, |key| encode(key, &plan.tenant)),
        info: None,
    };
    Ok((page, revision))
}

/// The first key that a slot can have; none behind the last slot.
fn slot_start(slot: u32) -> Option<ConversationKey> {
    let slot = u16::try_from(slot).ok()?;
    let mut key = [0; 16];
    key[..2].copy_from_slice(&slot.to_be_bytes());
    Some(ConversationKey(key))
}

/// Of two answers what is true of both: the one that may be older, with what both have seen.
pub fn older(
    one: Option<v1::ResponseInfo>,
    other: Option<v1::ResponseInfo>,
) -> Option<v1::ResponseInfo> {
    let (Some(one), Some(other)) = (&one, &other) else {
        return one.or(other);
    };
    let tokens = [&one.session_token, &other.session_token];
    let mut token = model::session::Token::default();
    for told in tokens
        .iter()
        .filter_map(|told| model::session::Token::decode(told).ok())
    {
        token.merge(&told);
    }
    let age = |info: &v1::ResponseInfo| info.staleness.as_ref().map(|age| (age.seconds, age.nanos));
    let is_older = age(one).is_none() || (age(other).is_some() && age(one) >= age(other));
    let info = if is_older { one } else { other };
    Some(v1::ResponseInfo {
        session_token: token.encode(),
        ..info.clone()
    })
}

impl ConversationsQuery {
    fn of(
        request: &v1::ListConversationsRequest,
        call: &Call,
    ) -> Result<ConversationsQuery, Failure> {
        let mut check = Checker::of(call, 0);
        let tenant = check.tenant("parent", &request.parent);
        let size = check.page_size(request.page_size);
        let wanted = check.read(request.read.as_ref());
        let mut from = ConversationKey([0; 16]);
        if let (Some(tenant), false) = (&tenant, request.page_token.is_empty()) {
            match decode(&request.page_token, tenant) {
                Ok(key) => from = key,
                Err(error) => check.add("page_token", error),
            }
        }
        let tenant = check.or(tenant)?;
        Ok(ConversationsQuery {
            tenant,
            size,
            wanted,
            from,
        })
    }
}

fn encode(key: ConversationKey, tenant: &str) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.push(VERSION);
    bytes.extend(tenant_hash(tenant));
    bytes.extend(key.0);
    seal(bytes)
}

fn decode(text: &str, tenant: &str) -> Result<ConversationKey, String> {
    let malformed = || "is not a token this cluster gave".to_owned();
    let said = open(text, TOKEN_BYTES).filter(|said| said.len() == TOKEN_BYTES);
    let said = said
        .filter(|said| said[0] == VERSION)
        .ok_or_else(malformed)?;
    if said[1..9] != tenant_hash(tenant) {
        return Err("belongs to another tenant".to_owned());
    }
    ConversationKey::from_slice(&said[9..25]).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn a_page_token_is_of_its_tenant_and_its_damage_is_noticed() {
        let key = ConversationKey([7; 16]);
        let text = encode(key, "acme");
        assert_eq!(decode(&text, "acme"), Ok(key));
        assert!(decode(&text, "other").is_err());
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("own text");
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(
                decode(&URL_SAFE_NO_PAD.encode(&bytes), "acme").is_err(),
                "{at}"
            );
            bytes[at] ^= 1;
        }
        assert!(decode(&"A".repeat(1 << 20), "acme").is_err());
    }

    #[test]
    fn behind_the_last_slot_there_is_none() {
        assert_eq!(slot_start(0), Some(ConversationKey([0; 16])));
        assert_eq!(slot_start(0x1_0000), None);
    }
}
