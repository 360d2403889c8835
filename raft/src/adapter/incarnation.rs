//! Lives of a replica: what a node holds of a shard may be wiped, and begin again under the same node
//! id. Each such beginning is an incarnation of its own, numbered on the node's disk.
//!
//! *A member of a shard is a node and an incarnation.* The shard's membership names both, and each
//! frame that rests on the membership (appends, snapshots, votes that are asked for) says which
//! incarnation it is for; another one refuses it. So to Raft a wiped replica is another server:
//!
//! - The incarnation that was wiped has failed for good. What it once acknowledged or voted for counts
//!   no more and no less than what any server did that has died since.
//! - The new one has promised nothing. It is added as a learner and becomes a voter as any server does,
//!   after the old one was taken out: one change of the voters each, so that their majorities overlap.
//!   The leader remembers nothing of the old one, for openraft forgets who is no member.
//! - While it learns, it passes through memberships of the past, which may name its node as a voter. It
//!   does not stand then, since they name the incarnation before ([`Place::counts`]): with an empty log
//!   and the vote of one more it could else undo what the voters of that time had acknowledged.
//!
//! So no replica votes, or is counted, before the membership names it by its own number; and the
//! leader names it only after it has asked it, a moment before, where its log ends ([`crate::tasks::heal`]).
//!
//! Replicas of a shard that was laid out have incarnation 0, as have those of versions that had none.
//! A node that has none, and is told one, or the other way round, refuses: such a replica is begun
//! anew by the next leader of this version.

use std::sync::OnceLock;

use bytes::Bytes;
use model::id::{NodeId, ShardId};
use openraft::Raft;
use store::{Error, Log};

use crate::adapter::state_machine::StateMachine;
use crate::adapter::told;
use crate::adapter::types::Types;

/// Local records: the incarnation of each shard's replica; absent is 0.
const INCARNATION: &str = "incarnation/";
/// Local record: the last number that this node gave.
const LAST: &str = "incarnations";

/// What a shard's membership says of a node beside its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// The incarnation that counts.
    pub(crate) incarnation: u64,
}

/// The incarnation of a shard's replica on this node.
///
/// # Errors
/// [`Error::Corrupt`] when the record is none.
pub(crate) fn of(log: &Log, shard: ShardId) -> Result<u64, Error> {
    number(log, &key(shard))
}

/// Gives the replica of a shard, which holds nothing, the next number; durable on completion.
///
/// # Errors
/// As [`of`], and those of the disk.
pub(crate) async fn renew(log: &Log, shard: ShardId) -> Result<u64, Error> {
    let next = number(log, LAST)?.saturating_add(1);
    // In this order: a number that a crash leaves unused is never given again.
    put(log, LAST, next).await?;
    put(log, &key(shard), next).await?;
    Ok(next)
}

fn number(log: &Log, key: &str) -> Result<u64, Error> {
    let Some(record) = log.local_get(key)? else {
        return Ok(0);
    };
    let bytes = <[u8; 8]>::try_from(&record[..]).map_err(|_| Error::Corrupt {
        file: "raftdb".into(),
        key: key.into(),
        reason: format!("{} bytes are no number", record.len()),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

async fn put(log: &Log, key: &str, number: u64) -> Result<(), Error> {
    let record = Bytes::copy_from_slice(&number.to_be_bytes());
    log.local_put(key, Some(record)).await
}

fn key(shard: ShardId) -> String {
    format!("{INCARNATION}{}", shard.0)
}

/// Whether a replica is the one that its shard's membership names.
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    raft: OnceLock<Raft<Types, StateMachine>>,
}

impl Place {
    pub(crate) fn new(node: NodeId, incarnation: u64) -> Place {
        Place {
            node,
            incarnation,
            raft: OnceLock::new(),
        }
    }

    /// The group of the replica; until it is told the replica does not count.
    pub(crate) fn of(&self, raft: Raft<Types, StateMachine>) {
        // It is told once.
        let _ = self.raft.set(raft);
    }

    /// Whether the last membership in this replica's own log names it by its number: only then may it
    /// stand. Whom that names not at all has no voice either way.
    pub(crate) fn counts(&self) -> bool {
        let Some(raft) = self.raft.get() else {
            return false;
        };
        let members = told::server(raft).membership_config;
        let named = members.membership().get_node(&self.node.0);
        let named = named.map(|member| member.incarnation);
        // A founder's log names nobody yet.
        named.unwrap_or(0) == self.incarnation
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::engine::memory::Memory;

    use super::*;

    #[tokio::test]
    async fn a_number_is_given_once_whatever_becomes_of_the_replica_and_survives_a_start() {
        let engine = Arc::new(Memory::new());
        let (log, writer) = Log::open(engine.clone()).unwrap();
        tokio::spawn(writer);
        let (one, two) = (ShardId(1), ShardId(2));
        assert_eq!(of(&log, one).unwrap(), 0);
        assert_eq!(renew(&log, one).await.unwrap(), 1);
        assert_eq!(renew(&log, two).await.unwrap(), 2);
        assert_eq!(renew(&log, one).await.unwrap(), 3);
        drop(log);
        let (log, writer) = Log::open(engine).unwrap();
        tokio::spawn(writer);
        assert_eq!((of(&log, one).unwrap(), of(&log, two).unwrap()), (3, 2));
        assert_eq!(renew(&log, two).await.unwrap(), 4);
    }
}
