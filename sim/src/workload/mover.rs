//! Movers: sessions of people on the way. Each sends to a room of its own choice and reads it at
//! the level SESSION, and takes its token along from site to site.
//!
//! Sites are hosts of their own, so a mover's state lies in a slot that all of them see: the site
//! where its time is up puts it down when its call has ended, and the next one picks it up.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Site;
use super::calls::{self, Ask};
use super::sender::Sender;
use super::sessions::Sessions;
use crate::history::Level;
use crate::plan::Plan;

/// Messages that it reads after each that it sends.
const LIMIT: u32 = 20;
/// Hosts are not at the same microsecond: as long as this passes on the way.
const ON_THE_WAY: Duration = Duration::from_millis(1);

/// A mover, wherever it is.
pub(crate) struct Slot {
    lying: Mutex<Option<Lying>>,
    put: Notify,
}

/// A mover that waits to be picked up.
struct Lying {
    /// Where, by the place of the site.
    site: usize,
    since_us: u64,
    mover: Box<Mover>,
}

/// A mover's state.
struct Mover {
    sender: Sender,
    room: u32,
    token: String,
}

impl Slot {
    /// Of mover `k` of `plan`, at its first site.
    pub(crate) fn new(plan: &Plan, k: u32) -> Slot {
        let workload = &plan.workload;
        let session = Sessions::of(workload).mover(k);
        let mut sender = Sender::new(plan.seed, session, format!("m{k}"));
        let drawn = sender.dice.random_range(0..workload.rooms.max(1));
        let room = workload.room_of_mover(k).unwrap_or(drawn);
        let lying = Lying {
            site: k as usize % workload.sites.len().max(1),
            since_us: 0,
            mover: Box::new(Mover {
                sender,
                room,
                token: String::new(),
            }),
        };
        Slot {
            lying: Mutex::new(Some(lying)),
            put: Notify::new(),
        }
    }

    fn put_down(&self, site: usize, since_us: u64, mover: Box<Mover>) {
        *self.lying.lock() = Some(Lying {
            site,
            since_us,
            mover,
        });
        self.put.notify_waiters();
    }

    /// The mover, once it lies at `site`.
    async fn pick_up(&self, site: usize) -> Lying {
        loop {
            // Made before the look, so that what is put down after it wakes this up.
            let put = self.put.notified();
            if let Some(lying) = self.lying.lock().take_if(|lying| lying.site == site) {
                return lying;
            }
            put.await;
        }
    }
}

/// Mover `k`, whenever it is at this site, until the load ends.
pub(crate) async fn run(site: Arc<Site>, k: u32) {
    let Some(slot) = site.env.recorder.movers().get(k as usize) else {
        return;
    };
    loop {
        let left = site.until_us.saturating_sub(site.env.now());
        let picked = timeout(Duration::from_micros(left), slot.pick_up(site.index)).await;
        let Ok(Lying {
            since_us,
            mut mover,
            ..
        }) = picked
        else {
            return;
        };
        // It cannot arrive before it left.
        while site.env.now() <= since_us {
            sleep(ON_THE_WAY).await;
        }
        if !stay(&site, &mut mover).await {
            return;
        }
        let next = (site.index + 1) % site.workload().sites.len().max(1);
        slot.put_down(next, site.env.now(), mover);
    }
}

/// Sends and reads until it is time to go; false when the load is over.
async fn stay(site: &Site, mover: &mut Mover) -> bool {
    let boundary = site.workload().move_every_ms.saturating_mul(1_000);
    let began = site.until_us - site.workload().duration_ms * 1_000;
    let spent = site.env.now().saturating_sub(began);
    // Without a boundary it stays for good.
    let stays = spent.checked_div(boundary).map(|stays| stays + 1);
    let leaves_us = stays.map(|stays| began.saturating_add(boundary.saturating_mul(stays)));
    let session = mover.sender.who.session;
    while site
        .pause(site.workload().pause_ms, &mut mover.sender.dice)
        .await
    {
        if leaves_us.is_some_and(|leaves| site.env.now() >= leaves) {
            return true;
        }
        let Mover {
            sender,
            room,
            token,
        } = mover;
        sender.turn(site, Some(*room), false, Some(token)).await;
        let ask = Ask {
            room: *room,
            level: Level::Session,
            from: 0,
            limit: LIMIT,
        };
        let client = site.clients.of(session);
        calls::read(&site.env, &client, session, ask, token).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::tests::plan;

    #[tokio::test(start_paused = true)]
    async fn a_mover_is_picked_up_at_the_site_where_it_was_put_down_and_nowhere_else() {
        let slot = Arc::new(Slot::new(&plan(1), 0));
        let first = slot.pick_up(0).await;
        assert_eq!(
            (first.site, first.mover.sender.who.name.as_str()),
            (0, "m0")
        );
        let waits = |site| {
            let slot = slot.clone();
            tokio::spawn(async move { slot.pick_up(site).await })
        };
        let (here, there) = (waits(0), waits(1));
        sleep(Duration::from_secs(1)).await;
        assert!(!here.is_finished() && !there.is_finished());
        let mut mover = first.mover;
        "token".clone_into(&mut mover.token);
        slot.put_down(1, 77, mover);
        let picked = there.await.unwrap();
        assert_eq!(
            (picked.since_us, picked.mover.token.as_str()),
            (77, "token")
        );
        assert!(!here.is_finished());
        here.abort();
    }
}
