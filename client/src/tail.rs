//! Following a conversation: every message once and in order, over any number of broken streams.
//!
//! A tail remembers the cursor of the last event and the next seq. Whatever breaks, it goes on from
//! there on another node; what it has given is skipped, and a message that is left out is asked for
//! again and never passed over.

use std::collections::VecDeque;
use std::time::Duration;

use futures::Stream;
use model::mutant;
use proto::v1;
use tokio::time::{sleep, timeout};
use tonic::{Request, Streaming};

use crate::append::messages;
use crate::builder::Client;
use crate::error::{Error, Failure, Fault, Refusal};
use crate::nodes::{Following, Lease};
use crate::options::{TAIL_BACKOFF_MAX, TAIL_GAPS_MAX};
use crate::read::Level;
use crate::reconnect::Reconnect;
use crate::retry::named;

/// Where a tail begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// With what is appended from now on.
    New,
    /// With this seq; 1 is the first.
    Seq(u64),
    /// After the event that this cursor came with.
    Cursor(String),
}

/// What a tail gives.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly every event is a message")]
pub enum Event {
    /// The next message.
    Message(v1::Message),
    /// A message that came before was edited, erased or reacted to; this is how it is now. After a break
    /// a change may come twice.
    Changed(v1::Message),
    /// Everything up to this seq has been given; what follows is new.
    CaughtUp {
        /// The conversation's last seq.
        last_seq: u64,
    },
}

/// A conversation being followed. Nothing happens until it is asked for the next event.
pub struct Tail {
    client: Client,
    parent: String,
    from: From,
    cursor: String,
    /// The seq to come; None until a first message said.
    next_seq: Option<u64>,
    live: Option<Live>,
    ready: VecDeque<Event>,
    reconnect: Reconnect,
    gaps: u32,
    caught_up: Option<u64>,
    over: bool,
}

struct Live {
    lease: Lease,
    following: Following,
    events: Streaming<v1::TailResponse>,
}

impl Client {
    /// Follows `parent`. Until the first node answers, the client's deadline holds; after that the
    /// tail reconnects for as long as it takes.
    pub fn tail(&self, parent: &str, from: From) -> Tail {
        let (cursor, next_seq) = match &from {
            From::New => (String::new(), None),
            From::Seq(seq) => (String::new(), Some((*seq).max(1))),
            From::Cursor(cursor) => (cursor.clone(), None),
        };
        Tail {
            client: self.clone(),
            parent: parent.to_owned(),
            from,
            cursor,
            next_seq,
            live: None,
            ready: VecDeque::new(),
            reconnect: Reconnect::default(),
            gaps: 0,
            caught_up: None,
            over: false,
        }
    }
}

impl Tail {
    /// The next event. May be dropped and called again without losing one, as in a `select!`.
    ///
    /// # Errors
    /// [`Error::Refused`] when following is refused for good (NOT_FOUND), [`Error::Deadline`] when
    /// no node was ever reached, [`Error::Gap`] when several nodes left the same message out.
    /// After an error the tail is over.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.step().await {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    /// Resumes after the last event given, on any node, in any process; empty before the first.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The seq of the next message; None while it is not known.
    pub fn next_seq(&self) -> Option<u64> {
        self.next_seq
    }

