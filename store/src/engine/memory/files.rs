//! Sorted files of the store in memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::records::Value;
use crate::Error;
use crate::engine::{IncomingFile, SortedFile};

/// Records one after the other: key length u32, value length u32, crc32c of these and the key u32,
/// crc32c of the value u32, key, value.
#[derive(Clone)]
pub(super) struct File(pub(super) Bytes);

impl SortedFile for File {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, Error> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        Ok(self
            .0
            .slice(start..self.0.len().min(start.saturating_add(len))))
    }
}

/// A file being received.
#[derive(Default)]
pub(super) struct Incoming(BytesMut);

impl IncomingFile for Incoming {
    fn append(&mut self, data: &[u8]) -> Result<(), Error> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn SortedFile>, Error> {
        // What is in it shows when it is ingested.
        Ok(Box::new(File(self.0.freeze())))
    }
}

/// All of a file.
pub(super) fn all(file: &dyn SortedFile) -> Result<Bytes, Error> {
    file.read_at(0, usize::try_from(file.len()).unwrap_or(usize::MAX))
}

/// Adds a record at the end of a file.
pub(super) fn encode(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put_u32(len(key));
    out.put_u32(len(value));
    out.put_u32(structure_sum(len(key), len(value), key));
    out.put_u32(crc32c::crc32c(value));
    out.put_slice(key);
    out.put_slice(value);
}

fn structure_sum(key_len: u32, value_len: u32, key: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(
        crc32c::crc32c(&key_len.to_be_bytes()),
        &value_len.to_be_bytes(),
    );
    crc32c::crc32c_append(sum, key)
}

/// The records of a file; `None` when its structure is damaged. A record whose sum does not fit is
/// a damaged one.
pub(super) fn decode(mut file: Bytes) -> Option<Vec<(Bytes, Value)>> {
    let mut records = Vec::new();
    while file.has_remaining() {
        let key_len = file.try_get_u32().ok()?;
        let value_len = file.try_get_u32().ok()?;
        let sum = file.try_get_u32().ok()?;
        let value_sum = file.try_get_u32().ok()?;
        if file.remaining() < (key_len as usize).saturating_add(value_len as usize) {
            return None;
        }
        let key = file.split_to(key_len as usize);
        if structure_sum(key_len, value_len, &key) != sum {
            return None;
        }
        let value = file.split_to(value_len as usize);
        let sound = crc32c::crc32c(&value) == value_sum;
        records.push((key, sound.then_some(value)));
    }
    Some(records)
}
