//! What is made of a drill once its steps are over: whole again, read back, judged, recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use firebreak::ledger::Faults;
use server::drill::paper::{Approval, FORMAT, KIND, Kept, Measured, Paper};
use server::night::Night;

use super::canary::{Canaries, Places, Stale};
use super::verdict::{DrillEvidence, Verdict, oracles};
use super::{Run, conclude, ledger, measure, now_ms, save, whole};
use crate::canary::{Call, judge};
use crate::cmd::outage::record;
use crate::drill::book;

/// How long a node may take to say how it is.
pub const ASK: Duration = Duration::from_secs(1);
/// How long one page may take when all is read back.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Shards whose replicas are compared.
const COMPARED_MAX: usize = 16;
/// The machine was late by so much more than once in a while when this is told.
const LATE_MS: u64 = 50;

/// Makes the paper, tells the meta shard, and writes the folder.
pub async fn make(
    mut run: Run<'_>,
    aborted: Option<String>,
    earlier: Vec<Call>,
) -> anyhow::Result<Paper> {
    let began_ms = run
        .timeline
        .first()
        .map_or_else(now_ms, |first| first.at_ms);
    let in_flight = ledger::in_flight(&earlier);
    let (calls, stale) = stop(&mut run, earlier).await?;
    let whole = whole::again(&mut run).await;
    let ended_ms = now_ms();
    let night = gather(&run, began_ms, ended_ms).await;
    if let Err(why) = &night {
        run.deviations
            .push(format!("the recorders could not be asked: {why:#}"));
    }
    let reader = run.client.with_deadline(READ_LIMIT);
    let sent: Vec<&Call> = calls.iter().chain(&in_flight).collect();
    let faults = judge::read_back(&reader, &sent).await;
    let alike = compare(&run, &calls).await;
    let measured = measured(&mut run, &calls, &stale, faults.as_ref().ok());
    let goal = run.plan.goals.gap_ms;
    let seen = DrillEvidence {
        stale: &stale,
        faults: faults.as_ref().ok(),
        alike: &alike,
        gap_goal: goal,
        terms: night.as_ref().ok().map(measure::terms),
        healing: run.healing,
        asked: run.asked,
    };
    let oracles = oracles(&measured, &seen);
    let cold = measure::cold(&calls);
    if cold.is_some() {
        let hardly = "some canaries were hardly served".to_owned();
        run.deviations.push(hardly);
    }
    let verdict = Verdict {
        aborted,
        read: faults.as_ref().map(drop).map_err(|why| format!("{why:#}")),
        cold,
        whole,
        unwatched: run.options.resume,
    };
    let (end, why) = verdict.end(&measured, &oracles, run.plan);
    let mut timeline = std::mem::take(&mut run.timeline);
    if let Ok(night) = &night {
        let recorded = measure::recorded(&run, night, &calls, &timeline);
        timeline.extend(recorded);
        let text = serde_json::to_string(night)?;
        save(&run.options.dir, "night.json", &text)?;
    }
    timeline.sort_by_key(|one| one.at_ms);
    let paper = Paper {
        kind: KIND.to_owned(),
        format: FORMAT,
        plan: run.plan.clone(),
        cluster: run.fit.cluster.clone(),
        approvals: approvals(&run).await,
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
    let text = serde_json::to_string_pretty(&paper)? + "\n";
    save(&run.options.dir, "paper.json", &text)?;
    conclude::conclude(&run, &paper).await?;
    Ok(paper)
}

/// Ends the canaries, writes down what is not written yet, and gives all calls, those of earlier
/// controllers too.
async fn stop(run: &mut Run<'_>, earlier: Vec<Call>) -> anyhow::Result<(Vec<Call>, Stale)> {
    let nobody = Canaries::start("none", &Places::default(), &run.client)?;
    let canaries = std::mem::replace(&mut run.canaries, nobody);
    let seen = usize::try_from(run.gauge.calls).unwrap_or(usize::MAX);
    let (mut calls, stale, wrong) = canaries.stop().await;
    run.deviations.extend(wrong);
    run.late_ms = run
        .late
        .take()
        .map_or(0, |probe| super::hands::ms(probe.stop()));
    for call in calls.iter().skip(seen) {
        run.write(call).map_err(|why| anyhow::anyhow!(why))?;
    }
    calls.extend(earlier);
    Ok((calls, stale))
}

/// The figures, and what is to be told beside them.
fn measured(run: &mut Run<'_>, calls: &[Call], stale: &Stale, faults: Option<&Faults>) -> Measured {
    let mut measured = measure::measured(run, calls, stale);
    if let Some(faults) = faults {
        (measured.lost, measured.duplicated, measured.reordered) =
            (faults.lost, faults.duplicated, faults.reordered);
        run.deviations.extend(faults.notes.iter().cloned());
    }
    run.deviations.extend(stale.notes.iter().cloned());
    if measured.late_ms >= LATE_MS {
        let late = measured.late_ms;
        run.deviations.push(format!(
            "the controller's machine was up to {late} ms late in running what was due: waits include that"
        ));
    }
    measured
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
