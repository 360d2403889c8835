//! Clients that work beside what is done to a cluster: what they called, how long they waited, and what is
//! left of what they sent.

pub mod foreign;
pub mod judge;
pub mod late;
pub mod who;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// How long a call has to live: what G speaks of.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Between an answer and the sender's next message.
pub const PAUSE: Duration = Duration::from_millis(20);

/// One call and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Whose.
    pub sender: String,
    /// The conversation; empty for a read.
    pub room: String,
    /// The client message id.
    pub id: String,
    /// Unix µs.
    pub sent_us: u64,
    /// Unix µs.
    pub ended_us: u64,
    /// The message's seq, or the error.
    pub outcome: Result<u64, String>,
}

/// Everything that was called.
pub type Calls = Arc<Mutex<Vec<Call>>>;

/// Unix µs: all clients are on this machine.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
