//! What was seen in a run, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::laps::Laps;
use server::night::NodeNight;

use crate::history::{AppendEnd, History, Level, Observed};
use crate::interpose::real_elapsed;
use crate::oracle::liveness::Failed;
use crate::oracle::{self, cutoff, liveness, stale};
use crate::outcome::{Broken, Finding, Goal, Judged, Led, Mark, Outcome, Phase, Promise, Verdict};
use crate::plan::{Event, Expect, Fault, Plan};
use crate::reigns;
use crate::trace::Trace;

/// Within this of the last heal every shard with a quorum serves (promise P), unless the scenario
/// asks for less.
const RECOVERY_MAX_MS: u64 = 10_000;
/// What a node says that ended for want of room.
const NO_ROOM: &str = "no space left";
/// What a caller is told whose message finds no room.
const DISK_FULL: &str = "DISK_FULL";
/// Why a message failed that came behind one that did.
const BEHIND_ONE: &str = "PREDECESSOR_FAILED";
/// So long after the first refusal for want of room calls are told nothing else: their longest deadline,
/// twice.
const TOLD_AFTER_MS: u64 = 10_000;
/// Of so many that fail then, one may be told something else.
const OTHERWISE_ONE_IN: usize = 5;
/// Calls that failed, for people, at most.
const FAILED_MAX: usize = 20;
/// Evidence of one kind, at most.
const EVIDENCE_MAX: usize = 5;

/// Everything that was seen in a run.
#[derive(Default)]
pub(super) struct RunEvidence {
    pub history: History,
    pub observed: Observed,
    pub timeline: Vec<Mark>,
    pub began_us: Option<u64>,
    pub sim_us: u64,
    pub trace: Trace,
    pub retries: u64,
    /// From the last heal until every room was served, ms.
    pub recovery: Option<Result<u64, String>>,
    /// From the end of the load until the replicas were equal, ms; none when they never were.
    pub rest: Option<u64>,
    /// Files of snapshots installed since the load began.
    pub snapshots: u64,
    /// Whether every room was served at rest.
    pub last_probe: Option<Result<u64, String>>,
    /// Nodes asked for their status while faults lasted, and those that did not answer.
    pub admin: (u64, Vec<String>),
    /// What could not be read at rest.
    pub unread: Vec<String>,
    /// Nodes that ended by themselves, and when.
    pub ends: Vec<(u64, String)>,
    /// Looks at what nodes keep in memory; when it was too much, and whose.
    pub memory: (u64, Vec<(u64, String)>),
    /// The host of each node id.
    pub nodes: BTreeMap<u64, String>,
    pub site_errors: Vec<String>,
    pub stopped: Option<String>,
    pub panicked: bool,
    pub laps: Laps,
    /// What the nodes' flight recorders wrote.
    pub recorded: Vec<NodeNight>,
}

