//! Whether a client can append through this node now: tried, not guessed.
//!
//! Every [`EVERY`] the node appends a canary as its clients append, through the gateway and a quorum's
//! disks. The canary has always the same ids and content, so it is one message for as long as ids are
//! kept, and every later one is answered as that one was: nothing piles up. Shards that this node's
//! clients have used lately take turns, so that no sleeping one is woken; where there are none, the
//! first shard is tried, by all nodes the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::command::{Answer, Append, NewMessage};
use model::durations::Durations;
use model::id::{ConversationName, ShardId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::convert;
use crate::deadline::Deadline;
use crate::error::Failure;
use crate::gateway::{Gateway, Target};

/// Between two canaries.
pub const EVERY: Duration = Duration::from_secs(2);
/// How long one may take. With [`EVERY`] it bounds how long it takes until a fault shows.
pub const LIMIT: Duration = Duration::from_secs(2);
/// The tenant whose conversations canaries go to.
pub const TENANT: &str = "firebreak-canary";
/// Names that are tried for one that falls into a shard.
const TRIES_MAX: u32 = 1_000_000;
/// Shards named in a reason.
const NAMED_MAX: usize = 6;

/// Whether a client can append here, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `None`: it can.
    pub why_not: Option<String>,
}

impl Health {
    fn not(why: impl Into<String>) -> Health {
        Health {
            why_not: Some(why.into()),
        }
    }
}

/// The canaries of a node. Clones look at one.
#[derive(Clone)]
pub struct Canary(Arc<Inner>);

struct Inner {
    gateway: Arc<Gateway>,
    health: watch::Sender<Health>,
    durations: Durations,
    sent: AtomicU64,
    failed: AtomicU64,
    names: Mutex<BTreeMap<ShardId, (u32, u32, ConversationName)>>,
}

impl Canary {
    /// Of the node behind `gateway`. One that does not `sing` knows only what the node knows of itself.
    pub fn new(gateway: Arc<Gateway>, sings: bool) -> Canary {
        Canary(Arc::new(Inner {
            gateway,
            health: watch::Sender::new(match sings {
                true => Health::not("no append has been tried yet"),
                false => Health { why_not: None },
            }),
            durations: Durations::default(),
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            names: Mutex::default(),
        }))
    }

    /// Whether a client can append here now.
    pub fn health(&self) -> Health {
        // What the node knows of itself needs no try.
        match self.known() {
            Some(why) => Health::not(why),
            None => self.0.health.borrow().clone(),
        }
    }

    /// Whether the last one failed. Before the first nothing is known.
    pub fn is_failing(&self) -> bool {
        let (sent, _) = self.counts();
        sent > 0 && self.0.health.borrow().why_not.is_some()
    }

    /// Those sent, and of them those that failed.
    pub fn counts(&self) -> (u64, u64) {
        let inner = &self.0;
        let failed = inner.failed.load(Ordering::Relaxed);
        (inner.sent.load(Ordering::Relaxed), failed)
    }

    /// What those took that were acknowledged.
    pub fn durations(&self) -> &Durations {
        &self.0.durations
    }

    /// Sends one each [`EVERY`]; never ends.
    pub async fn sing(self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0_usize;
        loop {
            ticks.tick().await;
            let health = match self.target(turn) {
                None => Health::not("the cluster's shards are not laid out yet"),
                Some(shard) => self.try_shard(shard).await,
            };
            turn = turn.wrapping_add(1);
            self.0.health.send_if_modified(|before| {
                if *before == health {
                    return false;
                }
                match (&before.why_not, &health.why_not) {
                    (_, None) => tracing::info!("clients can append through this node"),
                    (None, Some(why)) => {
                        tracing::warn!(why, "clients cannot append through this node");
                    }
                    (Some(_), Some(why)) => tracing::debug!(why, "still no append"),
                }
                *before = health;
                true
            });
        }
    }

