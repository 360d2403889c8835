//! Conversations whose replicas are on other nodes: one stream to each such node, whose events are given on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::id::{ConversationName, NodeId};
use model::limits;
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::cursor::Position;
use crate::deadline::forward;
use crate::gateway::Gateway;

/// Requests on their way to another node.
const REQUESTS_MAX: usize = 64;
/// Answers of all other nodes that wait.
const TOLD_MAX: usize = 2;

/// What another node said.
pub(super) struct RemoteNews {
    /// Which.
    pub(super) node: NodeId,
    /// What.
    pub(super) what: Remote,
}

/// What a stream to another node brings.
pub(super) enum Remote {
    /// Events.
    Answer(v1::FollowResponse),
    /// It is over.
    Over,
}

/// The streams to other nodes.
pub(super) struct Remotes {
    gateway: Arc<Gateway>,
    streams: BTreeMap<NodeId, mpsc::Sender<v1::FollowRequest>>,
    /// Where each conversation is followed.
    followed: BTreeMap<String, NodeId>,
    /// Those that have not caught up.
    behind: BTreeSet<NodeId>,
    told: mpsc::Sender<RemoteNews>,
}

impl Remotes {
    pub(super) fn new(gateway: Arc<Gateway>) -> (Remotes, mpsc::Receiver<RemoteNews>) {
        let (told, hear) = mpsc::channel(TOLD_MAX);
        let remotes = Remotes {
            gateway,
            streams: BTreeMap::new(),
            followed: BTreeMap::new(),
            behind: BTreeSet::new(),
            told,
        };
        (remotes, hear)
    }

    /// Conversations that are followed elsewhere.
    pub(super) fn len(&self) -> usize {
        self.followed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    pub(super) fn are_caught_up(&self) -> bool {
        self.behind.is_empty()
    }

    pub(super) fn caught_up(&mut self, node: NodeId) {
        self.behind.remove(&node);
    }

    /// Follows conversations at a node, each from a seq or behind the position.
    pub(super) async fn add(
        &mut self,
        node: NodeId,
        add: Vec<(ConversationName, u64)>,
        position: &Position,
    ) {
        let mut request = v1::FollowRequest::default();
        if !self.streams.contains_key(&node) {
            let stream = self.open(node);
            self.streams.insert(node, stream);
            request.cursor = position.encode();
        }
        request.more = true;
        for (name, start_seq) in add {
            let parent = name.to_string();
            self.followed.insert(parent.clone(), node);
            request.add.push(v1::FollowAdd { parent, start_seq });
        }
        self.behind.insert(node);
        self.send(node, request).await;
    }

    /// All that there is to add was added.
    pub(super) async fn no_more(&self) {
        for node in &self.behind {
            self.send(*node, v1::FollowRequest::default()).await;
        }
    }

    pub(super) fn remove(&mut self, name: &ConversationName) {
        let Some(node) = self.followed.remove(name.as_str()) else {
            return;
        };
        let request = v1::FollowRequest {
            remove: vec![name.to_string()],
            ..v1::FollowRequest::default()
        };
        if let Some(stream) = self.streams.get(&node) {
            // One that is full or over is told no more: what comes of it was asked for.
            let _ = stream.try_send(request);
        }
    }

    async fn send(&self, node: NodeId, request: v1::FollowRequest) {
        if let Some(stream) = self.streams.get(&node) {
            // Of one that is over it is told by its task.
            let _ = stream.send(request).await;
        }
    }

    /// Opens a stream to a node; what it brings is told, and its end.
    fn open(&self, node: NodeId) -> mpsc::Sender<v1::FollowRequest> {
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let (gateway, told) = (self.gateway.clone(), self.told.clone());
        tokio::spawn(async move {
            let over = || RemoteNews {
                node,
                what: Remote::Over,
            };
            relay(&gateway, node, waiting, &told).await;
            // The follower may be gone.
            let _ = told.send(over()).await;
        });
        requests
    }
}

async fn relay(
    gateway: &Gateway,
    node: NodeId,
    requests: mpsc::Receiver<v1::FollowRequest>,
    told: &mpsc::Sender<RemoteNews>,
) {
    let Some(channel) = gateway.raft.channel(node) else {
        return;
    };
    let mut client =
        MessagesClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
    let opened = client.follow(forward(ReceiverStream::new(requests), None));
    let Ok(answers) = opened.await else { return };
    let mut answers = answers.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        let what = Remote::Answer(answer);
        if told.send(RemoteNews { node, what }).await.is_err() {
            return;
        }
    }
}
