//! Sorted files of the store in memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::disk_error;
use crate::Error;
use crate::engine::{Batch, IncomingFile, SortedFile};

/// Records one after the other: key length u32, value length u32, key, value.
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
        let file = File(self.0.freeze());
        decode(file.0.clone(), &mut Batch::new())?;
        Ok(Box::new(file))
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
    out.put_slice(key);
    out.put_slice(value);
}

/// Adds the records of a file to a batch.
pub(super) fn decode(mut file: Bytes, batch: &mut Batch) -> Result<(), Error> {
    let cut_short = || disk_error("ingest", "the file is cut short");
    while file.has_remaining() {
        let key_len = file.try_get_u32().map_err(|_| cut_short())? as usize;
        let value_len = file.try_get_u32().map_err(|_| cut_short())? as usize;
        if file.remaining() < key_len.saturating_add(value_len) {
            return Err(cut_short());
        }
        let key = file.split_to(key_len);
        batch.put(key, file.split_to(value_len));
    }
    Ok(())
}
