//! What was seen of a drill, all of it: what a report tells and a certificate signs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::DrillPlan;
use super::rehearsal::Rehearsal;

/// What the document calls itself.
pub const KIND: &str = "firebreak-drill";
/// Its format.
pub const FORMAT: u32 = 1;

/// All of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paper {
    /// [`KIND`].
    pub kind: String,
    /// [`FORMAT`].
    pub format: u32,
    /// What was to be done.
    pub plan: DrillPlan,
    /// Where.
    pub cluster: Cluster,
    /// Who allowed it.
    pub approvals: Vec<Approval>,
    /// How it ended.
    pub end: End,
    /// Why, in a sentence.
    pub why: String,
    /// Wall-clock times of the controller, Unix milliseconds.
    pub began_ms: u64,
    /// As above.
    pub ended_ms: u64,
    /// What happened, by time.
    pub timeline: Vec<Happened>,
    /// What `whatif` said.
    pub predicted: Predicted,
    /// What the simulator said.
    pub rehearsal: Option<Rehearsal>,
    /// What the canaries saw.
    pub measured: Measured,
    /// Each promise that was held against the ledger.
    pub oracles: Vec<Oracle>,
    /// What was other than planned, for people.
    pub deviations: Vec<String>,
    /// The file of the flight recorders' night beside this one, and its blake3, hex.
    pub night: Option<Kept>,
    /// The same of the canaries' ledger.
    pub ledger: Option<Kept>,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Every goal was met, every promise held.
    Passed,
    /// A goal was missed.
    Missed,
    /// A promise broke.
    Broken,
    /// It was ended early: a cap, a real fault, an operator.
    Aborted,
    /// It cannot be told: canaries could not judge, or the controller was lost.
    Inconclusive,
}

impl End {
    /// The exit code of `firebreak drill run` and `verify`.
    pub const fn code(self) -> u8 {
        match self {
            End::Passed => 0,
            End::Missed => 1,
            End::Broken => 3,
            End::Aborted => 4,
            End::Inconclusive => 5,
        }
    }

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            End::Passed => "passed",
            End::Missed => "goal missed",
            End::Broken => "promise broken",
            End::Aborted => "aborted",
            End::Inconclusive => "inconclusive",
        }
    }
}

/// The cluster as it was before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Its id.
    pub cluster_id: String,
    /// Epoch of its map.
    pub map_epoch: u64,
    /// `model::cluster::ClusterState::layout_digest`, hex.
    pub layout_digest: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Data shards.
    pub shards: u32,
    /// Replicas of a shard.
    pub replicas: u32,
    /// Messages acknowledged a second just before, all clients.
    pub acks_per_s: f64,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its data center.
    pub dc: String,
    /// Of its program.
    pub version: String,
}

/// Somebody allowed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub who: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// One moment of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Which.
    pub moment: Moment,
    /// For people.
    pub text: String,
}

/// The moments that a report names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// The canaries began.
    Begin,
    /// A fault was put in.
    Inject,
    /// The first node took the fault's for gone.
    Detect,
    /// The first shard had a new leader.
    FirstLeader,
    /// The last one had.
    LastLeader,
    /// The first canary that had waited was answered.
    FirstAck,
    /// A fault was taken out.
    Heal,
    /// Every replica was whole again.
    FullyReplicated,
    /// It was ended early.
    Abort,
    /// The canaries ended.
    End,
}

/// What `whatif` said before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Predicted {
    /// Everything stays served.
    pub served: bool,
    /// The longest gap, milliseconds; none = not known.
    pub gap_ms: Option<u64>,
    /// Failed calls.
    pub failed: u64,
    /// Replicas that would move while it lasts.
    pub moves: u64,
    /// How full the fullest disk of each data center would be, percent.
    pub disk_after_pct: BTreeMap<String, f64>,
    /// In a sentence.
    pub why: String,
}

/// What the canaries and the nodes told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// The longest wait of a canary's append between acknowledgements, milliseconds.
    pub gap_ms: u64,
    /// Whose that was.
    pub gap_whose: String,
    /// The same of plain gRPC clients that are told one node of each data center, milliseconds. No goal is
    /// about it.
    pub plain_gap_ms: u64,
    /// The longest that the controller's machine was late in running what was due, milliseconds: waits
    /// include that.
    pub late_ms: u64,
    /// Each client's.
    pub clients: Vec<ClientSeen>,
    /// Calls of all clients.
    pub calls: u64,
    /// Of them failed, with 5 s to live.
    pub failed: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// There more often than sent.
    pub duplicated: u64,
    /// Not in their order.
    pub reordered: u64,
    /// Reads that showed less than their level promises.
    pub stale: u64,
    /// Replicas that moved.
    pub moves: u64,
    /// Latency of appends, microseconds.
    pub p50_us: u64,
    /// As above.
    pub p99_us: u64,
    /// How full the fullest disk of each data center was at most, percent.
    pub disk_pct: BTreeMap<String, f64>,
}

/// One client of the canary workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientSeen {
    /// Its name.
    pub client: String,
    /// The data center that it is in.
    pub dc: String,
    /// What it does: send, stream, read-linearizable, read-session, read-bounded, read-local, tail. Of plain
    /// clients: kept (told one node that the plan leaves alone) and any (told one of each data center).
    pub kind: String,
    /// Its language: rust, python, node.
    pub language: String,
    /// Calls.
    pub calls: u64,
    /// Of them failed.
    pub failed: u64,
    /// Its longest wait, milliseconds, and when that began, Unix milliseconds.
    pub gap_ms: u64,
    /// As above.
    pub gap_at_ms: u64,
    /// What it met on the way, for people: the story of the worst one is told in the report.
    pub story: Vec<String>,
}

/// One promise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Oracle {
    /// Its letter: D O E L S U H G P A.
    pub promise: String,
    /// Whether it held; none = this drill does not tell.
    pub held: Option<bool>,
    /// How much was looked at.
    pub checked: u64,
    /// For people.
    pub text: String,
}

/// A file beside the paper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub file: String,
    /// blake3 of it, hex.
    pub digest: String,
}
