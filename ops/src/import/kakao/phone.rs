//! The text files of Android, iOS and Windows.

use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::time::{self, Day, Found};
use super::{Given, Maker, Spoken, is_title, title};
use crate::import::lines::{LINE_BYTES_MAX, Line, Lines};
use crate::import::record::{At, Bad, Record};

/// How lines end with which the app on Windows says something itself, without a time.
const SAYINGS: [&str; 10] = [
    "님이 들어왔습니다.",
    "님이 나갔습니다.",
    "초대했습니다.",
    "내보냈습니다.",
    "채팅방 관리자가 메시지를 가렸습니다.",
    "joined this chatroom.",
    "left this chatroom.",
    "to this chatroom.",
    "left.",
    "joined.",
];
/// Longest text of a message that is put together, bytes; what is longer is told as such.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The records of one file.
pub struct Phone<R> {
    lines: Lines<R>,
    file: Arc<str>,
    given: Given,
    maker: Option<Maker>,
    /// The day that a line of Windows named.
    day: Option<Day>,
    spoken: Option<Spoken>,
    ready: VecDeque<Result<Record, Bad>>,
    over: bool,
}

/// What a line is.
enum Is {
    /// Something that is said at a time: sender, if not the app itself, and text.
    Said(i64, Option<String>, String),
    /// A day, a headline: nothing to import.
    Mark,
    /// More of what was said before.
    More,
    /// Of a form that is known, and wrong.
    Wrong(String),
}

impl<R: BufRead> Phone<R> {
    /// Of an input.
    pub fn new(input: R, file: Arc<str>, given: &Given, read: Arc<AtomicU64>) -> Phone<R> {
        Phone {
            lines: Lines::new(input, read),
            file,
            given: given.clone(),
            maker: None,
            day: None,
            spoken: None,
            ready: VecDeque::new(),
            over: false,
        }
    }

    fn bad(&mut self, at: At, reason: impl Into<String>) {
        let reason = reason.into();
        self.ready.push_back(Err(Bad { at, reason }));
    }

    /// Takes in one more line.
    fn step(&mut self) {
        let at = At {
            file: Arc::clone(&self.file),
            line: self.lines.number() + 1,
        };
        let line = match self.lines.next_line() {
            Ok(None) => {
                self.end();
                self.over = true;
                return;
            }
            Ok(Some(Line::TooLong)) => Err(format!("is longer than {LINE_BYTES_MAX} bytes")),
            Ok(Some(Line::Whole(line))) => match std::str::from_utf8(line) {
                Ok(line) => Ok(line.to_owned()),
                Err(_) => {
                    Err("is not UTF-8: export the chat again, or convert the file".to_owned())
                }
            },
            Err(error) => {
                self.end();
                self.over = true;
                Err(format!("the file cannot be read on from here: {error}"))
            }
        };
        match line {
            Ok(line) => self.line(&line, at),
            Err(reason) => {
                self.end();
                self.bad(at, reason);
            }
        }
    }

    fn line(&mut self, line: &str, at: At) {
        if self.maker.is_none() {
            let name = title(line);
            let maker = Maker::new(&self.given, &name);
            self.ready.push_back(Ok(maker.begin(&name, at.clone())));
            self.maker = Some(maker);
            if is_title(line) {
                return;
            }
        }
        match self.kind_of(line) {
            Is::Said(local_ms, sender, text) => {
                self.end();
                self.spoken = Some(Spoken {
                    local_ms,
                    sender,
                    text,
                    at,
                });
            }
            Is::Mark => self.end(),
            Is::Wrong(reason) => {
                self.end();
                self.bad(at, reason);
            }
            Is::More => match &mut self.spoken {
                Some(spoken) if spoken.text.len() + line.len() < TEXT_BYTES_MAX => {
                    spoken.text.push('\n');
                    spoken.text.push_str(line);
                }
                Some(_) => self.bad(at, "the message is too long; this line of it is left out"),
                None if line.trim().is_empty() => {}
                None => self.bad(
                    at,
                    "belongs to no message: none with a time stands before it",
                ),
            },
        }
    }

    /// What was being said is whole.
    fn end(&mut self) {
        if let (Some(spoken), Some(maker)) = (self.spoken.take(), &mut self.maker) {
            let record = maker.said(spoken);
            self.ready.push_back(record);
        }
    }

