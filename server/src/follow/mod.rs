//! Following many conversations over one stream.
//!
//! ```text
//!   add, remove ─► Follow ─► shards with a replica here: the hub rings, pages are read
//!                      │  ─► others: one such stream to the nearest node that has them
//!                      └──► events, and one cursor: a revision for each shard
//! ```
//!
//! A conversation costs something when it changes, and memory for its place. What is delivered of each is a
//! dense run, as of a tail. A slow reader is waited for: what changes meanwhile is one mark a conversation.

pub mod cursor;
mod hub;
mod remote;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use model::id::{ConversationKey, ConversationName, NodeId, ShardId};
use model::state::Conversation;
use prost::Message as _;
use proto::net::serve::said;
use proto::v1;
use proto::v1::follow_event::Event;
use store::engine::Order;
use store::state::{Page, Wanted};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use self::cursor::Position;
use self::hub::{Bell, Post};
use self::remote::{Remote, Remotes};
use crate::check::Checker;
use crate::convert;
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::read::{nearest, no_replica};
use crate::tail::spread;

pub use self::hub::Hub;

/// Conversations of one stream.
pub const FOLLOWED_MAX: usize = 10_000;
/// Conversations that one request adds or removes.
const REQUEST_MAX: usize = 1_000;
/// Messages of a conversation that are read at once, and their bytes.
const READ_MAX: usize = 256;
const READ_BYTES_MAX: usize = 32 * 1024;
/// An answer is sent once it has so many bytes.
const ANSWER_BYTES: usize = 16 * 1024;
/// Places that are looked at between two looks at requests.
const PLACES_AT_ONCE: usize = 256;
/// Answers that wait for the caller.
const WAITING_MAX: usize = 2;
/// A cursor without events is told after so long: others' messages move it, too.
const CURSOR_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether replicas still work.
const REPLICAS_CHECK_EVERY: Duration = Duration::from_secs(5);

/// The answers of a stream.
pub type Answers = BoxStream<'static, Result<v1::FollowResponse, Status>>;
type Answer = Result<v1::FollowResponse, Status>;

/// Begins to follow what is asked for.
pub fn open<S>(gateway: Arc<Gateway>, requests: S, call: Call) -> Answers
where
    S: Stream<Item = Result<v1::FollowRequest, Status>> + Send + Unpin + 'static,
{
    let (answers, waiting) = mpsc::channel(WAITING_MAX);
    let token = gateway.calls.token();
    let (remotes, told) = Remotes::new(gateway.clone());
    let follow = Follow {
        bell: Arc::default(),
        places: Vec::new(),
        free: Vec::new(),
        by_key: BTreeMap::new(),
        shards: BTreeMap::new(),
        remotes,
        resumed: Position::default(),
        position: Position::default(),
        more: false,
        look_at: Instant::now() + REPLICAS_CHECK_EVERY,
        batch: v1::FollowResponse::default(),
        batch_bytes: 0,
        cursor_at: Instant::now(),
        moved: false,
        waits_to_catch_up: true,
        answers,
        call,
        gateway,
    };
    tokio::spawn(async move {
        let _token = token;
        follow.run(requests, told).await;
    });
    ReceiverStream::new(waiting).boxed()
}

/// A conversation that is followed in a replica of this node.
struct Followed {
    name: ConversationName,
    shard: ShardId,
    incarnation: u64,
    /// The next message to deliver.
    next: u64,
    /// Changes up to this revision were delivered.
    known: u64,
}

/// A shard whose replica here is read.
struct Local {
    post: Arc<Post>,
    slots: RangeInclusive<u16>,
    /// Conversations of it that are followed.
    count: usize,
}

struct Follow {
    gateway: Arc<Gateway>,
    call: Call,
    bell: Arc<Bell>,
    places: Vec<Option<Followed>>,
    free: Vec<u32>,
    by_key: BTreeMap<ConversationKey, u32>,
    shards: BTreeMap<ShardId, Local>,
    remotes: Remotes,
    /// The cursor that the stream began with.
    resumed: Position,
    position: Position,
    /// More is to be added before a cursor says anything.
    more: bool,
    look_at: Instant,
    batch: v1::FollowResponse,
    batch_bytes: usize,
    /// When the cursor was told last, and whether it has moved since.
    cursor_at: Instant,
    moved: bool,
    waits_to_catch_up: bool,
    answers: mpsc::Sender<Answer>,
}

/// Why a stream ends.
enum End {
    /// The caller is gone, or has ended it.
    Gone,
    /// The caller is to go on elsewhere.
    Elsewhere,
    /// What it asked for is refused.
    Refused(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Refused(failure)
    }
}

