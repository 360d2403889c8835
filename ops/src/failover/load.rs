//! Clients at work: each sender waits for one answer before it sends its next message, so that a
//! gap between its acknowledgements is what a person would have waited.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use client::{AppendStream, Client, ListOptions, Message, StreamOptions};
use firebreak::cluster::Cluster;
use serde::Serialize;
use tokio::task::JoinHandle;

use super::case::{Case, Victim};
use super::foreign::{Foreign, Kit};
use crate::canary::{CALL_LIMIT, Call, Calls, PAUSE, now_us};
use crate::demo::lock;

/// Conversations that a sender takes turns with, so that it meets most shards.
const ROOMS: usize = 6;
/// Senders through single calls and through streams of the Rust client, and its readers.
const RUST: (usize, usize, usize) = (9, 9, 3);
/// Senders of each kind in each other language.
const FOREIGN: usize = 3;
/// Answers that each sender must have had before anything is done.
const WARM: usize = 12;
/// How long that may take.
const WARM_LIMIT: Duration = Duration::from_secs(60);

/// One sender: a client of its own where it is not Rust's.
#[derive(Clone, Debug, Serialize)]
pub struct Sender {
    /// Language, kind and number: `python-kept-1`.
    pub name: String,
    /// host:port of its gateways, with commas.
    pub addresses: String,
    /// Its own conversations.
    pub conversations: Vec<String>,
}

impl Sender {
    fn new(run: &str, name: String, addresses: &[String]) -> Sender {
        let room = |n| format!("tenants/failover/conversations/{run}-{name}-{n}");
        Sender {
            conversations: (0..ROOMS).map(room).collect(),
            addresses: addresses.join(","),
            name,
        }
    }
}

/// All clients of a run.
pub struct Load {
    calls: Calls,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    foreign: Vec<Foreign>,
    names: Vec<String>,
}

#[derive(Clone)]
enum Way {
    Unary(Client),
    Stream(AppendStream),
    Read(Client),
}

impl Load {
    /// Starts clients that are told one address of each data center, and in the other languages
    /// also such that are told one node only, which outlives what will be done.
    ///
    /// # Errors
    /// When a client cannot be started.
    pub fn start(
        cluster: &Cluster,
        run: &str,
        case: Case,
        victim: &Victim,
        kits: &[Kit],
        dir: &Path,
    ) -> anyhow::Result<Load> {
        let all = one_per_dc(cluster);
        let mut load = Load {
            calls: Calls::default(),
            over: Arc::default(),
            tasks: Vec::new(),
            foreign: Vec::new(),
            names: Vec::new(),
        };
        load.rust(run, &all)?;
        let kept: Vec<&String> = all
            .iter()
            .filter(|(dc, _)| **dc != victim.dc)
            .map(|(_, address)| address)
            .collect();
        let all: Vec<String> = all.values().cloned().collect();
        for kit in kits {
            let language = kit.language();
            let mut senders = Vec::new();
            for n in 0..FOREIGN {
                let mut order = all.clone();
                order.rotate_left(n % all.len());
                senders.push(Sender::new(run, format!("{language}-any-{n}"), &order));
                if case.spares_others() {
                    let one = [kept[n % kept.len()].clone()];
                    senders.push(Sender::new(run, format!("{language}-kept-{n}"), &one));
                }
            }
            load.names
                .extend(senders.iter().map(|sender| sender.name.clone()));
            load.foreign
                .push(kit.start(&senders, load.calls.clone(), dir)?);
        }
        Ok(load)
    }

    fn rust(&mut self, run: &str, all: &BTreeMap<&str, String>) -> anyhow::Result<()> {
        let build = || {
            Client::builder()
                .endpoints(all.values().cloned())
                .deadline(CALL_LIMIT)
                .build()
        };
        let unary = build()?;
        let stream = build()?.append_stream(&StreamOptions::default());
        let ways = std::iter::repeat_n((Way::Unary(unary.clone()), "rust-unary"), RUST.0)
            .chain(std::iter::repeat_n(
                (Way::Stream(stream), "rust-stream"),
                RUST.1,
            ))
            .chain(std::iter::repeat_n((Way::Read(unary), "rust-read"), RUST.2));
        let mut rooms = Vec::new();
        for (n, (way, kind)) in ways.enumerate() {
            let mut sender = Sender::new(run, format!("{kind}-{n}"), &[]);
            match way {
                Way::Read(_) => sender.conversations.clone_from(&rooms),
                Way::Unary(_) | Way::Stream(_) => {
                    rooms.extend(sender.conversations.iter().cloned())
                }
            }
            self.names.push(sender.name.clone());
            let (calls, over) = (self.calls.clone(), self.over.clone());
            self.tasks
                .push(tokio::spawn(work(way, sender, calls, over)));
        }
        Ok(())
    }

    /// Waits until every sender has been answered a few times.
    ///
    /// # Errors
    /// Who has not, when that takes too long.
    pub async fn warm(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let mut answers: BTreeMap<String, usize> = BTreeMap::new();
            for call in lock(&self.calls).iter().filter(|call| call.outcome.is_ok()) {
                *answers.entry(call.sender.clone()).or_default() += 1;
            }
            let cold = |name: &&String| answers.get(*name).is_none_or(|count| *count < WARM);
            let Some(cold) = self.names.iter().find(cold) else {
                return Ok(());
            };
            for foreign in &mut self.foreign {
                foreign.check()?;
            }
            if began.elapsed() > WARM_LIMIT {
                let last = lock(&self.calls)
                    .iter()
                    .rev()
                    .find(|call| call.sender == *cold)
                    .cloned();
                bail!("{cold} is not served after {WARM_LIMIT:?}; its last call: {last:?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends all clients, each after the answer it waits for, and gives what they did.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn stop(self) -> anyhow::Result<Vec<Call>> {
        self.over.store(true, Ordering::Relaxed);
        for foreign in self.foreign {
            foreign.stop().await?;
        }
        for task in self.tasks {
            task.await.context("a sender panicked")?;
        }
        Ok(std::mem::take(&mut *lock(&self.calls)))
    }
}

/// The first node of each data center.
fn one_per_dc(cluster: &Cluster) -> BTreeMap<&str, String> {
    let mut all = BTreeMap::new();
    for node in cluster.nodes() {
        all.entry(node.dc.as_str())
            .or_insert_with(|| node.address.clone());
    }
    all
}

async fn work(way: Way, sender: Sender, calls: Calls, over: Arc<AtomicBool>) {
    let page = ListOptions {
        page_size: 5,
        descending: true,
        ..ListOptions::default()
    };
    for count in 0.. {
        tokio::time::sleep(PAUSE).await;
        if over.load(Ordering::Relaxed) {
            return;
        }
        let room = &sender.conversations[count % sender.conversations.len()];
        let id = format!("{}-{count}", sender.name);
        let message = Message::text(&sender.name, &id).id(&id);
        let sent_us = now_us();
        let outcome = match &way {
            Way::Unary(client) => client.append(room, message).await.map(|done| done.seq),
            Way::Stream(stream) => stream.send(room, message).await.map(|done| done.seq),
            Way::Read(client) => match client.list(room, &page).await {
                // Nobody may have written to it yet.
                Err(error) if error.is_not_found() => Ok(0),
                read => read.map(|page| page.last_seq),
            },
        };
        let reads = matches!(way, Way::Read(_));
        lock(&calls).push(Call {
            sender: sender.name.clone(),
            room: if reads { String::new() } else { room.clone() },
            id,
            sent_us,
            ended_us: now_us(),
            outcome: outcome.map_err(|error| error.to_string()),
        });
    }
}
