//! Where a call that is traced spends its time: told as each piece ends.

use std::time::Duration;

use model::id::{NodeId, ShardId};
use model::trace::Context;
use tokio::time::Instant;

/// A piece of a traced call, at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which one.
    pub context: Context,
    /// The span that it is a part of; 0 = none that is known.
    pub parent: u64,
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// The shard.
    pub shard: Option<ShardId>,
    /// The other node, where there is one.
    pub peer: Option<NodeId>,
    /// Why it failed, for people.
    pub failed: Option<String>,
}

impl Span {
    /// A part of `parent`, which ends now.
    pub fn within(
        parent: Context,
        node: NodeId,
        what: Piece,
        (began, shard): (Instant, ShardId),
    ) -> Span {
        Span {
            context: what.of(parent, node),
            parent: parent.span,
            name: what.name(),
            began,
            took: began.elapsed(),
            shard: Some(shard),
            peer: None,
            failed: None,
        }
    }
}

/// The pieces that raft tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The command waits at the leader for its entry.
    Queue,
    /// From the entry's proposal until it is decided and applied.
    Decide,
    /// The entry on its way to a replica, until that one has it on its disk and has said so.
    Replicate(NodeId),
    /// The entry is written to the log of one node, and synced.
    Sync,
}

impl Piece {
    /// As in a trace.
    pub fn name(self) -> &'static str {
        match self {
            Piece::Queue => "queue",
            Piece::Decide => "decide",
            Piece::Replicate(_) => "replicate",
            Piece::Sync => "sync log",
        }
    }

    /// Its span, on `node`.
    pub fn of(self, parent: Context, node: NodeId) -> Context {
        let what = match self {
            Piece::Queue => 1,
            Piece::Decide => 2,
            Piece::Sync => 3,
            Piece::Replicate(to) => 16 + to.0,
        };
        parent.child(node.0, what)
    }
}
