//! One node: the real services over the shared store, with faults.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use proto::v1;
use proto::v1::admin_server::{Admin, AdminServer};
use proto::v1::conversations_server::{Conversations, ConversationsServer};
use proto::v1::messages_server::{Messages, MessagesServer};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Cluster, Fault, Info};

#[derive(Clone)]
struct Node {
    cluster: Arc<Cluster>,
    info: Info,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves until the runtime ends.
pub fn serve(cluster: Arc<Cluster>, info: Info) {
    let incoming = UnboundedReceiverStream::new(cluster.net.listen(&info.address))
        .map(Ok::<_, std::io::Error>);
    let node = Node { cluster, info };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(MessagesServer::new(node.clone()))
            .add_service(ConversationsServer::new(node.clone()))
            .add_service(AdminServer::new(node))
            .serve_with_incoming(incoming),
    );
}

pub fn status(code: Code, reason: &str) -> Status {
    let metadata: [(String, String); 0] = [];
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "firebreak", metadata);
    Status::with_error_details(code, format!("refused: {reason}"), details)
}

fn refused() -> Status {
    status(Code::Unavailable, "NO_QUORUM")
}

impl Node {
    fn is_going_away(&self) -> bool {
        let going_away = self.cluster.going_away.lock();
        going_away.contains(&self.info.address)
    }

    /// An answer to a call.
    fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        if self.is_going_away() {
            let yes = MetadataValue::from_static("1");
            response.metadata_mut().insert(proto::GOING_AWAY, yes);
        }
        response
    }

    fn cut(&self) {
        self.cluster.net.cut(&self.info.address);
    }

    /// Carries out one operation, or not, as the fault has it. It goes on when its caller is gone.
    async fn operate<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut super::Store) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let node = self.clone();
        let work = tokio::spawn(async move {
            let (fault, delay) = node.cluster.draw();
            sleep(delay).await;
            let run = || {
                let value = operation(&mut node.cluster.store.lock());
                node.cluster.changed.send_modify(|count| *count += 1);
                value
            };
            match fault {
                None => Ok(run()),
                Some(Fault::Slow(time)) => {
                    sleep(time).await;
                    Ok(run())
                }
                Some(Fault::Refuse) => Err(refused()),
                Some(Fault::DoAndRefuse) => {
                    run();
                    Err(refused())
                }
                Some(Fault::Cut) => {
                    node.cut();
                    Err(Status::cancelled("cut"))
                }
                Some(Fault::DoAndCut) => {
                    run();
                    node.cut();
                    Err(Status::cancelled("cut"))
                }
                Some(Fault::Reset) => Err(Status::internal("h2 protocol error: reset")),
            }
        });
        work.await
            .unwrap_or_else(|_| Err(Status::cancelled("shut down")))
    }
}

fn reason_of(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

fn append_all(
    store: &mut super::Store,
    parent: &str,
    messages: &[v1::Message],
) -> Vec<Result<v1::Appended, &'static str>> {
    messages
        .iter()
        .map(|message| store.append(parent, message))
        .collect()
}

/// What was appended, as an answer gives it.
fn answered(appended: v1::Appended) -> v1::Message {
    v1::Message {
        seq: appended.seq,
        revision: appended.revision,
        create_time: Some(prost_types::Timestamp {
            seconds: appended.create_time_ms / 1_000,
            nanos: 0,
        }),
        ..v1::Message::default()
    }
}

#[async_trait]
impl Messages for Node {
    async fn append_message(
        &self,
        request: Request<v1::AppendMessageRequest>,
    ) -> Result<Response<v1::AppendMessageResponse>, Status> {
        let request = request.into_inner();
        let message = request.message.unwrap_or_default();
        let expected = request.precondition.and_then(|one| one.expected_last_seq);
        let done = self
            .operate(move |store| {
                let last = store.last_seq(&request.parent).unwrap_or(0);
                let known = store
                    .conversations
                    .get(&request.parent)
                    .is_some_and(|conversation| {
                        conversation.messages.iter().any(|one| {
                            one.client_message_id == message.client_message_id
                                && one.sender == message.sender
                        })
                    });
                if !known && expected.is_some_and(|expected| expected != last) {
                    return Err("SEQ_MISMATCH");
                }
                store.append(&request.parent, &message)
            })
            .await?;
        match done {
            Ok(appended) => {
                let deduplicated = appended.deduplicated;
                Ok(self.answer(v1::AppendMessageResponse {
                    message: Some(answered(appended)),
                    deduplicated,
                    info: None,
                }))
            }
            Err("SEQ_MISMATCH") => Err(status(Code::Aborted, "SEQ_MISMATCH")),
            Err(reason) => Err(status(Code::InvalidArgument, reason)),
        }
    }

