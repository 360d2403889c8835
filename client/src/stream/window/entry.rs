//! A message in the window, and what goes out of it.

use std::time::Duration;

use bytes::Bytes;
use model::mutant;
use prost::Message;
use proto::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Refusal;
use crate::stream::Outcome;

/// Bits of a correlation id that say in which slot the entry is; the rest counts.
pub(super) const SLOT_BITS: u32 = 16;

const _: () = assert!(model::limits::STREAM_UNANSWERED_MAX <= 1 << SLOT_BITS);

pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) lane: usize,
    /// The encoded `AppendItem`.
    pub(super) item: Bytes,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    /// When it was last sent.
    pub(super) sent_at: Instant,
    /// On which stream.
    pub(super) stream: u64,
    pub(super) attempts: u32,
    pub(super) last: Option<Refusal>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

pub(super) fn slot_of(id: u64) -> usize {
    (id & ((1 << SLOT_BITS) - 1)) as usize
}

pub(super) fn entry(slots: &mut [Option<Entry>], id: u64) -> Option<&mut Entry> {
    slots
        .get_mut(slot_of(id))?
        .as_mut()
        .filter(|entry| entry.id == id)
}

/// The item, with what is left of its time when much of it is gone: of a field that is there twice,
/// the last counts.
pub(super) fn timed(entry: &Entry, now: Instant) -> Bytes {
    const WORTH_TELLING: Duration = Duration::from_millis(100);
    if mutant!("client-retry-with-a-new-id") && entry.attempts > 0 {
        return renamed(entry);
    }
    if now - entry.started < WORTH_TELLING {
        return entry.item.clone();
    }
    let left = entry.deadline.saturating_duration_since(now).as_millis();
    let mut item = entry.item.to_vec();
    let timeout_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    item.extend(
        v1::AppendItem {
            timeout_ms,
            ..v1::AppendItem::default()
        }
        .encode_to_vec(),
    );
    Bytes::from(item)
}

/// What a mutant sends again: the same message under another id. Of a message that is there twice,
/// the fields are merged.
fn renamed(entry: &Entry) -> Bytes {
    let message = v1::Message {
        client_message_id: format!("{}-{}", entry.id, entry.attempts),
        ..v1::Message::default()
    };
    let other = v1::AppendItem {
        message: Some(message),
        ..v1::AppendItem::default()
    };
    Bytes::from([&entry.item[..], &other.encode_to_vec()].concat())
}
