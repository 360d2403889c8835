//! What a replica stores for its conversations. Disk formats: tags are permanent.

use bytes::Bytes;
use prost::Message;

use crate::command::{Attribute, NewMessage};

/// The head of a conversation: all that is known of it but its messages.
#[derive(Clone, PartialEq, Message)]
pub struct Conversation {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The whole name; tells a key collision from a hit.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The last message's number, 0 when there is none.
    #[prost(uint64, tag = "3")]
    pub last_seq: u64,
    /// The lowest number that has not expired.
    #[prost(uint64, tag = "4")]
    pub min_seq: u64,
    /// Which life of the name this is, from 1.
    #[prost(uint64, tag = "5")]
    pub incarnation: u64,
    /// Command time of its creation, Unix milliseconds.
    #[prost(uint64, tag = "6")]
    pub create_time_ms: u64,
    /// Create time of the last message; the next is not below it.
    #[prost(uint64, tag = "7")]
    pub last_time_ms: u64,
    /// Wrapping sum, 128 bits little-endian, of the hash of every message record. Order-free, so
    /// that it can be compared with what is read back from disk; records carry their seq.
    #[prost(bytes = "bytes", tag = "8")]
    pub content_hash: Bytes,
    /// Settings that the store does not interpret.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<Attribute>,
    /// The request that created it, empty when an append did.
    #[prost(bytes = "bytes", tag = "10")]
    pub request_id: Bytes,
    /// Revision of its last change.
    #[prost(uint64, tag = "11")]
    pub revision: u64,
    /// Revision of its creation, so that a retried creation gets its first answer.
    #[prost(uint64, tag = "12")]
    pub create_revision: u64,
    /// Revision of the last reaction to one of its messages; 0 while there was none, so that reads look
    /// for none.
    #[prost(uint64, tag = "13")]
    pub reaction_revision: u64,
    /// Revision of the last change of one of its messages, of whatever kind; 0 while there was none.
    #[prost(uint64, tag = "14")]
    pub change_revision: u64,
    /// Command time of its deletion, Unix milliseconds: what is left is a tombstone, and ids.
    #[prost(uint64, optional, tag = "15")]
    pub delete_time_ms: Option<u64>,
    /// Revision at which its attributes or rules were changed last; 0 while they are those it was created
    /// with.
    #[prost(uint64, tag = "16")]
    pub settings_revision: u64,
    /// The token that appends must carry (UTF-8); empty = none.
    #[prost(bytes = "bytes", tag = "17")]
    pub fence_token: Bytes,
    /// The keys that appends named, sorted.
    #[prost(message, repeated, tag = "18")]
    pub keys: Vec<KeySeq>,
    /// Messages expire so long after their append, milliseconds; 0 = never.
    #[prost(uint64, tag = "19")]
    pub ttl_ms: u64,
    /// While it is set nothing expires.
    #[prost(bool, tag = "20")]
    pub hold: bool,
    /// Whether it is noted among those of which something may expire.
    #[prost(bool, tag = "21")]
    pub expiring: bool,
}

/// The last message that was appended under a key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeySeq {
    /// The key (UTF-8).
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its last message's number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

impl Conversation {
    /// Whether it was deleted, and not created again.
    pub fn is_deleted(&self) -> bool {
        self.delete_time_ms.is_some()
    }

    /// The number of the last message that was appended under a key; 0 when there was none.
    pub fn last_seq_of(&self, key: &[u8]) -> u64 {
        let found = self.keys.iter().find(|one| one.key == key);
        found.map_or(0, |one| one.seq)
    }

    /// When a message of it expires, of command time, Unix milliseconds; none when it does not. Of its own time
    /// to live and that of its conversation the earlier counts; where neither has one, that of its tenant
    /// (0 = none). A legal hold wins.
    pub fn expires_at(&self, stored: &Stored, tenant_ttl_ms: u64) -> Option<u64> {
        if self.hold {
            return None;
        }
        let own = stored.message.as_ref().map_or(0, |message| message.ttl_ms);
        let set = |ttl_ms: &u64| *ttl_ms > 0;
        let earliest = [own, self.ttl_ms].into_iter().filter(set).min();
        let after = earliest.or(Some(tenant_ttl_ms).filter(set))?;
        Some(stored.create_time_ms.saturating_add(after))
    }
}

