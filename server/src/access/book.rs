//! What is noted for the audit and is no change of the cluster: refusals, logins, erasures. It is gathered
//! here and told to the meta shard behind the caller's back: no call waits for it.
//!
//! Who calls without a credential could fill the audit with refusals, until nothing else is left in it. So
//! a node tells `BURST` of them at once and then one in `EVERY`; what comes meanwhile is counted. Users erase
//! messages all the time: of these one record tells how many of a tenant were erased in `ERASED_EVERY`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::audit::{Actor, Note, Notes};
use model::cluster::{Change, ChangeBody};
use model::command::Command;
use model::id::{NodeId, ShardId};
use model::limits::AUDIT_NOTES_MAX;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::caller::Caller;
use crate::deadline::Deadline;
use crate::gateway::{Gateway, Target};

/// Refusals that are told at once.
const BURST: u32 = 60;
/// Between two behind these.
const EVERY: Duration = Duration::from_secs(30);
/// Between two records of how many messages were erased.
const ERASED_EVERY: Duration = Duration::from_secs(600);
/// How long notes are gathered before they are told.
const GATHER: Duration = Duration::from_millis(250);
/// How long one try to tell them may take.
const TELL_MAX: Duration = Duration::from_secs(5);
/// Different notes that wait at most; what is more is counted under [`OTHERS`].
const WAITING_MAX: usize = 1_000;
/// What stands for notes that are only counted.
const OTHERS: &str = "(others)";

/// What makes two notes the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    who: String,
    role: &'static str,
    from: String,
    what: &'static str,
    target: String,
    outcome: &'static str,
}

/// What waits to be told.
struct Waiting {
    refused: BTreeMap<Said, u64>,
    did: BTreeMap<Said, u64>,
    erased: BTreeMap<Said, u64>,
    erased_told: Option<Instant>,
    left: u32,
    refilled: Instant,
}

/// Gathers notes.
pub struct Book {
    waiting: Mutex<Waiting>,
    news: Notify,
}

impl Default for Book {
    fn default() -> Book {
        Book {
            waiting: Mutex::new(Waiting {
                refused: BTreeMap::new(),
                did: BTreeMap::new(),
                erased: BTreeMap::new(),
                erased_told: None,
                left: BURST,
                refilled: Instant::now(),
            }),
            news: Notify::new(),
        }
    }
}

impl Book {
    /// A call was refused for this reason.
    pub fn refused(&self, caller: &Caller, target: &str, reason: &'static str) {
        let said = Said {
            who: caller.who.name.clone(),
            role: "",
            from: caller.address(),
            what: caller.method,
            target: target.to_owned(),
            outcome: reason,
        };
        note(&mut self.waiting.lock().refused, said);
        self.news.notify_one();
    }

    /// A caller did something.
    pub fn did(&self, caller: &Caller, what: &'static str, target: &str) {
        let said = Said {
            who: caller.who.name.clone(),
            role: "",
            from: caller.address(),
            what,
            target: target.to_owned(),
            outcome: "done",
        };
        note(&mut self.waiting.lock().did, said);
        self.news.notify_one();
    }

    /// A caller erased a message of a tenant.
    pub fn erased(&self, caller: &Caller, tenant: &str) {
        let said = Said {
            who: caller.who.name.clone(),
            role: "",
            from: caller.address(),
            what: "erase messages",
            target: tenant.to_owned(),
            outcome: "done",
        };
        note(&mut self.waiting.lock().erased, said);
        self.news.notify_one();
    }

    /// What may be told now.
    fn take(&self, now: Instant) -> Vec<(Said, u64)> {
        let mut waiting = self.waiting.lock();
        let Waiting {
            refused,
            did,
            erased,
            erased_told,
            left,
            refilled,
        } = &mut *waiting;
        let due = |told: Instant| now.saturating_duration_since(told) >= ERASED_EVERY;
        if !erased.is_empty() && erased_told.is_none_or(due) {
            *erased_told = Some(now);
            did.append(erased);
        }
        let since = now.saturating_duration_since(*refilled);
        let more = u32::try_from(since.as_secs() / EVERY.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            *left = left.saturating_add(more).min(BURST);
            *refilled = now;
        }
        let mut taken = Vec::new();
        while taken.len() < AUDIT_NOTES_MAX {
            match did.pop_first() {
                Some(one) => taken.push(one),
                None => break,
            }
        }
        while *left > 0 && taken.len() < AUDIT_NOTES_MAX {
            let Some(one) = refused.pop_first() else {
                break;
            };
            *left -= 1;
            taken.push(one);
        }
        taken
    }

    /// Puts back what could not be told.
    fn put_back(&self, taken: Vec<(Said, u64)>) {
        let mut waiting = self.waiting.lock();
        for (said, count) in taken {
            let of = match said.outcome {
                "done" => &mut waiting.did,
                _ => &mut waiting.refused,
            };
            *of.entry(said).or_default() += count;
        }
    }

