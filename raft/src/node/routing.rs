//! Whom to ask for a shard, and what attempts teach about that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::command::Reply;
use model::id::{NodeId, ShardId};
use proto::node as wire;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Inner;
use crate::api::ProposeError;
use crate::batcher::Done;

/// A command that has no answer after this is worth a look at the one who owes it.
const SOON: Duration = Duration::from_millis(250);

type Begun = Result<
    (NodeId, oneshot::Receiver<Result<Reply, ProposeError>>),
    (Option<NodeId>, ProposeError),
>;

impl Inner {
    /// One attempt; see [`Node::propose`].
    pub(crate) fn propose(
        self: Arc<Self>,
        shard: ShardId,
        command: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Reply, ProposeError>> + Send + 'static {
        let expires = Instant::now() + timeout;
        // Sent now, not when first polled, so that the order is that of the calls.
        let begun = self.begin(shard, command, timeout);
        async move {
            let (asked, result) = match begun {
                Ok((asked, answered)) => {
                    let result = self.answer(asked, answered, expires).await;
                    (Some(asked), result)
                }
                Err((asked, error)) => (asked, Err(error)),
            };
            self.note_leader(shard, asked, &result);
            result
        }
    }

    /// Somebody leads a shard, as itself or the own replica says.
    pub(crate) fn heard_of_leader(&self, shard: ShardId, leader: NodeId) {
        self.guess(shard, Some(leader));
        self.leaders.send_replace(());
    }

    /// What `asked` answers to a command, by `expires`; given up when its log waits for its disk.
    async fn answer(
        &self,
        asked: NodeId,
        mut answered: oneshot::Receiver<Result<Reply, ProposeError>>,
        expires: Instant,
    ) -> Result<Reply, ProposeError> {
        let soon = expires.min(Instant::now() + SOON);
        let unknown = |why: &str| Err(ProposeError::Unknown(why.into()));
        let result = match tokio::time::timeout_at(soon, &mut answered).await {
            Ok(result) => result,
            Err(_) => {
                let mut stalled = self.stalled.subscribe();
                let stalls = async {
                    // The sender lives as long as this node.
                    let _ = stalled.wait_for(|nodes| nodes.contains(&asked)).await;
                };
                tokio::select! {
                    biased;
                    result = &mut answered => result,
                    () = stalls => {
                        return unknown("the leader's disk does not answer");
                    }
                    () = tokio::time::sleep_until(expires) => return unknown("no answer in time"),
                }
            }
        };
        result.unwrap_or_else(|_| unknown("the link broke"))
    }

    /// Who leads, or is about to: as the own replica knows, else as was last heard, else who should.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<NodeId> {
        if let Some(group) = self.group(shard)
            && let Some(leader) = group.leadership.expected()
            && self.peers.may_serve(leader)
        {
            return Some(leader);
        }
        if let Some(hint) = self.hints.lock().get(&shard)
            && self.may_lead(shard, *hint)
        {
            return Some(*hint);
        }
        let view = self.current_view();
        let mut replicas = view.replicas_of(shard).iter().map(|id| NodeId(*id));
        replicas.find(|id| self.may_lead(shard, *id))
    }

    /// Whether a replica can be asked: it is reachable, its disk does not hang, and if it is this
    /// node's it works.
    fn may_lead(&self, shard: ShardId, node: NodeId) -> bool {
        self.peers.may_serve(node) && (node != self.id() || self.group(shard).is_some())
    }

    fn begin(&self, shard: ShardId, command: Bytes, timeout: Duration) -> Begun {
        let none = || {
            (
                None,
                ProposeError::NotLeader {
                    shard,
                    leader: None,
                },
            )
        };
        let leader = self.leader(shard).ok_or_else(none)?;
        if leader == self.id() {
            let (done, answered) = oneshot::channel();
            let group = self.group(shard).ok_or_else(none)?;
            if self.quorums.lacks(shard) {
                return Err((Some(leader), none().1));
            }
            group
                .batcher
                .submit(command, Instant::now() + timeout, Done::Here(done));
            return Ok((leader, answered));
        }
        let gone = || (Some(leader), ProposeError::Unreachable(leader));
        let link = self.peers.link(leader).ok_or_else(gone)?;
        let forward = wire::Forward {
            map_epoch: self.view.borrow().epoch,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            commands: vec![command],
        };
        let answered = link
            .propose(shard.0, forward)
            .map_err(|error| (Some(leader), error))?;
        Ok((leader, answered))
    }

    /// Learns from an attempt whom to ask the next time.
    fn note_leader(
        &self,
        shard: ShardId,
        asked: Option<NodeId>,
        result: &Result<Reply, ProposeError>,
    ) {
        let Some(asked) = asked else { return };
        if result.is_ok() {
            self.quorums.served(shard);
        }
        let next = match result {
            Ok(_) | Err(ProposeError::Overloaded) => Some(asked),
            Err(ProposeError::NotLeader {
                leader: Some(leader),
                ..
            }) if *leader != asked => Some(*leader),
            Err(
                ProposeError::NotLeader { .. }
                | ProposeError::Unreachable(_)
                | ProposeError::Unknown(_),
            ) => {
                // Somebody else may have been heard of meanwhile.
                let known = self.hints.lock().get(&shard).copied();
                if known.is_some_and(|known| known != asked && self.may_lead(shard, known)) {
                    return;
                }
                self.replica_after(shard, asked)
            }
            // A leader whose disk is full is about to give its place away.
            Err(ProposeError::WrongShard | ProposeError::DiskFull) => return,
        };
        self.guess(shard, next);
    }

    /// Whom to ask the next time, where the own replica does not know.
    pub(crate) fn guess(&self, shard: ShardId, next: Option<NodeId>) {
        let mut hints = self.hints.lock();
        match next {
            Some(next) if hints.get(&shard) != Some(&next) => drop(hints.insert(shard, next)),
            Some(_) => {}
            None => drop(hints.remove(&shard)),
        }
    }

    /// The replica to try when `asked` does not lead: one after the other.
    pub(crate) fn replica_after(&self, shard: ShardId, asked: NodeId) -> Option<NodeId> {
        let view = self.current_view();
        let replicas = view.replicas_of(shard);
        let at = replicas
            .iter()
            .position(|id| *id == asked.0)
            .map_or(0, |at| at + 1);
        let order = replicas.iter().cycle().skip(at).take(replicas.len());
        order
            .map(|id| NodeId(*id))
            .find(|id| self.may_lead(shard, *id))
    }
}
