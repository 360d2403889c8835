//! The keys of `msgdb`.
//!
//! ```text
//!   shard record   [0x01][shard u32][kind]                       kind 0x01 applied, 0x02 cluster,
//!                                                                0x03 whole
//!   audit          [0x01][shard][0x02][number u64]               of the meta shard, behind its cluster
//!   expiring       [0x01][shard][0x00][conversation key, 16 bytes]
//!   erasure        [0x01][shard][0x04][log index u64][conversation key, 16 bytes]
//!   conversation   [0x10][conversation key, 16 bytes][kind]…
//!                    head     …[0x01]
//!                    message  …[0x02][seq u64]
//!                    dedup    …[0x03][id, 16 bytes]
//!                    change   …[0x04][revision u64]
//!                    counts   …[0x05][seq u64]             of reactions
//!                    reaction …[0x06][seq u64][user, 16 bytes][kind, 16 bytes]
//!                    expiry   …[0x07][time in ms u64][seq u64]
//! ```
//!
//! A conversation key begins with its slot, so that a shard is one range of conversations and a
//! split moves nothing. The kinds sort a head before its messages. Table and kind bytes are
//! permanent.

use std::ops::RangeInclusive;

use model::id::{ConversationKey, ShardId, Slot};
use model::shard::{DedupId, ReactionId};

const TABLE_SHARD: u8 = 0x01;
const TABLE_CONVERSATION: u8 = 0x10;

const EXPIRING: u8 = 0x00;
const APPLIED: u8 = 0x01;
const CLUSTER: u8 = 0x02;
const WHOLE: u8 = 0x03;
const ERASURE: u8 = 0x04;

const HEAD: u8 = 0x01;
const MESSAGE: u8 = 0x02;
const DEDUP: u8 = 0x03;
const CHANGE: u8 = 0x04;
const COUNTS: u8 = 0x05;
const REACTION: u8 = 0x06;
const EXPIRY: u8 = 0x07;

/// Bytes in front of a conversation's kinds.
const PREFIX_BYTES: usize = 17;
/// Bytes of a head's key.
pub const HEAD_BYTES: usize = PREFIX_BYTES + 1;
/// Bytes of a message's key.
pub const MESSAGE_BYTES: usize = HEAD_BYTES + 8;
/// Bytes of a dedup record's key.
pub const DEDUP_BYTES: usize = HEAD_BYTES + 16;
/// Bytes of the key of the note of when a message expires.
pub const EXPIRY_BYTES: usize = MESSAGE_BYTES + 8;
/// Bytes of a reaction's key.
pub const REACTION_BYTES: usize = MESSAGE_BYTES + 32;

/// What a key of a conversation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The head.
    Head(ConversationKey),
    /// The message with this seq.
    Message(ConversationKey, u64),
    /// What is remembered of this id.
    Dedup(ConversationKey, DedupId),
    /// Which message was changed at this revision.
    Change(ConversationKey, u64),
    /// The counted reactions to the message with this seq.
    Counts(ConversationKey, u64),
    /// One reaction to the message with this seq.
    Reaction(ConversationKey, u64, ReactionId),
    /// That the message with this seq expires at this command time, Unix milliseconds.
    Expiry(ConversationKey, u64, u64),
}

impl Named {
    /// Whose record it is.
    pub fn conversation(&self) -> ConversationKey {
        match self {
            Named::Head(key)
            | Named::Message(key, _)
            | Named::Dedup(key, _)
            | Named::Change(key, _)
            | Named::Counts(key, _)
            | Named::Reaction(key, ..)
            | Named::Expiry(key, ..) => *key,
        }
    }
}

/// The key of a shard's applied record.
pub fn applied(shard: ShardId) -> [u8; 6] {
    shard_record(shard, APPLIED)
}

/// The key of the cluster's state, held by the meta shard.
pub fn cluster(shard: ShardId) -> [u8; 6] {
    shard_record(shard, CLUSTER)
}

/// The key of a record of the audit, held by the meta shard. It lies among what a snapshot takes along.
pub fn audit(shard: ShardId, number: u64) -> Vec<u8> {
    let mut bytes = cluster(shard).to_vec();
    bytes.extend(number.to_be_bytes());
    bytes
}

