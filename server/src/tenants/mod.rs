//! What a tenant may do: whether it exists, which clients it takes, what it may use, and whose turn it is.
//!
//! ```text
//!   call ─► does its tenant exist? ─► is its client new enough? ─► has its class a place?
//!                                                                       │
//!   what it appends ─► quotas: the node's share, else their keeper ◄────┘
//! ```
//!
//! All of it is looked at once, by the node that a caller talks to; what is forwarded has been looked at.

pub mod admit;
mod bucket;
pub mod class;
pub mod client;
pub mod count;
pub mod keep;
mod quota;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use model::id::ConversationKey;
use parking_lot::Mutex;
use tokio::time::Instant;

use class::{Bounds, Classes};
use shares::{Keeper, Shares};

/// What a node is configured with about tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether a tenant that was never created may be used.
    pub implicit: bool,
    /// How many calls of each class go on at a time.
    pub classes: Bounds,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            implicit: true,
            classes: Bounds::default(),
        }
    }
}

/// What a node keeps in mind of tenants.
#[derive(Debug)]
pub struct Tenancy {
    implicit: bool,
    classes: Classes,
    shares: Shares,
    keeper: Keeper,
    /// Keepers that did not answer, by their shard, and when.
    silent: Mutex<BTreeMap<u32, Instant>>,
    /// Conversations that are known to exist, of tenants that have as many as they may have.
    existing: Mutex<BTreeMap<String, BTreeSet<ConversationKey>>>,
}

impl Tenancy {
    /// As configured.
    pub fn new(settings: Settings) -> Tenancy {
        Tenancy {
            implicit: settings.implicit,
            classes: Classes::new(settings.classes),
            shares: Shares::default(),
            keeper: Keeper::default(),
            silent: Mutex::default(),
            existing: Mutex::default(),
        }
    }
}