/// Judges a run that began at that real moment.
pub(super) fn outcome(plan: &Plan, mut seen: RunEvidence, began: Duration) -> Outcome {
    let findings = oracle::judge(plan, &seen.history, &seen.observed);
    let fated = liveness::fated(plan);
    // The operator's probes have short deadlines of their own.
    let counts = |site: &str| !fated.contains(site) && site != super::cluster::OPERATOR;
    let gaps = liveness::gaps(&seen.history, counts);
    let failed = liveness::failed(&seen.history, counts);
    let (longest_gap_ms, longest_gap_at_ms) = gaps
        .first()
        .map_or((0, (0, 0)), |gap| (gap.longest_ms, gap.at_ms));
    let acked = acked(&seen.history);
    let leaders = leaders(&seen);
    let goals = goals(
        plan,
        &seen,
        &leaders,
        longest_gap_ms,
        failed.len() as u64,
        acked,
    );
    let promises = promises(plan, &seen, &findings, &goals);
    let first_fault = seen.timeline.first().map(|mark| mark.at_ms);
    let rto_ms = first_fault
        .and_then(|at| liveness::until_acked(&seen.history, at, liveness::Each::Sender, counts));
    let mut stopped = seen.stopped.clone();
    if stopped.is_none() && !seen.site_errors.is_empty() {
        stopped = Some(seen.site_errors.join("; "));
    }
    let mut laps = std::mem::take(&mut seen.laps);
    if seen.stopped.is_none() {
        laps.end(Phase::Judging, seen.sim_us);
    }
    Outcome {
        verdict: verdict(plan, &promises, &goals, stopped.is_some(), seen.panicked),
        stopped,
        promises,
        goals,
        oracles: findings
            .iter()
            .map(|finding| (finding.oracle.clone(), finding.looked_at))
            .collect(),
        longest_gap_ms,
        longest_gap_at_ms,
        failed_calls: failed.len() as u64,
        failed: failed
            .into_iter()
            .take(FAILED_MAX)
            .map(|failed| failed.text)
            .collect(),
        recovery_ms: seen.recovery.as_ref().and_then(|took| took.clone().ok()),
        lost: lost(&seen.history),
        rto_ms,
        acked,
        reads: seen
            .history
            .reads
            .iter()
            .filter(|read| read.end.is_ok())
            .count() as u64,
        tailed: seen
            .history
            .tails
            .iter()
            .map(|tail| tail.events.len() as u64)
            .sum(),
        retries: seen.retries,
        moves: moves(&seen),
        trace_hash: seen.trace.hash(),
        trace: seen.trace.checkpoints(),
        trace_events: seen.trace.events(),
        sim_seconds: seen.sim_us as f64 / 1e6,
        wall_seconds: real_elapsed().saturating_sub(began).as_secs_f64(),
        laps: laps.all(),
        leaders,
        timeline: timeline(&seen),
        seconds: liveness::seconds(&seen.history),
        control: None,
        repeat: None,
        plan: plan.clone(),
    }
}

fn acked(history: &History) -> u64 {
    let ends = history.appends.iter().filter(|append| !append.repeats);
    ends.filter(|append| matches!(append.end, AppendEnd::Acked { .. }))
        .count() as u64
}

/// Acknowledged messages that are in no conversation at the end, where conversations were read.
fn lost(history: &History) -> u64 {
    let read = history
        .finals
        .iter()
        .filter(|one| one.level == Level::Linearizable);
    let mut found: BTreeMap<u32, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for one in read {
        let ids = one.messages.iter();
        found
            .entry(one.room)
            .or_default()
            .extend(ids.map(|seen| (seen.sender.as_str(), seen.id.as_str())));
    }
    let acked = history
        .appends
        .iter()
        .filter(|append| !append.repeats && matches!(append.end, AppendEnd::Acked { .. }));
    let lost = acked.filter(|append| {
        let id = (append.sender.as_str(), append.id.as_str());
        found
            .get(&append.room)
            .is_some_and(|ids| !ids.contains(&id))
    });
    lost.count() as u64
}

/// Replicas that became voters since the load began.
fn moves(seen: &RunEvidence) -> u64 {
    let began_us = seen.began_us.unwrap_or(u64::MAX);
    let named = seen.observed.voters.iter().filter(|voter| !voter.voted);
    named.filter(|voter| voter.at_us >= began_us).count() as u64
}

/// Of the LINEARIZABLE reads that returned, well or not.
fn longest_read_ms(history: &History) -> Option<u64> {
    let reads = history.reads.iter();
    let waits = reads
        .filter(|read| read.level == Level::Linearizable)
        .filter_map(|read| Some(read.returned_us?.saturating_sub(read.invoked_us)));
    waits.max().map(|us| us.div_ceil(1_000))
}

fn pending(expect: &Expect, what: &str) -> Option<String> {
    let found = expect.pending.iter().find(|pending| pending.what == what);
    found.map(|pending| pending.why.clone())
}

