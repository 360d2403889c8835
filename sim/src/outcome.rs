//! What a run came to: what reports show, sweeps gather and CI reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// The promises of DESIGN.md, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Promise {
    /// D: acknowledged messages survive.
    D,
    /// O: numbers without gap or repeat.
    O,
    /// E: exactly once.
    E,
    /// L: one copy.
    L,
    /// S: honest staleness.
    S,
    /// U: one leader.
    U,
    /// H: identical replicas.
    H,
    /// G: no downtime.
    G,
    /// P: progress.
    P,
    /// A: operators' verbs work.
    A,
}

impl Promise {
    /// All of them.
    pub const ALL: [Promise; 10] = [
        Promise::D,
        Promise::O,
        Promise::E,
        Promise::L,
        Promise::S,
        Promise::U,
        Promise::H,
        Promise::G,
        Promise::P,
        Promise::A,
    ];

    /// Its letter.
    pub fn letter(self) -> char {
        match self {
            Promise::D => 'D',
            Promise::O => 'O',
            Promise::E => 'E',
            Promise::L => 'L',
            Promise::S => 'S',
            Promise::U => 'U',
            Promise::H => 'H',
            Promise::G => 'G',
            Promise::P => 'P',
            Promise::A => 'A',
        }
    }

    /// The promise of a letter.
    pub fn of(letter: char) -> Option<Promise> {
        Promise::ALL.into_iter().find(|p| p.letter() == letter)
    }

    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Promise::D => "durable",
            Promise::O => "ordered",
            Promise::E => "exactly once",
            Promise::L => "linearizable",
            Promise::S => "honest staleness",
            Promise::U => "one leader",
            Promise::H => "identical",
            Promise::G => "no downtime",
            Promise::P => "progress",
            Promise::A => "admin lives",
        }
    }

    /// Whether a break is a safety failure (exit code 3); of the others it is a goal missed.
    pub fn safety(self) -> bool {
        !matches!(self, Promise::G | Promise::P | Promise::A)
    }
}

/// A promise that was seen broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which promise.
    pub promise: Promise,
    /// The oracle that says so, kebab-case.
    pub oracle: String,
    /// The smallest evidence, for people.
    pub evidence: String,
}

/// What an oracle says of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The oracle's name, kebab-case.
    pub oracle: String,
    /// How many cases it looked at; 0 means that it judged nothing here.
    pub looked_at: u64,
    /// What it found, smallest evidence first, a few at most.
    pub broken: Vec<Broken>,
}

/// How a run ended, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// 0: everything expected held.
    Held,
    /// 1: an expectation on time, gaps or failed calls was missed.
    GoalMissed,
    /// 3: a safety promise was broken, or the product panicked.
    Broken,
}

impl Verdict {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Held => 0,
            Verdict::GoalMissed => 1,
            Verdict::Broken => 3,
        }
    }
}

/// What became of one promise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Whether it held; none when this run did not judge it.
    pub held: Option<bool>,
    /// What it waits for, when a miss is not yet a failure.
    pub pending: Option<String>,
    /// Cases looked at.
    pub looked_at: u64,
    /// What was found.
    pub broken: Vec<Broken>,
}

/// A number that was to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// `gap`, `failed-calls`, `recovery`, `acked`.
    pub name: String,
    /// As `≤ 3000 ms`.
    pub limit: String,
    /// As `412 ms`.
    pub measured: String,
    /// Whether it was reached.
    pub held: bool,
    /// What it waits for, when a miss is not yet a failure.
    pub pending: Option<String>,
}

/// Something that happened, for the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// ms after the load began.
    pub at_ms: u64,
    /// The fault's kind.
    pub kind: String,
    /// Whether it ends a fault.
    pub ends: bool,
    /// The timeline's line that it belongs to.
    pub line: u32,
    /// The hosts that it names one by one; none for what is between two sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The two sides of what is between two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(Vec<String>, Vec<String>)>,
    /// What it stands for in the scenario's story, as `15:19 fire`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub story: Option<String>,
    /// For people, as `seoul burns`.
    pub text: String,
}

/// A shard's leader from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    /// ms after the load began; negative before it.
    pub at_ms: i64,
    /// The shard; 0 is the meta shard.
    pub shard: u32,
    /// The leader's host.
    pub host: String,
    /// The term.
    pub term: u64,
}

/// One second of the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Acknowledged appends per client site.
    pub acked: BTreeMap<String, u64>,
    /// Latency of the appends acknowledged in it, ms.
    pub p50_ms: Option<u64>,
    /// As above.
    pub p99_ms: Option<u64>,
    /// As above.
    pub max_ms: Option<u64>,
    /// Calls that failed in it.
    pub failed: u64,
}

