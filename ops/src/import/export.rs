//! Records of what `firebreak export` wrote.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::Message;
use firebreak::corpus::parse_time;
use model::id;
use serde::Deserialize;

use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::record::{At, Bad, Begin, Change, ERASED, Reacted, Record, Said, check};
use crate::export::line::{GIVEN_ID, Settings};
use crate::export::manifest::Manifest;
use crate::export::verify;

const BUFFER_BYTES: usize = 256 * 1024;

/// The records of an export, part after part.
pub struct Export {
    dir: PathBuf,
    /// Parts that are left, the last first.
    parts: Vec<String>,
    open: Option<(Arc<str>, Lines<BufReader<File>>)>,
    read: Arc<AtomicU64>,
    /// What was wrong with the files themselves, the last first.
    wrong: Vec<Bad>,
}

/// A line of any kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    conversation: Cow<'a, str>,
    settings: Option<Settings>,
    #[serde(rename = "min_seq")]
    _min_seq: Option<u64>,
    last_seq: Option<u64>,
    seq: Option<u64>,
    #[serde(borrow)]
    sender: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client_message_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    reply_to_seq: u64,
    #[serde(default)]
    silent: bool,
    #[serde(borrow)]
    edit_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    redact_time: Option<Cow<'a, str>>,
    reactions: Option<Vec<(String, String)>>,
    #[serde(borrow)]
    ended: Option<Cow<'a, str>>,
}

impl Export {
    /// Of a directory. Its hashes are looked at first; parts that are not as they were written are told, and
    /// read all the same. `read` counts bytes.
    ///
    /// # Errors
    /// As [`verify::verify`].
    pub fn open(dir: &Path, read: Arc<AtomicU64>) -> anyhow::Result<(Export, u64)> {
        let found = verify::verify(dir, &indicatif::ProgressBar::hidden())?;
        let Manifest { parts, .. } = found.manifest;
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let file: Arc<str> = Arc::from(dir.display().to_string());
        let wrong = found.wrong.into_iter().rev().map(|reason| Bad {
            at: At {
                file: Arc::clone(&file),
                line: 0,
            },
            reason,
        });
        let export = Export {
            dir: dir.to_owned(),
            parts: parts.into_iter().rev().map(|part| part.file).collect(),
            open: None,
            read,
            wrong: wrong.collect(),
        };
        Ok((export, bytes))
    }

    fn open_next(&mut self) -> Option<Result<(), Bad>> {
        let name = self.parts.pop()?;
        let file: Arc<str> = Arc::from(name.as_str());
        Some(match File::open(self.dir.join(&name)) {
            Ok(input) => {
                let input = BufReader::with_capacity(BUFFER_BYTES, input);
                let lines = Lines::new(input, Arc::clone(&self.read));
                self.open = Some((file, lines));
                Ok(())
            }
            Err(error) => Err(unreadable(At { file, line: 0 }, &error)),
        })
    }
}

fn unreadable(at: At, error: &std::io::Error) -> Bad {
    let reason = format!("the file cannot be read on from here: {error}");
    Bad { at, reason }
}

impl Iterator for Export {
    type Item = Result<Record, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(wrong) = self.wrong.pop() {
            return Some(Err(wrong));
        }
        loop {
            let Some((file, lines)) = &mut self.open else {
                match self.open_next()? {
                    Ok(()) => continue,
                    Err(bad) => return Some(Err(bad)),
                }
            };
            let at = At {
                file: Arc::clone(file),
                line: lines.number() + 1,
            };
            match lines.next_line() {
                Ok(Some(Line::Whole(line))) => match parse(line, &at) {
                    Ok(Some(record)) => return Some(Ok(record)),
                    Ok(None) => {}
                    Err(reason) => return Some(Err(Bad { at, reason })),
                },
                Ok(Some(Line::TooLong)) => {
                    let reason = format!("is longer than {LINE_BYTES_MAX} bytes");
                    return Some(Err(Bad { at, reason }));
                }
                Ok(None) => self.open = None,
                Err(error) => {
                    self.open = None;
                    return Some(Err(unreadable(at, &error)));
                }
            }
        }
    }
}

/// The record of a line; none when it holds nothing to import.
fn parse(line: &[u8], at: &At) -> Result<Option<Record>, String> {
    let raw: Raw<'_> = serde_json::from_slice(line)
        .map_err(|error| format!("is no line of an export of format 1: {error}"))?;
    id::segment("conversation", &raw.conversation).map_err(|error| error.to_string())?;
    if raw.ended.is_some() {
        return Ok(None);
    }
    if let Some(settings) = raw.settings {
        return Ok(Some(Record::Begin(Begin {
            conversation: raw.conversation.into_owned(),
            attributes: settings.attributes,
            is_empty: raw.last_seq == Some(0),
            at: at.clone(),
        })));
    }
    let seq = raw
        .seq
        .ok_or("seq is missing: the message's number, 1 or more")?;
    if let Some(reactions) = raw.reactions {
        return Ok(Some(Record::Reacted(Reacted {
            conversation: raw.conversation.into_owned(),
            key: seq,
            reactions,
            at: at.clone(),
        })));
    }
    message(raw, seq, at).map(|said| Some(Record::Said(Box::new(said))))
}