impl Follow {
    async fn run<S>(mut self, mut requests: S, mut told: mpsc::Receiver<remote::RemoteNews>)
    where
        S: Stream<Item = Result<v1::FollowRequest, Status>> + Send + Unpin,
    {
        let end = loop {
            if let Err(end) = self.step(&mut requests, &mut told).await {
                break end;
            }
        };
        // Who is gone hears nothing.
        match end {
            End::Gone => {}
            End::Refused(failure) => {
                let _ = self.answers.send(Err(failure.into())).await;
            }
            End::Elsewhere => {
                self.batch.reconnect = Some(v1::Reconnect {
                    after_ms: spread(&self.gateway),
                });
                let _ = self.flush(true).await;
            }
        }
    }

    /// Waits for what comes next, and delivers what it brings.
    async fn step<S>(
        &mut self,
        requests: &mut S,
        told: &mut mpsc::Receiver<remote::RemoteNews>,
    ) -> Result<(), End>
    where
        S: Stream<Item = Result<v1::FollowRequest, Status>> + Send + Unpin,
    {
        let mut stopping = self.gateway.stopping.clone();
        let due = self.cursor_at + CURSOR_EVERY;
        let moved = self.moved;
        tokio::select! {
            biased;
            () = said(&mut stopping) => return Err(End::Elsewhere),
            () = self.answers.closed() => return Err(End::Gone),
            request = requests.next() => match request {
                Some(Ok(request)) => self.take(request).await?,
                Some(Err(_)) | None => return Err(End::Gone),
            },
            told = told.recv() => match told {
                Some(told) => self.pass_on(told).await?,
                None => return Err(End::Gone),
            },
            () = self.bell.heard() => {}
            () = tokio::time::sleep_until(due), if moved => {}
            () = tokio::time::sleep_until(self.look_at) => self.look()?,
        }
        self.deliver().await
    }

    /// Whether all replicas that are read still work, and are still where they were.
    fn look(&mut self) -> Result<(), End> {
        self.look_at = Instant::now() + REPLICAS_CHECK_EVERY;
        for (shard, local) in &self.shards {
            let state = self.gateway.raft.state(*shard);
            if !state.is_some_and(|state| state.is(&local.post.state)) {
                return Err(End::Elsewhere);
            }
        }
        Ok(())
    }

    async fn take(&mut self, request: v1::FollowRequest) -> Result<(), End> {
        let call = self.call.clone();
        let mut check = Checker::of(&call, 0);
        if !request.cursor.is_empty() {
            match Position::decode(&request.cursor) {
                Ok(_) if !self.by_key.is_empty() || !self.remotes.is_empty() => {
                    check.add("cursor", "is for the first request of a stream");
                }
                Ok(position) => {
                    self.resumed = position.clone();
                    self.position = position;
                }
                Err(error) => check.add("cursor", error),
            }
        }
        if request.add.len() > REQUEST_MAX || request.remove.len() > REQUEST_MAX {
            let max = REQUEST_MAX;
            check.add("add", format_args!("and remove have at most {max} each"));
        }
        let mut add = Vec::with_capacity(request.add.len().min(REQUEST_MAX));
        for (at, one) in request.add.iter().enumerate().take(REQUEST_MAX) {
            let name = check.conversation(&format!("add[{at}].parent"), &one.parent);
            add.extend(name.map(|name| (name, one.start_seq)));
        }
        let mut remove = Vec::with_capacity(request.remove.len().min(REQUEST_MAX));
        for (at, one) in request.remove.iter().enumerate().take(REQUEST_MAX) {
            remove.extend(check.conversation(&format!("remove[{at}]"), one));
        }
        let followed = self.by_key.len() + self.remotes.len() + add.len();
        if followed > FOLLOWED_MAX {
            let max = FOLLOWED_MAX;
            let why =
                format!("a stream follows at most {max} conversations; this makes {followed}");
            check.add("add", why);
        }
        check.finish()?;
        for (name, _) in &add {
            self.gateway.may_call(name.tenant(), &self.call)?;
        }
        for name in remove {
            self.leave(&name);
        }
        let mut away: BTreeMap<NodeId, Vec<(ConversationName, u64)>> = BTreeMap::new();
        self.waits_to_catch_up |= !add.is_empty();
        for (name, start_seq) in add {
            self.leave(&name);
            let slot = name.key().slot();
            let shard = self.gateway.shard_of(slot).ok_or(Failure::NotReady)?;
            if self.gateway.raft.state(shard).is_some() {
                self.follow(name, shard, start_seq)?;
            } else if self.call.forwarded {
                return Err(no_replica(shard).into());
            } else {
                let node = nearest(&self.gateway, shard, 0).ok_or_else(|| no_replica(shard))?;
                away.entry(node).or_default().push((name, start_seq));
            }
        }
        for (node, add) in away {
            self.remotes.add(node, add, &self.resumed).await;
        }
        if !request.more {
            self.remotes.no_more().await;
        }
        self.more = request.more;
        Ok(())
    }

