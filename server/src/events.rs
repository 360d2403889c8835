//! What happens on a node, told to those who keep it: the flight recorder and the metrics.
//!
//! ```text
//!  raft::Node ──► Told ──► each listener, one after the other, at once
//!  gateway ───────▲ ▲
//!  room, stop ──────┘ refusals: begin with the first of a reason, end with a quiet while
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::id::ShardId;
use parking_lot::Mutex;
use proto::net::Guard;
use raft::Room;
use tokio::time::{Instant, sleep};

use crate::sight::traces::Traces;

/// Between two looks at what was refused.
const REFUSALS_CHECK_EVERY: Duration = Duration::from_secs(1);
/// A reason for which nothing was refused for so long is over.
const QUIET: Duration = Duration::from_secs(10);

/// Something that happened on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To its replicas, or to its links.
    Raft(raft::Event),
    /// It has started, and is about to serve.
    Started {
        /// Starts of this node so far, this one included.
        boot: u64,
        /// Of the program.
        version: &'static str,
    },
    /// It was asked to stop, and gives away what it leads.
    Stopping,
    /// It has stopped, and all is on the disk.
    Stopped,
    /// It stops at once.
    Died {
        /// Why.
        why: String,
    },
    /// The disk has less room than before, or more.
    Room {
        /// How much, in steps.
        room: Room,
        /// Bytes that can be written.
        free: u64,
    },
    /// It begins to refuse for a reason, or has not for a while.
    Refusing {
        /// The reason, as callers are told, or what the guard counts.
        reason: &'static str,
        /// Whether it begins.
        begins: bool,
        /// How often since it began.
        count: u64,
    },
    /// A drill's fault begins or ends here.
    Fault {
        /// The drill.
        drill: String,
        /// The fault's id in it.
        id: String,
        /// What it does, in words.
        what: String,
        /// Why it has ended; none = it begins.
        ended: Option<String>,
    },
    /// A command of a client was answered here, wherever it was decided.
    Asked {
        /// Of this shard; `None` where that is not known.
        shard: Option<ShardId>,
        /// From the first attempt to the answer.
        took: Duration,
        /// Why it failed, as its caller is told; `None` where it did not.
        failed: Option<&'static str>,
    },
}

/// Takes what happens on a node. Called where it happens: must be cheap, never wait, never panic.
pub trait Events: Send + Sync + 'static {
    /// Notes an event.
    fn note(&self, event: &Event);
}

/// Tells all who listen. Clones share them.
#[derive(Clone, Default)]
pub struct Told {
    listeners: Arc<[Arc<dyn Events>]>,
    traces: Traces,
}

impl Told {
    /// To these, in this order.
    pub fn new(listeners: Vec<Arc<dyn Events>>, traces: Traces) -> Told {
        Told {
            listeners: listeners.into(),
            traces,
        }
    }

    /// Where traced calls are told.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Tells an event.
    pub fn tell(&self, event: &Event) {
        for listener in self.listeners.iter() {
            listener.note(event);
        }
    }
}

impl raft::Events for Told {
    fn note(&self, event: raft::Event) {
        self.tell(&Event::Raft(event));
    }

    fn span(&self, span: raft::Span) {
        self.traces.tell(span);
    }
}

/// Counts what is refused, so that its begin and its end can be told.
#[derive(Default)]
pub struct Refusals {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

/// Failures that say what a node has not, rather than what a caller did wrong.
const REFUSALS: [&str; 4] = ["OVERLOAD", "DISK_FULL", "NO_QUORUM", "NODE_OVERLOADED"];

impl Events for Refusals {
    fn note(&self, event: &Event) {
        if let Event::Asked {
            failed: Some(reason),
            ..
        } = event
            && REFUSALS.contains(reason)
        {
            *self.counts.lock().entry(reason).or_default() += 1;
        }
    }
}

/// A reason for which something is being refused.
struct Open {
    since: u64,
    seen: u64,
    last: Instant,
}

/// Tells when refusals begin and end, for as long as the node runs.
pub async fn watch_refusals(refusals: Arc<Refusals>, guard: Guard, told: Told) {
    let mut open: BTreeMap<&'static str, Open> = BTreeMap::new();
    let mut before: BTreeMap<&'static str, u64> = BTreeMap::new();
    loop {
        sleep(REFUSALS_CHECK_EVERY).await;
        let mut counts = refusals.counts.lock().clone();
        let usage = guard.usage();
        counts.insert("connections", usage.connections_refused);
        counts.insert("calls", usage.calls_refused);
        counts.insert("answers", usage.answers_given_up);
        for event in look(&mut open, &mut before, &counts, Instant::now()) {
            if let Event::Refusing {
                reason,
                begins,
                count,
            } = &event
            {
                match begins {
                    true => tracing::warn!(reason, "calls are refused"),
                    false => tracing::info!(reason, count, "calls are not refused any more"),
                }
            }
            told.tell(&event);
        }
    }
}

/// What is news of these counts.
fn look(
    open: &mut BTreeMap<&'static str, Open>,
    before: &mut BTreeMap<&'static str, u64>,
    counts: &BTreeMap<&'static str, u64>,
    now: Instant,
) -> Vec<Event> {
    let mut news = Vec::new();
    for (reason, count) in counts {
        let was = before.insert(reason, *count).unwrap_or(0);
        match open.get_mut(reason) {
            Some(one) if *count > one.seen => (one.seen, one.last) = (*count, now),
            Some(_) => {}
            None if *count > was => {
                let one = Open {
                    since: was,
                    seen: *count,
                    last: now,
                };
                open.insert(reason, one);
                news.push(Event::Refusing {
                    reason,
                    begins: true,
                    count: count - was,
                });
            }
            None => {}
        }
    }
    open.retain(|reason, one| {
        let over = now.duration_since(one.last) >= QUIET;
        if over {
            news.push(Event::Refusing {
                reason,
                begins: false,
                count: one.seen - one.since,
            });
        }
        !over
    });
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_begin_once_and_end_with_a_quiet_while() {
        let (mut open, mut before) = (BTreeMap::new(), BTreeMap::new());
        let start = Instant::now();
        let mut check = |at: u64, count: u64, expect: Option<(bool, u64)>| {
            let counts = BTreeMap::from([("OVERLOAD", count)]);
            let now = start + Duration::from_secs(at);
            let told = look(&mut open, &mut before, &counts, now);
            let told = told.into_iter().map(|event| match event {
                Event::Refusing { begins, count, .. } => (begins, count),
                other => panic!("{other:?}"),
            });
            assert_eq!(told.collect::<Vec<_>>(), Vec::from_iter(expect), "{at}");
        };
        check(0, 0, None);
        check(1, 3, Some((true, 3)));
        check(2, 3, None);
        check(9, 5, None);
        check(18, 5, None);
        check(19, 5, Some((false, 5)));
        check(20, 5, None);
        check(21, 6, Some((true, 1)));
    }

    #[test]
    fn only_what_a_node_lacks_counts_as_a_refusal() {
        let refusals = Refusals::default();
        for failed in [
            Some("OVERLOAD"),
            Some("SEQ_MISMATCH"),
            None,
            Some("OVERLOAD"),
        ] {
            refusals.note(&Event::Asked {
                shard: None,
                took: Duration::ZERO,
                failed,
            });
        }
        assert_eq!(*refusals.counts.lock(), BTreeMap::from([("OVERLOAD", 2)]));
    }
}
