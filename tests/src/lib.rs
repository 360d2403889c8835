//! Whole-system tests: real processes, real disks, kill -9, and clients from outside. Here is what
//! they share: a cluster in a directory of its own, and a load that keeps its own ledger.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{AppendStream, Client, ListOptions, Message, StreamOptions};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak::ledger::{Ack, Found, Sent, judge};
use proto::net::Dial;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long anything may take that should come soon: far above what it takes, so that a busy
/// machine fails no test.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long one call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(20);

/// The `firebreak` beside these tests in the target directory.
///
/// # Panics
/// When it has not been built.
pub fn binary() -> PathBuf {
    let tests = std::env::current_exe().expect("a test knows its own program");
    let built = tests
        .parent()
        .and_then(|deps| deps.parent())
        .map(|dir| dir.join("firebreak"));
    let binary = std::env::var_os("FIREBREAK_BIN")
        .map(PathBuf::from)
        .or(built);
    match binary {
        Some(binary) if binary.is_file() => binary,
        other => panic!(
            "there is no program {}: build it first with `cargo build --release -p firebreak`, or \
             name one in FIREBREAK_BIN",
            other.unwrap_or_default().display()
        ),
    }
}

/// A directory that stays when its test fails.
pub struct Place {
    dir: Option<TempDir>,
}

impl Place {
    /// A new one.
    ///
    /// # Panics
    /// When none can be made.
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("firebreak-test-").tempdir();
        Place {
            dir: Some(dir.expect("a temporary directory can be made")),
        }
    }

    /// Its path.
    ///
    /// # Panics
    /// Never: it is there until this is dropped.
    pub fn path(&self) -> &std::path::Path {
        self.dir.as_ref().expect("is there until dropped").path()
    }
}

impl Default for Place {
    fn default() -> Self {
        Place::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!(
                "configurations, logs and data are in {}",
                dir.keep().display()
            );
        }
    }
}

/// Starts a cluster over three data centers in a directory of its own.
///
/// # Panics
/// When it does not come up.
pub async fn cluster(nodes_per_dc: usize) -> (Place, Cluster) {
    let place = Place::new();
    let plan = ClusterPlan::three_dcs(place.path(), &binary(), nodes_per_dc);
    let cluster = Cluster::start(plan).await.expect("the cluster comes up");
    (place, cluster)
}

fn dialer(cluster: &Cluster) -> Arc<dyn Dial> {
    cluster
        .dialer()
        .expect("the cluster's certificates can be read")
}

/// A client that is told all addresses.
///
/// # Panics
/// When one of them is none.
pub fn client(cluster: &Cluster) -> Client {
    let builder = Client::builder()
        .endpoints(cluster.addresses())
        .dialer(dialer(cluster))
        .deadline(CALL_LIMIT);
    builder.build().expect("addresses of the harness are valid")
}

/// A client that is told one address and keeps to it.
///
/// # Panics
/// When it is none.
pub fn client_of(cluster: &Cluster, node: usize) -> Client {
    let builder = Client::builder().endpoints([cluster.nodes()[node].address.clone()]);
    let builder = builder.dialer(dialer(cluster));
    let builder = builder.discover(false).deadline(CALL_LIMIT);
    builder.build().expect("addresses of the harness are valid")
}

/// The node that leads most data shards.
///
/// # Panics
/// When no shard is led.
pub async fn busiest_leader(cluster: &Cluster) -> usize {
    let statuses = cluster.statuses().await;
    let leaders = firebreak::cluster::view::leaders(&statuses);
    let led_by = |id: u64| {
        leaders
            .iter()
            .filter(|(s, n)| **s != 0 && **n == id)
            .count()
    };
    let busiest = statuses
        .iter()
        .max_by_key(|s| led_by(s.node_id))
        .expect("some node answers");
    assert!(led_by(busiest.node_id) > 0, "no data shard is led");
    let name = &busiest.node_name;
    cluster
        .nodes()
        .iter()
        .position(|n| n.name == *name)
        .expect("a node of the harness")
}

/// Senders that send one message after another to conversations of their own, until stopped.
pub struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
}

struct Shared {
    prefix: String,
    ledger: Vec<Mutex<Vec<Sent>>>,
    acked: AtomicU64,
    failed: Mutex<Vec<String>>,
    next: AtomicUsize,
    stop: AtomicBool,
    began: Instant,
}

/// What a load sent.
pub struct Ledger {
    /// Each conversation with its messages, in the order in which they were sent.
    pub chats: Vec<(String, Vec<Sent>)>,
    /// Calls that failed, in words.
    pub failed: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(n: usize) -> Message {
    Message::text("ann", format!("message {n}")).id(format!("m{n}"))
}

impl Load {
    /// Starts as many senders, half of them over one stream and half with single calls.
    pub fn start(client: &Client, prefix: &str, senders: usize) -> Load {
        let stream = client.append_stream(&StreamOptions::default());
        let shared = Arc::new(Shared {
            prefix: prefix.to_owned(),
            ledger: (0..senders).map(|_| Mutex::default()).collect(),
            acked: AtomicU64::new(0),
            failed: Mutex::default(),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            began: Instant::now(),
        });
        let senders = (0..senders).map(|n| {
            let stream = (n % 2 == 0).then(|| stream.clone());
            tokio::spawn(shared.clone().send(client.clone(), stream))
        });
        Load {
            senders: senders.collect(),
            shared,
        }
    }

