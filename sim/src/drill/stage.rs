//! The present cluster, and a drill on it, as plans of runs.

use std::collections::{BTreeMap, BTreeSet};

use server::drill::plan::{Caps, DrillPlan as Drill, Goals};
use server::drill::verb::Verb;
use server::night::Night;
use server::night::account::Account;

use super::steps::Place;
use crate::night::{self, Counterfactual, load};
use crate::plan::{
    DiskKind, Event, Expect, FORMAT, Fault, Plan, Readers, Tier, Topology, Workload,
};

/// The longest calm time in front of the first step, and behind the last, ms.
const BEFORE_MS_MAX: u64 = 5_000;
/// Behind the last step, at least and at most, ms.
const AFTER_MS: (u64, u64) = (8_000, 20_000);
/// Without a begin or an end of a step in it, a stretch of a drill is cut to this, ms.
const STRETCH_MS_MAX: u64 = 45_000;
/// The longest that is rehearsed, ms.
const LENGTH_MS_MAX: u64 = 600_000;
/// A step that has no end lasts to the end of the drill, and at least this long, ms.
const LASTS_MS_MIN: u64 = 1_000;
/// Nodes that a run can have.
const NODES_MAX: usize = 30;
/// How long it is looked at what a verb does, ms: replicas move meanwhile.
const VERB_MS: u64 = 30_000;
/// How long a drill goes on once something else burns: within this an abort has undone all of it, ms.
const ABORT_MS: u64 = 10_000;
/// The line of the timeline that the fire has.
pub const FIRE_LINE: u32 = 1_000;
/// Senders near each data center, and in all.
const SENDERS_EACH: u32 = 4;
/// As above.
const SENDERS_MAX: u32 = 24;
/// Between an answer and the next message of a sender, ms: what the longest gap has beside the wait.
const PAUSE_MS: (u64, u64) = (60, 100);
/// A body, bytes.
const BODY_BYTES: (u64, u64) = (16, 16_384);
/// A call's time to live, ms, as the canaries have it.
const DEADLINE_MS: u64 = 5_000;

/// A drill on the present cluster, ready to be run on any seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Without its events.
    base: Plan,
    drill: Drill,
    /// Begin and end of each step, ms after the load began.
    times: Vec<(u64, u64)>,
    /// What an operator does, which nothing takes back.
    deeds: Vec<Event>,
    /// What the simulator does not know of it, for people.
    pub not_in_it: Vec<String>,
}

impl Stage {
    /// Of a drill, and of the present cluster as its recorders have it.
    ///
    /// # Errors
    /// Why the drill cannot be rehearsed there, and what would be right.
    pub fn of(drill: &Drill, night: &Night, tier: Tier) -> Result<Stage, String> {
        sized(night)?;
        known(drill, night)?;
        let mut not_in_it = Vec::new();
        let topology = night::topology(night, &Counterfactual::default(), &mut not_in_it);
        let (times, end_ms) = times(drill, &mut not_in_it)?;
        let workload = workload(night, end_ms, &mut not_in_it);
        not_in_it.extend(unknown().map(str::to_owned));
        let stage = Stage {
            base: base(drill, topology, workload, tier),
            drill: drill.clone(),
            times,
            deeds: Vec::new(),
            not_in_it,
        };
        let otherwise = stage.steps(&stage.drill).1;
        let mut not_in_it = stage.not_in_it.clone();
        not_in_it.extend(otherwise);
        Ok(Stage { not_in_it, ..stage })
    }

