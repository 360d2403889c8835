//! Creating conversations and looking at them.

use std::sync::Arc;

use bytes::Bytes;
use model::command::{Answer, Command, Create};
use model::id::ConversationName;
use prost::Message as _;
use proto::v1;
use proto::v1::conversations_client::ConversationsClient;
use proto::v1::conversations_server::Conversations as Service;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{settings, tenant};
use crate::check::{Checker, Level, Wanted};
use crate::convert;
use crate::deadline::{Call, forward};
use crate::error::Failure;
use crate::gateway::{Gateway, Target};
use crate::read::read;
use crate::tenants::class::Class;

/// The service.
pub struct Conversations {
    /// What all services share.
    pub gateway: Arc<Gateway>,
}

#[tonic::async_trait]
impl Service for Conversations {
    async fn create_conversation(
        &self,
        request: Request<v1::CreateConversationRequest>,
    ) -> Result<Response<v1::Conversation>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let created = create(&self.gateway, request.into_inner(), call).await?;
        Ok(self.gateway.answer(created))
    }

    async fn get_conversation(
        &self,
        request: Request<v1::GetConversationRequest>,
    ) -> Result<Response<v1::Conversation>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Checker::of(&call, 0);
        let name = check.conversation("name", &request.name);
        let wanted = check.read(request.read.as_ref());
        let traffic = &self.gateway.traffic;
        let checked = check.or(name);
        let name = super::decided::checked(&self.gateway, checked)?;
        let _turn = self
            .gateway
            .enter(name.tenant(), Class::Sync, &call)
            .await?;
        let began = Instant::now();
        let found = get(&self.gateway, &name, &wanted, &call).await;
        if !call.forwarded {
            let level = wanted.level.place();
            traffic.read(name.tenant(), level, began, found.as_ref().err());
        }
        Ok(self.gateway.answer(found?))
    }

    async fn update_conversation(
        &self,
        request: Request<v1::UpdateConversationRequest>,
    ) -> Result<Response<v1::UpdateConversationResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let updated = settings::update(&self.gateway, request.into_inner(), call).await?;
        Ok(self.gateway.answer(updated))
    }

    async fn delete_conversation(
        &self,
        request: Request<v1::DeleteConversationRequest>,
    ) -> Result<Response<v1::DeleteConversationResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let deleted = settings::delete(&self.gateway, request.into_inner(), call).await?;
        Ok(self.gateway.answer(deleted))
    }

    async fn list_conversations(
        &self,
        request: Request<v1::ListConversationsRequest>,
    ) -> Result<Response<v1::ListConversationsResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let page = tenant::list(&self.gateway, request.into_inner(), call).await?;
        Ok(self.gateway.answer(page))
    }
}

async fn create(
    gateway: &Arc<Gateway>,
    request: v1::CreateConversationRequest,
    call: Call,
) -> Result<v1::Conversation, Failure> {
    let given = request.conversation.unwrap_or_default();
    let mut check = Checker::of(&call, 0);
    let name = check.conversation_id(&request.parent, &request.conversation_id);
    check.request_id(&request.request_id);
    check.attributes("conversation.attributes", &given.attributes);
    let name = check.or(name)?;
    let _turn = gateway.enter(name.tenant(), Class::Live, &call).await?;
    let slot = name.key().slot();
    let command = Command::create(Create {
        conversation: name.as_str().to_owned(),
        request_id: Bytes::from(request.request_id),
        attributes: convert::attributes(given.attributes),
    });
    let command = Bytes::from(command.encode_to_vec());
    gateway.pay(&name, &command, call.deadline).await?;
    let reply = gateway
        .clone()
        .propose(Target::Slot(slot), command, call.deadline)
        .await?;
    match reply.answer {
        Some(Answer::Created(created)) => {
            let head = created.conversation.unwrap_or_default();
            let shard = gateway.shard_of(slot).map_or(0, |shard| shard.0);
            Ok(convert::conversation(head, shard))
        }
        Some(Answer::Refused(refusal)) => Err(Failure::Refused(refusal)),
        Some(
            Answer::Appended(_)
            | Answer::Changed(_)
            | Answer::Configured(_)
            | Answer::Expired(_)
            | Answer::Meta(_),
        )
        | None => Err(Failure::Internal(
            "the answer to a creation is of another kind".into(),
        )),
    }
}

/// A conversation's head, its shard and its content hash.
///
/// # Errors
/// [`Failure::ConversationNotFound`], and what [`read`] says.
pub async fn get(
    gateway: &Gateway,
    name: &ConversationName,
    wanted: &Wanted,
    call: &Call,
) -> Result<v1::Conversation, Failure> {
    read(
        gateway,
        name.key().slot(),
        wanted,
        call,
        |shard, state| match state.conversation(name)? {
            Some(head) => {
                let revision = head.revision;
                Ok((convert::conversation(head, shard.0), revision))
            }
            None => Err(Failure::ConversationNotFound(name.to_string())),
        },
        |channel, timeout| {
            let request = v1::GetConversationRequest {
                name: name.to_string(),
                read: Some(options(wanted)),
            };
            async move {
                let request = forward(request, Some(timeout));
                let mut client = ConversationsClient::new(channel);
                Ok(client.get_conversation(request).await?.into_inner())
            }
        },
    )
    .await
}

/// How fresh a read must be, as it is forwarded.
pub fn options(wanted: &Wanted) -> v1::ReadOptions {
    use v1::read_options::Level as Wire;
    let (level, max_staleness) = match wanted.level {
        Level::Linearizable => (Wire::Linearizable, None),
        Level::Session => (Wire::Session, None),
        Level::Bounded(bound) => (Wire::Bounded, Some(convert::duration(bound))),
        Level::Local => (Wire::Local, None),
    };
    v1::ReadOptions {
        level: level.into(),
        session_token: wanted.token.encode(),
        max_staleness,
    }
}
