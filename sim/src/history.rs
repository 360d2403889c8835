//! What clients saw, and what was seen on the disks: all that the oracles are told. Times are true
//! time, microseconds since the run began.

use serde::{Deserialize, Serialize};

/// Everything that clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When the load began.
    pub began_us: u64,
    /// When the last call of the load was answered.
    pub ended_us: u64,
    /// Every append, in the order of their beginning.
    pub appends: Vec<Append>,
    /// Every read, in the order of their beginning.
    pub reads: Vec<Read>,
    /// Every tail.
    pub tails: Vec<Tail>,
    /// At the end, at rest: whole conversations as each node shows them.
    pub finals: Vec<Final>,
    /// What witnesses saw, in the order of their answers.
    #[serde(default)]
    pub witnessed: Vec<Witnessed>,
    /// Every change of a message, in the order of their ends; of one message that of their beginnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// LINEARIZABLE looks at messages that change, in the order of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Look>,
    /// LINEARIZABLE looks at messages that expire, in the order of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fades: Vec<Fade>,
    /// What the change feed told; none where nobody followed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

/// A look at a message that expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fade {
    /// The conversation: fading-{room}.
    pub room: u32,
    /// The message.
    pub seq: u64,
    /// How long it lives.
    pub ttl_ms: u64,
    /// When its append was called, and when it returned.
    pub said_us: (u64, u64),
    /// When the look was called, and when it returned.
    pub looked_us: (u64, u64),
    /// What was shown.
    pub end: Faded,
}

/// What a look at a message that expires showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Faded {
    /// What it says.
    Shown,
    /// That it has expired.
    Gone,
    /// Something else.
    Otherwise,
}

/// The change feed, of the messages that change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// What was told, in the order of the telling.
    pub told: Vec<FeedChange>,
    /// Everything was told at the end, at rest.
    pub complete: bool,
    /// What ended it before.
    pub error: Option<String>,
}

/// One change of a message, as the feed told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedChange {
    /// The conversation: living-{room}.
    pub room: u32,
    /// The message.
    pub seq: u64,
    /// Its revision.
    pub revision: u64,
    /// What it says, hashed.
    pub body: u64,
    /// It is a tombstone.
    pub redacted: bool,
    /// When it was told.
    pub at_us: u64,
}

/// A change of a message, by the one writer of its conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The conversation: living-{room}.
    pub room: u32,
    /// The message.
    pub seq: u64,
    /// What was done.
    pub what: What,
    /// It deliberately repeats an acknowledged one, under its id.
    pub again: bool,
    /// When it was called.
    pub invoked_us: u64,
    /// When it returned.
    pub returned_us: u64,
    /// With what.
    pub end: ChangeEnd,
}

/// What was done to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It was appended.
    Said {
        /// What it says, hashed.
        body: u64,
    },
    /// It says something else.
    Edited {
        /// What it says, hashed.
        body: u64,
    },
    /// It was erased.
    Redacted,
    /// A reaction was set, or taken back.
    Reacted {
        /// Whose.
        user: String,
        /// Which.
        kind: String,
        /// Taken back.
        remove: bool,
    },
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeEnd {
    /// Acknowledged, at this revision.
    Done {
        /// The message's revision.
        revision: u64,
    },
    /// Refused: it has had and will have no effect.
    Refused {
        /// The reason.
        why: String,
    },
    /// It may have had an effect, or may yet have.
    Unknown,
}

/// A LINEARIZABLE look at one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The conversation: living-{room}.
    pub room: u32,
    /// The message.
    pub seq: u64,
    /// When it was called.
    pub invoked_us: u64,
    /// When it returned.
    pub returned_us: u64,
    /// What was shown, or the reason why nothing was.
    pub end: Result<Shown, String>,
}

/// A message as a look showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What it says, hashed.
    pub body: u64,
    /// Its revision.
    pub revision: u64,
    /// It is a tombstone.
    pub redacted: bool,
    /// It has neither body nor sender.
    pub bare: bool,
    /// Reactions, by kind.
    pub counts: std::collections::BTreeMap<String, u32>,
}

/// One attempt at one node, by nobody who would try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witnessed {
    /// The client site.
    pub site: String,
    /// How fresh a read; none is an append.
    pub level: Option<Level>,
    /// When it was called.
    pub invoked_us: u64,
    /// When it returned.
    pub returned_us: u64,
    /// The age that the answer admits to, ms; or the reason, whether there is RetryInfo, and text.
    pub end: Result<Option<u64>, String>,
}

/// One append: the call of an application, with all the tries that the client made for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Whose: operations of one session follow one another, each begins after the end of the one
    /// before; but for the appends of a burst on a stream, which begin in their order. Session
    /// numbers are unique over senders, readers and tails.
    pub session: u32,
    /// The client site.
    pub site: String,
    /// The conversation.
    pub room: u32,
    /// The sender's name.
    pub sender: String,
    /// The client message id.
    pub id: String,
    /// What it says, hashed.
    pub body: u64,
    /// When it was called.
    pub invoked_us: u64,
    /// When it returned; none when it had not by the end of the run.
    pub returned_us: Option<u64>,
    /// With what.
    pub end: AppendEnd,
    /// Whether it deliberately repeats an acknowledged append: the answer must be that one's.
    pub repeats: bool,
    /// When its message was created, as the answer says: ms since the run began, of true time if clocks
    /// are right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<i64>,
}

