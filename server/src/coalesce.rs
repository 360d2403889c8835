//! One read for many that ask the same at the same time: a hot room costs one page, not one for
//! each reader (who are thousands when something happens).
//!
//! A few reads of each question run at once, as if there were no others. Whoever comes beyond them
//! waits, and when one ends, all who wait share the next. So nobody joins a read that has begun: at
//! the level LINEARIZABLE that one might not know what was acknowledged since.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::Failure;

/// Reads of one question that run at once.
const RUNNING_MAX: usize = 2;

/// The questions that are being answered.
pub struct Coalescer<K: Ord + Clone, T: Clone> {
    lanes: Mutex<BTreeMap<K, Lane<T>>>,
}

struct Lane<T> {
    running: usize,
    waiting: Vec<oneshot::Sender<Turn<T>>>,
}

/// What becomes of one who waits.
enum Turn<T> {
    /// Another has asked for it.
    Answer(Result<T, Failure>),
    /// It asks, for these as well.
    Ask(Vec<oneshot::Sender<Turn<T>>>),
}

impl<K: Ord + Clone, T: Clone> Default for Coalescer<K, T> {
    fn default() -> Self {
        Coalescer {
            lanes: Mutex::default(),
        }
    }
}

impl<K: Ord + Clone, T: Clone> Coalescer<K, T> {
    /// The answer to the question `key`: that of `ask`, or of another's `ask` that began after this
    /// call, within `limit`.
    ///
    /// # Errors
    /// What `ask` says.
    pub async fn ask<F>(&self, key: K, limit: Duration, ask: F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let followers = match self.enter(&key) {
            None => Vec::new(),
            Some(turn) => match timeout(limit, turn).await {
                Ok(Ok(Turn::Answer(answer))) => return answer,
                Ok(Ok(Turn::Ask(followers))) => followers,
                Ok(Err(_)) | Err(_) => {
                    let why = "the time was up behind others who read the same".to_owned();
                    return Err(Failure::LeaderChanging(why));
                }
            },
        };
        let mut running = Running {
            all: self,
            key,
            followers,
        };
        let answer = ask.await;
        // What another attempt may do better each of them tries in its own time.
        if answer.as_ref().map_or_else(Failure::is_final, |_| true) {
            for follower in running.followers.drain(..) {
                // One who is gone has stopped waiting.
                let _ = follower.send(Turn::Answer(answer.clone()));
            }
        }
        answer
    }

    /// Takes a place: `None` to ask at once.
    fn enter(&self, key: &K) -> Option<oneshot::Receiver<Turn<T>>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(key.clone()).or_insert_with(|| Lane {
            running: 0,
            waiting: Vec::new(),
        });
        if lane.running < RUNNING_MAX {
            lane.running += 1;
            return None;
        }
        let (turn, wait) = oneshot::channel();
        lane.waiting.push(turn);
        Some(wait)
    }
}

/// One that asks; when it is done or given up, those behind it have their turn.
struct Running<'a, K: Ord + Clone, T: Clone> {
    all: &'a Coalescer<K, T>,
    key: K,
    followers: Vec<oneshot::Sender<Turn<T>>>,
}

impl<K: Ord + Clone, T: Clone> Drop for Running<'_, K, T> {
    fn drop(&mut self) {
        let mut lanes = self.all.lanes.lock();
        let Some(lane) = lanes.get_mut(&self.key) else {
            return;
        };
        lane.running -= 1;
        for follower in self.followers.drain(..) {
            lane.running += usize::from(follower.send(Turn::Ask(Vec::new())).is_ok());
        }
        let mut waiting = std::mem::take(&mut lane.waiting);
        if lane.running >= RUNNING_MAX {
            lane.waiting = waiting;
            return;
        }
        while let Some(first) = waiting.pop() {
            match first.send(Turn::Ask(waiting)) {
                Ok(()) => {
                    lane.running += 1;
                    return;
                }
                Err(Turn::Ask(others)) => waiting = others,
                Err(Turn::Answer(_)) => return,
            }
        }
        if lane.running == 0 {
            lanes.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::LocalSet;
    use tokio::time::{Instant, sleep};

    use super::*;

    const STEP: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Place {
        all: Coalescer<u32, Instant>,
        asked: Cell<usize>,
    }

    /// One reader; the answer is when the question was asked.
    async fn reader(place: Rc<Place>, fail: bool) -> (Instant, Result<Instant, Failure>) {
        let came = Instant::now();
        let ask = async {
            place.asked.set(place.asked.get() + 1);
            let began = Instant::now();
            sleep(STEP).await;
            match fail {
                true => Err(Failure::LeaderChanging("x".into())),
                false => Ok(began),
            }
        };
        (came, place.all.ask(7, LONG, ask).await)
    }

    #[tokio::test(start_paused = true)]
    async fn many_share_a_read_that_begins_after_each_of_them_came() {
        let place = Rc::new(Place::default());
        let local = LocalSet::new();
        local
            .run_until(async {
                let mut readers = Vec::new();
                for i in 0..100 {
                    readers.push(tokio::task::spawn_local(reader(place.clone(), false)));
                    if i % 10 == 0 {
                        sleep(STEP / 4).await;
                    }
                }
                for reader in readers {
                    let (came, answer) = reader.await.unwrap();
                    assert!(answer.unwrap() >= came);
                }
            })
            .await;
        assert!(place.asked.get() < 12, "{}", place.asked.get());
        assert!(place.all.lanes.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_or_is_dropped_leaves_the_others_to_themselves() {
        let place = Rc::new(Place::default());
        let local = LocalSet::new();
        local
            .run_until(async {
                let first: Vec<_> = (0..2)
                    .map(|_| tokio::task::spawn_local(reader(place.clone(), true)))
                    .collect();
                sleep(STEP / 2).await;
                let failing = tokio::task::spawn_local(reader(place.clone(), true));
                let others: Vec<_> = (0..5)
                    .map(|_| tokio::task::spawn_local(reader(place.clone(), false)))
                    .collect();
                sleep(STEP / 4).await;
                first.iter().for_each(tokio::task::JoinHandle::abort);
                for other in others {
                    assert!(other.await.unwrap().1.is_ok());
                }
                assert!(failing.await.unwrap().1.is_err());
            })
            .await;
        assert!(place.all.lanes.lock().is_empty());
    }
}
