//! The import: senders that take a conversation each and send it in the order of the file, some
//! through pipelined streams and some by single calls; and beside them readers whose timed reads
//! will judge L, and messages sent again through other nodes, which judge E.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use client::{AppendStream, Appended, Client, Level, ListOptions, Message};
use proto::net::Channel;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::script::{Chat, Script, content};
use super::timed::{Op, Timed};
use firebreak::ledger::{Ack, Sent};
use proto::v1;
use proto::v1::messages_client::MessagesClient;

/// How long a call has to live: what G speaks of.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long one gateway is given for a message that is sent again, before another is asked.
const GATEWAY_LIMIT: Duration = Duration::from_millis(1_500);
/// Pause before it is.
const GATEWAY_PAUSE: Duration = Duration::from_millis(20);
/// One in so many acknowledged messages is sent again at once.
const RESEND_ONE_IN: u32 = 20;
/// Pause of a reader between two reads.
const READ_PAUSE: Duration = Duration::from_millis(4);
/// Messages that a timed read asks for.
const TAIL: u32 = 10;

/// A timed read of a conversation's end.
#[derive(Clone, Debug)]
pub struct TailRead {
    /// Which conversation.
    pub chat: usize,
    /// When, and the head it saw.
    pub timed: Timed,
    /// The (seq, client message id) pairs it saw.
    pub seen: Vec<(u64, String)>,
}

/// What all senders and readers share.
pub struct Run {
    /// What is sent.
    pub script: Script,
    /// What was sent and acknowledged, by conversation.
    pub ledger: Vec<Mutex<Vec<Sent>>>,
    /// Messages acknowledged so far.
    pub acked: AtomicU64,
    /// Calls that had no good answer within their time.
    pub failed: AtomicU64,
    /// Messages sent again.
    pub resent: AtomicU64,
    /// Those among them that got another number or counted as new.
    pub resent_wrong: AtomicU64,
    /// Timed reads.
    pub reads: Mutex<Vec<TailRead>>,
    /// A few failures in words.
    pub notes: Mutex<Vec<String>>,
    next_chat: AtomicUsize,
    senders: usize,
    began: Instant,
    tickets: AtomicU64,
    step: Duration,
    over: AtomicBool,
    file: Mutex<BufWriter<File>>,
    gateways: Vec<Channel>,
}

/// How a sender sends.
#[derive(Clone)]
pub enum Way {
    /// Pipelined over a stream that many senders share.
    Stream(AppendStream),
    /// One call for each message.
    Unary(Client),
}

impl Way {
    async fn send(&self, parent: &str, message: Message) -> Result<Appended, client::Error> {
        match self {
            Way::Stream(stream) => stream.send(parent, message).await,
            Way::Unary(client) => client.append(parent, message).await,
        }
    }
}

impl Run {
    /// Gets ready. `rate` is in messages a second, `file` keeps the acknowledgements, `gateways`
    /// lead to one node each.
    pub fn new(
        script: Script,
        senders: usize,
        rate: f64,
        file: File,
        gateways: Vec<Channel>,
    ) -> Arc<Run> {
        let ledger = script
            .chats
            .iter()
            .map(|c| Mutex::new(Vec::with_capacity(c.lines.len())))
            .collect();
        Arc::new(Run {
            script,
            ledger,
            acked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            resent_wrong: AtomicU64::new(0),
            reads: Mutex::new(Vec::new()),
            notes: Mutex::new(Vec::new()),
            next_chat: AtomicUsize::new(0),
            senders,
            began: Instant::now(),
            tickets: AtomicU64::new(0),
            step: Duration::from_secs_f64(1.0 / rate),
            over: AtomicBool::new(false),
            file: Mutex::new(BufWriter::new(file)),
            gateways,
        })
    }

    /// µs since the demo began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Ends the readers.
    pub fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Notes a failure for people; only the first few are kept.
    pub fn note(&self, text: String) {
        let mut notes = lock(&self.notes);
        if notes.len() < 10 {
            notes.push(text);
        }
    }

