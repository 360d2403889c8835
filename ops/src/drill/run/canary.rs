//! The canaries of a drill: clients in each data center that send, read at four levels and follow, and
//! note every call outside of the cluster. Where it is asked for, plain clients in other languages send
//! beside them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::v1::GetStatusResponse;
use client::{
    AppendStream, Client, Event, From, Level, ListOptions, Message, Session, StreamOptions,
};
use server::drill::plan::DrillPlan;
use tokio::task::JoinHandle;

use crate::canary::foreign::{Foreign, Kit, Sender};
use crate::canary::who::{ANY, KEPT};
use crate::canary::{CALL_LIMIT, Call, Calls, PAUSE, now_us};
use crate::demo::lock;

/// Senders by single calls, and through streams, in each data center.
const SENDERS: (usize, usize) = (3, 3);
/// Senders of each kind in each other language.
const FOREIGN: usize = 3;
/// Conversations that a sender takes turns with.
pub const ROOMS: usize = 6;
/// The bound of reads at BOUNDED.
const BOUND: Duration = Duration::from_secs(2);
/// Answers that each must have had before anything is done.
const WARM: usize = 8;
/// Violations that are kept in words.
const NOTES_MAX: usize = 20;

/// What is acknowledged of each conversation: when, Unix µs, and the highest seq by then.
type Heads = Arc<Mutex<BTreeMap<String, Vec<(u64, u64)>>>>;

/// Reads that showed less than their level promises.
#[derive(Clone, Debug, Default)]
pub struct Stale {
    /// At LINEARIZABLE.
    pub linearizable: u64,
    /// At the other levels, and tails that left something out or gave it twice.
    pub others: u64,
    /// A few of them in words.
    pub notes: Vec<String>,
}

/// Where canaries are, and whom they know.
#[derive(Default)]
pub struct Places {
    /// The addresses that the clients of each data center know: its own, then one of each other.
    pub dcs: BTreeMap<String, Vec<String>>,
    /// Nodes that the plan leaves alone: their data center and address.
    pub spared: Vec<(String, String)>,
    /// Languages besides Rust.
    pub kits: Vec<Kit>,
}

/// Where the canaries are, and whom they know.
pub fn places(plan: &DrillPlan, statuses: &[&GetStatusResponse], kits: Vec<Kit>) -> Places {
    let nodes = statuses.first().map(|one| &one.nodes[..]);
    let nodes = nodes.unwrap_or_default();
    let mut dcs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes {
        let own = dcs.entry(node.dc.clone()).or_default();
        own.push(node.address.clone());
    }
    let first = |(dc, all): (&String, &Vec<String>)| Some((dc.clone(), all.first()?.clone()));
    let firsts: BTreeMap<String, String> = dcs.iter().filter_map(first).collect();
    for (dc, own) in &mut dcs {
        let others = firsts.iter().filter(|(other, _)| *other != dc);
        own.extend(others.map(|(_, address)| address.clone()));
    }
    let touched = |name: &String| plan.steps.iter().any(|step| step.nodes.contains(name));
    let spared = nodes.iter().filter(|node| !touched(&node.name));
    Places {
        dcs,
        spared: spared
            .map(|node| (node.dc.clone(), node.address.clone()))
            .collect(),
        kits,
    }
}

/// All canaries.
pub struct Canaries {
    /// Every call that has ended.
    pub calls: Calls,
    /// Since when a client waits, Unix µs: those with a call that is not answered well yet.
    pub waiting: Arc<Mutex<BTreeMap<String, u64>>>,
    /// What reads and tails showed wrongly.
    pub stale: Arc<Mutex<Stale>>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    tails: Vec<JoinHandle<()>>,
    foreign: Vec<Foreign>,
    /// Where those have their files, for as long as they run.
    _folder: Option<tempfile::TempDir>,
    names: Vec<String>,
}

#[derive(Clone)]
enum Way {
    Send(Client),
    Stream(AppendStream),
    Read(Client, Level),
    Session(Arc<Session>),
}

