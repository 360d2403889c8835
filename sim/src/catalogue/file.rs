//! A scenario as its file says it, before anything is drawn: valid, typed, in ms and
//! microseconds. What a seed makes of it is in `draw`.

use super::units::Window;
use crate::plan::{DirectedLink, DiskKind, Expect, Link, Part, Standstill, Starved, Workload};

/// A scenario as its file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioFile {
    /// The file's name without its ending.
    pub name: String,
    /// What it is about, one sentence.
    pub about: String,
    /// What is under the nodes, unless the command says otherwise.
    pub disk: DiskKind,
    pub(super) topology: Topology,
    pub(super) workload: Workload,
    pub(super) aliases: Aliases,
    pub(super) lines: Vec<Line>,
    pub(super) expect: Expect,
    pub(super) control: Option<Control>,
    pub(super) swarm: Swarm,
    pub(super) trainer: Option<Trainer>,
}

/// Where nodes stand, before their number is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    pub dcs: Vec<Dc>,
    /// Nodes of each data center that does not say its own: drawn once for all of these.
    pub nodes: (u32, u32),
    pub joins: Vec<Join>,
    pub local: Link,
    pub wan: Link,
    pub links: Vec<DirectedLink>,
    pub shards: u32,
    pub replicas: u32,
    pub replace_after_ms: u64,
    /// What each node's `raft.read_lease_ms` is drawn from; none when the seed chooses.
    pub read_lease_ms: Option<Vec<(i64, i64)>>,
    pub scrub_every_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dc {
    pub name: String,
    pub region: String,
    pub building: String,
    pub nodes: Option<(u32, u32)>,
    pub racks: u32,
}

/// A node that joins during the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Join {
    /// A data center or an alias.
    pub dc: String,
    pub at_ms: Window,
}

/// Names that a seed gives to something: those of data centers are all different, those of nodes
/// too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Aliases {
    pub dcs: Vec<String>,
    pub nodes: Vec<String>,
}

/// The layout that must visibly fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    /// Data centers by the building that they stand in there.
    pub buildings: Vec<(String, Vec<String>)>,
}

/// What is right to do, for whoever is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trainer {
    /// The data center that is to be drained.
    pub dc: String,
    /// So long behind the first event.
    pub at_ms: u64,
    pub why: String,
}

/// What a seed adds and leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Swarm {
    /// Whether every plan of this scenario is one.
    pub always: bool,
    pub kinds: Vec<Kind>,
    pub faults: (u32, u32),
    pub window_ms: Window,
    /// Whether lines of the timeline may be left out.
    pub leave_out: bool,
}

/// A line of the timeline: one fault, perhaps again and again, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub at_ms: Window,
    /// The line from whose beginning `at_ms` counts.
    pub after: Option<usize>,
    /// How long it lasts; none = for good, or nothing to end.
    pub lasts_ms: Option<Window>,
    /// How likely it happens at all, and how likely it ends, parts of a million.
    pub chance: u32,
    pub ends: u32,
    pub repeat: Repeat,
    pub target: Target,
    pub action: Action,
    /// What it stands for.
    pub story: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeat {
    /// From one beginning to the next, ms.
    pub every_ms: Window,
    /// How often in all, for the same target.
    pub times: u32,
    /// One part of the target after the other.
    pub each: Option<Each>,
    /// Whether the parts' order is drawn.
    pub shuffle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    Node,
    Rack,
    Dc,
}

/// Whom it befalls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub building: Option<Pick>,
    pub dc: Option<Pick>,
    pub rack: Option<Pick>,
    pub node: Option<Pick>,
    pub site: Option<Pick>,
    /// Data centers, aliases and nodes that it spares.
    pub except: Vec<String>,
    /// Of faults between places.
    pub from: Vec<String>,
    pub to: Vec<String>,
    /// Whether it goes both ways.
    pub both: bool,
}

/// Which ones of what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    All,
    /// So many, drawn.
    Any(u32),
    Named(Vec<String>),
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Burn,
    PowerCut,
    Crash {
        disks_lost: bool,
    },
    Kill,
    Stop,
    Start,
    Pause {
        clocks: Standstill,
    },
    Resume,
    Starve(Starved),
    Silence {
        reset: bool,
    },
    Cut {
        reset: bool,
    },
    Block,
    Heal,
    Reset,
    Link(LinkChange),
    SlowSync {
        sync_ms: Window,
    },
    HangSync,
    FailSync,
    DiskRoom {
        free_percent: (u32, u32),
    },
    SmallDisk {
        left_bytes: (u32, u32),
    },
    BitFlip {
        parts: Vec<Part>,
    },
    LoseRecord,
    Compact,
    WipeDisk,
    ImageDisk,
    OldDisk,
    Move {
        swap: bool,
    },
    Remove,
    Forge,
    ClockJump {
        by_ms: Vec<(i64, i64)>,
    },
    ClockDrift {
        ppm: Vec<(i64, i64)>,
    },
    Drain,
    Undrain,
    MoveTo,
    Drill {
        ttl_ms: Window,
        renews_ms: Option<Window>,
    },
    Stampede,
}

/// What a link fault changes; the rest stays as the topology says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkChange {
    pub latency_us: Option<Window>,
    pub jitter_us: Option<u64>,
    pub loss_ppm: Option<(u32, u32)>,
    pub bandwidth_bytes: Option<u64>,
}

/// A kind of fault as swarms draw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Burn,
    Crash,
    PowerCut,
    Kill,
    Stop,
    Silence,
    Flap,
    AsymmetricCut,
    Bridge,
    Reset,
    Loss,
    Latency,
    Pause,
    Starve,
    SlowSync,
    HangSync,
    FailSync,
    DiskRoom,
    BitFlip,
    ClockJump,
    ClockDrift,
    Drain,
    Stampede,
}

impl Topology {
    /// The fewest nodes that a data center may be given.
    pub fn least_nodes(&self, dc: &Dc) -> u32 {
        dc.nodes.unwrap_or(self.nodes).0
    }
}
