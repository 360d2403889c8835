//! Senders: each sends one message after the other, or on a stream one burst. A message whose outcome
//! is not known is sent again later under the same id, and so are some that were acknowledged: those
//! must be answered as the first time.

use std::sync::Arc;

use futures::future::join_all;
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
    /// one, on the site's stream or not, where it may be the first of a burst; the session's token,
    /// if it has one, knows what it sent by a call.
    pub(crate) async fn turn(
        &mut self,
        site: &Site,
        room: Option<u32>,
        streams: bool,
        mut token: Option<&mut String>,
    ) {
        let now = site.env.now();
        let due = self.again.iter().position(|again| again.due_us <= now);
        let (mut drafts, path) = match due {
            Some(at) => {
                let other = site.clients.other_than(self.who.session);
                (vec![self.again.remove(at).draft], Path::Call(other))
            }
            None => {
                let room = room.unwrap_or_else(|| site.env.recorder.zipf().draw(&mut self.dice));
                let many = if streams { self.burst(site) } else { 1 };
                let drafts = (0..many).map(|_| self.draft(site, room)).collect();
                let path = match streams {
                    true => Path::Stream(site.clients.stream()),
                    false => Path::Call(site.clients.of(self.who.session)),
                };
                (drafts, path)
            }
        };
        let percent = site.workload().resend_percent;
        let mut later = || {
            let resends = self.dice.random_range(0..100) < percent;
            (resends, self.dice.random_range(AGAIN_MS))
        };
        let later: Vec<(bool, u64)> = drafts.iter().map(|_| later()).collect();
        let appends = drafts
            .iter_mut()
            .map(|draft| calls::append(&site.env, &path, &self.who, draft, token.take()));
        // They are polled in their order, which so is that of the stream.
        let ends = join_all(appends).await;
        let now = site.env.now();
        for ((draft, end), (resends, wait_ms)) in drafts.into_iter().zip(ends).zip(later) {
            let again = match end {
                AppendEnd::Acked { .. } => resends,
                AppendEnd::Refused { .. } => false,
                AppendEnd::Unknown { .. } => true,
            };
            if again {
                let due_us = now.saturating_add(wait_ms * 1_000);
                self.again.push(Again { due_us, draft });
            }
        }
    }

    /// How many messages go at once.
    fn burst(&mut self, site: &Site) -> u32 {
        let (least, most) = site.workload().burst;
        match least < most {
            true => self.dice.random_range(least..=most),
            false => least,
        }
    }

    fn draft(&mut self, site: &Site, room: u32) -> Draft {
        self.made += 1;
        let who = (self.who.session, self.who.name.as_str());
        Draft::new(&site.env.plan, who, self.made, room, &mut self.dice)
    }
}

/// Sender `k`, until the load ends.
pub(crate) async fn run(site: Arc<Site>, k: u32) {
    let session = site.sessions().sender(k);
    let streams = sessions::streams(site.workload(), k);
    let room = site.workload().room_of_sender(k);
    let mut sender = Sender::new(site.env.plan.seed, session, format!("s{k}"));
    while site.pause(site.workload().pause_ms, &mut sender.dice).await {
        // It sends and does not read.
        sender.turn(&site, room, streams, None).await;
    }
}
