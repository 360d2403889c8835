//! How a stream that follows something finds its next node: which were tried, how long to wait, and when to give up.

use tokio::time::{Instant, sleep};

use crate::builder::Client;
use crate::error::{Error, Failure, Fault};
use crate::nodes::{Lease, Tried};
use crate::options::TAIL_BACKOFF_MAX;
use crate::retry::Backoff;
use crate::stats::add;

/// The state of one stream's search.
#[derive(Default)]
pub(crate) struct Reconnect {
    tried: Tried,
    backoff: Backoff,
    /// When the stream was last lost; None while it is live.
    lost_at: Option<Instant>,
    connected_before: bool,
}

impl Reconnect {
    /// The search begins, unless it has.
    pub(crate) fn begin(&mut self) {
        self.lost_at.get_or_insert_with(Instant::now);
    }

    /// The node to try next.
    pub(crate) fn choose(&self, client: &Client) -> Lease {
        client.inner.nodes.choose(&self.tried)
    }

    /// A node has taken the stream.
    pub(crate) fn connected(&mut self, client: &Client) {
        if self.connected_before {
            add(&client.inner.counters.failovers, 1);
        }
        self.connected_before = true;
    }

    /// A node has not taken it; waits before the next may be tried.
    ///
    /// # Errors
    /// [`Error::Refused`] when none would take it, [`Error::Deadline`] when no node was ever reached in time.
    pub(crate) async fn failed(
        &mut self,
        client: &Client,
        lease: Lease,
        failure: Failure,
    ) -> Result<(), Error> {
        lease.failed(failure.fault);
        self.tried.failed(&lease);
        drop(lease);
        if !failure.refusal.retryable() {
            return Err(Error::Refused(failure.refusal));
        }
        let late = |at: Instant| at.elapsed() >= client.deadline;
        if !self.connected_before && self.lost_at.is_some_and(late) {
            let last = Some(Box::new(failure.refusal));
            return Err(Error::Deadline {
                outcome_unknown: false,
                attempts: 1,
                last,
            });
        }
        let hint = failure.refusal.retry_after.unwrap_or_default();
        let wait = self.backoff.next(&client.inner.random);
        sleep(wait.max(hint.min(TAIL_BACKOFF_MAX))).await;
        Ok(())
    }

    /// The stream was lost, or is left; `lease` is that of its node, if it had one.
    pub(crate) fn left(&mut self, lease: Option<Lease>, fault: Fault) {
        if let Some(lease) = lease {
            lease.failed(fault);
            self.tried.forget();
            self.tried.failed(&lease);
        }
        self.lost_at = None;
        self.backoff.reset();
    }
}
