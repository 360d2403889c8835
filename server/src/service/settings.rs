//! Changing a conversation itself: its attributes, and its end.

use std::sync::Arc;

use bytes::Bytes;
use model::command::{Answer, Attributes, Command, Configure, Configured, Delete, Setting};
use model::id::ConversationName;
use proto::v1;

use super::decided::{checked, decided};
use super::messages::info;
use crate::check::Checker;
use crate::convert;
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::Gateway;

/// Sets the attributes of a conversation.
///
/// # Errors
/// [`Failure`]; which of them say that nothing was done is in errors.md.
pub async fn update(
    gateway: &Arc<Gateway>,
    request: v1::UpdateConversationRequest,
    call: Call,
) -> Result<v1::UpdateConversationResponse, Failure> {
    let mut check = Checker::new(0);
    let name = check.conversation("name", &request.name);
    check.request_id(&request.request_id);
    match &request.attributes {
        Some(given) => check.attributes("attributes.values", &given.values),
        None => check.add("attributes", "is required"),
    }
    let name = checked(gateway, check.or(name))?;
    let given = request.attributes.unwrap_or_default().values;
    let setting = Setting::Attributes(Attributes {
        values: convert::attributes(given.clone()),
    });
    let done = configure(gateway, &name, request.request_id, setting, call).await?;
    let conversation = v1::Conversation {
        attributes: given,
        ..configured(&name, &done)
    };
    Ok(v1::UpdateConversationResponse {
        conversation: Some(conversation),
        deduplicated: done.deduplicated,
        info: Some(info(gateway, &name, done.revision)),
    })
}

/// Deletes a conversation with all that is in it.
///
/// # Errors
/// As [`update`].
pub async fn delete(
    gateway: &Arc<Gateway>,
    request: v1::DeleteConversationRequest,
    call: Call,
) -> Result<v1::DeleteConversationResponse, Failure> {
    let mut check = Checker::new(0);
    let name = check.conversation("name", &request.name);
    check.request_id(&request.request_id);
    let name = checked(gateway, check.or(name))?;
    let setting = Setting::Delete(Delete {});
    let done = configure(gateway, &name, request.request_id, setting, call).await?;
    let conversation = v1::Conversation {
        delete_time: Some(convert::timestamp_unsigned(done.time_ms)),
        ..configured(&name, &done)
    };
    Ok(v1::DeleteConversationResponse {
        conversation: Some(conversation),
        deduplicated: done.deduplicated,
        info: Some(info(gateway, &name, done.revision)),
    })
}

fn configured(name: &ConversationName, done: &Configured) -> v1::Conversation {
    v1::Conversation {
        name: name.to_string(),
        incarnation: done.incarnation,
        revision: done.revision,
        create_time: Some(convert::timestamp_unsigned(done.create_time_ms)),
        ..v1::Conversation::default()
    }
}

/// Has a change that was checked decided by the leader.
async fn configure(
    gateway: &Arc<Gateway>,
    name: &ConversationName,
    request_id: String,
    setting: Setting,
    call: Call,
) -> Result<Configured, Failure> {
    let command = Command::configure(Configure {
        conversation: name.to_string(),
        request_id: Bytes::from(request_id),
        setting: Some(setting),
    });
    let pick = |answer| match answer {
        Answer::Configured(done) => Some(done),
        _ => None,
    };
    let what = "a change of a conversation";
    decided(gateway, name, command, call, (what, pick)).await
}
