//! Whether a drill may put faults on a node, by what the meta shard says as this node knows it.

use model::cluster::ClusterState;

/// Why a drill may not; none where it may.
pub fn bar(view: &ClusterState, drill: &str) -> Option<String> {
    let _ = (view, drill);
    None
}

/// Why none may at all; empty where one may.
pub fn lever(view: &ClusterState) -> String {
    let _ = view;
    String::new()
}
