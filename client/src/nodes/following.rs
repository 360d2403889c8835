//! A stream that is followed at a node: it may wait for long, and hears when the node falls silent. One
//! question now and then answers for all streams of a client at that node.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Lease, Nodes};

/// Is told when its node falls silent.
pub(crate) struct Following {
    nodes: Arc<Nodes>,
    address: Arc<str>,
    silences: Option<watch::Receiver<()>>,
}

impl Following {
    /// Of the node in `lease`, which is asked now and then from now on whether it is there.
    pub(crate) fn at(lease: &Lease) -> Following {
        let (nodes, address) = lease.node();
        let mut silences = None;
        nodes.with(&address, |node| {
            node.followed += 1;
            silences = Some(node.silences.subscribe());
        });
        Following {
            nodes,
            address,
            silences,
        }
    }

    /// Completes when the node has fallen silent since this began. May be dropped and called again.
    pub(crate) async fn silent(&mut self) {
        let heard = match &mut self.silences {
            Some(silences) => silences.changed().await.is_ok(),
            None => false,
        };
        if !heard {
            // It is not known any more, and nobody asks it.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.nodes.with(&self.address, |node| {
            node.followed = node.followed.saturating_sub(1);
        });
    }
}
