//! When callers were not served, by tenant and feature, so that they can be told and compensated exactly.
//!
//! ```text
//!   traffic (the gateway's own counts) ─┐
//!   canary ─────────────────────────────┴─► a window, open while it goes on ─► ended ─► stored
//! ```
//!
//! A window is of one tenant and feature at one node: from the last look without trouble to the first
//! [`QUIET`] without any. Ended ones are appended, as messages, to a conversation of their own for each
//! month: they are replicated and durable as everything else, and read back like it. The third witness,
//! the flight recorder, is asked when outages are told; where witnesses differ the wider one counts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use model::command::{Answer, Append, NewMessage};
use model::id::ConversationName;
use parking_lot::Mutex;
use prost::Message as _;
use proto::v1;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::health;
use super::local::Local;
use super::traffic::{Outcome, Outcomes, Tenant};
use crate::convert;
use crate::deadline::Deadline;
use crate::found::hex;
use crate::gateway::Target;

/// The tenant whose conversations hold what was not served.
pub const TENANT: &str = "firebreak-outages";
/// Tenants whose conversations nodes keep for themselves.
const OWN: [&str; 2] = [TENANT, health::TENANT];
/// For how long outages are told, days.
pub const KEPT_DAYS: u64 = 400;
/// A window ends after so long without a call that was not served.
pub const QUIET: Duration = Duration::from_secs(10);
/// A window that goes on is stored in pieces of this length, so that a node that dies loses little.
pub const PIECE: Duration = Duration::from_secs(60);
/// Between two looks at what callers were told.
const OUTAGES_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Windows that wait to be stored; above that the oldest are lost, and counted.
const WAITING_MAX: usize = 1_000;
/// Windows that a node stores in a day at most: what comes above is added up in memory only.
const STORED_A_DAY_MAX: u64 = 5_000;
/// How long storing one may take before it is tried again.
const STORE_MAX: Duration = Duration::from_secs(5);

/// What callers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Appending.
    Send,
    /// Reading.
    Read,
    /// Following.
    Tail,
}

impl Feature {
    /// All there are.
    pub const ALL: [Feature; 3] = [Feature::Send, Feature::Read, Feature::Tail];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Send => "send",
            Feature::Read => "read",
            Feature::Tail => "tail",
        }
    }

    fn outcomes(self, tenant: &Tenant) -> &Outcomes {
        match self {
            Feature::Send => &tenant.appends,
            Feature::Read => &tenant.reads,
            Feature::Tail => &tenant.tails,
        }
    }
}

/// Whose trouble it is: the tenant, and the feature; the canary's is of no tenant.
type Key = (String, Feature);

/// Trouble that goes on.
#[derive(Clone, Debug)]
struct Open {
    from_ms: u64,
    began: Instant,
    last_ms: u64,
    last: Instant,
    calls: u64,
    reasons: BTreeMap<&'static str, u64>,
}

/// The outages of a node. Clones are one.
#[derive(Clone, Default)]
pub struct Outages(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    open: BTreeMap<Key, Open>,
    /// What was counted at the last look.
    before: BTreeMap<Key, [u64; Outcome::ALL.len()]>,
    /// When that was.
    looked_ms: u64,
    waiting: VecDeque<v1::Outage>,
    lost: u64,
    stored_on: (u64, u64),
}

