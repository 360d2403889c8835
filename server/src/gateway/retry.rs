//! When to try a command again, decided without IO: outcome in, what to do next out.
//!
//! The promise kept here: a caller is told "outcome unknown" whenever any attempt may have been
//! done, and told that nothing was done only when that is certain.

use std::time::Duration;

use model::id::NodeId;
use raft::ProposeError;

use crate::deadline::name_of;
use crate::error::Failure;

/// First wait between attempts; doubled with each.
const WAIT_MIN_MS: u64 = 10;
/// Longest wait between attempts.
const WAIT_MAX_MS: u64 = 200;
/// Longest wait for a leader while the node's budget has tokens: about a round trip, since what is
/// waited out is added to the failover that the caller sees.
const WAIT_LEADER_MS: u64 = 40;
/// Attempts in a row that follow a newly named leader at once; two nodes that name each other
/// must not make a hot loop.
const AT_ONCE_MAX: u32 = 3;
/// Refusals for load before the caller is told; with the waits between them about half a second.
const OVERLOADED_MAX: u32 = 5;

/// Refusals for a full disk before the caller is told; with the waits between them about half a
/// second, in which the leader gives its place to one that has room.
const FULL_MAX: u32 = 8;

/// Looks for the shard map, by a node that has heard of no cluster, before the caller is told that
/// there is none; with the waits between them about a tenth of a second. A node that has just joined may
/// not hear of it for long, and the others know.
pub const MAPLESS_MAX: u32 = 5;

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Try at once.
    Now,
    /// Try after this.
    After(Duration),
    /// Give up.
    Fail(Failure),
}

/// The attempts of one call so far.
#[derive(Debug, Default)]
pub struct Retry {
    waits: u32,
    at_once: u32,
    overloaded: u32,
    full: u32,
    named: Option<NodeId>,
    unknown: Option<String>,
    last: Option<ProposeError>,
    mapless: u32,
}

impl Retry {
    /// After an attempt that failed, with what is left of the caller's time and a random number;
    /// `paid` when the budget gave a token for the next.
    pub fn after(
        &mut self,
        error: ProposeError,
        remaining: Duration,
        random: u64,
        paid: bool,
    ) -> Next {
        self.mapless = 0;
        let next = match &error {
            ProposeError::NotLeader { leader, .. } => {
                let new = leader.is_some() && *leader != self.named;
                self.named = *leader;
                if new && self.at_once < AT_ONCE_MAX {
                    self.at_once += 1;
                    Next::Now
                } else {
                    self.at_once = 0;
                    self.wait_for_leader(random, paid)
                }
            }
            ProposeError::DiskFull => {
                self.full += 1;
                if self.full >= FULL_MAX && self.unknown.is_none() {
                    Next::Fail(Failure::DiskFull)
                } else {
                    self.wait(random)
                }
            }
            ProposeError::Overloaded => {
                self.overloaded += 1;
                if self.overloaded >= OVERLOADED_MAX && self.unknown.is_none() {
                    Next::Fail(Failure::Overload)
                } else {
                    self.wait(random)
                }
            }
            ProposeError::Unknown(why) => {
                self.unknown = Some(why.clone());
                self.wait_for_leader(random, paid)
            }
            ProposeError::Unreachable(_) => self.wait_for_leader(random, paid),
            ProposeError::WrongShard | ProposeError::Expired => self.wait(random),
        };
        self.last = Some(error);
        within(next, remaining, self)
    }

    /// When the shard map has no shard for the slot: there is nobody to ask yet. A cluster that is
    /// `founded` is about to lay out its shards, which is waited for.
    pub fn without_map(&mut self, remaining: Duration, random: u64, founded: bool) -> Next {
        self.mapless += 1;
        let tell = !founded && self.mapless >= MAPLESS_MAX && self.unknown.is_none();
        let next = match tell {
            true => Next::Fail(Failure::NotReady),
            false => self.wait(random),
        };
        within(next, remaining, self)
    }

