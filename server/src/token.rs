//! Page tokens and tail cursors: positions in one conversation that any node understands.
//!
//! ```text
//! base64url( version 1 | kind | flags | conversation key 16 | incarnation 8 | next seq 8 | check 4 )
//! base64url( version 1 | kind 3 | flags | … | next seq 8 | revision 8 | check 4 )
//! ```
//!
//! The second is a cursor of a tail that knows up to which revision its messages are; the first, of
//! kind 2, is of one from before messages could change.
//!
//! Integers are big-endian; the check is as in [`crate::sealed`].

use model::id::ConversationKey;
use thiserror::Error;

use crate::sealed::{open, seal};

const VERSION: u8 = 1;
const BYTES: usize = 3 + 16 + 8 + 8;
const REVISION_BYTES: usize = 8;
const CURSOR_BYTES: usize = BYTES + REVISION_BYTES;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The next page of a list.
    Page {
        /// Whether the list goes from new to old.
        descending: bool,
        /// Whether the page is the one before, which ends with `next_seq`.
        back: bool,
    },
    /// A position of a tail.
    Cursor,
}

/// A position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is for.
    pub kind: Kind,
    /// The conversation it belongs to.
    pub key: ConversationKey,
    /// Which life of the conversation.
    pub incarnation: u64,
    /// The seq to go on with.
    pub next_seq: u64,
    /// Of a cursor: the changes up to this revision were delivered. Not known of old ones.
    pub revision: Option<u64>,
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Damaged, cut off, or never a token.
    #[error("is not a token this cluster gave")]
    Malformed,
    /// Of a later version of the software.
    #[error("was given by a later version")]
    Version,
    /// A cursor where a page token belongs, or the other way round.
    #[error("is a token of another method")]
    Kind,
    /// For another conversation.
    #[error("belongs to another conversation")]
    Conversation,
}

impl Token {
    /// As text.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(CURSOR_BYTES);
        let kind = match (self.kind, self.revision) {
            (Kind::Page { descending, back }, _) => [1, u8::from(descending) | u8::from(back) << 1],
            (Kind::Cursor, None) => [2, 0],
            (Kind::Cursor, Some(_)) => [3, 0],
        };
        bytes.push(VERSION);
        bytes.extend(kind);
        bytes.extend(self.key.0);
        bytes.extend(self.incarnation.to_be_bytes());
        bytes.extend(self.next_seq.to_be_bytes());
        if let (Kind::Cursor, Some(revision)) = (self.kind, self.revision) {
            bytes.extend(revision.to_be_bytes());
        }
        seal(bytes)
    }

    /// Reads a token that must be of this kind (the direction of a page aside) and for this
    /// conversation.
    ///
    /// # Errors
    /// [`enum@Error`] saying what is wrong with it.
    pub fn decode(text: &str, cursor: bool, key: ConversationKey) -> Result<Token, Error> {
        let bytes = open(text, CURSOR_BYTES).ok_or(Error::Malformed)?;
        if !matches!(bytes.len(), BYTES | CURSOR_BYTES) {
            return Err(Error::Malformed);
        }
        if bytes[0] != VERSION {
            return Err(Error::Version);
        }
        let with_revision = bytes.len() > BYTES;
        let kind = match (bytes[1], bytes[2], with_revision) {
            (1, flags @ 0..=3, false) => Kind::Page {
                descending: flags & 1 != 0,
                back: flags & 2 != 0,
            },
            (2, 0, false) | (3, 0, true) => Kind::Cursor,
            _ => return Err(Error::Malformed),
        };
        if (kind == Kind::Cursor) != cursor {
            return Err(Error::Kind);
        }
        let number = |from: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[from..from + 8]);
            u64::from_be_bytes(number)
        };
        let token = Token {
            kind,
            key: ConversationKey::from_slice(&bytes[3..19]).ok_or(Error::Malformed)?,
            incarnation: number(19),
            next_seq: number(27),
            revision: with_revision.then(|| number(35)),
        };
        if token.key != key {
            return Err(Error::Conversation);
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const KEY: ConversationKey = ConversationKey([7; 16]);

    fn token(kind: Kind) -> Token {
        Token {
            kind,
            key: KEY,
            incarnation: 3,
            next_seq: 1 << 40,
            revision: None,
        }
    }

    fn page(descending: bool, back: bool) -> Kind {
        Kind::Page { descending, back }
    }

    #[test]
    fn a_cursor_with_a_revision_survives_its_text_and_its_damage_is_noticed() {
        let cursor = Token {
            revision: Some(77),
            ..token(Kind::Cursor)
        };
        let text = cursor.encode();
        assert_eq!(Token::decode(&text, true, KEY), Ok(cursor));
        assert_eq!(Token::decode(&text, false, KEY), Err(Error::Kind));
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).expect("own text");
        bytes[40] ^= 1;
        let damaged = URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!(Token::decode(&damaged, true, KEY), Err(Error::Malformed));
    }

    #[test]
    fn a_token_survives_its_text() {
        for kind in [
            page(false, false),
            page(true, false),
            page(false, true),
            page(true, true),
            Kind::Cursor,
        ] {
            let text = token(kind).encode();
            assert_eq!(
                Token::decode(&text, kind == Kind::Cursor, KEY),
                Ok(token(kind))
            );
        }
    }

    #[test]
    fn a_token_for_something_else_is_refused_by_name() {
        let cursor = token(Kind::Cursor).encode();
        assert_eq!(Token::decode(&cursor, false, KEY), Err(Error::Kind));
        let other = ConversationKey([8; 16]);
        assert_eq!(
            Token::decode(&cursor, true, other),
            Err(Error::Conversation)
        );
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let text = token(Kind::Cursor).encode();
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("own text");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let damaged = URL_SAFE_NO_PAD.encode(damaged);
            assert_eq!(
                Token::decode(&damaged, true, KEY),
                Err(Error::Malformed),
                "byte {at}"
            );
        }
        for len in 0..text.len() {
            assert_eq!(
                Token::decode(&text[..len], true, KEY),
                Err(Error::Malformed),
                "{len}"
            );
        }
        assert_eq!(
            Token::decode(&"A".repeat(1 << 20), true, KEY),
            Err(Error::Malformed)
        );
    }

    #[test]
    fn the_text_of_a_token_never_changes() {
        assert_eq!(
            &token(Kind::Cursor).encode()[..46],
            "AQIABwcHBwcHBwcHBwcHBwcHBwAAAAAAAAADAAABAAAAAA"
        );
    }
}
