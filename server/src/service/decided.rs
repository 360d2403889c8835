//! A command of a caller on its way: what is wrong with it is counted, and it is decided by the leader.

use std::sync::Arc;

use bytes::Bytes;
use model::command::{Answer, Command};
use model::id::ConversationName;
use prost::Message as _;

use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::{Gateway, Target};
use crate::tenants::class::Class;

/// Counts what was wrong with a request.
///
/// # Errors
/// That.
pub fn checked<T>(gateway: &Gateway, checked: Result<T, Failure>) -> Result<T, Failure> {
    checked.inspect_err(|wrong| gateway.traffic.refused(Some(wrong)))
}

/// Has a command that was checked decided by the leader of a conversation's shard; `pick` takes its
/// answer, which is to `what`.
///
/// # Errors
/// The refusal; or why it is not known to be decided.
pub async fn decided<T>(
    gateway: &Arc<Gateway>,
    name: &ConversationName,
    command: Command,
    call: Call,
    (what, pick): (&str, fn(Answer) -> Option<T>),
) -> Result<T, Failure> {
    let command = Bytes::from(command.encode_to_vec());
    let target = Target::Slot(name.key().slot());
    let _turn = gateway.enter(name.tenant(), Class::Live, &call).await?;
    checked(gateway, gateway.pay(name, &command, call.deadline).await)?;
    let proposed = gateway.clone().propose(target, command, call.deadline);
    let settled = proposed.await.and_then(|reply| match reply.answer {
        Some(Answer::Refused(refusal)) => Err(Failure::Refused(refusal)),
        answer => answer
            .and_then(pick)
            .ok_or_else(|| Failure::Internal(format!("the answer to {what} is of another kind"))),
    });
    checked(gateway, settled)
}