    /// Of what an operator is about to do.
    ///
    /// # Errors
    /// Why it cannot be rehearsed there, and what would be right.
    pub fn verb(verb: &Verb, night: &Night, tier: Tier) -> Result<Stage, String> {
        sized(night)?;
        let mut not_in_it = Vec::new();
        let mut other = Counterfactual::default();
        let deed = match verb {
            Verb::Drain { nodes } => Some(Fault::Drain {
                hosts: nodes.clone(),
                drain: true,
            }),
            Verb::Remove { node } => Some(Fault::Remove {
                hosts: vec![node.clone()],
            }),
            Verb::Move { to, .. } => {
                not_in_it.push(format!("which shard's replica it is that goes to {to}"));
                Some(Fault::MoveTo {
                    hosts: vec![to.clone()],
                    back: false,
                })
            }
            Verb::Prefer { dcs } => {
                not_in_it.push(
                    "the way there: leaders stand where the policy wants them from the begin; what else a \
                     policy says, as replicas and survive"
                        .to_owned(),
                );
                other.prefer = Some(dcs.clone());
                None
            }
        };
        let hosts = deed.iter().flat_map(|deed| deed.hosts());
        let names: BTreeSet<&str> = night
            .cluster
            .nodes
            .iter()
            .map(|n| n.name.as_str())
            .collect();
        for host in hosts {
            if !names.contains(host.as_str()) {
                return Err(format!("the record of the cluster has no node {host}"));
            }
        }
        let topology = night::topology(night, &other, &mut not_in_it);
        let times = vec![(BEFORE_MS_MAX, BEFORE_MS_MAX + VERB_MS)];
        let end_ms = BEFORE_MS_MAX + VERB_MS + AFTER_MS.0;
        let workload = workload(night, end_ms, &mut not_in_it);
        not_in_it.extend(unknown().map(str::to_owned));
        let deeds = deed.into_iter().map(|fault| Event {
            at_ms: BEFORE_MS_MAX,
            line: 0,
            fault,
            label: None,
        });
        let drill = nothing(verb);
        Ok(Stage {
            base: base(&drill, topology, workload, tier),
            deeds: deeds.collect(),
            drill,
            times,
            not_in_it,
        })
    }

    /// As it is planned.
    pub fn calm(&self, seed: u64) -> Plan {
        let events = self.steps(&self.drill).0;
        self.run(seed, events)
    }

    /// With a further data center that burns in the middle; none where there is only one. The drill ends
    /// at once then, as an aborted one does.
    pub fn beside_a_fire(&self, seed: u64) -> Option<Plan> {
        let (first, last) = self.span();
        let (at_ms, hosts) = self.fire(seed, first, last)?;
        let abort_ms = at_ms + ABORT_MS;
        let (mut events, _) = self.steps(&self.drill);
        events.retain(|event| !self.deeds.contains(event));
        let mut begun = BTreeSet::new();
        let mut kept: Vec<Event> = Vec::new();
        for mut event in events {
            match event.fault.ends() {
                false if event.at_ms >= at_ms => continue,
                false => drop(begun.insert(event.line)),
                true if !begun.contains(&event.line) => continue,
                true => event.at_ms = event.at_ms.min(abort_ms),
            }
            // What burned does not start again.
            if event.at_ms >= at_ms && !without(&mut event.fault, &hosts) {
                continue;
            }
            kept.push(event);
        }
        kept.extend(self.deeds.iter().cloned());
        kept.push(Event {
            at_ms,
            line: FIRE_LINE,
            fault: Fault::Burn { hosts },
            label: Some("a real fire".to_owned()),
        });
        let mut plan = self.run(seed, kept);
        plan.about = format!("{} A further data center burns in the middle.", plan.about);
        Some(plan)
    }

    /// All data centers in the building that it is about: what is done to some nodes is done to all.
    pub fn twin(&self) -> Plan {
        let mut drill = self.drill.clone();
        let all: Vec<String> = self.nodes().map(|(_, name)| name.to_owned()).collect();
        for step in &mut drill.steps {
            step.nodes.clone_from(&all);
        }
        let mut plan = self.run(1, self.steps(&drill).0);
        plan.control = true;
        plan.about = format!("{} All of it in one building.", plan.about);
        for dc in &mut plan.topology.dcs {
            "the one building".clone_into(&mut dc.building);
        }
        plan
    }

    /// Begin of the first step and end of the last, ms after the load began.
    pub fn span(&self) -> (u64, u64) {
        let first = self.times.iter().map(|(begin, _)| *begin).min();
        let last = self.times.iter().map(|(_, end)| *end).max();
        (first.unwrap_or(0), last.unwrap_or(0))
    }

    fn nodes(&self) -> impl Iterator<Item = (&str, &str)> {
        let nodes = self.base.topology.nodes();
        nodes.map(|(dc, node)| (dc.name.as_str(), node.name.as_str()))
    }

    /// When which nodes burn: of the data centers that the drill touches least, one after the other.
    fn fire(&self, seed: u64, first: u64, last: u64) -> Option<(u64, Vec<String>)> {
        let steps = self.drill.steps.iter().flat_map(|step| &step.nodes);
        let deeds = self.deeds.iter().flat_map(|deed| deed.fault.hosts());
        let touched: BTreeSet<&String> = steps.chain(deeds).collect();
        let mut dcs: BTreeMap<&str, usize> = BTreeMap::new();
        for (dc, name) in self.nodes() {
            *dcs.entry(dc).or_default() += usize::from(touched.contains(&name.to_owned()));
        }
        if dcs.len() < 2 {
            return None;
        }
        let least = dcs.values().min().copied().unwrap_or(0);
        let free: Vec<&str> = dcs
            .iter()
            .filter(|(_, n)| **n == least)
            .map(|(dc, _)| *dc)
            .collect();
        let at = usize::try_from(seed).unwrap_or(0) % free.len();
        // From 3 to 7 tenths of the drill, in steps that seeds share out.
        let part = 30 + seed.wrapping_mul(7) % 41;
        let at_ms = first + (last - first) * part / 100;
        let of = self.nodes().filter(|(dc, _)| *dc == free[at]);
        Some((at_ms, of.map(|(_, name)| name.to_owned()).collect()))
    }

