//! The records of `raftdb`. Every one is sealed:
//!
//! ```text
//!   [format u8][crc32c u32 BE][body]        crc over key, format, body
//!
//!   body of an entry       [term u64 BE][data]
//!   body of a position     [term u64 BE][index u64 BE]      (purged)
//!   body of the mark       [rounds u64 BE]                  (the node's own record `mark`)
//!   body of anything else  as given
//! ```
//!
//! The first five bytes stay like this in every later format, so a flipped bit is always told from
//! a later version. The key is in the checksum, so a record in the wrong place is corrupt too.

use bytes::Bytes;
use model::mutant;

use crate::key::log as key;
use crate::{Error, Position};

/// The format that this version writes, and the latest it reads.
const FORMAT: u8 = 1;
/// What stands before the body of every record of the log: format and checksum, bytes. The same in
/// all formats.
pub const SEAL_BYTES: usize = 1 + 4;
const TERM_BYTES: usize = 8;
/// What an entry takes beside its data, with its key.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = key::ENTRY_BYTES + SEAL_BYTES + TERM_BYTES;

/// The database's name in errors.
pub(super) const FILE: &str = "raftdb";

/// One entry of a shard's log; its content is opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// What it says.
    pub data: Bytes,
}

fn checksum(key: &[u8], format: u8, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &[format]);
    crc32c::crc32c_append(crc, body)
}

/// Seals a body that is the concatenation of `parts`.
pub(super) fn seal(key: &[u8], parts: [&[u8]; 2]) -> Bytes {
    let len = SEAL_BYTES + parts[0].len() + parts[1].len();
    let mut value = Vec::with_capacity(len);
    value.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
    value.extend_from_slice(parts[0]);
    value.extend_from_slice(parts[1]);
    let crc = checksum(key, FORMAT, &value[SEAL_BYTES..]);
    value[1..SEAL_BYTES].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(value)
}

/// The body of a sealed value of the log.
///
/// # Errors
/// [`Error::Corrupt`] when the sum does not fit, [`Error::Format`] when a later version wrote it.
pub fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Error> {
    let Some((seal, body)) = value.split_at_checked(SEAL_BYTES) else {
        return Err(corrupt(key, format!("{} bytes are too few", value.len())));
    };
    let stored = u32::from_be_bytes([seal[1], seal[2], seal[3], seal[4]]);
    let found = checksum(key, seal[0], body);
    if stored != found && !mutant!("corrupt-record-accepted") {
        let reason = format!("checksum {found:08x}, stored {stored:08x}");
        return Err(corrupt(key, reason));
    }
    if seal[0] == 0 || seal[0] > FORMAT {
        return Err(Error::Format {
            file: FILE.to_owned(),
            found: seal[0].into(),
            known: FORMAT.into(),
        });
    }
    Ok(body)
}

/// Seals an entry; the data is the value from [`DATA_AT`] on.
pub(super) fn seal_entry(key: &[u8], record: &Record) -> Bytes {
    seal(key, [&record.position.term.to_be_bytes(), &record.data])
}

/// Where the data begins in a sealed entry.
pub(super) const DATA_AT: usize = SEAL_BYTES + TERM_BYTES;

/// The term and data of a sealed entry.
pub(super) fn unseal_entry<'a>(key: &[u8], value: &'a [u8]) -> Result<(u64, &'a [u8]), Error> {
    match unseal(key, value)?.split_first_chunk() {
        Some((term, data)) => Ok((u64::from_be_bytes(*term), data)),
        None => Err(corrupt(key, "an entry without a term".to_owned())),
    }
}

pub(super) fn corrupt(key: &[u8], reason: String) -> Error {
    Error::Corrupt {
        file: FILE.to_owned(),
        key: key::readable(key),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_reads_back_as_sealed(term: u64, index: u64, data: Vec<u8>, shard: u32) {
            let key = key::entry(model::id::ShardId(shard), index);
            let record = Record { position: Position { term, index }, data: data.clone().into() };
            let value = seal_entry(&key, &record);
            prop_assert_eq!(&value[DATA_AT..], &data[..]);
            prop_assert_eq!(key.len() + value.len(), ENTRY_OVERHEAD_BYTES + data.len());
            prop_assert_eq!(unseal_entry(&key, &value).unwrap(), (term, &data[..]));
        }

        #[test]
        fn any_flipped_bit_or_cut_is_found(data: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
            let key = key::entry(model::id::ShardId(1), 7);
            let position = Position { term: 1, index: 7 };
            let value = seal_entry(&key, &Record { position, data: data.into() });
            let mut flipped = value.to_vec();
            flipped[at.index(value.len())] ^= 1u8 << bit;
            let found = |value: &[u8]| matches!(unseal_entry(&key, value), Err(Error::Corrupt { .. }));
            prop_assert!(found(&flipped));
            prop_assert!(found(&value[..at.index(value.len())]));
            let elsewhere = key::entry(model::id::ShardId(1), 8);
            prop_assert!(unseal_entry(&elsewhere, &value).is_err());
        }
    }

    #[test]
    fn a_later_format_is_told_from_a_flipped_bit() {
        let body = b"later";
        let crc = checksum(b"key", 9, body);
        let value = [&[9][..], &crc.to_be_bytes(), body].concat();
        let error = unseal(b"key", &value).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Format {
                    found: 9,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}
