//! Notes of records that a database has lost: a compaction met a damaged block, and the next opening
//! copied all records but those that lie together with what cannot be read.
//!
//! ```text
//!   lost   [0xfe][what the lost keys begin with]
//!            state   [0x10][slot u16]        all conversations of a slot
//!                    [0x01][shard u32]       what a shard knows of itself
//!            log     [0x02][shard u32]       all of a shard
//!                    [0x01][…4 bytes]        records of the node itself
//! ```
//!
//! Whoever opens a shard looks for them: it is as broken as by a record that is corrupt. They go with
//! the removal of the range that they stand in. The table byte is permanent.

/// The table of the notes, behind all others.
const TABLE_LOST: u8 = 0xfe;
const TABLE_CONVERSATION: u8 = 0x10;
/// The tables that either database has.
pub const TABLES: [u8; 3] = [0x01, 0x02, TABLE_CONVERSATION];

/// What all that is lost together with `key` begins with.
pub fn group(key: &[u8]) -> &[u8] {
    let len = match key.first() {
        Some(&TABLE_CONVERSATION) => 3,
        Some(_) | None => 5,
    };
    &key[..key.len().min(len)]
}

/// The note of a group, or a bound of those of a range of keys.
pub fn note(group: &[u8]) -> Vec<u8> {
    [&[TABLE_LOST], group].concat()
}

/// Whether a key is that of a note.
pub fn is_note(key: &[u8]) -> bool {
    key.first() == Some(&TABLE_LOST)
}

/// Where the notes lie of all that lies in a range of keys: from, to.
pub fn notes(from: &[u8], to: &[u8]) -> (Vec<u8>, Vec<u8>) {
    // The first group may begin before the range does.
    (note(group(from)), note(to))
}

#[cfg(test)]
mod tests {
    use model::id::{ConversationKey, ShardId};

    use super::*;
    use crate::key;

    #[test]
    fn a_shard_finds_the_notes_of_what_it_lost_and_of_nothing_else() {
        let within = |(from, to): (Vec<u8>, Vec<u8>), key: &[u8]| {
            let note = note(group(key));
            from <= note && note < to
        };
        let conversation = ConversationKey([7; 16]);
        let slot = conversation.slot().0;
        let message = key::state::message(&conversation, 3);
        let slots = |slots| {
            let (from, to) = key::state::conversations(&slots);
            notes(&from, &to)
        };
        assert!(within(slots(slot..=slot), &message));
        assert!(within(slots(0..=u16::MAX), &message));
        assert!(!within(slots(0..=slot - 1), &message));
        assert!(!within(slots(slot + 1..=u16::MAX), &message));
        let shard = ShardId(7);
        let (from, to) = key::state::shard_records(shard);
        assert!(within(notes(&from, &to), &key::state::applied(shard)));
        assert!(!within(notes(&from, &to), &key::state::applied(ShardId(8))));
        let (from, to) = key::log::shard(shard);
        assert!(within(notes(&from, &to), &key::log::entry(shard, 9)));
        assert!(!within(notes(&from, &to), &key::log::entry(ShardId(6), 9)));
        let (from, to) = key::log::locals();
        assert!(within(notes(&from, &to), &key::log::local("identity")));
    }
}
