//! What is changed in a tenant: one shard after the other, each from where the cursor stands in its slots.
//!
//! A feed is read from whichever replica is fresh enough. One that has not come as far as the cursor gives
//! nothing: a cursor never goes back, so that nothing is told twice without need, and nothing is left out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use model::id::Slot;
use model::limits;
use model::state::Conversation;
use prost::Message as _;
use proto::v1;
use proto::v1::change::What as Wire;
use proto::v1::changes_client::ChangesClient;
use proto::v1::changes_server::Changes as Service;
use store::state::{Ask, Fed, ShardState, What};
use tonic::{Request, Response, Status};

use super::conversations::options;
use super::decided::checked;
use super::tenant::older;
use crate::check::{Checker, Level, Wanted};
use crate::convert::{self, Moment};
use crate::cursor::Cursor;
use crate::deadline::{Call, forward};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::read::{Found, Informed, read};
use crate::tenants::class::Class;

/// Conversations of whichever tenant that one call looks at in one shard.
const LOOKED_AT_MAX: usize = 2_000;
/// Changes of one shard that one answer has room for, at least, so that a busy shard leaves room for all.
const OF_SHARD_MIN: usize = 16;

/// The service.
pub struct Changes {
    /// What all services share.
    pub gateway: Arc<Gateway>,
}

/// A request, checked.
struct FeedQuery {
    tenant: String,
    cursor: Cursor,
    size: usize,
    wanted: Wanted,
}

#[tonic::async_trait]
impl Service for Changes {
    async fn read_changes(
        &self,
        request: Request<v1::ReadChangesRequest>,
    ) -> Result<Response<v1::ReadChangesResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let plan = checked(&self.gateway, FeedQuery::of(request.get_ref(), &call))?;
        let _turn = self.gateway.enter(&plan.tenant, Class::Sync, &call).await?;
        let page = match call.forwarded {
            true => self.of_slots(&plan, plan.cursor.clone(), call).await,
            false => self.gather(&plan, call).await,
        };
        let page = page.inspect_err(|failure| self.gateway.traffic.refused(Some(failure)))?;
        Ok(self.gateway.answer(page))
    }
}

impl Changes {
    /// All shards, each with its part of the cursor.
    async fn gather(
        &self,
        plan: &FeedQuery,
        call: Call,
    ) -> Result<v1::ReadChangesResponse, Failure> {
        let mut page = v1::ReadChangesResponse {
            caught_up: true,
            ..v1::ReadChangesResponse::default()
        };
        let (mut cursor, mut bytes) = (Cursor::default(), 0);
        let shards = self.shards()?;
        let room = plan.size.div_ceil(shards.len()).max(OF_SHARD_MIN);
        for slots in shards {
            let of_shard = plan.cursor.within(&slots);
            let is_full = page.changes.len() >= plan.size || bytes >= limits::PAGE_BYTES_MAX;
            if is_full {
                page.caught_up = false;
                cursor.extend(of_shard);
                continue;
            }
            let size = room.min(plan.size);
            let part = FeedQuery {
                size,
                tenant: plan.tenant.clone(),
                cursor: Cursor::default(),
                wanted: plan.wanted.clone(),
            };
            let answer = self.of_slots(&part, of_shard, call.clone()).await?;
            let reached = Cursor::decode(&answer.cursor, &plan.tenant);
            cursor.extend(reached.map_err(|error| Failure::Internal(error.to_owned()))?);
            bytes += answer.encoded_len();
            page.changes.extend(answer.changes);
            page.caught_up &= answer.caught_up;
            page.info = older(page.info, answer.info);
        }
        page.cursor = cursor.encode(&plan.tenant);
        Ok(page)
    }

    /// The slots of each shard, in order.
    fn shards(&self) -> Result<Vec<RangeInclusive<u16>>, Failure> {
        let view = self.gateway.view();
        let mut shards = Vec::new();
        let mut next = Some(0_u16);
        while let Some(first) = next {
            let shard = view.shard_of(Slot(first)).ok_or(Failure::NotReady)?;
            let last = u16::try_from(shard.slot_last).unwrap_or(u16::MAX);
            shards.push(first..=last);
            next = last.checked_add(1);
        }
        Ok(shards)
    }

    /// What was changed in the slots of a cursor, which are of one shard.
    async fn of_slots(
        &self,
        plan: &FeedQuery,
        cursor: Cursor,
        call: Call,
    ) -> Result<v1::ReadChangesResponse, Failure> {
        let Some(slot) = cursor.first_slot() else {
            return Ok(v1::ReadChangesResponse::default());
        };
        read(
            &self.gateway,
            Slot(slot),
            &plan.wanted,
            &call,
            |shard, state| {
                page(
                    state,
                    plan,
                    &cursor,
                    (shard.0, self.gateway.moment(&plan.tenant)),
                )
            },
            |channel, timeout| {
                let request = v1::ReadChangesRequest {
                    parent: format!("tenants/{}", plan.tenant),
                    cursor: cursor.encode(&plan.tenant),
                    page_size: i32::try_from(plan.size).unwrap_or(i32::MAX),
                    read: Some(options(&plan.wanted)),
                };
                async move {
                    let request = forward(request, Some(timeout));
                    let mut client = ChangesClient::new(channel)
                        .max_decoding_message_size(limits::FRAME_BYTES_MAX);
                    Ok(client.read_changes(request).await?.into_inner())
                }
            },
        )
        .await
    }
}

