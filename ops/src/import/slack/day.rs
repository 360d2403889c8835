//! The messages of one day.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use client::Message;
use model::limits;
use serde::Deserialize;
use serde_json::Value;

use super::names::Names;
use crate::import::record::{At, Bad, Change, ERASED, Record, Said, check, tame};

/// Who says what no user says.
const SYSTEM: &str = "system";
/// What Slack leaves of a message that was deleted while its thread goes on.
const TOMBSTONE: &str = "tombstone";

#[derive(Deserialize)]
struct Raw {
    ts: String,
    #[serde(default)]
    subtype: Option<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    bot_id: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    thread_ts: Option<String>,
    #[serde(default)]
    edited: Option<Edited>,
    #[serde(default)]
    reactions: Vec<RawReaction>,
    #[serde(default)]
    files: Vec<RawFile>,
}

#[derive(Deserialize)]
struct Edited {
    ts: String,
}

#[derive(Deserialize)]
struct RawReaction {
    name: String,
    #[serde(default)]
    users: Vec<String>,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    name: Option<String>,
}

/// Adds the records of a day's file, in the order of time. Lines are those where messages begin.
pub(super) fn records(
    text: &[u8],
    conversation: &str,
    names: &Names,
    at: &At,
    records: &mut Vec<Result<Record, Bad>>,
) {
    let mut said = Vec::new();
    for (line, entry) in Entries::new(text) {
        let at = At {
            file: Arc::clone(&at.file),
            line,
        };
        let raw = entry.and_then(|entry| {
            serde_json::from_value::<Raw>(entry).map_err(|error| format!("is no message: {error}"))
        });
        match raw.and_then(|raw| message(raw, conversation, names, &at)) {
            Ok(one) => said.push(one),
            Err(reason) => records.push(Err(Bad { at, reason })),
        }
    }
    said.sort_by_key(|one| one.key);
    records.extend(said.into_iter().map(|one| Ok(Record::Said(Box::new(one)))));
}

/// The entries of a JSON list, each with the line where it begins.
struct Entries<'t> {
    text: &'t [u8],
    at: usize,
    line: u64,
    begun: bool,
    over: bool,
}

impl<'t> Entries<'t> {
    fn new(text: &'t [u8]) -> Entries<'t> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Entries {
            text,
            at: 0,
            line: 1,
            begun: false,
            over: false,
        }
    }

    fn pass(&mut self, to: usize) {
        let passed = &self.text[self.at..to];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = to;
    }

    /// The next byte that is no blank.
    fn mark(&mut self) -> Option<u8> {
        let left = &self.text[self.at..];
        let blanks = left
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        self.pass(self.at + blanks);
        self.text.get(self.at).copied()
    }

    fn fail(&mut self, reason: String) -> Option<(u64, Result<Value, String>)> {
        self.over = true;
        Some((self.line, Err(reason)))
    }
}

impl Iterator for Entries<'_> {
    type Item = (u64, Result<Value, String>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let opened = match (self.mark(), self.begun) {
            (Some(b']'), true) => return None,
            (Some(b'['), false) | (Some(b','), true) => self.at + 1,
            _ => return self.fail("is no list of messages in JSON from here on".to_owned()),
        };
        self.pass(opened);
        if self.mark() == Some(b']') && !self.begun {
            self.over = true;
            return None;
        }
        self.begun = true;
        let mut values = serde_json::Deserializer::from_slice(&self.text[self.at..]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                let (line, end) = (self.line, self.at + values.byte_offset());
                self.pass(end);
                Some((line, Ok(value)))
            }
            Some(Err(error)) => self.fail(format!(
                "is no JSON from here on, so that the rest of the file is not imported: {error}"
            )),
            None => self.fail("the file ends within its list".to_owned()),
        }
    }
}

