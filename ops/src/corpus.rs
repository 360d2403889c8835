//! Chats as JSON lines, `{"conversation","sender","timestamp","text"}`: read one at a time from a
//! plain, .gz or .zst file, and the sample that is built into the command.
//!
//! A line that is wrong is told by its number, what is wrong and what would be right, and the rest
//! goes on. What `firebreak read --json` prints can be read as well. Fields that are not imported are named,
//! so that nobody believes them to be in. A line's ordinal in its conversation counts wrong lines too wherever their conversation
//! can be read, so that the ids of an import stay the same when such a line is mended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::Message;
use model::text::forbidden;
use model::{hash, id, limits};
use prost_types::Timestamp;
use serde_json::Value;

use raw::{Raw, TIMES};

mod raw;

/// Longest line, bytes: room for the longest text with every character escaped.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// A whole example, for messages about lines that are wrong.
pub const EXAMPLE: &str =
    r#"{"conversation":"room-1","sender":"ann","timestamp":"2018-05-02T19:38:15Z","text":"Hello"}"#;

static SAMPLE: &[u8] = include_bytes!("../data/sample.jsonl.zst");

const _: () = assert!(6 * limits::BODY_BYTES_MAX < LINE_BYTES_MAX);

/// One message of a chat, valid in every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The conversation's id, without tenant.
    pub conversation: String,
    /// Its number in the conversation, from 1, in the order of the file.
    pub ordinal: u64,
    /// Who said it.
    pub sender: String,
    /// When, Unix milliseconds.
    pub time_ms: i64,
    /// What, where it is text; may be blank.
    pub text: String,
    /// What is not so with nearly all lines.
    pub more: More,
    /// Names of its fields that are not imported.
    pub dropped: Vec<String>,
}

/// What a line may say beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// Content that is no text.
    pub body: Option<Bytes>,
    /// Its type, if not "text".
    pub kind: Option<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Not counted as unread.
    pub silent: bool,
}

impl Line {
    /// The client message id under which it is imported: the same for ever.
    pub fn id(&self) -> String {
        /// What `import:`, `:` and the longest number leave of an id.
        const PLAIN_MAX: usize = limits::CLIENT_MESSAGE_ID_BYTES_MAX - 7 - 1 - 20;
        if self.conversation.len() <= PLAIN_MAX {
            return format!("import:{}:{}", self.conversation, self.ordinal);
        }
        let key = u128::from_be_bytes(hash::conversation_key("", &self.conversation).0);
        format!("import:~{key:032x}:{}", self.ordinal)
    }

    /// The message to append. It is of kind "text" unless it says otherwise, so that a blank one is valid.
    pub fn into_message(self) -> Message {
        Message {
            client_message_id: self.id(),
            sender: self.sender,
            kind: self.more.kind.unwrap_or_else(|| "text".to_owned()),
            body: self.more.body.unwrap_or_else(|| Bytes::from(self.text)),
            attributes: self.more.attributes,
            silent: self.more.silent,
            original_time_ms: Some(self.time_ms),
            ..Message::default()
        }
    }
}

/// A line that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {reason}")]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub number: u64,
    /// What is wrong with it and what would be right.
    pub reason: String,
    /// The file itself cannot be read on from here; nothing follows.
    pub fatal: bool,
}

/// The lines of one file, in order; holds one line at a time.
pub struct Reader {
    input: Box<dyn BufRead + Send>,
    number: u64,
    ordinals: BTreeMap<String, u64>,
    buffer: Vec<u8>,
    over: bool,
}

/// The bundled sample: 14,827 messages in 396 whole conversations (see `data/README.md`).
#[allow(
    clippy::expect_used,
    reason = "reading from memory fails only when the build itself is broken"
)]
pub fn bundled() -> Reader {
    Reader::new(Cursor::new(SAMPLE)).expect("the bundled sample is a zstd stream")
}

/// Opens a file, `-` for standard input; .gz and .zst are known by their first bytes.
///
/// # Errors
/// When it cannot be opened or its beginning cannot be read.
pub fn open(path: &Path) -> io::Result<Reader> {
    if path == Path::new("-") {
        return Reader::new(io::stdin());
    }
    Reader::new(File::open(path)?)
}

