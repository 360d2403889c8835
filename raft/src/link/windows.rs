//! For how long leaders before may still answer reads by lease (promise L): the cluster's own window,
//! which is the largest that any node has.
//!
//! Each node has its own `raft.read_lease_ms`, and a change of it goes from node to node. So nobody
//! relies on its own setting for what others do:
//!
//! 1. Every ping tells its sender's window. It is the first frame of a connection, so whoever follows
//!    a leader has heard of the window that it then helps to open.
//! 2. Whoever gives its vote says how large the windows are that it has heard of ([`crate::tasks::inbound`]).
//!    Those who opened the last leader's window by their answers are a majority, and so are those who
//!    elect the next: one is among both.
//! 3. Who leads next is silent for the largest of these, its own among them
//!    ([`crate::replica::leaders::Leaders::may_tell_at`]).
//!
//! What was heard outlives a restart: a window is noted, and synced, before anything is answered to
//! the node that has it. Behind a start it counts for as long as such a window can be open; then only
//! what is heard since. A node that has come back with a smaller window counts with the larger one for
//! as long, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::id::NodeId;
use parking_lot::Mutex;
use store::{Error, Log};
use tokio::time::Instant;

/// Local record: the largest window heard of, ms, as decimal text.
const NOTED: &str = "read-window";
/// What a node is taken to have that does not say: the default of versions that did not.
const UNSAID: Duration = Duration::from_millis(150);
/// How much longer than by its leader's clock a window may be open by another, in hundredths.
pub(crate) const MARGIN_PERCENT: u32 = 105;

/// The windows that this node knows of. Clones share them.
#[derive(Clone)]
pub(crate) struct Windows {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    own: Duration,
    book: Mutex<Book>,
}

struct Book {
    /// Of each node, its window and when it last told that or a larger one.
    of: BTreeMap<NodeId, (Duration, Instant)>,
    /// What is on the disk.
    noted: Duration,
    /// What was on the disk at the start counts until then.
    noted_until: Instant,
}

/// What a message says of a window.
pub(crate) fn said(window_ms: Option<u32>) -> Duration {
    window_ms.map_or(UNSAID, |ms| Duration::from_millis(u64::from(ms)))
}

/// For how long a window may be open, by another's clock.
pub(crate) fn open_for(window: Duration) -> Duration {
    window.saturating_mul(MARGIN_PERCENT) / 100
}

impl Windows {
    /// Of a node whose own leaders have this window. Reads back what it had heard of.
    pub(crate) fn open(own: Duration, log: Log) -> Result<Windows, Error> {
        let noted = log.local_get(NOTED)?;
        // Nothing else is written there; what cannot be read is as good as nothing.
        let noted = noted
            .and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok())
            .map_or(Duration::ZERO, Duration::from_millis);
        let book = Mutex::new(Book {
            of: BTreeMap::new(),
            noted,
            noted_until: Instant::now() + open_for(noted),
        });
        Ok(Windows {
            inner: Arc::new(Inner { log, own, book }),
        })
    }

    /// This node's own.
    pub(crate) fn own(&self) -> Duration {
        self.inner.own
    }

    /// The same in ms, as pings tell it.
    pub(crate) fn own_ms(&self) -> u32 {
        u32::try_from(self.inner.own.as_millis()).unwrap_or(u32::MAX)
    }

    /// Notes the window of a node that connects to this one; before anything is answered to it.
    pub(crate) async fn note(&self, node: NodeId, window_ms: Option<u32>) -> Result<(), Error> {
        let most = self.inner.book.lock().hear(node, said(window_ms));
        if let Some(most) = most {
            let ms = most.as_millis().to_string();
            let record = Bytes::from(ms.into_bytes());
            self.inner.log.local_put(NOTED, Some(record)).await?;
            self.inner.book.lock().noted = most;
        }
        Ok(())
    }

    /// The largest window that this node knows of.
    pub(crate) fn largest(&self) -> Duration {
        self.inner.own.max(self.inner.book.lock().heard())
    }

    /// The same in ms, as votes tell it.
    pub(crate) fn largest_ms(&self) -> u32 {
        u32::try_from(self.largest().as_millis()).unwrap_or(u32::MAX)
    }
}

impl Book {
    /// Notes a window; gives what must be on the disk before it counts, if that is not there.
    fn hear(&mut self, node: NodeId, window: Duration) -> Option<Duration> {
        let now = Instant::now();
        let (known, at) = self.of.entry(node).or_insert((window, now));
        if window >= *known || now.saturating_duration_since(*at) > open_for(*known) {
            (*known, *at) = (window, now);
        }
        let most = self.heard();
        // A smaller one is noted when a restart no longer needs to know the larger.
        (most > self.noted || (most < self.noted && now > self.noted_until)).then_some(most)
    }

    fn heard(&self) -> Duration {
        let told = self.of.values().map(|(window, _)| *window).max();
        let noted = match Instant::now() <= self.noted_until {
            true => self.noted,
            false => Duration::ZERO,
        };
        noted.max(told.unwrap_or_default())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use store::engine::memory::{Disk, Memory};

    use super::*;

    const A: NodeId = NodeId(2);
    const B: NodeId = NodeId(3);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn opened(own_ms: u64, disk: &Disk) -> Windows {
        let (log, writer) = Log::open(Arc::new(Memory::open(disk))).unwrap();
        tokio::spawn(writer);
        Windows::open(ms(own_ms), log).unwrap()
    }

    /// Of a node that has heard of nobody.
    pub(crate) fn alone(own: Duration, log: Log) -> Windows {
        Windows::open(own, log).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_window_counts_and_a_smaller_one_only_when_it_is_over() {
        let windows = opened(150, &Disk::new());
        assert_eq!(windows.largest(), ms(150));
        windows.note(A, Some(1_000)).await.unwrap();
        windows.note(B, Some(0)).await.unwrap();
        assert_eq!((windows.largest(), windows.own_ms()), (ms(1_000), 150));
        // It has started again with another setting.
        windows.note(A, Some(0)).await.unwrap();
        assert_eq!(windows.largest(), ms(1_000));
        tokio::time::advance(ms(1_051)).await;
        windows.note(A, Some(0)).await.unwrap();
        assert_eq!(windows.largest(), ms(150));
        windows.note(B, None).await.unwrap();
        windows.note(A, Some(200)).await.unwrap();
        assert_eq!(windows.largest_ms(), 200, "the default of who says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_counts_behind_a_restart_for_as_long_as_it_may_be_open() {
        let disk = Disk::new();
        let before = opened(150, &disk);
        before.note(A, Some(1_000)).await.unwrap();
        drop(before);
        let windows = opened(150, &disk);
        assert_eq!(windows.largest(), ms(1_000));
        windows.note(B, Some(300)).await.unwrap();
        assert_eq!(windows.largest(), ms(1_000));
        tokio::time::advance(ms(1_051)).await;
        assert_eq!(windows.largest(), ms(300));
        windows.note(B, Some(300)).await.unwrap();
        drop(windows);
        assert_eq!(opened(0, &disk).largest(), ms(300), "noted anew");
    }
}
