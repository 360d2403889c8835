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
    /// The shard's revision at its append.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Command time, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub create_time_ms: u64,
    /// What the sender gave.
    #[prost(message, optional, tag = "5")]
    pub message: Option<NewMessage>,
}

/// What is remembered of an id, to answer a retry.
#[derive(Clone, PartialEq, Message)]
pub struct Dedup {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The first answer's seq.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// The first answer's revision.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// Command time of the first, Unix milliseconds.
    #[prost(uint64, tag = "4")]
    pub time_ms: u64,
    /// Hash of the request, 16 bytes: the same id with other content is an error.
    #[prost(bytes = "bytes", tag = "5")]
    pub request_hash: Bytes,
    /// The id of an import, which is remembered for ever.
    #[prost(bool, tag = "6")]
    pub kept: bool,
    /// How much time had passed for the shard at the first, milliseconds; the window counts from
    /// here. 0 when it was not counted yet.
    #[prost(uint64, tag = "7")]
    pub passed_ms: u64,
}
