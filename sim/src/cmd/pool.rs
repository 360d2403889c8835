//! So many runs at once.

use std::sync::mpsc;
use std::thread;

use parking_lot::Mutex;

use super::Failure;

/// Does `work` on each of `items`, `jobs` of them at once, and gives what comes out to `done`, on
/// this thread and in the order in which it is done. The first failure ends it.
pub(crate) fn each<I: Send, T: Send>(
    jobs: usize,
    items: impl Iterator<Item = I> + Send,
    work: impl Fn(I) -> Result<T, Failure> + Sync,
    mut done: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let items = Mutex::new(items);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, items, work) = (sender.clone(), &items, &work);
            scope.spawn(move || {
                loop {
                    let item = items.lock().next();
                    let Some(item) = item else { return };
                    if sender.send(work(item)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // Moved in here: once it is gone, the threads end instead of going on.
        for made in receiver {
            done(made?)?;
        }
        Ok(())
    })
}

/// As many as the machine has cores.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_are_done_once_and_a_failure_ends_it() {
        let mut seen = Vec::new();
        let sum = each(3, 0..100, Ok, |item| {
            seen.push(item);
            Ok(())
        });
        assert!(sum.is_ok());
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        let failing = |item| match item {
            7 => Err(Failure::Failed("seven".to_owned())),
            other => Ok(other),
        };
        let ended = each(1, 0.., failing, |_| Ok(()));
        assert_eq!(ended.unwrap_err().to_string(), "seven");
    }
}
