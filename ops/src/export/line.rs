//! The lines of an export. Each is one JSON object whose fields come in a fixed order:
//!
//! ```text
//! {"conversation":"room-1","settings":{"attributes":{}},"min_seq":1,"last_seq":2}       a conversation begins
//! {"conversation":"room-1","seq":1,"sender":"ann","client_message_id":"a1",             a message
//!  "timestamp":"2018-05-02T19:38:15Z","type":"text","text":"Hello"}
//! {"conversation":"room-1","seq":2,"timestamp":"…","redact_time":"…"}                   one that was erased
//! {"conversation":"room-1","seq":1,"reactions":[["ben","👍"]]}                          reactions to a message
//! {"conversation":"room-1","ended":"…"}                                                 why it ends here
//! ```
//!
//! Times are those of where a message was first said, when an import told so. What differs between two
//! clusters that hold the same messages is left out: revisions, shards, times of imports.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::v1;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

/// Reactions of one line, most.
pub const REACTIONS_MAX: usize = 1_000;
/// What stands before an id of a message in an import when the id was no import's before.
pub const GIVEN_ID: &str = "import:=";

/// That a conversation begins.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin<'a> {
    /// Its id.
    #[serde(borrow)]
    pub conversation: Cow<'a, str>,
    /// Its settings.
    pub settings: Settings,
    /// Messages before this one have expired.
    pub min_seq: u64,
    /// The last message that is exported.
    pub last_seq: u64,
}

/// The settings of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A message.
#[derive(Debug, Serialize)]
struct Said<'a> {
    conversation: &'a str,
    seq: u64,
    sender: &'a str,
    client_message_id: &'a str,
    timestamp: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    reply_to_seq: u64,
    #[serde(skip_serializing_if = "is_false")]
    silent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    edit_time: Option<String>,
}

/// A message that was erased.
#[derive(Serialize)]
struct Erased<'a> {
    conversation: &'a str,
    seq: u64,
    timestamp: String,
    redact_time: String,
}

/// Reactions to one message.
#[derive(Serialize)]
struct Reacted<'a> {
    conversation: &'a str,
    seq: u64,
    reactions: Vec<(&'a str, &'a str)>,
}

/// Why a conversation ends here.
#[derive(Serialize)]
struct Ended<'a> {
    conversation: &'a str,
    ended: &'a str,
}

