//! What a node gives out of tenants' quotas, and what the keeper of a tenant's quotas does.
//!
//! ```text
//!   node: share = limit / nodes ──► enough? ──► yes: taken here, told to the keeper a little later
//!                                     │ no
//!                                     ▼
//!   keeper: the whole limit, less what nodes have told ──► granted, or refused with how long to wait
//! ```
//!
//! So one node alone can use a whole limit, and all together use no more than it but for what is not told yet:
//! at most one burst, once. A node that does not reach the keeper gives out its share and no more.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::quota::{Quota, Take};

/// Buckets of one tenant that are kept, at most: those of users and conversations come and go.
const BUCKETS_MAX: usize = 20_000;

/// A bucket's quota, and whose it is.
type Of = (Quota, String);

/// The buckets of one tenant.
#[derive(Debug, Default)]
pub struct Buckets(BTreeMap<Of, Bucket>);

impl Buckets {
    /// The bucket of a take, filled up to now.
    fn get(&mut self, take: &Take, parts: u64, now: Instant) -> &mut Bucket {
        if self.0.len() >= BUCKETS_MAX {
            // One that is full says no more than one that is not there.
            self.0.retain(|(quota, _), bucket| {
                let limit = if *quota == take.quota { take.limit } else { 0 };
                if limit > 0 {
                    bucket.settle(limit, parts, now);
                }
                !bucket.is_full()
            });
            while self.0.len() >= BUCKETS_MAX {
                self.0.pop_first();
            }
        }
        let of = (take.quota, take.of.clone());
        let full = || Bucket::full(take.limit, parts, now);
        let bucket = self.0.entry(of).or_insert_with(full);
        bucket.settle(take.limit, parts, now);
        bucket
    }

    /// Whether there is enough for all of it.
    ///
    /// # Errors
    /// Which quota lacks most, and for how long.
    fn have(&mut self, takes: &[Take], parts: u64, now: Instant) -> Result<(), Short> {
        let short = takes.iter().filter_map(|take| {
            let wait = self.get(take, parts, now).wait(take.amount);
            let wait_us = u64::try_from(wait.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
            (wait_us > 0).then_some(Short {
                quota: take.quota,
                wait_us,
            })
        });
        short.max_by_key(|short| short.wait_us).map_or(Ok(()), Err)
    }
}

/// Why something is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// The quota that lacks it.
    pub quota: Quota,
    /// When there is enough of it, microseconds from now.
    pub wait_us: u64,
}

/// What a node tells of its share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShareReport {
    /// What it has given out since it told last.
    pub used: Vec<Take>,
    /// What it had told and was not used after all.
    pub returned: Vec<Take>,
}

/// What the keeper of a tenant's quotas knows of it.
#[derive(Debug, Default)]
struct Kept {
    buckets: Buckets,
    /// Conversations of each shard, as its leader counted them last, and when.
    counts: BTreeMap<u32, (u64, Instant)>,
}

/// The keeper's part: the whole limits.
#[derive(Debug, Default)]
pub struct Keeper(Mutex<BTreeMap<String, Kept>>);

impl Keeper {
    /// Takes in what a node has given out of its share, and counted.
    pub fn told(&self, tenant: &str, told: &ShareReport, counts: &[(u32, u64)], now: Instant) {
        let mut all = self.0.lock();
        let kept = all.entry(tenant.to_owned()).or_default();
        for take in &told.used {
            kept.buckets.get(take, 1, now).take(take.amount);
        }
        for take in &told.returned {
            kept.buckets.get(take, 1, now).give_back(take.amount);
        }
        for (shard, count) in counts {
            kept.counts.insert(*shard, (*count, now));
        }
    }

    /// Grants all of it or nothing.
    ///
    /// # Errors
    /// Which quota lacks most, and for how long.
    pub fn take(&self, tenant: &str, takes: &[Take], now: Instant) -> Result<(), Short> {
        let mut all = self.0.lock();
        let kept = all.entry(tenant.to_owned()).or_default();
        kept.buckets.have(takes, 1, now)?;
        for take in takes {
            kept.buckets.get(take, 1, now).take(take.amount);
        }
        Ok(())
    }

    /// Conversations of a tenant, as far as leaders have counted lately; `is_shard` says which shards there are.
    pub fn conversations(&self, tenant: &str, is_shard: impl Fn(u32) -> bool) -> u64 {
        let all = self.0.lock();
        let counts = all.get(tenant).map(|kept| &kept.counts);
        let counts = counts.into_iter().flatten();
        let counts = counts.filter(|(shard, _)| is_shard(**shard));
        counts.fold(0_u64, |sum, (_, (count, _))| sum.saturating_add(*count))
    }

    /// Forgets tenants that there are not any more.
    pub fn keep(&self, is_one: impl Fn(&str) -> bool) {
        self.0.lock().retain(|tenant, _| is_one(tenant));
    }
}

/// What a node gives out of one tenant's quotas.
#[derive(Debug, Default)]
struct Share {
    buckets: Buckets,
    /// Granted by the keeper beyond what was asked for at the time.
    ahead: BTreeMap<Quota, u64>,
    /// Given out of the share and not told yet, with its limit; below 0 where more was told.
    used: BTreeMap<Of, (i64, u64)>,
    /// The tenant has as many conversations as it may have, as the keeper says.
    full: bool,
    /// When it was used last.
    active: Option<Instant>,
}

