//! Looks at the clocks of the nodes; what they agree on is in [`crate::time`].

use std::collections::BTreeSet;
use std::sync::Arc;

use model::id::NodeId;
use tokio::time::sleep;

use crate::api::Event;
use crate::shared::Shared;
use crate::time::{CLOCK_CHECK_EVERY, SUSPENDED_MS_TOLD};

/// Looks at the clocks until the node stops.
pub(crate) async fn watch(node: Arc<Shared>) {
    let time = node.peers().vitals().time().clone();
    let mut suspended = time.suspended();
    loop {
        let members: BTreeSet<NodeId> = {
            let view = node.current_view();
            let ids = view.nodes.iter().map(|node| NodeId(node.id));
            ids.collect()
        };
        if !members.is_empty() {
            for (of, off_ms) in time.look(node.id(), &members) {
                node.note(Event::ClockOff { node: of, off_ms });
            }
        }
        let now = time.suspended();
        let ms = now.saturating_sub(suspended).as_millis();
        if ms >= SUSPENDED_MS_TOLD {
            tracing::warn!(ms, "this machine was suspended");
            let lasted = now.saturating_sub(suspended);
            node.note(Event::Suspended { lasted });
        }
        suspended = now;
        sleep(CLOCK_CHECK_EVERY).await;
    }
}
