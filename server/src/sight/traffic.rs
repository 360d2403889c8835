//! What this node's callers ask of it and how long they wait, counted where they are answered.
//!
//! Counting must cost next to nothing: a call adds to a few atomics. What is of the last seconds or
//! minutes comes from looks that are taken once a second ([`Traffic::look`]).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use model::durations::{Counted, Durations};
use model::id::Slot;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use tonic::Code;

use crate::error::Failure;
use crate::recorder::seconds::micros;

/// Tenants that are counted by name; all others together are [`OTHERS`].
pub const TENANTS_MAX: usize = 20;
/// The tenants that are not counted by name.
pub const OTHERS: &str = "others";
/// Reasons that are counted by name; they are published, and far fewer.
const REASONS_MAX: usize = 100;

/// Places for slots that were appended to lately.
const USED_PLACES: usize = 64;
/// Looks after which those are forgotten that were not appended to again.
const USED_LOOKS: u32 = 30;

/// What rates and percentiles are of.
pub const LATELY: Duration = Duration::from_secs(10);
/// What the longest gap and the failed calls are of.
pub const WHILE: Duration = Duration::from_secs(5 * 60);
/// Between two looks at what was counted.
pub const TRAFFIC_CHECK_EVERY: Duration = Duration::from_secs(1);

/// How a call or a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Outcome {
    /// As it was asked.
    Ok,
    /// As an earlier one with the same id.
    Deduplicated,
    /// It was wrong, or a rule forbids it: trying again would not help.
    Rejected,
    /// Nothing was done, and trying again may help: no quorum, no leader, no room.
    Refused,
    /// The time was up, and it may have been done.
    Unknown,
    /// It met a fault of ours.
    Failed,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Outcome; 6] = [
        Outcome::Ok,
        Outcome::Deduplicated,
        Outcome::Rejected,
        Outcome::Refused,
        Outcome::Unknown,
        Outcome::Failed,
    ];

    /// What a failure is.
    pub fn of(failure: &Failure) -> Outcome {
        match failure.code() {
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted => Outcome::Refused,
            Code::DeadlineExceeded => Outcome::Unknown,
            Code::Internal | Code::DataLoss | Code::Unknown => Outcome::Failed,
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Outcome::Rejected,
        }
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Deduplicated => "deduplicated",
            Outcome::Rejected => "rejected",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
            Outcome::Failed => "failed",
        }
    }

    /// Whether a caller was not served who should have been.
    pub fn is_unserved(self) -> bool {
        self >= Outcome::Refused
    }
}

/// Counters by outcome.
#[derive(Debug, Default)]
pub struct Outcomes([AtomicU64; Outcome::ALL.len()]);

impl Outcomes {
    /// Adds some.
    pub fn add(&self, outcome: Outcome, count: u64) {
        self.0[outcome as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// How many ended like this.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }

    fn sum(&self, of: impl Fn(Outcome) -> bool) -> u64 {
        let wanted = Outcome::ALL.into_iter().filter(|one| of(*one));
        wanted.map(|outcome| self.get(outcome)).sum()
    }
}

/// How an append came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    /// In a call of its own, or a batch.
    Unary,
    /// As an item of a stream.
    Stream,
}

impl Way {
    /// All there are.
    pub const ALL: [Way; 2] = [Way::Unary, Way::Stream];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Way::Unary => "unary",
            Way::Stream => "stream",
        }
    }
}

/// The read levels, as metrics name them; the order of [`crate::check::Level`].
pub const LEVELS: [&str; 4] = ["linearizable", "session", "bounded", "local"];

/// What one tenant asked.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its appends, in messages.
    pub appends: Outcomes,
    /// Its reads.
    pub reads: Outcomes,
    /// Its tails that were opened, or not.
    pub tails: Outcomes,
}

/// What a node's callers asked since its start. Clones count in one.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Inner>);

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    tenants: RwLock<BTreeMap<String, Arc<Tenant>>>,
    appends: [Durations; Way::ALL.len()],
    reads: [Durations; LEVELS.len()],
    read_outcomes: [Outcomes; LEVELS.len()],
    tails_open: AtomicI64,
    refusals: RwLock<BTreeMap<&'static str, AtomicU64>>,
    gaps: Gaps,
    used: Used,
    looks: Mutex<VecDeque<Look>>,
}

