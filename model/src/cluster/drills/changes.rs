//! Changes of the drills. Disk and wire formats: tags are permanent.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::{End, Window};

/// A change of the drills.
#[derive(Clone, PartialEq, Message)]
pub struct DrillChange {
    /// What changes.
    #[prost(
        oneof = "DrillBody",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18"
    )]
    pub body: Option<DrillBody>,
}

/// The kinds of changes of drills.
#[derive(Clone, PartialEq, Oneof)]
pub enum DrillBody {
    /// Stores a plan.
    #[prost(message, tag = "1")]
    Store(Store),
    /// An operator allows a drill.
    #[prost(message, tag = "2")]
    Approve(Approve),
    /// A controller begins; answers its number.
    #[prost(message, tag = "3")]
    Begin(Begin),
    /// Another controller takes over; answers its number.
    #[prost(message, tag = "4")]
    Claim(Claim),
    /// The controller is there, and tells something, if anything.
    #[prost(message, tag = "5")]
    Beat(Beat),
    /// The controller says how it ended.
    #[prost(message, tag = "6")]
    Conclude(Conclude),
    /// Somebody ends a drill at once, or takes a plan back.
    #[prost(message, tag = "7")]
    Abort(Abort),
    /// The meta shard's leader ends a drill whose controller is not heard any more.
    #[prost(message, tag = "8")]
    Lost(Lost),
    /// Pulls the lever.
    #[prost(message, tag = "9")]
    Pull(Pull),
    /// Releases it.
    #[prost(message, tag = "10")]
    Release(Release),
    /// Adds a blocked window, or replaces that of the name.
    #[prost(message, tag = "11")]
    Block(Window),
    /// Takes one away.
    #[prost(message, tag = "12")]
    Unblock(Named),
    /// Adds a standing drill, or replaces that of the name; nobody has approved it then.
    #[prost(message, tag = "13")]
    Stand(Stand),
    /// An operator allows a standing one.
    #[prost(message, tag = "14")]
    ApproveStanding(Approve),
    /// Takes one away.
    #[prost(message, tag = "15")]
    Unstand(Named),
    /// How many operators must approve.
    #[prost(message, tag = "16")]
    Operators(Operators),
    /// A promise was looked at, or its limit is set.
    #[prost(message, tag = "17")]
    Prove(Prove),
    /// The seed of the signing key, where there is none yet.
    #[prost(message, tag = "18")]
    Seed(Seed),
}

/// Stores a plan.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Store {
    /// The drill's name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The plan's file.
    #[prost(string, tag = "2")]
    pub plan: String,
    /// Of the plan.
    #[prost(string, tag = "3")]
    pub scenario: String,
    /// Of the plan.
    #[prost(string, tag = "4")]
    pub target: String,
    /// Who planned it.
    #[prost(string, tag = "5")]
    pub who: String,
    /// The standing drill that it is one of; empty = none.
    #[prost(string, tag = "6")]
    pub standing: String,
    /// As [`super::Drill::recipe_digest`].
    #[prost(bytes = "bytes", tag = "7")]
    pub recipe_digest: Bytes,
}

/// An operator allows a drill, or a standing one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Approve {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who.
    #[prost(string, tag = "2")]
    pub who: String,
    /// What they have read: the digest of the plan's file, or of the recipe.
    #[prost(bytes = "bytes", tag = "3")]
    pub digest: Bytes,
}

/// A controller begins.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Begin {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who it is; unique among controllers.
    #[prost(string, tag = "2")]
    pub who: String,
    /// Of the plan that it has.
    #[prost(bytes = "bytes", tag = "3")]
    pub plan_digest: Bytes,
}

/// Another controller takes over.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Claim {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who it is.
    #[prost(string, tag = "2")]
    pub who: String,
}

/// The controller is there.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Beat {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The number that it holds.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// What it tells; empty = nothing.
    #[prost(string, tag = "3")]
    pub note: String,
}

/// The controller says how it ended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Conclude {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The number that it holds.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// [`End`].
    #[prost(enumeration = "End", tag = "3")]
    pub end: i32,
    /// Why.
    #[prost(string, tag = "4")]
    pub why: String,
    /// What came out, as JSON.
    #[prost(string, tag = "5")]
    pub summary: String,
}

/// Somebody ends a drill at once, or takes a plan back.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Abort {
    /// Which.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who.
    #[prost(string, tag = "2")]
    pub who: String,
    /// Why.
    #[prost(string, tag = "3")]
    pub why: String,
}

/// A controller is not heard any more.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lost {
    /// Which drill.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The number of that controller.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// Pulls the lever.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pull {
    /// Who.
    #[prost(string, tag = "1")]
    pub who: String,
    /// Why.
    #[prost(string, tag = "2")]
    pub why: String,
}

/// Releases it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Release {
    /// Who.
    #[prost(string, tag = "1")]
    pub who: String,
}

/// Names a window or a standing drill.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Named {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Adds a standing drill.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stand {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// As [`super::Standing::recipe`].
    #[prost(string, tag = "2")]
    pub recipe: String,
    /// When it is due first.
    #[prost(uint64, tag = "3")]
    pub first_ms: u64,
    /// And again each time so much later.
    #[prost(uint64, tag = "4")]
    pub every_ms: u64,
    /// Until when its approvals hold.
    #[prost(uint64, tag = "5")]
    pub until_ms: u64,
}

/// How many operators must approve.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Operators {
    /// 1 or 2.
    #[prost(uint32, tag = "1")]
    pub needed: u32,
}

/// A promise was looked at, or its limit is set.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Prove {
    /// Its letter.
    #[prost(string, tag = "1")]
    pub promise: String,
    /// Whether it held; none = only the limit is set.
    #[prost(bool, optional, tag = "2")]
    pub held: Option<bool>,
    /// By what.
    #[prost(string, tag = "3")]
    pub by: String,
    /// What was looked at.
    #[prost(string, tag = "4")]
    pub evidence: String,
    /// How old a proof may become, milliseconds; none = as it is.
    #[prost(uint64, optional, tag = "5")]
    pub limit_ms: Option<u64>,
}

/// The seed of the signing key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Seed {
    /// [`super::SEED_BYTES`] random bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub seed: Bytes,
}
