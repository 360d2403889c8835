//! The runtime that openraft runs on: tokio's, and under the simulator one whose tasks now and then
//! let others go first.
//!
//! openraft polls what it selects from in a fixed order, so one seed would explore one interleaving
//! of a group's tasks. [`interleave`] gives a thread a chance to draw: then every task that openraft
//! spawns there sometimes yields before it goes on, which any scheduler may do to any task. Without
//! it, as in production, tasks are tokio's own and nothing is wrapped.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::rt::AsyncRuntime;
use openraft_rt_tokio::TokioRuntime;

mod boxed;

thread_local! {
    static YIELDS: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
}

/// From now on every task that openraft spawns on this thread asks `yields` before it goes on
/// whether to let the others go first; `None` ends that for tasks to come.
pub fn interleave(yields: Option<fn() -> bool>) {
    YIELDS.set(yields);
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

/// A task that may yield before each step.
struct Yielding<F> {
    task: Pin<Box<F>>,
    yields: fn() -> bool,
}

impl<F: Future> Future for Yielding<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if (self.yields)() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.task.as_mut().poll(context)
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = boxed::Boxed;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(task: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        match YIELDS.get() {
            None => TokioRuntime::spawn(task),
            Some(yields) => {
                let task = Box::pin(task);
                TokioRuntime::spawn(Yielding { task, yields })
            }
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use openraft::rt::testing::Suite;

    use super::*;

    thread_local! {
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    /// Every second time.
    fn now_and_then() -> bool {
        ASKED.set(ASKED.get() + 1);
        ASKED.get() % 2 == 1
    }

    #[test]
    fn it_is_a_runtime_as_openraft_asks_for() {
        Suite::<Runtime>::test_all();
    }

    #[tokio::test]
    async fn a_task_yields_when_it_is_told_to_and_ends_all_the_same() {
        interleave(Some(now_and_then));
        let task = Runtime::spawn(async {
            tokio::task::yield_now().await;
            7
        });
        interleave(None);
        assert_eq!(task.await.unwrap(), 7);
        assert_eq!(ASKED.get(), 4, "twice for each of two steps");
        assert_eq!(Runtime::spawn(async { 8 }).await.unwrap(), 8);
        assert_eq!(ASKED.get(), 4, "not asked any more");
    }
}
