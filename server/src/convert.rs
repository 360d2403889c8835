//! Between the wire's types and the model's. What comes in has passed [`crate::check`].

use bytes::Bytes;
use model::command::{Append, AppendWith, Attribute, Command, MessageChanged, NewMessage, Outcome};
use model::id::ConversationName;
use model::state;
use prost::Message as _;
use prost_types::Timestamp;
use proto::v1;
use store::state::Shown;

/// What a sender gave, moved out of the request without copying.
pub fn new_message(message: v1::Message) -> NewMessage {
    NewMessage {
        sender: Bytes::from(message.sender),
        client_message_id: Bytes::from(message.client_message_id),
        kind: Bytes::from(message.r#type),
        body: message.body,
        attributes: attributes(message.attributes),
        reply_to_seq: message.reply_to_seq,
        silent: message.silent,
        original_time_ms: message.original_time.map(|time| millis(&time)),
        ttl_ms: message.ttl.as_ref().map_or(0, millis_of),
    }
}

/// Milliseconds of a time to live that was checked; rounded up, so that it is none only if it was.
pub fn millis_of(ttl: &prost_types::Duration) -> u64 {
    let part = u64::try_from(ttl.nanos).unwrap_or(0).div_ceil(1_000_000);
    let whole = u64::try_from(ttl.seconds).unwrap_or(0);
    whole.saturating_mul(1_000).saturating_add(part)
}

/// The same as the wire has it; none when it is none.
pub fn ttl(ttl_ms: u64) -> Option<prost_types::Duration> {
    (ttl_ms > 0).then(|| duration(std::time::Duration::from_millis(ttl_ms)))
}

/// Sorted by key, since the map is.
pub fn attributes(map: std::collections::BTreeMap<String, String>) -> Vec<Attribute> {
    map.into_iter()
        .map(|(key, value)| Attribute { key, value })
        .collect()
}

/// An encoded append, with all that is looked at now.
pub fn append(append: Append) -> Bytes {
    let append = Some(append);
    append_with(AppendWith {
        append,
        ..AppendWith::default()
    })
}

/// The same with what the first versions did not know.
pub fn append_with(with: AppendWith) -> Bytes {
    let append = Append {
        refuse_replies_ahead: true,
        ..with.append.unwrap_or_default()
    };
    let append = Some(append);
    let command = Command::append_with(AppendWith { append, ..with });
    Bytes::from(command.encode_to_vec())
}

/// By what it is judged whether a message has expired.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Now, Unix milliseconds; 0 while it is not known.
    pub now_ms: u64,
    /// How long its tenant has messages live, milliseconds; 0 = it does not say.
    pub tenant_ttl_ms: u64,
}

/// A stored message with its reactions as callers see it at a moment: what has expired by then is a
/// tombstone, removed or not.
///
/// # Errors
/// As [`message`].
pub fn shown(
    name: &ConversationName,
    head: &state::Conversation,
    mut shown: Shown,
    moment: Moment,
) -> Result<v1::Message, String> {
    let expires_ms = head.expires_at(&shown.stored, moment.tenant_ttl_ms);
    let expires_ms = expires_ms.filter(|_| !shown.stored.is_tombstone());
    if let Some(at_ms) = expires_ms.filter(|at_ms| *at_ms <= moment.now_ms) {
        shown.stored = state::Stored {
            message: Some(NewMessage::default()),
            edit_time_ms: None,
            expired_ms: Some(at_ms),
            ..shown.stored
        };
        shown.reactions.clear();
    }
    let mut reactions = Vec::with_capacity(shown.reactions.len());
    for (one, mine) in shown.reactions {
        let kind = String::from_utf8(one.kind.into()).map_err(|_| {
            let seq = shown.stored.seq;
            format!("message {seq} of {name} has a reaction that is no UTF-8")
        })?;
        reactions.push(v1::ReactionCount {
            kind,
            count: one.count,
            mine,
        });
    }
    Ok(v1::Message {
        revision: shown.revision,
        reactions,
        expire_time: expires_ms.map(timestamp_unsigned),
        ..message(name, shown.stored)?
    })
}

/// The answer for a message just changed: where it is, and what it came to.
pub fn changed(name: &ConversationName, changed: &MessageChanged) -> v1::Message {
    v1::Message {
        name: format!("{name}/messages/{}", changed.seq),
        seq: changed.seq,
        revision: changed.revision,
        create_time: Some(timestamp_unsigned(changed.create_time_ms)),
        ..v1::Message::default()
    }
}

/// A stored message as callers see it.
///
/// # Errors
/// When the record lacks its message or has text that is no UTF-8: it is corrupt.
pub fn message(name: &ConversationName, stored: state::Stored) -> Result<v1::Message, String> {
    let seq = stored.seq;
    let broken = |what: &str| format!("message {seq} of {name} has {what}");
    let message = stored.message.ok_or_else(|| broken("no content"))?;
    let text = |bytes: Bytes, what: &str| String::from_utf8(bytes.into()).map_err(|_| broken(what));
    Ok(v1::Message {
        name: format!("{name}/messages/{seq}"),
        seq,
        revision: stored.revision,
        sender: text(message.sender, "a sender that is no UTF-8")?,
        client_message_id: text(message.client_message_id, "an id that is no UTF-8")?,
        r#type: text(message.kind, "a type that is no UTF-8")?,
        body: message.body,
        attributes: message
            .attributes
            .into_iter()
            .map(|a| (a.key, a.value))
            .collect(),
        reply_to_seq: message.reply_to_seq,
        silent: message.silent,
        create_time: Some(timestamp_unsigned(stored.create_time_ms)),
        edit_time: stored.edit_time_ms.map(timestamp_unsigned),
        expire_time: None,
        redaction: stored
            .redact_time_ms
            .or(stored.expired_ms)
            .map(|ms| v1::Redaction {
                redact_time: Some(timestamp_unsigned(ms)),
                expired: stored.redact_time_ms.is_none(),
                original_time: stored.original_redact_time_ms.map(timestamp),
            }),
        reactions: Vec::new(),
        original_time: message.original_time_ms.map(timestamp),
        ttl: ttl(message.ttl_ms),
        original_edit_time: stored.original_edit_time_ms.map(timestamp),
    })
}