struct One {
    name: String,
    rooms: Vec<String>,
    way: Way,
    calls: Calls,
    waiting: Arc<Mutex<BTreeMap<String, u64>>>,
    stale: Arc<Mutex<Stale>>,
    heads: Heads,
    over: Arc<AtomicBool>,
}

impl Canaries {
    /// Starts them; they call as `like` does.
    ///
    /// # Errors
    /// When an address is none, or another language's cannot be started.
    pub fn start(run: &str, places: &Places, like: &Client) -> anyhow::Result<Canaries> {
        let dcs = &places.dcs;
        let mut all = Canaries {
            calls: Calls::default(),
            waiting: Arc::default(),
            stale: Arc::default(),
            over: Arc::default(),
            tasks: Vec::new(),
            tails: Vec::new(),
            foreign: Vec::new(),
            _folder: None,
            names: Vec::new(),
        };
        let heads = Heads::default();
        let mut rooms: Vec<String> = Vec::new();
        let mut readers = Vec::new();
        for (dc, addresses) in dcs {
            let client = like
                .another()
                .endpoints(addresses.iter().cloned())
                .deadline(CALL_LIMIT)
                .build()?;
            let stream = client.append_stream(&StreamOptions::default());
            let mut own: Vec<(String, Way)> = Vec::new();
            for n in 1..=SENDERS.0 {
                own.push((format!("{dc}-send-{n}"), Way::Send(client.clone())));
            }
            for n in 1..=SENDERS.1 {
                own.push((format!("{dc}-stream-{n}"), Way::Stream(stream.clone())));
            }
            for (name, way) in own {
                let mine = conversations(run, &name);
                rooms.extend(mine.iter().cloned());
                all.spawn(name, mine, way, &heads);
            }
            readers.push((dc.clone(), client));
        }
        for (at, (dc, client)) in readers.into_iter().enumerate() {
            for (level, way) in [
                (
                    "linearizable",
                    Way::Read(client.clone(), Level::Linearizable),
                ),
                ("session", Way::Session(Arc::new(client.session()))),
                ("bounded", Way::Read(client.clone(), Level::Bounded(BOUND))),
                ("local", Way::Read(client.clone(), Level::Local)),
            ] {
                all.spawn(format!("{dc}-read-{level}"), rooms.clone(), way, &heads);
            }
            if let Some(room) = rooms.get(at * ROOMS) {
                all.tail(format!("{dc}-tail"), room.clone(), client);
            }
        }
        all.other_languages(run, places)?;
        Ok(all)
    }

    /// Plain clients: some are told one node of each data center, others one node only, which outlives
    /// what will be done.
    fn other_languages(&mut self, run: &str, places: &Places) -> anyhow::Result<()> {
        if places.kits.is_empty() {
            return Ok(());
        }
        let firsts: Vec<&String> = places.dcs.values().filter_map(|all| all.first()).collect();
        let folder = tempfile::Builder::new()
            .prefix("firebreak-canaries-")
            .tempdir()?;
        for kit in &places.kits {
            let language = kit.language();
            let mut senders = Vec::new();
            let mut add = |name: String, addresses: String| {
                senders.push(Sender {
                    conversations: conversations(run, &name),
                    name,
                    addresses,
                });
            };
            for n in 0..FOREIGN {
                let mut order: Vec<&str> = firsts.iter().map(|one| one.as_str()).collect();
                let at = n % order.len().max(1);
                order.rotate_left(at);
                add(format!("{language}-{ANY}-{}", n + 1), order.join(","));
                if let Some((dc, address)) = places.spared.get(n % places.spared.len().max(1)) {
                    let name = format!("{dc}-{language}-{KEPT}-{}", n + 1);
                    add(name, address.clone());
                }
            }
            let names = senders.iter().map(|sender| sender.name.clone());
            self.names.extend(names);
            let calls = self.calls.clone();
            self.foreign
                .push(kit.start(&senders, calls, folder.path())?);
        }
        self._folder = Some(folder);
        Ok(())
    }

