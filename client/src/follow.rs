//! Following many conversations over one stream that resumes anywhere.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::v1;
use proto::v1::follow_event::Event as Wire;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::append::messages;
use crate::builder::Client;
use crate::error::{Error, Failure, Fault, Refusal};
use crate::nodes::{Following, Lease};
use crate::options::TAIL_BACKOFF_MAX;
use crate::reconnect::Reconnect;
use crate::retry::named;

/// Conversations of one request.
const REQUEST_MAX: usize = 1_000;
/// Requests that wait to be sent.
const REQUESTS_MAX: usize = 16;

/// What happened in one of the conversations that are followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// A message, once, in the order of its conversation's seqs.
    Message(v1::Message),
    /// A message that came before was edited, erased, reacted to, or has expired; this is how it is now. After a
    /// break a change may come twice.
    Changed(v1::Message),
    /// A conversation's attributes or rules were set.
    Settings(v1::Conversation),
    /// A conversation was deleted; its next life comes from seq 1.
    Deleted(String),
    /// Messages of `parent` before `min_seq` have expired before they came.
    Trimmed {
        /// The conversation.
        parent: String,
        /// The first message that there still is.
        min_seq: u64,
    },
    /// Everything that was asked for and is there has come.
    CaughtUp,
}

/// Many conversations being followed. Nothing happens until it is asked for the next event.
pub struct Follow {
    client: Client,
    cursor: String,
    /// Each conversation, and the next message to come where the cursor does not say it: of those that were
    /// added since.
    rooms: BTreeMap<String, Room>,
    requests: Vec<v1::FollowRequest>,
    live: Option<Live>,
    ready: VecDeque<Followed>,
    reconnect: Reconnect,
    over: bool,
}

struct Live {
    lease: Lease,
    following: Following,
    answers: Streaming<v1::FollowResponse>,
    requests: mpsc::Sender<v1::FollowRequest>,
}

#[derive(Clone, Copy, Default)]
struct Room {
    /// The next message; 0 while none came.
    next: u64,
    /// Where it is to begin; 0 = as the cursor says.
    start: u64,
}

impl Client {
    /// Follows what is then added. `cursor` resumes where another follow was, of the same conversations; empty begins
    /// anew. Until the first node answers, the client's deadline holds; after that it reconnects for as long as it
    /// takes.
    pub fn follow(&self, cursor: &str) -> Follow {
        Follow {
            client: self.clone(),
            cursor: cursor.to_owned(),
            rooms: BTreeMap::new(),
            requests: Vec::new(),
            live: None,
            ready: VecDeque::new(),
            reconnect: Reconnect::default(),
            over: false,
        }
    }
}

impl Follow {
    /// Follows these conversations too, `tenants/{t}/conversations/{c}`: behind the cursor, or what is new of them
    /// where that says nothing.
    pub fn add<T: Into<String>>(&mut self, parents: impl IntoIterator<Item = T>) {
        self.add_from(parents.into_iter().map(|parent| (parent, 0)));
    }

    /// The same, each from this seq on; 0 as [`Follow::add`].
    pub fn add_from<T: Into<String>>(&mut self, parents: impl IntoIterator<Item = (T, u64)>) {
        let mut added = Vec::new();
        for (parent, start) in parents {
            let parent = parent.into();
            self.rooms.insert(parent.clone(), Room { next: 0, start });
            added.push(v1::FollowAdd {
                parent,
                start_seq: start,
            });
        }
        // A stream that begins sends all that there are.
        if self.live.is_some() {
            self.requests.extend(adding(added));
        }
    }

    /// Follows these no more. What is on its way of them may still come.
    pub fn remove<T: Into<String>>(&mut self, parents: impl IntoIterator<Item = T>) {
        let parents: Vec<String> = parents.into_iter().map(Into::into).collect();
        for parent in &parents {
            self.rooms.remove(parent);
        }
        if self.live.is_some() {
            let all = parents.chunks(REQUEST_MAX);
            self.requests.extend(all.map(|remove| v1::FollowRequest {
                remove: remove.to_vec(),
                ..v1::FollowRequest::default()
            }));
        }
    }