/// The answer for a message just appended: what the caller gave, and where it ended up.
pub fn appended(
    name: &ConversationName,
    given: v1::Message,
    outcome: &Outcome,
    with_body: bool,
) -> v1::Message {
    v1::Message {
        name: format!("{name}/messages/{}", outcome.seq),
        seq: outcome.seq,
        revision: outcome.revision,
        create_time: Some(timestamp_unsigned(outcome.create_time_ms)),
        // As it was stored: to the millisecond.
        original_time: given.original_time.map(|time| timestamp(millis(&time))),
        body: if with_body { given.body } else { Bytes::new() },
        ttl: ttl(given.ttl.as_ref().map_or(0, millis_of)),
        // Output only, whatever the caller set.
        edit_time: None,
        expire_time: None,
        redaction: None,
        reactions: Vec::new(),
        original_edit_time: None,
        ..given
    }
}

/// A conversation as callers see it.
pub fn conversation(head: state::Conversation, shard: u32) -> v1::Conversation {
    v1::Conversation {
        name: head.name,
        last_seq: head.last_seq,
        min_seq: head.min_seq,
        incarnation: head.incarnation,
        create_time: Some(timestamp_unsigned(head.create_time_ms)),
        attributes: head
            .attributes
            .into_iter()
            .map(|a| (a.key, a.value))
            .collect(),
        shard,
        content_hash: head.content_hash,
        info: None,
        revision: head.revision,
        delete_time: head.delete_time_ms.map(timestamp_unsigned),
        fence_token: text(head.fence_token),
        ttl: ttl(head.ttl_ms),
        legal_hold: head.hold,
        keys: head
            .keys
            .into_iter()
            .map(|one| v1::KeySeq {
                key: text(one.key),
                last_seq: one.seq,
            })
            .collect(),
    }
}

/// Text that was checked when it came in.
fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Unix milliseconds, rounded down; valid timestamps lie far inside the range.
pub fn millis(time: &Timestamp) -> i64 {
    time.seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(time.nanos / 1_000_000))
}

/// A time that has passed, as the wire has it: the longest it can say if it is longer.
pub fn duration(time: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

/// From Unix milliseconds.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0),
    }
}

/// From Unix milliseconds after 1970.
pub fn timestamp_unsigned(ms: u64) -> Timestamp {
    timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_given_to_the_millisecond() {
        let name = ConversationName::new("acme", "room").expect("valid");
        let given = v1::Message {
            name: "ignored".into(),
            seq: 99,
            sender: "ann".into(),
            client_message_id: "1".into(),
            r#type: "text".into(),
            body: "hi".into(),
            attributes: [("b".into(), "2".into()), ("a".into(), "1".into())].into(),
            reply_to_seq: 3,
            silent: true,
            original_time: Some(Timestamp {
                seconds: -2,
                nanos: 1_999_999,
            }),
            ..v1::Message::default()
        };
        let stored = state::Stored {
            format: 1,
            seq: 7,
            revision: 8,
            create_time_ms: 1_500,
            message: Some(new_message(given.clone())),
            ..state::Stored::default()
        };
        let back = message(&name, stored).expect("complete");
        let outcome = Outcome {
            seq: 7,
            revision: 8,
            create_time_ms: 1_500,
            ..Outcome::default()
        };
        assert_eq!(back, appended(&name, given.clone(), &outcome, true));
        assert_eq!(back.name, "tenants/acme/conversations/room/messages/7");
        assert_eq!(back.seq, 7);
        assert_eq!(
            back.original_time,
            Some(Timestamp {
                seconds: -2,
                nanos: 1_000_000
            })
        );
        assert_eq!(
            back.create_time,
            Some(Timestamp {
                seconds: 1,
                nanos: 500_000_000
            })
        );
        assert!(appended(&name, given, &outcome, false).body.is_empty());
    }

    #[test]
    fn a_record_that_is_no_text_is_an_error_and_no_panic() {
        let name = ConversationName::new("acme", "room").expect("valid");
        let mut stored = state::Stored {
            seq: 1,
            ..state::Stored::default()
        };
        assert!(message(&name, stored.clone()).is_err());
        stored.message = Some(NewMessage {
            sender: vec![0xff].into(),
            ..NewMessage::default()
        });
        assert!(message(&name, stored).is_err());
    }

    #[test]
    fn times_before_1970_round_trip() {
        for ms in [
            i64::from(i32::MIN),
            -1_001,
            -1_000,
            -1,
            0,
            1,
            1_700_000_000_123,
        ] {
            assert_eq!(millis(&timestamp(ms)), ms);
        }
    }
}