/// Slots that were appended to lately; of those that share a place, the last.
struct Used {
    /// A slot and 1; 0 = none.
    places: [AtomicU32; USED_PLACES],
    /// Looks since the places were cleared.
    looks: AtomicU32,
}

impl Default for Used {
    fn default() -> Self {
        Used {
            places: [const { AtomicU32::new(0) }; USED_PLACES],
            looks: AtomicU32::new(0),
        }
    }
}

/// What had been counted at one moment.
struct Look {
    at: Instant,
    appends: Counted,
    acknowledged: u64,
    reads: u64,
    unserved: u64,
    /// The longest wait since the look before, and whose.
    gap: Duration,
    whose: Option<Whose>,
}

/// Whose a wait was: the tenant, and the slot of the conversation.
pub type Whose = (String, Slot);

/// What it came to lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lately {
    /// Messages acknowledged a second.
    pub acks_per_s: f64,
    /// Reads answered a second.
    pub reads_per_s: f64,
    /// What half of the appends took at most.
    pub p50: Option<Duration>,
    /// What 99 of 100 took at most.
    pub p99: Option<Duration>,
    /// The longest wait of an append within [`WHILE`].
    pub gap: Duration,
    /// Whose that was.
    pub whose: Option<Whose>,
    /// Calls that were not served within [`WHILE`].
    pub unserved: u64,
}

/// The longest wait since the last look, and whose it was.
#[derive(Default)]
struct Gaps {
    longest_us: AtomicU64,
    whose: Mutex<Option<Whose>>,
}

impl Gaps {
    fn note(&self, waited: Duration, whose: impl FnOnce() -> Whose) {
        let us = micros(waited);
        if self.longest_us.fetch_max(us, Ordering::Relaxed) < us {
            *self.whose.lock() = Some(whose());
        }
    }

    fn take(&self) -> (Duration, Option<Whose>) {
        let longest = Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed));
        (longest, self.whose.lock().take())
    }
}

/// An append that is being answered.
#[derive(Debug)]
pub struct Appending {
    traffic: Traffic,
    tenant: Arc<Tenant>,
    way: Way,
    slot: Slot,
    began: Instant,
}

impl Traffic {
    /// The counters of a tenant.
    pub fn tenant(&self, name: &str) -> Arc<Tenant> {
        if let Some(tenant) = self.0.tenants.read().get(name) {
            return tenant.clone();
        }
        let mut tenants = self.0.tenants.write();
        let name = match tenants.contains_key(name) || tenants.len() < TENANTS_MAX {
            true => name,
            false => OTHERS,
        };
        let new = || {
            Arc::new(Tenant {
                name: name.to_owned(),
                appends: Outcomes::default(),
                reads: Outcomes::default(),
                tails: Outcomes::default(),
            })
        };
        tenants.entry(name.to_owned()).or_insert_with(new).clone()
    }

    /// An append of `tenant` to a conversation of `slot`, whose caller waits since `began`.
    pub fn append(&self, tenant: Arc<Tenant>, slot: Slot, way: Way, began: Instant) -> Appending {
        let place = usize::from(slot.0) % USED_PLACES;
        let place = &self.0.used.places[place];
        place.store(u32::from(slot.0) + 1, Ordering::Relaxed);
        Appending {
            traffic: self.clone(),
            tenant,
            way,
            slot,
            began,
        }
    }

    /// A read has ended: at which of [`LEVELS`], and how.
    pub fn read(&self, tenant: &str, level: usize, began: Instant, failure: Option<&Failure>) {
        let outcome = failure.map_or(Outcome::Ok, Outcome::of);
        let level = level.min(LEVELS.len() - 1);
        self.0.reads[level].add(began.elapsed());
        self.0.read_outcomes[level].add(outcome, 1);
        self.tenant(tenant).reads.add(outcome, 1);
        self.refused(failure);
    }

    /// A tail was opened, or was not.
    pub fn tail(&self, tenant: &str, failure: Option<&Failure>) {
        let outcome = failure.map_or(Outcome::Ok, Outcome::of);
        self.tenant(tenant).tails.add(outcome, 1);
        self.refused(failure);
    }

