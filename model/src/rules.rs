//! The rules for what callers give, where they are kept: by the node that a caller talks to
//! (`server::check`, which tells every violation of a request), and once more by the leader, of what
//! other nodes forward to it. A node may be of another version, or broken, and what it forwards is
//! kept for ever by all replicas.

use crate::cluster::{Change, ChangeBody};
use crate::command::{
    Append, AppendWith, Attribute, Body, ChangeMessage, Command, Configure, Create, Govern, How,
    NewMessage, Setting,
};
use crate::limits;
use crate::text::forbidden;

/// What is wrong with a text that names something, if anything. For control characters there is one
/// more reason than [`crate::text`] has: a NUL separates sender and id where both are hashed.
pub fn text(text: &str, min: usize, max: usize) -> Option<String> {
    if text.len() < min || text.len() > max {
        let has = text.len();
        return Some(match min {
            0 => format!("must be at most {max} bytes; it has {has}"),
            _ => format!("must be {min} to {max} bytes; it has {has}"),
        });
    }
    forbidden(text).map(|found| found.to_string())
}

/// The same of bytes that are to be a text.
fn text_of(bytes: &[u8], min: usize, max: usize) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(given) => text(given, min, max),
        Err(_) => Some("must be UTF-8".to_owned()),
    }
}

/// What is wrong with the attributes of a message or a conversation: each violation goes to `wrong`.
pub fn attributes<'a>(
    attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    mut wrong: impl FnMut(String),
) {
    let count = attributes.clone().count();
    if count > limits::ATTRIBUTES_MAX {
        let max = limits::ATTRIBUTES_MAX;
        wrong(format!("must be at most {max}; there are {count}"));
    }
    let bytes: usize = attributes.clone().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > limits::ATTRIBUTES_BYTES_MAX {
        let max = limits::ATTRIBUTES_BYTES_MAX;
        wrong(format!(
            "must be at most {max} bytes together; they have {bytes}"
        ));
    }
    if attributes.clone().any(|(key, _)| key.is_empty()) {
        wrong("must not have an empty key".to_owned());
    }
    let mut texts = attributes.flat_map(|(key, value)| [key, value]);
    if let Some(found) = texts.find_map(forbidden) {
        wrong(found.to_string());
    }
}

/// The parts of a message that the rules speak of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Who sent it.
    pub sender: &'a [u8],
    /// The sender's own id for it.
    pub client_message_id: &'a [u8],
    /// What kind of message.
    pub kind: &'a [u8],
    /// How long its content is, bytes.
    pub body_bytes: usize,
}

