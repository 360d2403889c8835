//! How far a shard has come, as a record.

use bytes::Bytes;
use prost::Message;

use super::Applied;
use super::record::{self, Arena, FORMAT, Record};
use crate::engine::Read;
use crate::{Error, Position, key};
use model::id::ShardId;

/// The record of an [`Applied`]. A disk format: tags are permanent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppliedRecord {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    /// Absent when nothing was applied.
    #[prost(message, optional, tag = "2")]
    pub(crate) position: Option<PositionRecord>,
    /// The last membership, opaque.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) membership: Bytes,
    /// The count of changes.
    #[prost(uint64, tag = "4")]
    pub(crate) revision: u64,
    /// The latest command time, Unix milliseconds.
    #[prost(uint64, tag = "5")]
    pub(crate) time_ms: u64,
    /// How much time has passed for the shard, milliseconds.
    #[prost(uint64, tag = "6")]
    pub(crate) passed_ms: u64,
    /// The newest format of an applied entry.
    #[prost(uint32, tag = "7")]
    pub(crate) entry_format: u32,
}

/// The record of a [`Position`]. A disk format: tags are permanent.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct PositionRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

impl Record for AppliedRecord {
    fn format(&self) -> u32 {
        self.format
    }
}

impl From<Position> for PositionRecord {
    fn from(position: Position) -> Self {
        PositionRecord {
            term: position.term,
            index: position.index,
        }
    }
}

impl From<PositionRecord> for Position {
    fn from(record: PositionRecord) -> Self {
        Position {
            term: record.term,
            index: record.index,
        }
    }
}

/// The first format of entries that is noted: that of changes.
const NOTED_FROM: u32 = 3;

/// What is noted of a format: of earlier ones nothing, so that what was written before stays as it was.
pub(crate) fn noted(entry_format: u32) -> u32 {
    match entry_format < NOTED_FROM {
        true => 0,
        false => entry_format,
    }
}

/// The value of the applied record.
pub(crate) fn seal(arena: &mut Arena, key: &[u8], applied: &Applied) -> Bytes {
    let record = AppliedRecord {
        format: FORMAT,
        position: applied.position.map(PositionRecord::from),
        membership: applied.membership.clone(),
        revision: applied.revision,
        time_ms: applied.time_ms,
        passed_ms: applied.passed_ms,
        entry_format: applied.entry_format,
    };
    arena.seal_message(key, &record)
}

/// How far the shard has come; nowhere when there is no record.
pub(crate) fn read(engine: &dyn Read, shard: ShardId) -> Result<Applied, Error> {
    let key = key::state::applied(shard);
    let Some(value) = engine.get(&key)? else {
        return Ok(Applied::default());
    };
    let record: AppliedRecord = record::decode(&key, value)?;
    Ok(Applied {
        position: record.position.map(Position::from),
        membership: record.membership,
        revision: record.revision,
        time_ms: record.time_ms,
        passed_ms: record.passed_ms,
        entry_format: record.entry_format,
    })
}
