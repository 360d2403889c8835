//! Who has set which reactions to messages of a conversation, in pages.
//!
//! A page token names the last reaction that was given:
//!
//! ```text
//! base64url( version 1 | kind 4 | conversation key 16 | incarnation 8 | seq 8 | reaction 32 | check 4 )
//! ```
//!
//! Integers are big-endian; the check is as in [`crate::sealed`].

use std::sync::Arc;

use model::id::{ConversationKey, ConversationName};
use model::limits;
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use store::state::{Behind, ShardState};
use tokio::time::Instant;

use super::conversations::options;
use super::decided::checked;
use crate::check::{Checker, Wanted};
use crate::deadline::{Call, forward};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::read::{Found, read};
use crate::sealed::{open, seal};
use crate::tenants::class::Class;

const VERSION: u8 = 1;
/// Those of [`crate::token`] are 1 to 3.
const KIND: u8 = 4;
const TOKEN_BYTES: usize = 2 + 16 + 8 + 8 + 32;

/// A list request, checked.
#[derive(Debug)]
struct ReactionsQuery {
    name: ConversationName,
    seqs: (u64, u64),
    size: usize,
    /// The conversation's life and where to go on.
    from: Option<(u64, Behind)>,
    wanted: Wanted,
}

/// A page of the reactions to messages of a conversation.
///
/// # Errors
/// [`Failure::ConversationNotFound`], [`Failure::OtherIncarnation`], and what [`read`] says.
pub async fn list(
    gateway: &Arc<Gateway>,
    request: v1::ListReactionsRequest,
    call: Call,
) -> Result<v1::ListReactionsResponse, Failure> {
    let plan = checked(gateway, ReactionsQuery::of(&request, &call))?;
    let tenant = plan.name.tenant();
    let _turn = gateway.enter(tenant, Class::Sync, &call).await?;
    let began = Instant::now();
    let page = read(
        gateway,
        plan.name.key().slot(),
        &plan.wanted,
        &call,
        |_, state| page(state, &plan),
        |channel, timeout| {
            let request = v1::ListReactionsRequest {
                read: Some(options(&plan.wanted)),
                ..request.clone()
            };
            async move {
                let request = forward(request, Some(timeout));
                let mut client =
                    MessagesClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
                Ok(client.list_reactions(request).await?.into_inner())
            }
        },
    );
    let page = page.await;
    if !call.forwarded {
        let level = plan.wanted.level.place();
        let traffic = &gateway.traffic;
        traffic.read(plan.name.tenant(), level, began, page.as_ref().err());
    }
    page
}

/// A page of this node's replica, and its revision.
fn page(
    state: &ShardState,
    plan: &ReactionsQuery,
) -> Result<Found<v1::ListReactionsResponse>, Failure> {
    let behind = plan.from.map(|(_, behind)| behind);
    let found = state.reactors(&plan.name, plan.seqs, behind, plan.size)?;
    let Some(found) = found else {
        return Err(Failure::ConversationNotFound(plan.name.to_string()));
    };
    let incarnation = found.head.incarnation;
    if plan.from.is_some_and(|(before, _)| before != incarnation) {
        return Err(Failure::OtherIncarnation);
    }
    let text = |seq: u64, bytes: bytes::Bytes| {
        let broken = || format!("a reaction to message {seq} of {} is no UTF-8", plan.name);
        String::from_utf8(bytes.into()).map_err(|_| Failure::Corrupt(broken()))
    };
    let reactions = found.reactions.into_iter().map(|one| {
        Ok(v1::Reaction {
            seq: one.seq,
            user: text(one.seq, one.user)?,
            kind: text(one.seq, one.kind)?,
        })
    });
    let page = v1::ListReactionsResponse {
        reactions: reactions.collect::<Result<_, Failure>>()?,
        next_page_token: found.next.map_or_else(String::new, |behind| {
            encode(plan.name.key(), incarnation, behind)
        }),
        info: None,
    };
    Ok((page, found.head.revision))
}

impl ReactionsQuery {
    fn of(request: &v1::ListReactionsRequest, call: &Call) -> Result<ReactionsQuery, Failure> {
        let mut check = Checker::of(call, 0);
        let name = check.conversation("parent", &request.parent);
        let size = check.page_size(request.page_size);
        let wanted = check.read(request.read.as_ref());
        let last = match request.last_seq {
            0 => u64::MAX,
            last => last,
        };
        if request.first_seq > last {
            let first = request.first_seq;
            check.add(
                "last_seq",
                format_args!("must be first_seq ({first}) or more, or 0 for the last"),
            );
        }
        let mut from = None;
        if let (Some(name), false) = (&name, request.page_token.is_empty()) {
            match decode(&request.page_token, name.key()) {
                Ok(found) => from = Some(found),
                Err(wrong) => check.add("page_token", wrong),
            }
        }
        Ok(ReactionsQuery {
            name: check.or(name)?,
            seqs: (request.first_seq, last),
            size,
            from,
            wanted,
        })
    }
}

fn encode(key: ConversationKey, incarnation: u64, behind: Behind) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.extend([VERSION, KIND]);
    bytes.extend(key.0);
    bytes.extend(incarnation.to_be_bytes());
    bytes.extend(behind.seq.to_be_bytes());
    bytes.extend(behind.id);
    seal(bytes)
}

fn decode(text: &str, key: ConversationKey) -> Result<(u64, Behind), &'static str> {
    const MALFORMED: &str = "is not a token this cluster gave";
    let said = open(text, TOKEN_BYTES).filter(|said| said.len() == TOKEN_BYTES);
    let said = said.ok_or(MALFORMED)?;
    if said[..2] != [VERSION, KIND] {
        return Err("is a token of another method, or of a later version");
    }
    if said[2..18] != key.0 {
        return Err("belongs to another conversation");
    }
    let number = |from: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&said[from..from + 8]);
        u64::from_be_bytes(number)
    };
    let mut id = [0; 32];
    id.copy_from_slice(&said[34..66]);
    let seq = number(26);
    Ok((number(18), Behind { seq, id }))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const KEY: ConversationKey = ConversationKey([7; 16]);

    #[test]
    fn a_page_token_survives_its_text_and_its_damage_is_noticed() {
        let behind = Behind {
            seq: 1 << 40,
            id: [9; 32],
        };
        let text = encode(KEY, 3, behind);
        assert_eq!(decode(&text, KEY), Ok((3, behind)));
        assert!(decode(&text, ConversationKey([8; 16])).is_err());
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("own text");
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let damaged = URL_SAFE_NO_PAD.encode(&bytes);
            assert!(decode(&damaged, KEY).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(decode(&"A".repeat(1 << 20), KEY).is_err());
    }

    #[test]
    fn seqs_that_run_backwards_are_refused() {
        let request = |first_seq, last_seq| v1::ListReactionsRequest {
            parent: "tenants/t/conversations/c".into(),
            first_seq,
            last_seq,
            ..v1::ListReactionsRequest::default()
        };
        assert!(ReactionsQuery::of(&request(5, 4), &Call::unbounded()).is_err());
        let plan = ReactionsQuery::of(&request(5, 0), &Call::unbounded()).expect("valid");
        assert_eq!((plan.seqs, plan.size), ((5, u64::MAX), 50));
    }
}
