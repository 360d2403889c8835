//! The links to all other nodes, made as the view names them.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::cluster::ClusterState;
use model::id::NodeId;
use parking_lot::RwLock;
use proto::net::Dialer;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::transport::Channel;

use crate::hello::Hello;
use crate::link::Link;

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
    epoch: watch::Receiver<u64>,
    refused: mpsc::UnboundedSender<(NodeId, Status)>,
    peers: RwLock<BTreeMap<NodeId, Peer>>,
}

impl Peers {
    pub(crate) fn new(
        me: NodeId,
        dialer: Dialer,
        hello: Hello,
        epoch: watch::Receiver<u64>,
        refused: mpsc::UnboundedSender<(NodeId, Status)>,
    ) -> Peers {
        let peers = RwLock::default();
        Peers {
            inner: Arc::new(Inner {
                me,
                dialer,
                hello,
                epoch,
                refused,
                peers,
            }),
        }
    }

    /// Opens links to nodes that are new in the view or have moved.
    pub(crate) fn update(&self, view: &ClusterState) {
        let mut peers = self.inner.peers.write();
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
                        self.inner.epoch.clone(),
                        self.inner.refused.clone(),
                    );
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

    /// Drops all links.
    pub(crate) fn close(&self) {
        self.inner.peers.write().clear();
    }
}
