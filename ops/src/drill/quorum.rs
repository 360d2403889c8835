//! What of each shard's replicas is left at each moment of a plan.

use std::collections::{BTreeMap, BTreeSet};

use server::drill::plan::{Action, DrillPlan, Step};

/// A shard and the names of the nodes that hold it; 0 is the meta shard.
pub type Shards = BTreeMap<u32, Vec<String>>;

/// The weakest shard at the weakest moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakest {
    /// The shard.
    pub shard: u32,
    /// Its replicas that are left.
    pub left: usize,
    /// Its replicas.
    pub of: usize,
    /// When, milliseconds after the calm time.
    pub at_ms: u64,
}

impl Weakest {
    /// Replicas above a bare quorum.
    pub fn margin(&self) -> i64 {
        margin(self.left, self.of)
    }
}

/// Replicas above a bare quorum; below 0 there is none.
pub fn margin(left: usize, of: usize) -> i64 {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    number(left) - number(of / 2 + 1)
}

/// Whom a step takes from the others at a moment.
fn gone(step: &Step, at_ms: u64) -> impl Iterator<Item = &str> {
    let lasts = step.at_ms..step.at_ms.saturating_add(step.for_ms.unwrap_or(u64::MAX));
    // A disk that completes no sync acknowledges nothing.
    let stalls = matches!(
        step.action,
        Action::SlowSync { sync_ms: None } | Action::FullDisk
    );
    let on = (step.action.takes_away() || stalls) && lasts.contains(&at_ms);
    step.nodes.iter().filter(move |_| on).map(String::as_str)
}

/// The weakest shard at the weakest moment of a plan; none where there are no shards.
pub fn weakest(plan: &DrillPlan, shards: &Shards) -> Option<Weakest> {
    let moments = plan.steps.iter().map(|step| step.at_ms);
    let of_moment = |at_ms: u64| {
        let gone: BTreeSet<&str> = plan
            .steps
            .iter()
            .flat_map(|step| gone(step, at_ms))
            .collect();
        shards.iter().map(move |(shard, holders)| Weakest {
            shard: *shard,
            left: holders
                .iter()
                .filter(|node| !gone.contains(node.as_str()))
                .count(),
            of: holders.len(),
            at_ms,
        })
    };
    moments.flat_map(of_moment).min_by_key(Weakest::margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: &[(u64, u64, Action, &[&str])]) -> DrillPlan {
        let step = |(at_ms, for_ms, action, nodes): &(u64, u64, Action, &[&str])| Step {
            at_ms: *at_ms,
            for_ms: Some(*for_ms),
            action: action.clone(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        };
        DrillPlan {
            steps: steps.iter().map(step).collect(),
            ..crate::drill::run::tests_plan()
        }
    }

    fn shards() -> Shards {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        [(0, names(&["a", "b", "c"])), (1, names(&["b", "c", "d"]))].into()
    }

    #[track_caller]
    fn check(steps: &[(u64, u64, Action, &[&str])], margin: i64, at_ms: u64) {
        let weakest = weakest(&plan(steps), &shards()).unwrap();
        assert_eq!(
            (weakest.margin(), weakest.at_ms),
            (margin, at_ms),
            "{weakest:?}"
        );
    }

    #[test]
    fn what_is_gone_at_once_counts_together_and_what_is_back_does_not() {
        check(&[(0, 10, Action::Silence, &["a"])], 0, 0);
        check(&[(0, 10, Action::Silence, &["a", "b"])], -1, 0);
        check(
            &[
                (0, 10, Action::Silence, &["a"]),
                (5, 10, Action::Reset, &["c"]),
            ],
            -1,
            5,
        );
        check(
            &[
                (0, 10, Action::Silence, &["a"]),
                (10, 10, Action::Reset, &["c"]),
            ],
            0,
            0,
        );
        check(&[(0, 10, Action::Drain, &["a", "b", "c"])], 1, 0);
        check(
            &[(0, 10, Action::SlowSync { sync_ms: Some(5) }, &["a", "b"])],
            1,
            0,
        );
        check(
            &[(0, 10, Action::SlowSync { sync_ms: None }, &["a", "b"])],
            -1,
            0,
        );
    }
}