    /// Waits until so many more messages are acknowledged.
    ///
    /// # Panics
    /// When that takes longer than [`LIMIT`].
    pub async fn more(&self, count: u64) {
        let goal = self.shared.acked.load(Ordering::Relaxed) + count;
        let begun = Instant::now();
        while self.shared.acked.load(Ordering::Relaxed) < goal {
            assert!(
                begun.elapsed() < LIMIT,
                "{} of {goal} messages were acknowledged after {LIMIT:?}; failed: {:?}",
                self.shared.acked.load(Ordering::Relaxed),
                lock(&self.shared.failed)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets calls under way end and gives what was sent.
    ///
    /// # Panics
    /// When a sender did.
    pub async fn stop(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.expect("a sender does not panic");
        }
        let chats = self.shared.ledger.iter().enumerate();
        Ledger {
            chats: chats
                .map(|(n, sent)| (self.shared.name(n), lock(sent).clone()))
                .collect(),
            failed: lock(&self.shared.failed).clone(),
        }
    }
}

impl Shared {
    fn name(&self, n: usize) -> String {
        format!("tenants/test/conversations/{}-{n}", self.prefix)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn send(self: Arc<Self>, client: Client, stream: Option<AppendStream>) {
        let mine = self.next.fetch_add(1, Ordering::Relaxed);
        let name = self.name(mine);
        let mut n = 0;
        while !self.stop.load(Ordering::Relaxed) {
            lock(&self.ledger[mine]).push(Sent {
                id: format!("m{n}"),
                sender: "ann".to_owned(),
                content: content(message(n).body.as_ref()),
                sent_us: self.now_us(),
                ack: None,
            });
            let sent = match &stream {
                Some(stream) => stream.send(&name, message(n)).await,
                None => client.append(&name, message(n)).await,
            };
            match sent {
                Ok(appended) => {
                    let ack = Ack {
                        seq: appended.seq,
                        at_us: self.now_us(),
                    };
                    if let Some(last) = lock(&self.ledger[mine]).last_mut() {
                        last.ack = Some(ack);
                    }
                    self.acked.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
                Err(e) => {
                    lock(&self.failed).push(format!("{name}: {e}"));
                    return;
                }
            }
        }
    }
}

fn content(body: &[u8]) -> u128 {
    model::hash::record_hash(body)
}

impl Ledger {
    /// Messages acknowledged.
    pub fn acked(&self) -> usize {
        self.chats
            .iter()
            .map(|(_, sent)| sent.iter().filter(|s| s.ack.is_some()).count())
            .sum()
    }

    /// Reads every conversation back at LINEARIZABLE: everything acknowledged is there once, as
    /// acknowledged, in order and without a gap.
    ///
    /// # Panics
    /// When something is not.
    pub async fn assert_kept(&self, client: &Client) {
        for (name, sent) in &self.chats {
            let options = ListOptions {
                page_size: 1_000,
                ..ListOptions::default()
            };
            let read = client.pages(name, options).collect().await;
            let read = match read {
                Err(e) if e.is_not_found() && sent.iter().all(|s| s.ack.is_none()) => continue,
                read => read.unwrap_or_else(|e| panic!("{name} cannot be read back: {e}")),
            };
            let found: Vec<Found> = read
                .into_iter()
                .map(|m| Found {
                    seq: m.seq,
                    id: m.client_message_id,
                    sender: m.sender,
                    content: content(&m.body),
                })
                .collect();
            let faults = judge(name, sent, &found);
            assert!(faults.is_empty(), "{faults:?}");
        }
    }

    /// Sends the first, the middle and the last acknowledged message of each conversation again:
    /// each gets its first answer.
    ///
    /// # Panics
    /// When one does not.
    pub async fn assert_stable(&self, client: &Client) {
        for (name, sent) in &self.chats {
            let acked: Vec<(usize, Ack)> = sent
                .iter()
                .enumerate()
                .filter_map(|(n, s)| Some((n, s.ack?)))
                .collect();
            let Some(last) = acked.len().checked_sub(1) else {
                continue;
            };
            for at in [0, last / 2, last] {
                let (n, ack) = acked[at];
                let again = client
                    .append(name, message(n))
                    .await
                    .expect("a retry is answered");
                assert_eq!(
                    (again.seq, again.deduplicated),
                    (ack.seq, true),
                    "{name} m{n}"
                );
            }
        }
    }

    /// That no call failed.
    ///
    /// # Panics
    /// When one did.
    pub fn assert_no_call_failed(&self) {
        assert!(
            self.failed.is_empty(),
            "{} calls failed: {:?}",
            self.failed.len(),
            self.failed
        );
    }
}

/// Asserts that all replicas of every data shard hold equal records on disk, and dense ones.
///
/// # Panics
/// When they do not.
pub async fn assert_identical(cluster: &mut Cluster) {
    use firebreak::cluster::view;
    cluster
        .wait_replicated(LIMIT)
        .await
        .expect("every replica catches up");
    let statuses = cluster.statuses().await;
    for (shard, replicas) in view::shard_replicas(&statuses) {
        if shard == 0 {
            continue;
        }
        let mut first = None;
        for id in replicas {
            let status = statuses
                .iter()
                .find(|s| s.node_id == id)
                .expect("every node answers");
            let node = cluster.nodes().iter().find(|n| n.name == status.node_name);
            let channel = node.expect("a node of the harness").channel();
            let hashes = view::hash_replica(channel, shard).await;
            let hashes = hashes.unwrap_or_else(|e| panic!("s{shard} on n{id}: {e}"));
            for one in hashes.conversations.values() {
                assert_eq!(
                    one.messages + one.min_seq.saturating_sub(1),
                    one.last_seq,
                    "s{shard} on n{id}: {}",
                    one.name
                );
                assert_eq!(
                    one.running_hash, one.disk_hash,
                    "s{shard} on n{id}: {}",
                    one.name
                );
            }
            let expected = first.get_or_insert_with(|| hashes.conversations.clone());
            assert_eq!(*expected, hashes.conversations, "s{shard} on n{id}");
        }
    }
}