/// A message as stored.
#[derive(Clone, PartialEq, Message)]
pub struct Stored {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Its number in the conversation, from 1.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The shard's revision at its append, or at its last edit or redaction.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Command time of its append, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub create_time_ms: u64,
    /// What the sender gave, as it was edited; without any content when it was erased.
    #[prost(message, optional, tag = "5")]
    pub message: Option<NewMessage>,
    /// The shard's revision at its append; 0 while it was never changed, and then it is `revision`.
    #[prost(uint64, tag = "6")]
    pub append_revision: u64,
    /// Command time of its last edit, Unix milliseconds.
    #[prost(uint64, optional, tag = "7")]
    pub edit_time_ms: Option<u64>,
    /// Command time of its redaction, Unix milliseconds.
    #[prost(uint64, optional, tag = "8")]
    pub redact_time_ms: Option<u64>,
    /// With what its edits were hashed; gone when it was erased.
    #[prost(bytes = "bytes", tag = "9")]
    pub salt: Bytes,
    /// Command time at which it expired, Unix milliseconds: it is a tombstone, as one that was erased.
    #[prost(uint64, optional, tag = "10")]
    pub expired_ms: Option<u64>,
    /// When it was edited last where it was imported from, Unix milliseconds.
    #[prost(sint64, optional, tag = "40")]
    pub original_edit_time_ms: Option<i64>,
    /// When it was erased where it was imported from, Unix milliseconds.
    #[prost(sint64, optional, tag = "41")]
    pub original_redact_time_ms: Option<i64>,
}

impl Stored {
    /// The shard's revision at its append.
    pub fn appended_at(&self) -> u64 {
        match self.append_revision {
            0 => self.revision,
            revision => revision,
        }
    }

    /// Whether nothing of its content is left: it was erased, or it has expired.
    pub fn is_tombstone(&self) -> bool {
        self.redact_time_ms.is_some() || self.expired_ms.is_some()
    }
}

/// The reactions to one message, counted.
#[derive(Clone, PartialEq, Message)]
pub struct Reactions {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The message's number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The shard's revision at the last change of them.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Sorted by kind; none has the count 0.
    #[prost(message, repeated, tag = "4")]
    pub counts: Vec<ReactionCount>,
    /// Wrapping sum, 128 bits little-endian, of the hash of every [`Reaction`] record of the message.
    #[prost(bytes = "bytes", tag = "5")]
    pub sum: Bytes,
}

/// How many users have set a reaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReactionCount {
    /// Which (UTF-8).
    #[prost(bytes = "bytes", tag = "1")]
    pub kind: Bytes,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// One reaction of one user to one message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Reaction {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The message's number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Who (UTF-8).
    #[prost(bytes = "bytes", tag = "3")]
    pub user: Bytes,
    /// Which (UTF-8).
    #[prost(bytes = "bytes", tag = "4")]
    pub kind: Bytes,
    /// The shard's revision at which it was set.
    #[prost(uint64, tag = "5")]
    pub revision: u64,
}

/// That a message, or something of a conversation, may expire.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Expiring {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
}

/// That a message was changed, in the order of revisions.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Changed {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The message's number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// What is remembered of an id, to answer a retry.
#[derive(Clone, PartialEq, Message)]
pub struct Dedup {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The first answer's seq; of a request to the conversation itself, its incarnation.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The first answer's revision.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Command time of the first, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub time_ms: u64,
    /// Hash of the request, 16 bytes: the same id with other content is an error. Empty once the message
    /// that it appended was erased.
    #[prost(bytes = "bytes", tag = "5")]
    pub request_hash: Bytes,
    /// The id of an import, which is remembered for ever.
    #[prost(bool, tag = "6")]
    pub kept: bool,
    /// How much time had passed for the shard at the first, milliseconds; the window counts from
    /// here. 0 when it was not counted yet.
    #[prost(uint64, tag = "7")]
    pub passed_ms: u64,
    /// The kind of request: 0 for an append, else one of [`Made`].
    #[prost(enumeration = "Made", tag = "8")]
    pub made: i32,
    /// Of a change of a message: the command time of the message's append, Unix milliseconds.
    #[prost(uint64, tag = "9")]
    pub create_time_ms: u64,
    /// Of a reaction: users who had set this kind.
    #[prost(uint32, tag = "10")]
    pub count: u32,
}

/// What the request of an id was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Made {
    /// An append.
    Message = 0,
    /// An edit.
    Edit = 1,
    /// A redaction.
    Redaction = 2,
    /// A reaction.
    Reaction = 3,
    /// A creation of the conversation; `seq` is its incarnation.
    Creation = 4,
    /// A change of its attributes; `seq` is its incarnation.
    Attributes = 5,
    /// Its deletion; `seq` is its incarnation.
    Deletion = 6,
    /// A change of its rules; `seq` is its incarnation.
    Rules = 7,
}
