//! One call of the load: noted when it begins, made through the real client, and noted again with
//! what it ended with, in the words of the history.

use std::fmt;

use client::{AppendStream, Appended, Client, Error, ListOptions};
use proto::v1;

use super::Env;
use super::message::{Draft, body_hash};
use crate::history::{Append, AppendEnd, Level, Page, Read, SeenMessage};

/// How an append goes.
pub(crate) enum Path {
    /// A call of its own.
    Call(Client),
    /// On the site's stream.
    Stream(AppendStream),
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Call(_) => "call",
            Path::Stream(_) => "stream",
        })
    }
}

/// Who sends.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) session: u32,
    /// The sender's name.
    pub(crate) name: String,
}

/// What a read asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) room: u32,
    pub(crate) level: Level,
    /// The first seq; 0 = the newest messages.
    pub(crate) from: u64,
    pub(crate) limit: u32,
}

/// Appends, and records it. Behind a call of its own the session's token, if it has one, knows it.
pub(crate) async fn append(
    env: &Env,
    path: &Path,
    who: &Who,
    draft: &mut Draft,
    token: Option<&mut String>,
) -> AppendEnd {
    let parent = env.recorder.room_name(draft.room);
    let began_us = env.now();
    let number = env.recorder.append_begins(Append {
        session: who.session,
        site: env.site.name.clone(),
        room: draft.room,
        sender: who.name.clone(),
        id: draft.id.clone(),
        body: body_hash(&draft.body),
        invoked_us: began_us,
        returned_us: None,
        end: AppendEnd::Acked { seq: 0 },
        repeats: draft.acked,
        created_ms: None,
    });
    let before = std::mem::replace(&mut draft.sent, true);
    let message = draft.message(&who.name);
    let outcome = match path {
        Path::Call(client) => client.append(parent, message).await,
        Path::Stream(stream) => stream.send(parent, message).await,
    };
    if let (Path::Call(client), Ok(appended), Some(token)) = (path, &outcome, token) {
        wrote(token, client, parent, appended);
    }
    let created_ms = outcome.as_ref().ok();
    let created_ms = created_ms.map(|appended| appended.create_time_ms - crate::host::EPOCH_MS);
    let end = append_end(outcome, before);
    let now_us = env.now();
    tracing::debug!(
        sender = who.name,
        parent,
        ?path,
        ms = (now_us - began_us) / 1_000,
        ?end,
        "an append"
    );
    env.recorder
        .append_ends(number, now_us, end.clone(), created_ms);
    if matches!(end, AppendEnd::Acked { .. }) {
        draft.acked = true;
        (env.acked)(number, &draft.marker);
    }
    end
}

/// What an append ended with. The client's word is taken for it that nothing was done, and tested
/// by that; but where the id was sent `before`, by another call, only that call's end may speak of
/// what that one did.
fn append_end(outcome: Result<Appended, Error>, before: bool) -> AppendEnd {
    match outcome {
        Ok(appended) => AppendEnd::Acked { seq: appended.seq },
        Err(error) if before || error.outcome_unknown() => AppendEnd::Unknown { why: why(&error) },
        Err(error) => AppendEnd::Refused { why: why(&error) },
    }
}

/// Code, reason and text.
fn why(error: &Error) -> String {
    format!(
        "{:?} {}: {error}",
        error.code(),
        error.reason().unwrap_or("-")
    )
}

/// Reads a page at the session's token, which goes on to what the answer has seen, and records it.
/// Gives the conversation's last seq when there was an answer.
pub(crate) async fn read(
    env: &Env,
    client: &Client,
    session: u32,
    ask: Ask,
    token: &mut String,
) -> Option<u64> {
    let began_us = env.now();
    let number = env.recorder.read_begins(Read {
        session,
        site: env.site.name.clone(),
        room: ask.room,
        level: ask.level,
        invoked_us: began_us,
        returned_us: None,
        end: Err(String::new()),
    });
    let options = ListOptions {
        page_size: ask.limit,
        descending: ask.from == 0,
        start_seq: ask.from,
        level: level(ask.level, token),
        ..ListOptions::default()
    };
    let room = env.recorder.room_name(ask.room);
    let answer = match ask.level {
        Level::Session => in_session(client, room, &options, token).await,
        Level::Linearizable | Level::Bounded { .. } | Level::Local => {
            client.list(room, &options).await
        }
    };
    let end = page(ask, answer);
    let last_seq = end.as_ref().ok().map(|page| page.last_seq);
    let now_us = env.now();
    let ms = (now_us - began_us) / 1_000;
    tracing::debug!(session, room, level = ?ask.level, ms, answered = end.is_ok(), "a read");
    env.recorder.read_ends(number, now_us, end);
    last_seq
}

