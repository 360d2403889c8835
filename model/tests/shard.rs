//! The state machine against a simple one that keeps a list of messages and searches it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

mod support;

use bytes::Bytes;
use firebreak_model as model;
use model::command::{
    Answer, Append, Attribute, Command, Create, Entry, NewMessage, Outcome, Reason, Refusal, Reply,
};
use model::id::ConversationName;
use model::limits::DEDUP_WINDOW_MS;
use model::shard::{Machine, Scope, Stop};
use model::state::Stored;
use model::{cluster, hash};
use proptest::prelude::*;
use prost::Message;
use support::Records;

const START_MS: u64 = 1_700_000_000_000;

fn machine() -> Machine {
    Machine::new(Scope::Data(0..=u16::MAX), 0, 0)
}

fn message(sender: &str, id: &str, body: &str) -> NewMessage {
    NewMessage {
        sender: Bytes::copy_from_slice(sender.as_bytes()),
        client_message_id: Bytes::copy_from_slice(id.as_bytes()),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..NewMessage::default()
    }
}

fn append(room: &str, messages: Vec<NewMessage>) -> Append {
    Append {
        conversation: format!("tenants/t/conversations/{room}"),
        messages,
        ..Append::default()
    }
}

fn create(room: &str, request: &str) -> Create {
    Create {
        conversation: format!("tenants/t/conversations/{room}"),
        request_id: Bytes::copy_from_slice(request.as_bytes()),
        attributes: Vec::new(),
    }
}

/// Applies one command in an entry of its own.
fn apply(machine: &mut Machine, records: &mut Records, time_ms: u64, command: Command) -> Reply {
    apply_when(machine, records, (time_ms, 0), command)
}