impl Outages {
    /// Looks and stores, for as long as the node lives.
    pub async fn watch(self, local: Local) {
        let mut ticks = interval(OUTAGES_CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&local);
            self.store(&local).await;
        }
    }

    /// What goes on, or is not stored yet.
    pub fn pending(&self, local: &Local) -> Vec<v1::Outage> {
        let inner = self.0.lock();
        let node = &local.gateway.raft.identity().name;
        let open = inner.open.iter();
        let open = open.map(|(key, open)| v1::Outage {
            goes_on: true,
            ..outage(node, key, open)
        });
        inner.waiting.iter().cloned().chain(open).collect()
    }

    /// Windows that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.lock().lost
    }

    fn look(&self, local: &Local) {
        let now_ms = local.now_ms();
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let since_ms = match inner.looked_ms {
            0 => now_ms,
            before => before.min(now_ms),
        };
        inner.looked_ms = now_ms;
        let tenants = local.gateway.traffic.tenants().into_iter();
        // What the node keeps for itself is nobody's outage.
        for tenant in tenants.filter(|tenant| !OWN.contains(&tenant.name.as_str())) {
            for feature in Feature::ALL {
                let key = (tenant.name.clone(), feature);
                let counted = Outcome::ALL.map(|outcome| feature.outcomes(&tenant).get(outcome));
                let before = inner
                    .before
                    .insert(key.clone(), counted)
                    .unwrap_or_default();
                let mut reasons = BTreeMap::new();
                for outcome in Outcome::ALL.into_iter().filter(|one| one.is_unserved()) {
                    let place = outcome as usize;
                    let more = counted[place].saturating_sub(before[place]);
                    if more > 0 {
                        reasons.insert(outcome.name(), more);
                    }
                }
                inner.note(key, reasons, (since_ms, now_ms));
            }
        }
        let failing = local.canary.is_failing() && !local.gateway.sends_away();
        let canary = match failing {
            true => BTreeMap::from([("canary", 1)]),
            false => BTreeMap::new(),
        };
        inner.note((String::new(), Feature::Send), canary, (since_ms, now_ms));
        inner.end(&local.gateway.raft.identity().name);
    }

    /// Appends what has ended to the conversation of its month.
    async fn store(&self, local: &Local) {
        loop {
            let Some(outage) = self.next(local.now_ms()) else {
                return;
            };
            if !append(local, &outage).await {
                // Tried again with the next look; its id is the same.
                return;
            }
            let mut inner = self.0.lock();
            inner.waiting.pop_front();
            inner.stored_on.1 += 1;
        }
    }

    fn next(&self, now_ms: u64) -> Option<v1::Outage> {
        let mut inner = self.0.lock();
        let today = now_ms / 86_400_000;
        if inner.stored_on.0 != today {
            inner.stored_on = (today, 0);
        }
        if inner.stored_on.1 >= STORED_A_DAY_MAX {
            return None;
        }
        inner.waiting.front().cloned()
    }
}

impl Inner {
    fn note(
        &mut self,
        key: Key,
        reasons: BTreeMap<&'static str, u64>,
        (from_ms, to_ms): (u64, u64),
    ) {
        if reasons.is_empty() {
            return;
        }
        let now = Instant::now();
        let open = self.open.entry(key).or_insert_with(|| Open {
            from_ms,
            began: now,
            last_ms: to_ms,
            last: now,
            calls: 0,
            reasons: BTreeMap::new(),
        });
        (open.last_ms, open.last) = (to_ms.max(open.from_ms), now);
        for (reason, count) in reasons {
            open.calls += count;
            *open.reasons.entry(reason).or_default() += count;
        }
    }

    /// Ends what was quiet for long enough, and cuts what goes on for long.
    fn end(&mut self, node: &str) {
        let over = |open: &Open| open.last.elapsed() >= QUIET || open.began.elapsed() >= PIECE;
        let ended: Vec<Key> = {
            let open = self.open.iter().filter(|(_, open)| over(open));
            open.map(|(key, _)| key.clone()).collect()
        };
        for key in ended {
            let Some(open) = self.open.remove(&key) else {
                continue;
            };
            if self.waiting.len() >= WAITING_MAX {
                self.waiting.pop_front();
                self.lost += 1;
            }
            self.waiting.push_back(outage(node, &key, &open));
        }
    }
}

fn outage(node: &str, (tenant, feature): &Key, open: &Open) -> v1::Outage {
    let canary = tenant.is_empty();
    v1::Outage {
        tenant: tenant.clone(),
        feature: feature.name().to_owned(),
        node: node.to_owned(),
        witness: if canary { "canary" } else { "gateway" }.to_owned(),
        from_ms: open.from_ms,
        to_ms: open.last_ms,
        calls: if canary { 0 } else { open.calls },
        reasons: open
            .reasons
            .iter()
            .map(|(reason, count)| v1::OutageReason {
                reason: (*reason).to_owned(),
                calls: *count,
            })
            .collect(),
        goes_on: false,
    }
}

/// The conversation of the month in which a moment lies: `tenants/firebreak-outages/conversations/2026-12`.
pub fn conversation(ms: u64) -> Option<ConversationName> {
    ConversationName::new(TENANT, &month(ms)?).ok()
}

