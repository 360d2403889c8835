//! What clients saw, and what is left of what they sent.

use std::collections::BTreeMap;

use client::Client;
use firebreak::ledger::{Ack, Faults, Found, Sent, judge};
use futures::{StreamExt as _, TryStreamExt as _};
use model::hash::record_hash;

use super::Call;
use crate::demo::proof::read_all;

/// Conversations read back at once.
const READERS: usize = 8;

/// The waits of one kind of clients, and their failed calls.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    /// Each time from a call, or from the first of several that failed one after another, to the
    /// next answer, µs.
    pub gaps_us: Vec<u64>,
    /// Calls that were not answered well.
    pub failed: u64,
    /// The longest of them.
    pub worst: Option<Wait>,
}

/// One wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Whose.
    pub sender: String,
    /// The conversation; empty for a read.
    pub room: String,
    /// Unix µs.
    pub since_us: u64,
    /// How long, µs.
    pub us: u64,
}

impl Waits {
    /// Adds others'.
    pub fn add(&mut self, other: &Waits) {
        self.gaps_us.extend(&other.gaps_us);
        self.failed += other.failed;
        if let Some(wait) = &other.worst {
            self.note(wait);
        }
    }

    fn note(&mut self, wait: &Wait) {
        if self.worst.as_ref().is_none_or(|worst| worst.us < wait.us) {
            self.worst = Some(wait.clone());
        }
    }

    /// The longest, ms, rounded up.
    pub fn longest_ms(&self) -> u64 {
        self.gaps_us
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
            .div_ceil(1_000)
    }

    /// What 99 of 100 are not longer than, ms, rounded up.
    pub fn p99_ms(&self) -> u64 {
        let mut sorted = self.gaps_us.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(0).div_ceil(1_000)
    }
}

/// The waits of each sender that ended after `since_us`, Unix µs. What a sender waited for at the
/// end of the run counts as a gap, too.
pub fn waits(calls: &[Call], since_us: u64) -> BTreeMap<&str, Waits> {
    let mut by_sender: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_sender.entry(&call.sender).or_default().push(call);
    }
    let of_one = |mut calls: Vec<&Call>| {
        calls.sort_by_key(|call| call.sent_us);
        let mut waits = Waits::default();
        let mut waiting_since = None;
        for call in calls {
            let since = *waiting_since.get_or_insert(call.sent_us);
            let counts = call.ended_us >= since_us;
            match &call.outcome {
                Ok(_) => {
                    waiting_since = None;
                    if counts {
                        let wait = Wait {
                            sender: call.sender.clone(),
                            room: call.room.clone(),
                            since_us: since,
                            us: call.ended_us.saturating_sub(since),
                        };
                        waits.gaps_us.push(wait.us);
                        waits.note(&wait);
                    }
                }
                Err(_) => waits.failed += u64::from(counts),
            }
        }
        waits
    };
    by_sender
        .into_iter()
        .map(|(sender, calls)| (sender, of_one(calls)))
        .collect()
}

/// Reads every conversation back and compares it with what was sent to it.
///
/// # Errors
/// When one cannot be read.
pub async fn read_back(client: &Client, calls: &[&Call]) -> anyhow::Result<Faults> {
    let mut rooms: BTreeMap<&str, Vec<Sent>> = BTreeMap::new();
    let sends = calls.iter().filter(|call| !call.room.is_empty());
    let mut sends: Vec<&Call> = sends.copied().collect();
    sends.sort_by_key(|call| call.sent_us);
    for call in sends {
        let ack = call.outcome.as_ref().ok().map(|seq| Ack {
            seq: *seq,
            at_us: call.ended_us,
        });
        rooms.entry(&call.room).or_default().push(Sent {
            id: call.id.clone(),
            sender: call.sender.clone(),
            // A message's body is its id.
            content: record_hash(call.id.as_bytes()),
            sent_us: call.sent_us,
            ack,
        });
    }
    let judged: Vec<Faults> = futures::stream::iter(&rooms)
        .map(
            |(room, sent)| async move { anyhow::Ok(judge(room, sent, &read(client, room).await?)) },
        )
        .buffered(READERS)
        .try_collect()
        .await?;
    let mut sum = Faults::default();
    judged.into_iter().for_each(|faults| sum.add(faults));
    Ok(sum)
}

async fn read(client: &Client, room: &str) -> anyhow::Result<Vec<Found>> {
    let found = |message: client::v1::Message| Found {
        seq: message.seq,
        content: record_hash(&message.body),
        id: message.client_message_id,
        sender: message.sender,
    };
    let messages = read_all(client, room).await?;
    Ok(messages.into_iter().map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(sender: &str, sent_us: u64, ended_us: u64, seq: u64) -> Call {
        Call {
            sender: sender.into(),
            room: "r".into(),
            id: format!("{sender}-{sent_us}"),
            sent_us,
            ended_us,
            outcome: if seq > 0 { Ok(seq) } else { Err("no".into()) },
        }
    }

    #[test]
    fn a_wait_begins_with_the_first_of_several_failed_calls_and_a_pause_is_none() {
        let calls = [
            call("a", 10, 20, 1),
            call("a", 100, 130, 2),
            call("b", 0, 50, 0),
            call("b", 60, 90, 0),
            call("b", 95, 100, 3),
        ];
        let waits = waits(&calls, 0);
        assert_eq!(waits["a"].gaps_us, [10, 30]);
        let worst = waits["b"].worst.clone().unwrap();
        assert_eq!(
            (worst.sender.as_str(), worst.since_us, worst.us),
            ("b", 0, 100)
        );
        assert_eq!(
            (waits["b"].gaps_us.as_slice(), waits["b"].failed),
            (&[100][..], 2)
        );
    }

    #[test]
    fn what_ended_before_does_not_count() {
        let calls = [call("a", 10, 20, 0), call("a", 30, 90, 1)];
        let waits = waits(&calls, 25);
        assert_eq!(
            (waits["a"].gaps_us.as_slice(), waits["a"].failed),
            (&[80][..], 0)
        );
    }

    #[test]
    fn the_99th_of_a_hundred_waits_is_the_p99() {
        let waits = Waits {
            gaps_us: (1..=100).map(|ms| ms * 1_000).rev().collect(),
            ..Waits::default()
        };
        assert_eq!((waits.p99_ms(), waits.longest_ms()), (99, 100));
        assert_eq!(Waits::default().p99_ms(), 0);
    }
}
