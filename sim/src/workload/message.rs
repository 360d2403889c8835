//! The messages of a load. Each says a marker that occurs nowhere else, so that it can be found in
//! the raw bytes of a simulated disk.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};
use xxhash_rust::xxh3::xxh3_64;

use crate::plan::Plan;

/// Messages of one session that have numbers of their own.
const ORDINAL_BITS: u32 = 24;

/// What the body of message `n` of the run with this seed begins with: `fb-{seed}-{n}-`, both in
/// hex. ASCII; no marker is a part of another, and none of the letters that follow it.
pub fn marker(seed: u64, n: u64) -> String {
    format!("fb-{seed:x}-{n:x}-")
}

/// The number of a session's message, over all sessions.
pub fn number(session: u32, ordinal: u64) -> u64 {
    u64::from(session) << ORDINAL_BITS | ordinal
}

/// What stands for a body in a history: its xxh3, 64 bits.
pub fn body_hash(body: &[u8]) -> u64 {
    xxh3_64(body)
}

/// A message, and what has become of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) room: u32,
    /// The client message id.
    pub(crate) id: String,
    pub(crate) marker: String,
    pub(crate) body: Bytes,
    /// It has been sent before.
    pub(crate) sent: bool,
    /// It has been acknowledged before.
    pub(crate) acked: bool,
}

impl Draft {
    /// Message `ordinal` of `session`, whose sender is called `sender`. Its body is the marker and
    /// letters up to the drawn length; a length below the marker's gives the marker alone.
    pub(crate) fn new(
        plan: &Plan,
        (session, sender): (u32, &str),
        ordinal: u64,
        room: u32,
        dice: &mut StdRng,
    ) -> Draft {
        let marker = marker(plan.seed, number(session, ordinal));
        let (least, most) = plan.workload.body_bytes;
        let bytes = dice.random_range(least..=most.max(least)) as usize;
        let mut body = marker.clone().into_bytes();
        let letters = body.len();
        body.resize(bytes.max(letters), 0);
        dice.fill_bytes(&mut body[letters..]);
        for letter in &mut body[letters..] {
            *letter = b'a' + *letter % 26;
        }
        Draft {
            room,
            id: format!("{sender}-{ordinal}"),
            marker,
            body: body.into(),
            sent: false,
            acked: false,
        }
    }

    /// As the client takes it.
    pub(crate) fn message(&self, sender: &str) -> client::Message {
        client::Message {
            sender: sender.to_owned(),
            client_message_id: self.id.clone(),
            kind: "text".to_owned(),
            body: self.body.clone(),
            ..client::Message::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::dice;
    use crate::workload::tests::plan;

    #[test]
    fn no_marker_is_part_of_another_message() {
        let plan = plan(0x2a);
        let mut dice = dice(1, "body");
        let mut bodies = Vec::new();
        for session in [0, 1, 16, 17, 4_097] {
            for ordinal in [0, 1, 16, 17, 272] {
                bodies.push(Draft::new(&plan, (session, "s"), ordinal, 0, &mut dice));
            }
        }
        for a in &bodies {
            assert!(a.body.starts_with(a.marker.as_bytes()));
            let holds = |b: &&Draft| {
                let mut parts = b.body.windows(a.marker.len());
                parts.any(|part| part == a.marker.as_bytes())
            };
            assert_eq!(bodies.iter().filter(holds).count(), 1, "{}", a.marker);
        }
    }

    #[test]
    fn a_body_has_the_drawn_length_and_never_less_than_its_marker() {
        let mut plan = plan(7);
        let mut dice = dice(1, "body");
        for (bytes, expect) in [((0, 0), 7), ((7, 7), 7), ((100, 100), 100)] {
            plan.workload.body_bytes = bytes;
            let draft = Draft::new(&plan, (0, "s0"), 3, 2, &mut dice);
            assert_eq!(
                (draft.marker.as_str(), draft.id.as_str()),
                ("fb-7-3-", "s0-3")
            );
            assert_eq!(draft.body.len(), expect);
        }
    }
}
