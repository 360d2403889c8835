//! A service for tests of connections: some of its calls wait until they are let go, the others tell
//! whose certificate they came with.

use std::sync::Arc;

use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::CERTIFIED;
use crate::v1;
use crate::v1::conversations_server::Conversations;
use crate::v1::{Conversation, CreateConversationRequest, GetConversationRequest};

/// Answers at once with who is certified, but for creations, each of which waits for `slow`.
#[derive(Clone, Default)]
pub(super) struct Rooms {
    pub(super) slow: Arc<Notify>,
}

#[tonic::async_trait]
impl Conversations for Rooms {
    async fn create_conversation(
        &self,
        _: Request<CreateConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        self.slow.notified().await;
        Ok(Response::new(Conversation::default()))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        let certified = request.metadata().get(CERTIFIED);
        let certified = certified.and_then(|header| header.to_str().ok());
        Ok(Response::new(Conversation {
            name: certified.unwrap_or_default().to_owned(),
            ..Conversation::default()
        }))
    }

    async fn update_conversation(
        &self,
        _: Request<v1::UpdateConversationRequest>,
    ) -> Result<Response<v1::UpdateConversationResponse>, Status> {
        Err(Status::unimplemented("of no use here"))
    }

    async fn delete_conversation(
        &self,
        _: Request<v1::DeleteConversationRequest>,
    ) -> Result<Response<v1::DeleteConversationResponse>, Status> {
        Err(Status::unimplemented("of no use here"))
    }

    async fn list_conversations(
        &self,
        _: Request<v1::ListConversationsRequest>,
    ) -> Result<Response<v1::ListConversationsResponse>, Status> {
        Err(Status::unimplemented("of no use here"))
    }
}
