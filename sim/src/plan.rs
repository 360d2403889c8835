//! A run as data: everything that was drawn for it, in whole numbers. What a scenario file and a
//! seed make, what a failing run writes, and what `replay` and `shrink` read. The same plan makes
//! the same run.

mod ends;
mod words;

pub use ends::closes;

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

/// Who sends and reads what, through the real client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// How long they do, ms.
    pub duration_ms: u64,
    /// Where clients are.
    pub sites: Vec<Site>,
    /// Conversations.
    pub rooms: u32,
    /// Exponent of the Zipf law by which senders and readers choose rooms, thousandths; 0 = evenly.
    /// Of no matter to senders that have rooms of their own.
    pub zipf_milli: u32,
    /// Each sender and each mover writes to a room of its own, the lowest first, so that no message
    /// waits for somebody else's.
    #[serde(default)]
    pub own_rooms: bool,
    /// Senders in all, spread over the sites; each sends one message after the other, or one burst.
    pub senders: u32,
    /// Messages that a sender on a stream has in flight at once, all to one room.
    #[serde(default = "one_at_a_time")]
    pub burst: (u32, u32),
    /// A sender's pause between an answer and its next message, ms.
    pub pause_ms: (u64, u64),
    /// Senders that use a stream, percent; the others make a call for each message.
    pub stream_percent: u32,
    /// Bytes of a message's body.
    pub body_bytes: (u32, u32),
    /// Messages that are sent a second time after their acknowledgement, under the same id and
    /// perhaps through another site, percent.
    pub resend_percent: u32,
    /// Readers of each level.
    pub readers: Readers,
    /// Tails, each of a drawn room.
    pub tails: u32,
    /// How often a tail hangs up and resumes from its cursor, ms; 0 = never.
    pub tail_resume_ms: u64,
    /// Sessions (a sender that reads its own room) that move from site to site.
    pub movers: u32,
    /// How long a mover stays at a site, ms.
    pub move_every_ms: u64,
    /// Clients that edit, erase and react to messages, each in a conversation of its own.
    #[serde(default)]
    pub changers: u32,
    /// How long a call may take, ms.
    pub deadline_ms: u64,
}

impl Workload {
    /// The rooms without which somebody who has one of their own would have to share it.
    pub fn rooms_needed(&self) -> u32 {
        match self.own_rooms {
            true => self.senders.saturating_add(self.movers),
            false => 0,
        }
    }

    /// The room of sender `k`, if it has one of its own.
    pub fn room_of_sender(&self, k: u32) -> Option<u32> {
        self.own_rooms.then(|| k % self.rooms.max(1))
    }

    /// The room of mover `k`, if it has one of its own.
    pub fn room_of_mover(&self, k: u32) -> Option<u32> {
        self.room_of_sender(self.senders.saturating_add(k))
    }
}

/// What plans that do not speak of bursts mean.
fn one_at_a_time() -> (u32, u32) {
    (1, 1)
}

/// A place where clients are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its host's name, as `client-seoul`.
    pub name: String,
    /// The data center that it is nearest to.
    pub dc: String,
    /// Whether it is inside, and shares the data center's fate; otherwise it is a few ms away.
    pub inside: bool,
}

/// Readers of each level; each reads a page, pauses, and reads again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readers {
    /// LINEARIZABLE.
    pub linearizable: u32,
    /// SESSION.
    pub session: u32,
    /// BOUNDED.
    pub bounded: u32,
    /// LOCAL.
    pub local: u32,
    /// The bound of BOUNDED, ms.
    pub bound_ms: u64,
    /// The pause, ms.
    pub pause_ms: (u64, u64),
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