    /// What the caller is told when the time is up.
    pub fn out_of_time(&self) -> Failure {
        if let Some(why) = &self.unknown {
            return Failure::DeadlineExceeded(why.clone());
        }
        if self.mapless > 0 {
            return Failure::NotReady;
        }
        match &self.last {
            None => Failure::TimeUp("before the first attempt".into()),
            Some(ProposeError::Expired) => {
                Failure::TimeUp("while it waited for its turn at the leader".into())
            }
            Some(ProposeError::NotLeader {
                shard,
                leader: None,
            }) => Failure::NoQuorum(format!("no leader of {} was found in time", shard.told())),
            Some(ProposeError::NotLeader { shard, leader }) => Failure::LeaderChanging(format!(
                "the leadership of {} did not settle in time; last named: {}",
                shard.told(),
                name_of(*leader)
            )),
            Some(ProposeError::WrongShard) => {
                Failure::LeaderChanging("the shard map did not settle in time".into())
            }
            Some(error @ ProposeError::Unreachable(_)) => Failure::NoQuorum(error.to_string()),
            Some(ProposeError::Overloaded) => Failure::Overload,
            Some(ProposeError::DiskFull) => Failure::DiskFull,
            Some(ProposeError::Unknown(why)) => Failure::DeadlineExceeded(why.clone()),
        }
    }

    fn wait_for_leader(&mut self, random: u64, paid: bool) -> Next {
        match (self.wait(random), paid) {
            (Next::After(wait), true) => Next::After(wait.min(jitter(WAIT_LEADER_MS, random))),
            (next, _) => next,
        }
    }

    fn wait(&mut self, random: u64) -> Next {
        let wait = backoff(self.waits, random);
        self.waits = self.waits.saturating_add(1);
        Next::After(wait)
    }
}

/// The wait before attempt number `step` + 2: half to all of 10, 20, 40 … 200 ms.
pub fn backoff(step: u32, random: u64) -> Duration {
    jitter((WAIT_MIN_MS << step.min(10)).min(WAIT_MAX_MS), random)
}

/// Half to all of this.
fn jitter(full_ms: u64, random: u64) -> Duration {
    Duration::from_micros(full_ms * 500 + random % (full_ms * 500))
}

fn within(next: Next, remaining: Duration, retry: &Retry) -> Next {
    match next {
        Next::Now | Next::After(_) if remaining.is_zero() => Next::Fail(retry.out_of_time()),
        Next::After(wait) => Next::After(wait.min(remaining)),
        Next::Now | Next::Fail(_) => next,
    }
}

#[cfg(test)]
mod tests {
    use model::id::ShardId;

    use super::*;

    const LEFT: Duration = Duration::from_secs(5);

    fn not_leader(leader: Option<u64>) -> ProposeError {
        ProposeError::NotLeader {
            shard: ShardId(1),
            leader: leader.map(NodeId),
        }
    }

    #[test]
    fn a_newly_named_leader_is_asked_at_once_and_the_same_one_after_a_wait() {
        let mut retry = Retry::default();
        assert!(matches!(
            retry.after(not_leader(Some(2)), LEFT, 0, false),
            Next::Now
        ));
        assert!(matches!(
            retry.after(not_leader(Some(2)), LEFT, 0, false),
            Next::After(_)
        ));
        assert!(matches!(
            retry.after(not_leader(Some(3)), LEFT, 0, false),
            Next::Now
        ));
        assert!(matches!(
            retry.after(not_leader(None), LEFT, 0, false),
            Next::After(_)
        ));
    }

    #[test]
    fn two_nodes_that_name_each_other_do_not_make_a_hot_loop() {
        let mut retry = Retry::default();
        let at_once = (0..100)
            .filter(|i| {
                matches!(
                    retry.after(not_leader(Some(i % 2)), LEFT, 0, false),
                    Next::Now
                )
            })
            .count();
        assert!(at_once <= 75, "{at_once}");
    }

    #[test]
    fn waits_grow_from_10_to_200_ms_with_jitter_below_them() {
        for (step, full) in [(0, 10), (1, 20), (4, 160), (5, 200), (99, 200)] {
            assert_eq!(backoff(step, 0), Duration::from_millis(full) / 2);
            for random in [1, 12_345, u64::MAX] {
                let wait = backoff(step, random);
                assert!(wait >= Duration::from_millis(full) / 2, "{step} {wait:?}");
                assert!(wait < Duration::from_millis(full), "{step} {wait:?}");
            }
        }
    }