fn goals(
    plan: &Plan,
    seen: &RunEvidence,
    leaders: &[Led],
    gap_ms: u64,
    failed: u64,
    acked: u64,
) -> Vec<Goal> {
    let expect = &plan.expect;
    let mut goals = Vec::new();
    let mut add = |name: &str, limit: String, measured: String, held: bool| {
        goals.push(Goal {
            name: name.to_owned(),
            limit,
            measured,
            held,
            pending: pending(expect, name),
        });
    };
    if let Some(most) = expect.gap_max_ms {
        add(
            "gap",
            format!("≤ {most} ms"),
            format!("{gap_ms} ms"),
            gap_ms <= most,
        );
    }
    if let Some(most) = expect.read_max_ms {
        let longest = longest_read_ms(&seen.history);
        add(
            "reads",
            format!("≤ {most} ms"),
            longest.map_or_else(|| "no read".to_owned(), |ms| format!("{ms} ms")),
            longest.is_some_and(|ms| ms <= most),
        );
    }
    if let Some(most) = expect.tail_max_ms {
        let fated = liveness::fated(plan);
        let longest = liveness::tails(&seen.history, |site: &str| !fated.contains(site));
        add(
            "tails",
            format!("≤ {most} ms"),
            longest.map_or_else(|| "no tail".to_owned(), |ms| format!("{ms} ms")),
            longest.is_some_and(|ms| ms <= most),
        );
    }
    if let Some(most) = expect.failed_calls_max {
        add(
            "failed-calls",
            format!("≤ {most}"),
            failed.to_string(),
            failed <= most,
        );
    }
    if let Some(most) = expect.refusal_max_ms {
        let cut = cutoff::cut_off(plan, &seen.history);
        add(
            "refusals",
            format!("≤ {most} ms"),
            format!("{} ms, of {}", cut.longest_ms, cut.refused),
            cut.refused > 0 && cut.longest_ms <= most,
        );
        let wrong = cut
            .wrong
            .first()
            .map_or_else(String::new, |first| format!(": {first}"));
        add(
            "cut-off-reads",
            "≤ 0 wrong".to_owned(),
            format!(
                "{} of {}{wrong}",
                cut.wrong.len(),
                cut.answered + cut.refused
            ),
            cut.answered > 0 && cut.wrong.is_empty(),
        );
    }
    if let Some(most) = expect.age_p99_max_ms {
        let ages = stale::local_ages(&seen.history);
        let p99 = liveness::rank(&ages, 99);
        add(
            "age-p99",
            format!("≤ {most} ms"),
            p99.map_or_else(
                || "no read".to_owned(),
                |p99| format!("{p99} ms of {}", ages.len()),
            ),
            p99.is_some_and(|p99| p99 <= most),
        );
    }
    if let Some(most) = expect.leaderless_max_ms {
        let end_ms = u64::try_from(since(seen, seen.sim_us)).unwrap_or(0);
        let longest = reigns::leaderless(leaders, &plan.events, end_ms);
        let shards: BTreeSet<u32> = leaders.iter().map(|led| led.shard).collect();
        add(
            "leaderless",
            format!("≤ {most} ms"),
            longest.map_or_else(
                || "no shard".to_owned(),
                |(ms, shard)| format!("{ms} ms (s{shard}, of {})", shards.len()),
            ),
            longest.is_some_and(|(ms, _)| ms <= most),
        );
    }
    if let Some(recovery) = &seen.recovery {
        let most = expect.recovery_max_ms.unwrap_or(RECOVERY_MAX_MS);
        let (measured, held) = match recovery {
            Ok(ms) => (format!("{ms} ms"), *ms <= most),
            Err(why) => (why.clone(), false),
        };
        add("recovery", format!("≤ {most} ms"), measured, held);
    }
    if let Some(most) = expect.rest_max_ms {
        add(
            "rest",
            format!("≤ {most} ms"),
            seen.rest
                .map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms")),
            seen.rest.is_some_and(|ms| ms <= most),
        );
    }
    if let Some(most) = expect.snapshots_max {
        let installed = seen.snapshots;
        add(
            "snapshots",
            format!("≤ {most}"),
            installed.to_string(),
            installed <= most,
        );
    }
    add(
        "acked",
        format!("≥ {}", expect.acked_min),
        acked.to_string(),
        acked >= expect.acked_min,
    );
    goals
}

