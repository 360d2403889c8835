//! Faults that a node puts on itself for a drill, each with a time to live.
//!
//! ```text
//!  controller ── StartFaults, RenewFaults, EndFaults ──► service ──► Control ──► Set: who lives until when
//!   (drill.listen, which no fault reaches)                              │
//!      time to live over, lasts_ms over, drill ended, lever, restart ───┤
//!                                                                       ├─► Stage: network, standstill
//!                                                                       └─► DiskSwitch: syncs, room
//! ```
//!
//! A fault never outlives its time to live: nobody has to come to end it. Time is the monotonic clock's.

pub mod control;
pub mod disk;
pub mod kind;
pub mod peers;
mod permission;
pub mod service;
pub mod set;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use proto::net::faulty::Rule;
use tokio::time::Instant;

pub use control::{Control, Running};
pub use disk::DiskSwitch;

/// Why faults are not put on, renewed or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The request is wrong.
    #[error("{0}")]
    Bad(String),
    /// Not now, or not here.
    #[error("{0}")]
    Not(String),
    /// It has ended.
    #[error("{0}")]
    Gone(String),
}

/// What a drill can do to the process of a node, and where it is controlled from.
pub trait Stage: Send + Sync + 'static {
    /// Why it cannot do a kind of fault; none where it can.
    fn refuses(&self, kind: &kind::Kind) -> Option<String>;

    /// From now on these are wrong on the network, and nothing else.
    fn network(&self, rules: Vec<Rule>);

    /// All that runs in the process stands still until then, or goes on at once. Its own clock ends it, too.
    fn stand_still(&self, until: Option<Instant>);

    /// Where a host is.
    fn look_up(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

    /// Runs [`Control::keep`], and its service on `listen` where this world has services, from where no
    /// fault reaches. Ends by [`Control::closed`]. Gives host:port of the service; none without one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    fn open(&self, control: Arc<Control>, listen: &str) -> io::Result<Option<String>>;
}

/// A process to which nothing can be done.
pub struct NoStage;

impl Stage for NoStage {
    fn refuses(&self, _: &kind::Kind) -> Option<String> {
        Some("this process can have no faults".to_owned())
    }

    fn network(&self, _: Vec<Rule>) {}

    fn stand_still(&self, _: Option<Instant>) {}

    fn look_up(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn open(&self, _: Arc<Control>, _: &str) -> io::Result<Option<String>> {
        Ok(None)
    }
}
