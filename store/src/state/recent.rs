//! Which conversations were changed of late, so that whoever follows a shard looks at these alone.
//!
//! Nothing is noted until somebody asks for the first time: a shard that nobody follows costs nothing.

use std::collections::{BTreeSet, VecDeque};

use model::id::ConversationKey;
use parking_lot::Mutex;

/// Changes that are kept in mind, most; 24 bytes each.
const KEPT_MAX: usize = 16_384;

/// The changes of one shard.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Option<Ring>>);

struct Ring {
    /// All changes behind this revision are noted.
    floor: u64,
    changed: VecDeque<(u64, ConversationKey)>,
}

impl Recent {
    /// Begins to note, where that was not begun. Nothing is applied meanwhile, and all is up to `revision`.
    pub(crate) fn begin(&self, revision: u64) {
        self.0.lock().get_or_insert_with(|| Ring {
            floor: revision,
            changed: VecDeque::new(),
        });
    }

    /// Whether changes are noted.
    pub(crate) fn is_begun(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Forgets all; it begins anew with who asks next.
    pub(crate) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// Notes which conversations one apply changed, with the revision of each.
    pub(crate) fn note(&self, changed: impl Iterator<Item = (u64, ConversationKey)>) {
        let mut ring = self.0.lock();
        let Some(ring) = &mut *ring else { return };
        ring.changed.extend(changed);
        while ring.changed.len() > KEPT_MAX {
            if let Some((revision, _)) = ring.changed.pop_front() {
                ring.floor = ring.floor.max(revision);
            }
        }
    }

    /// The conversations that were changed behind a revision; none when that is not known any more.
    pub(crate) fn since(&self, after: u64) -> Option<BTreeSet<ConversationKey>> {
        let ring = self.0.lock();
        let ring = ring.as_ref().filter(|ring| ring.floor <= after)?;
        let behind = ring
            .changed
            .iter()
            .filter(|(revision, _)| *revision > after);
        Some(behind.map(|(_, key)| *key).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_known_for_as_long_as_it_is_kept() {
        let key = |n: u64| ConversationKey(u128::from(n).to_be_bytes());
        let recent = Recent::default();
        recent.note([(1, key(1))].into_iter());
        assert!(recent.since(0).is_none(), "nobody had asked");
        recent.begin(5);
        recent.begin(9);
        recent.note([(7, key(1)), (6, key(2))].into_iter());
        assert!(recent.since(4).is_none());
        assert_eq!(recent.since(5), Some([key(1), key(2)].into()));
        assert_eq!(recent.since(6), Some([key(1)].into()));
        let many = 10..10 + KEPT_MAX as u64;
        recent.note(many.map(|n| (n, key(n))));
        assert!(recent.since(6).is_none());
        assert!(recent.since(7).is_some());
        recent.clear();
        assert!(recent.since(u64::MAX).is_none());
    }
}
