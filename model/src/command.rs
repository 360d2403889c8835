//! The replicated vocabulary: what a Raft entry says, and what applying it answers.
//!
//! These are wire and disk formats: tags are permanent, new fields get new tags, and golden files
//! in `model/tests/golden/` are read by a test for ever. Text that was validated at the edge is
//! held as `Bytes`, so that decoding an entry copies nothing.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::cluster;

/// The newest format of an entry that this version reads and writes. Once an entry of it is applied,
/// all replicas of the shard read it, and its commands may be of all kinds.
pub const FORMAT: u32 = 4;
/// The newest format of an entry without rules of conversations and what goes by them, which versions
/// before read, too.
pub const FORMAT_WITHOUT_RULES: u32 = 3;
/// The newest format of an entry without commands that change messages, which versions before that read.
pub const FORMAT_WITHOUT_CHANGES: u32 = 2;
/// The format of an entry without [`Entry::passed_ms`], which versions before read, too.
pub const FORMAT_WITHOUT_PASSED: u32 = 1;

/// The payload of one Raft entry: many commands, stamped by the leader.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// [`FORMAT`], or one of those before it.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Command time, Unix milliseconds; never decreases within a shard.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// Encoded [`Command`]s, in order.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub commands: Vec<Bytes>,
    /// How much time has passed for the shard, at least, milliseconds: counted by the monotonic
    /// clocks of its leaders, while they led. Never decreases within a shard; 0 = not counted.
    #[prost(uint64, tag = "4")]
    pub passed_ms: u64,
}

/// One command.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// What is to be done.
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 16")]
    pub body: Option<Body>,
}

/// The kinds of commands.
#[derive(Clone, PartialEq, Oneof)]
pub enum Body {
    /// Append messages to a conversation.
    #[prost(message, tag = "1")]
    Append(Append),
    /// Create a conversation.
    #[prost(message, tag = "2")]
    Create(Create),
    /// Change a message that was appended; in entries of [`FORMAT_WITHOUT_RULES`] and later only.
    #[prost(message, tag = "3")]
    Change(ChangeMessage),
    /// Change a conversation, or delete it; in entries of [`FORMAT_WITHOUT_RULES`] and later only.
    #[prost(message, tag = "4")]
    Configure(Configure),
    /// Append messages with what the first versions did not know; in entries of [`FORMAT`] only.
    #[prost(message, tag = "5")]
    AppendWith(AppendWith),
    /// Set the rules of a conversation; in entries of [`FORMAT`] only.
    #[prost(message, tag = "6")]
    Govern(Govern),
    /// Remove what has expired; in entries of [`FORMAT`] only.
    #[prost(message, tag = "7")]
    Expire(Expire),
    /// Change the cluster's own state; valid on the meta shard only.
    #[prost(message, tag = "16")]
    Meta(cluster::Change),
}

/// Appends messages to one conversation, creating it when it does not exist.
#[derive(Clone, PartialEq, Message)]
pub struct Append {
    /// The conversation's whole name.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// The messages, in order.
    #[prost(message, repeated, tag = "2")]
    pub messages: Vec<NewMessage>,
    /// All or nothing (a batch); otherwise each message stands for itself.
    #[prost(bool, tag = "3")]
    pub atomic: bool,
    /// Refuse unless the last seq is this one. Looked at after dedup.
    #[prost(uint64, optional, tag = "4")]
    pub expected_last_seq: Option<u64>,
    /// The slot map epoch the sender routed by; for diagnosis only.
    #[prost(uint64, tag = "5")]
    pub map_epoch: u64,
    /// Refuse a message that answers one that there is not yet. Looked at after dedup. Commands from
    /// before this was known do not say so: what they appended then is appended again at each replay.
    #[prost(bool, tag = "20")]
    pub refuse_replies_ahead: bool,
}

