//! Drills in the meta shard's state: what is planned, who allowed it, what runs, how it ended.
//! Disk and wire formats: tags are permanent.
//!
//! ```text
//!  Store ─► planned ─► Approve (so many operators as are needed) ─► approved ─► Begin ─► running
//!                                                                                          │
//!   ended (passed, missed, broken, aborted, inconclusive) ◄─ Conclude, Abort, Lost, lever ─┘
//! ```
//!
//! One drill runs at a time. Its controller holds a number; whoever takes over gets the next one, and
//! what the earlier controller writes then is refused.

use bytes::Bytes;
use prost::Message;

use super::{ClusterState, Locality};

mod approve;
mod changes;
mod decide;
mod run;
#[cfg(test)]
mod simple;
#[cfg(test)]
mod tests;

pub use changes::{
    Abort, Approve, Beat, Begin, Claim, Conclude, DrillBody, DrillChange, Lost, Named, Operators,
    Prove, Pull, Release, Seed, Stand, Store,
};
pub(super) use decide::decide;

/// Operators that must approve a drill, where the cluster does not say otherwise.
pub const OPERATORS_NEEDED: u32 = 2;
/// How long an approval holds, milliseconds.
pub const APPROVAL_MS: u64 = 24 * 60 * 60 * 1_000;
/// A controller that was not heard for this long may be replaced, milliseconds.
pub const TAKEOVER_MS: u64 = 15_000;
/// A drill whose controller was not heard for this long ends, milliseconds.
pub const LOST_MS: u64 = 45_000;
/// Ended drills that are kept.
pub const HISTORY_MAX: usize = 100;
/// Drills that are planned or approved, at most.
pub const OPEN_MAX: usize = 20;
/// Blocked windows, and standing approvals, at most.
pub const WINDOWS_MAX: usize = 100;
/// Bytes of a plan.
pub const PLAN_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a summary.
pub const SUMMARY_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a reason, a note, and the evidence of a proof.
pub const TEXT_BYTES_MAX: usize = 1_000;
/// Notes of one drill; the first ones and the last are kept.
pub const NOTES_MAX: usize = 100;
/// Bytes of the seed of the signing key.
pub const SEED_BYTES: usize = 32;
/// The promises, by their letters.
pub const PROMISES: [&str; 10] = ["D", "O", "E", "L", "S", "U", "H", "G", "P", "A"];

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// All of the cluster's drills.
#[derive(Clone, PartialEq, Message)]
pub struct Drills {
    /// The oldest first.
    #[prost(message, repeated, tag = "1")]
    pub drills: Vec<Drill>,
    /// Pulled: all drills are ended, and none begins until it is released.
    #[prost(message, optional, tag = "2")]
    pub lever: Option<Lever>,
    /// No drill begins within them. Sorted by name.
    #[prost(message, repeated, tag = "3")]
    pub windows: Vec<Window>,
    /// What may begin by itself. Sorted by name.
    #[prost(message, repeated, tag = "4")]
    pub standing: Vec<Standing>,
    /// When each promise was last shown to hold. Sorted by promise.
    #[prost(message, repeated, tag = "5")]
    pub proofs: Vec<Proof>,
    /// Operators that must approve a drill; 0 = [`OPERATORS_NEEDED`].
    #[prost(uint32, tag = "6")]
    pub operators_needed: u32,
    /// Seed of the Ed25519 key that signs certificates; empty until it is used first. Told to nobody.
    #[prost(bytes = "bytes", tag = "7")]
    pub signing_seed: Bytes,
    /// The last number that a controller got.
    #[prost(uint64, tag = "8")]
    pub controllers: u64,
}

