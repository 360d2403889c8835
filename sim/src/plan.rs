//! A run as data: everything that was drawn for it, in whole numbers. What a scenario file and a
//! seed make, what a failing run writes, and what `replay` and `shrink` read. The same plan makes
//! the same run.

mod ends;
mod fault;
mod words;
mod workload;

pub use ends::closes;

pub use self::fault::{Drill, Fault, Part, Standstill, Starved};
pub use self::workload::{Readers, Site, Workload};
use serde::{Deserialize, Serialize};

/// Format of a plan's file.
pub const FORMAT: u32 = 1;

/// A run to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// What it is about, one sentence.
    pub about: String,
    /// Where all chance of the run comes from.
    pub seed: u64,
    /// What carries calls.
    pub tier: Tier,
    /// What is under the nodes.
    pub disk: DiskKind,
    /// Whether this is the layout that must visibly fail.
    pub control: bool,
    /// Where the nodes stand.
    pub topology: Topology,
    /// Who sends and reads what.
    pub workload: Workload,
    /// What is done to the cluster, in the order of time.
    pub events: Vec<Event>,
    /// What must hold.
    pub expect: Expect,
}

/// What carries calls between hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The whole gRPC stack: HTTP/2 over simulated TCP connections.
    #[default]
    Grpc,
    /// The same calls, handed over without HTTP/2: faster.
    Direct,
}

/// What is under the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskKind {
    /// The simulated disk.
    #[default]
    Memory,
    /// RocksDB in a temporary folder, only in a build with it: slower, and some faults are not for it
    /// ([`crate::host::refuse`]).
    Rocksdb,
}

/// Where the nodes stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Data centers; the first node of the first one founds the cluster.
    pub dcs: Vec<Dc>,
    /// Between hosts of one data center.
    pub local: Link,
    /// Between data centers that `links` says nothing of.
    pub wan: Link,
    /// From one data center to another; each direction by itself.
    pub links: Vec<DirectedLink>,
    /// Data shards; 0 lets the product choose.
    pub shards: u32,
    /// Replicas of a shard: 3 or 5.
    pub replicas: u32,
    /// How long a node is gone before its replicas are replaced, ms; 0 lets the product choose.
    #[serde(default)]
    pub replace_after_ms: u64,
    /// How often everything is read back and compared, ms; 0 lets the product choose.
    #[serde(default)]
    pub scrub_every_ms: u64,
    /// Data centers that should lead, best first; empty = as laid out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
}

/// A data center.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dc {
    /// Its name, the `dc` label of its nodes.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The building that it is in. Its own name, unless a control layout puts several in one.
    pub building: String,
    /// Its nodes.
    pub nodes: Vec<NodeSpec>,
}

/// A node of a data center.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its host's name, as `seoul-1`.
    pub name: String,
    /// Its rack.
    pub rack: String,
    /// When it joins, ms after the load began; none when it is there from the beginning.
    pub joins_at_ms: Option<u64>,
    /// Its `raft.read_lease_ms`; none when the seed chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_lease_ms: Option<u64>,
}

/// How packets go one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One way, drawn evenly for each segment: least and most, microseconds.
    pub latency_us: (u64, u64),
    /// Added to it, 0 to this, microseconds.
    pub jitter_us: u64,
    /// Segments lost, of a million; each is sent again as TCP does.
    pub loss_ppm: u32,
    /// Bytes per second; 0 = no bound.
    pub bandwidth_bytes: u64,
}

/// A link from one data center to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectedLink {
    /// Data center.
    pub from: String,
    /// Data center.
    pub to: String,
    /// How packets go.
    pub link: Link,
}

/// A fault, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, ms after the load began.
    pub at_ms: u64,
    /// Which line of the timeline it came from, 0 being the first: a fault and its end share it, so
    /// that shrinking takes them away together.
    pub line: u32,
    /// What.
    pub fault: Fault,
    /// What it stands for in the scenario's story, as `15:19 fire`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Letters of the promises that must hold here, in the order of DESIGN.md; the others are
    /// judged, but a miss is not this scenario's failure.
    pub promises: String,
    /// The longest wait between two acknowledgements of one sender's messages, ms.
    pub gap_max_ms: Option<u64>,
    /// How long a LINEARIZABLE read may take, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_max_ms: Option<u64>,
    /// How long a tail may leave out a message that was acknowledged, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail_max_ms: Option<u64>,
    /// Calls that may fail.
    pub failed_calls_max: Option<u64>,
    /// From the last heal until every shard serves, ms.
    pub recovery_max_ms: Option<u64>,
    /// How long a refusal inside of a data center that is cut off may take, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal_max_ms: Option<u64>,
    /// The age that 99 of 100 LOCAL reads may admit to, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_p99_max_ms: Option<u64>,
    /// How long a shard may be without a leader once it had one, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaderless_max_ms: Option<u64>,
    /// From the end of the load until the replicas are equal.
    #[serde(default)]
    pub rest_max_ms: Option<u64>,
    /// Files of snapshots that may be installed from the begin of the load to the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots_max: Option<u64>,
    /// Fewer acknowledgements mean that hardly anything was tested.
    pub acked_min: u64,
    /// What waits for work to come; a miss of these is told and does not fail the run.
    pub pending: Vec<Pending>,
}

/// An expectation that waits for work to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// A promise's letter, or `gap`, `reads`, `tails`, `failed-calls`, `recovery`, `refusals`, `age-p99`,
    /// `leaderless`, `rest`, `snapshots`.
    pub what: String,
    /// What it waits for.
    pub why: String,
}

impl Topology {
    /// Every node of every data center.
    pub fn nodes(&self) -> impl Iterator<Item = (&Dc, &NodeSpec)> {
        let dcs = self.dcs.iter();
        dcs.flat_map(|dc| dc.nodes.iter().map(move |node| (dc, node)))
    }
}