    /// One sender, until no conversation is left.
    ///
    /// # Errors
    /// A message that the cluster refuses for good, or a ledger that cannot be written.
    pub async fn send(self: Arc<Self>, way: Way, seed: u64) -> anyhow::Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        loop {
            let index = self.next_chat.fetch_add(1, Ordering::Relaxed);
            let Some(chat) = self.script.chats.get(index) else {
                return Ok(());
            };
            for line in &chat.lines {
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                let due = self.step.mul_f64(ticket as f64);
                tokio::time::sleep_until(self.began + due).await;
                self.send_one(&way, index, chat, line).await?;
                if random.random_range(0..RESEND_ONE_IN) == 0 {
                    let so_far = lock(&self.ledger[index]).len();
                    let again = random.random_range(0..so_far);
                    self.send_again(index, again, &mut random).await;
                }
            }
        }
    }

    async fn send_one(
        &self,
        way: &Way,
        index: usize,
        chat: &Chat,
        line: &Message,
    ) -> anyhow::Result<()> {
        let sent = Sent {
            id: line.client_message_id.clone(),
            sender: line.sender.clone(),
            content: content(&line.kind, &line.body, line.original_time_ms),
            sent_us: self.now_us(),
            ack: None,
        };
        lock(&self.ledger[index]).push(sent);
        loop {
            match way.send(chat.name.as_str(), line.clone()).await {
                Ok(appended) => return self.acknowledge(index, chat, appended.seq),
                Err(e) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    self.note(format!("append to {}: {e}", chat.name));
                    if !e.retryable() {
                        anyhow::bail!("an append to {} was refused: {e}", chat.name);
                    }
                    // The same message under the same id: whatever became of it, it stays one.
                }
            }
        }
    }

    fn acknowledge(&self, index: usize, chat: &Chat, seq: u64) -> anyhow::Result<()> {
        let at_us = self.now_us();
        let id = {
            let mut ledger = lock(&self.ledger[index]);
            let Some(sent) = ledger.last_mut() else {
                return Ok(());
            };
            sent.ack = Some(Ack { seq, at_us });
            sent.id.clone()
        };
        let line = serde_json::json!({
            "conversation": chat.name.conversation(), "id": id, "seq": seq, "at_us": at_us,
        });
        writeln!(lock(&self.file), "{line}")?;
        self.acked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends an acknowledged message again, under the same id, as a plain gRPC client would: to a
    /// node picked at random, and to another when that one fails. It must get its first answer.
    pub async fn send_again(&self, index: usize, ordinal: usize, random: &mut StdRng) {
        let Some(ack) = lock(&self.ledger[index]).get(ordinal).and_then(|s| s.ack) else {
            return;
        };
        let chat = &self.script.chats[index];
        let limit = Instant::now() + CALL_LIMIT;
        self.resent.fetch_add(1, Ordering::Relaxed);
        let mut gateway = random.random_range(0..self.gateways.len());
        let mut last = String::new();
        while Instant::now() < limit {
            let left = limit.saturating_duration_since(Instant::now());
            match self.plain_append(gateway, chat, ordinal, left).await {
                Ok((seq, true)) if seq == ack.seq => return,
                Ok((seq, deduplicated)) => {
                    self.resent_wrong.fetch_add(1, Ordering::Relaxed);
                    let id = &chat.lines[ordinal].client_message_id;
                    self.note(format!(
                        "{}: {id} was seq {}, sent again it was seq {seq}, deduplicated: \
                         {deduplicated}",
                        chat.name, ack.seq
                    ));
                    return;
                }
                Err(e) => last = format!("{:?}: {}", e.code(), e.message()),
            }
            tokio::time::sleep(GATEWAY_PAUSE).await;
            // Any but the one that failed.
            gateway += random.random_range(1..self.gateways.len().max(2));
            gateway %= self.gateways.len();
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(format!("sending again to {}: {last}", chat.name));
    }

    async fn plain_append(
        &self,
        gateway: usize,
        chat: &Chat,
        ordinal: usize,
        left: Duration,
    ) -> Result<(u64, bool), Status> {
        let line = &chat.lines[ordinal];
        let message = v1::Message {
            sender: line.sender.clone(),
            client_message_id: line.client_message_id.clone(),
            r#type: line.kind.clone(),
            body: line.body.clone(),
            original_time: line.original_time_ms.map(timestamp),
            ..v1::Message::default()
        };
        let mut request = Request::new(v1::AppendMessageRequest {
            parent: chat.name.to_string(),
            message: Some(message),
            ..v1::AppendMessageRequest::default()
        });
        let limit = left.min(GATEWAY_LIMIT);
        request.set_timeout(limit);
        let any = MetadataValue::from_static("1");
        request.metadata_mut().insert(proto::IMPORT, any);
        let mut node = MessagesClient::new(self.gateways[gateway].clone());
        let answer = tokio::time::timeout(limit, node.append_message(request))
            .await
            .map_err(|_| Status::deadline_exceeded("no answer in time"))??
            .into_inner();
        Ok((answer.message.map_or(0, |m| m.seq), answer.deduplicated))
    }

    /// One reader: timed LINEARIZABLE reads of the end of conversations that are being imported,
    /// or were before, until the import is over.
    pub async fn read(self: Arc<Self>, client: Client, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let options = ListOptions {
            page_size: TAIL,
            descending: true,
            level: Level::Linearizable,
            ..ListOptions::default()
        };
        while !self.over.load(Ordering::Relaxed) {
            tokio::time::sleep(READ_PAUSE).await;
            let taken = self
                .next_chat
                .load(Ordering::Relaxed)
                .clamp(1, self.script.chats.len());
            let recent = taken.saturating_sub(self.senders);
            let from = if random.random_range(0..4) == 0 {
                0
            } else {
                recent
            };
            let chat = random.random_range(from..taken);
            let invoked_us = self.now_us();
            let page = client
                .list(self.script.chats[chat].name.as_str(), &options)
                .await;
            let answered_us = self.now_us();
            let (head, seen) = match page {
                Ok(page) => {
                    let seen = page
                        .messages
                        .into_iter()
                        .map(|m| (m.seq, m.client_message_id));
                    (page.last_seq, seen.collect())
                }
                // Nothing has been appended yet.
                Err(e) if e.is_not_found() => (0, Vec::new()),
                Err(e) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    self.note(format!("read of {}: {e}", self.script.chats[chat].name));
                    continue;
                }
            };
            let timed = Timed {
                op: Op::Read(head),
                invoked_us,
                answered_us,
            };
            lock(&self.reads).push(TailRead { chat, timed, seen });
        }
    }
}

/// Locks; a thread that panicked while it held the lock has ended the demo anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn timestamp(unix_ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: unix_ms.div_euclid(1_000),
        // 0 to 999 million: always fits.
        nanos: i32::try_from(unix_ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0),
    }
}