/// One drill.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Drill {
    /// Its name, unique.
    #[prost(string, tag = "1")]
    pub id: String,
    /// [`State`].
    #[prost(enumeration = "State", tag = "2")]
    pub state: i32,
    /// The plan's file; empty once the drill has ended.
    #[prost(string, tag = "3")]
    pub plan: String,
    /// blake3 of the plan's file, 32 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub plan_digest: Bytes,
    /// [`ClusterState::layout_digest`] when it was planned, 32 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub layout_digest: Bytes,
    /// The simulator's scenario that it comes from.
    #[prost(string, tag = "6")]
    pub scenario: String,
    /// The data center that it is about; empty = all.
    #[prost(string, tag = "7")]
    pub target: String,
    /// Who planned it.
    #[prost(string, tag = "8")]
    pub planned_by: String,
    /// Command time, Unix milliseconds, as are all times here.
    #[prost(uint64, tag = "9")]
    pub planned_ms: u64,
    /// Who allowed it, in order.
    #[prost(message, repeated, tag = "10")]
    pub approvals: Vec<Approval>,
    /// Who carries it out; of an ended one, who did.
    #[prost(message, optional, tag = "11")]
    pub controller: Option<Controller>,
    /// When it began; 0 = it did not.
    #[prost(uint64, tag = "12")]
    pub began_ms: u64,
    /// When it ended; 0 = it did not.
    #[prost(uint64, tag = "13")]
    pub ended_ms: u64,
    /// [`End`].
    #[prost(enumeration = "End", tag = "14")]
    pub end: i32,
    /// Why it ended so, for people.
    #[prost(string, tag = "15")]
    pub why: String,
    /// What its controller told on the way.
    #[prost(message, repeated, tag = "16")]
    pub notes: Vec<Note>,
    /// What came out, as JSON; empty until its controller has said.
    #[prost(string, tag = "17")]
    pub summary: String,
    /// The standing approval under which it begins; empty = none.
    #[prost(string, tag = "18")]
    pub standing: String,
    /// blake3 of what of the plan does not change from one time to the next, 32 bytes; empty = none.
    #[prost(bytes = "bytes", tag = "19")]
    pub recipe_digest: Bytes,
}

/// How far a drill is. Moves only forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    /// Never written.
    Unspecified = 0,
    /// It has a plan.
    Planned = 1,
    /// So many operators as are needed have allowed it.
    Approved = 2,
    /// A controller carries it out.
    Running = 3,
    /// It is over, or was taken back.
    Ended = 4,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum End {
    /// It has not.
    Unspecified = 0,
    /// Every goal was met, every promise held.
    Passed = 1,
    /// A goal was missed.
    Missed = 2,
    /// A promise broke.
    Broken = 3,
    /// It was ended early.
    Aborted = 4,
    /// It cannot be told.
    Inconclusive = 5,
}

/// Somebody allowed a drill.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Approval {
    /// Who.
    #[prost(string, tag = "1")]
    pub who: String,
    /// When.
    #[prost(uint64, tag = "2")]
    pub at_ms: u64,
}

/// Who carries a drill out.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Controller {
    /// What its writes name.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Who it says it is; unique among controllers.
    #[prost(string, tag = "2")]
    pub who: String,
    /// Since when.
    #[prost(uint64, tag = "3")]
    pub since_ms: u64,
    /// When it was last heard.
    #[prost(uint64, tag = "4")]
    pub heard_ms: u64,
}

/// Something that a controller told.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Note {
    /// When.
    #[prost(uint64, tag = "1")]
    pub at_ms: u64,
    /// For people.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// The lever is pulled.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lever {
    /// By whom.
    #[prost(string, tag = "1")]
    pub who: String,
    /// Why.
    #[prost(string, tag = "2")]
    pub why: String,
    /// When.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
}

/// A time in which no drill begins.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Window {
    /// Its name, unique.
    #[prost(string, tag = "1")]
    pub name: String,
    /// From then, inclusive.
    #[prost(uint64, tag = "2")]
    pub from_ms: u64,
    /// To then, exclusive.
    #[prost(uint64, tag = "3")]
    pub to_ms: u64,
    /// And again each time so much later; 0 = once.
    #[prost(uint64, tag = "4")]
    pub every_ms: u64,
    /// Why, for people.
    #[prost(string, tag = "5")]
    pub why: String,
}

/// A drill that comes again, and may begin by itself when enough operators have said so.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Standing {
    /// Its name, unique.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The plan's file without its id and its times.
    #[prost(string, tag = "2")]
    pub recipe: String,
    /// blake3 of `recipe`, 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub recipe_digest: Bytes,
    /// When it is due next.
    #[prost(uint64, tag = "4")]
    pub next_ms: u64,
    /// And again each time so much later.
    #[prost(uint64, tag = "5")]
    pub every_ms: u64,
    /// Until when its approvals hold.
    #[prost(uint64, tag = "6")]
    pub until_ms: u64,
    /// Who allowed that it begins by itself.
    #[prost(message, repeated, tag = "7")]
    pub approvals: Vec<Approval>,
    /// When one began under it last; 0 = none did.
    #[prost(uint64, tag = "8")]
    pub last_ms: u64,
}