/// What this node's replica has of a page.
fn page(
    state: &ShardState,
    plan: &FeedQuery,
    cursor: &Cursor,
    (shard, moment): (u32, Moment),
) -> Result<Found<v1::ReadChangesResponse>, Failure> {
    let prefix = format!("tenants/{}/conversations/", plan.tenant);
    let belongs = |name: &str| name.starts_with(&prefix);
    let revision = state.reached().revision;
    let mut page = v1::ReadChangesResponse {
        caught_up: true,
        ..v1::ReadChangesResponse::default()
    };
    let mut reached = Cursor::default();
    // Any replica may be behind a cursor for a while, but not one that has asked its leader.
    if plan.wanted.level == Level::Linearizable
        && let Some((_, after)) = cursor.ranges().find(|(_, after)| *after > revision)
    {
        return Err(Failure::SessionAhead { revision: after });
    }
    for (slots, after) in cursor.ranges() {
        let left = plan.size.saturating_sub(page.changes.len());
        let bytes = limits::PAGE_BYTES_MAX.saturating_sub(page.encoded_len());
        if left == 0 || bytes == 0 {
            page.caught_up = false;
            reached.push(slots.clone(), after);
            continue;
        }
        let feed = state.feed(&Ask {
            slots: slots.clone(),
            after,
            belongs: &belongs,
            limit: left,
            bytes_max: bytes,
            heads_max: LOOKED_AT_MAX,
        })?;
        let mut next = Some(*slots.start());
        for (part, at) in feed.reached {
            next = part.end().checked_add(1);
            page.caught_up &= at >= revision;
            reached.push(part, at);
        }
        // Slots that have gone to another shard stay where they are.
        if let Some(next) = next.filter(|next| next <= slots.end()) {
            reached.push(next..=*slots.end(), after);
            page.caught_up = false;
        }
        for fed in feed.changes {
            page.changes.push(change(fed, shard, moment)?);
        }
    }
    page.cursor = reached.encode(&plan.tenant);
    Ok((page, revision))
}

fn change(fed: Fed, shard: u32, moment: Moment) -> Result<v1::Change, Failure> {
    let name = model::id::ConversationName::parse(&fed.name)
        .map_err(|error| Failure::Corrupt(error.to_string()))?;
    let (what, id) = match fed.what {
        What::Message(shown) => {
            let seq = shown.stored.seq;
            let rules = Conversation {
                ttl_ms: fed.ttl_ms,
                hold: fed.hold,
                ..Conversation::default()
            };
            let message = convert::shown(&name, &rules, *shown, moment);
            let message = message.map_err(Failure::Corrupt)?;
            (Wire::Message(message), format!("m{seq}"))
        }
        What::Settings(head) => {
            let settings = convert::conversation(*head, shard);
            (Wire::Settings(settings), "s".to_owned())
        }
        What::Deleted(head) => {
            let deleted = convert::conversation(*head, shard);
            (Wire::Deleted(deleted), "d".to_owned())
        }
        What::Trimmed(min_seq) => (Wire::Trimmed(min_seq), format!("t{min_seq}")),
    };
    // What was trimmed stays so: it is one change, however often it is told.
    let revision = match what {
        Wire::Trimmed(_) => 0,
        Wire::Message(_) | Wire::Settings(_) | Wire::Deleted(_) => fed.revision,
    };
    Ok(v1::Change {
        id: format!("{name}/{}/{id}/{revision}", fed.incarnation),
        conversation: fed.name,
        incarnation: fed.incarnation,
        revision: fed.revision,
        what: Some(what),
    })
}

impl FeedQuery {
    fn of(request: &v1::ReadChangesRequest, call: &Call) -> Result<FeedQuery, Failure> {
        let mut check = Checker::of(call, 0);
        let tenant = check.tenant("parent", &request.parent);
        let size = check.page_size(request.page_size);
        let wanted = check.read(request.read.as_ref());
        let mut cursor = Cursor::whole();
        if let (Some(tenant), false) = (&tenant, request.cursor.is_empty()) {
            match Cursor::decode(&request.cursor, tenant) {
                Ok(given) => cursor = given,
                Err(wrong) => check.add("cursor", wrong),
            }
        }
        Ok(FeedQuery {
            tenant: check.or(tenant)?,
            cursor,
            size,
            wanted,
        })
    }
}

impl Informed for v1::ReadChangesResponse {
    fn inform(&mut self, info: v1::ResponseInfo) {
        self.info = Some(info);
    }
}
