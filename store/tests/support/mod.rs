//! A node's two databases on disks that a test can cut the power of, and commands to apply.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use model::command::{Append, Command, Entry, NewMessage, Reply};
use model::id::{ConversationName, ShardId};
use prost::Message;
use store::engine::Engine;
use store::engine::memory::{Disk, Memory};
use store::state::{Applied, ConversationHash, ShardState, State, ToApply};
use store::{Error, Log, Position, Record};

use firebreak_store as store;

#[cfg(feature = "rocksdb")]
pub mod ondisk;
pub mod reference;
pub mod tripwire;

pub const SHARD: ShardId = ShardId(1);
pub const ALL: RangeInclusive<u16> = 0..=u16::MAX;
pub const START_MS: u64 = 1_700_000_000_000;

/// The disks of a node; they outlive it.
#[derive(Clone, Default)]
pub struct Disks {
    pub log: Disk,
    pub state: Disk,
}

/// A node that runs.
pub struct Node {
    pub log: Log,
    pub state: State,
    pub shard: ShardState,
}

impl Disks {
    /// Starts a node on what the disks hold.
    pub fn start(&self) -> Node {
        self.start_on(Arc::new(Memory::open(&self.state)), self.start_log())
    }

    pub fn start_on(&self, engine: Arc<dyn Engine>, log: Log) -> Node {
        let state = State::open(engine, log.clone()).unwrap();
        let shard = state.shard(SHARD, ALL).unwrap();
        Node { log, state, shard }
    }

    /// Starts a node after a crash, whatever was being installed.
    pub async fn recover(&self) -> Node {
        let engine = Arc::new(Memory::open(&self.state));
        recover_on(engine, self.start_log()).await.unwrap()
    }

    pub fn start_log(&self) -> Log {
        let (log, writer) = Log::open(Arc::new(Memory::open(&self.log))).unwrap();
        tokio::spawn(writer);
        log
    }

    /// Cuts the power. Of the log some unsynced batches may survive; of the state none do that no
    /// flush was begun for, as RocksDB without a write-ahead log keeps them in memory alone.
    pub fn power_cut(&self, log_keep: usize) {
        self.log.power_cut(log_keep);
        self.state.power_cut(0);
    }
}

/// Starts a node as raft does: installs are finished before a shard is opened.
pub async fn recover_on(engine: Arc<dyn Engine>, log: Log) -> Result<Node, Error> {
    let state = State::open(engine, log.clone())?;
    state.finish_installs().await?;
    let shard = state.shard(SHARD, ALL)?;
    Ok(Node { log, state, shard })
}

impl Node {
    /// Hands entries to the log; says when they are durable.
    pub fn submit(&self, entries: &[ToApply]) -> oneshot::Receiver<()> {
        let records = entries
            .iter()
            .map(|entry| Record {
                position: entry.position,
                data: entry.payload.clone().unwrap_or_default(),
            })
            .collect();
        let (done, is_done) = oneshot::channel();
        let log = self.log.shard(SHARD).unwrap();
        log.append(
            records,
            Box::new(move |result| {
                if result.is_ok() {
                    let _ = done.send(());
                }
            }),
        );
        is_done
    }

    /// Logs, syncs and applies.
    pub async fn run(&self, entries: Vec<ToApply>) -> Vec<Vec<Reply>> {
        self.submit(&entries).await.unwrap();
        self.shard.apply(entries).unwrap()
    }

    /// Applies again what the log holds behind the applied position.
    pub fn replay(&self) {
        let log = self.log.shard(SHARD).unwrap();
        let from = self.shard.applied().position.map_or(1, |p| p.index + 1);
        let Some(last) = log.last().filter(|last| last.index >= from) else {
            return;
        };
        for record in log.read(from, last.index + 1, usize::MAX).unwrap() {
            self.shard
                .apply(vec![ToApply {
                    position: record.position,
                    membership: None,
                    payload: Some(record.data).filter(|data| !data.is_empty()),
                }])
                .unwrap();
        }
    }

    /// All there is to see of the shard: how far it is, and every conversation as read from disk.
    pub fn seen(&self) -> (Applied, Vec<ConversationHash>) {
        let mut conversations = Vec::new();
        let applied = self.shard.hash(|hash| conversations.push(hash)).unwrap();
        for hash in &conversations {
            assert_eq!(hash.running_hash, hash.disk_hash, "{}", hash.name);
            assert_eq!(hash.messages, hash.counted(), "{}", hash.name);
        }
        (applied, conversations)
    }
}

pub fn at(index: u64) -> Position {
    Position { term: 1, index }
}

pub fn room(name: &str) -> ConversationName {
    ConversationName::new("t", name).unwrap()
}

pub fn message(id: &str, body: &[u8]) -> NewMessage {
    NewMessage {
        sender: Bytes::from_static(b"kim"),
        client_message_id: Bytes::copy_from_slice(id.as_bytes()),
        kind: Bytes::from_static(b"text"),
        body: Bytes::copy_from_slice(body),
        ..NewMessage::default()
    }
}

pub fn say(name: &str, id: &str) -> Command {
    Command::append(Append {
        conversation: room(name).to_string(),
        messages: vec![message(id, id.as_bytes())],
        ..Append::default()
    })
}

pub fn entry(index: u64, time_ms: u64, commands: &[Command]) -> ToApply {
    let entry = Entry {
        format: 1,
        time_ms,
        commands: commands.iter().map(|c| c.encode_to_vec().into()).collect(),
        passed_ms: 0,
    };
    ToApply {
        position: at(index),
        membership: None,
        payload: Some(entry.encode_to_vec().into()),
    }
}

/// One message to each of a few rooms, its id named after the index.
pub fn chat(index: u64) -> ToApply {
    let commands: Vec<Command> = (0..3)
        .map(|r| say(&format!("room{r}"), &format!("{index}")))
        .collect();
    entry(index, START_MS + index, &commands)
}
