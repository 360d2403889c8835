//! What is asked of a data center that is cut off, from 10 s to 20 s of the load.

use firebreak_sim::history::{History, Level, Witnessed};
use firebreak_sim::oracle::cutoff::{CutOff, cut_off};
use firebreak_sim::plan::Fault;

use super::support::{event, plan};

const BEGAN_US: u64 = 1_000_000;

/// One call at seoul, invoked at `at_ms`, that took `took_ms`.
fn judged(
    level: Option<Level>,
    at_ms: u64,
    took_ms: u64,
    end: Result<Option<u64>, &str>,
) -> CutOff {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (own, others) = (["seoul-1", "client-seoul"], ["busan-1", "tokyo-1"]);
    let mut plan = plan();
    plan.events = vec![
        event(
            10_000,
            Fault::Cut {
                from: names(&own),
                to: names(&others),
                reset: false,
            },
        ),
        event(
            20_000,
            Fault::Heal {
                from: names(&own),
                to: names(&others),
            },
        ),
    ];
    let invoked_us = BEGAN_US + at_ms * 1_000;
    let history = History {
        began_us: BEGAN_US,
        witnessed: vec![Witnessed {
            site: "client-seoul".to_owned(),
            level,
            invoked_us,
            returned_us: invoked_us + took_ms * 1_000,
            end: end.map_err(str::to_owned),
        }],
        ..History::default()
    };
    cut_off(&plan, &history)
}

const REFUSED: Result<Option<u64>, &str> = Err("NO_QUORUM with RetryInfo: x");
const STALE: Result<Option<u64>, &str> = Err("STALENESS_BOUND_UNMET with RetryInfo: x");
const BOUNDED: Option<Level> = Some(Level::Bounded { bound_ms: 5_000 });

#[test]
fn what_needs_a_quorum_is_refused_with_a_reason_and_the_rest_goes_on() {
    for level in [None, Some(Level::Linearizable)] {
        let seen = judged(level, 12_000, 150, REFUSED);
        assert_eq!((seen.refused, seen.longest_ms), (1, 150), "{seen:?}");
        assert!(seen.wrong.is_empty());
        for end in [
            Ok(None),
            Err("NO_QUORUM without RetryInfo: x"),
            Err("not answered"),
        ] {
            assert_eq!(judged(level, 12_000, 150, end).wrong.len(), 1, "{end:?}");
        }
    }
    let answered = |level, at_ms, end| {
        let seen = judged(level, at_ms, 5, end);
        (seen.answered, seen.refused, seen.wrong.len())
    };
    assert_eq!(
        answered(Some(Level::Local), 19_000, Ok(Some(9_100))),
        (1, 0, 0)
    );
    assert_eq!(answered(Some(Level::Local), 19_000, Ok(None)), (0, 0, 1));
    assert_eq!(answered(Some(Level::Local), 19_000, REFUSED), (0, 0, 1));
    assert_eq!(answered(BOUNDED, 13_000, Ok(Some(3_100))), (1, 0, 0));
    assert_eq!(answered(BOUNDED, 13_000, STALE), (0, 0, 1));
    assert_eq!(answered(BOUNDED, 19_000, STALE), (0, 1, 0));
    assert_eq!(answered(BOUNDED, 19_000, Ok(Some(9_100))), (0, 0, 1));
}

#[test]
fn before_and_after_and_while_calls_are_still_tried_nothing_is_asked() {
    for at_ms in [9_000, 11_000, 21_000] {
        assert_eq!(judged(None, at_ms, 5, Ok(None)), CutOff::default());
    }
    assert_eq!(judged(None, 19_900, 200, Ok(None)), CutOff::default());
}
