//! Refusals that waiting does not heal: another disk than it should be, or a node that was removed.

use model::id::NodeId;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Set on a refusal that waiting does not heal: the caller's disk is not the one it should have.
const REFUSED: &str = "firebreak-refused";
/// Its value for a node that was removed.
const REMOVED: &str = "removed";

/// Whether a status says that this node's own disk is refused.
pub(crate) fn is_refusal(status: &Status) -> bool {
    status.code() == Code::PermissionDenied && status.metadata().contains_key(REFUSED)
}

pub(super) fn refusal(message: String) -> Status {
    refused("disk", message)
}

/// What is told to a node that is not of the cluster any more.
pub(crate) fn removal(node: NodeId) -> Status {
    refused(
        REMOVED,
        format!(
            "node {node} was removed from the cluster, and its disk is not used again: to come back, \
             empty its data directory and join as a new node; its old name is free"
        ),
    )
}

fn refused(what: &'static str, message: String) -> Status {
    let mut status = Status::permission_denied(message);
    let what = MetadataValue::from_static(what);
    status.metadata_mut().insert(REFUSED, what);
    status
}

/// Whether a refusal says that this node was removed.
pub(crate) fn is_removal(status: &Status) -> bool {
    let what = status.metadata().get(REFUSED);
    is_refusal(status) && what.is_some_and(|what| what == REMOVED)
}