    /// Which clients have ended by themselves, in words: nobody notes what they would have seen.
    pub fn ended(&mut self) -> Option<String> {
        let mut foreign = self.foreign.iter_mut();
        foreign.find_map(|one| one.check().err().map(|why| format!("{why:#}")))
    }

    fn spawn(&mut self, name: String, rooms: Vec<String>, way: Way, heads: &Heads) {
        self.names.push(name.clone());
        let one = One {
            name,
            rooms,
            way,
            calls: self.calls.clone(),
            waiting: self.waiting.clone(),
            stale: self.stale.clone(),
            heads: heads.clone(),
            over: self.over.clone(),
        };
        self.tasks.push(tokio::spawn(one.work()));
    }

    fn tail(&mut self, name: String, room: String, client: Client) {
        let (calls, stale, over) = (self.calls.clone(), self.stale.clone(), self.over.clone());
        self.tails.push(tokio::spawn(async move {
            follow(name, room, client, &calls, &stale, &over).await;
        }));
    }

    /// Who has not been answered a few times yet.
    pub fn cold(&self) -> Option<String> {
        let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
        let calls = lock(&self.calls);
        for call in calls.iter().filter(|call| call.outcome.is_ok()) {
            *answers.entry(&call.sender).or_default() += 1;
        }
        let cold = |name: &&String| answers.get(name.as_str()).is_none_or(|count| *count < WARM);
        self.names.iter().find(cold).cloned()
    }

    /// Ends all, each after the answer that it waits for. Gives what did not end as it should, too.
    pub async fn stop(self) -> (Vec<Call>, Stale, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let ends = self.foreign.into_iter().map(Foreign::stop);
        let ended = futures::future::join_all(ends).await.into_iter();
        let wrong = ended.filter_map(|one| one.err().map(|why| format!("{why:#}")));
        let wrong: Vec<String> = wrong.collect();
        for task in self.tasks {
            // One that panicked has told so on standard error; its calls count.
            let _ = task.await;
        }
        for tail in self.tails {
            tail.abort();
        }
        let calls = std::mem::take(&mut *lock(&self.calls));
        let stale = lock(&self.stale).clone();
        (calls, stale, wrong)
    }
}

/// The conversations of a canary.
fn conversations(run: &str, name: &str) -> Vec<String> {
    let room = |n| format!("tenants/firebreak-drill/conversations/{run}-{name}-{n}");
    (0..ROOMS).map(room).collect()
}

impl One {
    async fn work(self) {
        let page = ListOptions {
            page_size: 1,
            descending: true,
            ..ListOptions::default()
        };
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for count in 0_usize.. {
            tokio::time::sleep(PAUSE).await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let room = &self.rooms[count % self.rooms.len()];
            let id = format!("{}-{count}", self.name);
            let sent_us = now_us();
            lock(&self.waiting)
                .entry(self.name.clone())
                .or_insert(sent_us);
            let message = || Message::text(&self.name, &id).id(&id);
            let outcome = match &self.way {
                Way::Send(client) => client.append(room, message()).await.map(|done| done.seq),
                Way::Stream(stream) => stream.send(room, message()).await.map(|done| done.seq),
                Way::Read(client, level) => {
                    let options = ListOptions {
                        level: level.clone(),
                        ..page.clone()
                    };
                    read(client.list(room, &options).await)
                }
                Way::Session(session) => read(session.list(room, &page).await),
            };
            let ended_us = now_us();
            if outcome.is_ok() {
                lock(&self.waiting).remove(&self.name);
            }
            if let Ok(seq) = outcome {
                self.noted(room, seq, sent_us, ended_us, &mut seen);
            }
            let sends = matches!(self.way, Way::Send(_) | Way::Stream(_));
            lock(&self.calls).push(Call {
                sender: self.name.clone(),
                room: if sends { room.clone() } else { String::new() },
                id,
                sent_us,
                ended_us,
                outcome: outcome.map_err(|error| error.to_string()),
            });
        }
    }

