//! Fetching a unit: its messages, then the reactions to them, as chunks of lines.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::{Client, Error, Level, ListOptions, v1};
use tokio::sync::mpsc;

use super::{Counts, line};

/// Messages of a unit, most. A change of it changes where reactions stand and parts end.
pub const UNIT_SEQS: u64 = 1_000;
/// Chunks that may wait to be written.
pub const CHUNKS_MAX: usize = 2;
/// Times that a call is made again which ran into its deadline, each with all attempts of the client.
const TRIES_MAX: u32 = 5;

/// A conversation as it was when its export began.
#[derive(Debug)]
pub struct Head {
    /// Its id.
    pub id: String,
    /// Its whole name.
    pub name: String,
    /// Which life of it.
    pub incarnation: u64,
    /// Where it ends.
    pub last_seq: u64,
    /// Its first line; none when that is written.
    pub begin: Option<String>,
    /// The page of the list where it stands.
    pub page_token: Arc<str>,
}

/// A thousand seqs of one conversation.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Whose.
    pub head: Arc<Head>,
    /// The first.
    pub first: u64,
    /// The last; less than the first when the conversation is empty.
    pub last: u64,
}

/// Some lines of a unit.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The lines.
    pub lines: Vec<u8>,
    /// What is in them.
    pub counts: Counts,
}

/// Why a unit ends before its end.
#[derive(Debug)]
pub enum Stop {
    /// The conversation was deleted meanwhile.
    Gone,
    /// It could not be read.
    Failed(Error),
}

/// Which messages are wanted.
#[derive(Clone)]
pub struct Fetch {
    /// Who is asked.
    pub client: Client,
    /// Only what this user sent.
    pub sender: Option<Arc<str>>,
}

impl Fetch {
    /// Sends all of a unit to `out`, or why that ends early.
    pub async fn unit(self, unit: Unit, out: mpsc::Sender<Result<Chunk, Stop>>) {
        if let Err(stop) = self.send(&unit, &out).await {
            let stop = match stop {
                Error::Refused(ref refusal)
                    if stop.is_not_found() || refusal.reason == "OTHER_INCARNATION" =>
                {
                    Stop::Gone
                }
                stop => Stop::Failed(stop),
            };
            // A writer that is gone has failed itself.
            let _ = out.send(Err(stop)).await;
        }
    }

    async fn send(
        &self,
        unit: &Unit,
        out: &mpsc::Sender<Result<Chunk, Stop>>,
    ) -> Result<(), Error> {
        let (mut next, mut reacted) = (unit.first, false);
        // With one sender's messages go the reactions to these alone.
        let mut own = self.sender.as_ref().map(|_| BTreeSet::new());
        while next <= unit.last {
            let page = self.page(unit, next).await?;
            let Some(last) = page.last() else { break };
            next = last.seq + 1;
            let page = self.wanted(page, unit.last);
            let with = with_reactions(&page);
            reacted |= !with.is_empty();
            if let Some(own) = &mut own {
                own.extend(with);
            }
            let chunk = Fetch::chunk(&unit.head.id, &page);
            if out.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        if reacted {
            self.reactions(unit, own.as_ref(), out).await?;
        }
        Ok(())
    }

    fn chunk(id: &str, page: &[v1::Message]) -> Chunk {
        let mut chunk = Chunk {
            lines: Vec::with_capacity(page.len() * 256),
            counts: Counts::default(),
        };
        for message in page {
            chunk.counts.messages += 1;
            chunk.counts.redacted += u64::from(message.redaction.is_some());
            chunk.counts.edited += u64::from(message.edit_time.is_some());
            // Memory takes every line.
            let _ = line::message(&mut chunk.lines, id, message);
        }
        chunk
    }

    /// Of a page what is of this unit and of the sender who is asked for.
    fn wanted(&self, page: Vec<v1::Message>, last: u64) -> Vec<v1::Message> {
        let of_sender = |one: &v1::Message| match &self.sender {
            Some(sender) => one.sender == **sender,
            None => true,
        };
        let mut page = page;
        page.retain(|one| one.seq <= last && of_sender(one));
        page
    }

    async fn page(&self, unit: &Unit, start_seq: u64) -> Result<Vec<v1::Message>, Error> {
        let left = unit.last - start_seq + 1;
        let options = ListOptions {
            page_size: u32::try_from(left.min(UNIT_SEQS)).unwrap_or(u32::MAX),
            start_seq,
            level: Level::Linearizable,
            incarnation: unit.head.incarnation,
            ..ListOptions::default()
        };
        let listed = again(|| self.client.list(&unit.head.name, &options)).await;
        match listed {
            // What has expired meanwhile is not exported.
            Err(error) if error.reason() == Some("CURSOR_TRIMMED") => {
                let head = self
                    .client
                    .get_conversation(&unit.head.name, &Level::Linearizable);
                let start_seq = head.await?.min_seq.max(start_seq + 1);
                if start_seq > unit.last {
                    return Ok(Vec::new());
                }
                let options = ListOptions {
                    start_seq,
                    ..options
                };
                Ok(self.client.list(&unit.head.name, &options).await?.messages)
            }
            listed => Ok(listed?.messages),
        }
    }

    async fn reactions(
        &self,
        unit: &Unit,
        own: Option<&BTreeSet<u64>>,
        out: &mpsc::Sender<Result<Chunk, Stop>>,
    ) -> Result<(), Error> {
        let (name, seqs) = (&unit.head.name, (unit.first, unit.last));
        let mut token = String::new();
        // A page may end among the reactions to one message: lines are cut where the data says.
        let mut kept: Vec<v1::Reaction> = Vec::new();
        loop {
            let level = &Level::Linearizable;
            let (page, next) =
                again(|| self.client.list_reactions(name, seqs, &token, level)).await?;
            kept.extend(page);
            let whole = next.is_empty();
            let cut = match whole {
                true => kept.len(),
                false => line::whole_lines(&kept),
            };
            let rest = kept.split_off(cut);
            let some = std::mem::replace(&mut kept, rest);
            let chunk = Fetch::reacted(unit, some, own);
            if out.send(Ok(chunk)).await.is_err() || whole {
                return Ok(());
            }
            token = next;
        }
    }

    /// The lines of some reactions; of those that are wanted.
    fn reacted(unit: &Unit, mut some: Vec<v1::Reaction>, own: Option<&BTreeSet<u64>>) -> Chunk {
        if let Some(own) = own {
            some.retain(|one| own.contains(&one.seq));
        }
        let mut chunk = Chunk::default();
        chunk.counts.reactions = some.len() as u64;
        // Memory takes every line.
        let _ = line::reactions(&mut chunk.lines, &unit.head.id, &some);
        chunk
    }
}

/// The seqs of the messages that somebody reacted to.
fn with_reactions(page: &[v1::Message]) -> Vec<u64> {
    let with = page.iter().filter(|one| !one.reactions.is_empty());
    with.map(|one| one.seq).collect()
}

/// Makes a call again that ran into its deadline: an export outlives a failover.
pub async fn again<T, F: Future<Output = Result<T, Error>>>(
    call: impl Fn() -> F,
) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match call().await {
            Err(error) if error.retryable() && tries < TRIES_MAX => {
                tracing::warn!(%error, tries, "a read is made again");
                tries += 1;
            }
            done => return done,
        }
    }
}