/// A part of a run, and what it took to make it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lap {
    /// Which part.
    pub phase: Phase,
    /// Simulated seconds; none pass while a run is judged.
    pub sim_seconds: f64,
    /// Real seconds.
    pub wall_seconds: f64,
    /// Seconds of a core.
    pub cpu_seconds: f64,
}

/// The parts of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Until the cluster serves.
    Founding,
    /// Clients call, faults happen.
    Load,
    /// Nothing is sent any more: replicas become equal, everything is read back.
    Rest,
    /// Oracles look at what was seen.
    Judging,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it stopped before its end, when it did: a panic, a cluster that did not come to life.
    pub stopped: Option<String>,
    /// Every promise.
    pub promises: BTreeMap<Promise, Judged>,
    /// Every number to reach.
    pub goals: Vec<Goal>,
    /// What each oracle looked at.
    pub oracles: Vec<(String, u64)>,
    /// The longest wait between two acknowledgements of one sender, ms, of the worst one.
    pub longest_gap_ms: u64,
    /// When the longest gap began and ended, ms after the load began.
    pub longest_gap_at_ms: (u64, u64),
    /// Calls that failed.
    pub failed_calls: u64,
    /// A few of them, for people.
    pub failed: Vec<String>,
    /// From the last heal until every shard served; none when nothing was healed.
    pub recovery_ms: Option<u64>,
    /// Acknowledged messages that were lost (recovery point).
    pub lost: u64,
    /// From the first fault until all senders were acknowledged again, ms (recovery time).
    pub rto_ms: Option<u64>,
    /// Messages acknowledged.
    pub acked: u64,
    /// Reads answered.
    pub reads: u64,
    /// Messages that tails were given.
    pub tailed: u64,
    /// Times that the clients tried again.
    pub retries: u64,
    /// Replicas that were made anew elsewhere, or that began again empty, and votes now.
    #[serde(default)]
    pub moves: u64,
    /// The running hash of everything that happened, hex.
    pub trace_hash: String,
    /// The hash at the end of each simulated second, hex.
    pub trace: Vec<String>,
    /// Things that went into it.
    pub trace_events: u64,
    /// Simulated seconds.
    pub sim_seconds: f64,
    /// Seconds that it took.
    pub wall_seconds: f64,
    /// The same of its parts; a run that was stopped has not all of them.
    #[serde(default)]
    pub laps: Vec<Lap>,
    /// What was done, in the order of time.
    pub timeline: Vec<Mark>,
    /// Who led what from when on.
    pub leaders: Vec<Led>,
    /// The load, second by second.
    pub seconds: Vec<Second>,
    /// The other layout's run, where the scenario has one that must visibly fail.
    pub control: Option<Box<Outcome>>,
    /// The command that makes this run again, where scenario, seed and tier do not say all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<String>,
}

impl Goal {
    /// The promise that is broken when this number is missed; none for one that stands for itself. A
    /// longer wait than was asked for is a goal missed: G is that no call fails.
    pub fn promise(&self) -> Option<Promise> {
        match self.name.as_str() {
            "failed-calls" => Some(Promise::G),
            "recovery" | "rest" => Some(Promise::P),
            _ => None,
        }
    }
}

impl Outcome {
    /// Of a run in which nothing was seen.
    pub fn unseen(plan: Plan, verdict: Verdict) -> Outcome {
        let promises = Promise::ALL.map(|promise| (promise, Judged::default()));
        Outcome {
            plan,
            verdict,
            stopped: None,
            promises: promises.into(),
            goals: Vec::new(),
            oracles: Vec::new(),
            longest_gap_ms: 0,
            longest_gap_at_ms: (0, 0),
            failed_calls: 0,
            failed: Vec::new(),
            recovery_ms: None,
            lost: 0,
            rto_ms: None,
            acked: 0,
            reads: 0,
            tailed: 0,
            retries: 0,
            moves: 0,
            trace_hash: String::new(),
            trace: Vec::new(),
            trace_events: 0,
            sim_seconds: 0.0,
            wall_seconds: 0.0,
            laps: Vec::new(),
            timeline: Vec::new(),
            leaders: Vec::new(),
            seconds: Vec::new(),
            control: None,
            repeat: None,
        }
    }

    /// The command that makes this run again.
    pub fn command(&self) -> String {
        if let Some(repeat) = &self.repeat {
            return repeat.clone();
        }
        let plan = &self.plan;
        let mut command = format!("firebreak sim run {} --seed {}", plan.scenario, plan.seed);
        if plan.tier == crate::plan::Tier::Direct {
            command.push_str(" --tier direct");
        }
        if plan.disk == crate::plan::DiskKind::Rocksdb {
            command.push_str(" --disk rocksdb");
        }
        command
    }
}
