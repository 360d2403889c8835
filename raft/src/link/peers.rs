//! The links to all other nodes, made as the view names them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use model::limits;
use parking_lot::RwLock;
use proto::net::Channel;
use proto::net::Dialer;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::Status;

use crate::api::Events;
use crate::link::Link;
use crate::link::hello::{Doorkeeper, Hello};
use crate::link::outbox::Queued;
use crate::link::vitals::Vitals;
use crate::link::whereabouts::Whereabouts;

/// Shared by everything that talks to other nodes.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    dialer: Dialer,
    whereabouts: Whereabouts,
    hello: Hello,
    doorkeeper: Arc<Doorkeeper>,
    vitals: Vitals,
    view: watch::Receiver<Arc<ClusterState>>,
    queued: Arc<Queued>,
    refused: mpsc::UnboundedSender<(NodeId, Status)>,
    events: Arc<dyn Events>,
    peers: RwLock<BTreeMap<NodeId, Link>>,
    /// Turns of those who send snapshots.
    snapshots: Semaphore,
}

impl Peers {
    #[allow(
        clippy::too_many_arguments,
        reason = "what all links of a node share, once"
    )]
    pub(crate) fn new(
        me: NodeId,
        dialer: Dialer,
        whereabouts: Whereabouts,
        hello: Hello,
        doorkeeper: Arc<Doorkeeper>,
        vitals: Vitals,
        view: watch::Receiver<Arc<ClusterState>>,
        queued: Arc<Queued>,
        refused: mpsc::UnboundedSender<(NodeId, Status)>,
        events: Arc<dyn Events>,
    ) -> Peers {
        let peers = RwLock::default();
        Peers {
            inner: Arc::new(Inner {
                me,
                dialer,
                whereabouts,
                hello,
                doorkeeper,
                vitals,
                view,
                queued,
                refused,
                events,
                peers,
                snapshots: Semaphore::new(limits::SNAPSHOTS_SENT_MAX),
            }),
        }
    }

    /// Opens links to nodes that are new in the view and returns these; drops those to nodes that are
    /// not in it. Those to nodes that have moved go along.
    pub(crate) fn update(&self, view: &ClusterState) -> Vec<Link> {
        let inner = &self.inner;
        inner.whereabouts.list(view);
        let mut opened = Vec::new();
        let mut peers = inner.peers.write();
        peers.retain(|id, _| view.node(*id).is_some());
        for node in &view.nodes {
            let id = NodeId(node.id);
            if let Some(link) = peers.get(&id) {
                link.look_again();
            }
            if id == inner.me || peers.contains_key(&id) {
                continue;
            }
            let link = Link::start(
                node.clone(),
                inner.dialer.clone(),
                inner.whereabouts.clone(),
                inner.hello.clone(),
                inner.doorkeeper.clone(),
                inner.vitals.clone(),
                inner.view.clone(),
                inner.queued.clone(),
                inner.refused.clone(),
                inner.events.clone(),
            );
            match link {
                Ok(link) => {
                    opened.push(link.clone());
                    peers.insert(id, link);
                }
                Err(error) => tracing::error!(node = %id, %error, "the node's address is unusable"),
            }
        }
        opened
    }

    /// Told what happens.
    pub(crate) fn events(&self) -> &Arc<dyn Events> {
        &self.inner.events
    }

    /// Where nodes are.
    pub(crate) fn whereabouts(&self) -> &Whereabouts {
        &self.inner.whereabouts
    }

    /// Where a node is: where it is reached, or looked for.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        match node == self.inner.me {
            true => Some(self.inner.hello.place().address),
            false => self.link(node).map(|link| link.address()),
        }
    }

    /// The link to a node.
    pub(crate) fn link(&self, node: NodeId) -> Option<Link> {
        self.inner.peers.read().get(&node).cloned()
    }

    /// All links.
    pub(crate) fn all(&self) -> Vec<Link> {
        self.inner.peers.read().values().cloned().collect()
    }

    /// The longest round, as it usually is, to a node that can be reached.
    pub(crate) fn longest_round(&self) -> Duration {
        let links = self.inner.peers.read();
        let up = links.values().filter(|link| link.is_up());
        let rounds = up.filter_map(Link::usual_round);
        rounds.max().unwrap_or_default()
    }

    /// A shared channel to a node.
    pub(crate) fn channel(&self, node: NodeId) -> Option<Channel> {
        self.link(node).map(|link| link.channel())
    }

    /// Whether frames to a node get through; this node always reaches itself.
    pub(crate) fn reachable(&self, node: NodeId) -> bool {
        node == self.inner.me || self.inner.peers.read().get(&node).is_some_and(Link::is_up)
    }

    /// Whether this node holds another alive, itself always. A connection that broke a moment ago
    /// is no proof of the contrary, unlike for [`Peers::reachable`].
    pub(crate) fn seems_alive(&self, node: NodeId) -> bool {
        node == self.inner.me || self.link(node).is_some_and(|link| link.seems_alive())
    }

    /// Whether a shard needs a replica for its majority, as far as others are not reached: what that one
    /// lacks must not wait then.
    pub(crate) fn needs(&self, shard: ShardId, replica: NodeId) -> bool {
        let view = self.inner.view.borrow().clone();
        let replicas = view.replicas_of(shard);
        let others = replicas.iter().map(|id| NodeId(*id));
        let others = others.filter(|id| *id != replica && self.reachable(*id));
        others.count() <= replicas.len() / 2
    }

    /// Whether it is worth asking a node as a leader: it is reached, and its log does not wait for
    /// its disk.
    pub(crate) fn may_serve(&self, node: NodeId) -> bool {
        self.reachable(node) && !self.inner.vitals.stalled(node)
    }

    /// How the nodes do.
    pub(crate) fn vitals(&self) -> &Vitals {
        &self.inner.vitals
    }

    /// Turns to send a snapshot, of which this node has a few.
    pub(crate) fn snapshot_turns(&self) -> &Semaphore {
        &self.inner.snapshots
    }

    /// Bytes that wait to be sent, over all links.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.inner.queued.bytes()
    }

    /// Drops all links.
    pub(crate) fn close(&self) {
        self.inner.peers.write().clear();
    }
}