/// Year and month of a moment, UTC: `2026-12`; `None` beyond what a calendar has.
fn month(ms: u64) -> Option<String> {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms))?;
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_seconds(at)).ok()?;
    text.truncate("2026-12".len());
    Some(text)
}

/// Appends one; whether that is done.
async fn append(local: &Local, outage: &v1::Outage) -> bool {
    let Some(name) = conversation(outage.from_ms) else {
        return true;
    };
    let id = format!(
        "{}/{}/{}/{}/{}",
        outage.node, outage.witness, outage.tenant, outage.feature, outage.from_ms
    );
    let command = convert::append(Append {
        conversation: name.to_string(),
        messages: vec![NewMessage {
            sender: Bytes::from(outage.node.clone()),
            // An id has a bound that names do not keep.
            client_message_id: Bytes::from(short_id(&id)),
            kind: Bytes::from_static(b"outage"),
            body: Bytes::from(outage.encode_to_vec()),
            silent: true,
            ..NewMessage::default()
        }],
        ..Append::default()
    });
    let target = Target::Slot(name.key().slot());
    let deadline = Deadline::after(STORE_MAX);
    let stored = local
        .gateway
        .clone()
        .propose(target, command, deadline)
        .await;
    match stored.map(|reply| reply.answer) {
        Ok(Some(Answer::Appended(_))) => true,
        Ok(Some(Answer::Refused(refusal))) => {
            // What a rule refuses it would refuse again.
            tracing::warn!(why = %refusal.message, "an outage could not be stored");
            true
        }
        Ok(
            Some(
                Answer::Created(_)
                | Answer::Changed(_)
                | Answer::Configured(_)
                | Answer::Expired(_)
                | Answer::Meta(_),
            )
            | None,
        )
        | Err(_) => false,
    }
}

fn short_id(text: &str) -> String {
    hex(&model::hash::dedup_id(b"outage", text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_has_its_month() {
        for (ms, expected) in [
            (0, (1970, 1)),
            (951_782_399_999, (2000, 2)),
            (951_868_800_000, (2000, 3)),
            (1_796_083_200_000, (2026, 12)),
            (1_798_761_599_999, (2026, 12)),
            (1_798_761_600_000, (2027, 1)),
        ] {
            let (year, number) = expected;
            let expected = format!("{year:04}-{number:02}");
            assert_eq!(month(ms), Some(expected), "{ms}");
        }
        let name = conversation(1_796_083_200_000).unwrap();
        assert_eq!(
            name.as_str(),
            "tenants/firebreak-outages/conversations/2026-12"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_ends_with_quiet_and_a_long_one_is_cut() {
        let mut inner = Inner::default();
        let key = || ("chat".to_owned(), Feature::Send);
        let one = || BTreeMap::from([("refused", 2)]);
        for second in 0..5 {
            inner.note(key(), one(), (second * 1_000, second * 1_000 + 1_000));
            tokio::time::advance(OUTAGES_CHECK_EVERY).await;
            inner.end("seoul-1");
        }
        assert!(inner.waiting.is_empty());
        tokio::time::advance(QUIET).await;
        inner.end("seoul-1");
        let ended = inner.waiting.pop_front().unwrap();
        assert_eq!((ended.from_ms, ended.to_ms, ended.calls), (0, 5_000, 10));
        assert_eq!(
            (ended.witness.as_str(), ended.feature.as_str()),
            ("gateway", "send")
        );
        for second in 10..80 {
            inner.note(key(), one(), (second * 1_000, second * 1_000 + 1_000));
            tokio::time::advance(OUTAGES_CHECK_EVERY).await;
            inner.end("seoul-1");
        }
        assert_eq!(inner.waiting.len(), 1);
        assert_eq!(inner.open.len(), 1);
        inner.note(
            (String::new(), Feature::Send),
            BTreeMap::from([("canary", 1)]),
            (5, 6),
        );
        tokio::time::advance(PIECE).await;
        inner.end("seoul-1");
        let canary = inner
            .waiting
            .iter()
            .find(|one| one.witness == "canary")
            .unwrap();
        assert_eq!((canary.tenant.as_str(), canary.calls), ("", 0));
    }
}
