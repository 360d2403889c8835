//! What a replica remembers of ids, so that a snapshot or a replay that loses some of it is seen even
//! when nobody sends those messages again: its dedup records, read back from the node's database at
//! one read point.
//!
//! Of the product's formats this knows where a record begins behind its checksum, and three numbers of
//! what a shard has applied.

use std::ops::ControlFlow;

use model::id::{ConversationName, ShardId};
use model::limits::DEDUP_WINDOW_MS;
use model::state::Dedup;
use prost::Message as _;
use store::engine::{Order, Read};
use store::key::state as key;
use store::state::SUM_BYTES;
use xxhash_rust::xxh3::Xxh3;

use crate::history::ReplicaSeen;

/// Of what a shard has applied, as it is on disk: how far that is.
#[derive(Clone, PartialEq, prost::Message)]
struct Applied {
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(uint64, tag = "5")]
    time_ms: u64,
    #[prost(uint64, tag = "6")]
    passed_ms: u64,
}

impl Applied {
    /// Whether an id may be forgotten.
    fn expires(&self, dedup: &Dedup) -> bool {
        let (now_ms, then_ms) = match self.passed_ms {
            0 => (self.time_ms, dedup.time_ms),
            passed_ms => (passed_ms, dedup.passed_ms),
        };
        !dedup.kept && now_ms > then_ms.saturating_add(DEDUP_WINDOW_MS)
    }
}

/// Adds to the hash of each of the replica's conversations how many ids it remembers there and their
/// order-free hash: over key and record of each, those left out that have expired by the shard's own
/// time, which a replica may or may not have deleted yet. `disk` is a read point of the database.
///
/// # Errors
/// When the shard has moved on since `replica` was seen, or a record cannot be read.
pub(super) fn add(disk: &dyn Read, replica: &mut ReplicaSeen) -> Result<(), String> {
    let place = format!("s{} on {}", replica.shard, replica.node);
    let strange = |error: &dyn std::fmt::Display| format!("{place}: {error}");
    let at = key::applied(ShardId(replica.shard));
    let value = disk.get(&at).map_err(|error| strange(&error))?;
    let applied = value.as_deref().and_then(|value| value.get(SUM_BYTES..));
    let applied = Applied::decode(applied.unwrap_or_default()).map_err(|error| strange(&error))?;
    if applied.revision != replica.revision {
        return Err(format!(
            "{place}: went on from revision {} to {}",
            replica.revision, applied.revision
        ));
    }
    for (name, _, _, hash) in &mut replica.rooms {
        let name = ConversationName::parse(name).map_err(|error| strange(&error))?;
        let ids = ids(disk, &name, &applied).map_err(|error| strange(&error))?;
        hash.push_str(&format!(", {} ids {:032x}", ids.count, ids.sum));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ids {
    count: u64,
    sum: u128,
}

fn ids(disk: &dyn Read, room: &ConversationName, applied: &Applied) -> Result<Ids, store::Error> {
    let (from, to) = key::dedups(&room.key());
    let mut ids = Ids::default();
    disk.scan(&from, &to, Order::Ascending, &mut |key, value| {
        let record = value.get(SUM_BYTES..).unwrap_or_default();
        // What cannot be decoded counts: it is no reason to call replicas alike.
        let expired = Dedup::decode(record).is_ok_and(|dedup| applied.expires(&dedup));
        if !expired {
            let mut hash = Xxh3::new();
            hash.update(key);
            hash.update(record);
            ids.count += 1;
            ids.sum = ids.sum.wrapping_add(hash.digest128());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::engine::memory::{Disk, Memory};
    use store::engine::{Batch, Engine as _};

    const ROOM: &str = "tenants/t/conversations/room";
    const NOW_MS: u64 = DEDUP_WINDOW_MS + 1_000;
    /// The wall clocks are wrong, and say nothing.
    const WALL_MS: u64 = 99 * DEDUP_WINDOW_MS;

    fn sealed(record: &impl prost::Message) -> bytes::Bytes {
        [vec![0; SUM_BYTES], record.encode_to_vec()].concat().into()
    }

    fn dedup(seq: u64, passed_ms: u64) -> Dedup {
        Dedup {
            format: 1,
            seq,
            passed_ms,
            ..Dedup::default()
        }
    }

    /// A database with these ids in its room, at revision 7, and what its replica then looks like.
    fn seen(dedups: &[([u8; 16], Dedup)]) -> Result<String, String> {
        let room = ConversationName::parse(ROOM).unwrap();
        let memory = Memory::open(&Disk::named("test"));
        let mut batch = Batch::default();
        let applied = Applied {
            revision: 7,
            time_ms: WALL_MS,
            passed_ms: NOW_MS,
        };
        batch.put(key::applied(ShardId(3)).to_vec(), sealed(&applied));
        for (id, dedup) in dedups {
            batch.put(key::dedup(&room.key(), id).to_vec(), sealed(dedup));
        }
        memory.write(batch).unwrap();
        let mut replica = ReplicaSeen {
            node: "n1".to_owned(),
            shard: 3,
            revision: 7,
            rooms: vec![(ROOM.to_owned(), 2, 2, "aa".to_owned())],
        };
        add(&*memory.snapshot(), &mut replica)?;
        replica.revision = 6;
        let moved = add(&*memory.snapshot(), &mut replica);
        assert_eq!(moved.unwrap_err(), "s3 on n1: went on from revision 6 to 7");
        Ok(replica.rooms.remove(0).3)
    }

    #[test]
    fn a_lost_id_and_a_changed_answer_make_another_hash() {
        let (a, b) = (([1; 16], dedup(1, NOW_MS)), ([2; 16], dedup(2, NOW_MS)));
        let whole = seen(&[a.clone(), b.clone()]).unwrap();
        assert!(whole.starts_with("aa, 2 ids "), "{whole}");
        assert_eq!(seen(&[b.clone(), a.clone()]).unwrap(), whole);
        let lost = seen(std::slice::from_ref(&a)).unwrap();
        assert!(lost.starts_with("aa, 1 ids "), "{lost}");
        let changed = seen(&[a, ([2; 16], dedup(3, NOW_MS))]).unwrap();
        assert_ne!(changed, whole);
    }

    #[test]
    fn an_expired_id_may_be_there_or_not_and_an_imported_one_may_not_be_lost() {
        let fresh = ([1; 16], dedup(1, NOW_MS - DEDUP_WINDOW_MS));
        let expired = ([2; 16], dedup(2, NOW_MS - DEDUP_WINDOW_MS - 1));
        let alone = seen(std::slice::from_ref(&fresh)).unwrap();
        assert_eq!(seen(&[fresh.clone(), expired.clone()]).unwrap(), alone);
        let mut kept = expired;
        kept.1.kept = true;
        assert_ne!(seen(&[fresh, kept]).unwrap(), alone);
    }
}
