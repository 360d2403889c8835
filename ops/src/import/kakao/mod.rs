//! Records of KakaoTalk's export of one chat, in each form that it has:
//!
//! ```text
//! Android   2022년 10월 14일 오후 2:01, 홍길동 : 안녕          October 14, 2022 at 2:01 PM, Gildong : Hello
//! iOS       2022. 10. 14. 오후 2:01, 홍길동 : 안녕            Oct 14, 2022 at 2:01 PM, Gildong : Hello
//! Windows   --------------- 2022년 10월 14일 금요일 ---------------
//!           [홍길동] [오후 2:01] 안녕                         [Gildong] [2:01 PM] Hello
//! macOS     Date,User,Message                                 2022-10-14 14:01:22,"홍길동","안녕"
//! ```
//!
//! Lines that begin no message go on with the one before. What the app itself says ("… left this chatroom.")
//! has the type "system". The files name no time zone, and no message has an id: its id is made of its
//! time, sender and text, so that two exports of one chat that overlap import each message once.

mod mac;
mod phone;
mod time;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use client::Message;
use model::limits;

use super::record::{At, Bad, Begin, Change, Record, Said, Source, check, id_of, tame};

/// The sender of what the app itself says.
const SYSTEM: &str = "system";

/// What is not in the file.
#[derive(Clone, Debug)]
pub struct Given {
    /// The conversation; none makes one of the chat's title.
    pub conversation: Option<String>,
    /// How far the chat's clock is ahead of UTC, milliseconds.
    pub offset_ms: i64,
}

/// What the first line of an export says of its chat.
const TITLES: [&str; 6] = [
    "카카오톡 대화",
    "KakaoTalk Chats with",
    "with KakaoTalk Chats",
    "Talk Chats",
    "KakaoTalk Chat",
    "Date,User,Message",
];

/// Whether the first line of a file is one of such an export.
pub fn is_title(line: &str) -> bool {
    let line = line.replace('"', "");
    TITLES.iter().any(|title| line.contains(title))
}

/// The name of the chat, of the first line.
fn title(line: &str) -> String {
    let mut name = line.trim().to_owned();
    for part in [
        " 님과의 카카오톡 대화",
        " 님과 카카오톡 대화",
        "님과 카카오톡 대화",
        " 카카오톡 대화",
        "KakaoTalk Chats with ",
        " with KakaoTalk Chats",
        " Talk Chats",
    ] {
        name = name.replace(part, "");
    }
    tame(&name, 256)
}

/// Opens an export; `read` counts bytes. Also gives how long the file is.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path, given: &Given, read: Arc<AtomicU64>) -> anyhow::Result<(Source, u64)> {
    let input = File::open(path)?;
    let bytes = input.metadata()?.len();
    let name = path.file_name().unwrap_or(path.as_os_str());
    let file: Arc<str> = Arc::from(name.to_string_lossy());
    let mut head = [0; 64];
    let count = std::io::Read::read(&mut File::open(path)?, &mut head)?;
    let first = String::from_utf8_lossy(&head[..count]).replace('"', "");
    let input = BufReader::new(input);
    let first = first.trim_start_matches('\u{feff}');
    let source: Source = match first.starts_with("Date,User,Message") {
        true => Box::new(mac::Mac::new(input, file, given, path, read)),
        false => Box::new(phone::Phone::new(input, file, given, read)),
    };
    Ok((source, bytes))
}

/// Makes records of what was said.
struct Maker {
    conversation: String,
    offset_ms: i64,
    number: u64,
    /// How often the same was said at the same time.
    same: BTreeMap<String, u64>,
    same_at_ms: i64,
}

/// What was said at one time, before it is a record.
struct Spoken {
    /// As the chat's clock showed it, milliseconds.
    local_ms: i64,
    /// None: the app itself.
    sender: Option<String>,
    text: String,
    at: At,
}

impl Maker {
    fn new(given: &Given, title: &str) -> Maker {
        let made = || {
            id_of("kakao", &[title.as_bytes()])
                .replace("import:", "")
                .replace(':', "-")
        };
        Maker {
            conversation: given.conversation.clone().unwrap_or_else(made),
            offset_ms: given.offset_ms,
            number: 0,
            same: BTreeMap::new(),
            same_at_ms: i64::MIN,
        }
    }

    fn begin(&self, title: &str, at: At) -> Record {
        let title = tame(title, 256);
        let attributes = (!title.is_empty()).then(|| ("title".to_owned(), title));
        Record::Begin(Begin {
            conversation: self.conversation.clone(),
            attributes: attributes.into_iter().collect(),
            is_empty: false,
            at,
        })
    }

    fn said(&mut self, spoken: Spoken) -> Result<Record, Bad> {
        let Spoken { at, text, .. } = spoken;
        let time_ms = spoken.local_ms - self.offset_ms;
        let sender = match &spoken.sender {
            Some(sender) => tame(sender, limits::SENDER_BYTES_MAX),
            None => SYSTEM.to_owned(),
        };
        let text = text.trim_end().to_owned();
        let once = id_of(
            "kakao",
            &[
                time_ms.to_string().as_bytes(),
                sender.as_bytes(),
                text.as_bytes(),
            ],
        );
        if self.same_at_ms != time_ms {
            self.same.clear();
            self.same_at_ms = time_ms;
        }
        let times = self.same.entry(once.clone()).or_default();
        *times += 1;
        let id = match *times {
            1 => once,
            times => format!("{once}:{times}"),
        };
        let kind = match spoken.sender {
            Some(_) => "text",
            None => SYSTEM,
        };
        let message = Message {
            sender,
            client_message_id: id,
            kind: kind.to_owned(),
            body: Bytes::from(text),
            silent: spoken.sender.is_none(),
            original_time_ms: Some(time_ms),
            ..Message::default()
        };
        if let Err(reason) = check(&message) {
            return Err(Bad { at, reason });
        }
        self.number += 1;
        Ok(Record::Said(Box::new(Said {
            conversation: self.conversation.clone(),
            key: self.number,
            is_spoken_of: false,
            reply_to: None,
            message,
            change: Change::None,
            reactions: Vec::new(),
            at,
        })))
    }
}

#[cfg(test)]
mod tests;
