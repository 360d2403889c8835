//! A recorded night as a plan: topology, policies, load, and the faults as the nodes felt them, so that it
//! can be run again, and what was recorded can be drawn as a run is.
//!
//! ```text
//!  Night, Account ─► Window ─► plan ─┬─► run, on some seeds ─► Outcome ─┐
//!                                    └─► recorded ─► Outcome ───────────┴─► compare ─► text, page, JSON
//! ```

pub mod compare;
pub(crate) mod load;
pub mod page;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::record::What;
use server::night::Night;
use server::night::account::Account;
use server::night::felt::{Felt, Kind};

use crate::plan::{
    Dc, DirectedLink, DiskKind, Event, Expect, FORMAT, Fault, Link, NodeSpec, Plan, Standstill,
    Tier, Topology,
};

pub use recorded::recorded;

/// In front of the first fault, and behind the last, ms.
const BEFORE_MS: u64 = 8_000;
const BEHIND_MS: u64 = 20_000;
/// A fault that lasts longer is cut there: what comes later is as it was, ms.
const LASTS_MS_MAX: u64 = 45_000;
/// The longest time that is replayed, ms.
const LENGTH_MS_MAX: u64 = 180_000;
/// Data shards that are replayed.
const SHARDS_MAX: usize = 48;
/// Of what links show, ways within a data center where none is known.
const LOCAL: Link = Link {
    latency_us: (300, 600),
    jitter_us: 100,
    loss_ppm: 0,
    bandwidth_bytes: 0,
};

/// The part of a night that is looked at, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

impl Window {
    /// All of it.
    pub fn whole(night: &Night) -> Window {
        Window {
            from_ms: night.from_ms,
            to_ms: night.to_ms,
        }
    }

    /// Around what was felt; from the begin where nothing was.
    pub fn around(night: &Night, account: &Account) -> Window {
        let first = account.felt.iter().map(|felt| felt.from_ms).min();
        let last = account.felt.iter().map(ends_ms).max();
        let from_ms = first.map_or(night.from_ms, |first| first.saturating_sub(BEFORE_MS));
        let to_ms = last.map_or(night.to_ms, |last| last + BEHIND_MS);
        Window {
            from_ms,
            to_ms: to_ms.min(from_ms + LENGTH_MS_MAX),
        }
    }

    fn ms(self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.from_ms)
    }
}

/// When a fault ends in the replay, or is over for what is looked at.
fn ends_ms(felt: &Felt) -> u64 {
    let most = felt.from_ms + LASTS_MS_MAX;
    felt.to_ms.map_or(most, |to| to.min(most))
}

/// What is to be other than it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counterfactual {
    /// Data centers that should lead, best first; none = as it was.
    pub prefer: Option<Vec<String>>,
    /// Replicas of a shard; none = as it was.
    pub replicas: Option<u32>,
}

/// A night as a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Translated {
    /// The plan, for seed 1.
    pub plan: Plan,
    /// What of the night is not in it, for people.
    pub not_in_it: Vec<String>,
}

/// The plan of a night's part. With `short` faults are cut where nothing is expected of their rest.
///
/// # Errors
/// What the night lacks.
pub fn plan(
    night: &Night,
    account: &Account,
    window: Window,
    other: &Counterfactual,
    short: bool,
) -> Result<Translated, String> {
    if night.cluster.nodes.is_empty() {
        return Err(
            "the record has no map of the cluster: no node's recorder told it, so that nothing can be \
             placed"
                .to_owned(),
        );
    }
    let mut not_in_it = Vec::new();
    let topology = topology(night, other, &mut not_in_it);
    let events = events(night, account, window, short, &mut not_in_it);
    let workload = load::workload(night, account, window, &mut not_in_it);
    let plan = Plan {
        format: FORMAT,
        scenario: "recorded-night".to_owned(),
        about: about(night, window),
        seed: 1,
        tier: Tier::Grpc,
        disk: DiskKind::Memory,
        control: false,
        topology,
        workload,
        events,
        expect: Expect {
            promises: "DOELSUH".to_owned(),
            ..Expect::default()
        },
    };
    Ok(Translated { plan, not_in_it })
}

