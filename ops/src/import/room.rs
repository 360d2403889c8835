//! Bringing in one conversation: its messages in their order, then what became of each.

use std::collections::VecDeque;
use std::sync::Arc;

use client::{Ack, AppendStream, Client, Edit, Error, Message, v1};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::id::ConversationName;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::record::{At, Begin, Change, Reacted, Record, Said, id_of};
use super::report::Book;
use super::seqs::Seqs;

/// Messages of one conversation under way, most.
const PENDING_MAX: usize = 1_024;
/// Edits, erasures and reactions of one conversation under way, most.
const CHANGES_MAX: usize = 32;
/// The request under which an import creates a conversation.
const CREATION: &str = "import:creation";

/// A record, and what it holds of the memory for records.
pub type Held = (Record, OwnedSemaphorePermit);

/// Where conversations are brought in.
#[derive(Clone)]
pub struct Inlet {
    /// The cluster.
    pub client: Client,
    /// Streams to append on.
    pub streams: Arc<[AppendStream]>,
    /// The tenant.
    pub tenant: String,
    /// What becomes of it.
    pub book: Book,
}

/// A message that is not acknowledged yet.
struct Pending {
    said: Box<Said>,
    ack: Ack,
    _held: OwnedSemaphorePermit,
}

/// One conversation.
struct Room<'i> {
    into: &'i Inlet,
    name: ConversationName,
    stream: &'i AppendStream,
    seqs: Seqs,
    pending: VecDeque<Pending>,
    changes: FuturesUnordered<BoxFuture<'i, ()>>,
}

impl Inlet {
    /// Brings in the records of one conversation, until there are no more.
    pub async fn room(self, name: ConversationName, mut records: mpsc::Receiver<Held>) {
        let slot = usize::from(name.key().slot().0);
        let mut room = Room {
            stream: &self.streams[slot % self.streams.len()],
            into: &self,
            name,
            seqs: Seqs::default(),
            pending: VecDeque::new(),
            changes: FuturesUnordered::new(),
        };
        self.book.note(|report| report.conversations += 1);
        while let Some((record, held)) = records.recv().await {
            match record {
                Record::Begin(begin) => room.begin(begin).await,
                Record::Said(said) => room.said(said, held).await,
                Record::Reacted(reacted) => room.reacted(reacted).await,
            }
        }
        while room.settle().await {}
        while room.changes.next().await.is_some() {}
    }
}