/// Where the records of the audit `from <= number <= to` lie: from, to.
pub fn audits(shard: ShardId, from: u64, to: u64) -> (Vec<u8>, Vec<u8>) {
    let end = match to.checked_add(1) {
        Some(end) => audit(shard, end),
        None => whole(shard).to_vec(),
    };
    (audit(shard, from), end)
}

/// The number in the key of such a record.
pub fn parse_audit(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(6..)?.try_into().ok()?))
}

/// The key of the note that a snapshot was installed wholly; it stays with the replica.
pub fn whole(shard: ShardId) -> [u8; 6] {
    shard_record(shard, WHOLE)
}

/// The key of the note that something of a conversation, which an entry of the log erased, is still to be
/// found on this node's disk; it stays with the replica.
pub fn erasure(shard: ShardId, index: u64, key: &ConversationKey) -> Vec<u8> {
    let mut bytes = shard_record(shard, ERASURE).to_vec();
    bytes.extend(index.to_be_bytes());
    bytes.extend(key.0);
    bytes
}

/// Where these notes lie: from, to.
pub fn erasures(shard: ShardId) -> ([u8; 6], [u8; 6]) {
    (
        shard_record(shard, ERASURE),
        shard_record(shard, ERASURE + 1),
    )
}

/// The log index and the conversation in the key of such a note.
pub fn parse_erasure(key: &[u8]) -> Option<(u64, ConversationKey)> {
    let rest = key.get(6..)?;
    let (index, key) = rest.split_first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*index),
        ConversationKey::from_slice(key)?,
    ))
}

/// The key of the note that something of a conversation may expire.
pub fn expiring(shard: ShardId, key: &ConversationKey) -> Vec<u8> {
    let mut bytes = shard_record(shard, EXPIRING).to_vec();
    bytes.extend(key.0);
    bytes
}

/// Where these notes lie from this conversation on: from, to.
pub fn expirings(shard: ShardId, from: &ConversationKey) -> (Vec<u8>, Vec<u8>) {
    let to = shard_record(shard, APPLIED).to_vec();
    (expiring(shard, from), to)
}

/// The conversation in the key of such a note.
pub fn parse_expiring(key: &[u8]) -> Option<ConversationKey> {
    ConversationKey::from_slice(key.get(6..)?)
}

/// Where everything of a conversation lies: from, to.
pub fn conversation(key: &ConversationKey) -> (Vec<u8>, Vec<u8>) {
    let (from, to) = (kind_start(key, 0), kind_start(key, u8::MAX));
    (from.to_vec(), to.to_vec())
}

fn shard_record(shard: ShardId, kind: u8) -> [u8; 6] {
    let [a, b, c, d] = shard.0.to_be_bytes();
    [TABLE_SHARD, a, b, c, d, kind]
}

/// Where the records of the shard itself lie: from, to.
pub fn shard_records(shard: ShardId) -> ([u8; 6], [u8; 6]) {
    (shard_record(shard, 0), shard_record(shard, u8::MAX))
}

/// Where those records of the shard lie that go to another replica: from, to.
pub fn shard_records_sent(shard: ShardId) -> ([u8; 6], [u8; 6]) {
    (shard_record(shard, 0), shard_record(shard, WHOLE))
}

/// Where the conversations of these slots lie: from, to. An empty range of slots gives an empty
/// range of keys.
pub fn conversations(slots: &RangeInclusive<u16>) -> (Vec<u8>, Vec<u8>) {
    let from = slot_start(u32::from(*slots.start()));
    if slots.is_empty() {
        return (from.clone(), from);
    }
    (from, slot_start(u32::from(*slots.end()) + 1))
}

/// The first key that a slot's conversations can have; of the slot behind the last, their end.
fn slot_start(slot: u32) -> Vec<u8> {
    if slot == Slot::COUNT {
        return vec![TABLE_CONVERSATION + 1];
    }
    let [_, _, high, low] = slot.to_be_bytes();
    vec![TABLE_CONVERSATION, high, low]
}