    #[test]
    fn a_leader_is_looked_for_often_while_the_budget_pays_and_rarely_when_it_does_not() {
        let last = |paid| {
            let mut retry = Retry::default();
            let mut look = || match retry.after(not_leader(None), LEFT, 0, paid) {
                Next::After(wait) => wait,
                other => panic!("{other:?}"),
            };
            (0..10).map(|_| look()).last().expect("ten of them")
        };
        assert_eq!(last(true), Duration::from_millis(WAIT_LEADER_MS) / 2);
        assert_eq!(last(false), Duration::from_millis(WAIT_MAX_MS) / 2);
    }

    #[test]
    fn no_wait_goes_past_the_deadline() {
        let left = Duration::from_millis(1);
        let next = Retry::default().after(ProposeError::WrongShard, left, 0, false);
        assert!(matches!(next, Next::After(wait) if wait == left));
    }

    fn ends(errors: Vec<ProposeError>, expect: fn(&Failure) -> bool) {
        let mut retry = Retry::default();
        let text = format!("{errors:?}");
        for error in errors {
            retry.after(error, Duration::ZERO, 0, false);
        }
        let failure = retry.out_of_time();
        assert!(expect(&failure), "{text}: {failure:?}");
    }

    #[test]
    fn at_the_deadline_the_outcome_is_unknown_if_any_attempt_may_have_been_done() {
        let unknown = || ProposeError::Unknown("connection lost".into());
        let is_unknown = |f: &Failure| matches!(f, Failure::DeadlineExceeded(_));
        ends(vec![unknown()], is_unknown);
        ends(vec![unknown(), not_leader(Some(2))], is_unknown);
        ends(
            vec![unknown(), ProposeError::Overloaded, ProposeError::DiskFull],
            is_unknown,
        );
        ends(vec![not_leader(Some(2))], |f| {
            matches!(f, Failure::LeaderChanging(_))
        });
        ends(vec![not_leader(None)], |f| {
            matches!(f, Failure::NoQuorum(_))
        });
        ends(vec![ProposeError::Unreachable(NodeId(2))], |f| {
            matches!(f, Failure::NoQuorum(_))
        });
        ends(vec![], |f| matches!(f, Failure::TimeUp(_)));
        ends(vec![ProposeError::Expired], |f| {
            matches!(f, Failure::TimeUp(_))
        });
    }

    #[test]
    fn a_full_disk_is_told_after_a_few_tries_but_never_hides_an_unknown_outcome() {
        let full = |retry: &mut Retry| retry.after(ProposeError::DiskFull, LEFT, 0, false);
        let mut retry = Retry::default();
        for _ in 1..FULL_MAX {
            assert!(matches!(full(&mut retry), Next::After(_)));
        }
        assert!(matches!(full(&mut retry), Next::Fail(Failure::DiskFull)));
        let mut retry = Retry::default();
        retry.after(ProposeError::Unknown("lost".into()), LEFT, 0, false);
        for _ in 0..2 * FULL_MAX {
            assert!(matches!(full(&mut retry), Next::After(_)));
        }
    }

    #[test]
    fn overload_is_told_after_a_few_tries() {
        let mut retry = Retry::default();
        let mut tries = 1;
        while !matches!(
            retry.after(ProposeError::Overloaded, LEFT, 0, false),
            Next::Fail(Failure::Overload)
        ) {
            tries += 1;
        }
        assert_eq!(tries, OVERLOADED_MAX);
    }

    #[test]
    fn a_node_without_a_map_says_so_soon_but_never_hides_an_unknown_outcome() {
        let looks = |retry: &mut Retry, founded| {
            let looks = (1..100).take_while(|_| {
                let next = retry.without_map(LEFT, 0, founded);
                !matches!(next, Next::Fail(Failure::NotReady))
            });
            looks.count() + 1
        };
        assert_eq!(looks(&mut Retry::default(), false), MAPLESS_MAX as usize);
        assert_eq!(looks(&mut Retry::default(), true), 100);
        let mut retry = Retry::default();
        retry.after(ProposeError::Unknown("lost".into()), LEFT, 0, false);
        assert_eq!(looks(&mut retry, false), 100);
    }

    #[test]
    fn a_cluster_without_shards_says_so() {
        let mut retry = Retry::default();
        assert!(matches!(retry.without_map(LEFT, 0, true), Next::After(_)));
        assert!(matches!(
            retry.without_map(Duration::ZERO, 0, true),
            Next::Fail(Failure::NotReady)
        ));
    }
}