    /// The events as a stream, which ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Error>> + Send {
        futures::stream::unfold(self, |mut tail| async move {
            let event = tail.next().await?;
            Some((event, tail))
        })
    }

    /// Connects, or takes in one response.
    async fn step(&mut self) -> Result<(), Error> {
        let Some(live) = &mut self.live else {
            return self.connect().await;
        };
        let came = tokio::select! {
            biased;
            came = live.events.message() => came,
            () = live.following.silent() => {
                self.leave(Fault::Node);
                return Ok(());
            }
        };
        match came {
            Ok(Some(response)) => {
                live.lease.succeeded(None);
                self.take(response).await
            }
            Ok(None) => {
                self.leave(Fault::Refused);
                Ok(())
            }
            Err(status) => self.failed(&Failure::from_status(&status)),
        }
    }

    async fn take(&mut self, response: v1::TailResponse) -> Result<(), Error> {
        use v1::tail_response::Event as Wire;
        match response.event {
            Some(Wire::Message(message)) => {
                if let Some(next) = self.next_seq {
                    if message.seq < next {
                        return Ok(());
                    }
                    if message.seq > next {
                        return self.gap(next, message.seq);
                    }
                }
                self.gaps = 0;
                self.next_seq = Some(message.seq + 1);
                self.ready.push_back(Event::Message(message));
            }
            Some(Wire::Changed(message)) => self.ready.push_back(Event::Changed(message)),
            Some(Wire::CaughtUp(at)) => {
                // A node that lags behind what this tail has seen has nothing to say about it.
                if self.next_seq.is_some_and(|next| at.last_seq + 1 < next) {
                    return Ok(());
                }
                if let Some(next) = self.next_seq
                    && at.last_seq >= next
                {
                    return self.gap(next, at.last_seq);
                }
                self.next_seq = Some(at.last_seq + 1);
                // Each new stream says it again; the caller hears it when it is news.
                if self.caught_up.replace(at.last_seq) != Some(at.last_seq) {
                    self.ready.push_back(Event::CaughtUp {
                        last_seq: at.last_seq,
                    });
                }
            }
            Some(Wire::Reconnect(hint)) => {
                self.leave(Fault::None);
                sleep(Duration::from_millis(u64::from(hint.after_ms)).min(TAIL_BACKOFF_MAX)).await;
            }
            None => {}
        }
        if !response.cursor.is_empty() {
            self.cursor = response.cursor;
        }
        Ok(())
    }

    fn gap(&mut self, expected: u64, found: u64) -> Result<(), Error> {
        self.gaps += 1;
        if self.gaps > TAIL_GAPS_MAX {
            return Err(Error::Gap { expected, found });
        }
        tracing::warn!(
            parent = self.parent,
            expected,
            found,
            "a tail left a message out"
        );
        // The cursor may be what is wrong: go on by number.
        self.cursor.clear();
        self.leave(Fault::None);
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Error> {
        self.reconnect.begin();
        if self.from == From::New && self.next_seq.is_none() && self.cursor.is_empty() {
            // "New" is fixed once, so that nothing is missed when the first stream breaks.
            let conversation = self
                .client
                .get_conversation(&self.parent, &Level::Linearizable)
                .await?;
            self.next_seq = Some(conversation.last_seq + 1);
        }
        let lease = self.reconnect.choose(&self.client);
        let patience = self.client.inner.attempt_timeout;
        let request = v1::TailRequest {
            parent: self.parent.clone(),
            cursor: self.cursor.clone(),
            start_seq: self.next_seq.unwrap_or(0),
            start_revision: 0,
        };
        let mut service = messages(lease.channel.clone());
        let failure = match timeout(patience, service.tail(named(Request::new(request)))).await {
            Ok(Ok(response)) => {
                self.reconnect.connected(&self.client);
                self.live = Some(Live {
                    following: Following::at(&lease),
                    lease,
                    events: response.into_inner(),
                });
                return Ok(());
            }
            Ok(Err(status)) => Failure::from_status(&status),
            Err(_) => Failure::silent(patience),
        };
        self.reconnect.failed(&self.client, lease, failure).await
    }

    fn failed(&mut self, failure: &Failure) -> Result<(), Error> {
        if !failure.refusal.retryable() {
            let refusal: Refusal = failure.refusal.clone();
            return Err(Error::Refused(refusal));
        }
        tracing::debug!(parent = self.parent, why = %failure.refusal, "a tail broke");
        self.leave(failure.fault);
        Ok(())
    }

    /// Leaves the node; the next step goes to another.
    fn leave(&mut self, fault: Fault) {
        let lease = self.live.take().map(|live| live.lease);
        self.reconnect.left(lease, fault);
        if mutant!("tail-resumes-off-by-one") {
            self.cursor.clear();
            self.next_seq = self.next_seq.map(|next| next.saturating_sub(1).max(1));
        }
    }
}
