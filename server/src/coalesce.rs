//! One read for many that ask the same at the same time: a hot room costs one page, not one for
//! each reader (who are thousands when something happens).
//!
//! A few reads of each question run at once, as if there were no others. Whoever comes beyond them
//! waits, and when one ends, all who wait share the next. So nobody joins a read that has begun: at
//! the level LINEARIZABLE that one might not know what was acknowledged since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::Failure;

/// Reads of one question that run at once.
const RUNNING_MAX: usize = 2;

/// The questions that are being answered.
pub struct Coalescer<K: Ord + Clone, T: Clone> {
    lanes: Lanes<K, T>,
}

type Lanes<K, T> = Arc<Mutex<BTreeMap<K, Lane<K, T>>>>;

struct Lane<K: Ord + Clone, T: Clone> {
    running: usize,
    waiting: Vec<oneshot::Sender<Turn<K, T>>>,
}

/// What becomes of one who waits.
enum Turn<K: Ord + Clone, T: Clone> {
    /// Another has asked for it.
    Answer(Result<T, Failure>),
    /// It asks.
    Ask(Ticket<K, T>),
}

/// The right to ask, for oneself and for those behind. When it is dropped, used or not (its holder may
/// be given up before it has looked), the next have their turn.
struct Ticket<K: Ord + Clone, T: Clone> {
    /// `None` when it never reached anybody.
    lanes: Option<Lanes<K, T>>,
    key: K,
    followers: Vec<oneshot::Sender<Turn<K, T>>>,
}

impl<K: Ord + Clone, T: Clone> Default for Coalescer<K, T> {
    fn default() -> Self {
        Coalescer {
            lanes: Arc::default(),
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
        let mut ticket = match self.enter(&key) {
            Ok(ticket) => ticket,
            Err(turn) => match timeout(limit, turn).await {
                Ok(Ok(Turn::Answer(answer))) => return answer,
                Ok(Ok(Turn::Ask(ticket))) => ticket,
                Ok(Err(_)) | Err(_) => {
                    let why = "the time was up behind others who read the same".to_owned();
                    return Err(Failure::LeaderChanging(why));
                }
            },
        };
        let answer = ask.await;
        // What another attempt may do better each of them tries in its own time.
        if answer.as_ref().map_or_else(Failure::is_final, |_| true) {
            for follower in ticket.followers.drain(..) {
                // One who is gone has stopped waiting.
                let _ = follower.send(Turn::Answer(answer.clone()));
            }
        }
        answer
    }

    /// Takes a place: the right to ask at once, or to wait.
    fn enter(&self, key: &K) -> Result<Ticket<K, T>, oneshot::Receiver<Turn<K, T>>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(key.clone()).or_insert_with(|| Lane {
            running: 0,
            waiting: Vec::new(),
        });
        if lane.running < RUNNING_MAX {
            lane.running += 1;
            return Ok(Ticket {
                lanes: Some(self.lanes.clone()),
                key: key.clone(),
                followers: Vec::new(),
            });
        }
        let (turn, wait) = oneshot::channel();
        lane.waiting.push(turn);
        Err(wait)
    }
}

impl<K: Ord + Clone, T: Clone> Lane<K, T> {
    /// Gives one who waits its turn, with those behind it; gives these back when it is gone.
    fn give(
        &mut self,
        all: &Lanes<K, T>,
        key: &K,
        to: oneshot::Sender<Turn<K, T>>,
        followers: Vec<oneshot::Sender<Turn<K, T>>>,
    ) -> Result<(), Vec<oneshot::Sender<Turn<K, T>>>> {
        let ticket = Ticket {
            lanes: Some(all.clone()),
            key: key.clone(),
            followers,
        };
        match to.send(Turn::Ask(ticket)) {
            Ok(()) => {
                self.running += 1;
                Ok(())
            }
            Err(Turn::Ask(mut ticket)) => {
                ticket.lanes = None;
                Err(std::mem::take(&mut ticket.followers))
            }
            Err(Turn::Answer(_)) => Err(Vec::new()),
        }
    }
}

impl<K: Ord + Clone, T: Clone> Drop for Ticket<K, T> {
    fn drop(&mut self) {
        let Some(all) = self.lanes.take() else { return };
        let mut lanes = all.lock();
        let Some(lane) = lanes.get_mut(&self.key) else {
            return;
        };
        lane.running -= 1;
        for follower in self.followers.drain(..) {
            // One who is gone has stopped waiting.
            let _ = lane.give(&all, &self.key, follower, Vec::new());
        }
        let mut waiting = std::mem::take(&mut lane.waiting);
        if lane.running >= RUNNING_MAX {
            lane.waiting = waiting;
            return;
        }
        while let Some(first) = waiting.pop() {
            match lane.give(&all, &self.key, first, waiting) {
                Ok(()) => return,
                Err(others) => waiting = others,
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
                let others: Vec<_> = (0..5)
                    .map(|_| tokio::task::spawn_local(reader(place.clone(), false)))
                    .collect();
                // Whoever came last asks for those who wait.
                tokio::task::yield_now().await;
                let failing = tokio::task::spawn_local(reader(place.clone(), true));
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

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_nobody_takes_any_more_goes_to_the_next() {
        let all = Coalescer::<u32, u32>::default();
        let asks = |answer| {
            all.ask(7, LONG, async move {
                sleep(STEP).await;
                Ok(answer)
            })
        };
        let mut running = [Box::pin(asks(1)), Box::pin(asks(2))];
        for one in &mut running {
            assert!(futures::poll!(one).is_pending());
        }
        let mut given_up = Box::pin(asks(3));
        assert!(futures::poll!(&mut given_up).is_pending());
        for one in running {
            one.await.unwrap();
        }
        // It has its turn, and is dropped before it looks.
        drop(given_up);
        assert!(all.lanes.lock().is_empty());
        assert_eq!(asks(4).await.unwrap(), 4);
    }
}