/// An append with conditions of its writer, or with messages that expire.
#[derive(Clone, PartialEq, Message)]
pub struct AppendWith {
    /// What is to be appended.
    #[prost(message, optional, tag = "1")]
    pub append: Option<Append>,
    /// The messages count as the last ones of this key (UTF-8); empty = of none.
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// Refuse unless the last seq of `key` is this one; 0 = there must be none. Looked at after dedup.
    #[prost(uint64, optional, tag = "3")]
    pub expected_last_seq_of_key: Option<u64>,
    /// Must be the conversation's fence token, if it has one (UTF-8). Looked at after dedup.
    #[prost(bytes = "bytes", tag = "4")]
    pub fence_token: Bytes,
}

/// A message as its sender gave it.
#[derive(Clone, PartialEq, Message)]
pub struct NewMessage {
    /// Who sent it (UTF-8).
    #[prost(bytes = "bytes", tag = "1")]
    pub sender: Bytes,
    /// The sender's own id for it (UTF-8).
    #[prost(bytes = "bytes", tag = "2")]
    pub client_message_id: Bytes,
    /// What kind of message (UTF-8); opaque to the store.
    #[prost(bytes = "bytes", tag = "3")]
    pub kind: Bytes,
    /// Opaque content.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
    /// Sorted by key, without repeats, so that equal messages have equal bytes.
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
    /// The seq it replies to, 0 for none.
    #[prost(uint64, tag = "6")]
    pub reply_to_seq: u64,
    /// Not counted as unread.
    #[prost(bool, tag = "7")]
    pub silent: bool,
    /// When it was first said, Unix milliseconds, for imports.
    #[prost(sint64, optional, tag = "8")]
    pub original_time_ms: Option<i64>,
    /// It expires so long after its append, milliseconds; 0 = never. In [`AppendWith`] only.
    #[prost(uint64, tag = "9")]
    pub ttl_ms: u64,
}

/// A key and a value that the store does not interpret.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Attribute {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Creates a conversation.
#[derive(Clone, PartialEq, Message)]
pub struct Create {
    /// The conversation's whole name.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Makes retries safe.
    #[prost(bytes = "bytes", tag = "2")]
    pub request_id: Bytes,
    /// Sorted by key, without repeats.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<Attribute>,
}

/// Changes one message.
#[derive(Clone, PartialEq, Message)]
pub struct ChangeMessage {
    /// The whole name of its conversation.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Its number there.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Makes retries safe (UTF-8); unique among all requests to the conversation.
    #[prost(bytes = "bytes", tag = "3")]
    pub request_id: Bytes,
    /// Refuse unless the message's revision is this one. Looked at after dedup.
    #[prost(uint64, optional, tag = "4")]
    pub expected_revision: Option<u64>,
    /// What is to be done.
    #[prost(oneof = "How", tags = "5, 6, 7")]
    pub how: Option<How>,
    /// Part of an import: its id is remembered for ever.
    #[prost(bool, tag = "40")]
    pub import: bool,
}

/// The kinds of changes of a message.
#[derive(Clone, PartialEq, Oneof)]
pub enum How {
    /// Say something else.
    #[prost(message, tag = "5")]
    Edit(Edit),
    /// Erase it.
    #[prost(message, tag = "6")]
    Redact(Redact),
    /// Set or take back a reaction.
    #[prost(message, tag = "7")]
    React(React),
}

/// What a message says from now on: what is given takes the place of what was there.
#[derive(Clone, PartialEq, Message)]
pub struct Edit {
    /// The new body, not empty.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub body: Option<Bytes>,
    /// The new attributes.
    #[prost(message, optional, tag = "2")]
    pub attributes: Option<Attributes>,
    /// Drawn by the gateway, 16 bytes. The first edit of a message leaves it there for the hashes of all its
    /// edits, which say nothing any more once the message is erased.
    #[prost(bytes = "bytes", tag = "3")]
    pub salt: Bytes,
    /// When it was edited where it was imported from, Unix milliseconds.
    #[prost(sint64, optional, tag = "40")]
    pub original_time_ms: Option<i64>,
}

/// Sorted by key, without repeats.
#[derive(Clone, PartialEq, Message)]
pub struct Attributes {
    /// The attributes.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Attribute>,
}