    /// A tail is open until this is dropped.
    pub fn open_tail(&self) -> OpenTail {
        self.0.tails_open.fetch_add(1, Ordering::Relaxed);
        OpenTail(self.clone())
    }

    /// A call was answered with a failure; [`Appending::failed`], [`Traffic::read`] and
    /// [`Traffic::tail`] tell this too.
    pub fn refused(&self, failure: Option<&Failure>) {
        let Some(reason) = failure.map(Failure::reason) else {
            return;
        };
        if let Some(count) = self.0.refusals.read().get(reason) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut refusals = self.0.refusals.write();
        if refusals.len() < REASONS_MAX {
            let count = refusals.entry(reason).or_default();
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Some of the slots that were appended to within the last half minute or so.
    pub fn used(&self) -> Vec<Slot> {
        let places = self.0.used.places.iter();
        let slots = places.filter_map(|place| place.load(Ordering::Relaxed).checked_sub(1));
        slots
            .filter_map(|slot| u16::try_from(slot).ok().map(Slot))
            .collect()
    }

    /// All tenants that are counted.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.0.tenants.read().values().cloned().collect()
    }

    /// What appends took.
    pub fn append_durations(&self, way: Way) -> Counted {
        self.0.appends[way as usize].counted()
    }

    /// What reads at one of [`LEVELS`] took, and how they ended.
    pub fn reads(&self, level: usize) -> (Counted, &Outcomes) {
        (self.0.reads[level].counted(), &self.0.read_outcomes[level])
    }

    /// Tails that are open.
    pub fn tails_open(&self) -> u64 {
        u64::try_from(self.0.tails_open.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// How often each reason was given.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        let refusals = self.0.refusals.read();
        let counts = refusals.iter();
        counts
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
            .collect()
    }

    /// Looks at what was counted, once each [`TRAFFIC_CHECK_EVERY`].
    pub fn look(&self) {
        let inner = &self.0;
        if inner.used.looks.fetch_add(1, Ordering::Relaxed) >= USED_LOOKS {
            inner.used.looks.store(0, Ordering::Relaxed);
            for place in &inner.used.places {
                place.store(0, Ordering::Relaxed);
            }
        }
        let mut appends = Counted::default();
        for way in &inner.appends {
            appends.merge(&way.counted());
        }
        let tenants = self.tenants();
        let of_tenants = |of: fn(&Tenant) -> &Outcomes, which: fn(Outcome) -> bool| {
            let sums = tenants.iter().map(|tenant| of(tenant).sum(which));
            sums.sum::<u64>()
        };
        let acknowledged: fn(Outcome) -> bool =
            |one| matches!(one, Outcome::Ok | Outcome::Deduplicated);
        let unserved: fn(Outcome) -> bool = Outcome::is_unserved;
        let (gap, whose) = inner.gaps.take();
        let look = Look {
            at: Instant::now(),
            appends,
            acknowledged: of_tenants(|tenant| &tenant.appends, acknowledged),
            reads: of_tenants(|tenant| &tenant.reads, acknowledged),
            unserved: of_tenants(|tenant| &tenant.appends, unserved)
                + of_tenants(|tenant| &tenant.reads, unserved)
                + of_tenants(|tenant| &tenant.tails, unserved),
            gap,
            whose,
        };
        let mut looks = inner.looks.lock();
        while looks.len() > 1 && looks[1].at.elapsed() >= WHILE {
            looks.pop_front();
        }
        looks.push_back(look);
    }

    /// What it came to lately, as last looked at.
    pub fn lately(&self) -> Lately {
        let looks = self.0.looks.lock();
        let (Some(first), Some(last)) = (looks.front(), looks.back()) else {
            return Lately::default();
        };
        let before = looks.iter().rev().find(|look| last.at - look.at >= LATELY);
        let before = before.unwrap_or(first);
        let since = (last.at - before.at).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |now: u64, then: u64| match since > 0.0 {
            true => now.saturating_sub(then) as f64 / since,
            false => 0.0,
        };
        let appends = last.appends.since(&before.appends);
        let longest = looks.iter().max_by_key(|look| look.gap);
        let (gap, whose) =
            longest.map_or_else(Default::default, |look| (look.gap, look.whose.clone()));
        Lately {
            acks_per_s: rate(last.acknowledged, before.acknowledged),
            reads_per_s: rate(last.reads, before.reads),
            p50: appends.percentile(50.0),
            p99: appends.percentile(99.0),
            gap,
            whose,
            unserved: last.unserved.saturating_sub(first.unserved),
        }
    }
}

impl Appending {
    /// It ended for these messages: as many each of [`Outcome::Ok`], [`Outcome::Deduplicated`] and
    /// [`Outcome::Rejected`].
    pub fn decided(self, ok: u64, deduplicated: u64, rejected: u64) {
        let appends = &self.tenant.appends;
        for (outcome, count) in [
            (Outcome::Ok, ok),
            (Outcome::Deduplicated, deduplicated),
            (Outcome::Rejected, rejected),
        ] {
            if count > 0 {
                appends.add(outcome, count);
            }
        }
        self.ended(ok + deduplicated);
    }

    /// It failed, for so many messages.
    pub fn failed(self, failure: &Failure, messages: u64) {
        let outcome = Outcome::of(failure);
        self.tenant.appends.add(outcome, messages);
        self.traffic.refused(Some(failure));
        self.ended(if outcome.is_unserved() { messages } else { 0 });
    }

    /// Those who waited until now count, but for those who had asked for what is wrong.
    fn ended(&self, waited: u64) {
        if waited == 0 {
            return;
        }
        let took = self.began.elapsed();
        let inner = &self.traffic.0;
        inner.appends[self.way as usize].add_many(took, waited);
        inner
            .gaps
            .note(took, || (self.tenant.name.clone(), self.slot));
    }
}

/// A tail that is open.
pub struct OpenTail(Traffic);

impl Drop for OpenTail {
    fn drop(&mut self) {
        self.0.0.tails_open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(traffic: &Traffic, tenant: &str) -> Appending {
        let tenant = traffic.tenant(tenant);
        traffic.append(tenant, Slot(3), Way::Stream, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn rates_gaps_and_failures_are_of_the_last_seconds_and_minutes() {
        let traffic = Traffic::default();
        assert_eq!(traffic.lately(), Lately::default());
        for second in 0..20_u64 {
            traffic.look();
            let append = begin(&traffic, "chat");
            tokio::time::advance(TRAFFIC_CHECK_EVERY).await;
            match second {
                7 => append.failed(&Failure::Overload, 5),
                _ => append.decided(10, 1, 0),
            }
        }
        traffic.look();
        let lately = traffic.lately();
        assert_eq!(lately.acks_per_s, 11.0);
        assert_eq!(
            (lately.p50, lately.p99),
            (Some(TRAFFIC_CHECK_EVERY), Some(TRAFFIC_CHECK_EVERY))
        );
        assert_eq!((lately.gap, lately.unserved), (TRAFFIC_CHECK_EVERY, 5));
        assert_eq!(lately.whose, Some(("chat".to_owned(), Slot(3))));
        assert_eq!(traffic.refusals(), [("OVERLOAD", 1)]);
        for _ in 0..400 {
            tokio::time::advance(TRAFFIC_CHECK_EVERY).await;
            traffic.look();
        }
        let quiet = traffic.lately();
        assert_eq!(quiet, Lately::default());
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_beyond_the_bound_are_counted_together() {
        let traffic = Traffic::default();
        for number in 0..TENANTS_MAX * 3 {
            begin(&traffic, &format!("t{number}")).decided(1, 0, 0);
        }
        let tenants = traffic.tenants();
        assert_eq!(tenants.len(), TENANTS_MAX + 1);
        let others = tenants.iter().find(|tenant| tenant.name == OTHERS).unwrap();
        let counted = others.appends.get(Outcome::Ok);
        assert_eq!(counted, 2 * TENANTS_MAX as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_what_is_wrong_does_not_wait() {
        let traffic = Traffic::default();
        let append = begin(&traffic, "chat");
        tokio::time::advance(Duration::from_secs(3)).await;
        append.failed(&Failure::field("parent", "must be a name"), 1);
        traffic.look();
        assert_eq!(traffic.lately().gap, Duration::ZERO);
        assert_eq!(traffic.lately().unserved, 0);
        let open = traffic.open_tail();
        assert_eq!(traffic.tails_open(), 1);
        drop(open);
        assert_eq!(traffic.tails_open(), 0);
    }
}
