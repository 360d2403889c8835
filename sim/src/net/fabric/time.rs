//! What is to happen, in the order of its moments.

use std::io::ErrorKind;

use super::conn::End;

pub(super) enum Due {
    Syn {
        end: End,
        attempt: u32,
    },
    SynAck {
        end: End,
        attempt: u32,
    },
    /// A refusal or reset reaches this end.
    Rst {
        end: End,
        kind: ErrorKind,
    },
    /// The next payload on the line from this end arrives.
    Arrive {
        from: End,
    },
    /// What is stalled from this end is tried again.
    Retry {
        from: End,
    },
}

pub(super) struct Timed {
    pub(super) due_us: u64,
    pub(super) order: u64,
    pub(super) due: Due,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        (self.due_us, self.order).cmp(&(other.due_us, other.order))
    }
}