    /// Tells what is noted, for as long as the node runs.
    pub async fn tell(self: Arc<Self>, gateway: Arc<Gateway>) {
        loop {
            // What waits for its turn has none to wake for.
            let _ = tokio::time::timeout(EVERY, self.news.notified()).await;
            tokio::time::sleep(GATHER).await;
            if !all_know(&gateway) {
                continue;
            }
            loop {
                let taken = self.take(Instant::now());
                if taken.is_empty() {
                    break;
                }
                if !told(&gateway, &taken).await {
                    self.put_back(taken);
                    break;
                }
            }
        }
    }
}

fn note(of: &mut BTreeMap<Said, u64>, said: Said) {
    let said = match of.len() < WAITING_MAX || of.contains_key(&said) {
        true => said,
        false => Said {
            who: OTHERS.to_owned(),
            from: OTHERS.to_owned(),
            target: OTHERS.to_owned(),
            ..said
        },
    };
    *of.entry(said).or_default() += 1;
}

/// Whether all replicas of the meta shard are of versions that know keys, issuers and the audit. One that does
/// not would decide otherwise than the others. Once something of it is in the state, all of them know.
pub fn all_know(gateway: &Gateway) -> bool {
    unknowing(gateway).is_none()
}

/// The first replica of the meta shard that may not know them.
pub fn unknowing(gateway: &Gateway) -> Option<NodeId> {
    let view = gateway.view();
    if view.trail.is_some() || view.access.is_some() {
        return None;
    }
    let me = gateway.me();
    let mut others = view.meta_replicas.iter().map(|id| NodeId(*id));
    others.find(|id| *id != me && !gateway.raft.knows_access(*id))
}

async fn told(gateway: &Arc<Gateway>, taken: &[(Said, u64)]) -> bool {
    let notes = taken.iter().map(|(said, count)| Note {
        actor: Some(Actor {
            who: said.who.clone(),
            role: said.role.to_owned(),
            from: said.from.clone(),
        }),
        what: said.what.to_owned(),
        target: said.target.clone(),
        outcome: said.outcome.to_owned(),
        count: *count,
    });
    let body = ChangeBody::Notes(Notes {
        notes: notes.collect(),
        node: gateway.me().0,
    });
    let command = Bytes::from(Command::meta(Change::from(body)).encode_to_vec());
    let target = Target::Shard(ShardId::META);
    let proposed = gateway
        .clone()
        .propose(target, command, Deadline::after(TELL_MAX));
    match proposed.await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(?error, "notes for the audit wait");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Who;

    fn caller(from: u8) -> Caller {
        let from = std::net::IpAddr::from([10, 0, 0, from]);
        Caller::new(Arc::new(Who::nobody()), Some(from), "/a/B", None)
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_refusal_is_told_once_and_counted() {
        let book = Book::default();
        for _ in 0..1_000 {
            book.refused(&caller(1), "", "ROLE_MISSING");
        }
        let taken = book.take(Instant::now());
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].1, taken[0].0.what), (1_000, "/a/B"));
        book.put_back(taken);
        assert_eq!(book.take(Instant::now())[0].1, 1_000);
        assert!(book.take(Instant::now()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_told_slowly_and_acts_are_not_held_up_by_it() {
        let book = Book::default();
        let mut told = 0;
        for from in 0..=255 {
            book.refused(&caller(from), "", "CREDENTIALS_MISSING");
        }
        book.did(&caller(1), "log in", "");
        let taken = book.take(Instant::now());
        assert_eq!(taken[0].0.what, "log in");
        told += taken.len();
        assert_eq!(told, 1 + BURST as usize);
        assert!(book.take(Instant::now()).is_empty());
        tokio::time::advance(EVERY * 3).await;
        assert_eq!(book.take(Instant::now()).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn erasures_are_told_at_once_and_then_counted_for_a_while() {
        let book = Book::default();
        book.erased(&caller(1), "kakao");
        assert_eq!(book.take(Instant::now())[0].1, 1);
        for _ in 0..500 {
            book.erased(&caller(1), "kakao");
        }
        assert!(book.take(Instant::now()).is_empty());
        tokio::time::advance(ERASED_EVERY).await;
        let taken = book.take(Instant::now());
        assert_eq!((taken.len(), taken[0].1), (1, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded() {
        let book = Book::default();
        for at in 0..2 * WAITING_MAX {
            book.refused(&caller(1), &at.to_string(), "TENANT_FORBIDDEN");
        }
        let waiting = book.waiting.lock();
        assert_eq!(waiting.refused.len(), WAITING_MAX + 1);
        let all: u64 = waiting.refused.values().sum();
        assert_eq!(all, 2 * WAITING_MAX as u64);
    }
}
