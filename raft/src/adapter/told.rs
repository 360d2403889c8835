//! What openraft tells of a replica, read in one place: as a copy, or by a look that asks nothing else.
//!
//! What it tells lies behind a lock that prefers whoever writes. Who holds on to it and asks again, with
//! openraft about to write, waits for the writer, and the writer for the first look: that shard's core stands
//! still for good, and with it all that asks after it.

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::{RaftDataMetrics, RaftMetrics, RaftServerMetrics};

use super::state_machine::StateMachine;
use super::types::Types;

/// Who leads, who votes, and for whom this replica does; a copy of some numbers and two references.
pub(crate) fn server(raft: &Raft<Types, StateMachine>) -> RaftServerMetrics<Types> {
    #[allow(clippy::disallowed_methods, reason = "nothing is asked meanwhile")]
    let server = raft.server_metrics().borrow_watched().clone();
    server
}

/// What `look` finds of logs and followers. It must ask nothing of the replica.
pub(crate) fn data<T>(
    raft: &Raft<Types, StateMachine>,
    look: impl FnOnce(&RaftDataMetrics<Types>) -> T,
) -> T {
    #[allow(clippy::disallowed_methods, reason = "looks are a few lines each")]
    let found = look(&raft.data_metrics().borrow_watched());
    found
}

/// What `look` finds of all that is told. It must ask nothing of the replica.
pub(crate) fn all<T>(
    raft: &Raft<Types, StateMachine>,
    look: impl FnOnce(&RaftMetrics<Types>) -> T,
) -> T {
    #[allow(clippy::disallowed_methods, reason = "looks are a few lines each")]
    let found = look(&raft.metrics().borrow_watched());
    found
}