#[cfg(test)]
mod tests {
    use model::cluster::Node;
    use proto::net::{Network, Tcp};
    use store::Log;
    use store::engine::memory::Memory;

    use super::*;
    use crate::api::{Identity, Secret};

    #[tokio::test]
    async fn a_link_is_opened_once_for_each_node_and_goes_along_when_it_moves() {
        let identity = Identity {
            cluster_id: "c1".into(),
            node: NodeId(1),
            name: "here".into(),
            disk_id: [1; 16],
            boot: 1,
            boot_nonce: 1,
            address: "here:1".into(),
            rack: String::new(),
            secret: Secret::default(),
        };
        let view = watch::Sender::new(Arc::default());
        let (refused, _) = mpsc::unbounded_channel();
        let (log, _writer) = Log::open(Arc::new(Memory::new())).unwrap();
        let vitals = Vitals::of_tests(NodeId(1), log.clone());
        let places = Whereabouts::open(log.clone()).unwrap();
        let hello = Hello::new(Arc::new(identity), log.clone());
        let doorkeeper = Doorkeeper::open("c1".into(), NodeId(1), Secret::default(), log).unwrap();
        let (doorkeeper, dialer) = (Arc::new(doorkeeper), Tcp.dialer());
        let view = view.subscribe();
        let peers = Peers::new(
            NodeId(1),
            dialer,
            places,
            hello,
            doorkeeper,
            vitals,
            view,
            Arc::default(),
            refused,
            Arc::new(crate::api::Nobody),
        );
        let node = |id, port: u16| Node {
            id,
            address: format!("127.0.0.1:{port}"),
            ..Node::default()
        };
        for (ports, expect) in [
            ([1, 2, 3], vec![2, 3]),
            ([1, 2, 3], vec![]),
            ([1, 2, 4], vec![]),
        ] {
            let nodes = (1..).zip(ports).map(|(id, port)| node(id, port)).collect();
            let opened = peers.update(&ClusterState {
                nodes,
                ..ClusterState::default()
            });
            let opened: Vec<u64> = opened.iter().map(|link| link.node().0).collect();
            assert_eq!(opened, expect, "ports {ports:?}");
            let third = peers.address(NodeId(3)).unwrap();
            assert_eq!(third, format!("127.0.0.1:{}", ports[2]));
        }
    }
}
