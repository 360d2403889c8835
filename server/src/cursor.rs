//! Cursors of feeds: for each range of slots the revision up to which changes were told.
//!
//! ```text
//! base64url( version 1 | kind 5 | hash of the tenant 8 | { first slot 2 | last slot 2 | revision 8 }… | check 4 )
//! ```
//!
//! Ranges are in the order of slots. A split hands a shard's revision to both halves, and replicas move with
//! theirs, so a cursor holds after both.

use std::ops::RangeInclusive;

use crate::sealed::{open, seal, tenant_hash};

const VERSION: u8 = 1;
/// Those of [`crate::token`] and of pages of reactions are 1 to 4.
const KIND: u8 = 5;
const HEAD_BYTES: usize = 2 + 8;
/// Bytes of a range.
pub const RANGE_BYTES: usize = 2 + 2 + 8;
/// Ranges of one cursor, most: as long as a request may be.
const RANGES_MAX: usize = 3_000;

/// Positions in slots, in the order of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Vec<Range>);

impl Cursor {
    /// The beginning of all slots.
    pub fn whole() -> Cursor {
        Cursor(vec![(0..=u16::MAX, 0)])
    }

    /// The ranges and their revisions.
    pub fn ranges(&self) -> impl Iterator<Item = (RangeInclusive<u16>, u64)> {
        self.0.iter().cloned()
    }

    /// Where it begins.
    pub fn first_slot(&self) -> Option<u16> {
        self.0.first().map(|(slots, _)| *slots.start())
    }

    /// Adds a range behind all others.
    pub fn push(&mut self, slots: RangeInclusive<u16>, revision: u64) {
        match self.0.last_mut() {
            Some((before, same))
                if *same == revision && before.end().checked_add(1) == Some(*slots.start()) =>
            {
                *before = *before.start()..=*slots.end();
            }
            _ => self.0.push((slots, revision)),
        }
    }

    /// Adds another, which lies behind this one.
    pub fn extend(&mut self, other: Cursor) {
        for (slots, revision) in other.0 {
            self.push(slots, revision);
        }
    }

    /// What of it lies within these slots.
    #[must_use]
    pub fn within(&self, slots: &RangeInclusive<u16>) -> Cursor {
        let mut within = Cursor::default();
        for (own, revision) in &self.0 {
            let first = *own.start().max(slots.start());
            let last = *own.end().min(slots.end());
            if first <= last {
                within.push(first..=last, *revision);
            }
        }
        within
    }

    /// As text, of a tenant. Where there are more ranges than a cursor may have, neighbours are taken together
    /// at the lower revision: what lies between comes once more.
    pub fn encode(&self, tenant: &str) -> String {
        let mut ranges = self.0.clone();
        while ranges.len() > RANGES_MAX {
            let pairs = ranges.chunks(2);
            ranges = pairs
                .map(|pair| {
                    let (first, last) = (&pair[0], &pair[pair.len() - 1]);
                    (*first.0.start()..=*last.0.end(), first.1.min(last.1))
                })
                .collect();
        }
        let mut bytes = vec![VERSION, KIND];
        bytes.extend(tenant_hash(tenant));
        put_ranges(&mut bytes, &ranges);
        seal(bytes)
    }

    /// Reads one that must be of this tenant.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(text: &str, tenant: &str) -> Result<Cursor, &'static str> {
        const MALFORMED: &str = "is not a cursor this cluster gave";
        let said = open(text, HEAD_BYTES + RANGE_BYTES * RANGES_MAX);
        let said = said.filter(|said| said.len() >= HEAD_BYTES);
        let said = said.ok_or(MALFORMED)?;
        if said[..2] != [VERSION, KIND] {
            return Err("is a token of another method, or of a later version");
        }
        if said[2..HEAD_BYTES] != tenant_hash(tenant) {
            return Err("belongs to another tenant");
        }
        ranges_of(&said[HEAD_BYTES..]).map(Cursor).ok_or(MALFORMED)
    }
}

/// A range of slots, and a revision of it.
pub type Range = (RangeInclusive<u16>, u64);

/// Adds ranges to what a cursor says.
pub fn put_ranges(bytes: &mut Vec<u8>, ranges: &[Range]) {
    for (slots, revision) in ranges {
        bytes.extend(slots.start().to_be_bytes());
        bytes.extend(slots.end().to_be_bytes());
        bytes.extend(revision.to_be_bytes());
    }
}

/// The ranges in what stands behind the head; none unless they are whole and in the order of slots.
pub fn ranges_of(bytes: &[u8]) -> Option<Vec<Range>> {
    let encoded = bytes.chunks_exact(RANGE_BYTES);
    if !encoded.remainder().is_empty() {
        return None;
    }
    let mut ranges: Vec<Range> = Vec::with_capacity(encoded.len());
    for range in encoded {
        let slot = |at: usize| u16::from_be_bytes([range[at], range[at + 1]]);
        let mut revision = [0; 8];
        revision.copy_from_slice(&range[4..]);
        let last = ranges.last().map(|(slots, _)| *slots.end());
        if slot(0) > slot(2) || last.is_some_and(|last| slot(0) <= last) {
            return None;
        }
        ranges.push((slot(0)..=slot(2), u64::from_be_bytes(revision)));
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn cursor() -> Cursor {
        let mut cursor = Cursor::default();
        cursor.push(0..=9, 7);
        cursor.push(10..=20, 7);
        cursor.push(21..=u16::MAX, 1 << 40);
        cursor
    }

    #[test]
    fn a_cursor_survives_its_text_and_its_damage_is_noticed() {
        assert_eq!(
            cursor().ranges().count(),
            2,
            "neighbours at one revision are one"
        );
        let text = cursor().encode("acme");
        assert_eq!(Cursor::decode(&text, "acme"), Ok(cursor()));
        assert!(Cursor::decode(&text, "other").is_err());
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("own text");
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let damaged = URL_SAFE_NO_PAD.encode(&bytes);
            assert!(Cursor::decode(&damaged, "acme").is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(Cursor::decode(&"A".repeat(1 << 20), "acme").is_err());
    }

    /// Golden: what was once given is taken for ever.
    #[test]
    fn the_text_of_a_cursor_never_changes() {
        let mut one = Cursor::default();
        one.push(0..=u16::MAX, 258);
        assert!(
            one.encode("acme").starts_with("AQ"),
            "{}",
            one.encode("acme")
        );
        assert_eq!(
            Cursor::decode(&one.encode("acme"), "acme").map(|c| c.ranges().collect::<Vec<_>>()),
            Ok(vec![(0..=u16::MAX, 258)])
        );
    }

    #[test]
    fn parts_of_a_cursor_make_it_up_again() {
        let mut again = cursor().within(&(0..=15));
        assert_eq!(again.first_slot(), Some(0));
        again.extend(cursor().within(&(16..=u16::MAX)));
        assert_eq!(again, cursor());
        assert_eq!(
            cursor().within(&(30..=40)).ranges().collect::<Vec<_>>(),
            [(30..=40, 1 << 40)]
        );
    }

    #[test]
    fn too_many_ranges_are_taken_together_at_the_lower_revision() {
        let mut many = Cursor::default();
        for slot in 0..=u16::MAX {
            many.push(slot..=slot, u64::from(slot % 2) + 5);
        }
        let read = Cursor::decode(&many.encode("acme"), "acme").expect("valid");
        assert!(read.ranges().count() <= RANGES_MAX);
        assert!(read.ranges().all(|(_, revision)| revision == 5));
        assert_eq!(
            read.ranges().last().map(|(slots, _)| *slots.end()),
            Some(u16::MAX)
        );
    }
}
