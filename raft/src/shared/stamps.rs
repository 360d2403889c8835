//! The moments that a node puts into its answers, so that the node that asks can say them back: an answer
//! that says back a moment proves that its sender still followed this node then.

use std::collections::BTreeMap;
use std::time::Duration;

use model::id::NodeId;
use parking_lot::Mutex;
use proto::node as wire;

use crate::time::{Steady, Time};

/// When the steady clock began.
const START: Steady = Steady::after(Duration::ZERO);

/// The moments that this node puts into its answers, and the last that it has heard from others.
pub(crate) struct Stamps {
    boot_nonce: u64,
    time: Time,
    pub(crate) heard: Mutex<BTreeMap<NodeId, wire::Stamp>>,
}

impl Stamps {
    /// Of the process that drew this number when it began, and whose clock this is.
    pub(crate) fn new(boot_nonce: u64, time: Time) -> Stamps {
        Stamps {
            boot_nonce,
            time,
            heard: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> wire::Stamp {
        wire::Stamp {
            boot_nonce: self.boot_nonce,
            at_us: u64::try_from(self.time.now().since(START).as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// When it was that this process gave `stamp`; `None` if another did.
    pub(crate) fn moment(&self, stamp: wire::Stamp) -> Option<Steady> {
        let ours = stamp.boot_nonce == self.boot_nonce;
        let given = START + Duration::from_micros(stamp.at_us);
        (ours && given <= self.time.now()).then_some(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_moments_of_this_process_that_have_been_count() {
        let time = crate::time::tests::right();
        let (before, stamps) = (time.now(), Stamps::new(7, time.clone()));
        let stamp = stamps.now();
        let moment = stamps.moment(stamp);
        // A stamp has whole microseconds.
        assert!(
            moment
                .is_some_and(|at| { at + Duration::from_micros(1) >= before && at <= time.now() })
        );
        let of_another = wire::Stamp {
            boot_nonce: 8,
            ..stamp
        };
        assert_eq!(stamps.moment(of_another), None);
        for at_us in [stamp.at_us + 3_600_000_000, u64::MAX] {
            let to_come = wire::Stamp { at_us, ..stamp };
            assert_eq!(stamps.moment(to_come), None);
        }
    }
}
