//! Records of `msgdb` as bytes, so that a flipped bit is found and never answered.
//!
//! ```text
//!   [crc32c of key and record, u32 little-endian][record: protobuf, its first field the format]
//! ```
//!
//! The sum covers the key too: a record under another key is as corrupt as a changed one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::mutant;
use prost::Message;

use crate::{Error, key};

/// The format that this version writes in every record.
pub(crate) const FORMAT: u32 = 1;
/// What errors call the database.
pub(crate) const FILE: &str = "msgdb";

/// What stands before every record of the state: its sum, bytes.
pub const SUM_BYTES: usize = 4;

/// Records that say in which format they are.
pub(crate) trait Record: Message + Default {
    fn format(&self) -> u32;
}

impl Record for model::state::Conversation {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::state::Stored {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::state::Dedup {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::state::Reactions {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::state::Reaction {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::state::Expiring {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::state::Changed {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for model::cluster::ClusterState {
    fn format(&self) -> u32 {
        self.format
    }
}

/// Cuts keys and values out of pieces of memory, each larger than the one before: one allocation for
/// hundreds of them.
#[derive(Default)]
pub(crate) struct Arena {
    bytes: BytesMut,
    piece_bytes: usize,
}

impl Arena {
    /// The first piece, and the largest.
    const PIECE_BYTES: (usize, usize) = (1024, 64 * 1024);

    fn room(&mut self, len: usize) {
        if self.bytes.capacity() - self.bytes.len() < len {
            let (first, most) = Self::PIECE_BYTES;
            self.piece_bytes = (2 * self.piece_bytes).clamp(first, most);
            self.bytes = BytesMut::with_capacity(len.max(self.piece_bytes));
        }
    }

    /// Gives back what is left of the last piece: each of thousands of shards has an arena.
    pub(crate) fn rest(&mut self) {
        *self = Arena::default();
    }

    /// A copy of a key.
    pub(crate) fn key(&mut self, key: &[u8]) -> Bytes {
        self.room(key.len());
        self.bytes.put_slice(key);
        self.bytes.split().freeze()
    }

    /// The value for an encoded record.
    pub(crate) fn seal(&mut self, key: &[u8], record: &[u8]) -> Bytes {
        self.room(SUM_BYTES + record.len());
        self.bytes.put_u32_le(sum(key, record));
        self.bytes.put_slice(record);
        self.bytes.split().freeze()
    }

    /// The value for a record.
    pub(crate) fn seal_message(&mut self, key: &[u8], record: &impl Message) -> Bytes {
        let len = record.encoded_len();
        self.room(SUM_BYTES + len);
        self.bytes.put_bytes(0, SUM_BYTES);
        record.encode_raw(&mut self.bytes);
        let sum = sum(key, &self.bytes[SUM_BYTES..]);
        self.bytes[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
        self.bytes.split().freeze()
    }
}

/// The encoded record in a value.
///
/// # Errors
/// [`Error::Corrupt`] when the sum does not fit.
pub(crate) fn open(key: &[u8], value: Bytes) -> Result<Bytes, Error> {
    check(key, &value)?;
    let mut record = value;
    record.advance(SUM_BYTES);
    Ok(record)
}

/// The same without an owner: the record's part of the value.
pub(crate) fn check<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], Error> {
    let Some((written, record)) = value.split_first_chunk::<SUM_BYTES>() else {
        return Err(corrupt(key, format!("{} bytes are no record", value.len())));
    };
    let written = u32::from_le_bytes(*written);
    let found = sum(key, record);
    if written != found && !mutant!("corrupt-record-accepted") {
        return Err(corrupt(
            key,
            format!("its sum is {found:08x}, written was {written:08x}"),
        ));
    }
    Ok(record)
}

/// The record in a value.
///
/// # Errors
/// [`Error::Corrupt`], or [`Error::Format`] when a later version wrote it.
pub(crate) fn decode<R: Record>(key: &[u8], value: Bytes) -> Result<R, Error> {
    let record = R::decode(open(key, value)?).map_err(|e| corrupt(key, e.to_string()))?;
    if record.format() > FORMAT {
        return Err(Error::Format {
            file: FILE.into(),
            found: record.format(),
            known: FORMAT,
        });
    }
    if record.format() == 0 {
        return Err(corrupt(key, "it has no format".into()));
    }
    Ok(record)
}

pub(crate) fn corrupt(key: &[u8], reason: String) -> Error {
    Error::Corrupt {
        file: FILE.into(),
        key: key::state::readable(key),
        reason,
    }
}

fn sum(key: &[u8], record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::state::Dedup;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_comes_back_and_no_flipped_bit_passes(
            seq in any::<u64>(), hash in any::<[u8; 16]>(), at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let key = [0x10, 1, 2, 3];
            let dedup = Dedup {
                format: 1,
                seq,
                request_hash: Bytes::copy_from_slice(&hash),
                ..Dedup::default()
            };
            let mut arena = Arena::default();
            let value = arena.seal_message(&key, &dedup);
            prop_assert_eq!(&value, &arena.seal(&key, &dedup.encode_to_vec()));
            prop_assert_eq!(decode::<Dedup>(&key, value.clone()).unwrap(), dedup);
            let mut flipped = value.to_vec();
            flipped[at.index(value.len())] ^= 1 << bit;
            let error = decode::<Dedup>(&key, flipped.into()).unwrap_err();
            let is_corrupt = matches!(error, Error::Corrupt { .. });
            prop_assert!(is_corrupt, "{}", error);
            let elsewhere = decode::<Dedup>(&[0x10, 1, 2, 4], value);
            let is_corrupt = matches!(elsewhere, Err(Error::Corrupt { .. }));
            prop_assert!(is_corrupt);
        }
    }

    #[test]
    fn a_record_of_a_later_format_says_so() {
        let dedup = Dedup {
            format: 2,
            ..Dedup::default()
        };
        let value = Arena::default().seal_message(b"k", &dedup);
        assert!(matches!(
            decode::<Dedup>(b"k", value),
            Err(Error::Format {
                found: 2,
                known: 1,
                ..
            })
        ));
    }
}