    async fn batch_append_messages(
        &self,
        request: Request<v1::BatchAppendMessagesRequest>,
    ) -> Result<Response<v1::BatchAppendMessagesResponse>, Status> {
        let request = request.into_inner();
        let done = self
            .operate(move |store| append_all(store, &request.parent, &request.messages))
            .await?;
        let done: Vec<v1::Appended> = done
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|reason| status(Code::InvalidArgument, reason))?;
        Ok(Response::new(v1::BatchAppendMessagesResponse {
            deduplicated: done.iter().any(|one| one.deduplicated),
            messages: done.into_iter().map(answered).collect(),
            info: None,
        }))
    }

    type AppendStreamStream = Answers<v1::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let mut frames = request.into_inner();
        let (answers, receiver) = mpsc::channel(64);
        let node = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                let mut groups: Vec<(String, Vec<v1::AppendItem>)> = Vec::new();
                for item in frame.items {
                    match groups.iter_mut().find(|(parent, _)| *parent == item.parent) {
                        Some((_, group)) => group.push(item),
                        None => groups.push((item.parent.clone(), vec![item])),
                    }
                }
                // Conversations answer in any order.
                for (parent, group) in groups {
                    tokio::spawn(node.clone().append_group(parent, group, answers.clone()));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let request = request.into_inner();
        let messages = self
            .operate(move |store| Some(store.conversations.get(&request.parent)?.messages.clone()))
            .await?
            .ok_or_else(|| status(Code::NotFound, "CONVERSATION_NOT_FOUND"))?;
        let last_seq = messages.len() as u64;
        let token: Option<u64> = request.page_token.parse().ok();
        let start = token.unwrap_or(request.start_seq);
        let size = if request.page_size == 0 {
            50
        } else {
            request.page_size as usize
        };
        let rest: Vec<v1::Message> = if request.descending {
            let start = if start == 0 { last_seq } else { start };
            messages
                .into_iter()
                .rev()
                .filter(|one| one.seq <= start)
                .collect()
        } else {
            messages
                .into_iter()
                .filter(|one| one.seq >= start)
                .collect()
        };
        let next = rest
            .get(size)
            .map(|one| one.seq.to_string())
            .unwrap_or_default();
        Ok(self.answer(v1::ListMessagesResponse {
            messages: rest.into_iter().take(size).collect(),
            next_page_token: next,
            min_seq: 1,
            last_seq,
            info: Some(v1::ResponseInfo {
                served_by: format!("{} ({})", self.info.id, self.info.dc),
                ..v1::ResponseInfo::default()
            }),
            ..v1::ListMessagesResponse::default()
        }))
    }

    async fn get_message(
        &self,
        _: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    async fn edit_message(
        &self,
        _: Request<v1::EditMessageRequest>,
    ) -> Result<Response<v1::EditMessageResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    async fn redact_message(
        &self,
        _: Request<v1::RedactMessageRequest>,
    ) -> Result<Response<v1::RedactMessageResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    async fn react(
        &self,
        _: Request<v1::ReactRequest>,
    ) -> Result<Response<v1::ReactResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    type FollowStream = futures::stream::Empty<Result<v1::FollowResponse, Status>>;

    async fn follow(
        &self,
        _: Request<Streaming<v1::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_reactions(
        &self,
        _: Request<v1::ListReactionsRequest>,
    ) -> Result<Response<v1::ListReactionsResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    type TailStream = Answers<v1::TailResponse>;

    async fn tail(
        &self,
        request: Request<v1::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let last = self
            .operate({
                let parent = request.parent.clone();
                move |store| store.last_seq(&parent)
            })
            .await?
            .ok_or_else(|| status(Code::NotFound, "CONVERSATION_NOT_FOUND"))?;
        let mut next = match request.cursor.parse::<u64>() {
            Ok(seen) => seen + 1,
            Err(_) if request.start_seq > 0 => request.start_seq,
            Err(_) => last + 1,
        };
        let (sender, receiver) = mpsc::channel(1);
        let node = self.clone();
        tokio::spawn(async move {
            let mut changed = node.cluster.changed.subscribe();
            loop {
                changed.borrow_and_update();
                let rest: Vec<v1::Message> = {
                    let store = node.cluster.store.lock();
                    let all = &store.conversations[&request.parent].messages;
                    all.iter().filter(|one| one.seq >= next).cloned().collect()
                };
                for message in rest {
                    use v1::tail_response::Event;
                    let (fault, _) = node.cluster.draw();
                    let seq = message.seq;
                    next = seq + 1;
                    let event = match fault {
                        // Leaves this one out.
                        Some(Fault::DoAndRefuse) => continue,
                        // Gives the one before again.
                        Some(Fault::Refuse) if seq > 1 => {
                            let store = node.cluster.store.lock();
                            let all = &store.conversations[&request.parent].messages;
                            Event::Message(all[seq as usize - 2].clone())
                        }
                        Some(Fault::Cut | Fault::DoAndCut) => return node.cut(),
                        Some(Fault::Reset) => Event::Reconnect(v1::Reconnect { after_ms: 5 }),
                        Some(Fault::Slow(time)) => {
                            sleep(time).await;
                            Event::Message(message)
                        }
                        Some(Fault::Refuse) | None => Event::Message(message),
                    };
                    let cursor = match &event {
                        Event::Message(message) | Event::Changed(message) => {
                            message.seq.to_string()
                        }
                        Event::CaughtUp(_) | Event::Reconnect(_) => String::new(),
                    };
                    let last = matches!(event, Event::Reconnect(_));
                    let response = v1::TailResponse {
                        event: Some(event),
                        cursor,
                    };
                    if sender.send(Ok(response)).await.is_err() || last {
                        return;
                    }
                }
                let caught_up = v1::CaughtUp { last_seq: next - 1 };
                let response = v1::TailResponse {
                    event: Some(v1::tail_response::Event::CaughtUp(caught_up)),
                    cursor: (next - 1).to_string(),
                };
                if sender.send(Ok(response)).await.is_err() || changed.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Node {
    /// One conversation's items of one frame. They are done in order, and none after the first
    /// that is not.
    async fn append_group(
        self,
        parent: String,
        group: Vec<v1::AppendItem>,
        answers: mpsc::Sender<Result<v1::AppendStreamResponse, Status>>,
    ) {
        let done_count = match self.cluster.number(4) {
            0 if self.cluster.troubled() => self.cluster.number(group.len() + 1),
            _ => group.len(),
        };
        let messages: Vec<v1::Message> = group
            .iter()
            .filter_map(|item| item.message.clone())
            .collect();
        let name = parent.clone();
        let partly =
            move |store: &mut super::Store| append_all(store, &name, &messages[..done_count]);
        let results: Vec<v1::AppendResult> = match self.operate(partly).await {
            Ok(mut done) => {
                let missing = group.len() - done.len();
                done.extend(std::iter::repeat_n(Err("NO_QUORUM"), missing));
                group
                    .iter()
                    .zip(done)
                    .map(|(item, one)| result(item, one))
                    .collect()
            }
            Err(status) if reason_of(&status) == "NO_QUORUM" => group
                .iter()
                .map(|item| result(item, Err("NO_QUORUM")))
                .collect(),
            Err(status) => {
                // The stream breaks; of a cut connection this is not seen.
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let at_random = self.cluster.troubled() && self.cluster.number(8) == 0;
        let frame = v1::AppendStreamResponse {
            results,
            going_away: at_random || self.is_going_away(),
        };
        let _ = answers.send(Ok(frame)).await;
    }
}

fn result(item: &v1::AppendItem, outcome: Result<v1::Appended, &'static str>) -> v1::AppendResult {
    use v1::append_result::Outcome;
    let outcome = match outcome {
        Ok(appended) => Outcome::Appended(appended),
        Err(reason) => {
            let again = reason == "NO_QUORUM";
            Outcome::Error(v1::ItemError {
                code: if again {
                    Code::Unavailable
                } else {
                    Code::InvalidArgument
                } as i32,
                reason: reason.to_owned(),
                message: "refused".to_owned(),
                retry_after_ms: if again { 10 } else { 0 },
            })
        }
    };
    v1::AppendResult {
        correlation_id: item.correlation_id,
        outcome: Some(outcome),
    }
}

#[async_trait]
impl Conversations for Node {
    async fn create_conversation(
        &self,
        request: Request<v1::CreateConversationRequest>,
    ) -> Result<Response<v1::Conversation>, Status> {
        let request = request.into_inner();
        let name = format!(
            "{}/conversations/{}",
            request.parent, request.conversation_id
        );
        let mine = self
            .operate({
                let name = name.clone();
                move |store| {
                    store.conversations.entry(name.clone()).or_default();
                    let first = store
                        .created
                        .entry(name)
                        .or_insert(request.request_id.clone());
                    *first == request.request_id
                }
            })
            .await?;
        if !mine {
            return Err(status(Code::AlreadyExists, "ALREADY_EXISTS"));
        }
        Ok(Response::new(v1::Conversation {
            name,
            ..v1::Conversation::default()
        }))
    }

    async fn update_conversation(
        &self,
        _: Request<v1::UpdateConversationRequest>,
    ) -> Result<Response<v1::UpdateConversationResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    async fn delete_conversation(
        &self,
        _: Request<v1::DeleteConversationRequest>,
    ) -> Result<Response<v1::DeleteConversationResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    async fn list_conversations(
        &self,
        _: Request<v1::ListConversationsRequest>,
    ) -> Result<Response<v1::ListConversationsResponse>, Status> {
        Err(Status::unimplemented("no test asks for one"))
    }

    async fn get_conversation(
        &self,
        request: Request<v1::GetConversationRequest>,
    ) -> Result<Response<v1::Conversation>, Status> {
        let name = request.into_inner().name;
        let wanted = name.clone();
        let last_seq = self
            .operate(move |store| store.last_seq(&wanted))
            .await?
            .ok_or_else(|| status(Code::NotFound, "CONVERSATION_NOT_FOUND"))?;
        Ok(Response::new(v1::Conversation {
            name,
            last_seq,
            ..v1::Conversation::default()
        }))
    }
}

#[async_trait]
impl Admin for Node {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let nodes = self.cluster.nodes.iter().map(|info| v1::NodeStatus {
            node_id: info.id,
            name: info.address.trim_end_matches(":7001").to_owned(),
            address: info.address.clone(),
            dc: info.dc.clone(),
            reachable: true,
            ..v1::NodeStatus::default()
        });
        Ok(Response::new(v1::GetStatusResponse {
            node_id: self.info.id,
            nodes: nodes.collect(),
            ..v1::GetStatusResponse::default()
        }))
    }

    async fn join_node(
        &self,
        _: Request<v1::JoinNodeRequest>,
    ) -> Result<Response<v1::JoinNodeResponse>, Status> {
        Err(status(Code::PermissionDenied, "TOKEN_INVALID"))
    }

    async fn get_policies(
        &self,
        _: Request<v1::GetPoliciesRequest>,
    ) -> Result<Response<v1::GetPoliciesResponse>, Status> {
        Err(Status::unimplemented("this node has no policies"))
    }

    async fn set_policy(
        &self,
        _: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        Err(Status::unimplemented("this node has no policies"))
    }

    async fn set_draining(
        &self,
        _: Request<v1::SetDrainingRequest>,
    ) -> Result<Response<v1::SetDrainingResponse>, Status> {
        Err(Status::unimplemented("this node cannot be drained"))
    }

    async fn move_replica(
        &self,
        _: Request<v1::MoveReplicaRequest>,
    ) -> Result<Response<v1::MoveReplicaResponse>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn forget_boot(
        &self,
        _: Request<v1::ForgetBootRequest>,
    ) -> Result<Response<v1::ForgetBootResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn remove_node(
        &self,
        _: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn relocate_node(
        &self,
        _: Request<v1::RelocateNodeRequest>,
    ) -> Result<Response<v1::RelocateNodeResponse>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn get_join_token(
        &self,
        _: Request<v1::GetJoinTokenRequest>,
    ) -> Result<Response<v1::JoinToken>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn get_drills(
        &self,
        _: Request<v1::GetDrillsRequest>,
    ) -> Result<Response<v1::GetDrillsResponse>, Status> {
        Err(Status::unimplemented("this node knows no drills"))
    }

    async fn change_drill(
        &self,
        _: Request<v1::ChangeDrillRequest>,
    ) -> Result<Response<v1::ChangeDrillResponse>, Status> {
        Err(status(Code::FailedPrecondition, "DRILL_REFUSED"))
    }

    async fn sign_drill(
        &self,
        _: Request<v1::SignDrillRequest>,
    ) -> Result<Response<v1::SignDrillResponse>, Status> {
        Err(status(Code::FailedPrecondition, "DRILL_REFUSED"))
    }

    async fn get_drill_key(
        &self,
        _: Request<v1::GetDrillKeyRequest>,
    ) -> Result<Response<v1::GetDrillKeyResponse>, Status> {
        Err(Status::unimplemented("this node knows no drills"))
    }

    async fn rotate_join_token(
        &self,
        _: Request<v1::RotateJoinTokenRequest>,
    ) -> Result<Response<v1::JoinToken>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn create_join_token(
        &self,
        _: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::JoinToken>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn list_join_tokens(
        &self,
        _: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn revoke_join_token(
        &self,
        _: Request<v1::RevokeJoinTokenRequest>,
    ) -> Result<Response<v1::RevokeJoinTokenResponse>, Status> {
        Err(status(Code::FailedPrecondition, "CHANGE_REFUSED"))
    }

    async fn plan_retention(
        &self,
        _: Request<v1::PlanRetentionRequest>,
    ) -> Result<Response<v1::PlanRetentionResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_outages(
        &self,
        _: Request<v1::GetOutagesRequest>,
    ) -> Result<Response<v1::GetOutagesResponse>, Status> {
        Err(Status::unimplemented("this node accounts for no outages"))
    }

    type GetDebugStream = Answers<v1::GetDebugPart>;

    async fn get_debug(
        &self,
        _: Request<v1::GetDebugRequest>,
    ) -> Result<Response<Self::GetDebugStream>, Status> {
        Err(Status::unimplemented("this node has nothing to debug"))
    }

    type GetEventsStream = Answers<v1::GetEventsResponse>;

    async fn get_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Result<Response<Self::GetEventsStream>, Status> {
        // Two answers, of two pages each.
        let again = !request.into_inner().after.is_empty();
        let page = |next: &str, more| {
            Ok(v1::GetEventsResponse {
                records: vec![v1::Record::default()],
                next: next.to_owned(),
                more,
                node_id: 7,
                ..v1::GetEventsResponse::default()
            })
        };
        let pages = match again {
            false => vec![page("1:10", false), page("1:20", true)],
            true => vec![page("1:30", false), page("1:40", false)],
        };
        Ok(Response::new(Box::pin(futures::stream::iter(pages))))
    }

    type HashReplicaStream = Answers<v1::HashReplicaResponse>;

    async fn hash_replica(
        &self,
        request: Request<v1::HashReplicaRequest>,
    ) -> Result<Response<Self::HashReplicaStream>, Status> {
        let shard = request.into_inner().shard;
        let part = |name: &str| {
            Ok(v1::HashReplicaResponse {
                applied_index: u64::from(shard),
                revision: 9,
                conversations: vec![v1::ConversationHash {
                    name: name.to_owned(),
                    ..v1::ConversationHash::default()
                }],
            })
        };
        let parts = vec![part("a"), part("b")];
        Ok(Response::new(Box::pin(futures::stream::iter(parts))))
    }
}

/// A time that no call here takes.
pub const LONG: Duration = Duration::from_secs(60);
