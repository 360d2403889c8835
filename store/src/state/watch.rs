//! Who waits for new messages of which conversation, and who listens to all that changes in a shard.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use model::id::ConversationKey;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::watch::{Receiver, Sender};

use crate::Error;

/// Watchers that are gone are looked for whenever there are twice as many as at the last look.
const PRUNE_MIN: usize = 64;
/// Applies that a listener may be behind before it is told that it missed some.
const LISTENED_MAX: usize = 256;

/// What an apply changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The shard's revision behind it.
    pub revision: u64,
    /// The conversations; none says that any may have changed.
    pub conversations: Option<Arc<[ConversationKey]>>,
}

/// The watchers of one shard. As many as there are receivers, and less than as many again that
/// have gone.
#[derive(Default)]
pub(crate) struct Watchers {
    senders: Mutex<Senders>,
    /// `senders.by_key.len()`, read without the lock: with nobody there an apply asks no more.
    count: AtomicUsize,
    /// Made for the first who listens: each of thousands of shards would have one.
    listened: OnceLock<broadcast::Sender<Touched>>,
}

#[derive(Default)]
struct Senders {
    by_key: BTreeMap<ConversationKey, Sender<u64>>,
    prune_at: usize,
}

impl Watchers {
    /// A receiver that begins with what `last_seq` says once nothing can be missed any more.
    pub(crate) fn watch(
        &self,
        key: ConversationKey,
        last_seq: impl FnOnce() -> Result<u64, Error>,
    ) -> Receiver<u64> {
        let mut senders = self.senders.lock();
        if let Some(sender) = senders.by_key.get(&key) {
            return sender.subscribe();
        }
        if senders.by_key.len() >= senders.prune_at.max(PRUNE_MIN) {
            senders
                .by_key
                .retain(|_, sender| sender.receiver_count() > 0);
            senders.prune_at = 2 * senders.by_key.len();
        }
        let (sender, receiver) = tokio::sync::watch::channel(0);
        senders.by_key.insert(key, sender);
        // Counted before the read: an apply that publishes after it finds the watcher.
        self.count.store(senders.by_key.len(), Ordering::SeqCst);
        if let Some(sender) = senders.by_key.get(&key) {
            // A read that fails stops the shard where it is reported; the watcher starts at 0.
            sender.send_replace(last_seq().unwrap_or(0));
        }
        receiver
    }

    /// Tells the watchers of these conversations; `changed` is published for readers already.
    pub(crate) fn tell(&self, changed: impl Iterator<Item = (ConversationKey, u64)>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut senders = self.senders.lock();
        for (key, last_seq) in changed {
            let Some(sender) = senders.by_key.get(&key) else {
                continue;
            };
            if sender.receiver_count() == 0 {
                senders.by_key.remove(&key);
            } else {
                sender.send_replace(last_seq);
            }
        }
        self.count.store(senders.by_key.len(), Ordering::SeqCst);
    }

    /// All changes from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Touched> {
        let sender = self
            .listened
            .get_or_init(|| broadcast::Sender::new(LISTENED_MAX));
        sender.subscribe()
    }

    /// Tells who listens; what changed is published for readers already.
    pub(crate) fn tell_listeners(
        &self,
        revision: u64,
        conversations: impl FnOnce() -> Option<Arc<[ConversationKey]>>,
    ) {
        let Some(sender) = self.listened.get() else {
            return;
        };
        if sender.receiver_count() > 0 {
            let conversations = conversations();
            // Nobody listens any more.
            let _ = sender.send(Touched {
                revision,
                conversations,
            });
        }
    }

    /// All conversations that are watched.
    pub(crate) fn keys(&self) -> Vec<ConversationKey> {
        self.senders.lock().by_key.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u64) -> ConversationKey {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&i.to_be_bytes());
        ConversationKey(bytes)
    }

    #[test]
    fn a_watcher_sees_each_change_and_its_place_is_freed_when_it_goes() {
        let watchers = Watchers::default();
        let first = watchers.watch(key(1), || Ok(4));
        assert_eq!(*first.borrow(), 4);
        watchers.tell([(key(1), 5), (key(2), 9)].into_iter());
        assert_eq!(*first.borrow(), 5);
        let second = watchers.watch(key(1), || Ok(0));
        assert_eq!(*second.borrow(), 5);
        drop((first, second));
        watchers.tell([(key(1), 6)].into_iter());
        assert_eq!(watchers.keys(), []);
    }

    #[test]
    fn watchers_that_come_and_go_do_not_add_up() {
        let watchers = Watchers::default();
        for i in 0..10_000 {
            drop(watchers.watch(key(i), || Ok(0)));
        }
        assert!(watchers.keys().len() <= 2 * PRUNE_MIN);
    }
}