impl Room<'_> {
    /// Creates the conversation where its first message would not, or not as it was.
    async fn begin(&mut self, begin: Begin) {
        if begin.attributes.is_empty() && !begin.is_empty {
            return;
        }
        let given = v1::Conversation {
            attributes: begin.attributes,
            ..v1::Conversation::default()
        };
        let (tenant, id) = (self.name.tenant(), self.name.conversation());
        let client = &self.into.client;
        let created = client
            .create_conversation(tenant, id, given, CREATION)
            .await;
        match created {
            Ok(_) => {}
            Err(error) if is_there(&error) => {
                let told = "the conversation exists; its settings are left as they are";
                self.into.book.left_out(&begin.at, told.to_owned());
            }
            Err(error) => self.into.book.failed(&begin.at, error.to_string()),
        }
    }

    async fn said(&mut self, mut said: Box<Said>, held: OwnedSemaphorePermit) {
        if let Some(key) = said.reply_to {
            match self.seq_of(key).await {
                Some(seq) => said.message.reply_to_seq = seq,
                None => {
                    let told =
                        "replies to a message that is not in this import; imported without that";
                    self.into.book.left_out(&said.at, told.to_owned());
                }
            }
        }
        while self.pending.len() >= PENDING_MAX {
            self.settle().await;
        }
        let message: Message = std::mem::take(&mut said.message);
        // What is needed for what became of it.
        said.message.attributes.clone_from(&message.attributes);
        let ack = self.stream.enqueue(self.name.as_str(), message).await;
        self.pending.push_back(Pending {
            said,
            ack,
            _held: held,
        });
    }

    /// Where a message is; waits for it when it is on its way.
    async fn seq_of(&mut self, key: u64) -> Option<u64> {
        loop {
            if let Some(seq) = self.seqs.get(key) {
                return Some(seq);
            }
            if !self.settle().await {
                return None;
            }
        }
    }

    /// Waits for the oldest message that is on its way; false when there is none.
    async fn settle(&mut self) -> bool {
        let Some(Pending { said, ack, _held }) = self.pending.pop_front() else {
            return false;
        };
        match ack.await {
            Ok(appended) => {
                self.into.book.note(|report| match appended.deduplicated {
                    true => report.already_there += 1,
                    false => report.imported += 1,
                });
                if said.is_spoken_of {
                    self.seqs.add(said.key, appended.seq);
                }
                self.changed(*said, appended.seq).await;
            }
            Err(error) => self.into.book.failed(&said.at, explain(&error)),
        }
        true
    }

    /// Does to a message what became of it.
    async fn changed(&mut self, said: Said, seq: u64) {
        let (into, name) = (self.into, self.name.clone());
        let at = said.at.clone();
        match said.change {
            Change::None => {}
            Change::Edited(time_ms) => {
                // The message says already what it said last; this notes that it was edited, and when.
                let edit = Edit::default()
                    .attributes(said.message.attributes)
                    .original_time_ms(time_ms)
                    .id(request("edit", seq, &[&time_ms.to_le_bytes()]));
                self.push(Box::pin(async move {
                    let done = into.client.edit(name.as_str(), seq, edit).await;
                    into.done(done, &at, |report| report.edited += 1);
                }))
                .await;
            }
            Change::Erased(time_ms) => {
                let id = request("erase", seq, &[]);
                self.push(Box::pin(async move {
                    let client = &into.client;
                    let done = client.redact_as_of(name.as_str(), seq, time_ms, &id).await;
                    into.done(done, &at, |report| report.erased += 1);
                }))
                .await;
            }
        }
        self.react(seq, said.reactions, &said.at).await;
    }

    async fn reacted(&mut self, reacted: Reacted) {
        match self.seq_of(reacted.key).await {
            Some(seq) => self.react(seq, reacted.reactions, &reacted.at).await,
            None => {
                let told = "reactions to a message that is not in this import; left out";
                self.into.book.left_out(&reacted.at, told.to_owned());
            }
        }
    }

    async fn react(&mut self, seq: u64, reactions: Vec<(String, String)>, at: &At) {
        for (user, kind) in reactions {
            let (into, name, at) = (self.into, self.name.clone(), at.clone());
            let id = request("react", seq, &[user.as_bytes(), kind.as_bytes()]);
            self.push(Box::pin(async move {
                let reaction = (user.as_str(), kind.as_str(), false);
                let done = into.client.react(name.as_str(), seq, reaction, &id).await;
                into.done(done, &at, |report| report.reactions += 1);
            }))
            .await;
        }
    }
}

impl<'i> Room<'i> {
    async fn push(&mut self, change: BoxFuture<'i, ()>) {
        while self.changes.len() >= CHANGES_MAX {
            self.changes.next().await;
        }
        self.changes.push(change);
    }
}

impl Inlet {
    fn done<T>(
        &self,
        done: Result<T, Error>,
        at: &At,
        count: impl FnOnce(&mut super::report::Report),
    ) {
        match done {
            Ok(_) => self.book.note(count),
            // It was erased here since an import before.
            Err(error) if error.reason() == Some("MESSAGE_REDACTED") => {}
            Err(error) => self.book.failed(at, explain(&error)),
        }
    }
}

/// The id of a request, the same for the same.
fn request(what: &str, seq: u64, parts: &[&[u8]]) -> String {
    let seq = seq.to_le_bytes();
    let all: Vec<&[u8]> = std::iter::once(&seq[..])
        .chain(parts.iter().copied())
        .collect();
    id_of(what, &all)
}

/// Whether a conversation was not created because it was before.
fn is_there(error: &Error) -> bool {
    // The second: an import created it with other settings.
    matches!(
        error.reason(),
        Some("ALREADY_EXISTS" | "CLIENT_MESSAGE_ID_REUSED" | "REQUEST_ID_REUSED")
    )
}

fn explain(error: &Error) -> String {
    match error.reason() {
        Some("CLIENT_MESSAGE_ID_REUSED") => format!(
            "was imported before and said something else then; what is there stays ({error})"
        ),
        _ => error.to_string(),
    }
}
