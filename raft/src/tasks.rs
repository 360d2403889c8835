//! What goes on by itself or on request on a node. Each file is one task; what they share is below, in
//! [`crate::shared`].

pub(crate) mod balance;
mod clocks;
pub(crate) mod election;
mod erase;
mod founding;
mod handover;
mod heal;
mod housekeeping;
pub(crate) mod inbound;
mod kept;
mod moves;
mod news;
mod quorum;
pub(crate) mod read_index;
mod reconcile;
mod retain;
pub(crate) mod scrub;
mod search;
mod sleep;
mod slow_nodes;
mod tenants;
pub(crate) mod view;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use proto::net::Dialer;
use tokio::sync::mpsc;
use tonic::Status;

use crate::shared::{Opened, Shared};

/// Between looks at what there is to do.
const DUTIES_CHECK_EVERY: Duration = Duration::from_millis(250);
/// For a step that needs other nodes.
const STEP_MAX: Duration = Duration::from_secs(5);

/// The tasks of a node, of which those that look after what it opens run already.
pub(crate) struct Tasks {
    node: Arc<Shared>,
    /// Shards that this node has come to lead, and in which terms.
    wins: mpsc::UnboundedReceiver<(ShardId, u64)>,
}

/// Begins to look after what the node opens.
pub(crate) fn begin(node: &Arc<Shared>, opened: mpsc::UnboundedReceiver<Opened>) -> Tasks {
    let (won, wins) = mpsc::unbounded_channel();
    until_stopped(node, attend(node.clone(), opened, won));
    let node = node.clone();
    Tasks { node, wins }
}

/// Starts the tasks that go with each link and each replica.
async fn attend(
    node: Arc<Shared>,
    mut opened: mpsc::UnboundedReceiver<Opened>,
    won: mpsc::UnboundedSender<(ShardId, u64)>,
) {
    while let Some(opened) = opened.recv().await {
        match opened {
            Opened::Link(link) => drop(tokio::spawn(election::watch(node.clone(), link))),
            Opened::Replica(group) => {
                drop(tokio::spawn(news::watch(node.clone(), group, won.clone())));
            }
            Opened::Begins(group, founds) => {
                drop(tokio::spawn(founding::begin_shard(
                    node.clone(),
                    group,
                    founds,
                )));
            }
        }
    }
}

fn until_stopped(node: &Shared, task: impl Future<Output = ()> + Send + 'static) {
    let stop = node.stop.clone();
    let task: BoxFuture<'static, ()> = Box::pin(task);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = task => {}
        }
    });
}

impl Tasks {
    /// Starts the rest of them; they end when the node stops.
    pub(crate) fn start(
        self,
        refusals: mpsc::UnboundedReceiver<(NodeId, Status)>,
        dialer: &Dialer,
        seeds: Vec<String>,
        found: Option<ClusterState>,
    ) {
        let Tasks { node, wins } = self;
        let hello = node.hello().clone();
        until_stopped(&node, view::hear_refusals(node.clone(), refusals));
        until_stopped(&node, news::tell(node.clone(), wins));
        until_stopped(&node, slow_nodes::watch(node.clone()));
        until_stopped(&node, clocks::watch(node.clone()));
        until_stopped(&node, view::follow_meta(node.clone()));
        let search = search::Search::new(node.clone(), hello.clone(), dialer.clone(), &seeds);
        until_stopped(&node, search.run());
        let asks = view::ask_others(node.clone(), hello, dialer.clone(), seeds);
        until_stopped(&node, asks);
        until_stopped(&node, reconcile::keep(node.clone()));
        until_stopped(&node, moves::carry_out(node.clone()));
        until_stopped(&node, housekeeping::keep(node.clone()));
        until_stopped(&node, erase::keep(node.clone()));
        until_stopped(&node, retain::keep(node.clone()));
        until_stopped(&node, tenants::keep(node.clone()));
        until_stopped(&node, balance::keep(node.clone()));
        until_stopped(&node, sleep::keep(node.clone()));
        until_stopped(&node, read_index::keep_known(node.clone()));
        until_stopped(&node, scrub::keep(node.clone()));
        until_stopped(&node, quorum::watch(node.clone()));
        let marks = node.marks().clone();
        until_stopped(&node, async move { marks.keep().await });
        if let Some(cluster) = found {
            until_stopped(&node, founding::found_cluster(node.clone(), cluster));
        }
    }
}
