//! Changing a conversation itself: its attributes, and its end.

use std::sync::Arc;

use bytes::Bytes;
use model::command::{
    Answer, Attributes, Command, Configure, Configured, Delete, Fence, Govern, Setting,
};
use model::id::ConversationName;
use proto::v1;

use super::decided::{checked, decided};
use super::messages::info;
use crate::check::Checker;
use crate::convert;
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::Gateway;

/// Sets attributes and rules of a conversation.
///
/// # Errors
/// [`Failure`]; which of them say that nothing was done is in errors.md.
pub async fn update(
    gateway: &Arc<Gateway>,
    request: v1::UpdateConversationRequest,
    call: Call,
) -> Result<v1::UpdateConversationResponse, Failure> {
    let mut check = Checker::of(&call, 0);
    let name = check.conversation("name", &request.name);
    check.request_id(&request.request_id);
    settings(&mut check, &request);
    let name = checked(gateway, check.or(name))?;
    let command = command(&name, &request);
    let done = configure(gateway, &name, command, call).await?;
    let conversation = v1::Conversation {
        attributes: request.attributes.unwrap_or_default().values,
        fence_token: request.fence.map(|fence| fence.token).unwrap_or_default(),
        ttl: request.ttl,
        legal_hold: request.legal_hold.unwrap_or_default(),
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
    let mut check = Checker::of(&call, 0);
    let name = check.conversation("name", &request.name);
    check.request_id(&request.request_id);
    let name = checked(gateway, check.or(name))?;
    let command = Command::configure(Configure {
        conversation: name.to_string(),
        request_id: Bytes::from(request.request_id),
        setting: Some(Setting::Delete(Delete {})),
    });
    let caller = call.caller.clone();
    let done = configure(gateway, &name, command, call).await?;
    if !done.deduplicated {
        caller.did("delete conversation", name.as_str());
    }
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

fn settings(check: &mut Checker<'_>, request: &v1::UpdateConversationRequest) {
    let nothing = request.attributes.is_none()
        && request.fence.is_none()
        && request.ttl.is_none()
        && request.legal_hold.is_none();
    if nothing {
        check.add("attributes", "or fence, ttl or legal_hold must be given");
    }
    if let Some(given) = &request.attributes {
        check.attributes("attributes.values", &given.values);
    }
    if let Some(fence) = &request.fence {
        check.fence_token("fence.token", &fence.token);
        check.fence_token(
            "fence.expected_token",
            fence.expected_token.as_deref().unwrap_or(""),
        );
    }
    if let Some(ttl) = &request.ttl {
        check.ttl("ttl", ttl, true);
    }
}

/// What sets what is given. Attributes alone are set as versions before rules did, who read it.
fn command(name: &ConversationName, request: &v1::UpdateConversationRequest) -> Command {
    let request_id = Bytes::from(request.request_id.clone());
    let attributes = request.attributes.clone().map(|given| Attributes {
        values: convert::attributes(given.values),
    });
    let rules = request.fence.is_some() || request.ttl.is_some() || request.legal_hold.is_some();
    if !rules {
        return Command::configure(Configure {
            conversation: name.to_string(),
            request_id,
            setting: attributes.map(Setting::Attributes),
        });
    }
    Command::govern(Govern {
        conversation: name.to_string(),
        request_id,
        attributes,
        fence: request.fence.clone().map(|fence| Fence {
            token: Bytes::from(fence.token),
            expected: fence.expected_token.map(Bytes::from),
        }),
        ttl_ms: request.ttl.as_ref().map(convert::millis_of),
        hold: request.legal_hold,
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
    command: Command,
    call: Call,
) -> Result<Configured, Failure> {
    let pick = |answer| match answer {
        Answer::Configured(done) => Some(done),
        _ => None,
    };
    let what = "a change of a conversation";
    decided(gateway, name, command, call, (what, pick)).await
}
