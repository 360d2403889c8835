//! Session tokens (promise S): what a session has seen, so that any node can tell whether its
//! replica has as much. A token names positions as (slot, revision): a shard's revision survives
//! splits, merges and moves, and a slot is a slot for ever.
//!
//! ```text
//! base64url( version 1 | rest 1 | count 1 | count × ( slot 2 | revision 8 ) | check 4 )
//! ```
//!
//! Slots ascend. `rest` is 1 in the token of a session that has seen more slots than a token names:
//! of those it names none of, everything that was acknowledged must be shown. Integers are
//! big-endian; the check is the low 32 bits of xxh3-128 over all before it. It finds damage and
//! keeps nobody from making one: a token grants nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::hash::record_hash;
use crate::id::{ConversationName, Slot};
use crate::limits::SESSION_SLOTS_MAX;

const VERSION: u8 = 1;
const HEAD: usize = 3;
const ENTRY: usize = 2 + 8;
const CHECK: usize = 4;
const BYTES_MAX: usize = HEAD + SESSION_SLOTS_MAX * ENTRY + CHECK;
/// Longest token, characters.
pub const TEXT_MAX: usize = BYTES_MAX.div_ceil(3) * 4;

/// What a session has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    seen: BTreeMap<Slot, u64>,
    rest: bool,
}

/// What a read must show at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// A replica that has applied this many changes; 0 = any.
    Revision(u64),
    /// Everything that was acknowledged.
    Everything,
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Damaged, cut off, or never a token.
    #[error("is not a session token this cluster gave")]
    Malformed,
    /// Of a later version of the software.
    #[error("was given by a later version")]
    Version,
}

impl Token {
    /// Of a session that has seen `revision` of the shard that holds `slot`.
    pub fn of(slot: Slot, revision: u64) -> Token {
        Token {
            seen: BTreeMap::from([(slot, revision)]),
            rest: false,
        }
    }

    /// Of a session that was told `revision` of a conversation; none when the name is none.
    pub fn of_conversation(name: &str, revision: u64) -> Option<Token> {
        let name = ConversationName::parse(name).ok()?;
        Some(Token::of(name.key().slot(), revision))
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && !self.rest
    }

    /// What a read of `slot` must show.
    pub fn floor(&self, slot: Slot) -> Floor {
        match self.seen.get(&slot) {
            Some(revision) => Floor::Revision(*revision),
            None if self.rest => Floor::Everything,
            None => Floor::Revision(0),
        }
    }

    /// Takes in what another token has seen.
    pub fn merge(&mut self, other: &Token) {
        // A slot that only one of them names may be among the rest of the other; what was seen of
        // it is then not known, so that it must stay there.
        let (mine, theirs) = (self.rest, other.rest);
        if mine || theirs {
            let named = |slot: &Slot| {
                (!mine || self.seen.contains_key(slot))
                    && (!theirs || other.seen.contains_key(slot))
            };
            let both: BTreeMap<Slot, u64> = self
                .seen
                .iter()
                .chain(&other.seen)
                .map(|(slot, revision)| (*slot, *revision))
                .fold(BTreeMap::new(), highest);
            self.seen = both.into_iter().filter(|(slot, _)| named(slot)).collect();
            self.rest = true;
        } else {
            let seen = other.seen.iter().map(|(slot, revision)| (*slot, *revision));
            self.seen = seen.fold(std::mem::take(&mut self.seen), highest);
        }
        while self.seen.len() > SESSION_SLOTS_MAX {
            self.seen.pop_last();
            self.rest = true;
        }
    }

