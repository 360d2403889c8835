//! Makes the frames of a link, so that each kind is spelled out once.

use model::id::NodeId;
use proto::node as wire;
use proto::node::failed::Reason;
use proto::node::frame::Body;

/// A request, or the answer with the same id.
pub(crate) fn single(id: u64, shard: u32, body: Body) -> wire::Frame {
    wire::Frame {
        id,
        shard,
        body: Some(body),
        stream: 0,
        end: false,
    }
}

/// A frame of a stream of appends, its last one with `end`.
pub(crate) fn streamed(stream: u64, shard: u32, body: Option<Body>, end: bool) -> wire::Frame {
    wire::Frame {
        id: 0,
        shard,
        body,
        stream,
        end,
    }
}

/// Says why a request was not done, or may not have been.
pub(crate) fn failed(reason: Reason, leader: Option<NodeId>, message: String) -> Body {
    Body::Failed(wire::Failed {
        reason: reason as i32,
        leader: leader.unwrap_or(NodeId(0)).0,
        message,
    })
}
