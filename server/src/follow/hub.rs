//! Who follows which conversations of this node's replicas: one listener a shard, however many streams.
//!
//! ```text
//!   apply ─► touched keys ─► post of the shard ─► bells of the streams that follow them
//! ```
//!
//! A post says up to which revision it has rung the bells. Who looks at that first and then at its own bell
//! has heard of every change up to there.

#![allow(
    clippy::disallowed_types,
    reason = "a hash map that is only looked up, and whose order is not seen where it is walked"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use model::id::{ConversationKey, ShardId};
use parking_lot::Mutex;
use store::state::{ShardState, Touched};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

/// The posts of a node.
#[derive(Default)]
pub struct Hub {
    posts: Mutex<BTreeMap<ShardId, Weak<Post>>>,
}

/// What rings when something that a stream follows has changed.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<Rung>,
    notify: Notify,
}

#[derive(Default)]
struct Rung {
    /// The places that changed, each once.
    places: Vec<u32>,
    /// By place: whether it is among them.
    marked: Vec<bool>,
}

impl Bell {
    /// Something at this place may have changed.
    pub fn ring(&self, place: u32) {
        let mut rung = self.rung.lock();
        let at = place as usize;
        if rung.marked.len() <= at {
            rung.marked.resize(at + 1, false);
        }
        if !std::mem::replace(&mut rung.marked[at], true) {
            rung.places.push(place);
            self.notify.notify_one();
        }
    }

    /// The places that changed since this was last asked, `limit` at most.
    pub fn take(&self, limit: usize) -> Vec<u32> {
        let mut rung = self.rung.lock();
        let count = rung.places.len().min(limit);
        let places: Vec<u32> = rung.places.drain(..count).collect();
        for place in &places {
            rung.marked[*place as usize] = false;
        }
        places
    }

    /// Whether a place waits.
    pub fn is_rung(&self) -> bool {
        !self.rung.lock().places.is_empty()
    }

    /// Lets the next wait end at once.
    pub fn ring_again(&self) {
        self.notify.notify_one();
    }

    /// Waits for the next ring.
    pub async fn heard(&self) {
        self.notify.notified().await;
    }
}

/// The followers of a shard's conversations, by key: their bells, and the places there.
type Followers = HashMap<ConversationKey, Vec<(Weak<Bell>, u32)>>;

/// One shard's.
pub struct Post {
    /// The replica.
    pub state: ShardState,
    followers: Mutex<Followers>,
    /// All changes up to this revision were rung.
    seen: AtomicU64,
}

impl Hub {
    /// The post of a shard, whose replica here is `state`.
    pub fn post(&self, shard: ShardId, state: &ShardState) -> Arc<Post> {
        let mut posts = self.posts.lock();
        if let Some(post) = posts.get(&shard).and_then(Weak::upgrade)
            && post.state.is(state)
        {
            return post;
        }
        let changes = state.listen();
        let post = Arc::new(Post {
            state: state.clone(),
            followers: Mutex::default(),
            // Before anybody follows there is nobody to ring for.
            seen: AtomicU64::new(state.reached().revision),
        });
        posts.retain(|_, post| post.strong_count() > 0);
        posts.insert(shard, Arc::downgrade(&post));
        tokio::spawn(attend(Arc::downgrade(&post), changes));
        post
    }
}

async fn attend(post: Weak<Post>, mut changes: tokio::sync::broadcast::Receiver<Touched>) {
    loop {
        let touched = changes.recv().await;
        let Some(post) = post.upgrade() else { return };
        match touched {
            Ok(Touched {
                revision,
                conversations: Some(keys),
            }) => {
                post.ring(&keys);
                post.seen.fetch_max(revision, Ordering::SeqCst);
            }
            Ok(Touched {
                conversations: None,
                ..
            })
            | Err(RecvError::Lagged(_)) => {
                let revision = post.state.reached().revision;
                post.ring_all();
                post.seen.fetch_max(revision, Ordering::SeqCst);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

impl Post {
    /// Up to which revision all bells were rung.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Rings `bell` for `place` whenever this conversation changes.
    pub fn follow(&self, key: ConversationKey, bell: &Arc<Bell>, place: u32) {
        let mut followers = self.followers.lock();
        let of_key = followers.entry(key).or_default();
        of_key.push((Arc::downgrade(bell), place));
    }

    /// Takes that back.
    pub fn leave(&self, key: &ConversationKey, bell: &Arc<Bell>) {
        let mut followers = self.followers.lock();
        if let Some(of_key) = followers.get_mut(key) {
            let own = Arc::downgrade(bell);
            of_key.retain(|(other, _)| !other.ptr_eq(&own));
            if of_key.is_empty() {
                followers.remove(key);
            }
        }
    }

    fn ring(&self, keys: &[ConversationKey]) {
        let followers = self.followers.lock();
        for key in keys {
            for (bell, place) in followers.get(key).into_iter().flatten() {
                if let Some(bell) = bell.upgrade() {
                    bell.ring(*place);
                }
            }
        }
    }

    fn ring_all(&self) {
        let followers = self.followers.lock();
        for (bell, place) in followers.values().flatten() {
            if let Some(bell) = bell.upgrade() {
                bell.ring(*place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_rings_twice_is_looked_at_once() {
        let bell = Bell::default();
        for place in [3, 1, 3] {
            bell.ring(place);
        }
        assert_eq!(bell.take(1), [3]);
        bell.ring(3);
        assert_eq!(bell.take(9), [1, 3]);
        assert!(!bell.is_rung());
    }
}
