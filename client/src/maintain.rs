//! What a client does in the background: it learns nodes, and probes those that are lost.

use std::sync::Arc;

use futures::future::{join, join_all};
use tokio::time::Instant;

use crate::nodes::{Nodes, Tried};
use crate::options::{DISCOVER_INTERVAL, FOLLOWED_LOOK, MAINTAIN_INTERVAL};
use crate::silence;

/// Learns nodes, probes the lost ones and asks those where streams are followed, until dropped.
pub(crate) async fn maintain(nodes: Arc<Nodes>) {
    join(learn(&nodes), watch_followed(&nodes)).await;
}

/// Asks nodes where streams are followed whether they are there. A connection's own pings would say so
/// after five seconds.
async fn watch_followed(nodes: &Arc<Nodes>) {
    loop {
        tokio::time::sleep(FOLLOWED_LOOK).await;
        let quiet = nodes.quiet(Instant::now()).into_iter();
        let asked = quiet.map(async |(address, channel)| {
            if !silence::ask_at(nodes.clone(), address.clone(), channel).await {
                nodes.fell_silent(&address);
            }
        });
        join_all(asked).await;
    }
}

async fn learn(nodes: &Arc<Nodes>) {
    let mut discover_at = Instant::now();
    loop {
        let now = Instant::now();
        let due = nodes.due_for_a_probe(now);
        let probes = due
            .iter()
            .map(|(address, channel)| nodes.probe(address, channel.clone()));
        join_all(probes).await;
        if discover_at <= now {
            let lease = nodes.choose(&Tried::default());
            if nodes.probe(&lease.address, lease.channel.clone()).await {
                discover_at = now + DISCOVER_INTERVAL;
                let spares = nodes.spares(&lease.dc);
                let ask = silence::ask(&lease);
                drop(lease);
                let probes = spares.into_iter().map(async |(address, channel)| {
                    if nodes.probe(&address, channel.clone()).await {
                        silence::ask_at(nodes.clone(), address, channel).await;
                    }
                });
                // Their connections are open by then, so that it is a round and no more.
                join(ask, join_all(probes)).await;
            }
        }
        tokio::time::sleep(MAINTAIN_INTERVAL).await;
    }
}
