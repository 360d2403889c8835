//! Who sends and reads what.

use serde::{Deserialize, Serialize};

/// Who sends and reads what, through the real client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// How long they do, ms.
    pub duration_ms: u64,
    /// Where clients are.
    pub sites: Vec<Site>,
    /// Conversations.
    pub rooms: u32,
    /// Exponent of the Zipf law by which senders and readers choose rooms, thousandths; 0 = evenly.
    /// Of no matter to senders that have rooms of their own.
    pub zipf_milli: u32,
    /// Each sender and each mover writes to a room of its own, the lowest first, so that no message
    /// waits for somebody else's.
    #[serde(default)]
    pub own_rooms: bool,
    /// Senders in all, spread over the sites; each sends one message after the other, or one burst.
    pub senders: u32,
    /// Messages that a sender on a stream has in flight at once, all to one room.
    #[serde(default = "one_at_a_time")]
    pub burst: (u32, u32),
    /// A sender's pause between an answer and its next message, ms.
    pub pause_ms: (u64, u64),
    /// Senders that use a stream, percent; the others make a call for each message.
    pub stream_percent: u32,
    /// Bytes of a message's body.
    pub body_bytes: (u32, u32),
    /// Messages that are sent a second time after their acknowledgement, under the same id and
    /// perhaps through another site, percent.
    pub resend_percent: u32,
    /// Readers of each level.
    pub readers: Readers,
    /// Tails, each of a drawn room.
    pub tails: u32,
    /// How often a tail hangs up and resumes from its cursor, ms; 0 = never.
    pub tail_resume_ms: u64,
    /// Sessions (a sender that reads its own room) that move from site to site.
    pub movers: u32,
    /// How long a mover stays at a site, ms.
    pub move_every_ms: u64,
    /// Clients that edit, erase and react to messages, each in a conversation of its own.
    #[serde(default)]
    pub changers: u32,
    /// How long a call may take, ms.
    pub deadline_ms: u64,
}

impl Workload {
    /// The rooms without which somebody who has one of their own would have to share it.
    pub fn rooms_needed(&self) -> u32 {
        match self.own_rooms {
            true => self.senders.saturating_add(self.movers),
            false => 0,
        }
    }

    /// The room of sender `k`, if it has one of its own.
    pub fn room_of_sender(&self, k: u32) -> Option<u32> {
        self.own_rooms.then(|| k % self.rooms.max(1))
    }

    /// The room of mover `k`, if it has one of its own.
    pub fn room_of_mover(&self, k: u32) -> Option<u32> {
        self.room_of_sender(self.senders.saturating_add(k))
    }
}

/// What plans that do not speak of bursts mean.
fn one_at_a_time() -> (u32, u32) {
    (1, 1)
}

/// A place where clients are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its host's name, as `client-seoul`.
    pub name: String,
    /// The data center that it is nearest to.
    pub dc: String,
    /// Whether it is inside, and shares the data center's fate; otherwise it is a few ms away.
    pub inside: bool,
}

/// Readers of each level; each reads a page, pauses, and reads again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readers {
    /// LINEARIZABLE.
    pub linearizable: u32,
    /// SESSION.
    pub session: u32,
    /// BOUNDED.
    pub bounded: u32,
    /// LOCAL.
    pub local: u32,
    /// The bound of BOUNDED, ms.
    pub bound_ms: u64,
    /// The pause, ms.
    pub pause_ms: (u64, u64),
}
