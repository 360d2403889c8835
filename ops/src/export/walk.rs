//! Going through the conversations of a tenant, in the order of its list.

use std::sync::Arc;

use anyhow::Context as _;
use client::{Level, v1};
use model::id::ConversationName;
use tokio::sync::mpsc;

use super::fetch::{CHUNKS_MAX, Chunk, Fetch, Head, Stop, UNIT_SEQS, Unit, again};
use super::line;
use super::position::{Last, Position, Selection};

/// Units that are fetched at once; each holds a page of up to 2 MiB and [`CHUNKS_MAX`] chunks.
const AHEAD_MAX: usize = 8;
/// Conversations of a page of the list.
const LIST_PAGE: u32 = 200;

/// A unit, and its lines as they come.
pub type Coming = (Unit, mpsc::Receiver<Result<Chunk, Stop>>);

/// Walks from a position on.
pub struct Walk {
    /// How units are fetched.
    pub fetch: Fetch,
    /// Whose conversations.
    pub tenant: String,
    out: mpsc::Sender<Coming>,
}

/// The writer has stopped.
struct Stopped;

impl Walk {
    /// A walk, and what comes of it.
    pub fn new(fetch: Fetch, tenant: &str) -> (Walk, mpsc::Receiver<Coming>) {
        let (out, coming) = mpsc::channel(AHEAD_MAX);
        let walk = Walk {
            fetch,
            tenant: tenant.to_owned(),
            out,
        };
        (walk, coming)
    }

    /// Gives all units behind a position.
    ///
    /// # Errors
    /// When the cluster cannot be asked; or there is no such conversation.
    pub async fn run(self, from: Position) -> anyhow::Result<()> {
        match &from.selection {
            Selection::Conversation(id) => self.one(&from, id).await,
            Selection::Tenant | Selection::User(_) => self.all(&from).await,
        }
    }

    async fn one(&self, from: &Position, id: &str) -> anyhow::Result<()> {
        if let Some(last) = &from.last {
            let _ = self.rest(last, &from.page_token).await;
            return Ok(());
        }
        let name = ConversationName::new(&self.tenant, id)?;
        let client = &self.fetch.client;
        let found = again(|| client.get_conversation(name.as_str(), &Level::Linearizable)).await;
        let head = match found {
            Err(error) if error.is_not_found() => anyhow::bail!(
                "there is no conversation {id:?} in tenant {:?}",
                self.tenant
            ),
            found => found.context("the conversation cannot be read")?,
        };
        let _ = self.begun(&head, id, &Arc::from("")).await;
        Ok(())
    }

    async fn all(&self, from: &Position) -> anyhow::Result<()> {
        let behind = from.last.as_ref().map(|last| last.key(&self.tenant));
        if let Some(last) = &from.last
            && self.rest(last, &from.page_token).await.is_err()
        {
            return Ok(());
        }
        let client = &self.fetch.client;
        let mut token: Arc<str> = Arc::from(from.page_token.as_str());
        loop {
            let level = &Level::Linearizable;
            let listed =
                again(|| client.list_conversations(&self.tenant, LIST_PAGE, &token, level)).await;
            let (heads, next) = listed.context("the tenant's conversations cannot be listed")?;
            for head in &heads {
                let name = ConversationName::parse(&head.name)?;
                if behind.is_some_and(|behind| name.key() <= behind) {
                    continue;
                }
                let id = name.conversation();
                if self.begun(head, id, &token).await.is_err() {
                    return Ok(());
                }
            }
            if next.is_empty() {
                return Ok(());
            }
            token = Arc::from(next);
        }
    }

    /// The units of a conversation from its beginning.
    async fn begun(
        &self,
        head: &v1::Conversation,
        id: &str,
        page_token: &Arc<str>,
    ) -> Result<(), Stopped> {
        let mut begin = Vec::new();
        // Memory takes every line.
        let _ = line::begin(&mut begin, head, id);
        let begin = String::from_utf8(begin).unwrap_or_default();
        let whole = Head {
            id: id.to_owned(),
            name: head.name.clone(),
            incarnation: head.incarnation,
            last_seq: head.last_seq,
            begin: Some(begin),
            page_token: Arc::clone(page_token),
        };
        self.units(Arc::new(whole), head.min_seq.max(1)).await
    }

    /// What is left of a conversation.
    async fn rest(&self, last: &Last, page_token: &str) -> Result<(), Stopped> {
        if last.is_whole() {
            return Ok(());
        }
        let head = Head {
            id: last.conversation.clone(),
            name: format!(
                "tenants/{}/conversations/{}",
                self.tenant, last.conversation
            ),
            incarnation: last.incarnation,
            last_seq: last.last_seq,
            begin: last.begin.clone(),
            page_token: Arc::from(page_token),
        };
        self.units(Arc::new(head), last.next_seq).await
    }

    async fn units(&self, head: Arc<Head>, mut first: u64) -> Result<(), Stopped> {
        loop {
            // Units end at multiples, wherever an export was interrupted.
            let last = head.last_seq.min(first.div_ceil(UNIT_SEQS) * UNIT_SEQS);
            let unit = Unit {
                head: Arc::clone(&head),
                first,
                last,
            };
            let (chunks, coming) = mpsc::channel(CHUNKS_MAX);
            let sent = self.out.send((unit.clone(), coming)).await;
            sent.map_err(|_| Stopped)?;
            tokio::spawn(self.fetch.clone().unit(unit, chunks));
            first = last.max(first) + 1;
            if first > head.last_seq {
                return Ok(());
            }
        }
    }
}