    /// The steps as events, by time, and what of them is otherwise.
    fn steps(&self, drill: &Drill) -> (Vec<Event>, Vec<String>) {
        let sites: Vec<String> = self
            .base
            .workload
            .sites
            .iter()
            .map(|s| s.name.clone())
            .collect();
        let place = Place {
            topology: &self.base.topology,
            sites: &sites,
        };
        let (mut events, mut otherwise) = (self.deeds.clone(), Vec::new());
        for ((line, step), (begin, end)) in (0..).zip(&drill.steps).zip(&self.times) {
            let acts = place.acts(step);
            let event = |at_ms: u64| {
                move |fault| Event {
                    at_ms,
                    line,
                    fault,
                    label: None,
                }
            };
            events.extend(acts.begins.into_iter().map(event(*begin)));
            events.extend(acts.ends.into_iter().map(event(*end)));
            otherwise.extend(acts.otherwise);
        }
        // Stable: what ends at a moment stands before what begins then only where its step does.
        events.sort_by_key(|event| (event.at_ms, !event.fault.ends()));
        (events, otherwise)
    }

    fn run(&self, seed: u64, mut events: Vec<Event>) -> Plan {
        events.sort_by_key(|event| (event.at_ms, !event.fault.ends()));
        Plan {
            seed,
            events,
            ..self.base.clone()
        }
    }
}

/// Takes hosts out of what is done to hosts one by one; whether any is left.
fn without(fault: &mut Fault, burned: &[String]) -> bool {
    let left = |hosts: &mut Vec<String>| {
        hosts.retain(|host| !burned.contains(host));
        !hosts.is_empty()
    };
    match fault {
        Fault::Start { hosts }
        | Fault::Resume { hosts }
        | Fault::SlowSync { hosts, .. }
        | Fault::HangSync { hosts, .. }
        | Fault::DiskRoom { hosts, .. }
        | Fault::Drain { hosts, .. } => left(hosts),
        _ => true,
    }
}

/// Whether there is a map, and not too much on it.
fn sized(night: &Night) -> Result<(), String> {
    match night.cluster.nodes.len() {
        0 => Err(
            "the record has no map of the cluster: record it again while nodes run, over the last minutes"
                .to_owned(),
        ),
        nodes if nodes > NODES_MAX => Err(format!(
            "{nodes} nodes; at most {NODES_MAX} can be simulated"
        )),
        _ => Ok(()),
    }
}

/// A drill of no steps, beside which a verb is done.
fn nothing(verb: &Verb) -> Drill {
    Drill {
        format: server::drill::plan::FORMAT,
        id: String::new(),
        scenario: "verb".to_owned(),
        about: format!("An operator's verb: {}.", verb.words()),
        hypothesis: String::new(),
        target: String::new(),
        cluster_id: String::new(),
        map_epoch: 0,
        made_ms: 0,
        before_ms: BEFORE_MS_MAX,
        after_ms: AFTER_MS.0,
        caps: Caps::default(),
        goals: Goals::default(),
        steps: Vec::new(),
    }
}

/// Whether the drill's nodes are all there.
fn known(drill: &Drill, night: &Night) -> Result<(), String> {
    let names: BTreeSet<&str> = night
        .cluster
        .nodes
        .iter()
        .map(|n| n.name.as_str())
        .collect();
    if drill.steps.is_empty() {
        return Err(format!("the plan {} has no steps", drill.id));
    }
    for step in &drill.steps {
        let named = step.nodes.iter();
        let unknown = named.filter(|name| !names.contains(name.as_str()));
        let unknown: Vec<&str> = unknown.map(String::as_str).collect();
        if !unknown.is_empty() || step.nodes.is_empty() {
            let named: Vec<&str> = names.into_iter().collect();
            return Err(format!(
                "a step of {} is for {}, which the cluster does not have; it has {}",
                step.action.name(),
                if unknown.is_empty() {
                    "no node".to_owned()
                } else {
                    unknown.join(", ")
                },
                named.join(", ")
            ));
        }
    }
    Ok(())
}

