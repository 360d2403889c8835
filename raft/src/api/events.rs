//! What happens on a node, told as it happens to whoever keeps it: the flight recorder and the metrics.
//! Names are ids; nothing here holds a body, a user or a conversation.

use std::time::Duration;

use model::id::{NodeId, ShardId};

use super::Span;

/// Takes what happens on a node.
pub trait Events: Send + Sync + 'static {
    /// Notes an event. Called where it happens, under locks too: must be cheap, never wait, never panic.
    fn note(&self, event: Event);

    /// Notes a piece of a call that is traced, as it ends; the same holds for it.
    fn span(&self, _span: Span) {}
}

/// Notes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Events for Nobody {
    fn note(&self, _event: Event) {}
}

/// Something that happened on this node, to its replicas, or to its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A replica runs here.
    ReplicaOpened {
        /// Of this shard.
        shard: ShardId,
        /// Which of this node's replicas of the shard it is.
        incarnation: u64,
    },
    /// This node gives up its replica, since the shard has moved away.
    ReplicaClosed {
        /// Of this shard.
        shard: ShardId,
    },
    /// A replica has stopped for good; the node goes on.
    ReplicaBroken {
        /// Of this shard.
        shard: ShardId,
        /// What the disk says.
        why: String,
    },
    /// A broken replica was wiped, and learns from the others.
    ReplicaRebuilt {
        /// Of this shard.
        shard: ShardId,
    },
    /// This replica voted, or heard of a newer term; it is on the disk.
    Voted {
        /// The shard.
        shard: ShardId,
        /// The term.
        term: u64,
        /// For whom.
        candidate: NodeId,
    },
    /// Somebody leads a shard, as this node's replica of it knows.
    Led {
        /// The shard.
        shard: ShardId,
        /// Since this term.
        term: u64,
        /// Who. This node itself where it has won.
        leader: NodeId,
        /// This node itself.
        own: bool,
    },
    /// A shard has no leader any more, as this node's replica of it knows.
    Leaderless {
        /// The shard.
        shard: ShardId,
        /// The term in which it has none.
        term: u64,
    },
    /// This node's replica begins to look for a new leader.
    ElectionBegan {
        /// The shard.
        shard: ShardId,
        /// Who led before; `None` where nobody did.
        old: Option<NodeId>,
        /// Why.
        cause: ElectionCause,
    },
    /// Somebody leads again, or this replica gave up.
    ElectionEnded {
        /// The shard.
        shard: ShardId,
        /// Who led before.
        old: Option<NodeId>,
        /// Why it began.
        cause: ElectionCause,
        /// For how long it went on here.
        took: Duration,
        /// Who leads now; `None` where nobody was elected.
        won: Option<NodeId>,
    },
    /// This node gave a shard away, or tried to.
    HandedOver {
        /// The shard.
        shard: ShardId,
        /// Why.
        cause: HandOverCause,
        /// From the first word of it.
        took: Duration,
        /// Who leads now; `None` where it came to nothing.
        to: Option<NodeId>,
    },
    /// This node thinks otherwise of another than before.
    Verdict {
        /// The other.
        peer: NodeId,
        /// What it thinks now.
        verdict: Verdict,
        /// What a round to it takes at most, as it usually is.
        round: Duration,
        /// How long it may be silent.
        limit: Duration,
    },
    /// A log's sync has run for a second and has not come back, or it has.
    DiskStalled {
        /// Whose, perhaps this node's own.
        node: NodeId,
        /// `false` where it answers again.
        stalled: bool,
    },
    /// A node's wall clock is off what most clocks say, or is not any more.
    ClockOff {
        /// Whose, perhaps this node's own.
        node: NodeId,
        /// Milliseconds ahead; `None` where it is right again.
        off_ms: Option<i64>,
    },
    /// This machine was suspended, and is awake.
    Suspended {
        /// For so long.
        lasted: Duration,
    },
    /// A replica moves, as the leader of its shard or of the meta shard knows.
    Move {
        /// The shard.
        shard: ShardId,
        /// From this node.
        from: NodeId,
        /// To this one.
        to: NodeId,
        /// How far it is.
        step: MoveStep,
    },
    /// This node drains, or does not any more.
    Drain {
        /// How far it is.
        step: DrainStep,
    },
    /// A snapshot was sent, and the other has installed it.
    SnapshotSent {
        /// Of this shard.
        shard: ShardId,
        /// To this node.
        to: NodeId,
        /// From the first word of it.
        took: Duration,
    },
    /// A snapshot came and is installed.
    SnapshotInstalled {
        /// Of this shard.
        shard: ShardId,
        /// What it reaches to.
        index: u64,
    },
    /// Rounds that this node asked followers for, so that it could answer reads; told about once a
    /// second, and only if there were any.
    ReadRounds {
        /// How many since the event before.
        rounds: u64,
    },
    /// This node hears no majority of a shard's replicas, or hears one again.
    Quorum {
        /// The shard.
        shard: ShardId,
        /// Whether it is lost.
        lost: bool,
    },
    /// An entry of commands was answered, of a shard that this node leads.
    Decided {
        /// The shard.
        shard: ShardId,
        /// Commands in it.
        commands: u32,
        /// Their bytes.
        bytes: u64,
        /// From when the oldest of them was queued to the answer.
        took: Duration,
        /// `false` says that they were not decided, or that it is not known.
        decided: bool,
    },
}

