//! What is appended, and what comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost_types::Timestamp;
use proto::v1;
use tokio::time::Instant;

/// A message to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Who sends it: 1 to 256 bytes.
    pub sender: String,
    /// Makes retries safe: at most 128 bytes, unique per conversation and sender. Left empty, the
    /// client draws one; give your own where the program that sends may itself start again.
    pub client_message_id: String,
    /// "text", "image", …: opaque to the store. A message needs a kind or a body.
    pub kind: String,
    /// Opaque content: at most 64 KiB.
    pub body: Bytes,
    /// At most 16, 4 KiB together.
    pub attributes: BTreeMap<String, String>,
    /// The seq it replies to, 0 for none.
    pub reply_to_seq: u64,
    /// Not counted as unread.
    pub silent: bool,
    /// When it was first said, Unix milliseconds, for imports.
    pub original_time_ms: Option<i64>,
    /// It expires so long after its append: 1 s to 100 years. None = as the conversation says.
    pub ttl: Option<Duration>,
    /// The conversation's fence token, where it has one; of a batch
    /// [`AppendOptions`](crate::AppendOptions) has it. Empty = none.
    pub fence_token: String,
}

impl Message {
    /// A message of kind "text".
    pub fn text(sender: impl Into<String>, text: impl Into<String>) -> Message {
        Message {
            sender: sender.into(),
            kind: "text".to_owned(),
            body: Bytes::from(text.into()),
            ..Message::default()
        }
    }

    /// With this client message id.
    #[must_use]
    pub fn id(mut self, client_message_id: impl Into<String>) -> Message {
        self.client_message_id = client_message_id.into();
        self
    }

    /// Expiring so long after its append.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Message {
        self.ttl = Some(ttl);
        self
    }

    /// With the conversation's fence token.
    #[must_use]
    pub fn fence(mut self, token: impl Into<String>) -> Message {
        self.fence_token = token.into();
        self
    }

    pub(crate) fn into_wire(self) -> v1::Message {
        v1::Message {
            sender: self.sender,
            client_message_id: self.client_message_id,
            r#type: self.kind,
            body: self.body,
            attributes: self.attributes,
            reply_to_seq: self.reply_to_seq,
            silent: self.silent,
            original_time: self.original_time_ms.map(timestamp),
            ttl: self.ttl.map(duration),
            ..v1::Message::default()
        }
    }
}

/// The acknowledgement of one message: it is durable on a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number in the conversation, from 1.
    pub seq: u64,
    /// The shard's revision at its append.
    pub revision: u64,
    /// When the leader took it, Unix milliseconds; never decreases in a conversation.
    pub create_time_ms: i64,
    /// An earlier attempt (of this client or another) had appended it; the numbers are its.
    pub deduplicated: bool,
    /// When the acknowledgement came, by the client's monotonic clock.
    pub acked_at: Instant,
    /// From the call to the acknowledgement, all attempts and waiting included.
    pub latency: Duration,
    /// How often it was sent.
    pub attempts: u32,
}

pub(crate) fn timestamp(unix_ms: i64) -> Timestamp {
    Timestamp {
        seconds: unix_ms.div_euclid(1_000),
        // 0 to 999 million: always fits.
        nanos: i32::try_from(unix_ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0),
    }
}

/// The longest that can be said, if it is longer: the server says what is too long.
pub(crate) fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

/// Unix milliseconds of a timestamp that came over the wire.
pub(crate) fn unix_ms(time: &Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(time.nanos) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_milliseconds() {
        for ms in [-1_001, -1, 0, 1, 1_525_289_895_000, 1_525_289_895_999] {
            let time = timestamp(ms);
            assert!((0..1_000_000_000).contains(&time.nanos));
            assert_eq!(unix_ms(&time), ms);
        }
    }
}
