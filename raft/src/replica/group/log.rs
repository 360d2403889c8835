//! The log of a replica: how far it goes, what of it is kept, and what it says against a leader.

use model::{limits, mutant};
use store::{Error, Position};

use super::Group;
use crate::adapter::told;
use crate::adapter::types::{LogId, index};

impl Group {
    /// The index of the last entry of the log; 0 when there is none.
    pub(crate) fn last_index(&self) -> u64 {
        self.log.last().map_or(0, |last| last.index)
    }

    /// What the log takes, bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes_kept()
    }

    /// Reads entries back from the disk; see [`ShardLog::verify`].
    pub(crate) fn verify_log(&self, from: u64, bytes: usize) -> Result<Option<u64>, Error> {
        self.log.verify(from, bytes)
    }

    /// Whether this is where the log was cut, or an entry of it.
    pub(crate) fn holds(&self, id: &LogId) -> bool {
        let found = self.log.position_at(id.index());
        found.is_ok_and(|found| found.map(crate::adapter::types::log_id) == Some(*id))
    }

    /// The last entry of the log.
    pub(crate) fn last_log(&self) -> Option<Position> {
        self.log.last()
    }

    /// The last entry of the log that is on the disk.
    pub(crate) fn last_synced(&self) -> Option<Position> {
        self.log.synced()
    }

    /// Whether a candidate whose log ends there lacks nothing that this replica has ever
    /// acknowledged. What it once gave up is not in its log any more, so the log alone cannot tell.
    pub(crate) fn may_elect(&self, last: Option<&LogId>) -> bool {
        self.floor <= last.map(crate::adapter::types::position)
    }

    /// Whether entries are refused, since the disk has no room for them. The meta shard's are few,
    /// and operators need it most then.
    pub(crate) fn takes_no_entries(&self) -> bool {
        self.room.is_spent() && !self.shard.is_meta()
    }

    /// Whether entries differ from what this replica has applied: no leader has such, whatever its
    /// term, since it would have been elected without them.
    pub(crate) fn contradicts(&self, append: &proto::node::AppendEntries) -> Option<Position> {
        let applied = self.state.reached().position?;
        let ids = append.entries.iter().filter_map(|entry| entry.id);
        let decided = ids.take_while(|id| id.index <= applied.index);
        let differs = |id: &proto::node::LogId| {
            let here = match id.index == applied.index {
                true => Some(applied),
                false => self.log.position_at(id.index).ok().flatten(),
            };
            here.is_some_and(|here| here.term != id.term)
        };
        let found = { decided }.find(differs);
        found.map(|id| Position {
            term: id.term,
            index: id.index,
        })
    }

    /// Cuts the log up to what is flushed and, while nobody is absent, what the followers have.
    /// For an absent replica it is kept, within bounds; one that was given up gets a snapshot when it
    /// comes back.
    pub(crate) async fn cut_log(
        &self,
        absent: bool,
        given_up: impl Fn(&u64) -> bool,
        bytes_max: u64,
    ) {
        let Some(flushed) = self.state.flushed().position.map(|p| p.index) else {
            return;
        };
        // Looked at often and for every group: what is needed is read, nothing is copied.
        let (stated, purged, matched) = told::data(&self.raft, |told| {
            let followers = told.replication.as_ref();
            let matched = followers.and_then(|followers| {
                let waited_for = followers.iter().filter(|(id, _)| !given_up(id));
                waited_for.map(|(_, matched)| index(matched)).min()
            });
            let stated = told.snapshot.as_ref().map(LogId::index);
            (stated, index(&told.purged), matched)
        });
        if stated < Some(flushed) {
            // For the next look; state that is flushed all the time must not put off the cut.
            // Stopped groups need no housekeeping.
            let _ = self.raft.trigger().snapshot().await;
        }
        let Some(flushed) = stated.map(|stated| stated.min(flushed)) else {
            return;
        };
        let kept_for_others = match matched {
            _ if self.log.bytes_kept() > bytes_max => self.followed_from(matched).min(flushed),
            _ if absent => return,
            Some(matched) => matched.min(flushed),
            None => flushed,
        };
        let entries = self.tuning.keep.log_entries;
        let upto = kept_for_others.saturating_sub(entries);
        if upto > purged + entries {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// Cuts the log up to an entry that erased something, once that is flushed; not while a follower that is
    /// there lacks it, unless `now`. Whether all up to it is cut.
    pub(crate) async fn cut_erased(&self, upto: u64, now: bool) -> bool {
        if self.log.purged().is_some_and(|purged| purged.index >= upto) {
            return true;
        }
        let flushed = self.state.flushed().position.map_or(0, |p| p.index);
        let (stated, matched) = told::data(&self.raft, |told| {
            let followers = told.replication.as_ref();
            let matched = followers.and_then(|all| all.values().map(index).min());
            (told.snapshot.as_ref().map_or(0, LogId::index), matched)
        });
        if flushed < upto {
            return false;
        }
        if stated < upto {
            let _ = self.raft.trigger().snapshot().await;
        } else if now || matched.is_none_or(|matched| matched >= upto) {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
        false
    }

    /// From where on the log is kept whatever the budget says: for one that is getting a snapshot.
    fn followed_from(&self, matched: Option<u64>) -> u64 {
        let follows = self.held.followed_from();
        let follows = follows.filter(|_| {
            self.log.bytes_kept() <= limits::LOG_BEHIND_SNAPSHOT_BYTES_MAX
                && !mutant!("snapshot-without-its-log")
        });
        follows.map_or(u64::MAX, |follows| follows.max(matched.unwrap_or(0)))
    }
}
