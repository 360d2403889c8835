//! The keys of `raftdb`.
//!
//! ```text
//!   local record   [0x01][name, UTF-8]
//!   shard          [0x02][shard u32][kind]          for a single record of the shard
//!                  [0x02][shard u32][kind][index u64]        for an entry of its log
//! ```
//!
//! All of a shard lies together, so that removing it is one range; the kinds sort the entries
//! behind the single records. Table and kind bytes are permanent.

use model::id::ShardId;

const TABLE_LOCAL: u8 = 0x01;
const TABLE_SHARD: u8 = 0x02;

/// What a key of a shard names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The vote.
    Vote = 0x01,
    /// The position known to be committed.
    Committed = 0x02,
    /// A record of the layer above.
    Extra = 0x03,
    /// Up to where the log was purged.
    Purged = 0x04,
    /// An entry of the log.
    Entry = 0x10,
}

impl Kind {
    /// The kinds that are one record each.
    pub const SINGLE: [Kind; 4] = [Kind::Vote, Kind::Committed, Kind::Extra, Kind::Purged];
}

/// Bytes of an entry's key.
pub const ENTRY_BYTES: usize = 1 + 4 + 1 + 8;

/// The key of a node-local record.
pub fn local(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(TABLE_LOCAL);
    key.extend_from_slice(name.as_bytes());
    key
}

/// Where the local records lie: from, to.
pub fn locals() -> (Vec<u8>, Vec<u8>) {
    (vec![TABLE_LOCAL], vec![TABLE_LOCAL + 1])
}

/// The name in a local record's key; `None` when it is no such key.
pub fn local_name(key: &[u8]) -> Option<&str> {
    let name = key.strip_prefix(&[TABLE_LOCAL])?;
    std::str::from_utf8(name).ok()
}

/// The key of a single record of a shard.
pub fn single(shard: ShardId, kind: Kind) -> [u8; 6] {
    let mut key = [TABLE_SHARD, 0, 0, 0, 0, kind as u8];
    key[1..5].copy_from_slice(&shard.0.to_be_bytes());
    key
}

/// The key of the entry at `index`.
pub fn entry(shard: ShardId, index: u64) -> [u8; ENTRY_BYTES] {
    let mut key = [0; ENTRY_BYTES];
    key[..6].copy_from_slice(&single(shard, Kind::Entry));
    key[6..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Where the entries `from <= index` of a shard lie: from, to.
pub fn entries_from(shard: ShardId, from: u64) -> ([u8; ENTRY_BYTES], [u8; 6]) {
    let mut to = single(shard, Kind::Entry);
    to[5] += 1;
    (entry(shard, from), to)
}

/// The shard and index in an entry's key; `None` when it is no such key.
pub fn entry_parts(key: &[u8]) -> Option<(ShardId, u64)> {
    let key: &[u8; ENTRY_BYTES] = key.try_into().ok()?;
    let shard = u32::from_be_bytes(key[1..5].try_into().ok()?);
    let index = u64::from_be_bytes(key[6..].try_into().ok()?);
    (key[0] == TABLE_SHARD && key[5] == Kind::Entry as u8).then_some((ShardId(shard), index))
}

/// Where everything of a shard lies: from, to.
pub fn shard(shard: ShardId) -> (Vec<u8>, Vec<u8>) {
    let mut from = vec![TABLE_SHARD];
    from.extend_from_slice(&shard.0.to_be_bytes());
    let to = match shard.0.checked_add(1) {
        Some(next) => [&[TABLE_SHARD][..], &next.to_be_bytes()].concat(),
        None => vec![TABLE_SHARD + 1],
    };
    (from, to)
}

/// The key for people.
pub fn readable(key: &[u8]) -> String {
    if let Some(name) = local_name(key) {
        return format!("local/{name}");
    }
    if let Some((shard, index)) = entry_parts(key) {
        return format!("{shard}/entry/{index}");
    }
    let kind = key
        .last()
        .and_then(|byte| Kind::SINGLE.into_iter().find(|k| *k as u8 == *byte));
    match (key, kind) {
        ([TABLE_SHARD, a, b, c, d, _], Some(kind)) => {
            format!("{}/{kind:?}", ShardId(u32::from_be_bytes([*a, *b, *c, *d])))
        }
        _ => super::readable(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entry_keys_sort_as_shard_then_index(
            a in any::<(u32, u64)>(), b in any::<(u32, u64)>(), same in any::<bool>(),
        ) {
            let b = if same { (a.0, b.1) } else { b };
            let (key_a, key_b) = (entry(ShardId(a.0), a.1), entry(ShardId(b.0), b.1));
            prop_assert_eq!(a.cmp(&b), key_a.cmp(&key_b));
            prop_assert_eq!(entry_parts(&key_a), Some((ShardId(a.0), a.1)));
        }

        #[test]
        fn a_shards_range_holds_its_keys_and_no_other(
            mine in any::<u32>(), other in any::<u32>(), index in any::<u64>(), name in ".{0,12}",
        ) {
            let (from, to) = shard(ShardId(mine));
            let inside = |key: &[u8]| &from[..] <= key && key < &to[..];
            prop_assert!(inside(&entry(ShardId(mine), index)));
            let (entries_from, entries_to) = entries_from(ShardId(mine), 0);
            for kind in Kind::SINGLE {
                let key = single(ShardId(mine), kind);
                prop_assert!(inside(&key));
                prop_assert!(key[..] < entries_from[..]);
                prop_assert_eq!(inside(&single(ShardId(other), kind)), mine == other);
            }
            prop_assert!(entry(ShardId(mine), u64::MAX)[..] < entries_to[..]);
            prop_assert!(!inside(&local(&name)));
        }

        #[test]
        fn local_keys_sort_as_their_names_and_give_them_back(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(a.cmp(&b), local(&a).cmp(&local(&b)));
            let key = local(&a);
            prop_assert_eq!(local_name(&key), Some(a.as_str()));
            let (from, to) = locals();
            prop_assert!(from <= key && key < to);
        }
    }

    #[test]
    fn keys_read_well_in_errors() {
        for (key, expect) in [
            (local("boot"), "local/boot"),
            (entry(ShardId(3), 42).to_vec(), "s3/entry/42"),
            (single(ShardId(3), Kind::Vote).to_vec(), "s3/Vote"),
            (vec![0xff, 1], "ff01"),
        ] {
            assert_eq!(readable(&key), expect);
        }
    }
}