/// What is wrong with a message, but for its attributes and times: the field and why go to `wrong`,
/// the field empty where it is the message as a whole.
pub fn message(
    parts: Parts<'_>,
    body_bytes_max: usize,
    mut wrong: impl FnMut(&'static str, String),
) {
    let id_max = match parts
        .client_message_id
        .starts_with(limits::IMPORT_ID_PREFIX)
    {
        true => limits::IMPORT_ID_BYTES_MAX,
        false => limits::CLIENT_MESSAGE_ID_BYTES_MAX,
    };
    let texts = [
        ("sender", parts.sender, 1, limits::SENDER_BYTES_MAX),
        ("client_message_id", parts.client_message_id, 1, id_max),
        ("type", parts.kind, 0, limits::TYPE_BYTES_MAX),
    ];
    for (field, given, min, max) in texts {
        if let Some(why) = text_of(given, min, max) {
            wrong(field, why);
        }
    }
    if parts.kind.is_empty() && parts.body_bytes == 0 {
        wrong("", "needs a type or a body".to_owned());
    }
    if parts.body_bytes > body_bytes_max {
        let has = parts.body_bytes;
        wrong(
            "body",
            format!("must be at most {body_bytes_max} bytes; it has {has}"),
        );
    }
}

/// Whether a command that another node forwards may be decided: it is one that a gateway could have
/// made of what a caller gave.
///
/// # Errors
/// The first rule that it breaks.
pub fn forwarded(command: &Command, body_bytes_max: usize) -> Result<(), String> {
    match &command.body {
        Some(Body::Append(append)) => check_append(append, body_bytes_max),
        Some(Body::Create(create)) => check_create(create),
        Some(Body::Change(change)) => check_message_change(change, body_bytes_max),
        Some(Body::Configure(configure)) => check_configure(configure),
        Some(Body::AppendWith(with)) => check_append_with(with, body_bytes_max),
        Some(Body::Govern(govern)) => check_govern(govern),
        Some(Body::Expire(_)) => {
            Err("what has expired is removed by the leader itself alone".to_owned())
        }
        Some(Body::Meta(change)) => check_change(change),
        None => Err("a command of no known kind".to_owned()),
    }
}

fn check_append(append: &Append, body_bytes_max: usize) -> Result<(), String> {
    let (count, messages_max, bytes_max) = match append.atomic {
        true => (
            append.messages.len(),
            limits::BATCH_MESSAGES_MAX,
            limits::BATCH_BYTES_MAX,
        ),
        // What a stream gathers while a command is on its way.
        false => (
            append.messages.len(),
            limits::ENTRY_MESSAGES_MAX,
            limits::ENTRY_BYTES_MAX,
        ),
    };
    if count == 0 || count > messages_max {
        return Err(format!(
            "an append holds 1 to {messages_max} messages; this one has {count}"
        ));
    }
    let mut bytes = 0_usize;
    for (at, message) in append.messages.iter().enumerate() {
        check_message(message, body_bytes_max).map_err(|why| format!("messages[{at}]{why}"))?;
        bytes = bytes.saturating_add(size(message));
    }
    if bytes > bytes_max {
        return Err(format!(
            "the messages of an append have at most {bytes_max} bytes together; these have {bytes}"
        ));
    }
    Ok(())
}

fn check_append_with(with: &AppendWith, body_bytes_max: usize) -> Result<(), String> {
    if let Some(why) = text_of(&with.key, 0, limits::KEY_BYTES_MAX) {
        return Err(format!("key {why}"));
    }
    if with.key.is_empty() && with.expected_last_seq_of_key.is_some() {
        return Err("key is required with expected_last_seq_of_key".to_owned());
    }
    if let Some(why) = text_of(&with.fence_token, 0, limits::FENCE_TOKEN_BYTES_MAX) {
        return Err(format!("fence_token {why}"));
    }
    let append = with.append.as_ref().ok_or("an append of nothing")?;
    check_append(append, body_bytes_max)
}

fn check_govern(govern: &Govern) -> Result<(), String> {
    let id_max = limits::CLIENT_MESSAGE_ID_BYTES_MAX;
    if let Some(why) = text_of(&govern.request_id, 1, id_max) {
        return Err(format!("request_id {why}"));
    }
    if let Some(fence) = &govern.fence {
        let expected = fence.expected.as_ref();
        for token in std::iter::once(&fence.token).chain(expected) {
            if let Some(why) = text_of(token, 0, limits::FENCE_TOKEN_BYTES_MAX) {
                return Err(format!("fence token {why}"));
            }
        }
    }
    if let Some(ttl_ms) = govern.ttl_ms.filter(|ms| *ms > 0) {
        check_ttl(ttl_ms)?;
    }
    let mut first = None;
    if let Some(attributes) = &govern.attributes {
        check_attributes(&attributes.values, &mut first);
    }
    first.map_or(Ok(()), Err)
}

fn check_ttl(ttl_ms: u64) -> Result<(), String> {
    match (1_000..=limits::TTL_MS_MAX).contains(&ttl_ms) {
        true => Ok(()),
        false => Err("ttl must be 1 s to 100 years".to_owned()),
    }
}

fn check_message(given: &NewMessage, body_bytes_max: usize) -> Result<(), String> {
    let mut first = None;
    let parts = Parts {
        sender: &given.sender,
        client_message_id: &given.client_message_id,
        kind: &given.kind,
        body_bytes: given.body.len(),
    };
    message(parts, body_bytes_max, |field, why| {
        let dot = if field.is_empty() { "" } else { "." };
        first.get_or_insert_with(|| format!("{dot}{field} {why}"));
    });
    check_attributes(&given.attributes, &mut first);
    if given.ttl_ms > 0
        && let Err(why) = check_ttl(given.ttl_ms)
    {
        first.get_or_insert_with(|| format!(".{why}"));
    }
    if let Some(ms) = given.original_time_ms
        && !limits::TIMESTAMP_SECONDS.contains(&ms.div_euclid(1_000))
    {
        first.get_or_insert_with(|| ".original_time must lie in the years 1 to 9999".to_owned());
    }
    first.map_or(Ok(()), Err)
}

fn check_attributes(given: &[Attribute], first: &mut Option<String>) {
    if given.is_empty() {
        return;
    }
    let pairs = given.iter().map(|a| (a.key.as_str(), a.value.as_str()));
    attributes(pairs, |why| {
        first.get_or_insert_with(|| format!(".attributes {why}"));
    });
    // Equal messages have equal bytes only so.
    if given.windows(2).any(|pair| pair[0].key >= pair[1].key) {
        first.get_or_insert_with(|| ".attributes must be sorted, each key once".to_owned());
    }
}

fn check_create(create: &Create) -> Result<(), String> {
    let max = limits::CLIENT_MESSAGE_ID_BYTES_MAX;
    if let Some(why) = text_of(&create.request_id, 1, max) {
        return Err(format!("request_id {why}"));
    }
    let mut first = None;
    check_attributes(&create.attributes, &mut first);
    first.map_or(Ok(()), Err)
}

fn check_configure(configure: &Configure) -> Result<(), String> {
    let id_max = limits::CLIENT_MESSAGE_ID_BYTES_MAX;
    if let Some(why) = text_of(&configure.request_id, 1, id_max) {
        return Err(format!("request_id {why}"));
    }
    match &configure.setting {
        None => Err("a change of a conversation of no known kind".to_owned()),
        Some(Setting::Delete(_)) => Ok(()),
        Some(Setting::Attributes(given)) => {
            let mut first = None;
            check_attributes(&given.values, &mut first);
            first.map_or(Ok(()), Err)
        }
    }
}

fn check_message_change(change: &ChangeMessage, body_bytes_max: usize) -> Result<(), String> {
    let id_max = limits::CLIENT_MESSAGE_ID_BYTES_MAX;
    if let Some(why) = text_of(&change.request_id, 1, id_max) {
        return Err(format!("request_id {why}"));
    }
    match &change.how {
        None => Err("a change of no known kind".to_owned()),
        Some(How::Redact(redact)) => check_original_time(redact.original_time_ms),
        Some(How::React(react)) => {
            if let Some(why) = text_of(&react.user, 1, limits::SENDER_BYTES_MAX) {
                return Err(format!("user {why}"));
            }
            match text_of(&react.kind, 1, limits::REACTION_KIND_BYTES_MAX) {
                Some(why) => Err(format!("kind {why}")),
                None => Ok(()),
            }
        }
        Some(How::Edit(edit)) => {
            let body = edit.body.as_ref().map_or(1, |body| body.len());
            if !(1..=body_bytes_max).contains(&body) {
                return Err(format!(
                    "body must be 1 to {body_bytes_max} bytes; it has {body}"
                ));
            }
            check_original_time(edit.original_time_ms)?;
            if edit.salt.len() > 64 {
                return Err("salt must have at most 64 bytes".to_owned());
            }
            let mut first = None;
            if let Some(attributes) = &edit.attributes {
                check_attributes(&attributes.values, &mut first);
            }
            first.map_or(Ok(()), Err)
        }
    }
}

fn check_original_time(ms: Option<i64>) -> Result<(), String> {
    let fits = |ms: i64| limits::TIMESTAMP_SECONDS.contains(&ms.div_euclid(1_000));
    match ms.is_none_or(fits) {
        true => Ok(()),
        false => Err("original_time must lie in the years 1 to 9999".to_owned()),
    }
}

/// Changes of the cluster that operators and the leaders of shards ask for. The others are those of
/// the meta shard's own leader, who needs nobody to send them.
fn check_change(change: &Change) -> Result<(), String> {
    match &change.body {
        Some(
            ChangeBody::Found(_)
            | ChangeBody::Layout(_)
            | ChangeBody::MetaReplicas(_)
            | ChangeBody::Remove(_),
        ) => Err("a change that the leader of the meta shard makes by itself".to_owned()),
        Some(
            ChangeBody::Join(_)
            | ChangeBody::Policy(_)
            | ChangeBody::Draining(_)
            | ChangeBody::BeginMove(_)
            | ChangeBody::ChangeVoters(_)
            | ChangeBody::FinishMove(_)
            | ChangeBody::DropMove(_)
            | ChangeBody::Leave(_)
            | ChangeBody::Announce(_)
            | ChangeBody::Relocate(_)
            | ChangeBody::JoinToken(_)
            | ChangeBody::CreateToken(_)
            | ChangeBody::RevokeToken(_)
            | ChangeBody::ForgetBoot(_)
            | ChangeBody::Drill(_)
            | ChangeBody::Tenant(_)
            | ChangeBody::CreateKey(_)
            | ChangeBody::RevokeKey(_)
            | ChangeBody::Issuer(_)
            | ChangeBody::RemoveIssuer(_)
            | ChangeBody::Notes(_),
        ) => Ok(()),
        None => Err("a change of no known kind".to_owned()),
    }
}

/// The bytes that a message counts for in bounds on batches.
fn size(message: &NewMessage) -> usize {
    let attributes = message.attributes.iter();
    let attributes: usize = attributes.map(|a| a.key.len() + a.value.len() + 8).sum();
    // The fixed part covers tags, lengths and numbers.
    message.sender.len()
        + message.client_message_id.len()
        + message.kind.len()
        + message.body.len()
        + attributes
        + 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Join, MetaReplicas};
    use bytes::Bytes;

    const BODY_MAX: usize = 100;

    fn message() -> NewMessage {
        NewMessage {
            sender: "ann".into(),
            client_message_id: "1".into(),
            kind: "text".into(),
            body: "hi".into(),
            ..NewMessage::default()
        }
    }

    fn append(messages: Vec<NewMessage>) -> Append {
        Append {
            conversation: "tenants/a/conversations/b".into(),
            messages,
            ..Append::default()
        }
    }

    #[track_caller]
    fn check(command: Command, expect: Option<&str>) {
        match (forwarded(&command, BODY_MAX), expect) {
            (Ok(()), None) => {}
            (Err(why), Some(expect)) => assert!(why.contains(expect), "{why}"),
            (found, expect) => panic!("{found:?} is not {expect:?}"),
        }
    }

    fn changed(change: impl FnOnce(&mut NewMessage)) -> Command {
        let mut message = message();
        change(&mut message);
        Command::append(append(vec![message]))
    }

    #[test]
    fn a_forwarded_message_keeps_the_rules_of_callers() {
        let pair = |key: &str| Attribute {
            key: key.into(),
            value: "v".into(),
        };
        check(changed(|_| ()), None);
        check(
            changed(|m| m.body = vec![0; BODY_MAX + 1].into()),
            Some("messages[0].body must be at most 100 bytes"),
        );
        check(
            changed(|m| m.sender = Bytes::from_static(b"\xff\xfe")),
            Some("messages[0].sender must be UTF-8"),
        );
        check(
            changed(|m| m.kind = Bytes::from_static(b"\xff")),
            Some("type must be UTF-8"),
        );
        check(changed(|m| m.sender = "a\nb".into()), Some("control"));
        check(
            changed(|m| m.client_message_id = "x".repeat(129).into()),
            Some("1 to 128 bytes"),
        );
        check(
            changed(|m| (m.kind, m.body) = Default::default()),
            Some("messages[0] needs a type or a body"),
        );
        check(
            changed(|m| m.original_time_ms = Some(i64::MAX)),
            Some("years 1 to 9999"),
        );
        check(
            changed(|m| m.attributes = vec![pair("b"), pair("a")]),
            Some("sorted"),
        );
        check(changed(|m| m.attributes = vec![pair("a"), pair("b")]), None);
        check(
            changed(|m| m.attributes = (10..27).map(|i| pair(&i.to_string())).collect()),
            Some("at most 16"),
        );
    }

    #[test]
    fn a_forwarded_append_is_bounded_in_number_and_in_bytes() {
        check(Command::append(append(Vec::new())), Some("1 to"));
        let many = limits::ENTRY_MESSAGES_MAX;
        check(Command::append(append(vec![message(); many])), None);
        check(
            Command::append(append(vec![message(); many + 1])),
            Some("1 to 2048 messages"),
        );
        let batch = |count| {
            Command::append(Append {
                atomic: true,
                ..append(vec![message(); count])
            })
        };
        check(batch(limits::BATCH_MESSAGES_MAX), None);
        check(batch(limits::BATCH_MESSAGES_MAX + 1), Some("1 to 1000"));
        let large = NewMessage {
            body: vec![0; 60_000].into(),
            ..message()
        };
        let large = Command::append(append(vec![large; 18]));
        let why = forwarded(&large, 64 * 1024).unwrap_err();
        assert!(why.contains("1048576 bytes together"), "{why}");
    }

    #[test]
    fn only_changes_that_somebody_may_ask_for_are_forwarded() {
        let meta = |body| Command::meta(Change::from(body));
        check(meta(ChangeBody::Join(Join::default())), None);
        let replicas = MetaReplicas { nodes: vec![4] };
        check(
            meta(ChangeBody::MetaReplicas(replicas)),
            Some("makes by itself"),
        );
        check(Command::meta(Change::default()), Some("no known kind"));
        check(Command::default(), Some("no known kind"));
        let creation = |request_id: &'static [u8]| {
            Command::create(Create {
                request_id: Bytes::from_static(request_id),
                ..Create::default()
            })
        };
        check(creation(b"r"), None);
        check(creation(b"\xff"), Some("request_id must be UTF-8"));
    }
}
