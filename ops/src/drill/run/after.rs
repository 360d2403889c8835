//! What is made of a drill once its steps are over: whole again, read back, judged, recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::v1::change_drill_request::Change;
use client::v1::{BeatDrill, ConcludeDrill, GetStatusResponse, ProvePromise};
use client::{Client, v1};
use firebreak::ledger::Faults;
use model::id::ShardId;
use proto::v1::record::What;
use server::drill::paper::{
    Approval, ClientSeen, End, FORMAT, Happened, KIND, Kept, Measured, Moment, Oracle, Paper,
};
use server::night::Night;
use server::sight::report::answers;

use super::canary::Stale;
use super::{Run, gauge, now_ms, save, wire_end};
use crate::canary::{Call, judge};
use crate::cmd::map::{Map, told};
use crate::cmd::outage::record;
use crate::drill::book;

/// How long the cluster may take until every replica is whole again.
const WHOLE_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long a node may take to say how it is.
const ASK: Duration = Duration::from_secs(1);
/// How long one page may take when all is read back.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Shards whose replicas are compared.
const COMPARED_MAX: usize = 16;
/// With fewer acknowledgements of each sender nothing can be told.
const ACKS_MIN: usize = 10;
/// Bytes of a summary that the meta shard keeps.
const SUMMARY_BYTES_MAX: usize = 4 * 1024;

