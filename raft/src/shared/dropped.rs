//! Replicas that this node has given up, or that are broken and begin anew: all of them is wiped, damaged
//! or not.
//!
//! ```text
//!   stop the group ─► marker (raftdb, synced) ─► the view without it ─► wipe msgdb, flush
//!     ─► wipe the log ─► the next incarnation ─► marker: done
//! ```
//!
//! A start that finds a marker that is not done repeats the steps behind it before any group is
//! opened. Should this node have a replica of the shard again, it is another one to all who counted on
//! what is gone ([`crate::adapter::incarnation`]). The marker stays for ever with the end of the log there was,
//! for versions that did not know incarnations.

use std::ops::RangeInclusive;

use bytes::Bytes;
use model::id::ShardId;
use prost::Message;
use store::state::State;
use store::{Error, Log, Position};

use crate::adapter::incarnation;

/// Local records: the marker of each shard.
const DROPPED: &str = "dropped/";

/// What is kept of a replica that was given up. Persisted: tags are permanent.
#[derive(Clone, PartialEq, Eq, Message)]
struct Dropped {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint32, tag = "2")]
    slot_first: u32,
    #[prost(uint32, tag = "3")]
    slot_last: u32,
    /// The last entry that there ever was; term 0 when there was none.
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint64, tag = "5")]
    index: u64,
    /// Nothing of it is left.
    #[prost(bool, tag = "6")]
    done: bool,
}

impl Dropped {
    fn of(log: &Log, shard: ShardId) -> Result<Option<Dropped>, Error> {
        let key = key(shard);
        let Some(record) = log.local_get(&key)? else {
            return Ok(None);
        };
        Dropped::decode(record)
            .map(Some)
            .map_err(|error| Error::Corrupt {
                file: "raftdb".into(),
                key,
                reason: error.to_string(),
            })
    }

    async fn put(&self, log: &Log, shard: ShardId) -> Result<(), Error> {
        let record = Bytes::from(self.encode_to_vec());
        log.local_put(&key(shard), Some(record)).await
    }
}

fn key(shard: ShardId) -> String {
    format!("{DROPPED}{}", shard.0)
}

/// Where the log of the shard ended that this node gave up; `None` when it never had one.
pub(crate) fn floor(log: &Log, shard: ShardId) -> Result<Option<Position>, Error> {
    let dropped = Dropped::of(log, shard)?.filter(|dropped| dropped.term > 0);
    Ok(dropped.map(|dropped| Position {
        term: dropped.term,
        index: dropped.index,
    }))
}

/// Notes that a replica, which has stopped, is to be dropped; durable on completion.
pub(crate) async fn begin(
    log: &Log,
    shard: ShardId,
    slots: RangeInclusive<u16>,
    last: Option<Position>,
) -> Result<(), Error> {
    let ends = [floor(log, shard)?, last].into_iter().flatten();
    let end = ends.max().unwrap_or(Position { term: 0, index: 0 });
    let marker = Dropped {
        format: 1,
        slot_first: u32::from(*slots.start()),
        slot_last: u32::from(*slots.end()),
        term: end.term,
        index: end.index,
        done: false,
    };
    marker.put(log, shard).await
}

/// Drops what was noted, if it is not yet; durable on completion. The group must have stopped.
///
/// # Errors
/// [`Error::Corrupt`] when the node's own records of it are damaged: it stays, and stays closed. Others
/// are fatal.
pub(crate) async fn finish(log: &Log, state: &State, shard: ShardId) -> Result<(), Error> {
    let Some(mut marker) = Dropped::of(log, shard)?.filter(|marker| !marker.done) else {
        return Ok(());
    };
    let slot = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
    let slots = slot(marker.slot_first)..=slot(marker.slot_last);
    state.wipe(shard, slots).await?;
    log.remove_shard(shard).await?;
    incarnation::renew(log, shard).await?;
    marker.done = true;
    marker.put(log, shard).await
}