fn about(night: &Night, window: Window) -> String {
    let nodes = night.cluster.nodes.len();
    let seconds = (window.to_ms - window.from_ms) / 1_000;
    format!("{seconds} s of a recorded night of {nodes} nodes, as they felt it.")
}

/// Where the nodes stand, as a night has it; what of that is otherwise is added to `not_in_it`.
pub(crate) fn topology(
    night: &Night,
    other: &Counterfactual,
    not_in_it: &mut Vec<String>,
) -> Topology {
    let cluster = &night.cluster;
    let tuning = cluster.tuning.unwrap_or_default();
    let mut dcs: Vec<Dc> = Vec::new();
    for node in &cluster.nodes {
        let spec = NodeSpec {
            name: node.name.clone(),
            rack: node.rack.clone(),
            joins_at_ms: None,
            read_lease_ms: cluster.tuning.map(|tuning| tuning.read_lease_ms),
        };
        match dcs.iter_mut().find(|dc| dc.name == node.dc) {
            Some(dc) => dc.nodes.push(spec),
            None => dcs.push(Dc {
                name: node.dc.clone(),
                region: node.region.clone(),
                building: node.dc.clone(),
                nodes: vec![spec],
            }),
        }
    }
    let default = raft::Tuning::default();
    if tuning.heartbeat_ms != 0 && tuning.heartbeat_ms != default.heartbeat_ms {
        let own = tuning.heartbeat_ms;
        not_in_it.push(format!(
            "raft.heartbeat_ms is {own} there and {} in the simulator",
            default.heartbeat_ms
        ));
    }
    let data: Vec<_> = cluster.shards.iter().filter(|s| s.shard != 0).collect();
    if data.len() > SHARDS_MAX {
        not_in_it.push(format!("{SHARDS_MAX} shards instead of {}", data.len()));
    }
    let most = data.iter().map(|shard| shard.replicas.len()).max();
    let replicas = match most.unwrap_or(3) {
        0..=3 => 3,
        _ => 5,
    };
    let prefer = data.first().map(|shard| shard.prefer.clone());
    let (links, local) = ways(night);
    Topology {
        dcs,
        local,
        wan: links.first().map_or(LOCAL, |one| one.link),
        links,
        shards: u32::try_from(data.len().clamp(1, SHARDS_MAX)).unwrap_or(1),
        replicas: other.replicas.unwrap_or(replicas),
        replace_after_ms: tuning.replace_after_ms,
        scrub_every_ms: 0,
        prefer: other.prefer.clone().or(prefer).unwrap_or_default(),
    }
}

/// The ways between data centers, as the shortest rounds between their nodes were, and those within one.
fn ways(night: &Night) -> (Vec<DirectedLink>, Link) {
    let mut rounds: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut see = |by: u64, peer: u64, round_us: u64| {
        let (a, b) = (night.dc_of(by), night.dc_of(peer));
        if round_us > 0 && !a.is_empty() && !b.is_empty() {
            let pair = (a.min(b).to_owned(), a.max(b).to_owned());
            let known = rounds.entry(pair).or_insert(round_us);
            *known = round_us.min(*known);
        }
    };
    let events = night.events();
    let told = events.iter().map(|(_, by, what)| (*by, *what));
    for (by, what) in night.heads().chain(told) {
        match what {
            What::Links(links) => {
                for link in links.links.iter().filter(|link| link.up) {
                    see(by, link.peer, u64::from(link.round_us));
                }
            }
            What::Verdict(verdict) => see(by, verdict.peer, verdict.round_us),
            _ => {}
        }
    }
    let link = |round_us: u64| {
        let one_way = (round_us / 2).clamp(50, 500_000);
        Link {
            latency_us: (one_way, one_way),
            jitter_us: one_way / 20,
            loss_ppm: 0,
            bandwidth_bytes: 0,
        }
    };
    let within = rounds.iter().filter(|((a, b), _)| a == b);
    let local = within.map(|(_, round)| *round).min().map_or(LOCAL, link);
    let apart = rounds.iter().filter(|((a, b), _)| a != b);
    let links = apart.flat_map(|((a, b), round)| {
        let way = |from: &String, to: &String| DirectedLink {
            from: from.clone(),
            to: to.clone(),
            link: link(*round),
        };
        [way(a, b), way(b, a)]
    });
    (links.collect(), local)
}

