//! An answer is believed, and not the address that it came from.

use super::nodes::by_who_answered;
use super::*;
use crate::error::Refusal;

fn answer(node_id: u64, cluster_id: &str) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        node_id,
        cluster_id: cluster_id.to_owned(),
        node_name: format!("node-{node_id}"),
        ..v1::GetStatusResponse::default()
    }
}

/// A cluster of the nodes 1, 2, … at whose addresses these nodes answered; 0 is nobody. Gives who
/// is held to have answered for each of them.
#[track_caller]
fn check(answered: &[(u64, &str)], expect: &[Result<u64, &str>]) {
    let reports = (1..)
        .zip(answered)
        .map(|(node_id, (who, cluster))| NodeReport {
            address: format!("h{node_id}:1"),
            listed: Some(v1::NodeStatus {
                node_id,
                ..v1::NodeStatus::default()
            }),
            status: match who {
                0 => Err(Error::Refused(Refusal::silent(Duration::from_secs(1)))),
                who => Ok(answer(*who, cluster)),
            },
            took: Duration::ZERO,
        });
    let judged = by_who_answered(reports.collect(), &answer(1, "c"));
    for (report, expect) in judged.iter().zip(expect) {
        match (&report.status, expect) {
            (Ok(status), Ok(node)) => assert_eq!(status.node_id, *node),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (status, expect) => panic!("{status:?} instead of {expect:?}"),
        }
    }
}

#[test]
fn who_answers_at_an_address_is_believed_and_not_the_address() {
    check(&[(1, "c"), (2, "c")], &[Ok(1), Ok(2)]);
    check(&[(1, "c"), (0, "")], &[Ok(1), Err("no answer")]);
    // A new node has a lost one's address.
    check(
        &[(1, "c"), (7, "c")],
        &[Ok(1), Err("node-7 (n7) answers at h2:1")],
    );
    // Two nodes have each other's: both are there.
    check(&[(1, "c"), (3, "c"), (2, "c")], &[Ok(1), Ok(2), Ok(3)]);
    // The first answer came from an address that no list has.
    check(&[(0, ""), (2, "c")], &[Ok(1), Ok(2)]);
    check(&[(1, "c"), (2, "d")], &[Ok(1), Err("another cluster")]);
}