impl Reader {
    /// Reads from anything that gives bytes.
    ///
    /// # Errors
    /// When its beginning cannot be read.
    pub fn new(source: impl Read + Send + 'static) -> io::Result<Reader> {
        let mut head = [0; 4];
        let mut source = source;
        let mut filled = 0;
        while filled < head.len() {
            match source.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let head = head[..filled].to_vec();
        let kind = head.clone();
        let whole = BufReader::with_capacity(64 * 1024, Cursor::new(head).chain(source));
        let input: Box<dyn BufRead + Send> = if kind.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(whole)))
        } else if kind.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(BufReader::new(zstd::Decoder::with_buffer(whole)?))
        } else {
            Box::new(whole)
        };
        Ok(Reader {
            input,
            number: 0,
            ordinals: BTreeMap::new(),
            buffer: Vec::new(),
            over: false,
        })
    }

    /// Lines read so far, wrong and empty ones included.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads one line into the buffer; false at the end. Of one that is too long only the beginning
    /// is kept.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let mut any = false;
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                return Ok(any);
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let (piece, used) = match end {
                Some(end) => (&available[..end], end + 1),
                None => (available, available.len()),
            };
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.buffer.len());
            self.buffer
                .extend_from_slice(&piece[..piece.len().min(room)]);
            self.input.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn bad(&self, reason: impl Into<String>) -> BadLine {
        BadLine {
            number: self.number,
            reason: reason.into(),
            fatal: false,
        }
    }

    fn parse(&mut self) -> Result<Line, BadLine> {
        let bytes = self
            .buffer
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&self.buffer);
        if bytes.len() > LINE_BYTES_MAX {
            self.count_salvaged();
            return Err(self.bad(format!("is longer than {LINE_BYTES_MAX} bytes")));
        }
        let raw: Raw<'_> = match serde_json::from_slice(bytes) {
            Ok(raw) => raw,
            Err(error) => {
                let reason = explain(bytes, &error);
                self.count_salvaged();
                return Err(self.bad(reason));
            }
        };
        let conversation = raw.conversation.into_owned();
        let ordinal = match self.ordinals.get_mut(&conversation) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                self.ordinals.insert(conversation.clone(), 1);
                1
            }
        };
        let checked = id::segment("conversation", &conversation).map_err(|error| error.to_string());
        let checked = checked.and_then(|()| check_sender(&raw.sender));
        let text = raw.text.unwrap_or_default();
        let checked = checked.and_then(|()| check_text(text.len()));
        let checked = checked.and_then(|()| check_attributes(&raw.attributes));
        let checked = checked.and_then(|()| check_kind(raw.kind.as_deref()));
        let body = raw.body_base64.map(|body| {
            let body = STANDARD.decode(&*body);
            let body = body.map_err(|error| format!("body_base64 is not base64: {error}"))?;
            check_text(body.len()).map(|()| Bytes::from(body))
        });
        let (checked, body) = match body.transpose() {
            Ok(body) => (checked, body),
            Err(reason) => (checked.and(Err(reason)), None),
        };
        let time_ms = match checked.and_then(|()| parse_time(&raw.timestamp)) {
            Ok(time_ms) => time_ms,
            Err(reason) => return Err(self.bad(reason)),
        };
        Ok(Line {
            number: self.number,
            conversation,
            ordinal,
            sender: raw.sender.into_owned(),
            time_ms,
            text: text.into_owned(),
            more: More {
                body,
                kind: raw.kind.map(Cow::into_owned),
                attributes: raw.attributes,
                silent: raw.silent,
            },
            dropped: raw.dropped,
        })
    }

    /// Counts a line that is not valid in its conversation, when that can be made out.
    fn count_salvaged(&mut self) {
        if let Some(conversation) = salvage(&self.buffer) {
            *self.ordinals.entry(conversation).or_insert(0) += 1;
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Line, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let filled = self.fill();
            self.number += 1;
            match filled {
                Ok(true) if self.buffer.iter().all(u8::is_ascii_whitespace) => {}
                Ok(true) => return Some(self.parse()),
                Ok(false) => {
                    self.number -= 1;
                    self.over = true;
                }
                Err(error) => {
                    self.over = true;
                    let reason = format!(
                        "the file cannot be read on from here ({error}); is it whole? Nothing after it was imported"
                    );
                    return Some(Err(BadLine {
                        number: self.number,
                        reason,
                        fatal: true,
                    }));
                }
            }
        }
        None
    }
}

