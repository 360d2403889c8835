//! Senders: each sends one message after the other. A message whose outcome is not known is sent
//! again later under the same id, and so are some that were acknowledged: those must be answered as
//! the first time.

use std::sync::Arc;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::Site;
use super::calls::{self, Path, Who};
use super::message::Draft;
use super::sessions;
use crate::dice::dice;
use crate::history::AppendEnd;

/// How long after its answer a message is sent again, ms.
const AGAIN_MS: std::ops::RangeInclusive<u64> = 200..=3_000;

/// A session that sends.
pub(crate) struct Sender {
    pub(crate) who: Who,
    pub(crate) dice: StdRng,
    /// Messages made so far.
    made: u64,
    again: Vec<Again>,
}

/// A message to be sent again.
struct Again {
    due_us: u64,
    draft: Draft,
}

impl Sender {
    /// The session with this number, whose sender is called `name`; names are unique in a run.
    pub(crate) fn new(seed: u64, session: u32, name: String) -> Sender {
        Sender {
            dice: dice(seed, &format!("sender {name}")),
            who: Who { session, name },
            made: 0,
            again: Vec::new(),
        }
    }

    /// Sends one message: one that is to be sent again now, else a new one, to `room` or a drawn
    /// one, on the site's stream or not; the session's token, if it has one, knows what it sent by a
    /// call.
    pub(crate) async fn turn(
        &mut self,
        site: &Site,
        room: Option<u32>,
        streams: bool,
        token: Option<&mut String>,
    ) {
        let now = site.env.now();
        let due = self.again.iter().position(|again| again.due_us <= now);
        let (mut draft, path) = match due {
            Some(at) => {
                let other = site.clients.other_than(self.who.session);
                (self.again.remove(at).draft, Path::Call(other))
            }
            None if streams => (self.draft(site, room), Path::Stream(site.clients.stream())),
            None => {
                let client = site.clients.of(self.who.session);
                (self.draft(site, room), Path::Call(client))
            }
        };
        let resends = self.dice.random_range(0..100) < site.workload().resend_percent;
        let wait_ms = self.dice.random_range(AGAIN_MS);
        let again = match calls::append(&site.env, &path, &self.who, &mut draft, token).await {
            AppendEnd::Acked { .. } => resends,
            AppendEnd::Refused { .. } => false,
            AppendEnd::Unknown { .. } => true,
        };
        if again {
            let due_us = site.env.now().saturating_add(wait_ms * 1_000);
            self.again.push(Again { due_us, draft });
        }
    }

    fn draft(&mut self, site: &Site, room: Option<u32>) -> Draft {
        self.made += 1;
        let room = room.unwrap_or_else(|| site.env.recorder.zipf().draw(&mut self.dice));
        let who = (self.who.session, self.who.name.as_str());
        Draft::new(&site.env.plan, who, self.made, room, &mut self.dice)
    }
}

/// Sender `k`, until the load ends.
pub(crate) async fn run(site: Arc<Site>, k: u32) {
    let session = site.sessions().sender(k);
    let streams = sessions::streams(site.workload(), k);
    let mut sender = Sender::new(site.env.plan.seed, session, format!("s{k}"));
    while site.pause(site.workload().pause_ms, &mut sender.dice).await {
        // It sends and does not read.
        sender.turn(&site, None, streams, None).await;
    }
}