/// Why a replica looks for a new leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElectionCause {
    /// The leader was silent for the limit of its link.
    Silent,
    /// The leader's connection was reset, and it refuses another.
    Reset,
    /// The leader's log waits for its disk.
    DiskStalled,
    /// The leader says that its replica of the shard is broken.
    Unfit,
    /// The leader handed over, and nobody took it.
    LostHandOver,
    /// The leader hands over to this node.
    HandOver,
    /// Nobody leads, and openraft's own timer has run out.
    Timer,
}

/// Why a shard is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandOverCause {
    /// The node drains.
    Drain,
    /// The node stops.
    Shutdown,
    /// The policies want another to lead.
    Balance,
    /// The node's disk or processor is slow.
    Slow,
    /// The node's disk is below its reserve.
    DiskFull,
    /// The node's clock is off.
    Clock,
    /// The leader's own replica moves away.
    Move,
}

/// What a node thinks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Frames get through.
    Up,
    /// It was silent for its limit.
    Silent,
    /// The connection was reset, and is tried again at once.
    Reset,
    /// It refuses connections.
    Refused,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveStep {
    /// The meta shard has decided it.
    Begun,
    /// The new replica learns.
    Learning,
    /// The voters change.
    Changing,
    /// The new voters alone are in effect.
    Ended,
    /// It was taken back.
    Cancelled,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainStep {
    /// An operator wants it.
    Begun,
    /// The node leads nothing any more, and its clients are sent elsewhere.
    Aside,
    /// It is over: the node may lead again.
    Ended,
}

/// The names that metrics and records use, each of them once.
macro_rules! names {
    ($kind:ident: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $kind {
            /// All of them.
            pub const ALL: &[$kind] = &[$($kind::$variant),+];

            /// Its name, as metrics and records say it.
            pub fn name(self) -> &'static str {
                match self {
                    $($kind::$variant => $name),+
                }
            }
        }
    };
}

names!(ElectionCause: Silent = "silent", Reset = "reset", DiskStalled = "disk_stalled",
    Unfit = "unfit", LostHandOver = "lost_hand_over", HandOver = "hand_over", Timer = "timer");
names!(HandOverCause: Drain = "drain", Shutdown = "shutdown", Balance = "balance", Slow = "slow",
    DiskFull = "disk_full", Clock = "clock", Move = "move");
names!(Verdict: Up = "up", Silent = "silent", Reset = "reset", Refused = "refused");
names!(MoveStep: Begun = "begun", Learning = "learning", Changing = "changing", Ended = "ended",
    Cancelled = "cancelled");
names!(DrainStep: Begun = "begun", Aside = "aside", Ended = "ended");
