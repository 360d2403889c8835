//! Messages that expire: none goes before its time, and none is shown behind it.

use super::Case;
use super::evidence::Found;
use crate::history::{Fade, Faded};
use crate::outcome::{Finding, Promise};

/// How far the time that commands and reads go by may be from that of the simulation, microseconds: commands
/// are clamped to the middle of the clocks ± 250 ms, and so is what a node takes for now.
const OFF_US: u64 = 1_500_000;

/// `expires-in-time`, D: a message that expires is there until its time has come, as is every other; from then
/// on no read shows what it said.
pub fn expires_in_time(case: &Case<'_>) -> Finding {
    let mut found = Found::of("expires-in-time", Promise::D);
    for fade in &case.history.fades {
        found.looked_at(1);
        if let Some(wrong) = wrong(fade) {
            found.add(2, fade.looked_us.1, || {
                let Fade { room, seq, .. } = fade;
                let (at, ttl_ms) = (case.ms(fade.looked_us.1), fade.ttl_ms);
                format!("fading-{room}/{seq}: a look at {at} {wrong}; it lives for {ttl_ms} ms")
            });
        }
    }
    found.finding()
}

fn wrong(fade: &Fade) -> Option<&'static str> {
    let ttl_us = fade.ttl_ms * 1_000;
    match fade.end {
        Faded::Otherwise => Some("shows a tombstone that it is not"),
        Faded::Gone if fade.looked_us.1 + OFF_US < fade.said_us.0 + ttl_us => {
            Some("does not find it before its time")
        }
        Faded::Shown if fade.looked_us.0 > fade.said_us.1 + ttl_us + OFF_US => {
            Some("shows what should be gone")
        }
        Faded::Gone | Faded::Shown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_too_early_nor_too_late() {
        let at = |looked_ms: u64, end| {
            let fade = Fade {
                room: 0,
                seq: 1,
                ttl_ms: 5_000,
                said_us: (1_000_000, 1_100_000),
                looked_us: (looked_ms * 1_000, looked_ms * 1_000 + 10_000),
                end,
            };
            wrong(&fade).is_some()
        };
        assert!(at(3_000, Faded::Gone) && !at(5_000, Faded::Gone) && !at(9_000, Faded::Gone));
        assert!(!at(3_000, Faded::Shown) && !at(7_000, Faded::Shown) && at(7_700, Faded::Shown));
        assert!(at(3_000, Faded::Otherwise));
    }
}
