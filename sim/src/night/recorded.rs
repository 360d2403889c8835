//! What was recorded, as if a run had come to it: so that it is drawn by what draws runs.

use std::collections::BTreeMap;

use server::night::Night;
use server::night::account::Account;

use super::Window;
use crate::outcome::{Led, Mark, Outcome, Second, Verdict};
use crate::plan::Plan;

/// A part of a night as an outcome of `plan`, which is that part's. Nothing in it was judged.
pub fn recorded(night: &Night, account: &Account, window: Window, plan: &Plan) -> Outcome {
    let names = night.names();
    let name = |id: u64| names.get(&id).cloned().unwrap_or_else(|| format!("n{id}"));
    let mut outcome = Outcome::unseen(plan.clone(), Verdict::Held);
    let ms = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
    outcome.leaders = account
        .leaders
        .iter()
        .filter(|led| led.at_ms <= window.to_ms)
        .map(|led| Led {
            // Who led before the time did so when it began.
            at_ms: (ms(led.at_ms) - ms(window.from_ms)).max(if led.term == 0 {
                -1
            } else {
                i64::MIN
            }),
            shard: led.shard,
            host: name(led.node),
            term: led.term,
        })
        .collect();
    outcome.timeline = plan
        .events
        .iter()
        .map(|event| Mark {
            at_ms: event.at_ms,
            kind: event.fault.kind().to_owned(),
            ends: event.fault.ends(),
            line: event.line,
            hosts: event.fault.hosts().to_vec(),
            between: None,
            story: None,
            text: event.fault.to_string(),
        })
        .collect();
    outcome.seconds = seconds(night, account, window);
    outcome.acked = account.answered;
    outcome.failed_calls = account.failed;
    let gap = account.gaps.iter().find(|gap| {
        gap.from_ms >= window.from_ms && gap.to_ms <= window.to_ms && gap.to_ms > gap.from_ms
    });
    if let Some(gap) = gap {
        outcome.longest_gap_ms = gap.ms;
        outcome.longest_gap_at_ms = (gap.from_ms - window.from_ms, gap.to_ms - window.from_ms);
    }
    outcome
}

fn seconds(night: &Night, account: &Account, window: Window) -> Vec<Second> {
    let skip = window.from_ms.saturating_sub(night.from_ms) / 1_000;
    let count = (window.to_ms - window.from_ms).div_ceil(1_000);
    let small = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let part = account.seconds.iter().skip(small(skip)).take(small(count));
    part.map(|second| {
        let mut acked: BTreeMap<String, u64> = BTreeMap::new();
        for (node, count) in &second.answered {
            let site = format!("client-{}", night.dc_of(*node));
            *acked.entry(site).or_default() += count;
        }
        Second {
            acked,
            p50_ms: second.p50_ms,
            p99_ms: second.p99_ms,
            max_ms: second.max_ms,
            failed: second.failed,
        }
    })
    .collect()
}
