//! What the canaries have seen so far, against the caps.

use std::collections::BTreeMap;

use server::drill::plan::Caps;

use super::canary::Canaries;
use crate::canary::who::Who;
use crate::canary::{Call, now_us};
use crate::demo::lock;

/// The gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Calls that have ended.
    pub calls: u64,
    /// Of them failed.
    pub failed: u64,
    /// The longest that an append waited, or waits, since the steps began, milliseconds.
    pub gap_ms: u64,
    /// Whose that is.
    pub whose: String,
    /// The calls that were looked at.
    looked: usize,
    since: BTreeMap<String, u64>,
}

impl Gauge {
    /// Takes in what came since the last look, and gives it. What ended before `from_us`, Unix µs, does
    /// not count for the gap.
    pub fn look(&mut self, canaries: &Canaries, from_us: u64) -> Vec<Call> {
        let new: Vec<Call> = lock(&canaries.calls)[self.looked..].to_vec();
        self.looked += new.len();
        for call in &new {
            self.add(call, from_us);
        }
        let now = now_us();
        let waiting = lock(&canaries.waiting).clone();
        for (name, since) in waiting {
            // A read waits as long as its own limit; caps are about appends.
            if Who::of(&name).is_judged() {
                self.waits(&name, since.max(from_us.min(now)), now);
            }
        }
        new
    }

    fn add(&mut self, call: &Call, from_us: u64) {
        self.calls += 1;
        self.failed += u64::from(call.outcome.is_err());
        if !Who::of(&call.sender).is_judged() {
            return;
        }
        let since = *self
            .since
            .entry(call.sender.clone())
            .or_insert(call.sent_us);
        if call.outcome.is_ok() {
            self.since.remove(&call.sender);
            if call.ended_us >= from_us {
                self.waits(&call.sender, since, call.ended_us);
            }
        }
    }

    fn waits(&mut self, name: &str, from_us: u64, to_us: u64) {
        let ms = to_us.saturating_sub(from_us) / 1_000;
        if ms > self.gap_ms {
            self.gap_ms = ms;
            name.clone_into(&mut self.whose);
        }
    }

    /// Which cap is broken, in words.
    pub fn broken(&self, caps: &Caps) -> Option<String> {
        if let Some(most) = caps.failed.filter(|most| self.failed > *most) {
            return Some(format!(
                "{} calls of the canaries failed, the cap is {most}",
                self.failed
            ));
        }
        let most = caps.gap_ms.filter(|most| self.gap_ms > *most)?;
        Some(format!(
            "{} waited {} ms for an acknowledgement, the cap is {most} ms",
            self.whose, self.gap_ms
        ))
    }

    /// One line for a person.
    pub fn line(&self, caps: &Caps) -> String {
        let of = |cap: Option<u64>| cap.map_or_else(String::new, |cap| format!("/{cap}"));
        format!(
            "{} calls, failed {}{}, longest wait {}{} ms",
            self.calls,
            self.failed,
            of(caps.failed),
            self.gap_ms,
            of(caps.gap_ms)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(sent_us: u64, ended_us: u64, ok: bool) -> Call {
        Call {
            sender: "seoul-send-1".into(),
            room: "r".into(),
            id: "1".into(),
            sent_us,
            ended_us,
            outcome: if ok { Ok(1) } else { Err("no".into()) },
        }
    }

    #[test]
    fn a_wait_spans_failed_calls_and_what_came_before_counts_for_nothing() {
        let mut gauge = Gauge::default();
        gauge.add(&call(0, 900_000, true), 1_000_000);
        assert_eq!(gauge.gap_ms, 0);
        gauge.add(&call(1_000_000, 2_000_000, false), 1_000_000);
        gauge.add(&call(2_000_000, 2_500_000, true), 1_000_000);
        assert_eq!((gauge.calls, gauge.failed, gauge.gap_ms), (3, 1, 1_500));
        let caps = |failed, gap_ms| Caps {
            failed,
            gap_ms,
            margin: None,
        };
        assert_eq!(gauge.broken(&caps(Some(1), Some(1_500))), None);
        assert!(
            gauge
                .broken(&caps(Some(0), None))
                .unwrap()
                .contains("the cap is 0")
        );
        let why = gauge.broken(&caps(None, Some(1_499))).unwrap();
        assert!(why.starts_with("seoul-send-1 waited 1500 ms"), "{why}");
    }
}