/// The calls of a ledger that is there; none where there is none.
pub fn read_ledger(path: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Makes the paper, tells the meta shard, and writes the folder.
pub async fn make(
    mut run: Run<'_>,
    aborted: Option<String>,
    earlier: Vec<Call>,
    statuses: &[&GetStatusResponse],
) -> anyhow::Result<Paper> {
    let began_ms = run
        .timeline
        .first()
        .map_or_else(now_ms, |first| first.at_ms);
    let canaries = std::mem::replace(
        &mut run.canaries,
        super::Canaries::start("none", &BTreeMap::new())?,
    );
    let seen = run.gauge.calls;
    let (mut calls, stale) = canaries.stop().await;
    for call in calls
        .iter()
        .skip(usize::try_from(seen).unwrap_or(usize::MAX))
    {
        run.write(call).map_err(|why| anyhow::anyhow!(why))?;
    }
    let unwatched = run.options.resume;
    calls.extend(earlier);
    let whole = whole_again(&mut run).await;
    let ended_ms = now_ms();
    let night = gather(&run, began_ms, ended_ms).await;
    if let Err(why) = &night {
        run.deviations
            .push(format!("the recorders could not be asked: {why:#}"));
    }
    let reader = run.client.with_deadline(READ_LIMIT);
    let faults = judge::read_back(&reader, &calls).await;
    let alike = compare(&run, &calls).await;
    let mut measured = measured(&run, &calls, &stale);
    if let Ok(faults) = &faults {
        (measured.lost, measured.duplicated, measured.reordered) =
            (faults.lost, faults.duplicated, faults.reordered);
        run.deviations.extend(faults.notes.clone());
    }
    run.deviations.extend(stale.notes.clone());
    let oracles = oracles(
        &measured,
        &stale,
        faults.as_ref().ok(),
        &alike,
        run.plan.goals.gap_ms,
    );
    let enough = cold(&calls).is_none();
    let verdict = Verdict {
        aborted,
        read: faults.as_ref().map(drop).map_err(|why| format!("{why:#}")),
        cold: cold(&calls),
        whole,
        unwatched,
    };
    let (end, why) = verdict.end(&measured, &oracles, run.plan);
    let approvals = approvals(&run).await;
    let mut timeline = std::mem::take(&mut run.timeline);
    if let Ok(night) = &night {
        timeline.extend(recorded(&run, night, &calls, &timeline));
        save(
            &run.options.dir,
            "night.json",
            &serde_json::to_string(night)?,
        )?;
    }
    timeline.sort_by_key(|one| one.at_ms);
    if !enough {
        run.deviations
            .push("some canaries were hardly served".to_owned());
    }
    let paper = Paper {
        kind: KIND.to_owned(),
        format: FORMAT,
        plan: run.plan.clone(),
        cluster: run.fit.cluster.clone(),
        approvals,
        end,
        why,
        began_ms,
        ended_ms,
        timeline,
        predicted: run.fit.predicted.clone(),
        rehearsal: run.rehearsed.take(),
        measured,
        oracles,
        deviations: std::mem::take(&mut run.deviations),
        night: kept(&run.options.dir, "night.json"),
        ledger: kept(&run.options.dir, "ledger.jsonl"),
    };
    save(
        &run.options.dir,
        "paper.json",
        &(serde_json::to_string_pretty(&paper)? + "\n"),
    )?;
    conclude(&run, &paper, statuses).await?;
    Ok(paper)
}

/// What the simulator said, if it was asked and has answered in the drill's folder.
pub fn rehearsal(dir: &Path) -> Option<server::drill::rehearsal::Rehearsal> {
    let text = std::fs::read_to_string(dir.join("rehearsal.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn kept(dir: &Path, file: &str) -> Option<Kept> {
    let bytes = std::fs::read(dir.join(file)).ok()?;
    Some(Kept {
        file: file.to_owned(),
        digest: blake3::hash(&bytes).to_hex().to_string(),
    })
}

/// Waits until every node answers, every shard is led and every replica is whole, and goes on being heard
/// by the meta shard meanwhile.
async fn whole_again(run: &mut Run<'_>) -> Result<(), String> {
    let began = Instant::now();
    let mut beat = Instant::now();
    loop {
        let asked = run.client.status_all(ASK).await;
        let map = asked
            .ok()
            .and_then(|all| Map::of(all.into_iter().map(told).collect()).ok());
        let why = map.map_or(Some("no node answers".to_owned()), |map| unwhole(&map));
        let Some(why) = why else {
            let text = "every replica is whole again".to_owned();
            run.happened(Moment::FullyReplicated, text);
            return Ok(());
        };
        if began.elapsed() > WHOLE_LIMIT {
            let text = format!("not whole after {} s: {why}", WHOLE_LIMIT.as_secs());
            run.deviations.push(text.clone());
            return Err(text);
        }
        if beat.elapsed() > super::RENEW {
            beat = Instant::now();
            // One that was ended by others is concluded all the same.
            let _ = run.beat().await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is not whole yet.
fn unwhole(map: &Map) -> Option<String> {
    if let Some(node) = map.gone().first() {
        return Some(format!("{} does not answer", map.name(*node)));
    }
    let unrestored = answers(&map.reports).flat_map(|one| &one.unrestored).next();
    if let Some(one) = unrestored {
        return Some(format!("shard {}: {}", one.shard, one.why));
    }
    let leaders = map.leaders();
    let shards = map.newest().shards.iter();
    let unled = shards
        .map(|one| one.shard)
        .find(|shard| !leaders.contains_key(&ShardId(*shard)));
    if let Some(shard) = unled {
        return Some(format!("shard {shard} has no leader"));
    }
    // A replica that lacks what its leader has committed is still coming back.
    let mut committed: BTreeMap<u32, u64> = BTreeMap::new();
    for replica in answers(&map.reports).flat_map(|one| &one.replicas) {
        if replica.state == "leader" {
            committed.insert(replica.shard, replica.committed_index);
        }
    }
    answers(&map.reports).find_map(|status| {
        let behind = |one: &&v1::ReplicaStatus| {
            let due = committed.get(&one.shard).copied().unwrap_or(0);
            one.applied_index + 1_000 < due
        };
        let one = status.replicas.iter().find(behind)?;
        Some(format!(
            "{} is behind in shard {}",
            status.node_name, one.shard
        ))
    })
}

async fn gather(run: &Run<'_>, from_ms: u64, to_ms: u64) -> anyhow::Result<Night> {
    let status = run.client.status().await?;
    let between = (from_ms.saturating_sub(2_000), to_ms + 1_000);
    let (nodes, missing) = record::gather(&run.client, &status, between).await?;
    Ok(record::night(nodes, missing, now_ms(), between))
}

/// Compares the replicas of what the canaries wrote: how many conversations, and what differs.
async fn compare(run: &Run<'_>, calls: &[Call]) -> Result<u64, String> {
    let rooms: BTreeSet<&str> = calls
        .iter()
        .map(|call| call.room.as_str())
        .filter(|room| !room.is_empty())
        .collect();
    let status = run
        .client
        .status()
        .await
        .map_err(|error| error.to_string())?;
    let address = |node: &u64| {
        let listed = status.nodes.iter().find(|one| one.node_id == *node)?;
        Some((listed.name.clone(), listed.address.clone()))
    };
    let mut checked = 0;
    for shard in status
        .shards
        .iter()
        .filter(|one| one.shard > 0)
        .take(COMPARED_MAX)
    {
        let mut first: BTreeMap<String, (u64, Vec<u8>, Vec<u8>)> = BTreeMap::new();
        for (name, address) in shard.replicas.iter().filter_map(address) {
            let hash = run.client.hash_replica(&address, shard.shard).await;
            let hash = hash.map_err(|error| format!("shard {} on {name}: {error}", shard.shard))?;
            for one in hash
                .conversations
                .iter()
                .filter(|one| rooms.contains(one.name.as_str()))
            {
                let own = (
                    one.last_seq,
                    one.running_hash.to_vec(),
                    one.disk_hash.to_vec(),
                );
                checked += 1;
                let other = first.entry(one.name.clone()).or_insert_with(|| own.clone());
                if *other != own {
                    return Err(format!("{} differs on {name}", one.name));
                }
            }
        }
    }
    Ok(checked)
}

fn measured(run: &Run<'_>, calls: &[Call], stale: &Stale) -> Measured {
    let since_us = run.steps_at_ms.saturating_mul(1_000);
    let waits = judge::waits(calls, since_us);
    let mut latencies: Vec<u64> = calls
        .iter()
        .filter(|call| !call.room.is_empty() && call.outcome.is_ok())
        .map(|call| call.ended_us.saturating_sub(call.sent_us))
        .collect();
    latencies.sort_unstable();
    let at = |percent: usize| {
        let at = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
        latencies.get(at).copied().unwrap_or(0)
    };
    let mut clients = Vec::new();
    for (name, waits) in &waits {
        let own = || calls.iter().filter(|call| call.sender == *name);
        let (dc, kind) = split(name);
        let story = own().filter_map(|call| {
            let why = call.outcome.as_ref().err()?;
            let when = crate::cmd::outage::when::clock(call.ended_us / 1_000);
            Some(format!("{when} {} failed: {why}", call.id))
        });
        let mut story: Vec<String> = story.take(10).collect();
        if let Some(worst) = &waits.worst {
            let when = crate::cmd::outage::when::clock(worst.since_us / 1_000);
            let ms = worst.us.div_ceil(1_000);
            story.push(format!("{when} it waited {ms} ms in {}", worst.room));
        }
        clients.push(ClientSeen {
            client: (*name).to_owned(),
            dc,
            kind,
            language: "rust".to_owned(),
            calls: u64::try_from(own().count()).unwrap_or(0),
            failed: waits.failed,
            gap_ms: waits.longest_ms(),
            gap_at_ms: waits
                .worst
                .as_ref()
                .map_or(0, |worst| worst.since_us / 1_000),
            story,
        });
    }
    let worst = clients
        .iter()
        .filter(|one| gauge::sends(&one.client))
        .max_by_key(|one| one.gap_ms);
    let (gap_ms, gap_whose) =
        worst.map_or((0, String::new()), |one| (one.gap_ms, one.client.clone()));
    Measured {
        gap_ms,
        gap_whose,
        calls: u64::try_from(calls.len()).unwrap_or(0),
        failed: u64::try_from(calls.iter().filter(|call| call.outcome.is_err()).count())
            .unwrap_or(0),
        stale: stale.linearizable + stale.others,
        moves: u64::try_from(run.moves.len()).unwrap_or(0),
        p50_us: at(50),
        p99_us: at(99),
        disk_pct: run.most.clone(),
        clients,
        ..Measured::default()
    }
}

/// The data center and the kind of a canary: `seoul-read-local` is `seoul` and `read-local`.
fn split(name: &str) -> (String, String) {
    for kind in ["send", "stream", "read", "tail"] {
        if let Some(at) = name.rfind(&format!("-{kind}")) {
            let rest = name[at + 1..].trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            return (name[..at].to_owned(), rest.to_owned());
        }
    }
    (String::new(), name.to_owned())
}

fn oracles(
    measured: &Measured,
    stale: &Stale,
    faults: Option<&Faults>,
    alike: &Result<u64, String>,
    gap_goal: Option<u64>,
) -> Vec<Oracle> {
    let sends: u64 = measured
        .clients
        .iter()
        .filter(|one| gauge::sends(&one.client))
        .map(|one| one.calls)
        .sum();
    let reads = measured.calls - sends.min(measured.calls);
    let oracle = |promise: &str, held: Option<bool>, checked: u64, text: String| Oracle {
        promise: promise.to_owned(),
        held,
        checked,
        text,
    };
    let none = |count: u64, what: &str| format!("{count} {what}");
    let of = |count: fn(&Faults) -> u64| faults.map(count);
    let told = |count: Option<u64>, what: &str| {
        count.map_or_else(
            || "could not be read back".to_owned(),
            |count| none(count, what),
        )
    };
    let lost = of(|faults| faults.lost);
    let reordered = of(|faults| faults.reordered);
    let twice = of(|faults| faults.duplicated);
    let served = measured.failed == 0 && gap_goal.is_none_or(|goal| measured.gap_ms <= goal);
    vec![
        oracle(
            "D",
            lost.map(|n| n == 0),
            sends,
            told(lost, "acknowledged messages are lost"),
        ),
        oracle(
            "O",
            reordered.map(|n| n == 0),
            sends,
            told(reordered, "are out of order"),
        ),
        oracle(
            "E",
            twice.map(|n| n == 0),
            sends,
            told(twice, "are there more often than sent"),
        ),
        oracle(
            "L",
            Some(stale.linearizable == 0),
            reads,
            none(
                stale.linearizable,
                "reads at LINEARIZABLE missed what was acknowledged before",
            ),
        ),
        oracle(
            "S",
            Some(stale.others == 0),
            reads,
            none(
                stale.others,
                "reads and tails showed less than their level promises",
            ),
        ),
        oracle(
            "G",
            Some(served),
            measured.calls,
            format!(
                "{} calls failed, the longest wait was {} ms",
                measured.failed, measured.gap_ms
            ),
        ),
        match alike {
            Ok(0) => oracle("H", None, 0, "no replica was compared".to_owned()),
            Ok(checked) => oracle("H", Some(true), *checked, "replicas are alike".to_owned()),
            Err(why) if why.contains("differs") => oracle("H", Some(false), 1, why.clone()),
            Err(why) => oracle("H", None, 0, why.clone()),
        },
    ]
}

/// A sender that was hardly served.
fn cold(calls: &[Call]) -> Option<String> {
    let mut acks: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        let own = acks.entry(&call.sender).or_default();
        *own += usize::from(call.outcome.is_ok());
    }
    let few = |(name, count): &(&&str, &usize)| gauge::sends(name) && **count < ACKS_MIN;
    match acks.is_empty() {
        true => Some("nobody".to_owned()),
        false => acks.iter().find(few).map(|(name, _)| (*name).to_owned()),
    }
}

/// What the end hangs on.
struct Verdict {
    aborted: Option<String>,
    read: Result<(), String>,
    cold: Option<String>,
    whole: Result<(), String>,
    unwatched: bool,
}

impl Verdict {
    fn end(
        &self,
        measured: &Measured,
        oracles: &[Oracle],
        plan: &server::drill::plan::Plan,
    ) -> (End, String) {
        let broken = oracles
            .iter()
            .find(|one| one.held == Some(false) && one.promise != "G");
        if let Some(one) = broken {
            return (
                End::Broken,
                format!("promise {}: {}", one.promise, one.text),
            );
        }
        if let Some(why) = &self.aborted {
            return (End::Aborted, why.clone());
        }
        if let Err(why) = &self.read {
            return (
                End::Inconclusive,
                format!("what was sent could not be read back: {why}"),
            );
        }
        if let Some(who) = &self.cold {
            return (End::Inconclusive, format!("{who} was hardly served"));
        }
        if self.unwatched {
            let why = "another controller took over, and nobody watched meanwhile";
            return (End::Inconclusive, why.to_owned());
        }
        let goals = plan.goals;
        let gap = goals.gap_ms.filter(|goal| measured.gap_ms > *goal);
        if measured.failed > goals.failed {
            let why = format!(
                "{} calls failed where {} may",
                measured.failed, goals.failed
            );
            return (End::Missed, why);
        }
        if let Some(goal) = gap {
            let why = format!(
                "{} waited {} ms, the goal is {goal} ms",
                measured.gap_whose, measured.gap_ms
            );
            return (End::Missed, why);
        }
        if let Err(why) = &self.whole {
            return (End::Missed, why.clone());
        }
        let why = format!(
            "every goal was met: {} failed calls, the longest wait {} ms",
            measured.failed, measured.gap_ms
        );
        (End::Passed, why)
    }
}

/// Moments that the recorders have, and the canaries' first answer.
fn recorded(run: &Run<'_>, night: &Night, calls: &[Call], known: &[Happened]) -> Vec<Happened> {
    let inject = known
        .iter()
        .find(|one| one.moment == Moment::Inject)
        .map(|one| one.at_ms);
    let Some(inject) = inject else {
        return Vec::new();
    };
    let heal = known
        .iter()
        .find(|one| matches!(one.moment, Moment::Heal | Moment::Abort));
    let heal = heal.map_or(u64::MAX, |one| one.at_ms);
    let names = night.names();
    let name = |id: u64| names.get(&id).cloned().unwrap_or_else(|| format!("n{id}"));
    let of_plan: BTreeSet<&String> = run.plan.steps.iter().flat_map(|one| &one.nodes).collect();
    let mut found = Vec::new();
    let mut led: Vec<(u64, u32, u64)> = Vec::new();
    let mut detected = false;
    for (at, node, what) in night.events() {
        if at < inject || at > heal {
            continue;
        }
        match what {
            What::Verdict(verdict)
                if !detected
                    && verdict.verdict != "up"
                    && of_plan.contains(&name(verdict.peer))
                    && !of_plan.contains(&name(node)) =>
            {
                detected = true;
                let text = format!(
                    "{} takes {} for {}",
                    name(node),
                    name(verdict.peer),
                    verdict.verdict
                );
                found.push(moment(at, Moment::Detect, text));
            }
            What::Led(one) if one.own => led.push((at, one.shard, node)),
            _ => {}
        }
    }
    led.sort_unstable();
    if let (Some(first), Some(last)) = (led.first(), led.last()) {
        let text =
            |(_, shard, node): &(u64, u32, u64)| format!("shard {shard} is led by {}", name(*node));
        found.push(moment(first.0, Moment::FirstLeader, text(first)));
        found.push(moment(last.0, Moment::LastLeader, text(last)));
    }
    // A canary that was on its way when the fault came, and waited longer than 99 of 100 do.
    let mut calm: Vec<u64> = calls
        .iter()
        .filter(|call| !call.room.is_empty() && call.ended_us < inject * 1_000)
        .map(|call| call.ended_us.saturating_sub(call.sent_us))
        .collect();
    calm.sort_unstable();
    let usual = calm.get(calm.len() * 99 / 100).copied().unwrap_or(0);
    let waited = calls.iter().filter(|call| {
        let (sent_ms, ended_ms) = (call.sent_us / 1_000, call.ended_us / 1_000);
        let long = call.ended_us.saturating_sub(call.sent_us) > usual.saturating_mul(2);
        !call.room.is_empty()
            && call.outcome.is_ok()
            && long
            && ended_ms >= inject
            && sent_ms <= heal
    });
    if let Some(first) = waited.min_by_key(|call| call.ended_us) {
        let ms = first.ended_us.saturating_sub(first.sent_us).div_ceil(1_000);
        let text = format!("{} is answered after {ms} ms", first.sender);
        found.push(moment(first.ended_us / 1_000, Moment::FirstAck, text));
    }
    found
}

fn moment(at_ms: u64, moment: Moment, text: String) -> Happened {
    Happened {
        at_ms,
        moment,
        text,
    }
}

async fn approvals(run: &Run<'_>) -> Vec<Approval> {
    let Ok(told) = book::look(&run.client).await else {
        return Vec::new();
    };
    let drills = book::drills(&told);
    let held = drills.drills.iter().find(|one| one.id == run.plan.id);
    let held = held.map(|one| &one.approvals[..]).unwrap_or_default();
    held.iter()
        .map(|one| Approval {
            who: one.who.clone(),
            at_ms: one.at_ms,
        })
        .collect()
}

/// Stores the end, the summary and the proofs in the meta shard.
async fn conclude(run: &Run<'_>, paper: &Paper, _: &[&GetStatusResponse]) -> anyhow::Result<()> {
    for note in &run.notes {
        let beat = BeatDrill {
            id: run.plan.id.clone(),
            number: run.number,
            note: note.clone(),
        };
        // Of one that was ended by others nothing more is noted.
        if run.client.change_drill(Change::Beat(beat)).await.is_err() {
            break;
        }
    }
    let conclude = ConcludeDrill {
        id: run.plan.id.clone(),
        number: run.number,
        end: wire_end(paper.end).into(),
        why: short(&paper.why, 900),
        summary: summary(paper),
    };
    let told = run.client.change_drill(Change::Conclude(conclude)).await;
    told.context("the cluster does not note how the drill ended; the paper is in its folder")?;
    prove(&run.client, paper).await
}

/// What the meta shard keeps of a paper.
fn summary(paper: &Paper) -> String {
    let measured = &paper.measured;
    let mut oracles = BTreeMap::new();
    for one in &paper.oracles {
        oracles.insert(&one.promise, one.held);
    }
    let told = serde_json::json!({
        "began_ms": paper.began_ms, "ended_ms": paper.ended_ms, "calls": measured.calls,
        "failed": measured.failed, "gap_ms": measured.gap_ms, "gap_whose": measured.gap_whose,
        "lost": measured.lost, "duplicated": measured.duplicated, "reordered": measured.reordered,
        "stale": measured.stale, "moves": measured.moves, "p99_us": measured.p99_us,
        "predicted_gap_ms": paper.predicted.gap_ms, "oracles": oracles,
        "deviations": paper.deviations.len(),
        "rehearsed_gap_p99_ms": paper.rehearsal.as_ref().map(|one| one.calm.gap_ms.p99),
    });
    let text = told.to_string();
    match text.len() <= SUMMARY_BYTES_MAX {
        true => text,
        false => "{}".to_owned(),
    }
}

/// Notes each promise that was held against the ledger, when the drill went to its end.
async fn prove(client: &Client, paper: &Paper) -> anyhow::Result<()> {
    let whole = matches!(paper.end, End::Passed | End::Missed | End::Broken);
    for one in paper
        .oracles
        .iter()
        .filter(|one| whole && one.held.is_some())
    {
        let prove = ProvePromise {
            promise: one.promise.clone(),
            held: one.held,
            by: paper.plan.id.clone(),
            evidence: short(&format!("{} looked at: {}", one.checked, one.text), 900),
            limit_ms: None,
        };
        let told = client.change_drill(Change::Prove(prove)).await;
        told.with_context(|| format!("the proof of {} is not noted", one.promise))?;
    }
    Ok(())
}

/// What fits of a text.
fn short(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text[..end].chars().map(|one| {
        if model::text::is_forbidden(one) {
            ' '
        } else {
            one
        }
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::run::tests_plan;
    use server::drill::plan::Goals;

    fn verdict() -> Verdict {
        Verdict {
            aborted: None,
            read: Ok(()),
            cold: None,
            whole: Ok(()),
            unwatched: false,
        }
    }

    #[track_caller]
    fn check(verdict: &Verdict, measured: &Measured, faults: &Faults, expect: End) {
        let plan = server::drill::plan::Plan {
            goals: Goals {
                failed: 0,
                gap_ms: Some(1_500),
            },
            ..tests_plan()
        };
        let all = oracles(
            measured,
            &Stale::default(),
            Some(faults),
            &Ok(9),
            Some(1_500),
        );
        let (end, why) = verdict.end(measured, &all, &plan);
        assert_eq!(end, expect, "{why}");
    }

    #[test]
    fn the_end_is_the_worst_that_is_true() {
        let (fine, none) = (Measured::default(), Faults::default());
        let lost = Faults {
            lost: 1,
            ..Faults::default()
        };
        let slow = Measured {
            gap_ms: 1_501,
            ..Measured::default()
        };
        let failed = Measured {
            failed: 1,
            ..Measured::default()
        };
        check(&verdict(), &fine, &none, End::Passed);
        check(&verdict(), &slow, &none, End::Missed);
        check(&verdict(), &failed, &none, End::Missed);
        check(&verdict(), &fine, &lost, End::Broken);
        let aborted = Verdict {
            aborted: Some("a cap".into()),
            ..verdict()
        };
        check(&aborted, &slow, &none, End::Aborted);
        check(&aborted, &slow, &lost, End::Broken);
        let unread = Verdict {
            read: Err("no quorum".into()),
            ..verdict()
        };
        check(&unread, &fine, &none, End::Inconclusive);
        let unwatched = Verdict {
            unwatched: true,
            ..verdict()
        };
        check(&unwatched, &fine, &none, End::Inconclusive);
    }

    #[test]
    fn a_canary_tells_its_data_center_and_its_kind() {
        for (name, dc, kind) in [
            ("seoul-send-1", "seoul", "send"),
            ("eu-west-1-stream-3", "eu-west-1", "stream"),
            ("busan-read-linearizable", "busan", "read-linearizable"),
            ("tokyo-tail", "tokyo", "tail"),
        ] {
            assert_eq!(split(name), (dc.to_owned(), kind.to_owned()), "{name}");
        }
    }
}