/// As a device that starts again for each call: it has nothing but its token.
async fn in_session(
    client: &Client,
    room: &str,
    options: &ListOptions,
    token: &mut String,
) -> Result<client::Page, Error> {
    let session = client.resume(token)?;
    let page = session.list(room, options).await?;
    *token = session.token();
    Ok(page)
}

/// The token of a session that has written this as well.
fn wrote(token: &mut String, client: &Client, room: &str, appended: &Appended) {
    if let Ok(session) = client.resume(token) {
        session.wrote(room, appended);
        *token = session.token();
    }
}

fn page(ask: Ask, answer: Result<client::Page, Error>) -> Result<Page, String> {
    let mut page = match answer {
        Ok(page) => page,
        // Nothing was appended to it yet, as far as this read may know.
        Err(error) if error.is_not_found() => client::Page::default(),
        Err(error) => return Err(why(&error)),
    };
    if ask.from == 0 {
        page.messages.reverse();
    }
    // Rounded up: the answer must not be held to a younger age than it claimed.
    let age_ms = page.staleness.map(|age| age.as_micros().div_ceil(1_000));
    Ok(Page {
        from: ask.from,
        limit: ask.limit,
        messages: page.messages.into_iter().map(seen).collect(),
        last_seq: page.last_seq,
        age_ms: age_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        served_by: page.served_by,
    })
}

/// The level as the client takes it.
pub(crate) fn level(level: Level, token: &str) -> client::Level {
    match level {
        Level::Linearizable => client::Level::Linearizable,
        Level::Session => client::Level::Session(token.to_owned()),
        Level::Bounded { bound_ms } => {
            client::Level::Bounded(std::time::Duration::from_millis(bound_ms))
        }
        Level::Local => client::Level::Local,
    }
}

/// The message as the history has it.
pub(crate) fn seen(message: v1::Message) -> SeenMessage {
    SeenMessage {
        seq: message.seq,
        sender: message.sender,
        id: message.client_message_id,
        body: body_hash(&message.body),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use client::{Code, Refusal};

    use super::*;

    fn refused(code: Code, outcome_unknown: bool) -> Error {
        Error::Refused(Refusal {
            code,
            reason: "WHY".to_owned(),
            message: "text".to_owned(),
            violations: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            outcome_unknown,
        })
    }

    #[test]
    fn an_append_is_refused_only_when_no_attempt_can_have_done_it() {
        let deadline = |outcome_unknown| Error::Deadline {
            outcome_unknown,
            attempts: 2,
            last: None,
        };
        let check = |error, before, unknown| {
            let text = format!("{error:?} {before}");
            let end = append_end(Err(error), before);
            assert_eq!(matches!(end, AppendEnd::Unknown { .. }), unknown, "{text}");
            assert!(!matches!(end, AppendEnd::Acked { .. }));
        };
        check(refused(Code::Aborted, false), false, false);
        check(refused(Code::Aborted, false), true, true);
        check(refused(Code::Internal, true), false, true);
        check(deadline(false), false, false);
        check(deadline(false), true, true);
        check(deadline(true), false, true);
        check(Error::Closed, false, true);
        let AppendEnd::Refused { why } = append_end(Err(refused(Code::Aborted, false)), false)
        else {
            panic!("refused");
        };
        assert_eq!(why, "Aborted WHY: text (WHY)");
    }

    #[test]
    fn a_page_is_told_upwards_and_its_age_never_younger_than_claimed() {
        let message = |seq| v1::Message {
            seq,
            body: "b".into(),
            ..v1::Message::default()
        };
        let answer = |seqs: &[u64]| client::Page {
            messages: seqs.iter().copied().map(message).collect(),
            last_seq: 9,
            staleness: Some(Duration::from_micros(1_001)),
            ..client::Page::default()
        };
        let check = |from, seqs: &[u64], expect: &[u64]| {
            let ask = Ask {
                room: 1,
                level: Level::Local,
                from,
                limit: 3,
            };
            let page = page(ask, Ok(answer(seqs))).unwrap();
            let told: Vec<u64> = page.messages.iter().map(|seen| seen.seq).collect();
            assert_eq!(told, expect);
            assert_eq!((page.from, page.last_seq, page.age_ms), (from, 9, Some(2)));
        };
        check(0, &[9, 8, 7], &[7, 8, 9]);
        check(4, &[4, 5, 6], &[4, 5, 6]);
    }

    #[test]
    fn a_room_that_is_not_there_is_an_empty_page_and_other_errors_are_none() {
        let ask = Ask {
            room: 1,
            level: Level::Linearizable,
            from: 0,
            limit: 3,
        };
        let empty = page(ask, Err(refused(Code::NotFound, false))).unwrap();
        assert_eq!((empty.last_seq, empty.messages.len()), (0, 0));
        assert!(page(ask, Err(refused(Code::DataLoss, false))).is_err());
    }
}
