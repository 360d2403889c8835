//! The oracles: judges of a run that know nothing of the servers but what clients saw and what was
//! found on the disks.
//!
//! ```text
//!  History ──► Facts: who is known at which seq of which room, and since when ──┐
//!     └───────────────────────────────────────────────────────────────────────┐ │
//!  Observed: votes, covers, replicas ──────────────────────────────────────┐  │ │
//!  Plan: drifting clocks, replaced disks ───────────────────────────────┐  │  │ │
//!                                                                       ▼  ▼  ▼ ▼
//!                                            one function per oracle ──► Finding: what it
//!                                            looked at, and the smallest evidence
//! ```
//!
//! Every oracle states a property that a correct cluster cannot break whatever fails around it:
//! where a stronger statement could be wrong by a tie or a rounding, it states the weaker one.
//! Times are true times; an operation precedes another only if it returned *before* the other was
//! invoked, an equal microsecond leaves them unordered. `looked_at` counts the cases that could
//! have broken the property, so that 0 means that the run did not judge it.
//!
//! With `n` operations and sightings of messages, all of them together take O(n log n).
//!
//! What replicas remember of ids is part of what [`replicas::replicas_equal`] compares;
//! [`content::one_seq_per_id`] sees a lost one, too, when its message is sent again.

pub mod changes;
pub mod clock;
pub mod content;
pub mod cutoff;
pub mod drills;
pub mod durable;
mod evidence;
pub mod expiry;
pub mod facts;
pub mod feed;
pub mod linearizable;
pub mod liveness;
pub mod order;
pub mod replicas;
pub mod session;
pub mod stale;
pub mod votes;

use crate::history::{History, Observed};
use crate::outcome::Finding;
use crate::plan::Plan;

pub use evidence::BROKEN_MAX;
pub use facts::Facts;

/// Every oracle: its name, the letter of the promise that it serves, and what it says.
pub const NAMES: &[(&str, char, &str)] = &[
    (
        "linearizable",
        'L',
        "appends and LINEARIZABLE reads behave as one copy",
    ),
    (
        "seq-function",
        'O',
        "a seq is one message, whoever looks, wherever, whenever",
    ),
    (
        "one-seq-per-id",
        'E',
        "a message id has one seq, sent again or not",
    ),
    (
        "no-phantom",
        'E',
        "what is seen was sent before, as it is seen, and was not refused",
    ),
    (
        "gap-free",
        'O',
        "a page is a dense run that misses nothing it should hold",
    ),
    (
        "sender-order",
        'O',
        "a session's messages stand in the order of their sending",
    ),
    (
        "create-time",
        'O',
        "a message's time is what most clocks say, and never goes back",
    ),
    (
        "tail-suffix",
        'O',
        "a tail gives the dense suffix, in order, once, to the end",
    ),
    (
        "acked-durable",
        'D',
        "what was acknowledged is there at the end, on every node",
    ),
    (
        "observed-durable",
        'D',
        "what anybody ever saw is there at the end, unchanged",
    ),
    (
        "quorum-at-ack",
        'D',
        "an acknowledged message was synced by a quorum over two data centers",
    ),
    (
        "disk-never-regresses",
        'D',
        "a disk opened again holds all that was synced, and a log never loses what is committed",
    ),
    (
        "bounded-staleness",
        'S',
        "a BOUNDED read is not older than its bound",
    ),
    (
        "age-honest",
        'S',
        "an answer is not older than the age that it admits to",
    ),
    (
        "session",
        'S',
        "a session reads its own writes, and never goes back",
    ),
    ("one-leader", 'U', "a term of a shard has one leader"),
    (
        "votes-never-regress",
        'U',
        "a host's terms neither fall nor leap, and it votes for one node in each",
    ),
    (
        "whole-before-it-votes",
        'D',
        "a replica votes, and is counted as a voter, only when it has nearly all of its shard",
    ),
    (
        "replicas-equal",
        'H',
        "replicas at rest hold the same records",
    ),
    (
        "drill-ends",
        'P',
        "a fault that a drill put on a node lives no longer than its controller let it",
    ),
    (
        "changes-read",
        'E',
        "a message says what its last edit said, once whatever is sent again, and its reactions are counted right",
    ),
    ("erased-is-gone", 'L', "what was erased is never read again"),
    (
        "expires-in-time",
        'D',
        "what expires is there until its time has come, and is not read behind it",
    ),
    (
        "feed-whole",
        'E',
        "the change feed tells each message as of its last change, and nothing that nobody did",
    ),
];

/// What is judged of a run as a whole, beside the oracles, and what mutants may name as well.
pub const OF_RUNS: &[(&str, char, &str)] = &[
    (
        "no-downtime",
        'G',
        "nobody waits for longer, and no more calls fail, than the scenario says",
    ),
    (
        "recovery",
        'P',
        "every shard serves, and replicas are equal, as soon as the scenario says",
    ),
    (
        "room-kept",
        'P',
        "no node runs out of room by its own writes, and where nothing else is wrong callers are told so",
    ),
    (
        "memory-kept",
        'P',
        "what a node keeps in memory is within its budget, and each cache and queue within its share",
    ),
];

/// The functions of [`NAMES`], in that order.
const JUDGES: [fn(&Case<'_>) -> Finding; NAMES.len()] = [
    linearizable::linearizable,
    content::seq_function,
    content::one_seq_per_id,
    content::no_phantom,
    order::gap_free,
    order::sender_order,
    clock::create_time,
    order::tail_suffix,
    durable::acked_durable,
    durable::observed_durable,
    durable::quorum_at_ack,
    durable::disk_never_regresses,
    stale::bounded_staleness,
    stale::age_honest,
    session::session,
    votes::one_leader,
    votes::votes_never_regress,
    votes::whole_before_it_votes,
    replicas::replicas_equal,
    drills::drill_ends,
    changes::changes_read,
    changes::erased_is_gone,
    expiry::expires_in_time,
    feed::feed_whole,
];

/// What an oracle is told.
pub struct Case<'a> {
    /// What was to be run: which clocks drift, whose disks were replaced, how large messages are.
    pub plan: &'a Plan,
    /// What clients saw.
    pub history: &'a History,
    /// What was seen on disks and of replicas.
    pub observed: &'a Observed,
    /// The history, boiled down.
    pub facts: Facts<'a>,
}

impl<'a> Case<'a> {
    /// Boils the history down, in O(n log n).
    pub fn new(plan: &'a Plan, history: &'a History, observed: &'a Observed) -> Case<'a> {
        Case {
            plan,
            history,
            observed,
            facts: Facts::of(history),
        }
    }
}

/// What every oracle says of a run, in the order of [`NAMES`].
pub fn judge(plan: &Plan, history: &History, observed: &Observed) -> Vec<Finding> {
    let case = Case::new(plan, history, observed);
    JUDGES.iter().map(|judge| judge(&case)).collect()
}