/// Ends what a crash has interrupted.
///
/// # Errors
/// Fatal ones; a damaged replica stays closed and harms nothing else.
pub(crate) async fn finish_all(log: &Log, state: &State) -> Result<(), Error> {
    for (name, _) in log.local_scan(DROPPED)? {
        let shard = name.strip_prefix(DROPPED).and_then(|id| id.parse().ok());
        let Some(shard) = shard.map(ShardId) else {
            continue;
        };
        match finish(log, state, shard).await {
            Ok(()) => {}
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%shard, %error, "a replica that was given up cannot be dropped");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::engine::memory::{Memory, Part};
    use store::state::ToApply;
    use store::{HardState, Record};

    use super::*;

    const SHARD: ShardId = ShardId(7);

    fn position(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    fn open(raftdb: &Arc<Memory>, msgdb: &Arc<Memory>) -> (Log, State) {
        let (log, writer) = Log::open(raftdb.clone()).unwrap();
        tokio::spawn(writer);
        let state = State::open(msgdb.clone(), log.clone()).unwrap();
        (log, state)
    }

    async fn append(log: &Log, state: &State, last: Position) {
        let shard = log.shard(SHARD).unwrap();
        shard
            .save(HardState::Vote, Bytes::from_static(b"vote"))
            .await
            .unwrap();
        let data = Bytes::from_static(b"\0");
        let (done, appended) = tokio::sync::oneshot::channel();
        let record = Record {
            position: last,
            data,
        };
        shard.append(vec![record], Box::new(|result| drop(done.send(result))));
        appended.await.unwrap().unwrap();
        let entry = ToApply {
            position: last,
            membership: Some(Bytes::from_static(b"members")),
            payload: None,
        };
        state
            .shard(SHARD, 0..=9)
            .unwrap()
            .apply(vec![entry])
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_given_up_is_gone_and_what_comes_next_has_another_number() {
        let (raftdb, msgdb) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let (log, state) = open(&raftdb, &msgdb);
        assert_eq!(floor(&log, SHARD).unwrap(), None);
        append(&log, &state, position(3, 5)).await;
        begin(&log, SHARD, 0..=9, log.shard(SHARD).unwrap().last())
            .await
            .unwrap();
        finish(&log, &state, SHARD).await.unwrap();
        let shard = log.shard(SHARD).unwrap();
        assert_eq!(shard.last(), None);
        assert_eq!(shard.load(HardState::Vote).unwrap(), None);
        assert_eq!(incarnation::of(&log, SHARD).unwrap(), 1);
        let applied = state.shard(SHARD, 0..=9).unwrap().applied();
        assert_eq!((applied.position, applied.membership), (None, Bytes::new()));
        // A second life that ended earlier does not lower the floor.
        append(&log, &state, position(2, 9)).await;
        begin(&log, SHARD, 0..=9, Some(position(2, 9)))
            .await
            .unwrap();
        finish(&log, &state, SHARD).await.unwrap();
        assert_eq!(floor(&log, SHARD).unwrap(), Some(position(3, 5)));
        assert_eq!(incarnation::of(&log, SHARD).unwrap(), 2);
    }

    #[tokio::test]
    async fn what_is_damaged_is_wiped_like_what_is_not() {
        let (raftdb, msgdb) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        {
            let (log, state) = open(&raftdb, &msgdb);
            append(&log, &state, position(3, 5)).await;
            state.flush().await.unwrap();
        }
        for part in [Part::Entry, Part::Vote] {
            raftdb.disk().flip_bit(part, |_| 0).unwrap();
        }
        msgdb.disk().flip_bit(Part::Applied, |_| 0).unwrap();
        let (log, state) = open(&raftdb, &msgdb);
        assert!(log.shard(SHARD).is_err() && state.shard(SHARD, 0..=9).is_err());
        begin(&log, SHARD, 0..=9, None).await.unwrap();
        finish(&log, &state, SHARD).await.unwrap();
        assert_eq!(log.shard(SHARD).unwrap().last(), None);
        let applied = state.shard(SHARD, 0..=9).unwrap().applied();
        assert_eq!(applied.position, None);
        append(&log, &state, position(1, 1)).await;
    }

    #[tokio::test]
    async fn a_start_ends_what_a_crash_interrupted_and_leaves_what_is_done() {
        let (raftdb, msgdb) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let (log, state) = open(&raftdb, &msgdb);
        append(&log, &state, position(1, 4)).await;
        begin(&log, SHARD, 0..=9, Some(position(1, 4)))
            .await
            .unwrap();
        drop((log, state));
        let (log, state) = open(&raftdb, &msgdb);
        assert_eq!(log.shard(SHARD).unwrap().last(), Some(position(1, 4)));
        finish_all(&log, &state).await.unwrap();
        assert_eq!(log.shard(SHARD).unwrap().last(), None);
        append(&log, &state, position(2, 6)).await;
        finish_all(&log, &state).await.unwrap();
        assert_eq!(log.shard(SHARD).unwrap().last(), Some(position(2, 6)));
    }
}
