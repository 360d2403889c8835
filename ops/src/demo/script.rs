//! What the demo will say: a corpus, conversation by conversation.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use client::Message;
use firebreak::corpus;
use model::hash::record_hash;
use model::id::ConversationName;

/// The tenant that everything is imported for: the one that client commands take by default.
pub const TENANT: &str = "demo";

/// One conversation, in the order of the file.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Its name.
    pub name: ConversationName,
    /// What is said in it.
    pub lines: Vec<Message>,
}

/// A corpus in memory, the longest conversations first: a sender takes one conversation at a time,
/// and the long ones must not be what is left at the end.
#[derive(Clone, Debug)]
pub struct Script {
    /// The conversations.
    pub chats: Vec<Chat>,
    /// Lines left out because they are wrong, with the first reason.
    pub bad: Vec<String>,
}

impl Script {
    /// Reads a corpus, or the bundled sample when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or has no line that can be sent.
    pub fn read(file: Option<&Path>) -> anyhow::Result<Script> {
        let lines = match file {
            None => corpus::bundled(),
            Some(path) => corpus::open(path)
                .with_context(|| format!("cannot read the corpus {}", path.display()))?,
        };
        let mut chats: BTreeMap<String, Chat> = BTreeMap::new();
        let mut bad = Vec::new();
        for line in lines {
            let line = match line {
                Ok(line) => line,
                Err(e) => {
                    bad.push(e.to_string());
                    continue;
                }
            };
            let name = ConversationName::new(TENANT, &line.conversation)?;
            let chat = chats
                .entry(line.conversation.clone())
                .or_insert_with(|| Chat {
                    name,
                    lines: Vec::new(),
                });
            chat.lines.push(line.into_message());
        }
        let mut chats: Vec<Chat> = chats.into_values().collect();
        chats.sort_by_key(|chat| std::cmp::Reverse(chat.lines.len()));
        if chats.is_empty() {
            let why = bad.first().map_or("it is empty", String::as_str);
            bail!("the corpus has no message that can be sent: {why}");
        }
        Ok(Script { chats, bad })
    }

    /// Messages in all conversations.
    pub fn messages(&self) -> usize {
        self.chats.iter().map(|chat| chat.lines.len()).sum()
    }
}

/// Hash of what a message says: everything that a reader gets and the sender chose.
pub fn content(kind: &str, body: &[u8], original_time_ms: Option<i64>) -> u128 {
    let mut bytes = Vec::with_capacity(kind.len() + body.len() + 9);
    bytes.extend_from_slice(&original_time_ms.unwrap_or(i64::MIN).to_le_bytes());
    bytes.extend_from_slice(kind.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(body);
    record_hash(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_corpus_is_whole_conversations_longest_first() {
        let script = Script::read(None).unwrap();
        assert!(script.bad.is_empty(), "{:?}", script.bad);
        assert!(script.messages() > 10_000 && script.chats.len() > 100);
        assert!(
            script
                .chats
                .windows(2)
                .all(|w| w[0].lines.len() >= w[1].lines.len())
        );
    }

    #[test]
    fn content_depends_on_each_of_its_parts() {
        let base = content("text", b"hi", Some(1));
        assert_eq!(base, content("text", b"hi", Some(1)));
        for other in [
            content("text", b"ho", Some(1)),
            content("texth", b"i", Some(1)),
            content("text", b"hi", Some(2)),
            content("text", b"hi", None),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_corpus_that_is_not_there_is_named() {
        let error = Script::read(Some(Path::new("/no/such/corpus"))).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/corpus"));
    }
}
