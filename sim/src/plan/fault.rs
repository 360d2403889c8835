//! What is done to a cluster.

use serde::{Deserialize, Serialize};

use super::Link;

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
