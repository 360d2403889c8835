//! How much log each shard may keep for replicas that are away, out of one budget for the node: what is
//! kept of shards that need little is there for those that need much. With a share of the same size for
//! each, half a minute away would cost a busy cluster of a thousand shards as many snapshots.

/// The most that any shard may keep, bytes, so that all together keep no more than `budget`: those that
/// keep less than it all keep what they have.
pub(crate) fn cap(mut kept: Vec<u64>, budget: u64) -> u64 {
    kept.sort_unstable();
    let mut left = budget;
    for (count_before, bytes) in kept.iter().enumerate() {
        let sharing = (kept.len() - count_before) as u64;
        let share = left / sharing;
        if *bytes > share {
            return share;
        }
        left -= bytes;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_cut_below_the_budget_however_it_is_shared() {
        assert_eq!(cap(vec![], 0), u64::MAX);
        assert_eq!(cap(vec![0; 1_000], 0), u64::MAX);
        assert_eq!(cap(vec![1, 1, 98], 100), u64::MAX);
    }

    #[test]
    fn above_the_budget_those_that_keep_most_give() {
        assert_eq!(cap(vec![1, 1, 99], 100), 98);
        assert_eq!(cap(vec![10, 60, 60], 100), 45);
        assert_eq!(cap(vec![60, 60], 100), 50);
        assert_eq!(cap(vec![5], 0), 0);
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_and_used(
            kept in prop::collection::vec(0..1_000_000u64, 0..40),
            budget in 0..10_000_000u64,
        ) {
            let most = cap(kept.clone(), budget);
            let total: u64 = kept.iter().map(|bytes| bytes.min(&most)).sum();
            prop_assert!(total <= budget);
            let whole: u64 = kept.iter().sum();
            prop_assert_eq!(most == u64::MAX, whole <= budget);
            prop_assert!(most == u64::MAX || total + kept.len() as u64 > budget, "little is left");
        }
    }
}
