//! What sources give: conversations, messages, reactions, each with the place where it stood.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use client::Message;
use model::text::forbidden;
use model::{hash, limits};

use crate::exit::Usage;

/// Who seems to have sent what was erased, until it is erased here.
pub const ERASED: &str = "erased";

/// Where a record stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Its file.
    pub file: Arc<str>,
    /// Its line, from 1; in files without lines its place among the records.
    pub line: u64,
}

/// A record that is not imported, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Where it stood.
    pub at: At,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

/// What a source gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A conversation begins.
    Begin(Begin),
    /// A message of it.
    Said(Box<Said>),
    /// Reactions to a message that came before.
    Reacted(Reacted),
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Its id.
    pub conversation: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Whether it has no message.
    pub is_empty: bool,
    /// Where it stood.
    pub at: At,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The id of its conversation.
    pub conversation: String,
    /// Its number where it comes from; larger ones come later.
    pub key: u64,
    /// Whether others may speak of it by that.
    pub is_spoken_of: bool,
    /// The message that it replies to.
    pub reply_to: Option<u64>,
    /// What is appended. Of one that was erased: what keeps its place until it is erased here.
    pub message: Message,
    /// How it was changed since.
    pub change: Change,
    /// Who set which reactions to it.
    pub reactions: Vec<(String, String)>,
    /// Where it stood.
    pub at: At,
}

/// How a message was changed since it was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    #[default]
    None,
    /// It was edited, Unix milliseconds.
    Edited(i64),
    /// It was erased, Unix milliseconds where that is known.
    Erased(Option<i64>),
}

/// Reactions to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reacted {
    /// The id of its conversation.
    pub conversation: String,
    /// The message's number where it comes from.
    pub key: u64,
    /// User and kind of each.
    pub reactions: Vec<(String, String)>,
    /// Where they stood.
    pub at: At,
}

/// Records in the order of the files.
pub type Source = Box<dyn Iterator<Item = Result<Record, Bad>> + Send>;

impl Record {
    /// The conversation that it belongs to.
    pub fn conversation(&self) -> &str {
        match self {
            Record::Begin(begin) => &begin.conversation,
            Record::Said(said) => &said.conversation,
            Record::Reacted(reacted) => &reacted.conversation,
        }
    }

    /// What it takes in memory, bytes, about.
    pub fn weight(&self) -> usize {
        let reactions = match self {
            Record::Begin(_) => 0,
            Record::Said(said) => said.reactions.len(),
            Record::Reacted(reacted) => reacted.reactions.len(),
        };
        let body = match self {
            Record::Said(said) => said.message.body.len(),
            Record::Begin(_) | Record::Reacted(_) => 0,
        };
        1_024 + body + 128 * reactions
    }
}

/// What a file is an export of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// JSON lines, one message each
    Lines,
    /// What `firebreak export` wrote: a directory
    Export,
    /// Slack's export: a ZIP file
    Slack,
    /// KakaoTalk's export of one chat: a text file, or the CSV of macOS
    Kakao,
}

impl Kind {
    /// What a file looks like.
    ///
    /// # Errors
    /// Usage, when it is a directory without an export.
    pub fn of(path: &Path) -> anyhow::Result<Kind> {
        if path == Path::new("-") {
            return Ok(Kind::Lines);
        }
        if path.is_dir() {
            if path.join(crate::export::manifest::FILE).is_file() {
                return Ok(Kind::Export);
            }
            let told = format!(
                "{} is a directory without an export: there is no manifest.json in it",
                path.display()
            );
            return Err(anyhow!(Usage(told)));
        }
        let mut head = Vec::new();
        let opened = std::fs::File::open(path);
        // What cannot be read is told by whoever reads it.
        if let Ok(file) = opened {
            use std::io::Read as _;
            let _ = file.take(4_096).read_to_end(&mut head);
        }
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return Ok(Kind::Slack);
        }
        let text = String::from_utf8_lossy(&head);
        let first = text
            .trim_start_matches('\u{feff}')
            .lines()
            .next()
            .unwrap_or("");
        match super::kakao::is_title(first) {
            true => Ok(Kind::Kakao),
            false => Ok(Kind::Lines),
        }
    }
}

/// An id under which something is imported, made of what is known of it.
pub fn id_of(kind: &str, parts: &[&[u8]]) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend((part.len() as u64).to_le_bytes());
        all.extend(*part);
    }
    let hash = hash::salted_hash(kind.as_bytes(), &all);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("import:{kind}:{hex}")
}

/// What keeps the store from taking a message, as its rules say.
///
/// # Errors
/// That.
pub fn check(message: &Message) -> Result<(), String> {
    let mut first = None;
    let parts = model::rules::Parts {
        sender: message.sender.as_bytes(),
        client_message_id: message.client_message_id.as_bytes(),
        kind: message.kind.as_bytes(),
        body_bytes: message.body.len(),
    };
    model::rules::message(parts, limits::BODY_BYTES_MAX, |field, why| {
        first.get_or_insert_with(|| format!("{field} {why}").trim_start().to_owned());
    });
    let pairs = message
        .attributes
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()));
    model::rules::attributes(pairs, |why| {
        first.get_or_insert_with(|| format!("attributes {why}"));
    });
    first.map_or(Ok(()), Err)
}

/// A text for an attribute or a sender: without what the store refuses, and not longer than `max` bytes.
pub fn tame(text: &str, max: usize) -> String {
    let mut tame = String::new();
    for c in text.trim().chars() {
        let mut buffer = [0; 4];
        let one = match forbidden(c.encode_utf8(&mut buffer)) {
            Some(_) => ' ',
            None => c,
        };
        if tame.len() + one.len_utf8() > max {
            break;
        }
        tame.push(one);
    }
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_all_their_parts_and_of_imports() {
        let one = id_of("x", &[b"ab", b"c"]);
        assert_ne!(one, id_of("x", &[b"a", b"bc"]));
        assert_ne!(one, id_of("y", &[b"ab", b"c"]));
        assert!(one.starts_with("import:x:") && one.len() < limits::CLIENT_MESSAGE_ID_BYTES_MAX);
    }

    #[test]
    fn texts_become_tame_and_end_between_characters() {
        assert_eq!(tame(" a\u{202e}b\n", 9), "a b");
        assert_eq!(tame("안녕하세요", 7), "안녕");
    }
}
