//! What callers are told of an entry that failed.

use model::id::ShardId;
use openraft::error::{ClientWriteError, ForwardReason, ForwardToLeader};

use super::entry::{not_leader, write_error};
use super::*;
use crate::adapter::types::Types;

#[test]
fn only_what_was_refused_before_it_was_appended_is_told_as_nothing_done() {
    let forward = |reason| ForwardToLeader::<Types> {
        leader_id: Some(2),
        leader_node: None,
        reason,
    };
    let told = |error| write_error(ShardId(1), error);
    for reason in [
        ForwardReason::LeadershipTransfer,
        ForwardReason::LeaseExpired,
    ] {
        let error = told(ClientWriteError::ForwardToLeader(forward(reason)));
        assert_eq!(error, not_leader(ShardId(1), Some(2)));
    }
    let lost = ClientWriteError::ForwardToLeader(forward(ForwardReason::NotLeader));
    assert!(matches!(told(lost), ProposeError::Unknown(_)));
    // Another leader may have committed it.
    let discarded = ClientWriteError::LogEntryDiscarded(forward(ForwardReason::NotLeader));
    assert!(matches!(told(discarded), ProposeError::Unknown(_)));
}
