//! Install markers: what `raftdb` knows of an install that has begun and is not done.
//!
//! A marker names everything that the install needs, so that a start can bring it to its end: the
//! range, the kept files, and what is not in them.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::future::BoxFuture;
use model::id::ShardId;
use model::shard::Scope;
use prost::Message;

use crate::engine::{Batch, Engine, Read, SortedFile};
use crate::state::Applied;
use crate::state::applied::PositionRecord;
use crate::state::record::{self, FILE, FORMAT, Record};
use crate::{Error, Log, Position, key};

/// Names of install markers in `raftdb`; the shard's number follows.
const MARKERS: &str = "install/";

/// What is being installed. A disk format: tags are permanent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Marker {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    format: u32,
    /// First slot; both are absent for the meta shard.
    #[prost(uint32, optional, tag = "2")]
    slot_first: Option<u32>,
    /// Last slot, inclusive.
    #[prost(uint32, optional, tag = "3")]
    slot_last: Option<u32>,
    /// The snapshot's position.
    #[prost(message, optional, tag = "4")]
    position: Option<PositionRecord>,
    /// The snapshot's membership, opaque.
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) membership: Bytes,
    /// The kept files, in the order in which they are ingested.
    #[prost(string, repeated, tag = "6")]
    pub(crate) files: Vec<String>,
}

impl Record for Marker {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Marker {
    pub(super) fn new(scope: &Scope, applied: &Applied, files: Vec<String>) -> Marker {
        let slots = match scope {
            Scope::Data(slots) => Some(slots),
            Scope::Meta => None,
        };
        Marker {
            format: FORMAT,
            slot_first: slots.map(|slots| u32::from(*slots.start())),
            slot_last: slots.map(|slots| u32::from(*slots.end())),
            position: applied.position.map(PositionRecord::from),
            membership: applied.membership.clone(),
            files,
        }
    }

    /// The markers found in `raftdb`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Format`] when one cannot be read.
    pub(crate) fn all(log: &Log) -> Result<Vec<(ShardId, Marker)>, Error> {
        let mut markers = Vec::new();
        for (name, value) in log.local_scan(MARKERS)? {
            let shard = name[MARKERS.len()..]
                .parse()
                .map_err(|_| corrupt(&name, "it names no shard".into()))?;
            markers.push((ShardId(shard), decode(&name, value)?));
        }
        Ok(markers)
    }

    /// The marker of a shard, if there is one.
    pub(super) fn of(log: &Log, shard: ShardId) -> Result<Option<Marker>, Error> {
        let name = name(shard);
        let value = log.local_get(&name)?;
        value.map(|value| decode(&name, value)).transpose()
    }

    /// Sets the marker of a shard; durable on completion.
    pub(super) fn put(&self, log: &Log, shard: ShardId) -> BoxFuture<'static, Result<(), Error>> {
        log.local_put(&name(shard), Some(self.encode_to_vec().into()))
    }

    /// Removes the marker of a shard, if there is one; durable on completion.
    pub(super) fn remove(log: &Log, shard: ShardId) -> BoxFuture<'static, Result<(), Error>> {
        log.local_put(&name(shard), None)
    }

    /// What the shard holds.
    pub(super) fn scope(&self) -> Scope {
        let slot = |slot: Option<u32>| u16::try_from(slot?).ok();
        match (slot(self.slot_first), slot(self.slot_last)) {
            (Some(first), Some(last)) => Scope::Data(RangeInclusive::new(first, last)),
            (None, None) | (Some(_), None) | (None, Some(_)) => Scope::Meta,
        }
    }

    /// The snapshot's position.
    pub(super) fn position(&self) -> Option<Position> {
        self.position.map(Position::from)
    }

    /// Removes all that the shard holds.
    pub(super) fn clearing(&self, shard: ShardId) -> Batch {
        clearing(shard, &self.scope())
    }

    /// Opens the kept files.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when one is missing.
    pub(super) fn open_files(
        &self,
        engine: &dyn Engine,
        shard: ShardId,
    ) -> Result<Vec<Box<dyn SortedFile>>, Error> {
        if self.files.is_empty() && self.position.is_some() {
            // The first version did not keep the files.
            return Err(corrupt(&name(shard), "it names no files".into()));
        }
        self.files
            .iter()
            .map(|name| engine.open_kept(name))
            .collect()
    }

    /// Whether the install of this marker came to its end, but for the marker's removal.
    pub(super) fn whole(&self, engine: &dyn Read, shard: ShardId) -> Result<bool, Error> {
        let key = key::state::whole(shard);
        let Some(value) = engine.get(&key)? else {
            return Ok(false);
        };
        let whole: Marker = record::decode(&key, value)?;
        Ok(whole == *self)
    }
}

/// Removes all that a shard holds.
pub(super) fn clearing(shard: ShardId, scope: &Scope) -> Batch {
    let mut batch = Batch::new();
    let (from, to) = key::state::shard_records(shard);
    remove(&mut batch, &from, &to);
    if let Scope::Data(slots) = scope {
        let (from, to) = key::state::conversations(slots);
        if from < to {
            remove(&mut batch, &from, &to);
        }
    }
    batch
}

/// Removes a range, and the notes of what was lost of it.
fn remove(batch: &mut Batch, from: &[u8], to: &[u8]) {
    batch.delete_range(Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
    let (from, to) = key::lost::notes(from, to);
    batch.delete_range(from, to);
}

fn decode(name: &str, value: Bytes) -> Result<Marker, Error> {
    let marker = Marker::decode(value).map_err(|error| corrupt(name, error.to_string()))?;
    if marker.format > FORMAT {
        return Err(Error::Format {
            file: FILE.into(),
            found: marker.format,
            known: FORMAT,
        });
    }
    Ok(marker)
}

fn name(shard: ShardId) -> String {
    format!("{MARKERS}{}", shard.0)
}

fn corrupt(name: &str, reason: String) -> Error {
    Error::Corrupt {
        file: "raftdb".into(),
        key: name.to_owned(),
        reason,
    }
}
