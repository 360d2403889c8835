//! Tails: each follows a drawn room from a drawn place, hangs up every now and then and goes on
//! from its cursor, as a device does that was offline for a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Error, Event, From as Start, Level};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{Site, calls, feeder};
use crate::dice::dice;
use crate::history;

/// Time enough for [`Tails::drain`] at rest.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Between two looks whether a room exists, or two tries to reach a node.
const TAIL_RETRY_EVERY: Duration = Duration::from_millis(300);

/// Where a tail begins that asked for what is new and was never told where that is.
const ONLY_NEW: u64 = 0;

/// The last seq of each room at rest, once it is known.
pub(super) type Heads = Option<BTreeMap<u32, u64>>;

/// The tails of a site, running. Dropped, they end.
pub struct Tails {
    site: Arc<Site>,
    mine: Vec<u32>,
    tasks: JoinSet<()>,
    heads: watch::Sender<Heads>,
    /// Brings the site's clients back after a stampede.
    _stampede: JoinSet<()>,
}

impl Tails {
    pub(crate) fn open(site: Arc<Site>, mine: impl Iterator<Item = u32>) -> Tails {
        let mut stampede = JoinSet::new();
        let at = site.clone();
        stampede.spawn(async move { at.clients.stampede().await });
        let heads = watch::Sender::new(None);
        let mine: Vec<u32> = mine.collect();
        let mut tasks = JoinSet::new();
        for k in &mine {
            tasks.spawn(run(site.clone(), *k, heads.subscribe()));
        }
        // One follows what changers do, for all sites.
        if site.index == 0 && site.workload().changers > 0 {
            tasks.spawn(feeder::run(site.clone(), heads.subscribe()));
        }
        Tails {
            site,
            mine,
            tasks,
            heads,
            _stampede: stampede,
        }
    }

    /// Lets the tails run until each has been given all that its room holds; for when nothing is
    /// sent any more and the cluster is at rest. Those are complete. Gives, for people, those that
    /// were not within `limit`, [`DRAIN_MAX`] for one: their [`history::Tail::error`] says so too.
    pub async fn drain(mut self, limit: Duration) -> Vec<String> {
        let until = Instant::now() + limit;
        let client = self.site.clients.of(0);
        let mut heads = BTreeMap::new();
        for room in self.mine.iter().map(|k| draw(&self.site, *k).0) {
            if heads.contains_key(&room) {
                continue;
            }
            let name = self.site.env.recorder.room_name(room);
            let head = async {
                loop {
                    match client.get_conversation(name, &Level::Linearizable).await {
                        Ok(conversation) => return conversation.last_seq,
                        Err(error) if error.is_not_found() => return 0,
                        Err(_) => sleep(TAIL_RETRY_EVERY).await,
                    }
                }
            };
            if let Ok(last_seq) = timeout_at(until, head).await {
                heads.insert(room, last_seq);
            }
        }
        self.heads.send_replace(Some(heads.clone()));
        while let Ok(Some(_)) = timeout_at(until, self.tasks.join_next()).await {}
        self.tasks.shutdown().await;
        let mut missed = Vec::new();
        for k in &self.mine {
            let head = heads.get(&draw(&self.site, *k).0);
            let why = self.site.env.recorder.tail(*k, |tail| {
                if tail.complete || tail.error.is_some() {
                    return None;
                }
                tail.error = Some(behind(tail, head.copied(), limit));
                tail.error.clone()
            });
            let why = why.unwrap_or_else(|| Some("its room could never be read".to_owned()));
            missed.extend(why.map(|why| format!("tail {k} at {}: {why}", self.site.env.site.name)));
        }
        missed
    }
}

fn behind(tail: &history::Tail, head: Option<u64>, limit: Duration) -> String {
    let limit = limit.as_millis();
    let next = tail
        .events
        .last()
        .map_or(tail.from, |(_, seen)| seen.seq + 1);
    match head {
        None => format!("the head of its room could not be read within {limit} ms"),
        Some(0) => format!("its room is gone; it waits for {next}"),
        Some(head) => format!("not given {next} to {head} within {limit} ms at rest"),
    }
}

/// The room of tail `k`, and its further chance.
fn draw(site: &Site, k: u32) -> (u32, StdRng) {
    let mut dice = dice(site.env.plan.seed, &format!("tail {k}"));
    (site.env.recorder.zipf().draw(&mut dice), dice)
}

/// A tail over all its connections.
struct Follower {
    site: Arc<Site>,
    k: u32,
    session: u32,
    room: u32,
    dice: StdRng,
    heads: watch::Receiver<Heads>,
    /// The seq to come; none while it is not known.
    next: Option<u64>,
}

