//! Panics of calls: the caller gets an answer, the node goes on. Every other panic is for the program
//! that runs the node to end it on.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

tokio::task_local! {
    static CONTAINED: ();
}

/// Whether the code that asks runs within [`contain`].
pub fn is_contained() -> bool {
    CONTAINED.try_with(|()| ()).is_ok()
}

/// Runs a call; `None` when it panics.
pub async fn contain<T>(call: impl Future<Output = T>) -> Option<T> {
    CONTAINED
        .scope((), AssertUnwindSafe(call).catch_unwind())
        .await
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_panics_is_known_as_one_and_ends_as_one() {
        assert!(!is_contained());
        assert_eq!(contain(async { is_contained() }).await, Some(true));
        assert_eq!(
            contain(async { panic!("as this test wants") }).await,
            None::<()>
        );
        assert!(!is_contained());
    }
}
