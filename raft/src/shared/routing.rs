//! Whom to ask for a shard, and what attempts teach about that.
//!
//! A leader that this node does not reach may be one that others reach: two data centers can lose
//! each other while a third hears both. Then there is nothing to wait for, since nobody elects
//! against it. So the command goes round, by a replica that says it reaches the leader, and that
//! one passes it on, once. In the order in which it came, like all that comes over a link.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::command::Reply;
use model::id::{NodeId, ShardId};
use model::trace::Context;
use proto::node as wire;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Shared;
use crate::api::ProposeError;
use crate::replica::batcher::Done;

/// A command that has no answer after this is worth a look at the one who owes it.
const SOON: Duration = Duration::from_millis(250);

type Answered = oneshot::Receiver<Result<Reply, ProposeError>>;
type Begun = Result<(Asked, Answered), (Option<Asked>, ProposeError)>;

/// Whom a command was sent to.
#[derive(Clone, Copy)]
struct Asked {
    node: NodeId,
    /// Who is to answer it: `node`, or whom that one passes it on to.
    leader: NodeId,
}

impl Asked {
    fn directly(node: NodeId) -> Asked {
        Asked { node, leader: node }
    }
}

impl Shared {
    /// One attempt; see [`Node::propose`].
    pub(crate) fn propose(
        self: Arc<Self>,
        shard: ShardId,
        (command, trace): (Bytes, Option<Context>),
        timeout: Duration,
    ) -> impl Future<Output = Result<Reply, ProposeError>> + Send + 'static {
        let expires = Instant::now() + timeout;
        // Sent now, not when first polled, so that the order is that of the calls.
        let begun = self.begin(shard, (command, trace), timeout);
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
        asked: Asked,
        mut answered: Answered,
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
                    let _ = stalled
                        .wait_for(|nodes| nodes.contains(&asked.leader))
                        .await;
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
        let known = self.known_leader(shard);
        known.or_else(|| self.first_replica(shard))
    }

    /// Who leads, as the own replica knows or as was last heard, if it can be asked.
    fn known_leader(&self, shard: ShardId) -> Option<NodeId> {
        if let Some(group) = self.group(shard)
            && let Some(leader) = group.leadership.expected()
            && self.peers.may_serve(leader)
        {
            return Some(leader);
        }
        let hint = self.hints.lock().get(&shard).copied()?;
        self.may_lead(shard, hint).then_some(hint)
    }

    /// The first replica in the view's order that can be asked.
    fn first_replica(&self, shard: ShardId) -> Option<NodeId> {
        let view = self.current_view();
        let mut replicas = view.replicas_of(shard).iter().map(|id| NodeId(*id));
        replicas.find(|id| self.may_lead(shard, *id))
    }

    /// Whether a replica can be asked: it is reachable, its disk does not hang, and if it is this
    /// node's it works.
    fn may_lead(&self, shard: ShardId, node: NodeId) -> bool {
        self.peers.may_serve(node) && (node != self.id() || self.group(shard).is_some())
    }

    /// Where the leader that is known is not reached from here: the nearest replica that says it
    /// reaches it.
    fn way_round(&self, shard: ShardId) -> Option<Asked> {
        let own = self.group(shard).and_then(|g| g.leadership.expected());
        let leader = own.or_else(|| self.hints.lock().get(&shard).copied())?;
        if self.peers.reachable(leader) {
            return None;
        }
        let view = self.current_view();
        let others = view.replicas_of(shard).iter().map(|id| NodeId(*id));
        let reaches = |id: &NodeId| {
            self.peers.may_serve(*id) && self.peers.vitals().says_reached(*id, leader)
        };
        let others = others.filter(|id| *id != self.id() && *id != leader);
        let links = others.filter(reaches).filter_map(|id| self.peers.link(id));
        let node = links.min_by_key(crate::link::Link::round)?.node();
        Some(Asked { node, leader })
    }

    /// Passes a command that another node sent on to the leader of `shard`, whom that one does not
    /// reach. `None` where this node is to answer it: because it leads or will, or because it does
    /// not know who does, or does not reach that one either.
    pub(crate) fn pass_on(
        &self,
        shard: ShardId,
        (command, trace): (&Bytes, Option<Context>),
        expires: Instant,
    ) -> Option<impl Future<Output = Result<Reply, ProposeError>> + Send + 'static> {
        let leader = self.group(shard)?.leadership.expected()?;
        if leader == self.id() || !self.peers.may_serve(leader) {
            return None;
        }
        let left = expires.saturating_duration_since(Instant::now());
        let command = (command.clone(), trace);
        let answered = self.forward(shard, command, left, Asked::directly(leader));
        let answered = answered.ok()?;
        Some(async move {
            let unknown = |why: &str| Err(ProposeError::Unknown(why.into()));
            match tokio::time::timeout_at(expires, answered).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => unknown("the leader's link broke behind the node that passed it on"),
                Err(_) => unknown("no answer in time"),
            }
        })
    }

    /// Sends a command over a link.
    fn forward(
        &self,
        shard: ShardId,
        (command, trace): (Bytes, Option<Context>),
        timeout: Duration,
        asked: Asked,
    ) -> Result<Answered, ProposeError> {
        let link = self.peers.link(asked.node);
        let link = link.ok_or(ProposeError::Unreachable(asked.node))?;
        let forward = wire::Forward {
            map_epoch: self.view.borrow().epoch,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            commands: vec![command],
            pass_on: asked.node != asked.leader,
            trace: trace.map_or_else(Bytes::new, |trace| trace.to_bytes().to_vec().into()),
        };
        link.propose(shard.0, forward)
    }

    fn begin(
        &self,
        shard: ShardId,
        (command, trace): (Bytes, Option<Context>),
        timeout: Duration,
    ) -> Begun {
        let none = || {
            (
                None,
                ProposeError::NotLeader {
                    shard,
                    leader: None,
                },
            )
        };
        let known = self.known_leader(shard).map(Asked::directly);
        let asked = known
            .or_else(|| self.way_round(shard))
            .or_else(|| self.first_replica(shard).map(Asked::directly))
            .ok_or_else(none)?;
        if asked.node == self.id() {
            let (done, answered) = oneshot::channel();
            let group = self.group(shard).ok_or_else(none)?;
            if self.quorums.lacks(shard) {
                return Err((Some(asked), none().1));
            }
            let (expires, done) = (Instant::now() + timeout, Done::Here(done));
            group.batcher.submit(command, expires, done, trace);
            return Ok((asked, answered));
        }
        match self.forward(shard, (command, trace), timeout, asked) {
            Ok(answered) => Ok((asked, answered)),
            Err(error) => Err((Some(asked), error)),
        }
    }

    /// Learns from an attempt whom to ask the next time.
    fn note_leader(
        &self,
        shard: ShardId,
        asked: Option<Asked>,
        result: &Result<Reply, ProposeError>,
    ) {
        let Some(Asked {
            node: asked,
            leader,
        }) = asked
        else {
            return;
        };
        if result.is_ok() {
            self.quorums.served(shard);
        }
        let next = match result {
            // Who passed it on need not lead.
            Ok(_) | Err(ProposeError::Overloaded | ProposeError::Expired) => Some(leader),
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
