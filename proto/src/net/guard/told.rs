//! What the guard did, counted, and told in the log: a line each ten seconds for each kind at most.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Refused, Usage};

/// The least time between two lines of one kind.
const LINE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Told {
    connections_refused: Kind,
    connections_closed: Kind,
    silent: Kind,
    exhausted: Kind,
    calls_refused: Kind,
    answers_given_up: Kind,
}

/// How often something was done, and when it was last told.
#[derive(Default)]
struct Kind {
    count: AtomicU64,
    line: Mutex<(Option<Instant>, u64)>,
}

impl Kind {
    /// Counts one. Gives how many there were since the last line, when the next is due.
    fn note(&self) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut line = self.line.lock();
        let now = Instant::now();
        if line.0.is_some_and(|at| now.duration_since(at) < LINE) {
            return None;
        }
        let since = count - line.1;
        *line = (Some(now), count);
        Some(since)
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn of(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

impl Told {
    pub(super) fn count(&self, usage: Usage) -> Usage {
        Usage {
            connections_refused: self.connections_refused.count(),
            connections_closed: self.connections_closed.count() + self.silent.count(),
            calls_refused: self.calls_refused.count(),
            answers_given_up: self.answers_given_up.count(),
            ..usage
        }
    }

    pub(super) fn refused_connection(&self, max: usize) {
        if let Some(count) = self.connections_refused.note() {
            tracing::warn!(
                count,
                max,
                setting = "limits.connections_max",
                "connections are refused: there are as many as this node takes, and all of them are used"
            );
        }
    }

    pub(super) fn closed_for_room(&self, max: usize, address: Option<IpAddr>) {
        if let Some(count) = self.connections_closed.note() {
            tracing::warn!(
                count,
                max,
                address = of(address),
                setting = "limits.connections_max",
                "closed the connections that were silent longest, to make room for new ones"
            );
        }
    }

    pub(super) fn exhausted(&self, error: &io::Error, closed: bool) {
        if let Some(count) = self.exhausted.note() {
            tracing::error!(
                count, %error, closed_one = closed, setting = "limits.connections_max",
                "no connection can be accepted, so none is for a moment: raise the limit of the process \
                 (ulimit -n, LimitNOFILE), or lower the setting"
            );
        }
    }

    pub(super) fn closed_silent(&self, address: Option<IpAddr>, why: &'static str) {
        if let Some(count) = self.silent.note() {
            tracing::info!(count, address = of(address), why, "closed connections");
        }
    }

    pub(super) fn refused_call(&self, refused: Refused) {
        if let Some(count) = self.calls_refused.note() {
            tracing::warn!(
                count,
                ?refused,
                setting = setting(refused),
                "calls are refused"
            );
        }
    }

    pub(super) fn gave_up_answer(&self, address: Option<IpAddr>) {
        if let Some(count) = self.answers_given_up.note() {
            tracing::warn!(
                count,
                address = of(address),
                setting = "limits.take_ms",
                "answers that nobody takes are dropped"
            );
        }
    }
}

/// The key of `node.toml` that sets the bound.
pub fn setting(refused: Refused) -> &'static str {
    match refused {
        Refused::Connections(_) => "limits.connections_max",
        Refused::Calls(_) => "limits.calls_per_connection_max",
        Refused::BytesOfConnection(_) => "limits.connection_percent",
        Refused::BytesOfAddress(_) => "limits.address_percent",
        Refused::CallsOfAddress(_) => "limits.address_percent",
        Refused::CallsOfNode(_) | Refused::Bytes(_) => "limits.network_mb",
        Refused::TooLarge { .. } => "limits.body_bytes_max",
        Refused::Unfinished(_) => "limits.receive_ms",
        Refused::NotTaken(_) => "limits.take_ms",
    }
}
