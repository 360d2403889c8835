//! What a replica asks its leader for those who read here; how it asks is in the read index's task.

use model::id::NodeId;
use tokio::sync::oneshot;

use crate::api::ReadError;
use crate::replica::read::ReadIndex;

/// Readers of one replica who wait for an answer of the leader.
#[derive(Default)]
pub(crate) struct Questions {
    pub(crate) asking: usize,
    pub(crate) waiting: Vec<oneshot::Sender<Result<LeaderAnswer, ReadError>>>,
}

/// What a leader said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaderAnswer {
    pub(crate) leader: NodeId,
    pub(crate) at: ReadIndex,
}