    /// Conversations that are followed.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Resumes behind all that was given, on any node, in any process: [`Client::follow`] with it, and
    /// [`Follow::add`] of the same conversations. Empty until all has come that there was.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The next event. May be dropped and called again without losing one, as in a `select!`.
    ///
    /// # Errors
    /// [`Error::Refused`] when something that was added is refused for good, [`Error::Deadline`] when no node was
    /// ever reached. After an error it is over.
    pub async fn next(&mut self) -> Option<Result<Followed, Error>> {
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

    async fn step(&mut self) -> Result<(), Error> {
        let Some(live) = &mut self.live else {
            return self.connect().await;
        };
        if !self.requests.is_empty() {
            let permit = live.requests.reserve().await;
            match permit {
                Ok(permit) => permit.send(self.requests.remove(0)),
                // The stream is over, and says why.
                Err(_) => self.requests.clear(),
            }
            return Ok(());
        }
        let came = tokio::select! {
            biased;
            came = live.answers.message() => came,
            () = live.following.silent() => {
                self.leave(Fault::Node);
                return Ok(());
            }
        };
        match came {
            Ok(Some(answer)) => {
                live.lease.succeeded(None);
                self.take(answer).await;
                Ok(())
            }
            Ok(None) => {
                self.leave(Fault::Refused);
                Ok(())
            }
            Err(status) => {
                let failure = Failure::from_status(&status);
                if !failure.refusal.retryable() {
                    let refusal: Refusal = failure.refusal;
                    return Err(Error::Refused(refusal));
                }
                self.leave(failure.fault);
                Ok(())
            }
        }
    }

    async fn take(&mut self, answer: v1::FollowResponse) {
        for event in answer.events {
            let event = event.event.and_then(|event| self.event(event));
            self.ready.extend(event);
        }
        if !answer.cursor.is_empty() {
            self.cursor = answer.cursor;
            // Everything that came is behind it.
            for room in self.rooms.values_mut() {
                room.start = 0;
            }
        }
        if answer.caught_up {
            self.ready.push_back(Followed::CaughtUp);
        }
        if let Some(hint) = answer.reconnect {
            self.leave(Fault::None);
            let wait = Duration::from_millis(u64::from(hint.after_ms));
            sleep(wait.min(TAIL_BACKOFF_MAX)).await;
        }
    }

    /// What an event is to the caller; none where it came before.
    fn event(&mut self, event: Wire) -> Option<Followed> {
        Some(match event {
            Wire::Message(message) => {
                let parent = message.name.split("/messages/").next().unwrap_or_default();
                let room = self.rooms.get_mut(parent)?;
                if message.seq < room.next {
                    return None;
                }
                room.next = message.seq + 1;
                if room.start > 0 {
                    room.start = room.next;
                }
                Followed::Message(message)
            }
            Wire::Changed(message) => Followed::Changed(message),
            Wire::Settings(conversation) => Followed::Settings(conversation),
            Wire::Deleted(parent) => {
                if let Some(room) = self.rooms.get_mut(&parent) {
                    *room = Room::default();
                }
                Followed::Deleted(parent)
            }
            Wire::Trimmed(gap) => Followed::Trimmed {
                parent: gap.parent,
                min_seq: gap.min_seq,
            },
        })
    }

    async fn connect(&mut self) -> Result<(), Error> {
        self.reconnect.begin();
        let lease = self.reconnect.choose(&self.client);
        let patience = self.client.inner.attempt_timeout;
        let all = self.rooms.iter().map(|(parent, room)| v1::FollowAdd {
            parent: parent.clone(),
            start_seq: room.start,
        });
        let mut requests = adding(all.collect());
        if let Some(first) = requests.first_mut() {
            first.cursor.clone_from(&self.cursor);
        }
        let (sender, waiting) = mpsc::channel(REQUESTS_MAX.max(requests.len()));
        for request in requests {
            // There is room for all.
            let _ = sender.try_send(request);
        }
        self.requests.clear();
        let mut service = messages(lease.channel.clone());
        let opened = timeout(
            patience,
            service.follow(named(Request::new(ReceiverStream::new(waiting)))),
        );
        let failure = match opened.await {
            Ok(Ok(response)) => {
                self.reconnect.connected(&self.client);
                self.live = Some(Live {
                    following: Following::at(&lease),
                    lease,
                    answers: response.into_inner(),
                    requests: sender,
                });
                return Ok(());
            }
            Ok(Err(status)) => Failure::from_status(&status),
            Err(_) => Failure::silent(patience),
        };
        self.reconnect.failed(&self.client, lease, failure).await
    }

    /// Leaves the node; the next step goes to another.
    fn leave(&mut self, fault: Fault) {
        let lease = self.live.take().map(|live| live.lease);
        self.reconnect.left(lease, fault);
    }
}

/// The requests that add conversations.
fn adding(all: Vec<v1::FollowAdd>) -> Vec<v1::FollowRequest> {
    let mut requests: Vec<v1::FollowRequest> = all
        .chunks(REQUEST_MAX)
        .map(|add| v1::FollowRequest {
            add: add.to_vec(),
            more: true,
            ..v1::FollowRequest::default()
        })
        .collect();
    if requests.is_empty() {
        requests.push(v1::FollowRequest::default());
    }
    if let Some(last) = requests.last_mut() {
        last.more = false;
    }
    requests
}