/// The same, at a command time and when so much has passed for the shard.
fn apply_when(
    machine: &mut Machine,
    records: &mut Records,
    (time_ms, passed_ms): (u64, u64),
    command: Command,
) -> Reply {
    let entry = Entry {
        format: if passed_ms == 0 { 1 } else { 2 },
        time_ms,
        commands: vec![command.encode_to_vec().into()],
        passed_ms,
    };
    let mut replies = machine
        .apply(records, &entry.encode_to_vec().into())
        .unwrap();
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

fn outcomes(reply: Reply) -> Vec<Outcome> {
    match reply.answer {
        Some(Answer::Appended(appended)) => appended.outcomes,
        other => panic!("not appended: {other:?}"),
    }
}

#[track_caller]
fn assert_refused(reply: Reply, reason: Reason) -> Refusal {
    match reply.answer {
        Some(Answer::Refused(refusal)) => {
            assert_eq!(refusal.reason(), reason, "{}", refusal.message);
            refusal
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// What the simple machine remembers of a message.
#[derive(Clone, Debug)]
struct Said {
    message: NewMessage,
    seq: u64,
    revision: u64,
    time_ms: u64,
    passed_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Room {
    created_by: Option<(Bytes, Vec<Attribute>)>,
    said: Vec<Said>,
}

/// The simple machine.
#[derive(Default)]
struct Simple {
    rooms: std::collections::BTreeMap<String, Room>,
    revision: u64,
    now_ms: u64,
    passed_ms: u64,
}

#[derive(Debug, PartialEq)]
enum ReplyShown {
    Each(Vec<Result<(u64, u64, u64, bool), Reason>>),
    Created { create_time_ms: u64, again: bool },
    Refused(Reason),
}

impl Simple {
    fn find(&self, room: &str, message: &NewMessage) -> Option<Said> {
        let same = |said: &&Said| {
            said.message.sender == message.sender
                && said.message.client_message_id == message.client_message_id
        };
        let said = self.rooms.get(room)?.said.iter().rev().find(same)?;
        let import = message.client_message_id.starts_with(b"import:");
        let since_ms = match self.passed_ms {
            0 => self.now_ms - said.time_ms,
            passed_ms => passed_ms - said.passed_ms,
        };
        (import || since_ms <= DEDUP_WINDOW_MS).then(|| said.clone())
    }

    fn put(&mut self, room: &str, message: &NewMessage) -> Result<(u64, u64, u64, bool), Reason> {
        self.revision += 1;
        let room = self.rooms.entry(room.to_owned()).or_default();
        let said = Said {
            message: message.clone(),
            seq: room.said.len() as u64 + 1,
            revision: self.revision,
            time_ms: self.now_ms,
            passed_ms: self.passed_ms,
        };
        room.said.push(said.clone());
        Ok((said.seq, said.revision, said.time_ms, false))
    }

    fn len(&self, room: &str) -> u64 {
        let room = self.rooms.get(room);
        room.map_or(0, |room| room.said.len() as u64)
    }

    fn append(&mut self, append: &Append) -> ReplyShown {
        let room = append.conversation.as_str();
        let last = self.len(room);
        let ahead = |message: &NewMessage, last: u64| {
            append.refuse_replies_ahead && message.reply_to_seq > last
        };
        let fits = append.expected_last_seq.is_none_or(|wanted| wanted == last);
        let again = |said: Said, message: &NewMessage| match said.message == *message {
            true => Ok((said.seq, said.revision, said.time_ms, true)),
            false => Err(Reason::ClientMessageIdReused),
        };
        if !append.atomic {
            let mut each = Vec::new();
            for message in &append.messages {
                each.push(match self.find(room, message) {
                    Some(said) => again(said, message),
                    None if !fits => Err(Reason::SeqMismatch),
                    None if ahead(message, self.len(room)) => Err(Reason::AheadOfHead),
                    None => self.put(room, message),
                });
            }
            return ReplyShown::Each(each);
        }
        for (at, message) in append.messages.iter().enumerate() {
            let same = |other: &NewMessage| {
                other.sender == message.sender
                    && other.client_message_id == message.client_message_id
            };
            if append.messages[..at].iter().any(same) {
                return ReplyShown::Refused(Reason::RepeatedInBatch);
            }
        }
        let mut known = Vec::new();
        for message in &append.messages {
            if let Some(said) = self.find(room, message) {
                match again(said, message) {
                    Err(reason) => return ReplyShown::Refused(reason),
                    answer => known.push(answer),
                }
            }
        }
        if known.len() == append.messages.len() {
            return ReplyShown::Each(known);
        }
        if !known.is_empty() {
            return ReplyShown::Refused(Reason::MixedBatch);
        }
        if !fits {
            return ReplyShown::Refused(Reason::SeqMismatch);
        }
        if (last..)
            .zip(&append.messages)
            .any(|(last, message)| ahead(message, last))
        {
            return ReplyShown::Refused(Reason::AheadOfHead);
        }
        let put = |message| self.put(room, message);
        ReplyShown::Each(append.messages.iter().map(put).collect())
    }

    fn create(&mut self, create: &Create) -> ReplyShown {
        let by = (create.request_id.clone(), create.attributes.clone());
        if let Some(room) = self.rooms.get(&create.conversation) {
            return match &room.created_by {
                Some(first) if *first == by => ReplyShown::Created {
                    create_time_ms: 0, // filled in by the caller, who knows
                    again: true,
                },
                Some(first) if first.0 == by.0 => {
                    ReplyShown::Refused(Reason::ClientMessageIdReused)
                }
                _ => ReplyShown::Refused(Reason::AlreadyExists),
            };
        }
        self.revision += 1;
        let room = self.rooms.entry(create.conversation.clone()).or_default();
        room.created_by = Some(by);
        ReplyShown::Created {
            create_time_ms: self.now_ms,
            again: false,
        }
    }
}

fn told(reply: Reply) -> ReplyShown {
    match reply.answer.expect("an answer") {
        Answer::Appended(appended) => ReplyShown::Each(
            appended
                .outcomes
                .into_iter()
                .map(|o| match o.refusal {
                    Some(refusal) => Err(refusal.reason()),
                    None => Ok((o.seq, o.revision, o.create_time_ms, o.deduplicated)),
                })
                .collect(),
        ),
        Answer::Created(created) => {
            let conversation = created.conversation.expect("a conversation");
            assert_eq!(
                conversation.last_seq, 0,
                "the answer is that of the first time"
            );
            ReplyShown::Created {
                create_time_ms: if created.deduplicated {
                    0
                } else {
                    conversation.create_time_ms
                },
                again: created.deduplicated,
            }
        }
        Answer::Refused(refusal) => ReplyShown::Refused(refusal.reason()),
        Answer::Changed(changed) => panic!("{changed:?}"),
        Answer::Configured(done) => panic!("{done:?}"),
        Answer::Expired(done) => panic!("{done:?}"),
        Answer::Meta(changed) => panic!("{changed:?}"),
    }
}

fn any_message() -> impl Strategy<Value = NewMessage> {
    let id = prop_oneof![
        4 => (0..8u8).prop_map(|i| format!("id{i}")),
        1 => (0..2u8).prop_map(|i| format!("import:{i}")),
    ];
    let reply = prop_oneof![6 => Just(0), 1 => 1..6u64];
    (0..2u8, id, 0..10u8, reply).prop_map(|(sender, id, body, reply_to_seq)| NewMessage {
        reply_to_seq,
        ..message(
            &format!("u{sender}"),
            &id,
            if body == 0 { "other" } else { "text" },
        )
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let messages = proptest::collection::vec(any_message(), 1..4);
    let appending = (
        0..3u8,
        messages,
        any::<bool>(),
        proptest::option::weighted(0.2, 0..4u64),
        any::<bool>(),
    )
        .prop_map(
            |(room, messages, atomic, expected_last_seq, refuse_replies_ahead)| {
                Command::append(Append {
                    atomic,
                    expected_last_seq,
                    refuse_replies_ahead,
                    ..append(&format!("room{room}"), messages)
                })
            },
        );
    let creating = (0..3u8, 0..2u8, 0..5u8).prop_map(|(room, request, attribute)| {
        let mut create = create(&format!("room{room}"), &format!("request{request}"));
        if attribute == 0 {
            create.attributes.push(Attribute {
                key: "k".into(),
                value: "v".into(),
            });
        }
        Command::create(create)
    });
    prop_oneof![6 => appending, 1 => creating]
}

fn any_step() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..3u64,
        1 => Just(DEDUP_WINDOW_MS / 2),
        1 => Just(DEDUP_WINDOW_MS),
        1 => Just(DEDUP_WINDOW_MS + 1),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_machine_says_what_the_simple_one_says(
        entries in proptest::collection::vec(
            (any_step(), any_step(), proptest::collection::vec(any_command(), 1..5)), 1..25),
        counted_from in 0..30usize,
    ) {
        let (mut machine, mut records) = (machine(), Records::default());
        let mut simple = Simple { now_ms: START_MS, ..Simple::default() };
        for (at, (step_ms, passed_ms, commands)) in entries.into_iter().enumerate() {
            simple.now_ms += step_ms;
            // Time may pass where command time stands still, and the other way round.
            if at >= counted_from {
                simple.passed_ms += passed_ms + u64::from(at == counted_from);
            }
            let entry = Entry {
                format: 2,
                time_ms: simple.now_ms,
                commands: commands.iter().map(|c| c.encode_to_vec().into()).collect(),
                passed_ms: simple.passed_ms,
            };
            let replies = machine.apply(&mut records, &entry.encode_to_vec().into()).unwrap();
            prop_assert_eq!(replies.len(), commands.len());
            for (command, reply) in commands.iter().zip(replies) {
                let expected = match command.body.as_ref().unwrap() {
                    model::command::Body::Append(append) => simple.append(append),
                    model::command::Body::Create(create) => simple.create(create),
                    model::command::Body::Change(_)
                    | model::command::Body::Configure(_)
                    | model::command::Body::AppendWith(_)
                    | model::command::Body::Govern(_)
                    | model::command::Body::Expire(_)
                    | model::command::Body::Meta(_) => unreachable!(),
                };
                prop_assert_eq!(told(reply), expected, "{:?}", command);
            }
        }
        prop_assert_eq!(machine.revision(), simple.revision);
        prop_assert_eq!(records.heads.len(), simple.rooms.len());
        for (name, room) in &simple.rooms {
            let key = ConversationName::parse(name).unwrap().key();
            let head = &records.heads[&key];
            prop_assert_eq!(head.last_seq, room.said.len() as u64);
            let mut sum = 0u128;
            for said in &room.said {
                let record = &records.messages[&(key, said.seq)];
                sum = sum.wrapping_add(hash::record_hash(record));
                let stored = Stored::decode(record.clone()).unwrap();
                prop_assert_eq!(stored.seq, said.seq);
                prop_assert_eq!(stored.revision, said.revision);
                prop_assert_eq!(stored.create_time_ms, said.time_ms);
                prop_assert_eq!(stored.message.as_ref(), Some(&said.message));
            }
            prop_assert_eq!(&head.content_hash[..], &sum.to_le_bytes()[..]);
        }
    }

    #[test]
    fn no_bytes_whatever_make_it_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let (mut machine, mut records) = (machine(), Records::default());
        let whole = Entry {
            format: 1,
            time_ms: START_MS,
            commands: vec![
                Command::append(append("a", vec![message("u", "1", "x")])).encode_to_vec().into(),
            ],
            passed_ms: 0,
        }
        .encode_to_vec();
        let mut flipped = whole.clone();
        flipped[flip.index(whole.len())] ^= 0x55;
        for bytes in [noise, whole[..cut.index(whole.len())].to_vec(), flipped] {
            match machine.apply(&mut records, &bytes.into()) {
                Ok(replies) => prop_assert!(replies.iter().all(|reply| reply.answer.is_some())),
                Err(Stop::Format(format)) => prop_assert!(format > model::command::FORMAT),
                Err(Stop::View(never)) => match never {},
            }
        }
    }
}

#[test]
fn an_id_is_remembered_for_seven_days_to_the_millisecond_and_an_imports_for_ever() {
    let (mut machine, mut records) = (machine(), Records::default());
    let say = |id| Command::append(append("room", vec![message("u", id, "x")]));
    for id in ["a", "b", "import:1"] {
        apply(&mut machine, &mut records, START_MS, say(id));
    }
    let last = START_MS + DEDUP_WINDOW_MS;
    let again = outcomes(apply(&mut machine, &mut records, last, say("a"))).remove(0);
    assert_eq!(
        (again.seq, again.create_time_ms, again.deduplicated),
        (1, START_MS, true)
    );
    let anew = outcomes(apply(&mut machine, &mut records, last + 1, say("b"))).remove(0);
    assert_eq!((anew.seq, anew.deduplicated), (4, false));
    let year = START_MS + 52 * DEDUP_WINDOW_MS;
    let kept = outcomes(apply(&mut machine, &mut records, year, say("import:1"))).remove(0);
    assert_eq!((kept.seq, kept.deduplicated), (3, true));
    let (key, id) = (
        hash::conversation_key("t", "room"),
        hash::dedup_id(b"u", b"import:1"),
    );
    assert!(records.dedups[&(key, id)].kept);
}

#[test]
fn an_id_lives_by_the_time_that_passed_and_no_leap_of_command_time_ends_it() {
    let (mut machine, mut records) = (machine(), Records::default());
    let say = |id| Command::append(append("room", vec![message("u", id, "x")]));
    let mut told = |when, id| {
        outcomes(apply_when(&mut machine, &mut records, when, say(id)))
            .remove(0)
            .deduplicated
    };
    let year_ms = 52 * DEDUP_WINDOW_MS;
    assert!(!told((START_MS, 0), "from before it was counted"));
    assert!(!told((START_MS, 1_000), "a"));
    // All clocks leap by a year and back, and time stands still for as long.
    for time_ms in [START_MS + year_ms, START_MS] {
        assert!(told((time_ms, 1_001), "a"));
        assert!(told((time_ms, 1_001), "from before it was counted"));
    }
    let last_ms = 1_000 + DEDUP_WINDOW_MS;
    assert!(told((START_MS, last_ms), "a"));
    assert!(!told((START_MS, last_ms), "from before it was counted"));
    assert!(!told((START_MS, last_ms + 1), "a"));
}

#[test]
fn dedup_is_looked_up_before_the_wanted_seq() {
    let (mut machine, mut records) = (machine(), Records::default());
    let wanting = |id, last| {
        Command::append(Append {
            expected_last_seq: Some(last),
            ..append("room", vec![message("u", id, "x")])
        })
    };
    assert_eq!(
        outcomes(apply(&mut machine, &mut records, 1, wanting("a", 0)))[0].seq,
        1
    );
    let retry = outcomes(apply(&mut machine, &mut records, 2, wanting("a", 0))).remove(0);
    assert_eq!(
        (retry.seq, retry.deduplicated, retry.refusal),
        (1, true, None)
    );
    let late = outcomes(apply(&mut machine, &mut records, 3, wanting("b", 0))).remove(0);
    let refusal = late.refusal.unwrap();
    assert_eq!(
        (refusal.reason(), refusal.last_seq),
        (Reason::SeqMismatch, 1)
    );
}

#[test]
fn time_never_goes_back_whatever_the_leader_says() {
    let (mut machine, mut records) = (machine(), Records::default());
    let say = |id| Command::append(append("room", vec![message("u", id, "x")]));
    apply(&mut machine, &mut records, START_MS, say("a"));
    let second = outcomes(apply(
        &mut machine,
        &mut records,
        START_MS - 5_000,
        say("b"),
    ))
    .remove(0);
    assert_eq!(second.create_time_ms, START_MS);
}

#[test]
fn a_creation_answers_its_request_as_the_first_time() {
    let (mut machine, mut records) = (machine(), Records::default());
    let create = |request| Command::create(create("room", request));
    let first = apply(&mut machine, &mut records, 5, create("r1"));
    let say = Command::append(append("room", vec![message("u", "1", "x")]));
    assert_eq!(
        outcomes(apply(&mut machine, &mut records, 6, say))[0].revision,
        2
    );
    let again = apply(&mut machine, &mut records, 7, create("r1"));
    let (Some(Answer::Created(first)), Some(Answer::Created(again))) = (first.answer, again.answer)
    else {
        panic!("not created");
    };
    assert_eq!(first.conversation, again.conversation);
    assert!(!first.deduplicated && again.deduplicated);
    assert_refused(
        apply(&mut machine, &mut records, 8, create("r2")),
        Reason::AlreadyExists,
    );
    let said = Command::append(append("said", vec![message("u", "1", "x")]));
    apply(&mut machine, &mut records, 9, said);
    let mut late = self::create("said", "r1");
    late.attributes.clear();
    let late = apply(&mut machine, &mut records, 10, Command::create(late));
    assert_refused(late, Reason::AlreadyExists);
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut records = Records::default();
    let key = ConversationName::new("t", "room").unwrap().key();
    let slot = key.slot().0;
    let mut elsewhere = Machine::new(Scope::Data(0..=slot - 1), 0, 0);
    let say = Command::append(append("room", vec![message("u", "1", "x")]));
    let refusal = assert_refused(
        apply(&mut elsewhere, &mut records, 1, say.clone()),
        Reason::WrongShard,
    );
    assert!(
        refusal.message.contains(&slot.to_string()),
        "{}",
        refusal.message
    );

    let mut machine = machine();
    let mut foreign = append("room", vec![message("u", "1", "x")]);
    foreign.conversation = "rooms/1".into();
    let change = cluster::Change::default();
    for invalid in [
        Command::append(foreign),
        Command::append(append("room", vec![])),
        Command::append(append("room", vec![message("", "1", "x")])),
        Command::append(append("room", vec![message("u", "", "x")])),
        Command::create(create("room", "")),
        Command::meta(change),
        Command { body: None },
    ] {
        assert_refused(
            apply(&mut machine, &mut records, 1, invalid),
            Reason::Invalid,
        );
    }
    let mut meta = Machine::new(Scope::Meta, 0, 0);
    assert_refused(apply(&mut meta, &mut records, 1, say), Reason::Invalid);
    assert_eq!(records, Records::default());
    assert_eq!(machine.revision(), 0);
}

#[test]
fn two_names_with_one_key_are_told_apart() {
    let (mut machine, mut records) = (machine(), Records::default());
    let say = Command::append(append("room", vec![message("u", "1", "x")]));
    apply(&mut machine, &mut records, 1, say.clone());
    let key = ConversationName::new("t", "room").unwrap().key();
    records.heads.get_mut(&key).unwrap().name = "tenants/t/conversations/twin".into();
    assert_refused(
        apply(&mut machine, &mut records, 2, say),
        Reason::KeyCollision,
    );
    let create = Command::create(create("room", "r"));
    assert_refused(
        apply(&mut machine, &mut records, 3, create),
        Reason::KeyCollision,
    );
}

#[test]
fn an_entry_of_a_later_format_stops_the_machine() {
    let entry = Entry {
        format: model::command::FORMAT + 1,
        ..Entry::default()
    };
    let stop = machine().apply(&mut Records::default(), &entry.encode_to_vec().into());
    assert_eq!(stop, Err(Stop::Format(model::command::FORMAT + 1)));
}

#[test]
fn a_change_of_the_cluster_moves_the_meta_shards_revision() {
    let mut records = Records {
        cluster: Some(cluster::ClusterState::default()),
        ..Records::default()
    };
    let mut meta = Machine::new(Scope::Meta, 0, 0);
    let founding = Command::meta(cluster::Change {
        body: Some(cluster::ChangeBody::Found(Box::new(
            cluster::ClusterState {
                cluster_id: "c".into(),
                token_hash: hash::token_hash("t"),
                nodes: vec![cluster::Node {
                    id: 1,
                    ..cluster::Node::default()
                }],
                ..cluster::ClusterState::default()
            },
        ))),
        actor: None,
    });
    let reply = apply(&mut meta, &mut records, 1, founding);
    let changed = cluster::Changed {
        node_id: 1,
        epoch: 1,
        ..cluster::Changed::default()
    };
    assert_eq!(reply.answer, Some(Answer::Meta(changed)));
    assert_eq!(meta.revision(), 1);
}

#[test]
fn a_reply_to_a_message_that_there_is_not_is_refused_where_that_is_asked_for() {
    let (mut machine, mut records) = (machine(), Records::default());
    let replying = |id: &str, to: u64| NewMessage {
        reply_to_seq: to,
        ..message("u", id, "x")
    };
    let mut send = |refuse_replies_ahead, atomic, messages| {
        let command = Command::append(Append {
            refuse_replies_ahead,
            atomic,
            ..append("room", messages)
        });
        let reply = apply(&mut machine, &mut records, 1, command);
        match told(reply) {
            ReplyShown::Each(each) => each.into_iter().map(|one| one.map(|done| done.0)).collect(),
            other => vec![Err(match other {
                ReplyShown::Refused(reason) => reason,
                _ => Reason::Unspecified,
            })],
        }
    };
    let ahead = Err(Reason::AheadOfHead);
    assert_eq!(send(true, false, vec![replying("a", 1)]), [ahead]);
    let some = vec![replying("a", 0), replying("b", 1), replying("c", 9)];
    assert_eq!(send(true, false, some), [Ok(1), Ok(2), ahead]);
    // A batch is refused whole, and may answer itself.
    let batch = vec![replying("d", 2), replying("e", 4)];
    assert_eq!(send(true, true, batch), [ahead]);
    let batch = vec![replying("d", 2), replying("e", 3)];
    assert_eq!(send(true, true, batch), [Ok(3), Ok(4)]);
    // As commands from before this was looked at.
    assert_eq!(send(false, false, vec![replying("f", 99)]), [Ok(5)]);
    assert_eq!(send(true, false, vec![replying("f", 99)]), [Ok(5)]);
}