/// Begin and end of each step, and the end of it all, ms after the load began.
fn times(drill: &Drill, not_in_it: &mut Vec<String>) -> Result<(Vec<(u64, u64)>, u64), String> {
    let end = |at: u64, lasts: u64| at.saturating_add(lasts);
    let ends = drill.steps.iter();
    let last = ends.map(|step| end(step.at_ms, step.for_ms.unwrap_or(LASTS_MS_MIN)));
    let last = last.max().unwrap_or(0);
    let planned = drill.steps.iter().map(|step| {
        let to = step.for_ms.map_or(last, |lasts| end(step.at_ms, lasts));
        (step.at_ms, to)
    });
    let planned: Vec<(u64, u64)> = planned.collect();
    let mut moments: BTreeSet<u64> = planned.iter().flat_map(|(a, b)| [*a, *b]).collect();
    moments.insert(0);
    let before = drill.before_ms.min(BEFORE_MS_MAX);
    let (mut at, mut cut, mut known) = (before, 0, BTreeMap::new());
    let mut previous = 0;
    for moment in moments {
        let stretch = moment - previous;
        at += stretch.min(STRETCH_MS_MAX);
        cut += stretch.saturating_sub(STRETCH_MS_MAX);
        known.insert(moment, at);
        previous = moment;
    }
    if cut > 0 {
        not_in_it.push(format!(
            "{} s in which nothing begins or ends are left out",
            cut / 1_000
        ));
    }
    let moved = |moment: &u64| known.get(moment).copied().unwrap_or(at);
    let times = planned.iter().map(|(a, b)| (moved(a), moved(b))).collect();
    let end_ms = at + drill.after_ms.clamp(AFTER_MS.0, AFTER_MS.1);
    if end_ms > LENGTH_MS_MAX {
        return Err(format!(
            "the drill takes {} s; at most {} s are rehearsed: make its steps fewer or shorter",
            end_ms / 1_000,
            LENGTH_MS_MAX / 1_000
        ));
    }
    Ok((times, end_ms))
}

/// The canaries' workload: messages, reads of each level and tails, near each data center.
fn workload(night: &Night, duration_ms: u64, not_in_it: &mut Vec<String>) -> Workload {
    let account = Account::of(night);
    let rate = load::rate(night, &account);
    let sites = load::sites(night);
    let count = u32::try_from(sites.len()).unwrap_or(1).max(1);
    let senders = (count * SENDERS_EACH).min(SENDERS_MAX);
    let most = u64::from(senders) * 1_000 / PAUSE_MS.0;
    not_in_it.push(format!(
        "the load is that of the canaries, at most {most} messages a second; the cluster had about \
         {rate} from its clients"
    ));
    let body = load::body_bytes(night).clamp(BODY_BYTES.0, BODY_BYTES.1);
    let body = u32::try_from(body).unwrap_or(u32::MAX);
    Workload {
        duration_ms,
        sites,
        rooms: senders,
        zipf_milli: 0,
        own_rooms: true,
        senders,
        burst: (1, 1),
        pause_ms: PAUSE_MS,
        stream_percent: 25,
        body_bytes: (body, body),
        resend_percent: 0,
        readers: Readers {
            linearizable: count,
            session: count,
            bounded: count,
            local: count,
            bound_ms: 500,
            pause_ms: (200, 400),
        },
        tails: count,
        tail_resume_ms: 0,
        changers: 0,
        movers: 0,
        move_every_ms: 0,
        deadline_ms: DEADLINE_MS,
    }
}

fn base(drill: &Drill, topology: Topology, workload: Workload, tier: Tier) -> Plan {
    Plan {
        format: FORMAT,
        scenario: format!("drill-{}", drill.scenario),
        about: drill.about.clone(),
        seed: 1,
        tier,
        disk: DiskKind::Memory,
        control: false,
        topology,
        workload,
        events: Vec::new(),
        // Gaps and failed calls are told, and held against the plan's goals elsewhere.
        expect: Expect {
            promises: "DOELSUHP".to_owned(),
            ..Expect::default()
        },
    }
}

/// What no run of the simulator has in it.
fn unknown() -> impl Iterator<Item = &'static str> {
    [
        "the cost of computing: cores, threads, and what else runs on the machines",
        "what RocksDB and real disks do by themselves: compaction, stalls, caches",
        "the rest of the network: congestion, DNS, and other traffic on the lines",
        "nodes that are down, drained or behind already, and replicas that are on their way",
        "clients in other languages than Rust, and those that are not the canaries",
    ]
    .into_iter()
}
