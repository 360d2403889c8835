//! The cursor of a stream that follows many conversations: up to which revision of each range of slots all has
//! been delivered. It names no conversation, so that its size does not grow with them.
//!
//! ```text
//! base64url( version 1 | count 2 | (first slot 2 | last slot 2 | revision 8) × count | check 4 )
//! ```
//!
//! Integers are big-endian. A revision is the shard's, which moves on with its slots; so a cursor is good on
//! every node.

use std::ops::RangeInclusive;

use model::id::Slot;

use crate::cursor::{RANGE_BYTES, Range, put_ranges, ranges_of};
use crate::sealed::{open, seal};
use crate::token::Error;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 3;

/// Positions by ranges of slots, which do not overlap, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    ranges: Vec<Range>,
}

impl Position {
    /// Up to which revision everything of a slot was delivered; none when nothing is known.
    pub fn of(&self, slot: Slot) -> Option<u64> {
        let after = self
            .ranges
            .partition_point(|(slots, _)| *slots.start() <= slot.0);
        let (slots, revision) = self.ranges.get(after.checked_sub(1)?)?;
        slots.contains(&slot.0).then_some(*revision)
    }

    /// Everything of these slots was delivered up to this revision; whether that is news. What was known of
    /// ranges that overlap is given up: their shards were laid out otherwise.
    pub fn reach(&mut self, slots: RangeInclusive<u16>, revision: u64) -> bool {
        if let Some((_, held)) = self.ranges.iter_mut().find(|(held, _)| *held == slots) {
            let news = *held < revision;
            *held = revision.max(*held);
            return news;
        }
        let apart = |other: &RangeInclusive<u16>| {
            other.end() < slots.start() || other.start() > slots.end()
        };
        self.ranges.retain(|(other, _)| apart(other));
        let at = self
            .ranges
            .partition_point(|(other, _)| other.start() < slots.start());
        self.ranges.insert(at, (slots, revision));
        true
    }

    /// The ranges and their revisions.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().cloned()
    }

    /// As text; empty when nothing is known.
    pub fn encode(&self) -> String {
        let Some(count) = u16::try_from(self.ranges.len()).ok().filter(|n| *n > 0) else {
            return String::new();
        };
        let [high, low] = count.to_be_bytes();
        let mut bytes = vec![VERSION, high, low];
        put_ranges(&mut bytes, &self.ranges);
        seal(bytes)
    }

    /// Reads what [`Position::encode`] wrote.
    ///
    /// # Errors
    /// [`enum@Error`] saying what is wrong with it.
    pub fn decode(text: &str) -> Result<Position, Error> {
        if text.is_empty() {
            return Ok(Position::default());
        }
        let most = HEAD_BYTES + RANGE_BYTES * usize::from(u16::MAX);
        let said = open(text, most).filter(|said| said.len() >= HEAD_BYTES);
        let said = said.ok_or(Error::Malformed)?;
        if said[0] != VERSION {
            return Err(Error::Version);
        }
        let count = usize::from(u16::from_be_bytes([said[1], said[2]]));
        let ranges = ranges_of(&said[HEAD_BYTES..]);
        let ranges = ranges.filter(|ranges| ranges.len() == count);
        let ranges = ranges.ok_or(Error::Malformed)?;
        Ok(Position { ranges })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_position_is_known_within_its_range_and_only_grows() {
        let mut position = Position::default();
        assert_eq!(position.encode(), "");
        assert!(position.reach(100..=199, 7) && position.reach(0..=9, 3));
        assert!(!position.reach(100..=199, 6) && position.reach(100..=199, 8));
        assert_eq!(position.of(Slot(150)), Some(8));
        assert_eq!(
            (position.of(Slot(10)), position.of(Slot(200))),
            (None, None)
        );
        // A shard that was laid out otherwise.
        assert!(position.reach(150..=300, 9));
        assert_eq!(
            (position.of(Slot(120)), position.of(Slot(299))),
            (None, Some(9))
        );
    }

    #[test]
    fn the_text_of_a_cursor_never_changes() {
        let mut position = Position::default();
        position.reach(0..=16_383, 300);
        assert_eq!(&position.encode()[..20], "AQABAAA__wAAAAAAAAEs");
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text_and_no_damage_passes(
            ranges in proptest::collection::btree_map(0..600u16, any::<u64>(), 1..40),
            at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let mut position = Position::default();
            for (start, revision) in ranges {
                position.reach(start * 100..=start * 100 + 99, revision);
            }
            let text = position.encode();
            prop_assert_eq!(Position::decode(&text), Ok(position));
            let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Position::decode(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }

        #[test]
        fn nothing_that_is_sent_as_a_cursor_panics(text in ".{0,80}") {
            let _ = Position::decode(&text);
        }
    }
}