/// When a promise was last shown.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Proof {
    /// Its letter, one of [`PROMISES`].
    #[prost(string, tag = "1")]
    pub promise: String,
    /// When it was last shown to hold; 0 = never.
    #[prost(uint64, tag = "2")]
    pub shown_ms: u64,
    /// By what: a drill's id, `verify`.
    #[prost(string, tag = "3")]
    pub by: String,
    /// What was looked at, for people.
    #[prost(string, tag = "4")]
    pub evidence: String,
    /// How old a proof may become, milliseconds; 0 = [`limit_ms`].
    #[prost(uint64, tag = "5")]
    pub limit_ms: u64,
    /// When it was last seen broken; 0 = never.
    #[prost(uint64, tag = "6")]
    pub broken_ms: u64,
    /// By what, and what was seen.
    #[prost(string, tag = "7")]
    pub broken_by: String,
}

/// How old the proof of a promise may become where nothing else is set, milliseconds: replicas are
/// compared by a job, the others are shown by drills.
pub fn limit_ms(promise: &str) -> u64 {
    match promise {
        "H" => 7 * DAY_MS,
        _ => 180 * DAY_MS,
    }
}

impl Drills {
    /// The drill of this name.
    pub fn get(&self, id: &str) -> Option<&Drill> {
        self.drills.iter().find(|drill| drill.id == id)
    }

    /// The one that runs.
    pub fn running(&self) -> Option<&Drill> {
        self.drills.iter().find(|drill| drill.is(State::Running))
    }

    /// Operators that must approve.
    pub fn needed(&self) -> usize {
        let set = match self.operators_needed {
            0 => OPERATORS_NEEDED,
            set => set,
        };
        usize::try_from(set).unwrap_or(usize::MAX)
    }

    /// The blocked window that holds at a time.
    pub fn blocked(&self, now_ms: u64) -> Option<&Window> {
        self.windows.iter().find(|window| window.holds(now_ms))
    }
}

impl Drill {
    /// Whether it is so far.
    pub fn is(&self, state: State) -> bool {
        self.state == state as i32
    }

    /// Its approvals that hold at a time.
    pub fn valid(&self, now_ms: u64) -> usize {
        valid(&self.approvals, now_ms)
    }

    /// Whether its controller was not heard for so long.
    pub fn unheard(&self, for_ms: u64, now_ms: u64) -> bool {
        let heard = self.controller.as_ref().map_or(0, |one| one.heard_ms);
        now_ms.saturating_sub(heard) >= for_ms
    }
}

fn valid(approvals: &[Approval], now_ms: u64) -> usize {
    let holds = |one: &&Approval| now_ms.saturating_sub(one.at_ms) < APPROVAL_MS;
    approvals.iter().filter(holds).count()
}

impl Window {
    /// Whether it holds at a time.
    pub fn holds(&self, now_ms: u64) -> bool {
        let Some(since) = now_ms.checked_sub(self.from_ms) else {
            return false;
        };
        let since = match self.every_ms {
            0 => since,
            every => since % every,
        };
        since < self.to_ms.saturating_sub(self.from_ms)
    }
}

impl ClusterState {
    /// What of the map an approval is given for: nodes and where they stand, who holds what, policies,
    /// drains and moves. Not their addresses, nor the drills.
    pub fn layout_digest(&self) -> Bytes {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        };
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes();
        add(&count(self.nodes.len()));
        for node in &self.nodes {
            add(&node.id.to_le_bytes());
            add(node.name.as_bytes());
            let place: Locality = node.locality.clone().unwrap_or_default();
            add(&place.encode_to_vec());
        }
        add(&count(self.shards.len()));
        for shard in &self.shards {
            add(&shard.encode_to_vec());
        }
        for ids in [&self.meta_replicas, &self.draining, &self.leaving] {
            add(&count(ids.len()));
            for id in ids {
                add(&id.to_le_bytes());
            }
        }
        let policies = self.policies.clone().unwrap_or_default();
        add(&policies.encode_to_vec());
        add(&count(self.moves.len()));
        for going in &self.moves {
            add(&going.encode_to_vec());
        }
        Bytes::copy_from_slice(hasher.finalize().as_bytes())
    }
}
