//! What the canaries' calls come to.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::record::What;
use server::drill::paper::{ClientSeen, Happened, Measured, Moment};
use server::night::Night;

use super::Run;
use super::canary::Stale;
use crate::canary::who::{ANY, Who};
use crate::canary::{Call, judge};

/// With fewer acknowledgements of each sender nothing can be told.
const ACKS_MIN: usize = 10;

/// The figures of all calls.
pub fn measured(run: &Run<'_>, calls: &[Call], stale: &Stale) -> Measured {
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
        let who = Who::of(name);
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
            dc: who.dc.to_owned(),
            kind: who.kind.to_owned(),
            language: who.language.to_owned(),
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
    let longest = |which: fn(&Who<'_>) -> bool| {
        let those = clients.iter().filter(|one| which(&Who::of(&one.client)));
        those.max_by_key(|one| one.gap_ms)
    };
    let plain = longest(|who| who.kind == ANY);
    let plain_gap_ms = plain.map_or(0, |one| one.gap_ms);
    let worst = longest(|who| who.is_judged());
    let (gap_ms, gap_whose) =
        worst.map_or((0, String::new()), |one| (one.gap_ms, one.client.clone()));
    Measured {
        gap_ms,
        gap_whose,
        plain_gap_ms,
        late_ms: run.late_ms,
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
/// A sender that was hardly served.
pub fn cold(calls: &[Call]) -> Option<String> {
    let mut acks: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        let own = acks.entry(&call.sender).or_default();
        *own += usize::from(call.outcome.is_ok());
    }
    let few = |(name, count): &(&&str, &usize)| Who::of(name).sends() && **count < ACKS_MIN;
    match acks.is_empty() {
        true => Some("nobody".to_owned()),
        false => acks.iter().find(few).map(|(name, _)| (*name).to_owned()),
    }
}
/// Moments that the recorders have, and the canaries' first answer.
pub fn recorded(run: &Run<'_>, night: &Night, calls: &[Call], known: &[Happened]) -> Vec<Happened> {
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

/// How many shards and terms the recorders have a leader of, and one that they have two of.
pub fn terms(night: &Night) -> (u64, Option<String>) {
    let mut leaders: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let mut two = None;
    for (_, node, what) in night.events() {
        let What::Led(one) = what else { continue };
        if !one.own {
            continue;
        }
        let known = *leaders.entry((one.shard, one.term)).or_insert(node);
        if known != node {
            two = Some(format!(
                "nodes {known} and {node} both led shard {} in term {}",
                one.shard, one.term
            ));
        }
    }
    (u64::try_from(leaders.len()).unwrap_or(u64::MAX), two)
}