/// Erases a message.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Redact {
    /// When it was erased where it was imported from, Unix milliseconds.
    #[prost(sint64, optional, tag = "40")]
    pub original_time_ms: Option<i64>,
    /// Keep when it was first said. Commands from before this was known do not say so.
    #[prost(bool, tag = "41")]
    pub keep_original_time: bool,
}

/// Sets or takes back a reaction of one user.
#[derive(Clone, PartialEq, Message)]
pub struct React {
    /// Who (UTF-8).
    #[prost(bytes = "bytes", tag = "1")]
    pub user: Bytes,
    /// Which: an emoji, or a key of the application's (UTF-8).
    #[prost(bytes = "bytes", tag = "2")]
    pub kind: Bytes,
    /// Take it back.
    #[prost(bool, tag = "3")]
    pub remove: bool,
}

/// Changes a conversation itself.
#[derive(Clone, PartialEq, Message)]
pub struct Configure {
    /// The conversation's whole name.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Makes retries safe (UTF-8); unique among all requests to the conversation.
    #[prost(bytes = "bytes", tag = "2")]
    pub request_id: Bytes,
    /// What is to be done.
    #[prost(oneof = "Setting", tags = "3, 4")]
    pub setting: Option<Setting>,
}

/// The kinds of changes of a conversation.
#[derive(Clone, PartialEq, Oneof)]
pub enum Setting {
    /// Other attributes, in place of all that there are.
    #[prost(message, tag = "3")]
    Attributes(Attributes),
    /// Delete it with all that is in it.
    #[prost(message, tag = "4")]
    Delete(Delete),
}

/// Deletes a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Delete {}

/// Sets what is given of a conversation's rules and attributes; the rest stays.
#[derive(Clone, PartialEq, Message)]
pub struct Govern {
    /// The conversation's whole name.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Makes retries safe (UTF-8); unique among all requests to the conversation.
    #[prost(bytes = "bytes", tag = "2")]
    pub request_id: Bytes,
    /// Other attributes, in place of all that there are.
    #[prost(message, optional, tag = "3")]
    pub attributes: Option<Attributes>,
    /// Who may append.
    #[prost(message, optional, tag = "4")]
    pub fence: Option<Fence>,
    /// Messages expire so long after their append, milliseconds, those that there are too; 0 = never.
    #[prost(uint64, optional, tag = "5")]
    pub ttl_ms: Option<u64>,
    /// A legal hold: while it is set nothing expires.
    #[prost(bool, optional, tag = "6")]
    pub hold: Option<bool>,
}

/// Sets the token that appends must carry.
#[derive(Clone, PartialEq, Message)]
pub struct Fence {
    /// The token (UTF-8); empty = none is asked for any more.
    #[prost(bytes = "bytes", tag = "1")]
    pub token: Bytes,
    /// Refuse unless the token was this one; empty = there must have been none. Looked at after dedup.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub expected: Option<Bytes>,
}

/// Removes what has expired of one conversation, by the time of the command. What has not is left as it is.
#[derive(Clone, PartialEq, Message)]
pub struct Expire {
    /// The conversation's whole name.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Messages that expire by a time of their own, as they are noted.
    #[prost(message, repeated, tag = "2")]
    pub due: Vec<Due>,
    /// From the first message on, remove at most so many that have expired.
    #[prost(uint64, tag = "3")]
    pub prefix_max: u64,
    /// Messages of its tenant expire so long after their append, milliseconds; 0 = never.
    #[prost(uint64, tag = "4")]
    pub tenant_ttl_ms: u64,
}

/// A message that expires by a time of its own.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Due {
    /// When, of command time, Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub at_ms: u64,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// What applying one [`Command`] answers.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// The answer.
    #[prost(oneof = "Answer", tags = "1, 2, 3, 4, 5, 6, 16")]
    pub answer: Option<Answer>,
}

