//! Where the answer to a command goes: to a caller on this node, or back over the stream it came by.

use model::command::Reply;
use model::id::ShardId;
use prost::Message;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::oneshot;

use crate::api::ProposeError;
use crate::link::frame;
use crate::link::out::Out;

/// Where an answer goes.
pub(crate) enum Done {
    /// To a caller on this node.
    Here(oneshot::Sender<Result<Reply, ProposeError>>),
    /// To another node, over the stream that the command came by.
    There {
        /// The frame it came in.
        id: u64,
        /// The shard it is for.
        shard: ShardId,
        /// The stream's way back.
        out: Out,
    },
}

impl Done {
    pub(crate) fn answer(self, result: Result<Reply, ProposeError>) {
        match self {
            // A caller that is gone has stopped waiting.
            Done::Here(caller) => drop(caller.send(result)),
            Done::There { id, shard, out } => {
                let body = match result {
                    Ok(reply) => Body::ForwardAnswer(wire::ForwardAnswer {
                        replies: vec![reply.encode_to_vec().into()],
                    }),
                    Err(error) => failed(&error),
                };
                out.send(frame::single(id, shard.0, body));
            }
        }
    }
}

/// A failed attempt as the wire says it.
pub(super) fn failed(error: &ProposeError) -> Body {
    use wire::failed::Reason;
    let (reason, leader) = match error {
        ProposeError::NotLeader { leader, .. } => (Reason::NotLeader, *leader),
        ProposeError::WrongShard => (Reason::WrongShard, None),
        ProposeError::Overloaded => (Reason::Overloaded, None),
        ProposeError::Expired => (Reason::Expired, None),
        ProposeError::DiskFull => (Reason::DiskFull, None),
        ProposeError::Unreachable(_) | ProposeError::Unknown(_) => (Reason::UnknownOutcome, None),
    };
    frame::failed(reason, leader, error.to_string())
}
