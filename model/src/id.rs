//! Identifiers. Each has its own type, so that a swapped argument does not compile.

use std::fmt;

use thiserror::Error;

use crate::{hash, limits};

/// A node of the cluster, numbered by the meta shard from 1 and never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A shard: a range of slots and the Raft group that replicates it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The shard that holds nodes, localities and the shard map.
    pub const META: ShardId = ShardId(0);

    /// Whether this is the meta shard.
    pub fn is_meta(self) -> bool {
        self == Self::META
    }

    /// For people: `shard 1`, `the meta shard`.
    pub fn told(self) -> String {
        match self {
            ShardId::META => "the meta shard".to_owned(),
            ShardId(number) => format!("shard {number}"),
        }
    }
}

/// One point of the hash space [0, 2^16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// Slots in the whole hash space.
    pub const COUNT: u32 = 1 << 16;
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a conversation's records live: the first 16 bytes of a hash of (tenant, conversation),
/// big-endian, so that its first two bytes are the slot and keys sort by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationKey(pub [u8; 16]);

impl ConversationKey {
    /// The slot: the top 16 bits.
    pub fn slot(&self) -> Slot {
        Slot(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// Reads a key of exactly 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<ConversationKey> {
        Some(ConversationKey(bytes.try_into().ok()?))
    }
}

/// A valid `tenants/{t}/conversations/{c}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationName {
    text: String,
    tenant_len: usize,
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not of the form `tenants/{t}/conversations/{c}`.
    #[error("{0:?} is not of the form tenants/{{tenant}}/conversations/{{conversation}}")]
    Form(String),
    /// A segment is empty, too long, or has a character outside the allowed set.
    #[error(
        "{what} {segment:?} must be 1 to {max} characters of a-z A-Z 0-9 - _ . ~ and start with a letter or digit"
    )]
    Segment {
        /// "tenant" or "conversation".
        what: &'static str,
        /// The offending text, shortened.
        segment: String,
        /// The longest allowed, in bytes.
        max: usize,
    },
}

impl ConversationName {
    /// Joins a tenant and a conversation id.
    ///
    /// # Errors
    /// [`NameError::Segment`] when either is not a valid segment.
    pub fn new(tenant: &str, conversation: &str) -> Result<Self, NameError> {
        segment("tenant", tenant)?;
        segment("conversation", conversation)?;
        Ok(ConversationName {
            text: format!("tenants/{tenant}/conversations/{conversation}"),
            tenant_len: tenant.len(),
        })
    }

    /// Parses `tenants/{t}/conversations/{c}`.
    ///
    /// # Errors
    /// [`NameError`] naming what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/');
        match (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) {
            (Some("tenants"), Some(tenant), Some("conversations"), Some(conversation), None) => {
                Self::new(tenant, conversation)
            }
            _ => Err(NameError::Form(shorten(text))),
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tenant's part.
    pub fn tenant(&self) -> &str {
        let start = "tenants/".len();
        &self.text[start..start + self.tenant_len]
    }

    /// The conversation's part.
    pub fn conversation(&self) -> &str {
        &self.text["tenants/".len() + self.tenant_len + "/conversations/".len()..]
    }

    /// Where its records live.
    pub fn key(&self) -> ConversationKey {
        hash::conversation_key(self.tenant(), self.conversation())
    }
}

impl fmt::Display for ConversationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks one segment of a resource name.
///
/// # Errors
/// [`NameError::Segment`] naming the segment.
pub fn segment(what: &'static str, text: &str) -> Result<(), NameError> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() <= limits::NAME_SEGMENT_BYTES_MAX && text.bytes().all(inner) {
        return Ok(());
    }
    Err(NameError::Segment {
        what,
        segment: shorten(text),
        max: limits::NAME_SEGMENT_BYTES_MAX,
    })
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SHOWN).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_parses_into_its_parts_and_back() {
        let name = ConversationName::parse("tenants/acme/conversations/room-1").unwrap();
        assert_eq!(name.tenant(), "acme");
        assert_eq!(name.conversation(), "room-1");
        assert_eq!(name.to_string(), "tenants/acme/conversations/room-1");
        assert_eq!(name, ConversationName::new("acme", "room-1").unwrap());
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_offending_part() {
        for (text, expect) in [
            ("", "not of the form"),
            ("tenants/a", "not of the form"),
            ("tenants/a/conversations/b/c", "not of the form"),
            ("tenants//conversations/b", "tenant \"\""),
            ("tenants/a/conversations/b c", "conversation \"b c\""),
            ("tenants/-a/conversations/b", "tenant \"-a\""),
        ] {
            let error = ConversationName::parse(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        }
    }

    #[test]
    fn the_slot_is_the_top_16_bits_of_the_key() {
        let key = ConversationKey([0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(key.slot(), Slot(0xabcd));
    }
}