/// Tail `k`, until it was given all there is at rest, or something ended it.
async fn run(site: Arc<Site>, k: u32, heads: watch::Receiver<Heads>) {
    let (room, dice) = draw(&site, k);
    let session = site.sessions().tail(k);
    let mut follower = Follower {
        site,
        k,
        session,
        room,
        dice,
        heads,
        next: None,
    };
    match follower.follow().await {
        Ok(()) => follower.note(|tail| tail.complete = true),
        Err(why) => {
            if follower.next.is_none() {
                follower.open(ONLY_NEW);
            }
            follower.note(|tail| tail.error = Some(why));
        }
    }
}

/// How one connection ended.
enum Hung {
    /// Everything was given.
    Done,
    /// Goes on from here.
    Up(Start),
}

impl Follower {
    async fn follow(&mut self) -> Result<(), String> {
        let Some(mut start) = self.begin().await else {
            return Ok(());
        };
        loop {
            match self.connected(start).await? {
                Hung::Done => return Ok(()),
                Hung::Up(from) => start = from,
            }
        }
    }

    /// Waits for the room, and draws where to begin. None when the room never came to be.
    async fn begin(&mut self) -> Option<Start> {
        let site = self.site.clone();
        let last_seq = loop {
            if self.head() == Some(0) {
                self.open(1);
                return None;
            }
            let client = site.clients.of(self.session);
            let name = site.env.recorder.room_name(self.room);
            match client.get_conversation(name, &Level::Linearizable).await {
                Ok(conversation) => break conversation.last_seq,
                Err(_) => sleep(TAIL_RETRY_EVERY).await,
            }
        };
        let start = match self.dice.random_range(0..3) {
            0 => Start::New,
            1 => Start::Seq(1),
            _ => Start::Seq(self.dice.random_range(1..=last_seq.max(1))),
        };
        if let Start::Seq(seq) = &start {
            self.open(*seq);
        }
        Some(start)
    }

    /// One connection, until it hangs up.
    async fn connected(&mut self, start: Start) -> Result<Hung, String> {
        let site = self.site.clone();
        let mut rebuilt = site.clients.rebuilt();
        let client = site.clients.of(self.session);
        let mut tail = client.tail(site.env.recorder.room_name(self.room), start.clone());
        drop(client);
        let hangs_up = sleep_until(self.hangs_up());
        tokio::pin!(hangs_up);
        loop {
            if let (Some(next), Some(head)) = (self.next, self.head())
                && next > head
            {
                return Ok(Hung::Done);
            }
            tokio::select! {
                biased;
                event = tail.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    // No node was reached in time: one tries again.
                    Some(Err(Error::Deadline { .. })) | None => {
                        sleep(TAIL_RETRY_EVERY).await;
                        break;
                    }
                    Some(Err(error)) => return Err(error.to_string()),
                },
                () = &mut hangs_up => break,
                Ok(()) = rebuilt.changed() => break,
                Ok(()) = self.heads.changed() => {}
            }
        }
        if !tail.cursor().is_empty() {
            return Ok(Hung::Up(Start::Cursor(tail.cursor().to_owned())));
        }
        // Before its first event, and after a gap, a tail has no cursor, but mostly a number.
        let Some(next) = tail.next_seq() else {
            return Ok(Hung::Up(start));
        };
        if self.next.is_none() {
            self.open(next);
        }
        Ok(Hung::Up(Start::Seq(next)))
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                if self.next.is_none() {
                    self.open(message.seq);
                }
                self.next = Some(message.seq + 1);
                let now = self.site.env.now();
                let seen = calls::seen(message);
                self.site.env.recorder.tail_given(self.k, now, seen);
            }
            Event::Changed(_) => {}
            Event::CaughtUp { last_seq } => {
                if self.next.is_none() {
                    self.open(last_seq + 1);
                }
            }
        }
    }

    /// Notes the tail, now that it is known where it begins.
    fn open(&mut self, from: u64) {
        self.next = Some(from);
        let tail = history::Tail {
            session: self.session,
            site: self.site.env.site.name.clone(),
            room: self.room,
            from,
            events: Vec::new(),
            error: None,
            complete: false,
        };
        self.site.env.recorder.tail_begins(self.k, tail);
    }

    fn note(&self, change: impl FnOnce(&mut history::Tail)) {
        self.site.env.recorder.tail(self.k, change);
    }

    /// The last seq of the room at rest, once it is known.
    fn head(&self) -> Option<u64> {
        self.heads.borrow().as_ref()?.get(&self.room).copied()
    }

    /// When it hangs up next: after half to one and a half of the plan's time.
    fn hangs_up(&mut self) -> Instant {
        let every = self.site.workload().tail_resume_ms;
        let wait = match every {
            // Never: later than any run ends.
            0 => Duration::from_secs(30 * 24 * 3_600),
            _ => Duration::from_millis(self.dice.random_range(every.div_ceil(2)..=every * 3 / 2)),
        };
        Instant::now() + wait
    }
}
