//! The links to all other nodes, made as the view names them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::cluster::ClusterState;
use model::id::NodeId;
use parking_lot::RwLock;
use proto::net::Channel;
use proto::net::Dialer;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::hello::{Hello, Marks};
use crate::link::Link;
use crate::vitals::Vitals;

struct Peer {
    address: String,
    link: Link,
}

/// Shared by everything that talks to other nodes.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    dialer: Dialer,
    hello: Hello,
    marks: Marks,
    vitals: Vitals,
    view: watch::Receiver<Arc<ClusterState>>,
    refused: mpsc::UnboundedSender<(NodeId, Status)>,
    peers: RwLock<BTreeMap<NodeId, Peer>>,
}

impl Peers {
    pub(crate) fn new(
        me: NodeId,
        dialer: Dialer,
        hello: Hello,
        marks: Marks,
        vitals: Vitals,
        view: watch::Receiver<Arc<ClusterState>>,
        refused: mpsc::UnboundedSender<(NodeId, Status)>,
    ) -> Peers {
        let peers = RwLock::default();
        Peers {
            inner: Arc::new(Inner {
                me,
                dialer,
                hello,
                marks,
                vitals,
                view,
                refused,
                peers,
            }),
        }
    }

    /// Opens links to nodes that are new in the view or have moved, and returns these links; drops
    /// those to nodes that are not in it.
    pub(crate) fn update(&self, view: &ClusterState) -> Vec<Link> {
        let mut opened = Vec::new();
        let mut peers = self.inner.peers.write();
        peers.retain(|id, _| view.node(*id).is_some());
        for node in &view.nodes {
            let id = NodeId(node.id);
            let known = peers.get(&id).is_some_and(|p| p.address == node.address);
            if id == self.inner.me || known {
                continue;
            }
            match self.inner.dialer.dial(&node.address) {
                Ok(channel) => {
                    let link = Link::start(
                        id,
                        channel,
                        self.inner.hello.clone(),
                        self.inner.marks.clone(),
                        self.inner.vitals.clone(),
                        self.inner.view.clone(),
                        self.inner.refused.clone(),
                    );
                    opened.push(link.clone());
                    peers.insert(
                        id,
                        Peer {
                            address: node.address.clone(),
                            link,
                        },
                    );
                }
                Err(error) => tracing::error!(node = %id, %error, "the node's address is unusable"),
            }
        }
        opened
    }

    /// The link to a node.
    pub(crate) fn link(&self, node: NodeId) -> Option<Link> {
        self.inner.peers.read().get(&node).map(|p| p.link.clone())
    }

    /// All links.
    pub(crate) fn all(&self) -> Vec<Link> {
        self.inner
            .peers
            .read()
            .values()
            .map(|p| p.link.clone())
            .collect()
    }

    /// A shared channel to a node.
    pub(crate) fn channel(&self, node: NodeId) -> Option<Channel> {
        self.link(node).map(|link| link.channel())
    }

    /// Whether frames to a node get through; this node always reaches itself.
    pub(crate) fn reachable(&self, node: NodeId) -> bool {
        node == self.inner.me
            || self
                .inner
                .peers
                .read()
                .get(&node)
                .is_some_and(|p| p.link.is_up())
    }

    /// Whether this node holds another alive, itself always. A connection that broke a moment ago
    /// is no proof of the contrary, unlike for [`Peers::reachable`].
    pub(crate) fn seems_alive(&self, node: NodeId) -> bool {
        node == self.inner.me || self.link(node).is_some_and(|link| link.seems_alive())
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
    use crate::api::Identity;

    #[tokio::test]
    async fn a_link_is_opened_once_for_each_node_and_again_when_it_moves() {
        let identity = Identity {
            cluster_id: "c1".into(),
            node: NodeId(1),
            name: "here".into(),
            disk_id: [1; 16],
            boot: 1,
            boot_nonce: 1,
        };
        let view = watch::Sender::new(Arc::default());
        let (refused, _) = mpsc::unbounded_channel();
        let (log, _writer) = Log::open(Arc::new(Memory::new())).unwrap();
        let vitals = Vitals::new(NodeId(1), log.clone());
        let hello = Hello::new(Arc::new(identity), log);
        let (marks, dialer) = (Marks::default(), Tcp.dialer());
        let view = view.subscribe();
        let peers = Peers::new(NodeId(1), dialer, hello, marks, vitals, view, refused);
        let node = |id, port: u16| Node {
            id,
            address: format!("127.0.0.1:{port}"),
            ..Node::default()
        };
        for (ports, expect) in [
            ([1, 2, 3], vec![2, 3]),
            ([1, 2, 3], vec![]),
            ([1, 2, 4], vec![3]),
        ] {
            let nodes = (1..).zip(ports).map(|(id, port)| node(id, port)).collect();
            let opened = peers.update(&ClusterState {
                nodes,
                ..ClusterState::default()
            });
            let opened: Vec<u64> = opened.iter().map(|link| link.node().0).collect();
            assert_eq!(opened, expect, "ports {ports:?}");
        }
    }
}
