//! What comes over a connection, given to those who wait for it.

use model::command::Reply;
use model::id::NodeId;
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;

use crate::api::ProposeError;

/// Reads the answer to a forwarded command.
pub(super) fn reply_of(frame: wire::Frame) -> Result<Reply, ProposeError> {
    let shard = model::id::ShardId(frame.shard);
    match frame.body {
        Some(Body::ForwardAnswer(answer)) => answer
            .replies
            .into_iter()
            .next()
            .and_then(|bytes| Reply::decode(bytes).ok())
            .ok_or_else(|| ProposeError::Unknown("the leader's answer could not be read".into())),
        Some(Body::Failed(failed)) => {
            use wire::failed::Reason;
            let leader = (failed.leader != 0).then_some(NodeId(failed.leader));
            Err(match failed.reason() {
                Reason::NotLeader | Reason::NoReplica | Reason::Stopped => {
                    ProposeError::NotLeader { shard, leader }
                }
                Reason::WrongShard => ProposeError::WrongShard,
                Reason::Overloaded => ProposeError::Overloaded,
                Reason::Expired => ProposeError::Expired,
                Reason::DiskFull => ProposeError::DiskFull,
                Reason::UnknownOutcome | Reason::Unspecified | Reason::Refused => {
                    ProposeError::Unknown(failed.message)
                }
            })
        }
        _ => Err(ProposeError::Unknown(
            "the leader answered something else".into(),
        )),
    }
}