    /// Follows a conversation in this node's replica.
    fn follow(
        &mut self,
        name: ConversationName,
        shard: ShardId,
        start_seq: u64,
    ) -> Result<(), Failure> {
        let Some(state) = self.gateway.raft.state(shard) else {
            return Err(no_replica(shard));
        };
        let key = name.key();
        let slots = self.slots_of(shard)?;
        let known = self.resumed.of(key.slot());
        if !self.shards.contains_key(&shard) {
            let post = self.gateway.follows.post(shard, &state);
            let local = Local {
                post,
                slots,
                count: 0,
            };
            self.shards.insert(shard, local);
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(local) = self.shards.get_mut(&shard) {
            local.count += 1;
            // Before the look at the head, so that nothing is missed in between.
            local.post.follow(key, &self.bell, place);
        }
        let head = state.conversation(&name)?;
        let (incarnation, last_seq, revision) = match &head {
            Some(head) => (head.incarnation, head.last_seq, head.revision),
            None => (0, 0, 0),
        };
        let (next, known) = match (start_seq, known) {
            (0, Some(known)) => {
                let first = state.first_behind(&name, known)?;
                (first.unwrap_or(1), known)
            }
            (0, None) => (last_seq + 1, revision),
            (seq, _) => (seq, revision),
        };
        let followed = Followed {
            name,
            shard,
            incarnation,
            next,
            known,
        };
        self.by_key.insert(key, place);
        if let Some(entry) = self.places.get_mut(place as usize) {
            *entry = Some(followed);
        }
        self.bell.ring(place);
        Ok(())
    }

    fn slots_of(&self, shard: ShardId) -> Result<RangeInclusive<u16>, Failure> {
        let view = self.gateway.view();
        let shard = view.shard(shard).ok_or(Failure::NotReady)?;
        let slot = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
        Ok(slot(shard.slot_first)..=slot(shard.slot_last))
    }

    fn leave(&mut self, name: &ConversationName) {
        let key = name.key();
        let Some(place) = self.by_key.remove(&key) else {
            self.remotes.remove(name);
            return;
        };
        let followed = self.places.get_mut(place as usize).and_then(Option::take);
        self.free.push(place);
        let Some(followed) = followed else { return };
        if let Some(local) = self.shards.get_mut(&followed.shard) {
            local.post.leave(&key, &self.bell);
            local.count -= 1;
            if local.count == 0 {
                self.shards.remove(&followed.shard);
            }
        }
    }

    /// Delivers what has changed, and moves the cursor behind it.
    async fn deliver(&mut self) -> Result<(), End> {
        let seen: Vec<(RangeInclusive<u16>, u64)> = self
            .shards
            .values()
            .map(|local| (local.slots.clone(), local.post.seen()))
            .collect();
        let places = self.bell.take(PLACES_AT_ONCE);
        for place in places {
            while self.read(place).await? {}
        }
        if self.bell.is_rung() {
            // There is more; requests come first.
            self.bell.ring_again();
            return self.flush(false).await;
        }
        for (slots, revision) in seen {
            self.moved |= self.position.reach(slots, revision);
        }
        let caught_up = self.waits_to_catch_up && !self.more && self.remotes.are_caught_up();
        if caught_up {
            self.waits_to_catch_up = false;
            self.batch.caught_up = true;
        }
        let due = self.moved && self.cursor_at.elapsed() >= CURSOR_EVERY;
        if caught_up || due || !self.batch.events.is_empty() {
            return self.flush(true).await;
        }
        Ok(())
    }

    /// Reads on in a conversation; whether there may be more.
    async fn read(&mut self, place: u32) -> Result<bool, End> {
        let followed = self.places.get(place as usize).and_then(Option::as_ref);
        let Some(followed) = followed else {
            return Ok(false);
        };
        let Some(local) = self.shards.get(&followed.shard) else {
            return Ok(false);
        };
        let wanted = Wanted {
            start_seq: followed.next,
            order: Order::Ascending,
            limit: READ_MAX,
            bytes_max: READ_BYTES_MAX,
            reader: None,
            changed_after: (followed.next > 1).then_some(followed.known),
        };
        let page = local.post.state.page(&followed.name, &wanted);
        match page.map_err(Failure::from)? {
            Some(page) if page.head.incarnation >= followed.incarnation => {
                self.tell(place, page).await
            }
            Some(_) => Ok(false),
            None => self.tell_deleted(place).await.map(|()| false),
        }
    }

    async fn tell(&mut self, place: u32, page: Page) -> Result<bool, End> {
        let Some(Some(followed)) = self.places.get_mut(place as usize) else {
            return Ok(false);
        };
        let head = page.head;
        let mut events: Vec<Event> = Vec::new();
        if followed.incarnation != head.incarnation {
            let renewed = followed.incarnation != 0;
            followed.incarnation = head.incarnation;
            if renewed && followed.next > 1 {
                followed.next = 1;
                events.push(Event::Deleted(followed.name.to_string()));
                self.push_all(events).await?;
                return Ok(true);
            }
        }
        let min_seq = head.min_seq.max(1);
        if followed.next < min_seq {
            followed.next = min_seq;
            events.push(Event::Trimmed(v1::FollowGap {
                parent: followed.name.to_string(),
                min_seq,
            }));
        }
        if head.settings_revision > followed.known {
            let shard = followed.shard.0;
            let settings = convert::conversation(Conversation::clone(&head), shard);
            events.push(Event::Settings(settings));
        }
        let name = followed.name.clone();
        let moment = self.gateway.moment(name.tenant());
        let shown = |one| convert::shown(&name, &head, one, moment).map_err(Failure::Corrupt);
        let mut changed = page.changed.into_iter().peekable();
        for message in page.messages {
            while let Some(before) = changed.next_if(|one| one.revision < message.revision) {
                events.push(Event::Changed(shown(before)?));
            }
            followed.next = message.stored.seq + 1;
            events.push(Event::Message(shown(message)?));
        }
        for behind in changed {
            events.push(Event::Changed(shown(behind)?));
        }
        let more = followed.next <= head.last_seq || page.changed_to < head.revision;
        followed.known = followed.known.max(page.changed_to);
        let more = more && !events.is_empty();
        self.push_all(events).await?;
        Ok(more)
    }

    /// Tells that the life of a conversation is over, where that is so.
    async fn tell_deleted(&mut self, place: u32) -> Result<(), End> {
        let Some(Some(followed)) = self.places.get_mut(place as usize) else {
            return Ok(());
        };
        let Some(local) = self.shards.get(&followed.shard) else {
            return Ok(());
        };
        let left = local.post.state.remembered(&followed.name);
        let left = left.map_err(Failure::from)?;
        let over = left.is_some_and(|head| head.incarnation >= followed.incarnation);
        if over && followed.incarnation > 0 {
            followed.incarnation = 0;
            followed.next = 1;
            let name = followed.name.to_string();
            self.push_all(vec![Event::Deleted(name)]).await?;
        }
        Ok(())
    }

    async fn push_all(&mut self, events: Vec<Event>) -> Result<(), End> {
        for event in events {
            let event = v1::FollowEvent { event: Some(event) };
            self.batch_bytes += event.encoded_len();
            self.batch.events.push(event);
            if self.batch_bytes >= ANSWER_BYTES {
                self.flush(false).await?;
            }
        }
        Ok(())
    }

    /// Sends what there is, `whole` when all up to the position is in it.
    async fn flush(&mut self, whole: bool) -> Result<(), End> {
        let mut answer = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if whole && !self.waits_to_catch_up {
            answer.cursor = self.position.encode();
            self.cursor_at = Instant::now();
            self.moved = false;
        }
        if answer == v1::FollowResponse::default() {
            return Ok(());
        }
        let sent = self.answers.send(Ok(answer)).await;
        sent.map_err(|_| End::Gone)
    }

    /// Gives on what another node's stream brought.
    async fn pass_on(&mut self, told: remote::RemoteNews) -> Result<(), End> {
        let Remote::Answer(answer) = told.what else {
            return Err(End::Elsewhere);
        };
        if answer.reconnect.is_some() {
            return Err(End::Elsewhere);
        }
        for event in answer.events {
            self.batch_bytes += event.encoded_len();
            self.batch.events.push(event);
        }
        if answer.caught_up {
            self.remotes.caught_up(told.node);
        }
        if let Ok(position) = Position::decode(&answer.cursor) {
            for (slots, revision) in position.ranges() {
                self.moved |= self.position.reach(slots, revision);
            }
        }
        if self.batch_bytes >= ANSWER_BYTES {
            self.flush(false).await?;
        }
        Ok(())
    }
}