/// Unix milliseconds of an RFC 3339 time.
///
/// # Errors
/// A text saying what would be right.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "timestamp {text:?} is not a time of the form 2018-05-02T19:38:15Z or 2018-05-02T19:38:15.250+09:00"
        )
    };
    // What is read below also takes dates alone and times without a zone.
    let bytes = text.as_bytes();
    let whole = bytes.len() >= 20
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b't' | b' ')
        && (text.ends_with(['Z', 'z']) || text[19..].contains(['+', '-']));
    if !whole || !text.is_ascii() {
        return Err(wrong());
    }
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    if !limits::TIMESTAMP_SECONDS.contains(&time.seconds) {
        return Err(format!(
            "timestamp {text:?} must lie in the years 1 to 9999 of UTC"
        ));
    }
    time.seconds
        .checked_mul(1_000)
        .and_then(|ms| ms.checked_add(i64::from(time.nanos) / 1_000_000))
        .ok_or_else(wrong)
}

fn check_sender(sender: &str) -> Result<(), String> {
    let max = limits::SENDER_BYTES_MAX;
    if sender.is_empty() || sender.len() > max {
        return Err(format!(
            "sender has {} bytes, 1 to {max} are allowed",
            sender.len()
        ));
    }
    match forbidden(sender) {
        Some(found) => Err(format!("sender {found}")),
        None => Ok(()),
    }
}

fn check_text(bytes: usize) -> Result<(), String> {
    let max = limits::BODY_BYTES_MAX;
    if bytes > max {
        return Err(format!("text has {bytes} bytes, at most {max} are allowed"));
    }
    Ok(())
}

fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), String> {
    let (max, bytes_max) = (limits::ATTRIBUTES_MAX, limits::ATTRIBUTES_BYTES_MAX);
    let bytes: usize = attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
    if attributes.len() > max || bytes > bytes_max || attributes.contains_key("") {
        return Err(format!(
            "attributes are {} with {bytes} bytes; at most {max} with {bytes_max} bytes are allowed, and no \
             empty name",
            attributes.len()
        ));
    }
    let texts = attributes.iter().flat_map(|(name, value)| [name, value]);
    match texts.filter_map(|text| forbidden(text)).next() {
        Some(found) => Err(format!("attributes {found}")),
        None => Ok(()),
    }
}

fn check_kind(kind: Option<&str>) -> Result<(), String> {
    let (kind, max) = (kind.unwrap_or_default(), limits::TYPE_BYTES_MAX);
    if kind.len() > max {
        return Err(format!(
            "type has {} bytes, at most {max} are allowed",
            kind.len()
        ));
    }
    match forbidden(kind) {
        Some(found) => Err(format!("type {found}")),
        None => Ok(()),
    }
}

/// Says what keeps a line from being one.
fn explain(bytes: &[u8], error: &serde_json::Error) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return format!("is not JSON ({error}); a line looks like {EXAMPLE}");
    };
    let Value::Object(object) = value else {
        return format!(
            "is {}, not an object; a line looks like {EXAMPLE}",
            kind(&value)
        );
    };
    let given = |field: &str| object.get(field).filter(|value| !value.is_null());
    for (field, instead) in [
        ("conversation", &[][..]),
        ("sender", &[]),
        ("timestamp", &TIMES[1..]),
        ("text", &["body_base64"]),
    ] {
        if object.get(field).is_none() && instead.iter().all(|field| given(field).is_none()) {
            return format!("{field} is missing; a line looks like {EXAMPLE}");
        }
    }
    for (field, needed, fits) in [
        (
            "conversation",
            "a string",
            Value::is_string as fn(&Value) -> bool,
        ),
        ("sender", "a string", Value::is_string),
        ("timestamp", "a string", Value::is_string),
        ("original_time", "a string", Value::is_string),
        ("create_time", "a string", Value::is_string),
        ("text", "a string", Value::is_string),
        ("body_base64", "a string", Value::is_string),
        ("type", "a string", Value::is_string),
        ("silent", "true or false", Value::is_boolean),
        ("attributes", "an object of strings", is_attributes),
    ] {
        let wrong = object.get(field).filter(|value| !fits(value));
        let optional = !matches!(field, "conversation" | "sender");
        if let Some(other) = wrong.filter(|value| !(optional && value.is_null())) {
            return format!("{field} is {}, {needed} is needed", kind(other));
        }
    }
    format!("cannot be read: {error}")
}

fn is_attributes(value: &Value) -> bool {
    let object = value.as_object();
    object.is_some_and(|object| object.values().all(Value::is_string))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The conversation that a broken line names, when it is plain to see.
fn salvage(bytes: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"conversation\"";
    let at = bytes.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let rest = bytes[at..]
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start();
    let rest = rest.strip_prefix(b"\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    id::segment("conversation", text).ok()?;
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
