//! Every bound of the client in one place, with the relations between them checked when compiling.

use std::time::Duration;

use model::limits;

/// How long a call may take when the caller says nothing else.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// How long one node may be silent before another is asked; half as much again with each silent node.
pub(crate) const ATTEMPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// The longest that one attempt is given.
pub(crate) const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// First wait between attempts; the move to the second node does not wait.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest wait between attempts.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// Attempts and hedges that a client may make at once beyond what answers earn it.
pub(crate) const RETRY_TOKENS_MAX: i64 = 500;
/// Longest wait between attempts when these are used up.
pub(crate) const BACKOFF_EMPTY: Duration = Duration::from_secs(1);
/// Reads whose latency is remembered.
pub(crate) const LATENCIES_KEPT: usize = 128;
/// Reads that must have been answered before others are hedged, and between two looks at them.
pub(crate) const LATENCIES_MIN: usize = 16;
/// No read is hedged sooner.
pub(crate) const HEDGE_MIN: Duration = Duration::from_millis(10);
/// Longest wait that a node's hint may impose.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// How often the cluster is asked who its nodes are.
pub(crate) const DISCOVER_INTERVAL: Duration = Duration::from_secs(10);
/// How often the background task looks whether something is to be done.
pub(crate) const MAINTAIN_INTERVAL: Duration = Duration::from_millis(500);
/// How long a node may take to answer a probe.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait between two probes of a node that is lost.
pub(crate) const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(4);
/// How long the other nodes of a lost node's data center are asked last.
pub(crate) const DC_SUSPECT: Duration = Duration::from_secs(2);
/// How long a node that wants its clients to go elsewhere is asked last, unless it says otherwise.
pub(crate) const LEAVING_VALID: Duration = Duration::from_secs(10);
/// How long a connection counts as open behind its last answer.
pub(crate) const WARM_VALID: Duration = Duration::from_secs(25);
/// How long a measured latency counts.
pub(crate) const LATENCY_VALID: Duration = Duration::from_secs(10);
/// Calls in a row that a living node refuses for want of a quorum before it counts as lost.
pub(crate) const REFUSALS_MAX: u32 = 3;

/// Items of one frame.
pub(crate) const FRAME_ITEMS_MAX: usize = limits::STREAM_FRAME_ITEMS_MAX;
/// Bytes at which a frame is closed.
pub(crate) const FRAME_BYTES: usize = 512 * 1024;
/// How often unanswered items are looked over for passed deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// An item unanswered for this long, on a stream whose node is there, moves the stream: a shard that
/// lost its leader has another by then, and this node does not reach it.
pub(crate) const STUCK_AFTER: Duration = Duration::from_millis(1_000);
/// Least time between two moves of a stream that nothing forced; doubles while moves do not help.
pub(crate) const MOVE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The most that it doubles to.
pub(crate) const MOVE_INTERVAL_MAX: Duration = Duration::from_secs(2);
/// How long a stream stays before it looks whether a nearer node has become known.
pub(crate) const NEARER_INTERVAL: Duration = Duration::from_secs(2);
/// A stream that had no refused item for this long may move at once again.
pub(crate) const MOVE_FORGET: Duration = Duration::from_secs(5);

/// How often it is looked whether nodes are there that streams are followed at.
pub(crate) const FOLLOWED_LOOK: Duration = Duration::from_millis(400);
/// A node that has answered within this time is there.
pub(crate) const FOLLOWED_QUIET: Duration = Duration::from_millis(300);
/// Longest pause of a tail between attempts.
pub(crate) const TAIL_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How often a tail asks again for a message that was left out before it gives up.
pub(crate) const TAIL_GAPS_MAX: u32 = 5;
/// How long a node may take for the next part of a replica's hashes.
pub(crate) const HASH_PART_TIMEOUT: Duration = Duration::from_secs(30);

const _: () = {
    assert!(FRAME_ITEMS_MAX <= limits::STREAM_UNANSWERED_MAX);
    assert!(FRAME_BYTES + limits::BATCH_BYTES_MAX < limits::FRAME_BYTES_MAX);
    assert!(DISCOVER_INTERVAL.as_millis() * 2 < WARM_VALID.as_millis());
    assert!(ATTEMPT_TIMEOUT_DEFAULT.as_millis() < DEADLINE_DEFAULT.as_millis());
    assert!(BACKOFF_MAX.as_millis() < BACKOFF_EMPTY.as_millis());
    assert!(FOLLOWED_QUIET.as_millis() < FOLLOWED_LOOK.as_millis());
    assert!(LATENCIES_KEPT.is_multiple_of(LATENCIES_MIN));
};

/// How an [`crate::AppendStream`] behaves.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Most unanswered messages; [`crate::AppendStream::enqueue`] waits above that. Default 4,096,
    /// at least 1, at most [`model::limits::STREAM_UNANSWERED_MAX`].
    pub unanswered_max: usize,
    /// How long each message may take. Default: the client's.
    pub deadline: Option<Duration>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions {
            unanswered_max: 4_096,
            deadline: None,
        }
    }
}