fn message(raw: Raw, conversation: &str, names: &Names, at: &At) -> Result<Said, String> {
    let key = micros("ts", &raw.ts)?;
    let thread = raw
        .thread_ts
        .as_deref()
        .map(|ts| micros("thread_ts", ts))
        .transpose()?;
    let edited = raw
        .edited
        .as_ref()
        .map(|edited| micros("edited.ts", &edited.ts))
        .transpose()?;
    let change = match (raw.subtype.as_deref(), edited) {
        (Some(TOMBSTONE), _) => Change::Erased(None),
        (_, Some(edited)) => Change::Edited(millis(edited)),
        (_, None) => Change::None,
    };
    let sender = [&raw.user, &raw.bot_id, &raw.username];
    let sender = sender
        .into_iter()
        .flatten()
        .find(|sender| !sender.is_empty());
    let sender = sender.map_or_else(
        || SYSTEM.to_owned(),
        |sender| tame(sender, limits::SENDER_BYTES_MAX),
    );
    let kind = match raw.subtype.as_deref() {
        None | Some("thread_broadcast" | "file_share" | "me_message") => "text".to_owned(),
        Some("bot_message") => "bot".to_owned(),
        Some(subtype) => tame(subtype, limits::TYPE_BYTES_MAX),
    };
    let mut attributes = BTreeMap::new();
    let name = names.user(&sender).or(raw.username.as_deref());
    if let Some(name) = name {
        attributes.insert("sender_name".to_owned(), tame(name, 256));
    }
    let files: Vec<&str> = raw
        .files
        .iter()
        .filter_map(|file| file.name.as_deref())
        .collect();
    if !files.is_empty() {
        attributes.insert("files".to_owned(), tame(&files.join(", "), 2_048));
    }
    if change == Change::Erased(None) {
        return Ok(erased(&raw.ts, key, conversation, thread, at));
    }
    let message = Message {
        silent: !matches!(kind.as_str(), "text" | "bot"),
        sender,
        client_message_id: format!("import:slack:{}", raw.ts),
        kind,
        body: Bytes::from(raw.text),
        attributes,
        original_time_ms: Some(millis(key)),
        ..Message::default()
    };
    check(&message)?;
    let reactions = raw.reactions.into_iter().flat_map(|one| {
        let kind = tame(&one.name, limits::REACTION_KIND_BYTES_MAX);
        one.users
            .into_iter()
            .map(move |user| (tame(&user, limits::SENDER_BYTES_MAX), kind.clone()))
    });
    Ok(Said {
        conversation: conversation.to_owned(),
        key,
        is_spoken_of: thread == Some(key),
        reply_to: thread.filter(|thread| *thread != key),
        message,
        change,
        reactions: reactions.collect(),
        at: at.clone(),
    })
}

/// What was deleted there keeps its place until it is erased here.
fn erased(ts: &str, key: u64, conversation: &str, thread: Option<u64>, at: &At) -> Said {
    Said {
        conversation: conversation.to_owned(),
        key,
        is_spoken_of: thread == Some(key),
        reply_to: None,
        message: Message {
            sender: ERASED.to_owned(),
            client_message_id: format!("import:slack:{ts}"),
            kind: ERASED.to_owned(),
            original_time_ms: Some(millis(key)),
            ..Message::default()
        },
        change: Change::Erased(None),
        reactions: Vec::new(),
        at: at.clone(),
    }
}

fn millis(micros: u64) -> i64 {
    i64::try_from(micros / 1_000).unwrap_or(i64::MAX)
}

/// `1665705660.000100`, which is in microseconds.
fn micros(field: &str, ts: &str) -> Result<u64, String> {
    let wrong = || format!("{field} {ts:?} is no time of the form 1665705660.000100");
    let (seconds, rest) = ts.split_once('.').unwrap_or((ts, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if rest.len() > 6 || !digits(rest) || !digits(seconds) || seconds.len() > 11 {
        return Err(wrong());
    }
    let seconds: u64 = seconds.parse().map_err(|_| wrong())?;
    let rest: u64 = format!("{rest:0<6}").parse().map_err(|_| wrong())?;
    Ok(seconds * 1_000_000 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_cut_out_with_their_lines_and_broken_ones_end_the_file() {
        let cut = |text: &str| {
            Entries::new(text.as_bytes())
                .map(|(line, entry)| (line, entry.is_ok()))
                .collect::<Vec<_>>()
        };
        assert_eq!(cut("[]"), []);
        assert_eq!(cut("[\n {\"a\":\n1},\n2 ]"), [(2, true), (4, true)]);
        assert_eq!(cut("[1,\n{]"), [(1, true), (2, false)]);
        assert_eq!(cut("[1"), [(1, true), (1, false)]);
        for wrong in ["", "{}", "1", "[", "[1 2]"] {
            assert!(
                cut(wrong).last().is_some_and(|(_, whole)| !whole),
                "{wrong}"
            );
        }
    }

    #[test]
    fn times_are_microseconds_or_wrong() {
        assert_eq!(micros("ts", "1665705660.000100"), Ok(1_665_705_660_000_100));
        assert_eq!(micros("ts", "1665705660"), Ok(1_665_705_660_000_000));
        assert_eq!(micros("ts", "1.5"), Ok(1_500_000));
        for wrong in ["", "x", "1.x", "-1.0", "1.0000001", "999999999999.0"] {
            assert!(micros("ts", wrong).is_err(), "{wrong}");
        }
    }
}