fn promises(
    plan: &Plan,
    seen: &RunEvidence,
    findings: &[Finding],
    goals: &[Goal],
) -> BTreeMap<Promise, Judged> {
    let mut promises: BTreeMap<Promise, Judged> = Promise::ALL
        .into_iter()
        .map(|promise| {
            let pending = pending(&plan.expect, &promise.letter().to_string());
            (
                promise,
                Judged {
                    pending,
                    ..Judged::default()
                },
            )
        })
        .collect();
    for finding in findings {
        let letter = oracle::NAMES.iter().find(|name| name.0 == finding.oracle);
        let serves = letter.and_then(|name| Promise::of(name.1));
        if let Some(judged) = serves.and_then(|promise| promises.get_mut(&promise)) {
            judged.looked_at += finding.looked_at;
        }
        for broken in &finding.broken {
            if let Some(judged) = promises.get_mut(&broken.promise) {
                judged.broken.push(broken.clone());
            }
        }
    }
    let mut note = |promise: Promise, looked_at: u64, oracle: &str, evidence: Vec<String>| {
        if let Some(judged) = promises.get_mut(&promise) {
            judged.looked_at += looked_at;
            judged
                .broken
                .extend(evidence.into_iter().map(|evidence| Broken {
                    promise,
                    oracle: oracle.to_owned(),
                    evidence,
                }));
        }
    };
    for goal in goals {
        let Some(promise) = goal.promise() else {
            continue;
        };
        let missed = (!goal.held).then(|| {
            format!(
                "{}: {} where {} was asked",
                goal.name, goal.measured, goal.limit
            )
        });
        note(
            promise,
            1,
            oracle_of_goals(promise),
            missed.into_iter().collect(),
        );
    }
    if let Some(probe) = &seen.last_probe {
        let evidence = probe.as_ref().err().map(|why| format!("at rest: {why}"));
        note(
            Promise::P,
            1,
            "serves-at-rest",
            evidence.into_iter().collect(),
        );
    }
    let unread = seen.unread.iter().take(EVIDENCE_MAX).cloned().collect();
    note(Promise::P, 0, "reads-at-rest", unread);
    let small = small_disks(plan);
    let full = seen.ends.iter().filter(|(_, why)| why.contains(NO_ROOM));
    let full = full.take(EVIDENCE_MAX).map(|(at_us, why)| {
        let at_ms = since(seen, *at_us);
        format!("at {at_ms} ms a node ran out of room by its own writes: {why}")
    });
    let full = if small > 0 {
        full.collect()
    } else {
        Vec::new()
    };
    note(Promise::P, small, "room-kept", full);
    if small > 0 && plan.events.iter().all(is_of_small_disks) {
        // The operator's probes have short deadlines of their own.
        let counts = |site: &str| site != super::cluster::OPERATOR;
        let failed = liveness::failed(&seen.history, counts);
        let told = |failed: &&Failed| failed.text.contains(DISK_FULL);
        let full_ms = failed.iter().find(told).map(|failed| failed.at_ms);
        // What was proposed before a leader heard of it ends as it may, and what came behind that in
        // its conversation with it; the more so where room comes and goes.
        let late = |failed: &&Failed| {
            let told = full_ms.is_some_and(|full| failed.at_ms >= full + TOLD_AFTER_MS);
            told && !failed.text.contains(BEHIND_ONE)
        };
        let late: Vec<&Failed> = failed.iter().filter(late).collect();
        let mut otherwise = late.clone();
        otherwise.retain(|failed| !failed.text.contains(DISK_FULL));
        if otherwise.len() * OTHERWISE_ONE_IN <= late.len() {
            otherwise.clear();
        }
        let otherwise = otherwise.into_iter().take(EVIDENCE_MAX);
        let otherwise = otherwise.map(|Failed { at_ms, text }| {
            format!("at {at_ms} ms somebody was not told that disks are full: {text}")
        });
        note(Promise::P, 1, "room-kept", otherwise.collect());
    }
    let (looks, over) = &seen.memory;
    let over = over.iter().take(EVIDENCE_MAX).map(|(at_us, what)| {
        let at_ms = since(seen, *at_us);
        format!("at {at_ms} ms {what}")
    });
    note(Promise::P, *looks, "memory-kept", over.collect());
    note(
        Promise::A,
        seen.admin.0,
        "status-from-survivors",
        seen.admin.1.clone(),
    );
    for judged in promises.values_mut() {
        judged.held = match (judged.broken.is_empty(), judged.looked_at) {
            (false, _) => Some(false),
            (true, 0) => None,
            (true, _) => Some(true),
        };
    }
    promises
}