    /// As text: 20 characters and 13 or 14 for each slot; empty when it has seen nothing.
    pub fn encode(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut bytes = Vec::with_capacity(HEAD + self.seen.len() * ENTRY + CHECK);
        let count = u8::try_from(self.seen.len()).unwrap_or(u8::MAX);
        bytes.extend([VERSION, u8::from(self.rest), count]);
        for (slot, revision) in self.seen.iter().take(usize::from(count)) {
            bytes.extend(slot.0.to_be_bytes());
            bytes.extend(revision.to_be_bytes());
        }
        bytes.extend(check_of(&bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; the empty text is that of a session that has seen nothing.
    ///
    /// # Errors
    /// [`enum@Error`] saying what is wrong with it.
    pub fn decode(text: &str) -> Result<Token, Error> {
        if text.is_empty() {
            return Ok(Token::default());
        }
        if text.len() > TEXT_MAX {
            return Err(Error::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Malformed)?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK>().ok_or(Error::Malformed)?;
        if check_of(bytes) != *check {
            return Err(Error::Malformed);
        }
        let ([version, rest, count], entries) =
            bytes.split_first_chunk::<HEAD>().ok_or(Error::Malformed)?;
        if *version != VERSION {
            return Err(Error::Version);
        }
        if *rest > 1 || entries.len() != usize::from(*count) * ENTRY {
            return Err(Error::Malformed);
        }
        let seen: BTreeMap<Slot, u64> = entries.chunks_exact(ENTRY).filter_map(entry).collect();
        if seen.len() != usize::from(*count) || seen.len() > SESSION_SLOTS_MAX {
            return Err(Error::Malformed);
        }
        Ok(Token {
            seen,
            rest: *rest == 1,
        })
    }
}

fn highest(mut all: BTreeMap<Slot, u64>, (slot, revision): (Slot, u64)) -> BTreeMap<Slot, u64> {
    let known = all.entry(slot).or_default();
    *known = revision.max(*known);
    all
}

fn entry(bytes: &[u8]) -> Option<(Slot, u64)> {
    let (slot, revision) = bytes.split_first_chunk::<2>()?;
    Some((
        Slot(u16::from_be_bytes(*slot)),
        u64::from_be_bytes(revision.try_into().ok()?),
    ))
}

fn check_of(bytes: &[u8]) -> [u8; CHECK] {
    let [a, b, c, d, ..] = record_hash(bytes).to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(seen: &[(u16, u64)]) -> Token {
        let mut token = Token::default();
        for (slot, revision) in seen {
            token.merge(&Token::of(Slot(*slot), *revision));
        }
        token
    }

    proptest! {
        #[test]
        fn a_token_survives_its_text(seen in prop::collection::vec((any::<u16>(), any::<u64>()), 0..200)) {
            let token = token(&seen);
            let text = token.encode();
            prop_assert!(text.len() <= TEXT_MAX);
            prop_assert_eq!(Token::decode(&text), Ok(token));
        }

        #[test]
        fn a_merged_token_asks_for_no_less_than_either(
            a in prop::collection::vec((0_u16..300, 1_u64..9), 0..200),
            b in prop::collection::vec((0_u16..300, 1_u64..9), 0..200),
        ) {
            let (a, b) = (token(&a), token(&b));
            let mut both = a.clone();
            both.merge(&b);
            for slot in (0..300).map(Slot) {
                let needs = |token: &Token| match token.floor(slot) {
                    Floor::Revision(revision) => revision,
                    Floor::Everything => u64::MAX,
                };
                prop_assert!(needs(&both) >= needs(&a).max(needs(&b)), "{:?}", slot);
            }
        }
    }

    #[test]
    fn a_session_of_more_conversations_than_fit_reads_the_others_as_just_written() {
        let most = u16::try_from(SESSION_SLOTS_MAX).unwrap();
        let all: Vec<(u16, u64)> = (0..=most).map(|slot| (slot, 7)).collect();
        let token = token(&all);
        assert_eq!(token.floor(Slot(0)), Floor::Revision(7));
        assert_eq!(token.floor(Slot(most)), Floor::Everything);
        assert_eq!(Token::decode(&token.encode()), Ok(token));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let text = token(&[(1, 2), (500, 1 << 40)]).encode();
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let damaged = URL_SAFE_NO_PAD.encode(damaged);
            assert_eq!(Token::decode(&damaged), Err(Error::Malformed), "byte {at}");
        }
        for len in 1..text.len() {
            assert_eq!(Token::decode(&text[..len]), Err(Error::Malformed), "{len}");
        }
        let long = "A".repeat(1 << 20);
        assert_eq!(Token::decode(&long), Err(Error::Malformed));
    }

    #[test]
    fn the_text_of_a_token_never_changes() {
        assert_eq!(Token::default().encode(), "");
        let text = token(&[(1, 2), (500, 1 << 40)]).encode();
        assert_eq!(&text[..31], "AQACAAEAAAAAAAAAAgH0AAABAAAAAAD");
    }
}
