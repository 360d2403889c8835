//! The load: senders outside the cluster, each sending its messages one after the other through
//! the real client, and the ledger of what they sent and what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{AppendStream, Client, Message, StreamOptions};
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::task::JoinSet;

use crate::dice::dice;
use crate::net;
use crate::scenario::Scenario;

/// How long a call may take; no call that had this long may fail (promise G).
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A sender's pause between an answer and its next message, milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 50..=400;
/// Letters of a message.
const BODY_BYTES: std::ops::RangeInclusive<usize> = 1..=256;

/// A message that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Who sent it.
    pub sender: String,
    /// Its client message id.
    pub id: String,
    /// What it says.
    pub body: String,
    /// The seq that it was acknowledged with.
    pub acked: Option<u64>,
}

/// What was sent, known to the senders only.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By conversation; each sender's messages are in the order in which it sent them.
    pub sent: BTreeMap<String, Vec<Sent>>,
    /// When the acknowledgements of each conversation came, in virtual time.
    pub acks: BTreeMap<String, Vec<Duration>>,
    /// What failed, for people.
    pub failed: Vec<String>,
    /// When the load began.
    pub began: Duration,
    /// When the senders stopped sending.
    pub ended: Duration,
}

impl Ledger {
    /// Messages acknowledged.
    pub fn acked(&self) -> usize {
        self.acks.values().map(Vec::len).sum()
    }

    /// The longest time between two acknowledgements of any conversation.
    pub fn longest_gap(&self) -> Duration {
        self.gap(self.acks.values().flatten())
    }

    /// The longest time between two acknowledgements of one conversation, of the worst one.
    pub fn worst_gap(&self) -> Duration {
        let conversations = self.sent.keys();
        let gaps = conversations.map(|name| self.gap(self.acks.get(name).into_iter().flatten()));
        gaps.max().unwrap_or_else(|| self.longest_gap())
    }

    /// The begin and the end of the load count as acknowledgements.
    fn gap<'a>(&self, acks: impl Iterator<Item = &'a Duration>) -> Duration {
        let mut times: Vec<Duration> = acks.copied().collect();
        times.push(self.began);
        times.push(self.ended.max(self.began));
        times.sort_unstable();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

enum Path {
    Call(Client),
    Stream(AppendStream),
}

impl Path {
    async fn send(
        &self,
        parent: &str,
        message: Message,
    ) -> Result<client::Appended, client::Error> {
        match self {
            Path::Call(client) => client.append(parent, message).await,
            Path::Stream(stream) => stream.send(parent, message).await,
        }
    }
}

/// Sends for as long as the scenario says; completes when the last call was answered.
///
/// # Errors
/// When a sender ended otherwise than by itself.
pub async fn run(scenario: &Scenario, client: &Client) -> Result<Ledger, String> {
    let began = net::now();
    let until = began + scenario.load;
    let ledger = Arc::new(Mutex::new(Ledger {
        began,
        ended: until,
        ..Ledger::default()
    }));
    let stream = client.append_stream(&StreamOptions::default());
    let mut senders = JoinSet::new();
    for conversation in 0..scenario.conversations {
        for sender in 0..scenario.senders {
            let path = if sender % 2 == 0 {
                Path::Call(client.clone())
            } else {
                Path::Stream(stream.clone())
            };
            let parent = format!("tenants/sim/conversations/room-{conversation}");
            let name = format!("s{sender}");
            let seed = scenario.seed;
            senders.spawn(send(path, parent, name, seed, until, ledger.clone()));
        }
    }
    while let Some(ended) = senders.join_next().await {
        ended.map_err(|error| format!("a sender ended: {error}"))?;
    }
    let ledger = std::mem::take(&mut *ledger.lock());
    Ok(ledger)
}

async fn send(
    path: Path,
    parent: String,
    sender: String,
    seed: u64,
    until: Duration,
    ledger: Arc<Mutex<Ledger>>,
) {
    let mut dice = dice(seed, &format!("{parent} {sender}"));
    for ordinal in 0_u32.. {
        let pause = Duration::from_millis(dice.random_range(PAUSE_MS));
        tokio::time::sleep(pause).await;
        if net::now() >= until {
            return;
        }
        let letters = dice.random_range(BODY_BYTES);
        let body: String = (0..letters).map(|_| dice.random_range('a'..='z')).collect();
        let id = format!("m{ordinal}");
        let at = note(&ledger, &parent, &sender, &id, &body);
        let message = Message::text(sender.as_str(), body).id(id.as_str());
        let outcome = path.send(&parent, message).await;
        let mut ledger = ledger.lock();
        match outcome {
            Ok(appended) => {
                ledger
                    .acks
                    .entry(parent.clone())
                    .or_default()
                    .push(net::now());
                if let Some(sent) = ledger.sent.get_mut(&parent).and_then(|all| all.get_mut(at)) {
                    sent.acked = Some(appended.seq);
                }
            }
            Err(error) => {
                let text = format!("{parent} {sender} {id} at {:?}: {error}", net::now());
                ledger.failed.push(text);
            }
        }
    }
}

/// Notes a message before it goes out; gives its place in the conversation's list.
fn note(ledger: &Mutex<Ledger>, parent: &str, sender: &str, id: &str, body: &str) -> usize {
    let mut ledger = ledger.lock();
    let all = ledger.sent.entry(parent.to_owned()).or_default();
    all.push(Sent {
        sender: sender.to_owned(),
        id: id.to_owned(),
        body: body.to_owned(),
        acked: None,
    });
    all.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(acks: &[(&str, &[u64])]) -> Ledger {
        let ms = Duration::from_millis;
        let times = |acks: &[u64]| acks.iter().copied().map(ms).collect();
        Ledger {
            sent: acks.iter().map(|(n, _)| ((*n).into(), vec![])).collect(),
            acks: acks.iter().map(|(n, a)| ((*n).into(), times(a))).collect(),
            began: ms(1_000),
            ended: ms(2_000),
            ..Ledger::default()
        }
    }

    #[test]
    fn a_gap_counts_from_the_begin_and_to_the_end_and_takes_acks_in_any_order() {
        let check = |acks: &[u64], expect| {
            assert_eq!(ledger(&[("a", acks)]).longest_gap().as_millis(), expect);
        };
        check(&[], 1_000);
        check(&[1_900, 1_100, 1_500], 400);
        check(&[1_700, 1_600], 600);
        check(&[1_100, 1_200], 800);
        check(&[1_500, 2_600], 600);
    }

    #[test]
    fn a_conversation_that_waits_is_not_hidden_by_others() {
        let both = ledger(&[("a", &[1_200, 1_400, 1_600, 1_800]), ("b", &[1_100, 1_900])]);
        assert_eq!(both.longest_gap().as_millis(), 200);
        assert_eq!(both.worst_gap().as_millis(), 800);
        assert_eq!(
            ledger(&[("a", &[1_500]), ("b", &[])])
                .worst_gap()
                .as_millis(),
            1_000
        );
    }
}