fn message(raw: Raw<'_>, seq: u64, at: &At) -> Result<Said, String> {
    let timestamp = raw
        .timestamp
        .ok_or("timestamp is missing: when the message was said")?;
    let original_time_ms = Some(parse_time(&timestamp)?);
    let time_of = |time: &Option<Cow<'_, str>>| time.as_deref().map(parse_time).transpose();
    let (message, change) = match time_of(&raw.redact_time)? {
        Some(erased) => {
            let message = Message {
                sender: ERASED.to_owned(),
                client_message_id: format!("import:erased:{seq}"),
                kind: ERASED.to_owned(),
                original_time_ms,
                ..Message::default()
            };
            (message, Change::Erased(Some(erased)))
        }
        None => {
            let body = match (raw.text, raw.body_base64) {
                (Some(text), None) => Bytes::from(text.into_owned()),
                (None, Some(body)) => {
                    let body = STANDARD.decode(&*body);
                    Bytes::from(
                        body.map_err(|error| format!("body_base64 is not base64: {error}"))?,
                    )
                }
                _ => return Err("needs either text or body_base64".to_owned()),
            };
            let id = raw
                .client_message_id
                .ok_or("client_message_id is missing")?;
            let message = Message {
                sender: raw.sender.ok_or("sender is missing")?.into_owned(),
                client_message_id: import_id(&id),
                kind: raw.kind.unwrap_or_default().into_owned(),
                body,
                attributes: raw.attributes,
                silent: raw.silent,
                original_time_ms,
                ..Message::default()
            };
            let change = time_of(&raw.edit_time)?.map_or(Change::None, Change::Edited);
            (message, change)
        }
    };
    check(&message)?;
    Ok(Said {
        conversation: raw.conversation.into_owned(),
        key: seq,
        is_spoken_of: true,
        reply_to: Some(raw.reply_to_seq).filter(|seq| *seq > 0),
        message,
        change,
        reactions: Vec::new(),
        at: at.clone(),
    })
}

/// The id under which a message is imported that had this one.
fn import_id(id: &str) -> String {
    match id.starts_with("import:") {
        true => id.to_owned(),
        false => format!("{GIVEN_ID}{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At {
            file: Arc::from("part"),
            line: 3,
        }
    }

    #[track_caller]
    fn said(line: &str) -> Said {
        match parse(line.as_bytes(), &at()).unwrap().unwrap() {
            Record::Said(said) => *said,
            other => panic!("{other:?}"),
        }
    }

    /// Golden: what was once written is read for ever.
    #[test]
    fn lines_of_the_first_format_are_read() {
        let one = said(
            r#"{"conversation":"room","seq":7,"sender":"ann","client_message_id":"a1","timestamp":"2018-05-02T19:38:15Z","type":"","body_base64":"/w==","attributes":{"k":"v"},"reply_to_seq":3,"silent":true,"edit_time":"1970-01-01T00:00:01Z"}"#,
        );
        assert_eq!((one.key, one.reply_to), (7, Some(3)));
        assert_eq!(one.change, Change::Edited(1_000));
        assert_eq!(one.message.client_message_id, "import:=a1");
        assert_eq!(
            (&one.message.body[..], one.message.silent),
            (&[0xff][..], true)
        );
        assert_eq!(one.message.original_time_ms, Some(1_525_289_895_000));
        let erased = said(
            r#"{"conversation":"room","seq":8,"timestamp":"1970-01-01T00:00:00Z","redact_time":"1970-01-01T00:00:01Z"}"#,
        );
        assert_eq!(erased.change, Change::Erased(Some(1_000)));
        let begin = br#"{"conversation":"room","settings":{"attributes":{"a":"b"}},"min_seq":1,"last_seq":0}"#;
        let Some(Record::Begin(begin)) = parse(begin, &at()).unwrap() else {
            panic!("a conversation begins")
        };
        assert!(begin.is_empty && begin.attributes.len() == 1);
        let reacted = parse(
            br#"{"conversation":"room","seq":7,"reactions":[["ben","x"]]}"#,
            &at(),
        );
        assert!(matches!(reacted, Ok(Some(Record::Reacted(one))) if one.key == 7));
        let ended = parse(br#"{"conversation":"room","ended":"why"}"#, &at());
        assert_eq!(ended, Ok(None));
    }

    #[test]
    fn the_lines_that_the_page_shows_are_lines() {
        let page = include_str!("../../../docs/export.md");
        let block = page.split("```json\n").nth(1).unwrap();
        let lines: Vec<&str> = block.lines().take_while(|line| *line != "```").collect();
        assert_eq!(lines.len(), 4);
        for line in lines {
            assert!(
                matches!(parse(line.as_bytes(), &at()), Ok(Some(_))),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let wrong = |line: &str| parse(line.as_bytes(), &at()).unwrap_err();
        assert!(wrong("{").contains("is no line of an export"));
        assert!(wrong(r#"{"conversation":"a b","ended":""}"#).contains("conversation"));
        assert!(wrong(r#"{"conversation":"r"}"#).contains("seq is missing"));
        assert!(wrong(r#"{"conversation":"r","seq":1}"#).contains("timestamp is missing"));
        let with = |more: &str| {
            wrong(&format!(
                r#"{{"conversation":"r","seq":1,"timestamp":"2018-05-02T19:38:15Z"{more}}}"#
            ))
        };
        assert!(with("").contains("text or body_base64"));
        assert!(
            with(r#","text":"x","sender":"","client_message_id":"1","type":"text""#)
                .contains("sender")
        );
        assert!(with(r#","text":"x","strange":1"#).contains("strange"));
    }
}
