//! Where an entry stands in a shard's log.

use std::fmt;

/// An entry's term and index; ordered by term, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its number in the log.
    pub index: u64,
}

impl Position {
    /// Bytes of a stored position.
    pub const BYTES: usize = 16;

    /// As stored: `[term u64][index u64]`, big-endian, so that positions sort as their bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.term.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// Reads what [`Position::to_bytes`] wrote; `None` when the length is another.
    pub fn from_bytes(bytes: &[u8]) -> Option<Position> {
        let bytes: [u8; Self::BYTES] = bytes.try_into().ok()?;
        let (term, index) = bytes.split_at(8);
        Some(Position {
            term: u64::from_be_bytes(term.try_into().ok()?),
            index: u64::from_be_bytes(index.try_into().ok()?),
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_sort_as_their_bytes_and_read_back(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
            let position = |(term, index)| Position { term, index };
            let (a, b) = (position(a), position(b));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert_eq!(Position::from_bytes(&a.to_bytes()), Some(a));
            prop_assert_eq!(Position::from_bytes(&a.to_bytes()[1..]), None);
        }
    }
}
