//! The load of a night, as one that goes on evenly.

use proto::v1::record::What;
use server::night::Night;
use server::night::account::Account;

use super::Window;
use crate::plan::{Readers, Site, Workload};

/// Messages a second that are replayed at most.
const RATE_MAX: u64 = 120;
/// Senders, at most.
const SENDERS_MAX: u64 = 24;
/// A body, bytes, at most.
const BODY_MAX: u64 = 16_384;

pub(super) fn workload(
    night: &Night,
    account: &Account,
    window: Window,
    not_in_it: &mut Vec<String>,
) -> Workload {
    let rate = rate(night, account);
    let replayed = rate.clamp(8, RATE_MAX);
    if replayed != rate {
        not_in_it.push(format!(
            "{replayed} messages a second instead of about {rate}"
        ));
    }
    not_in_it
        .push("the load goes on evenly; reads, tails and its ups and downs are not in it".into());
    let senders = replayed.div_ceil(5).clamp(4, SENDERS_MAX);
    let waits = account.seconds.iter().filter_map(|second| second.p50_ms);
    let mut waits: Vec<u64> = waits.collect();
    waits.sort_unstable();
    let usual = waits.get(waits.len() / 2).copied().unwrap_or(5);
    let pause = (senders * 1_000 / replayed).saturating_sub(usual).max(20);
    let body = body_bytes(night).clamp(16, BODY_MAX);
    let body = u32::try_from(body).unwrap_or(u32::MAX);
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Workload {
        duration_ms: window.to_ms - window.from_ms,
        sites: sites(night),
        rooms: small(senders),
        zipf_milli: 0,
        own_rooms: true,
        senders: small(senders),
        burst: (1, 1),
        pause_ms: (pause * 4 / 5, pause * 6 / 5),
        stream_percent: 0,
        body_bytes: (body, body),
        resend_percent: 0,
        readers: Readers {
            linearizable: 0,
            session: 0,
            bounded: 0,
            local: 0,
            bound_ms: 500,
            pause_ms: (500, 1_000),
        },
        tails: 0,
        tail_resume_ms: 0,
        movers: 0,
        move_every_ms: 0,
        changers: 0,
        deadline_ms: 10_000,
    }
}

/// Clients near each data center.
pub(crate) fn sites(night: &Night) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for node in &night.cluster.nodes {
        if sites.iter().all(|site| site.dc != node.dc) {
            sites.push(Site {
                name: format!("client-{}", node.dc),
                dc: node.dc.clone(),
                inside: false,
            });
        }
    }
    sites
}

/// Messages a second while nothing had happened yet; of the whole time where something had from its begin.
pub(crate) fn rate(night: &Night, account: &Account) -> u64 {
    let first = account.felt.iter().map(|felt| felt.from_ms).min();
    let before = first.map_or(u64::MAX, |first| {
        first.saturating_sub(night.from_ms) / 1_000
    });
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    let answered = |second: &server::night::account::Second| second.answered.values().sum::<u64>();
    let all: Vec<u64> = account.seconds.iter().map(answered).collect();
    let quiet = all.get(..before.min(all.len())).unwrap_or(&all);
    let busy = |some: &[u64]| -> Vec<u64> { some.iter().copied().filter(|n| *n > 0).collect() };
    let of = match busy(quiet) {
        few if few.len() < 3 => busy(&all),
        quiet => quiet,
    };
    match of.len() as u64 {
        0 => 0,
        seconds => of.iter().sum::<u64>() / seconds,
    }
}

/// Of a message, as logs hold them.
pub(crate) fn body_bytes(night: &Night) -> u64 {
    let (mut messages, mut bytes) = (0, 0);
    for (_, _, what) in night.events() {
        if let What::Second(second) = what {
            for shard in second.shards.iter().filter(|shard| shard.shard != 0) {
                (messages, bytes) = (messages + shard.messages, bytes + shard.bytes);
            }
        }
    }
    // A command is a body, ids and names.
    (bytes / u64::max(messages, 1)).saturating_sub(120)
}