/// What is done to a cluster. Hosts are named one by one; a data center was resolved to its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Silent stop, disks destroyed.
    Burn {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// Silent stop; disks keep what was synced and a drawn prefix of what was not.
    PowerCut {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// As a power cut of the machines behind living switches: connections are reset at once.
    Crash {
        /// Hosts.
        hosts: Vec<String>,
        /// Whether the disks are destroyed too.
        disks_lost: bool,
    },
    /// SIGKILL: connections are reset, what was written stays written.
    Kill {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// SIGTERM: the node stops as an operator stops it.
    Stop {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// Starts stopped hosts on what their disks hold.
    Start {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// No instruction runs; the network goes on.
    Pause {
        /// Hosts.
        hosts: Vec<String>,
        /// What their clocks do meanwhile.
        #[serde(default)]
        clocks: Standstill,
    },
    /// SIGCONT.
    Resume {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// The machines have more to do than processors: what runs there waits for its turn again and
    /// again. None = as usual.
    Starve {
        /// Hosts.
        hosts: Vec<String>,
        /// How they get their turns.
        starved: Option<Starved>,
    },
    /// Nothing goes from one group of hosts to the other.
    Cut {
        /// Hosts.
        from: Vec<String>,
        /// Hosts.
        to: Vec<String>,
        /// Whether what is sent is answered with a reset instead of silence.
        reset: bool,
    },
    /// The one group of hosts opens no connections to the other any more, as behind a firewall that
    /// lets them in only one way; those that are open stay.
    Block {
        /// Hosts.
        from: Vec<String>,
        /// Hosts.
        to: Vec<String>,
        /// false lets them again.
        block: bool,
    },
    /// Ends cuts between the groups.
    Heal {
        /// Hosts.
        from: Vec<String>,
        /// Hosts.
        to: Vec<String>,
    },
    /// Resets every connection between the groups; new ones are let through.
    Reset {
        /// Hosts.
        from: Vec<String>,
        /// Hosts.
        to: Vec<String>,
    },
    /// Changes how packets go from one data center to another (the client sites near it included);
    /// none = as the topology says.
    Link {
        /// Data center.
        from: String,
        /// Data center.
        to: String,
        /// How packets go from now on.
        link: Option<Link>,
    },
    /// How long syncs take from now on, ms; none = as usual.
    SlowSync {
        /// Hosts.
        hosts: Vec<String>,
        /// Least and most.
        sync_ms: Option<(u64, u64)>,
    },
    /// Syncs do not complete, until released.
    HangSync {
        /// Hosts.
        hosts: Vec<String>,
        /// false releases them.
        hang: bool,
    },
    /// Syncs fail; the node must stop itself.
    FailSync {
        /// Hosts.
        hosts: Vec<String>,
        /// false repairs the disk.
        fail: bool,
    },
    /// Room left on the disk, percent; none = as usual.
    DiskRoom {
        /// Hosts.
        hosts: Vec<String>,
        /// Percent free.
        free_percent: Option<u32>,
    },
    /// So many bytes are left on the disk, which the node's own writes fill; none = without end.
    SmallDisk {
        /// Hosts.
        hosts: Vec<String>,
        /// Bytes left.
        left_bytes: Option<u64>,
    },
    /// A bit of a stored record flips, and its checksum says so.
    BitFlip {
        /// Hosts.
        hosts: Vec<String>,
        /// Where.
        part: Part,
    },
    /// A record of the state vanishes from the disks of hosts, and no checksum says so.
    LoseRecord {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// The databases of the state are compacted: what is damaged in them is met.
    Compact {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// The disks of stopped hosts are replaced by empty ones.
    WipeDisk {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// Takes an image of the disks, to come back later.
    ImageDisk {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// The disks of stopped hosts are replaced by the image taken before.
    OldDisk {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// The hosts' nodes are at other addresses from their next start on. Their configurations name a new
    /// address of a node of each data center to ask; clients find all of them by name.
    Move {
        /// Hosts.
        hosts: Vec<String>,
        /// Each gets that of the next one, the last that of the first; otherwise nobody's.
        swap: bool,
    },
    /// The operator removes nodes from the cluster, through the admin API; they run on.
    Remove {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// Somebody calls these nodes as one of their peers and tells them, as its leader, of a term far
    /// beyond all that were.
    Forge {
        /// Hosts.
        hosts: Vec<String>,
    },
    /// The wall clock jumps by this, ms, and stays there.
    ClockJump {
        /// Hosts.
        hosts: Vec<String>,
        /// Forward or back.
        by_ms: i64,
    },
    /// All clocks of the hosts, the monotonic too, run fast or slow, parts per million; 0 = right.
    ClockDrift {
        /// Hosts.
        hosts: Vec<String>,
        /// Forward is faster.
        ppm: i64,
    },
    /// The operator drains nodes through the admin API, or takes them back.
    Drain {
        /// Hosts.
        hosts: Vec<String>,
        /// false takes them back.
        drain: bool,
    },
    /// The operator sends a replica of some shard to each of these nodes, from another one, or takes
    /// that back.
    MoveTo {
        /// Hosts.
        hosts: Vec<String>,
        /// Takes back what is on its way there.
        back: bool,
    },
    /// A drill has nodes put a silence on themselves, which lives only as long as it is renewed; or it is
    /// over.
    Drill {
        /// Hosts.
        hosts: Vec<String>,
        /// How its controller does; none = it is over.
        drill: Option<Drill>,
    },
    /// Every client of these sites drops its connections and comes back at once.
    Stampede {
        /// Client sites.
        hosts: Vec<String>,
    },
}

/// How the controller of a drill does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// How long a fault lives without being renewed, ms.
    pub ttl_ms: u64,
    /// How long the controller lives, ms; then it renews nothing, and says nothing. None = it does so until
    /// the drill is over, and ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews_ms: Option<u64>,
}

/// What the clocks of a machine do that stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standstill {
    /// All go on, as those of a process that is stopped do: then the process finds that they leapt.
    #[default]
    GoOn,
    /// The monotonic clock stands still, and the machine knows for how long, as one that was suspended
    /// does.
    Suspended,
    /// The monotonic clock stands still, and nothing on the machine knows of it, as in a virtual
    /// machine that is stopped as a whole.
    Unknown,
}

/// How a process gets its turns on a processor that others want, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Starved {
    /// Of all time, that in which it runs, percent.
    pub share_percent: u32,
    /// How long it waits for each turn, ms, drawn: least and most.
    pub wait_ms: (u64, u64),
}

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// An entry of a log.
    Log,
    /// A vote.
    Vote,
    /// A record of the state.
    State,
    /// A kept snapshot file.
    Snapshot,
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

/// The hosts that a fault names one by one, shared or exclusive as the fault is given; none where
/// it names two sides.
macro_rules! named_hosts {
    ($fault:expr) => {
        match $fault {
            Fault::Burn { hosts }
            | Fault::PowerCut { hosts }
            | Fault::Crash { hosts, .. }
            | Fault::Kill { hosts }
            | Fault::Stop { hosts }
            | Fault::Start { hosts }
            | Fault::Pause { hosts, .. }
            | Fault::Resume { hosts }
            | Fault::Starve { hosts, .. }
            | Fault::SlowSync { hosts, .. }
            | Fault::HangSync { hosts, .. }
            | Fault::FailSync { hosts, .. }
            | Fault::DiskRoom { hosts, .. }
            | Fault::SmallDisk { hosts, .. }
            | Fault::BitFlip { hosts, .. }
            | Fault::LoseRecord { hosts }
            | Fault::Compact { hosts }
            | Fault::WipeDisk { hosts }
            | Fault::ImageDisk { hosts }
            | Fault::OldDisk { hosts }
            | Fault::Move { hosts, .. }
            | Fault::Remove { hosts }
            | Fault::Forge { hosts }
            | Fault::ClockJump { hosts, .. }
            | Fault::ClockDrift { hosts, .. }
            | Fault::Drain { hosts, .. }
            | Fault::MoveTo { hosts, .. }
            | Fault::Drill { hosts, .. }
            | Fault::Stampede { hosts } => Some(hosts),
            Fault::Cut { .. }
            | Fault::Block { .. }
            | Fault::Heal { .. }
            | Fault::Reset { .. }
            | Fault::Link { .. } => None,
        }
    };
}

impl Fault {
    /// The hosts that it names one by one; none for what is between two sides.
    pub fn hosts(&self) -> &[String] {
        named_hosts!(self).map_or(&[], Vec::as_slice)
    }

    /// As [`Fault::hosts`], to be changed.
    pub fn hosts_mut(&mut self) -> Option<&mut Vec<String>> {
        named_hosts!(self)
    }

    /// Its kind, as scenario files and coverage tables name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Burn { .. } => "burn",
            Fault::PowerCut { .. } => "power-cut",
            Fault::Crash { .. } => "crash",
            Fault::Kill { .. } => "kill",
            Fault::Stop { .. } => "stop",
            Fault::Start { .. } => "start",
            Fault::Pause { .. } => "pause",
            Fault::Resume { .. } => "resume",
            Fault::Starve { .. } => "starve",
            Fault::Cut { .. } => "cut",
            Fault::Block { .. } => "block",
            Fault::Heal { .. } => "heal",
            Fault::Reset { .. } => "reset",
            Fault::Link { .. } => "link",
            Fault::SlowSync { .. } => "slow-sync",
            Fault::HangSync { .. } => "hang-sync",
            Fault::FailSync { .. } => "fail-sync",
            Fault::DiskRoom { .. } => "disk-room",
            Fault::SmallDisk { .. } => "small-disk",
            Fault::BitFlip { .. } => "bit-flip",
            Fault::LoseRecord { .. } => "lose-record",
            Fault::Compact { .. } => "compact",
            Fault::WipeDisk { .. } => "wipe-disk",
            Fault::ImageDisk { .. } => "image-disk",
            Fault::OldDisk { .. } => "old-disk",
            Fault::Move { .. } => "move",
            Fault::Remove { .. } => "remove",
            Fault::Forge { .. } => "forge",
            Fault::ClockJump { .. } => "clock-jump",
            Fault::ClockDrift { .. } => "clock-drift",
            Fault::Drain { .. } => "drain",
            Fault::MoveTo { .. } => "move-to",
            Fault::Drill { .. } => "drill",
            Fault::Stampede { .. } => "stampede",
        }
    }

    /// Whether it ends a fault rather than begins one.
    pub fn ends(&self) -> bool {
        match self {
            Fault::Start { .. } | Fault::Resume { .. } | Fault::Heal { .. } => true,
            Fault::Starve { starved, .. } => starved.is_none(),
            Fault::Link { link, .. } => link.is_none(),
            Fault::SlowSync { sync_ms, .. } => sync_ms.is_none(),
            Fault::HangSync { hang, .. } => !hang,
            Fault::FailSync { fail, .. } => !fail,
            Fault::DiskRoom { free_percent, .. } => free_percent.is_none(),
            Fault::SmallDisk { left_bytes, .. } => left_bytes.is_none(),
            Fault::ClockDrift { ppm, .. } => *ppm == 0,
            Fault::Drain { drain, .. } => !drain,
            Fault::Block { block, .. } => !block,
            Fault::MoveTo { back, .. } => *back,
            Fault::Drill { drill, .. } => drill.is_none(),
            _ => false,
        }
    }
}
