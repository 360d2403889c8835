//! The Rust client of Firebreak.
//!
//! Half of a failover is done here: the client knows nodes in several data centers, leaves one that
//! is silent or refuses, and sends again elsewhere under the same client message id until the
//! caller's deadline. So the loss of a data center is one slow call and not an error (promise G),
//! and whatever was sent twice has one effect (promise E).
//!
//! ```text
//! Client ── append / list / get ──► retry ──► nodes ──► one Channel per node
//!        ── append_stream ────────► stream ──►  │  ▲
//!        ── tail ─────────────────► tail  ───►  │  └─ background: learns nodes, probes lost ones
//! ```
//!
//! Time comes only from `tokio::time`, connections only from the [`proto::net::Dial`] and chance only
//! from the seed that the [`Builder`] is given, so the simulator drives this very code.

mod admin;
mod append;
mod budget;
mod builder;
mod change;
mod credential;
mod debug;
mod error;
mod feed;
mod follow;
mod maintain;
mod message;
mod nodes;
mod options;
mod random;
mod read;
mod reconnect;
mod retry;
mod session;
mod silence;
mod stats;
mod stream;
mod tail;
mod tenants;

pub use admin::{Drain, NodeReport, ReplicaHash};
pub use append::AppendOptions;
pub use builder::{Builder, Class, Client};
pub use change::{Changed, Edit};
pub use credential::authorized;
pub use error::{Error, Refusal, Violation};
pub use feed::Changes;
pub use follow::{Follow, Followed};
pub use message::{Appended, Message};
pub use nodes::NodeHealth;
pub use options::{DEADLINE_DEFAULT, StreamOptions};
pub use proto::v1;
pub use read::{Level, ListOptions, Page, Pages, Rules};
pub use session::Session;
pub use stats::Stats;
pub use stream::{Ack, AppendStream};
pub use tail::{Event, From, Tail};
pub use tenants::Tenant;
pub use tonic::Code;

/// The samples of Rust in these pages compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/api.md")]
struct Samples;