    fn kind_of(&mut self, line: &str) -> Is {
        if is_saved(line) || (self.spoken.is_none() && is_title(line)) {
            return Is::Mark;
        }
        match time::moment(line) {
            Found::Here(ms, at) => return stamped(ms, &line[at..]),
            Found::Wrong => return Is::Wrong("begins with a time that there is not".to_owned()),
            Found::Nothing => {}
        }
        if let Some(is) = self.day_line(line) {
            return is;
        }
        match self.day {
            Some(day) => self.windows(line, day),
            None if looks_like_windows(line) => Is::Wrong(
                "has a time and no day: a line of hyphens that names it is missing".to_owned(),
            ),
            None => Is::More,
        }
    }

    /// A line that names a day alone.
    fn day_line(&mut self, line: &str) -> Option<Is> {
        let bare = line.trim();
        let inner = bare.trim_matches('-').trim();
        let is_ruled = bare.len() >= inner.len() + 10;
        match time::day(inner) {
            Found::Here(day, at) if at == inner.len() => {
                if is_ruled {
                    self.day = Some(day);
                }
                // A day within a message of someone is what he wrote.
                (is_ruled || inner.contains("요일") || inner.contains("day,")).then_some(Is::Mark)
            }
            Found::Wrong if is_ruled => Some(Is::Wrong("names a day that there is not".to_owned())),
            Found::Here(..) | Found::Wrong | Found::Nothing => None,
        }
    }

    fn windows(&self, line: &str, day: Day) -> Is {
        if let Some((sender, time, text)) = bracketed(line) {
            return match time::time(time).and_then(|ms| day.ms(ms)) {
                Some(ms) => Is::Said(ms, Some(sender.to_owned()), text.to_owned()),
                None if time.contains(':') && time.bytes().any(|b| b.is_ascii_digit()) => {
                    Is::Wrong(format!(
                        "{time:?} is no time of the form 오후 2:01 or 2:01 PM"
                    ))
                }
                None => Is::More,
            };
        }
        let said_by_app = SAYINGS.iter().any(|end| line.ends_with(end)) && line.len() < 256;
        let before = self.spoken.as_ref().map(|spoken| spoken.local_ms);
        match (said_by_app, before.or(day.ms(0))) {
            (true, Some(ms)) => Is::Said(ms, None, line.trim().to_owned()),
            _ => Is::More,
        }
    }
}

/// `저장한 날짜 : …`.
fn is_saved(line: &str) -> bool {
    ["저장한 날짜", "Date Saved", "Saved Date"]
        .iter()
        .any(|begin| line.starts_with(begin))
}

/// What stands behind a time: `, sender : text`, or what the app says; nothing where a day begins.
fn stamped(ms: i64, rest: &str) -> Is {
    let Some(said) = rest.strip_prefix(',').or_else(|| rest.strip_prefix(':')) else {
        return match rest.trim().is_empty() {
            true => Is::Mark,
            false => Is::More,
        };
    };
    let said = said.trim_start();
    match said.split_once(" : ") {
        Some((sender, text)) => Is::Said(ms, Some(sender.to_owned()), text.to_owned()),
        None => match said.strip_suffix(" :") {
            Some(sender) => Is::Said(ms, Some(sender.to_owned()), String::new()),
            None => Is::Said(ms, None, said.to_owned()),
        },
    }
}

/// `[sender] [time] text`.
fn bracketed(line: &str) -> Option<(&str, &str, &str)> {
    let inner = line.strip_prefix('[')?;
    // A name may hold brackets; a time does not.
    for (end, _) in inner.match_indices("] [") {
        let behind = &inner[end + 3..];
        let (time, text) = behind.split_once(']')?;
        if time::time(time).is_some() {
            return Some((&inner[..end], time, text.strip_prefix(' ').unwrap_or(text)));
        }
    }
    let (sender, behind) = inner.split_once("] [")?;
    let (time, text) = behind.split_once(']')?;
    Some((sender, time, text))
}

fn looks_like_windows(line: &str) -> bool {
    bracketed(line).is_some_and(|(_, time, _)| time::time(time).is_some())
}

impl<R: BufRead> Iterator for Phone<R> {
    type Item = Result<Record, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.over {
                return None;
            }
            self.step();
        }
    }
}