/// What was felt, as faults.
fn events(
    night: &Night,
    account: &Account,
    window: Window,
    short: bool,
    not_in_it: &mut Vec<String>,
) -> Vec<Event> {
    let names = night.names();
    let mut events = Vec::new();
    for (line, felt) in (0..).zip(&account.felt) {
        let named = |ids: &BTreeSet<u64>| -> Vec<String> {
            ids.iter().filter_map(|id| names.get(id).cloned()).collect()
        };
        let (begins, ends) = faults(felt, named(&felt.nodes), named(&felt.others));
        let mut add = |at_ms: u64, faults: Vec<Fault>| {
            events.extend(faults.into_iter().map(|fault| Event {
                at_ms: window.ms(at_ms),
                line,
                fault,
                label: None,
            }));
        };
        add(felt.from_ms, begins);
        let to = match (short, felt.to_ms) {
            (true, Some(_)) => Some(ends_ms(felt)),
            (_, to) => to,
        };
        if to != felt.to_ms {
            let lasted = felt.to_ms.map_or(0, |to| to - felt.from_ms) / 1_000;
            let whom = named(&felt.nodes).join(", ");
            not_in_it.push(format!(
                "{whom}: {} s of the {lasted} s that it lasted",
                LASTS_MS_MAX / 1_000
            ));
        }
        if let Some(to) = to.filter(|to| *to <= window.to_ms) {
            add(to, ends);
        }
    }
    events.sort_by_key(|event| event.at_ms);
    events
}

/// What begins and what ends something that was felt.
fn faults(felt: &Felt, hosts: Vec<String>, others: Vec<String>) -> (Vec<Fault>, Vec<Fault>) {
    let hosts = || hosts.clone();
    let start = || vec![Fault::Start { hosts: hosts() }];
    let resume = || vec![Fault::Resume { hosts: hosts() }];
    let pause = |clocks| {
        let hosts = hosts();
        vec![Fault::Pause { hosts, clocks }]
    };
    match felt.kind {
        Kind::Stopped => (vec![Fault::Stop { hosts: hosts() }], start()),
        Kind::Killed => (vec![Fault::Kill { hosts: hosts() }], start()),
        Kind::PowerLost => (vec![Fault::PowerCut { hosts: hosts() }], start()),
        Kind::Still => (pause(Standstill::GoOn), resume()),
        Kind::Suspended => (pause(Standstill::Suspended), resume()),
        Kind::CutOff => {
            let ways = [(hosts(), others.clone()), (others, hosts())];
            let cut = |(from, to): &(Vec<String>, Vec<String>)| Fault::Cut {
                from: from.clone(),
                to: to.clone(),
                reset: false,
            };
            let heal = |(from, to): &(Vec<String>, Vec<String>)| Fault::Heal {
                from: from.clone(),
                to: to.clone(),
            };
            (
                ways.iter().map(cut).collect(),
                ways.iter().map(heal).collect(),
            )
        }
        Kind::DiskStalled => {
            let hang = |hang| {
                let hosts = hosts();
                vec![Fault::HangSync { hosts, hang }]
            };
            (hang(true), hang(false))
        }
        Kind::Drained => {
            let drain = |drain| {
                let hosts = hosts();
                vec![Fault::Drain { hosts, drain }]
            };
            (drain(true), drain(false))
        }
        Kind::ClockOff => {
            let jump = |by_ms| {
                let hosts = hosts();
                vec![Fault::ClockJump { hosts, by_ms }]
            };
            (jump(felt.off_ms), jump(-felt.off_ms))
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