/// Whether a disk becomes small, or has room again.
fn is_of_small_disks(event: &Event) -> bool {
    matches!(event.fault, Fault::SmallDisk { .. })
}

/// How many disks are small at some time, and are not filled by anything else.
fn small_disks(plan: &Plan) -> u64 {
    let mut small = 0;
    for event in &plan.events {
        match &event.fault {
            Fault::SmallDisk {
                hosts,
                left_bytes: Some(_),
            } => small += hosts.len() as u64,
            Fault::DiskRoom {
                free_percent: Some(0),
                ..
            } => return 0,
            // Changes no room on a disk.
            _ => {}
        }
    }
    small
}

fn verdict(
    plan: &Plan,
    promises: &BTreeMap<Promise, Judged>,
    goals: &[Goal],
    stopped: bool,
    panicked: bool,
) -> Verdict {
    let expected = |promise: &Promise| plan.expect.promises.contains(promise.letter());
    let missed = promises.iter().filter(|(promise, judged)| {
        expected(promise) && judged.held == Some(false) && judged.pending.is_none()
    });
    let missed: Vec<&Promise> = missed.map(|(promise, _)| promise).collect();
    if panicked || missed.iter().any(|promise| promise.safety()) {
        return Verdict::Broken;
    }
    // A number that belongs to no promise stands for itself.
    let number_missed = goals.iter().any(|goal| {
        !goal.held
            && goal.pending.is_none()
            && goal.promise().is_none_or(|promise| expected(&promise))
    });
    // A promise is not missed by pending numbers alone.
    let excused = |promise: &Promise| {
        let mut numbers = goals
            .iter()
            .filter(|goal| goal.promise() == Some(*promise) && !goal.held)
            .peekable();
        let own = oracle_of_goals(*promise);
        let others = promises
            .get(promise)
            .is_some_and(|judged| judged.broken.iter().any(|broken| broken.oracle != own));
        numbers.peek().is_some() && numbers.all(|goal| goal.pending.is_some()) && !others
    };
    let promise_missed = missed.iter().any(|promise| !excused(promise));
    match stopped || number_missed || promise_missed {
        true => Verdict::GoalMissed,
        false => Verdict::Held,
    }
}

/// What says that a promise is broken by a number of its goals.
fn oracle_of_goals(promise: Promise) -> &'static str {
    match promise {
        Promise::P => "recovery",
        _ => "no-downtime",
    }
}

fn since(seen: &RunEvidence, at_us: u64) -> i64 {
    let ms = |us: u64| i64::try_from(us / 1_000).unwrap_or(i64::MAX);
    ms(at_us) - ms(seen.began_us.unwrap_or(0))
}

/// Who led what, by the votes on disks: the first that knew of a term's leader.
fn leaders(seen: &RunEvidence) -> Vec<Led> {
    let mut known = BTreeSet::new();
    let mut leaders = Vec::new();
    for vote in seen.observed.votes.iter().filter(|vote| vote.committed) {
        if known.insert((vote.shard, vote.term)) {
            let host = seen.nodes.get(&vote.node).cloned();
            leaders.push(Led {
                at_ms: since(seen, vote.at_us),
                shard: vote.shard,
                host: host.unwrap_or_else(|| format!("n{}", vote.node)),
                term: vote.term,
            });
        }
    }
    leaders
}

/// What was done, and what nodes did by themselves.
fn timeline(seen: &RunEvidence) -> Vec<Mark> {
    let mut marks = seen.timeline.clone();
    marks.extend(seen.ends.iter().map(|(at_us, text)| Mark {
        at_ms: u64::try_from(since(seen, *at_us)).unwrap_or(0),
        kind: "node-ended".to_owned(),
        ends: true,
        line: u32::MAX,
        hosts: Vec::new(),
        between: None,
        story: None,
        text: text.clone(),
    }));
    marks.sort_by_key(|mark| mark.at_ms);
    marks
}