/// The kinds of answers.
#[derive(Clone, PartialEq, Oneof)]
pub enum Answer {
    /// To [`Body::Append`]: an outcome for each message, in order.
    #[prost(message, tag = "1")]
    Appended(Appended),
    /// To [`Body::Create`].
    #[prost(message, boxed, tag = "2")]
    Created(Box<Created>),
    /// The whole command was refused and had no effect.
    #[prost(message, tag = "3")]
    Refused(Refusal),
    /// To [`Body::Change`].
    #[prost(message, tag = "4")]
    Changed(MessageChanged),
    /// To [`Body::Configure`] and [`Body::Govern`].
    #[prost(message, tag = "5")]
    Configured(Configured),
    /// To [`Body::Expire`].
    #[prost(message, tag = "6")]
    Expired(Expired),
    /// To [`Body::Meta`].
    #[prost(message, tag = "16")]
    Meta(cluster::Changed),
}

/// To [`Body::Append`].
#[derive(Clone, PartialEq, Message)]
pub struct Appended {
    /// One for each message of the command, in order.
    #[prost(message, repeated, tag = "1")]
    pub outcomes: Vec<Outcome>,
}

/// What became of one message.
#[derive(Clone, PartialEq, Message)]
pub struct Outcome {
    /// Its number in the conversation; 0 when refused.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// The shard's revision at its append.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    /// Command time of its append, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub create_time_ms: u64,
    /// It had been appended before; the numbers are those of the first time.
    #[prost(bool, tag = "4")]
    pub deduplicated: bool,
    /// Set when this message was refused.
    #[prost(message, optional, tag = "5")]
    pub refusal: Option<Refusal>,
}

/// To [`Body::Create`].
#[derive(Clone, PartialEq, Message)]
pub struct Created {
    /// The conversation after the command.
    #[prost(message, optional, tag = "1")]
    pub conversation: Option<crate::state::Conversation>,
    /// The same request had created it before.
    #[prost(bool, tag = "2")]
    pub deduplicated: bool,
}

/// To [`Body::Change`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MessageChanged {
    /// The message's number.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// Its revision after the change.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    /// Command time of the change, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// Command time of its append, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub create_time_ms: u64,
    /// The same request had changed it before; the numbers are those of the first time.
    #[prost(bool, tag = "5")]
    pub deduplicated: bool,
    /// To a reaction: users who have set this kind.
    #[prost(uint32, tag = "6")]
    pub count: u32,
}

/// To [`Body::Configure`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Configured {
    /// The conversation's revision after the change.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// Command time of the change, Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// Command time of the conversation's creation, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub create_time_ms: u64,
    /// Which life of the conversation was changed.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// The same request had changed it before; the numbers are those of the first time.
    #[prost(bool, tag = "5")]
    pub deduplicated: bool,
}

/// To [`Body::Expire`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Expired {
    /// Messages that are tombstones now.
    #[prost(uint64, tag = "1")]
    pub tombstones: u64,
    /// Messages, and tombstones of them, that are gone from the beginning.
    #[prost(uint64, tag = "2")]
    pub removed: u64,
    /// Bytes of the records that went.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// The first number that is left.
    #[prost(uint64, tag = "4")]
    pub min_seq: u64,
}

/// Why a command, or one message of it, had no effect. Deterministic: all replicas refuse alike.
#[derive(Clone, PartialEq, Message)]
pub struct Refusal {
    /// Which rule refused it.
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
    /// The last seq, for [`Reason::SeqMismatch`] and [`Reason::AheadOfHead`]; that of the key, for
    /// [`Reason::KeySeqMismatch`].
    #[prost(uint64, tag = "2")]
    pub last_seq: u64,
    /// For people.
    #[prost(string, tag = "3")]
    pub message: String,
    /// The message's revision, for [`Reason::RevisionMismatch`].
    #[prost(uint64, tag = "4")]
    pub revision: u64,
}