fn is_empty(map: &&BTreeMap<String, String>) -> bool {
    map.is_empty()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Writes that a conversation begins.
///
/// # Errors
/// None: memory takes it.
pub fn begin(out: &mut Vec<u8>, head: &v1::Conversation, id: &str) -> serde_json::Result<()> {
    let settings = Settings {
        attributes: head.attributes.clone(),
    };
    let line = Begin {
        conversation: Cow::Borrowed(id),
        settings,
        min_seq: head.min_seq.max(1),
        last_seq: head.last_seq,
    };
    write(out, &line)
}

/// Writes a message.
///
/// # Errors
/// As [`begin`].
pub fn message(
    out: &mut Vec<u8>,
    conversation: &str,
    message: &v1::Message,
) -> serde_json::Result<()> {
    let (seq, timestamp) = (message.seq, first_said(message));
    if let Some(redaction) = &message.redaction {
        let time = redaction.original_time.or(redaction.redact_time);
        let line = Erased {
            conversation,
            seq,
            timestamp,
            redact_time: time.map_or_else(String::new, |time| time.to_string()),
        };
        return write(out, &line);
    }
    let text = std::str::from_utf8(&message.body).ok();
    let id = &message.client_message_id;
    let edit_time = message.original_edit_time.or(message.edit_time);
    let line = Said {
        conversation,
        seq,
        sender: &message.sender,
        client_message_id: id.strip_prefix(GIVEN_ID).unwrap_or(id),
        timestamp,
        kind: &message.r#type,
        text,
        body_base64: text.is_none().then(|| STANDARD.encode(&message.body)),
        attributes: &message.attributes,
        reply_to_seq: message.reply_to_seq,
        silent: message.silent,
        edit_time: edit_time.map(|time| time.to_string()),
    };
    write(out, &line)
}

fn first_said(message: &v1::Message) -> String {
    let time: Option<Timestamp> = message.original_time.or(message.create_time);
    time.map_or_else(String::new, |time| time.to_string())
}

/// Writes reactions, a line for each message; those to one follow each other.
///
/// # Errors
/// As [`begin`].
pub fn reactions(
    out: &mut Vec<u8>,
    conversation: &str,
    given: &[v1::Reaction],
) -> serde_json::Result<()> {
    for of_one in given.chunk_by(|one, other| one.seq == other.seq) {
        for some in of_one.chunks(REACTIONS_MAX) {
            let pairs = some
                .iter()
                .map(|one| (one.user.as_str(), one.kind.as_str()));
            let line = Reacted {
                conversation,
                seq: some[0].seq,
                reactions: pairs.collect(),
            };
            write(out, &line)?;
        }
    }
    Ok(())
}

/// How many of these reactions fill lines that can be written before those that follow are known.
pub fn whole_lines(given: &[v1::Reaction]) -> usize {
    let Some(last) = given.last() else { return 0 };
    let of_last = given
        .iter()
        .rev()
        .take_while(|one| one.seq == last.seq)
        .count();
    given.len() - of_last % REACTIONS_MAX
}

/// Writes why a conversation ends here.
///
/// # Errors
/// As [`begin`].
pub fn ended(out: &mut Vec<u8>, conversation: &str, why: &str) -> serde_json::Result<()> {
    let ended = why;
    write(
        out,
        &Ended {
            conversation,
            ended,
        },
    )
}

fn write(out: &mut Vec<u8>, line: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn said() -> v1::Message {
        v1::Message {
            name: "not told".into(),
            seq: 7,
            revision: 99,
            sender: "ann".into(),
            client_message_id: "import:=a1".into(),
            r#type: "text".into(),
            body: "안녕\n\"".into(),
            create_time: time(1_665_800_000),
            original_time: time(1_525_289_895),
            ..v1::Message::default()
        }
    }

    #[track_caller]
    fn check(given: &v1::Message, expect: &str) {
        let mut out = Vec::new();
        message(&mut out, "room", given).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect.to_owned() + "\n");
    }

    /// Golden: the format is for ever.
    #[test]
    fn lines_are_written_as_ever() {
        check(
            &said(),
            r#"{"conversation":"room","seq":7,"sender":"ann","client_message_id":"a1","timestamp":"2018-05-02T19:38:15Z","type":"text","text":"안녕\n\""}"#,
        );
        let full = v1::Message {
            client_message_id: "import:room:7".into(),
            body: vec![0xff].into(),
            r#type: String::new(),
            attributes: [("k".to_owned(), "v".to_owned())].into(),
            reply_to_seq: 3,
            silent: true,
            edit_time: time(1_665_800_100),
            ..said()
        };
        check(
            &full,
            r#"{"conversation":"room","seq":7,"sender":"ann","client_message_id":"import:room:7","timestamp":"2018-05-02T19:38:15Z","type":"","body_base64":"/w==","attributes":{"k":"v"},"reply_to_seq":3,"silent":true,"edit_time":"2022-10-15T02:15:00Z"}"#,
        );
        let imported = v1::Message {
            original_edit_time: time(0),
            edit_time: time(1_665_800_100),
            ..said()
        };
        let mut out = Vec::new();
        message(&mut out, "room", &imported).unwrap();
        assert!(
            String::from_utf8(out)
                .unwrap()
                .ends_with("\"edit_time\":\"1970-01-01T00:00:00Z\"}\n")
        );
        let erased = v1::Message {
            seq: 8,
            create_time: time(0),
            redaction: Some(v1::Redaction {
                redact_time: time(1),
                expired: false,
                original_time: None,
            }),
            ..v1::Message::default()
        };
        check(
            &erased,
            r#"{"conversation":"room","seq":8,"timestamp":"1970-01-01T00:00:00Z","redact_time":"1970-01-01T00:00:01Z"}"#,
        );
    }

    #[test]
    fn conversations_and_reactions_are_written_as_ever() {
        let head = v1::Conversation {
            last_seq: 2,
            attributes: [("title".to_owned(), "x".to_owned())].into(),
            ..v1::Conversation::default()
        };
        let mut out = Vec::new();
        begin(&mut out, &head, "room").unwrap();
        let one = |seq, user: &str| v1::Reaction {
            seq,
            user: user.into(),
            kind: "👍".into(),
        };
        reactions(&mut out, "room", &[one(1, "a"), one(1, "b"), one(2, "a")]).unwrap();
        ended(&mut out, "room", "gone").unwrap();
        let many: Vec<_> = (0..2_500).map(|_| one(3, "a")).collect();
        assert_eq!(whole_lines(&many), 2_000);
        assert_eq!(whole_lines(&[one(1, "a"), one(2, "a")]), 1);
        let expect = [
            r#"{"conversation":"room","settings":{"attributes":{"title":"x"}},"min_seq":1,"last_seq":2}"#,
            r#"{"conversation":"room","seq":1,"reactions":[["a","👍"],["b","👍"]]}"#,
            r#"{"conversation":"room","seq":2,"reactions":[["a","👍"]]}"#,
            r#"{"conversation":"room","ended":"gone"}"#,
            "",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), expect.join("\n"));
    }
}
