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
/// Bytes of one request: a node takes 64 KiB.
const REQUEST_BYTES_MAX: usize = 48 * 1024;
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
    /// Behind all that was given.
    cursor: String,
    /// Behind all that came; some of it may not have been given yet.
    reached: String,
    /// Each conversation, and the next message to come where the cursor does not say it: of those that were
    /// added since.
    rooms: BTreeMap<String, Room>,
    requests: Vec<v1::FollowRequest>,
    live: Option<Live>,
    /// What came, each with the cursor behind it, if there is one.
    ready: VecDeque<(Followed, Option<String>)>,
    /// More was added while this stream ran: when it says that it has caught up, that may be without it.
    added: bool,
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
    /// Something of it came over this stream: the cursors from then on are behind its beginning.
    came: bool,
    /// There is a cursor that says where it is.
    covered: bool,
}

impl Client {
    /// Follows what is then added. `cursor` resumes where another follow was, of the same conversations; empty begins
    /// anew. Until the first node answers, the client's deadline holds; after that it reconnects for as long as it
    /// takes.
    pub fn follow(&self, cursor: &str) -> Follow {
        Follow {
            client: self.clone(),
            cursor: cursor.to_owned(),
            reached: cursor.to_owned(),
            rooms: BTreeMap::new(),
            requests: Vec::new(),
            live: None,
            ready: VecDeque::new(),
            added: false,
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
            let room = Room {
                start,
                // A cursor that was given is one of the same conversations.
                covered: self.live.is_none() && !self.reached.is_empty(),
                ..Room::default()
            };
            self.rooms.insert(parent.clone(), room);
            added.push(v1::FollowAdd {
                parent,
                start_seq: start,
            });
        }
        // A stream that begins sends all that there are.
        if self.live.is_some() && !added.is_empty() {
            self.added = true;
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
            let all = parts(parents, String::len);
            self.requests
                .extend(all.into_iter().map(|remove| v1::FollowRequest {
                    remove,
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
            if let Some((event, behind)) = self.ready.pop_front() {
                if let Some(cursor) = behind {
                    self.cursor = cursor;
                }
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
            self.ready.extend(event.map(|event| (event, None)));
        }
        if answer.caught_up {
            self.ready.push_back((Followed::CaughtUp, None));
        }
        if !answer.cursor.is_empty() {
            self.reached = answer.cursor;
            let whole = answer.caught_up && !self.added;
            for room in self.rooms.values_mut() {
                // Everything that came is behind it. Of what was added a moment ago it may know nothing.
                if whole || room.came {
                    room.start = 0;
                    room.covered = true;
                }
            }
            match self.ready.back_mut() {
                Some((_, behind)) => *behind = Some(self.reached.clone()),
                None => self.cursor.clone_from(&self.reached),
            }
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
                let room = self.came(parent)?;
                if message.seq < room.next {
                    return None;
                }
                room.next = message.seq + 1;
                // Without a cursor that knows of it, where it is is known by this alone.
                if room.start > 0 || !room.covered {
                    room.start = room.next;
                }
                Followed::Message(message)
            }
            Wire::Changed(message) => {
                self.came(message.name.split("/messages/").next().unwrap_or_default())?;
                Followed::Changed(message)
            }
            Wire::Settings(conversation) => {
                self.came(&conversation.name)?;
                Followed::Settings(conversation)
            }
            Wire::Deleted(parent) => {
                let room = self.came(&parent)?;
                // Its next life is behind the cursor, where there is one that knows of it.
                *room = Room {
                    next: 0,
                    start: u64::from(room.start > 0 || !room.covered),
                    came: true,
                    covered: room.covered,
                };
                Followed::Deleted(parent)
            }
            Wire::Trimmed(gap) => {
                self.came(&gap.parent)?;
                Followed::Trimmed {
                    parent: gap.parent,
                    min_seq: gap.min_seq,
                }
            }
        })
    }

    /// A conversation of which something came; none where it was removed.
    fn came(&mut self, parent: &str) -> Option<&mut Room> {
        let room = self.rooms.get_mut(parent)?;
        room.came = true;
        Some(room)
    }

    async fn connect(&mut self) -> Result<(), Error> {
        self.reconnect.begin();
        let lease = self.reconnect.choose(&self.client);
        let patience = self.client.inner.attempt_timeout;
        for room in self.rooms.values_mut() {
            room.came = false;
        }
        self.added = false;
        let all = self.rooms.iter().map(|(parent, room)| v1::FollowAdd {
            parent: parent.clone(),
            start_seq: room.start,
        });
        let mut requests = adding(all.collect());
        if let Some(first) = requests.first_mut() {
            first.cursor.clone_from(&self.reached);
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
    let parts = parts(all, prost::Message::encoded_len).into_iter();
    let mut requests: Vec<v1::FollowRequest> = parts
        .map(|add| v1::FollowRequest {
            add,
            more: true,
            ..v1::FollowRequest::default()
        })
        .collect();
    if let Some(last) = requests.last_mut() {
        last.more = false;
    }
    requests
}

/// In parts that a request takes, one at least.
fn parts<T>(all: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts = vec![Vec::new()];
    let mut room = REQUEST_BYTES_MAX;
    for one in all {
        // Its tag and its length are beside it.
        let needs = bytes(&one) + 8;
        let full = parts
            .last()
            .is_some_and(|part: &Vec<T>| part.len() >= REQUEST_MAX);
        if full || needs > room {
            parts.push(Vec::new());
            room = REQUEST_BYTES_MAX;
        }
        room = room.saturating_sub(needs);
        if let Some(part) = parts.last_mut() {
            part.push(one);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_large_as_a_node_takes_and_name_all() {
        let add = |number: usize, length: usize| v1::FollowAdd {
            parent: format!("{number:0length$}"),
            start_seq: u64::MAX,
        };
        for (count, length) in [(0, 9), (1, 9), (1_000, 9), (1_001, 9), (3_000, 250)] {
            let requests = adding((0..count).map(|number| add(number, length)).collect());
            let named: Vec<_> = requests.iter().flat_map(|request| &request.add).collect();
            assert_eq!(named.len(), count);
            assert!(named.is_sorted_by(|a, b| a.parent < b.parent));
            for request in &requests {
                assert!(request.add.len() <= REQUEST_MAX);
                assert!(prost::Message::encoded_len(request) < 64 * 1024);
            }
            let more: Vec<bool> = requests.iter().map(|request| request.more).collect();
            assert_eq!(more.iter().filter(|more| !**more).count(), 1);
            assert_eq!(more.last(), Some(&false));
        }
    }
}