/// The rules that refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    /// Never written.
    Unspecified = 0,
    /// The same client message id with other content.
    ClientMessageIdReused = 1,
    /// `expected_last_seq` is not the last seq.
    SeqMismatch = 2,
    /// A batch that mixes ids appended before with new ones.
    MixedBatch = 3,
    /// The conversation exists, created by another request.
    AlreadyExists = 4,
    /// The slot is not of this shard: the sender's map is stale.
    WrongShard = 5,
    /// The command cannot be understood or is not for this kind of shard.
    Invalid = 6,
    /// Two names share a key, which no two names found by chance do.
    KeyCollision = 7,
    /// The same id twice within one batch.
    RepeatedInBatch = 8,
    /// `reply_to_seq` is ahead of the last seq.
    AheadOfHead = 9,
    /// The same request id with other content.
    RequestIdReused = 10,
    /// `expected_revision` is not the message's revision.
    RevisionMismatch = 11,
    /// There is no message of this number, or not any more.
    MessageNotFound = 12,
    /// The message was erased.
    MessageRedacted = 13,
    /// The message has as many reactions, or kinds of them, as it may have.
    ReactionsFull = 14,
    /// Some replica of the shard is of a version that does not know the command. Never applied.
    NodesOlder = 15,
    /// There is no such conversation.
    ConversationNotFound = 16,
    /// `expected_last_seq_of_key` is not the key's last seq.
    KeySeqMismatch = 17,
    /// The conversation has a fence token, and it is not the one given; or it was not the one expected.
    Fenced = 18,
    /// The conversation has as many keys as it may have.
    KeysFull = 19,
    /// The tenant was created by another request.
    TenantExists = 60,
    /// There is no such tenant.
    TenantUnknown = 61,
    /// The tenant is being deleted with all that is in it.
    TenantDeleting = 62,
    /// There are as many tenants, or changes of them, as there may be.
    TenantsFull = 63,
}

impl Refusal {
    /// A refusal with its reason and a text for people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            reason: reason as i32,
            last_seq: 0,
            message: message.into(),
            revision: 0,
        }
    }
}

impl Command {
    /// An append.
    pub fn append(append: Append) -> Command {
        Command {
            body: Some(Body::Append(append)),
        }
    }

    /// A creation.
    pub fn create(create: Create) -> Command {
        Command {
            body: Some(Body::Create(create)),
        }
    }

    /// A change of a message.
    pub fn change(change: ChangeMessage) -> Command {
        Command {
            body: Some(Body::Change(change)),
        }
    }

    /// A change of a conversation.
    pub fn configure(configure: Configure) -> Command {
        Command {
            body: Some(Body::Configure(configure)),
        }
    }

    /// The oldest format of an entry that an encoded command may be in, by its first byte: the tag of its
    /// kind.
    pub fn format_of(encoded: &[u8]) -> u32 {
        // Appends, creations and what is for the meta shard were there from the first.
        match encoded.first() {
            Some(0x0a | 0x12 | 0x82) | None => FORMAT_WITHOUT_PASSED,
            Some(0x1a | 0x22) => FORMAT_WITHOUT_RULES,
            Some(_) => FORMAT,
        }
    }

    /// An append with what the first versions did not know, as one of theirs where it does without.
    pub fn append_with(with: AppendWith) -> Command {
        let free = with.key.is_empty()
            && with.expected_last_seq_of_key.is_none()
            && with.fence_token.is_empty();
        let lasts = |append: &Append| append.messages.iter().all(|one| one.ttl_ms == 0);
        match with {
            AppendWith {
                append: Some(append),
                ..
            } if free && lasts(&append) => Command::append(append),
            with => Command {
                body: Some(Body::AppendWith(with)),
            },
        }
    }

    /// Rules of a conversation.
    pub fn govern(govern: Govern) -> Command {
        Command {
            body: Some(Body::Govern(govern)),
        }
    }

    /// The removal of what has expired.
    pub fn expire(expire: Expire) -> Command {
        Command {
            body: Some(Body::Expire(expire)),
        }
    }

    /// A change of the cluster's state.
    pub fn meta(change: cluster::Change) -> Command {
        Command {
            body: Some(Body::Meta(change)),
        }
    }
}

impl Reply {
    /// Wraps an answer.
    pub fn new(answer: Answer) -> Reply {
        Reply {
            answer: Some(answer),
        }
    }

    /// A refusal of the whole command.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Reply {
        Reply::new(Answer::Refused(Refusal::new(reason, message)))
    }
}