    /// Notes an acknowledgement, or holds what a read showed against them.
    fn noted(
        &self,
        room: &str,
        seq: u64,
        sent_us: u64,
        ended_us: u64,
        seen: &mut BTreeMap<String, u64>,
    ) {
        let bound_us = u64::try_from(BOUND.as_micros()).unwrap_or(0);
        let least = match &self.way {
            Way::Send(_) | Way::Stream(_) => {
                let mut heads = lock(&self.heads);
                let heads = heads.entry(room.to_owned()).or_default();
                let highest = heads.last().map_or(0, |(_, seq)| *seq).max(seq);
                heads.push((ended_us, highest));
                return;
            }
            Way::Read(_, Level::Linearizable) => self.acked_before(room, sent_us),
            Way::Read(_, Level::Bounded(_)) => {
                self.acked_before(room, sent_us.saturating_sub(bound_us))
            }
            Way::Session(_) => seen.get(room).copied().unwrap_or(0),
            Way::Read(_, Level::Local | Level::Session(_)) => 0,
        };
        let last = seen.entry(room.to_owned()).or_insert(0);
        *last = seq.max(*last);
        if seq < least {
            let mut stale = lock(&self.stale);
            match &self.way {
                Way::Read(_, Level::Linearizable) => stale.linearizable += 1,
                _ => stale.others += 1,
            }
            if stale.notes.len() < NOTES_MAX {
                let name = &self.name;
                stale.notes.push(format!(
                    "{name} saw seq {seq} of {room} where {least} was due"
                ));
            }
        }
    }

    /// The highest seq that was acknowledged by a time.
    fn acked_before(&self, room: &str, us: u64) -> u64 {
        let heads = lock(&self.heads);
        let known = heads.get(room).map_or(&[][..], Vec::as_slice);
        let before = known.partition_point(|(at, _)| *at < us);
        let at = before.checked_sub(1).and_then(|at| known.get(at));
        at.map_or(0, |(_, seq)| *seq)
    }
}

/// The last seq that a page shows.
fn read(page: Result<client::Page, client::Error>) -> Result<u64, client::Error> {
    match page {
        // Nobody may have written to it yet, or the replica does not know.
        Err(error) if error.is_not_found() => Ok(0),
        page => page.map(|page| page.last_seq),
    }
}

/// Follows a conversation from its first message on.
async fn follow(
    name: String,
    room: String,
    client: Client,
    calls: &Calls,
    stale: &Mutex<Stale>,
    over: &AtomicBool,
) {
    let mut next = 1;
    'again: while !over.load(Ordering::Relaxed) {
        let mut tail = client.tail(&room, From::Seq(next));
        let mut since_us = now_us();
        while let Some(event) = tail.next().await {
            let outcome = match event {
                Ok(Event::Message(message)) => {
                    if message.seq != next {
                        let mut stale = lock(stale);
                        stale.others += 1;
                        let got = message.seq;
                        stale
                            .notes
                            .push(format!("{name} was given seq {got} where {next} was due"));
                    }
                    next = message.seq + 1;
                    Ok(message.seq)
                }
                // Nobody changes what canaries send.
                Ok(Event::CaughtUp { .. } | Event::Changed(_)) => continue,
                // Its sender has not begun.
                Err(error) if error.is_not_found() => {
                    tokio::time::sleep(PAUSE).await;
                    continue 'again;
                }
                Err(error) => Err(error.to_string()),
            };
            let failed = outcome.is_err();
            lock(calls).push(Call {
                sender: name.clone(),
                room: String::new(),
                id: next.to_string(),
                sent_us: since_us,
                ended_us: now_us(),
                outcome,
            });
            since_us = now_us();
            if failed {
                continue 'again;
            }
        }
    }
}
