//! Changing messages: edits, redactions, reactions.

use std::sync::Arc;

use bytes::Bytes;
use model::command::{
    self, Answer, ChangeMessage, Command, Edit, How, MessageChanged, React, Redact,
};
use model::hash;
use model::id::ConversationName;
use model::limits;
use proto::v1;

use super::decided::{checked, decided};
use super::messages::info;
use crate::check::Checker;
use crate::convert;
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::Gateway;

/// Says something else in a message.
///
/// # Errors
/// [`Failure`]; which of them say that nothing was done is in errors.md.
pub async fn edit(
    gateway: &Arc<Gateway>,
    request: v1::EditMessageRequest,
    body_bytes_max: usize,
    call: Call,
) -> Result<v1::EditMessageResponse, Failure> {
    let mut check = Checker::of(&call, body_bytes_max);
    let name = check.message_name("name", &request.name);
    check.request_id(&request.request_id);
    check.edit(&request);
    check.original_time(request.original_time.as_ref());
    let (name, seq) = checked(gateway, check.or(name))?;
    let attributes = request.attributes.map(|given| command::Attributes {
        values: convert::attributes(given.values),
    });
    let change = ChangeMessage {
        conversation: name.to_string(),
        seq,
        request_id: Bytes::from(request.request_id),
        expected_revision: request.expected_revision,
        how: Some(How::Edit(Edit {
            body: request.body,
            attributes,
            salt: salt(gateway),
            original_time_ms: request.original_time.as_ref().map(convert::millis),
        })),
        ..ChangeMessage::default()
    };
    let changed = change_message(gateway, &name, change, call).await?;
    let message = v1::Message {
        edit_time: Some(convert::timestamp_unsigned(changed.time_ms)),
        original_edit_time: request.original_time,
        ..convert::changed(&name, &changed)
    };
    Ok(v1::EditMessageResponse {
        message: Some(message),
        deduplicated: changed.deduplicated,
        info: Some(info(gateway, &name, changed.revision)),
    })
}

/// Erases a message.
///
/// # Errors
/// As [`edit`].
pub async fn redact(
    gateway: &Arc<Gateway>,
    request: v1::RedactMessageRequest,
    call: Call,
) -> Result<v1::RedactMessageResponse, Failure> {
    let mut check = Checker::of(&call, 0);
    let name = check.message_name("name", &request.name);
    check.request_id(&request.request_id);
    check.original_time(request.original_time.as_ref());
    let (name, seq) = checked(gateway, check.or(name))?;
    let change = ChangeMessage {
        conversation: name.to_string(),
        seq,
        request_id: Bytes::from(request.request_id),
        expected_revision: request.expected_revision,
        how: Some(How::Redact(Redact {
            original_time_ms: request.original_time.as_ref().map(convert::millis),
            keep_original_time: true,
        })),
        ..ChangeMessage::default()
    };
    let caller = call.caller.clone();
    let changed = change_message(gateway, &name, change, call).await?;
    if !changed.deduplicated {
        caller.erased(name.tenant());
    }
    let message = v1::Message {
        redaction: Some(v1::Redaction {
            redact_time: Some(convert::timestamp_unsigned(changed.time_ms)),
            expired: false,
            original_time: request.original_time,
        }),
        ..convert::changed(&name, &changed)
    };
    Ok(v1::RedactMessageResponse {
        message: Some(message),
        deduplicated: changed.deduplicated,
        info: Some(info(gateway, &name, changed.revision)),
    })
}

/// Sets or takes back a reaction to a message.
///
/// # Errors
/// As [`edit`].
pub async fn react(
    gateway: &Arc<Gateway>,
    request: v1::ReactRequest,
    call: Call,
) -> Result<v1::ReactResponse, Failure> {
    let mut check = Checker::of(&call, 0);
    let name = check.message_name("name", &request.name);
    check.request_id(&request.request_id);
    check.reaction(&request);
    let (name, seq) = checked(gateway, check.or(name))?;
    let change = ChangeMessage {
        conversation: name.to_string(),
        seq,
        request_id: Bytes::from(request.request_id),
        expected_revision: None,
        how: Some(How::React(React {
            user: Bytes::from(request.user),
            kind: Bytes::from(request.kind.clone()),
            remove: request.remove,
        })),
        ..ChangeMessage::default()
    };
    let changed = change_message(gateway, &name, change, call).await?;
    let count = v1::ReactionCount {
        kind: request.kind,
        count: changed.count,
        mine: !request.remove,
    };
    let message = v1::Message {
        reactions: Vec::from_iter((changed.count > 0).then_some(count)),
        ..convert::changed(&name, &changed)
    };
    Ok(v1::ReactResponse {
        message: Some(message),
        deduplicated: changed.deduplicated,
        info: Some(info(gateway, &name, changed.revision)),
    })
}

/// Has a change that was checked decided by the leader.
async fn change_message(
    gateway: &Arc<Gateway>,
    name: &ConversationName,
    change: ChangeMessage,
    call: Call,
) -> Result<MessageChanged, Failure> {
    let change = ChangeMessage {
        import: change.request_id.starts_with(limits::IMPORT_ID_PREFIX),
        ..change
    };
    let pick = |answer| match answer {
        Answer::Changed(changed) => Some(changed),
        _ => None,
    };
    let command = Command::change(change);
    decided(gateway, name, command, call, ("a change", pick)).await
}

/// What nobody can guess, so that the hash of an edit says nothing without it.
fn salt(gateway: &Gateway) -> Bytes {
    let drawn = [gateway.random(), gateway.random()];
    let drawn: Vec<u8> = drawn.iter().flat_map(|part| part.to_be_bytes()).collect();
    hash::salted_hash(&drawn, b"salt")
}
