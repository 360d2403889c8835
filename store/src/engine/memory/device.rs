//! How long syncs take. The device serves one at a time; those that come meanwhile wait for the
//! one after it, together.

use std::time::Duration;

use tokio::time::Instant;

use super::{Disk, Shared};

/// The device under a disk.
#[derive(Default)]
pub(super) struct Device {
    latency: Latency,
    /// When the sync that runs is done.
    current: Option<Instant>,
    /// When the one behind it is done, which all who wait share.
    next: Option<Instant>,
}

enum Latency {
    Fixed(Duration),
    Drawn(Box<dyn FnMut() -> Duration + Send>),
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::Fixed(Duration::ZERO)
    }
}

impl Latency {
    fn draw(&mut self) -> Duration {
        match self {
            Latency::Fixed(latency) => *latency,
            Latency::Drawn(draw) => draw(),
        }
    }
}

impl Device {
    /// When a sync that is asked for now is done; `None` is at once, without a look at the clock.
    fn admit(&mut self) -> Option<Instant> {
        if matches!(self.latency, Latency::Fixed(Duration::ZERO)) {
            self.reset();
            return None;
        }
        let now = Instant::now();
        let running = |end: &Instant| *end > now;
        self.current = self.current.filter(running);
        if self.current.is_none() {
            self.current = self.next.take().filter(running);
        }
        let Some(current) = self.current else {
            self.current = Some(now + self.latency.draw());
            return self.current;
        };
        if self.next.is_none() {
            self.next = Some(current + self.latency.draw());
        }
        self.next
    }

    /// Nothing runs any more. To be called when the disk is opened: another process may have
    /// another clock.
    pub(super) fn reset(&mut self) {
        self.current = None;
        self.next = None;
    }
}

impl Shared {
    /// Waits as long as a sync takes that is asked for now.
    pub(super) async fn served(&self) {
        let end = self.state.lock().device.admit();
        if let Some(end) = end {
            tokio::time::sleep_until(end).await;
        }
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }
}

impl Disk {
    /// How long the device takes for a sync from now on; not at all by default. It is waited for
    /// on tokio's timer. Kept and ingested files are synced too.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.shared.state.lock().device.latency = Latency::Fixed(latency);
    }

    /// As [`Disk::set_sync_latency`], drawing each sync's time. `draw` must not use the disk.
    pub fn draw_sync_latency(&self, draw: impl FnMut() -> Duration + Send + 'static) {
        self.shared.state.lock().device.latency = Latency::Drawn(Box::new(draw));
    }

    /// Makes syncs hang (`true`) or lets all hanging ones go on (`false`).
    pub fn hold_syncs(&self, hold: bool) {
        self.shared.held.send_replace(hold);
    }
}