/// The node's own part.
#[derive(Debug, Default)]
pub struct Shares(Mutex<BTreeMap<String, Share>>);

/// What of a call is still to be asked of the keeper.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// What the share lacks.
    pub takes: Vec<Take>,
    /// What the share has given for it, to be given back if the rest is refused.
    given: Vec<Take>,
    /// What the keeper was granted ahead and has been used for it.
    ahead: Vec<Take>,
}

impl Shares {
    /// Gives out of the share what it has: nothing is lacking then.
    pub fn take(&self, tenant: &str, takes: Vec<Take>, parts: u64, now: Instant) -> Lacks {
        let mut all = self.0.lock();
        let share = all.entry(tenant.to_owned()).or_default();
        share.active = Some(now);
        let mut lacks = Lacks::default();
        for take in takes {
            let ahead = share.ahead.get_mut(&take.quota);
            if let Some(ahead) = ahead.filter(|ahead| take.of.is_empty() && **ahead >= take.amount)
            {
                *ahead -= take.amount;
                lacks.ahead.push(take);
                continue;
            }
            let bucket = share.buckets.get(&take, parts, now);
            if bucket.holds(take.amount) {
                bucket.take(take.amount);
                share.note(&take, 1);
                lacks.given.push(take);
            } else {
                lacks.takes.push(take);
            }
        }
        lacks
    }

    /// Gives back what was given for a call that is refused.
    pub fn give_back(&self, tenant: &str, lacks: Lacks, parts: u64, now: Instant) {
        let mut all = self.0.lock();
        let Some(share) = all.get_mut(tenant) else {
            return;
        };
        for take in lacks.ahead {
            *share.ahead.entry(take.quota).or_default() += take.amount;
        }
        for take in lacks.given {
            share.buckets.get(&take, parts, now).give_back(take.amount);
            share.note(&take, -1);
        }
    }

    /// As [`Keeper::take`], of the share alone: the keeper is out of reach.
    ///
    /// # Errors
    /// Which quota lacks most, and for how long.
    pub fn take_alone(
        &self,
        tenant: &str,
        takes: &[Take],
        parts: u64,
        now: Instant,
    ) -> Result<(), Short> {
        let mut all = self.0.lock();
        let share = all.entry(tenant.to_owned()).or_default();
        share.buckets.have(takes, parts, now)?;
        for take in takes {
            share.buckets.get(take, parts, now).take(take.amount);
            share.note(take, 1);
        }
        Ok(())
    }

    /// What was granted ahead is there for the next calls.
    pub fn ahead(&self, tenant: &str, takes: &[Take]) {
        let mut all = self.0.lock();
        let share = all.entry(tenant.to_owned()).or_default();
        for take in takes {
            *share.ahead.entry(take.quota).or_default() += take.amount;
        }
    }

    /// What was given out and is not told yet. It counts as told.
    pub fn untold(&self, tenant: &str) -> ShareReport {
        let mut told = ShareReport::default();
        let mut all = self.0.lock();
        let Some(share) = all.get_mut(tenant) else {
            return told;
        };
        for ((quota, of), (amount, limit)) in std::mem::take(&mut share.used) {
            let list = match amount {
                0 => continue,
                1.. => &mut told.used,
                _ => &mut told.returned,
            };
            list.push(Take {
                quota,
                of,
                amount: amount.unsigned_abs(),
                limit,
            });
        }
        told
    }

    /// The telling did not arrive: it is to be told again.
    pub fn tell_again(&self, tenant: &str, told: &ShareReport) {
        let mut all = self.0.lock();
        if let Some(share) = all.get_mut(tenant) {
            told.used.iter().for_each(|take| share.note(take, 1));
            told.returned.iter().for_each(|take| share.note(take, -1));
        }
    }

    /// Tenants that were used since `since`.
    pub fn active(&self, since: Instant) -> Vec<String> {
        let all = self.0.lock();
        let active = all
            .iter()
            .filter(|(_, share)| share.active.is_some_and(|at| at >= since));
        active.map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Notes whether a tenant has as many conversations as it may have.
    pub fn set_full(&self, tenant: &str, full: bool) {
        let mut all = self.0.lock();
        if let Some(share) = all.get_mut(tenant) {
            share.full = full;
        }
    }

    /// Whether it has, as far as is known here. It counts as used now.
    pub fn is_full(&self, tenant: &str, now: Instant) -> bool {
        let mut all = self.0.lock();
        let share = all.entry(tenant.to_owned()).or_default();
        share.active = Some(now);
        share.full
    }

    /// Forgets tenants that there are not any more.
    pub fn keep(&self, is_one: impl Fn(&str) -> bool) {
        self.0.lock().retain(|tenant, _| is_one(tenant));
    }
}

impl Share {
    fn note(&mut self, take: &Take, sign: i64) {
        let of = (take.quota, take.of.clone());
        let (used, limit) = self.used.entry(of).or_default();
        let amount = i64::try_from(take.amount).unwrap_or(i64::MAX);
        *used = used.saturating_add(amount * sign);
        *limit = take.limit;
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