/// The key of a head.
pub fn head(key: &ConversationKey) -> [u8; HEAD_BYTES] {
    let mut bytes = [HEAD; HEAD_BYTES];
    bytes[0] = TABLE_CONVERSATION;
    bytes[1..PREFIX_BYTES].copy_from_slice(&key.0);
    bytes
}

/// The key of a message.
pub fn message(key: &ConversationKey, seq: u64) -> [u8; MESSAGE_BYTES] {
    numbered(key, MESSAGE, seq)
}

fn numbered(key: &ConversationKey, kind: u8, number: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [kind; MESSAGE_BYTES];
    bytes[0] = TABLE_CONVERSATION;
    bytes[1..PREFIX_BYTES].copy_from_slice(&key.0);
    bytes[HEAD_BYTES..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The key of the note of a change.
pub fn change(key: &ConversationKey, revision: u64) -> [u8; MESSAGE_BYTES] {
    numbered(key, CHANGE, revision)
}

/// Where the notes of changes behind revision `after`, up to `to`, lie: from, to.
pub fn changes(key: &ConversationKey, after: u64, to: u64) -> (Vec<u8>, Vec<u8>) {
    let bound = |revision: u64| match revision.checked_add(1) {
        Some(next) => change(key, next).to_vec(),
        None => kind_start(key, COUNTS).to_vec(),
    };
    (bound(after), bound(to))
}

/// The key of the counted reactions to a message.
pub fn counts(key: &ConversationKey, seq: u64) -> [u8; MESSAGE_BYTES] {
    numbered(key, COUNTS, seq)
}

/// Where the counted reactions to the messages `from <= seq <= to` lie: from, to.
pub fn counts_of(key: &ConversationKey, from: u64, to: u64) -> (Vec<u8>, Vec<u8>) {
    let end = match to.checked_add(1) {
        Some(end) => counts(key, end).to_vec(),
        None => kind_start(key, REACTION).to_vec(),
    };
    (counts(key, from).to_vec(), end)
}

/// The key of a reaction.
pub fn reaction(key: &ConversationKey, seq: u64, id: &ReactionId) -> [u8; REACTION_BYTES] {
    let mut bytes = [0; REACTION_BYTES];
    bytes[..MESSAGE_BYTES].copy_from_slice(&numbered(key, REACTION, seq));
    bytes[MESSAGE_BYTES..].copy_from_slice(id);
    bytes
}

/// Where all reactions to a message lie: from, to.
pub fn reactions(key: &ConversationKey, seq: u64) -> (Vec<u8>, Vec<u8>) {
    let end = match seq.checked_add(1) {
        Some(end) => numbered(key, REACTION, end).to_vec(),
        None => kind_start(key, REACTION + 1).to_vec(),
    };
    (numbered(key, REACTION, seq).to_vec(), end)
}

/// Where the reactions of one user to a message lie: from, to.
pub fn reactions_of(key: &ConversationKey, seq: u64, user: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut id = model::hash::reaction_id(user, b"");
    id[16..].fill(0);
    let from = reaction(key, seq, &id).to_vec();
    id[16..].fill(u8::MAX);
    // No kind hashes to this.
    (from, reaction(key, seq, &id).to_vec())
}

/// The key of the note that a message expires at a command time, Unix milliseconds.
pub fn expiry(key: &ConversationKey, at_ms: u64, seq: u64) -> [u8; EXPIRY_BYTES] {
    let mut bytes = [0; EXPIRY_BYTES];
    bytes[..MESSAGE_BYTES].copy_from_slice(&numbered(key, EXPIRY, at_ms));
    bytes[MESSAGE_BYTES..].copy_from_slice(&seq.to_be_bytes());
    bytes
}

/// Where the notes of messages that expire up to a command time lie: from, to.
pub fn expiries(key: &ConversationKey, to_ms: u64) -> (Vec<u8>, Vec<u8>) {
    let end = expiry(key, to_ms.saturating_add(1), 0);
    (kind_start(key, EXPIRY).to_vec(), end.to_vec())
}

/// Where a conversation's records of this kind begin.
fn kind_start(key: &ConversationKey, kind: u8) -> [u8; HEAD_BYTES] {
    let mut bytes = head(key);
    bytes[PREFIX_BYTES] = kind;
    bytes
}

/// Where the messages `from <= seq <= to` lie: from, to.
pub fn messages(key: &ConversationKey, from: u64, to: u64) -> ([u8; MESSAGE_BYTES], Vec<u8>) {
    let end = match to.checked_add(1) {
        Some(end) => message(key, end).to_vec(),
        None => dedups(key).0.to_vec(),
    };
    (message(key, from), end)
}

/// Where all of a conversation lies but its head and what is remembered of ids: from, to.
pub fn contents(key: &ConversationKey) -> [(Vec<u8>, Vec<u8>); 2] {
    let of = |first, end| {
        let (first, end) = (kind_start(key, first), kind_start(key, end));
        (first.to_vec(), end.to_vec())
    };
    [of(MESSAGE, DEDUP), of(CHANGE, EXPIRY + 1)]
}

/// The key of a dedup record.
pub fn dedup(key: &ConversationKey, id: &DedupId) -> [u8; DEDUP_BYTES] {
    let mut bytes = [DEDUP; DEDUP_BYTES];
    bytes[0] = TABLE_CONVERSATION;
    bytes[1..PREFIX_BYTES].copy_from_slice(&key.0);
    bytes[HEAD_BYTES..].copy_from_slice(id);
    bytes
}

/// Where the dedup records of a conversation lie: from, to.
pub fn dedups(key: &ConversationKey) -> ([u8; HEAD_BYTES], [u8; HEAD_BYTES]) {
    let mut from = head(key);
    let mut to = from;
    from[PREFIX_BYTES] = DEDUP;
    to[PREFIX_BYTES] = DEDUP + 1;
    (from, to)
}

/// What a key of a conversation names; `None` when it is no such key.
pub fn parse(key: &[u8]) -> Option<Named> {
    let (&table, rest) = key.split_first()?;
    let (conversation, rest) = rest.split_first_chunk::<16>()?;
    let (&kind, rest) = rest.split_first()?;
    let conversation = ConversationKey(*conversation);
    if table != TABLE_CONVERSATION {
        return None;
    }
    let number = |rest: &[u8]| rest.try_into().ok().map(u64::from_be_bytes);
    match kind {
        HEAD => rest.is_empty().then_some(Named::Head(conversation)),
        MESSAGE => Some(Named::Message(conversation, number(rest)?)),
        CHANGE => Some(Named::Change(conversation, number(rest)?)),
        COUNTS => Some(Named::Counts(conversation, number(rest)?)),
        REACTION => {
            let (seq, id) = rest.split_at_checked(8)?;
            let id = id.try_into().ok()?;
            Some(Named::Reaction(conversation, number(seq)?, id))
        }
        EXPIRY => {
            let (at_ms, seq) = rest.split_at_checked(8)?;
            Some(Named::Expiry(conversation, number(at_ms)?, number(seq)?))
        }
        DEDUP => Some(Named::Dedup(conversation, rest.try_into().ok()?)),
        _ => None,
    }
}

/// The key for people.
pub fn readable(key: &[u8]) -> String {
    if let [TABLE_SHARD, a, b, c, d, kind @ (APPLIED | CLUSTER | WHOLE)] = key {
        let shard = ShardId(u32::from_be_bytes([*a, *b, *c, *d]));
        let kind = match *kind {
            APPLIED => "applied",
            CLUSTER => "cluster",
            _ => "whole",
        };
        return format!("{shard}/{kind}");
    }
    if let [TABLE_SHARD, a, b, c, d, CLUSTER, ..] = key
        && let Some(number) = parse_audit(key)
    {
        let shard = ShardId(u32::from_be_bytes([*a, *b, *c, *d]));
        return format!("{shard}/audit/{number}");
    }
    let conversation = |key: ConversationKey| super::readable(&key.0);
    match parse(key) {
        Some(Named::Head(key)) => format!("{}/head", conversation(key)),
        Some(Named::Message(key, seq)) => format!("{}/message/{seq}", conversation(key)),
        Some(Named::Dedup(key, id)) => {
            format!("{}/dedup/{}", conversation(key), super::readable(&id))
        }
        Some(Named::Change(key, revision)) => format!("{}/change/{revision}", conversation(key)),
        Some(Named::Counts(key, seq)) => format!("{}/reactions/{seq}", conversation(key)),
        Some(Named::Reaction(key, seq, id)) => {
            format!(
                "{}/reaction/{seq}/{}",
                conversation(key),
                super::readable(&id)
            )
        }
        Some(Named::Expiry(key, at_ms, seq)) => {
            format!("{}/expiry/{at_ms}/{seq}", conversation(key))
        }
        None => super::readable(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_slot_conversation_kind_and_seq(
            a in any::<([u8; 16], u64)>(), b in any::<([u8; 16], u64)>(), same in any::<bool>(),
        ) {
            let b = if same { (a.0, b.1) } else { b };
            let (key_a, key_b) = (ConversationKey(a.0), ConversationKey(b.0));
            prop_assert_eq!(a.cmp(&b), message(&key_a, a.1).cmp(&message(&key_b, b.1)));
            prop_assert!(head(&key_a)[..] < message(&key_a, 0)[..]);
            prop_assert!(message(&key_a, u64::MAX)[..] < dedups(&key_a).0[..]);
            prop_assert_eq!(parse(&message(&key_a, a.1)), Some(Named::Message(key_a, a.1)));
            prop_assert_eq!(parse(&head(&key_a)), Some(Named::Head(key_a)));
            prop_assert_eq!(parse(&dedup(&key_a, &b.0)), Some(Named::Dedup(key_a, b.0)));
        }

        #[test]
        fn a_range_of_slots_holds_all_of_its_conversations_and_no_other(
            key in any::<[u8; 16]>(), id in any::<[u8; 16]>(),
            seq in any::<u64>(), a in any::<u16>(), b in any::<u16>(),
        ) {
            let key = ConversationKey(key);
            let slots = a.min(b)..=a.max(b);
            let (from, to) = conversations(&slots);
            for bytes in [&head(&key)[..], &message(&key, seq), &dedup(&key, &id)] {
                let inside = &from[..] <= bytes && bytes < &to[..];
                prop_assert_eq!(inside, slots.contains(&key.slot().0));
            }
        }

        #[test]
        fn a_range_of_messages_holds_exactly_them(
            seq in any::<u64>(), a in any::<u64>(), b in any::<u64>(),
        ) {
            let key = ConversationKey([7; 16]);
            let (from, to) = messages(&key, a.min(b), a.max(b));
            let bytes = message(&key, seq);
            let inside = from <= bytes && bytes[..] < to[..];
            prop_assert_eq!(inside, (a.min(b)..=a.max(b)).contains(&seq));
        }
    }

    #[test]
    fn the_whole_space_and_no_slot_at_all_are_ranges_too() {
        let (from, to) = conversations(&(0..=u16::MAX));
        assert_eq!((from, to), (vec![0x10, 0, 0], vec![0x11]));
        let (from, to) = conversations(&RangeInclusive::new(1, 0));
        assert_eq!(from, to);
    }

    #[test]
    fn keys_read_well_in_errors() {
        let key = ConversationKey([0xab; 16]);
        let hex = "ab".repeat(16);
        assert_eq!(readable(&applied(ShardId(3))), "s3/applied");
        assert_eq!(readable(&message(&key, 7)), format!("{hex}/message/7"));
        assert_eq!(readable(&head(&key)), format!("{hex}/head"));
        assert_eq!(readable(&[1, 2]), "0102");
        assert_eq!(readable(&audit(ShardId::META, 7)), "s0/audit/7");
    }

    #[test]
    fn records_of_the_audit_lie_behind_the_cluster_and_go_to_other_replicas() {
        let (from, to) = shard_records_sent(ShardId::META);
        for number in [0, 1, 300, u64::MAX] {
            let key = audit(ShardId::META, number);
            assert!(
                cluster(ShardId::META)[..] < key[..] && from[..] <= key[..] && key[..] < to[..]
            );
            assert_eq!(parse_audit(&key), Some(number));
            let (first, end) = audits(ShardId::META, number, u64::MAX);
            assert!(first == key && end[..] == whole(ShardId::META)[..]);
        }
        assert_eq!(parse_audit(&cluster(ShardId::META)), None);
    }
}