/// How an append ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendEnd {
    /// Acknowledged with this seq.
    Acked {
        /// The message's number.
        seq: u64,
    },
    /// Refused: it has had and will have no effect.
    Refused {
        /// Code, reason and text.
        why: String,
    },
    /// It may have had an effect, or may yet have.
    Unknown {
        /// Code, reason and text.
        why: String,
    },
}

/// A message as a reader saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenMessage {
    /// Its number.
    pub seq: u64,
    /// The sender's name.
    pub sender: String,
    /// The client message id.
    pub id: String,
    /// What it says, hashed.
    pub body: u64,
}

/// How fresh a read asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// One copy.
    Linearizable,
    /// At least what the session has seen.
    Session,
    /// At most this old.
    Bounded {
        /// The bound.
        bound_ms: u64,
    },
    /// Whatever is near.
    Local,
}

/// One read of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Whose; see [`Append::session`].
    pub session: u32,
    /// The client site.
    pub site: String,
    /// The conversation.
    pub room: u32,
    /// How fresh.
    pub level: Level,
    /// When it was called.
    pub invoked_us: u64,
    /// When it returned.
    pub returned_us: Option<u64>,
    /// The page, or why there is none.
    pub end: Result<Page, String>,
}

/// The page of a read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The first seq asked for; 0 = the newest messages.
    pub from: u64,
    /// How many were asked for.
    pub limit: u32,
    /// Ascending by seq.
    pub messages: Vec<SeenMessage>,
    /// The conversation's last seq at that moment, as the answer says; 0 when the conversation was
    /// not found.
    pub last_seq: u64,
    /// The age that the answer admits to.
    pub age_ms: Option<u64>,
    /// Who answered.
    pub served_by: String,
}

/// A tail of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Whose; see [`Append::session`].
    pub session: u32,
    /// The client site.
    pub site: String,
    /// The conversation.
    pub room: u32,
    /// The first seq that it asked for.
    pub from: u64,
    /// What it was given, in that order, over all its connections.
    pub events: Vec<(u64, SeenMessage)>,
    /// Why it ended, when it did not end with the load.
    pub error: Option<String>,
    /// Whether it was running when the cluster was at rest at the end: then it must have been given
    /// everything.
    pub complete: bool,
}

/// A whole conversation as one node shows it at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// The node's host.
    pub node: String,
    /// The conversation.
    pub room: u32,
    /// How fresh it was asked to be.
    pub level: Level,
    /// In the order of the answer.
    pub messages: Vec<SeenMessage>,
}

/// Everything that was seen of the servers from outside their processes: on disks, and in what
/// replicas say of their hashes at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Votes, in the order in which they became durable.
    pub votes: Vec<VoteSeen>,
    /// What went back on a disk, over a power cut, a restart or otherwise: evidence for people.
    pub regressed: Vec<String>,
    /// Replicas that were wiped, on disks that stayed: what begins there is another one.
    #[serde(default)]
    pub wiped: Vec<WipedSeen>,
    /// Voters that were named for the first time, and what they had then.
    #[serde(default)]
    pub voters: Vec<VoterSeen>,
    /// For each acknowledged append (by its place in [`History::appends`]): who had it on synced
    /// storage at that moment.
    pub covers: Vec<Cover>,
    /// When faults of drills were on nodes.
    #[serde(default)]
    pub drills: Vec<DrillSeen>,
    /// Replicas at rest.
    pub replicas: Vec<ReplicaSeen>,
    /// Why replicas could not be compared, when they could not.
    pub unsettled: Option<String>,
}

/// Faults of a drill on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillSeen {
    /// The node.
    pub host: String,
    /// Since when.
    pub began_us: u64,
    /// Until when they may live, as their controller was last told.
    pub until_us: u64,
    /// When they ended, or the node did; none = not before the run's end.
    pub ended_us: Option<u64>,
}

/// A vote on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteSeen {
    /// When it became durable.
    pub at_us: u64,
    /// Whose disk.
    pub host: String,
    /// The shard; 0 is the meta shard.
    pub shard: u32,
    /// The term.
    pub term: u64,
    /// For whom, a node's id.
    pub node: u64,
    /// Whether that node won, as the disk's owner knows.
    pub committed: bool,
}

/// A replica that was wiped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WipedSeen {
    /// When that became durable.
    pub at_us: u64,
    /// Whose disk.
    pub host: String,
    /// The shard; 0 is the meta shard.
    pub shard: u32,
}

/// A replica that a shard was given to count on: its membership names it as a voter, or it has given a
/// vote after it was wiped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterSeen {
    /// When that became durable.
    pub at_us: u64,
    /// Whose replica.
    pub host: String,
    /// The shard; 0 is the meta shard.
    pub shard: u32,
    /// Whether it voted; else it was named.
    pub voted: bool,
    /// The last entry on its disk, 0 without any.
    pub last: u64,
    /// What it must have nearly: the entry that names it, or what was known to be committed when it was
    /// wiped.
    pub needed: u64,
}

/// Where an acknowledged message was durable when it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// The append, by its place in [`History::appends`].
    pub append: usize,
    /// Hosts whose synced log held it, sorted.
    pub hosts: Vec<String>,
    /// Their data centers' names, sorted, each once.
    pub dcs: Vec<String>,
    /// How many are a quorum.
    pub quorum: u32,
}

/// A replica at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSeen {
    /// The node's host.
    pub node: String,
    /// The shard.
    pub shard: u32,
    /// How many changes it has applied.
    pub revision: u64,
    /// Conversation, its last seq, its number of messages, and the order-free hashes of their records
    /// and of what is remembered of ids.
    pub rooms: Vec<(String, u64, u64, String)>,
}