    /// Why clients should not, or cannot, append here, as far as is known without a try.
    fn known(&self) -> Option<String> {
        let gateway = &self.0.gateway;
        if *gateway.stopping.borrow() {
            return Some("this node drains or stops: clients should go elsewhere".to_owned());
        }
        let view = gateway.view();
        if view.is_draining(gateway.me()) {
            return Some("this node is being drained: clients should go elsewhere".to_owned());
        }
        let shards = view.shards.iter().map(|shard| ShardId(shard.id));
        let lost: Vec<String> = shards
            .filter(|shard| gateway.raft.lacks_quorum(*shard))
            .map(|shard| shard.0.to_string())
            .collect();
        let more = match lost.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = &lost[..lost.len().min(NAMED_MAX)];
        (!lost.is_empty()).then(|| {
            format!(
                "no quorum of {} of {} shards ({}{more}) is heard from here",
                lost.len(),
                view.shards.len(),
                named.join(", ")
            )
        })
    }

    /// Whose turn it is: a shard that clients use here, else always the same one.
    fn target(&self, turn: usize) -> Option<ShardId> {
        let gateway = &self.0.gateway;
        let slots = gateway.traffic.used().into_iter();
        let used: BTreeSet<ShardId> = slots.filter_map(|slot| gateway.shard_of(slot)).collect();
        match used.len() {
            0 => gateway.view().shards.first().map(|shard| ShardId(shard.id)),
            some => used.into_iter().nth(turn % some),
        }
    }

    async fn try_shard(&self, shard: ShardId) -> Health {
        let Some(name) = self.name(shard) else {
            return Health::not(format!("no name falls into {}", shard.told()));
        };
        let inner = &self.0;
        let command = convert::append(Append {
            conversation: name.to_string(),
            messages: vec![NewMessage {
                sender: Bytes::from_static(b"canary"),
                client_message_id: Bytes::from_static(b"canary"),
                kind: Bytes::from_static(b"canary"),
                silent: true,
                ..NewMessage::default()
            }],
            ..Append::default()
        });
        let began = Instant::now();
        inner.sent.fetch_add(1, Ordering::Relaxed);
        let deadline = Deadline::after(LIMIT);
        let gateway = inner.gateway.clone();
        let tried = gateway.propose(Target::Slot(name.key().slot()), command, deadline);
        let failure = match tried.await.map(|reply| reply.answer) {
            Ok(Some(Answer::Appended(_))) => {
                inner.durations.add(began.elapsed());
                return Health { why_not: None };
            }
            Ok(Some(Answer::Refused(refusal))) => Failure::Refused(refusal),
            Ok(
                Some(
                    Answer::Created(_)
                    | Answer::Changed(_)
                    | Answer::Configured(_)
                    | Answer::Expired(_)
                    | Answer::Meta(_),
                )
                | None,
            ) => Failure::Internal("the answer to a canary is of another kind".into()),
            Err(failure) => failure,
        };
        inner.failed.fetch_add(1, Ordering::Relaxed);
        let item = failure.to_item();
        let shard = shard.told();
        Health::not(format!("{}: {} ({shard})", item.reason, item.message))
    }

    /// A conversation whose slot the shard holds.
    fn name(&self, shard: ShardId) -> Option<ConversationName> {
        let view = self.0.gateway.view();
        let held = view.shard(shard)?;
        let (first, last) = (held.slot_first, held.slot_last);
        let mut names = self.0.names.lock();
        if let Some((of_first, of_last, name)) = names.get(&shard)
            && (*of_first, *of_last) == (first, last)
        {
            return Some(name.clone());
        }
        let mut tried = (0..TRIES_MAX)
            .filter_map(|number| ConversationName::new(TENANT, &format!("canary-{number}")).ok());
        let within = |name: &ConversationName| {
            let slot = u32::from(name.key().slot().0);
            (first..=last).contains(&slot)
        };
        let name = tried.find(within)?;
        names.insert(shard, (first, last, name.clone()));
        Some(name)
    }
}
