//! Changes of messages against a simple model, and what is left of what was erased.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on; its numbers are small"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use firebreak_model as model;
use model::command::{
    Answer, Append, Attribute, Attributes, ChangeMessage, Command, Configure, Create, Delete, Edit,
    Entry, FORMAT, How, NewMessage, React, Reason, Redact, Reply, Setting,
};
use model::hash::record_hash;
use model::id::{ConversationKey, ConversationName};
use model::limits::{DEDUP_WINDOW_MS, REACTION_KINDS_MAX};
use model::shard::{Machine, Scope};
use model::state::Stored;
use proptest::prelude::*;
use prost::Message as _;
use support::Records;

const START_MS: u64 = 1_700_000_000_000;
const ROOM: &str = "tenants/t/conversations/room";

fn key() -> ConversationKey {
    ConversationName::parse(ROOM).unwrap().key()
}

/// A shard that is applied to one command at a time.
struct Shard {
    machine: Machine,
    records: Records,
    now_ms: u64,
}

impl Shard {
    fn new() -> Shard {
        Shard {
            machine: Machine::new(Scope::Data(0..=u16::MAX), 0, 0),
            records: Records::default(),
            now_ms: START_MS,
        }
    }

    fn apply(&mut self, command: &Command) -> Answer {
        let entry = Entry {
            format: FORMAT,
            time_ms: self.now_ms,
            commands: vec![command.encode_to_vec().into()],
            passed_ms: self.now_ms - START_MS + 1,
        };
        let payload = entry.encode_to_vec().into();
        let mut replies: Vec<Reply> = self.machine.apply(&mut self.records, &payload).unwrap();
        assert_eq!(replies.len(), 1);
        replies.remove(0).answer.unwrap()
    }

    fn say(&mut self, id: &str, body: &str) -> u64 {
        match self.apply(&append(id, body)) {
            Answer::Appended(appended) => appended.outcomes[0].seq,
            other => panic!("{other:?}"),
        }
    }

    fn change(&mut self, seq: u64, request: &str, how: How) -> ChangeOutcome {
        told(self.apply(&change(seq, request, None, how)))
    }

    fn stored(&self, seq: u64) -> Stored {
        Stored::decode(self.records.messages[&(key(), seq)].clone()).unwrap()
    }

    /// The sum that the head should have.
    fn sum(&self) -> u128 {
        let messages = self.records.messages.values().map(|m| record_hash(m));
        let counts = self.records.reactions.values();
        let counts = counts.map(|one| record_hash(&one.encode_to_vec()));
        let each = self.records.reacted.values();
        let each = each.map(|one| record_hash(&one.encode_to_vec()));
        messages
            .chain(counts)
            .chain(each)
            .fold(0, u128::wrapping_add)
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn append(id: &str, body: &str) -> Command {
    Command::append(Append {
        conversation: ROOM.into(),
        messages: vec![NewMessage {
            sender: bytes("ann"),
            client_message_id: bytes(id),
            body: bytes(body),
            ..NewMessage::default()
        }],
        ..Append::default()
    })
}

fn change(seq: u64, request: &str, expected_revision: Option<u64>, how: How) -> Command {
    Command::change(ChangeMessage {
        conversation: ROOM.into(),
        seq,
        request_id: bytes(request),
        expected_revision,
        how: Some(how),
        import: false,
    })
}

fn edit(body: &str) -> How {
    How::Edit(Edit {
        body: Some(bytes(body)),
        attributes: None,
        salt: Bytes::from_static(b"0123456789abcdef"),
        original_time_ms: None,
    })
}

fn redact() -> How {
    How::Redact(Redact::default())
}

fn react(user: &str, kind: &str, remove: bool) -> How {
    How::React(React {
        user: bytes(user),
        kind: bytes(kind),
        remove,
    })
}

/// A reply in short: the numbers and whether it was a repeat, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeOutcome {
    Done {
        seq: u64,
        revision: u64,
        count: u32,
        again: bool,
    },
    Refused(Reason),
}

fn told(answer: Answer) -> ChangeOutcome {
    match answer {
        Answer::Changed(done) => ChangeOutcome::Done {
            seq: done.seq,
            revision: done.revision,
            count: done.count,
            again: done.deduplicated,
        },
        Answer::Refused(refusal) => ChangeOutcome::Refused(refusal.reason()),
        other => panic!("{other:?}"),
    }
}

/// A message as the simple model keeps it.
#[derive(Clone, Debug, Default)]
struct Simple {
    body: String,
    attributes: usize,
    redacted: bool,
    revision: u64,
    /// Who set which kind.
    reactions: BTreeSet<(String, String)>,
    changes: BTreeSet<u64>,
    reacted_at: u64,
}

#[derive(Default)]
struct Model {
    messages: Vec<Simple>,
    revision: u64,
    /// What a request was, its answer, and when it came.
    requests: BTreeMap<String, (u64, String, ChangeOutcome, u64)>,
    now_ms: u64,
}

impl Model {
    fn change(
        &mut self,
        seq: u64,
        request: &str,
        expected: Option<u64>,
        how: &How,
    ) -> ChangeOutcome {
        let kind = match how {
            How::Edit(_) => "edit",
            How::Redact(_) => "redact",
            How::React(_) => "react",
        };
        let what = match how {
            How::Edit(edit) => format!("edit {:?} {:?}", edit.body, edit.attributes),
            other => format!("{other:?}"),
        };
        if let Some((of, was, answer, at)) = self.requests.get(request)
            && self.now_ms <= at + DEDUP_WINDOW_MS
        {
            let erased = self
                .messages
                .get(*of as usize - 1)
                .is_some_and(|m| m.redacted);
            let forgotten = kind == "edit" && was.starts_with("edit") && erased;
            return match (*of == seq && (*was == what || forgotten), *answer) {
                (
                    true,
                    ChangeOutcome::Done {
                        seq,
                        revision,
                        count,
                        ..
                    },
                ) => ChangeOutcome::Done {
                    seq,
                    revision,
                    count,
                    again: true,
                },
                _ => ChangeOutcome::Refused(Reason::RequestIdReused),
            };
        }
        let next = self.revision + 1;
        let Some(message) = (seq as usize)
            .checked_sub(1)
            .and_then(|at| self.messages.get_mut(at))
        else {
            return ChangeOutcome::Refused(Reason::MessageNotFound);
        };
        if expected.is_some_and(|revision| revision != message.revision) {
            return ChangeOutcome::Refused(Reason::RevisionMismatch);
        }
        if message.redacted && kind != "redact" {
            return ChangeOutcome::Refused(Reason::MessageRedacted);
        }
        let (moved, count) = message.change(how, next);
        if moved {
            self.revision = next;
        }
        let answer = ChangeOutcome::Done {
            seq,
            revision: message.revision,
            count,
            again: false,
        };
        let request = request.to_owned();
        self.requests
            .insert(request, (seq, what, answer, self.now_ms));
        answer
    }
}

impl Simple {
    fn change(&mut self, how: &How, next: u64) -> (bool, u32) {
        let mut count = 0;
        match how {
            How::Edit(edit) => {
                if let Some(body) = &edit.body {
                    self.body = String::from_utf8(body.to_vec()).unwrap();
                }
                if let Some(attributes) = &edit.attributes {
                    self.attributes = attributes.values.len();
                }
                self.changes = BTreeSet::from([next]);
            }
            How::Redact(_) if self.redacted => return (false, 0),
            How::Redact(_) => {
                *self = Simple {
                    redacted: true,
                    changes: BTreeSet::from([next]),
                    ..Simple::default()
                };
            }
            How::React(react) => {
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let pair = (text(&react.user), text(&react.kind));
                let moved = match react.remove {
                    true => self.reactions.remove(&pair),
                    false => self.reactions.insert(pair.clone()),
                };
                let of_kind = self.reactions.iter().filter(|one| one.1 == pair.1);
                count = of_kind.count() as u32;
                if !moved {
                    return (false, count);
                }
                self.reacted_at = next;
            }
        }
        self.revision = next;
        (true, count)
    }

    /// The revisions at which a tail must look at it.
    fn noted(&self) -> BTreeSet<u64> {
        let mut all = self.changes.clone();
        if self.reacted_at > 0 {
            all.insert(self.reacted_at);
        }
        all
    }
}

fn any_how() -> impl Strategy<Value = How> {
    let body = (0..3u8).prop_map(|n| edit(&format!("edited {n}")));
    let attributes = (0..3u8).prop_map(|n| {
        let one = |i: u8| Attribute {
            key: format!("k{i}"),
            value: "v".into(),
        };
        How::Edit(Edit {
            attributes: Some(Attributes {
                values: (0..n).map(one).collect(),
            }),
            salt: Bytes::from_static(b"0123456789abcdef"),
            ..Edit::default()
        })
    });
    let reaction = (0..3u8, 0..3u8, any::<bool>())
        .prop_map(|(user, kind, remove)| react(&format!("u{user}"), &format!("k{kind}"), remove));
    prop_oneof![4 => body, 2 => attributes, 1 => Just(redact()), 6 => reaction]
}

#[derive(Clone, Debug)]
enum Step {
    Say,
    Change(u64, u8, Option<u64>, How),
    /// So much time passes.
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let expected = proptest::option::weighted(0.2, 0..6u64);
    let changing = (0..6u64, 0..12u8, expected, any_how())
        .prop_map(|(seq, request, expected, how)| Step::Change(seq, request, expected, how));
    prop_oneof![
        2 => Just(Step::Say),
        8 => changing,
        1 => prop_oneof![Just(1), Just(DEDUP_WINDOW_MS / 2), Just(DEDUP_WINDOW_MS + 1)]
            .prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn changes_are_what_a_simple_model_says(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut shard = Shard::new();
        let mut model = Model { now_ms: START_MS, ..Model::default() };
        shard.say("m0", "first");
        model.revision = 1;
        model.messages.push(Simple { body: "first".into(), revision: 1, ..Simple::default() });
        for step in steps {
            match step {
                Step::Say => {
                    let seq = model.messages.len();
                    let body = format!("said {seq}");
                    shard.say(&format!("m{seq}"), &body);
                    model.revision += 1;
                    let revision = model.revision;
                    model.messages.push(Simple { body, revision, ..Simple::default() });
                }
                Step::Pass(ms) => {
                    shard.now_ms += ms;
                    model.now_ms += ms;
                }
                Step::Change(seq, request, expected, how) => {
                    // Sometimes right, by luck.
                    let revision = |back: u64| model.revision.saturating_sub(back);
                    let expected = expected.map(revision);
                    let request = format!("r{request}");
                    let says = model.change(seq, &request, expected, &how);
                    let command = change(seq, &request, expected, how);
                    prop_assert_eq!(told(shard.apply(&command)), says, "{:?}", command);
                }
            }
            check(&shard, &model)?;
        }
    }
}

/// All that there is to read of the shard against the model.
fn check(shard: &Shard, model: &Model) -> Result<(), TestCaseError> {
    let head = &shard.records.heads[&key()];
    prop_assert_eq!(head.last_seq, model.messages.len() as u64);
    prop_assert_eq!(shard.machine.revision(), model.revision);
    prop_assert_eq!(&head.content_hash[..], &shard.sum().to_le_bytes()[..]);
    let mut noted = BTreeMap::new();
    for (at, simple) in model.messages.iter().enumerate() {
        let seq = at as u64 + 1;
        let stored = shard.stored(seq);
        let message = stored.message.clone().unwrap();
        prop_assert_eq!(&message.body[..], simple.body.as_bytes());
        prop_assert_eq!(message.attributes.len(), simple.attributes);
        prop_assert_eq!(stored.is_tombstone(), simple.redacted);
        let counts = shard.records.reactions.get(&(key(), seq));
        let reacted = counts.map_or(0, |all| all.revision);
        prop_assert_eq!(stored.revision.max(reacted), simple.revision);
        let mut expected: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, kind) in &simple.reactions {
            *expected.entry(kind).or_default() += 1;
        }
        let found = counts.iter().flat_map(|all| &all.counts);
        let found: BTreeMap<&str, u32> = found
            .map(|one| (std::str::from_utf8(&one.kind).unwrap(), one.count))
            .collect();
        prop_assert_eq!(found, expected);
        noted.extend(simple.noted().into_iter().map(|revision| (revision, seq)));
    }
    let changes = &shard.records.changes;
    let changes: BTreeMap<u64, u64> = changes.iter().map(|(at, seq)| (at.1, *seq)).collect();
    prop_assert_eq!(changes, noted);
    Ok(())
}

#[test]
fn an_erased_message_leaves_nothing_that_says_what_it_was() {
    let mut shard = Shard::new();
    shard.say("m1", "my secret");
    shard.change(1, "e1", edit("my other secret"));
    shard.change(1, "x1", react("ben", "smile", false));
    let before = shard.records.clone();
    shard.change(1, "d1", redact());
    let stored = shard.stored(1);
    assert_eq!(stored.message, Some(NewMessage::default()));
    assert!(stored.salt.is_empty() && stored.edit_time_ms.is_none());
    assert!(shard.records.reactions.is_empty() && shard.records.reacted.is_empty());
    // The hash of what was appended is gone; that of the edit says nothing without its salt.
    let appended = model::hash::dedup_id(b"ann", b"m1");
    assert!(!before.dedups[&(key(), appended)].request_hash.is_empty());
    let left = &shard.records.dedups[&(key(), appended)];
    assert!(left.request_hash.is_empty());
    let written: Vec<u8> = shard
        .records
        .messages
        .values()
        .flat_map(|m| m.to_vec())
        .collect();
    for word in ["secret", "ann", "m1", "smile", "0123456789abcdef"] {
        let found = written
            .windows(word.len())
            .any(|part| part == word.as_bytes());
        assert!(!found, "{word}");
    }
}

#[test]
fn retries_around_an_erasure_get_their_first_answers_and_undo_nothing() {
    let mut shard = Shard::new();
    shard.say("m1", "first");
    let edited = shard.change(1, "e1", edit("second"));
    let erased = shard.change(1, "d1", redact());
    let again = |told| match told {
        ChangeOutcome::Done {
            seq,
            revision,
            count,
            ..
        } => ChangeOutcome::Done {
            seq,
            revision,
            count,
            again: true,
        },
        refused => refused,
    };
    assert_eq!(shard.change(1, "e1", edit("second")), again(edited));
    assert_eq!(shard.change(1, "d1", redact()), again(erased));
    match shard.apply(&append("m1", "first")) {
        Answer::Appended(said) => {
            let said = &said.outcomes[0];
            assert_eq!((said.seq, said.revision, said.deduplicated), (1, 1, true));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(shard.stored(1).message, Some(NewMessage::default()));
    // An id is for one request, whatever is left of it.
    let reused = ChangeOutcome::Refused(Reason::RequestIdReused);
    assert_eq!(shard.change(1, "d1", edit("third")), reused);
    assert_eq!(shard.change(1, "e1", redact()), reused);
}

#[test]
fn there_are_so_many_kinds_of_reactions_and_no_more() {
    let mut shard = Shard::new();
    shard.say("m1", "x");
    for kind in 0..REACTION_KINDS_MAX {
        let done = shard.change(
            1,
            &format!("r{kind}"),
            react("u", &format!("k{kind}"), false),
        );
        assert!(
            matches!(done, ChangeOutcome::Done { count: 1, .. }),
            "{done:?}"
        );
    }
    let full = shard.change(1, "one-more", react("u", "another", false));
    assert_eq!(full, ChangeOutcome::Refused(Reason::ReactionsFull));
    let known = shard.change(1, "known", react("v", "k0", false));
    assert!(
        matches!(known, ChangeOutcome::Done { count: 2, .. }),
        "{known:?}"
    );
    shard.change(1, "back", react("u", "k1", true));
    let again = shard.change(1, "one-more", react("u", "another", false));
    assert!(
        matches!(again, ChangeOutcome::Done { count: 1, .. }),
        "{again:?}"
    );
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let mut shard = Shard::new();
    let missing = ChangeOutcome::Refused(Reason::ConversationNotFound);
    assert_eq!(shard.change(1, "r", edit("x")), missing);
    shard.say("m1", "x");
    let missing = ChangeOutcome::Refused(Reason::MessageNotFound);
    assert_eq!(shard.change(2, "r", edit("x")), missing);
    assert_eq!(shard.change(0, "r", redact()), missing);
}

fn configure(request: &str, setting: Setting) -> Command {
    Command::configure(Configure {
        conversation: ROOM.into(),
        request_id: bytes(request),
        setting: Some(setting),
    })
}

fn delete(request: &str) -> Command {
    configure(request, Setting::Delete(Delete {}))
}

fn attributes(count: u8) -> Vec<Attribute> {
    let one = |i: u8| Attribute {
        key: format!("k{i}"),
        value: "v".into(),
    };
    (0..count).map(one).collect()
}

fn create(request: &str, count: u8) -> Command {
    Command::create(Create {
        conversation: ROOM.into(),
        request_id: bytes(request),
        attributes: attributes(count),
    })
}

#[track_caller]
fn refused(answer: Answer, reason: Reason) {
    match answer {
        Answer::Refused(refusal) => assert_eq!(refusal.reason(), reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deleted_conversation_remembers_its_ids_and_begins_again_with_another_life() {
    let mut shard = Shard::new();
    refused(shard.apply(&delete("d0")), Reason::ConversationNotFound);
    shard.say("m1", "first");
    shard.say("m2", "second");
    let edited = shard.change(2, "e1", edit("third"));
    shard.change(1, "x1", react("ben", "k", false));
    let Answer::Configured(deleted) = shard.apply(&delete("d1")) else {
        panic!("refused");
    };
    assert_eq!((deleted.incarnation, deleted.deduplicated), (1, false));
    let records = &shard.records;
    assert!(records.messages.is_empty() && records.changes.is_empty());
    assert!(records.reactions.is_empty() && records.reacted.is_empty());
    // Retries get their first answers and bring nothing back.
    let Answer::Configured(again) = shard.apply(&delete("d1")) else {
        panic!("refused");
    };
    assert_eq!(
        (again.revision, again.deduplicated),
        (deleted.revision, true)
    );
    refused(shard.apply(&delete("d2")), Reason::ConversationNotFound);
    match (edited, shard.change(2, "e1", edit("third"))) {
        (
            ChangeOutcome::Done { revision, .. },
            ChangeOutcome::Done {
                revision: told,
                again,
                ..
            },
        ) => {
            assert_eq!((told, again), (revision, true));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(shard.say("m1", "first"), 1, "as the first time");
    assert!(shard.records.messages.is_empty());
    let gone = ChangeOutcome::Refused(Reason::ConversationNotFound);
    assert_eq!(shard.change(1, "e2", edit("x")), gone);
    // Who says something new begins the next life, and old ids are known in it.
    assert_eq!(shard.say("m3", "new"), 1);
    let head = &shard.records.heads[&key()];
    assert_eq!(
        (head.incarnation, head.last_seq, head.is_deleted()),
        (2, 1, false)
    );
    assert_eq!(&head.content_hash[..], &shard.sum().to_le_bytes()[..]);
    assert_eq!(shard.say("m2", "second"), 2, "its first answer");
    assert_eq!(shard.records.heads[&key()].last_seq, 1);
    // A week later they are not.
    shard.now_ms += DEDUP_WINDOW_MS + 1;
    assert_eq!(shard.say("m2", "second"), 2);
    assert_eq!(shard.records.heads[&key()].last_seq, 2);
}

#[test]
fn creations_around_a_deletion_get_their_first_answers() {
    let mut shard = Shard::new();
    let created = |answer| match answer {
        Answer::Created(created) => {
            let head = created.conversation.unwrap();
            (
                head.incarnation,
                head.attributes.len(),
                created.deduplicated,
            )
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(created(shard.apply(&create("c1", 1))), (1, 1, false));
    let set = Setting::Attributes(Attributes {
        values: attributes(3),
    });
    let set = configure("s1", set);
    let Answer::Configured(first) = shard.apply(&set) else {
        panic!("refused");
    };
    assert_eq!(shard.records.heads[&key()].attributes, attributes(3));
    assert_eq!(created(shard.apply(&create("c1", 1))), (1, 1, true));
    refused(shard.apply(&create("c1", 2)), Reason::ClientMessageIdReused);
    refused(shard.apply(&create("c2", 2)), Reason::AlreadyExists);
    refused(shard.apply(&delete("s1")), Reason::RequestIdReused);
    shard.apply(&delete("d1"));
    assert_eq!(created(shard.apply(&create("c1", 1))), (1, 1, true));
    assert!(shard.records.heads[&key()].is_deleted());
    let Answer::Configured(again) = shard.apply(&set) else {
        panic!("refused");
    };
    assert_eq!((again.revision, again.deduplicated), (first.revision, true));
    assert_eq!(created(shard.apply(&create("c2", 2))), (2, 2, false));
    assert_eq!(created(shard.apply(&create("c1", 1))), (1, 1, true));
}

fn imported(seq: u64, request: &str, how: How) -> Command {
    Command::change(ChangeMessage {
        conversation: ROOM.into(),
        seq,
        request_id: bytes(request),
        how: Some(how),
        import: true,
        ..ChangeMessage::default()
    })
}

#[test]
fn requests_of_imports_are_remembered_for_ever() {
    let mut shard = Shard::new();
    shard.say("m1", "first");
    let set = imported(1, "import:react:1", react("ben", "x", false));
    let first = told(shard.apply(&set));
    // Taken back since: to import again changes nothing of that.
    shard.change(1, "r2", react("ben", "x", true));
    shard.now_ms += 2 * DEDUP_WINDOW_MS;
    let ChangeOutcome::Done {
        again, revision, ..
    } = told(shard.apply(&set))
    else {
        panic!("it is done")
    };
    assert!(again && matches!(first, ChangeOutcome::Done { revision: at, .. } if at == revision));
    assert!(shard.records.reacted.is_empty());
    // Another's is not.
    shard.change(1, "r3", react("ben", "x", false));
    shard.change(1, "r4", react("ben", "x", true));
    shard.now_ms += 2 * DEDUP_WINDOW_MS;
    shard.change(1, "r3", react("ben", "x", false));
    assert_eq!(shard.records.reacted.len(), 1);
}

#[test]
fn original_times_outlive_an_erasure_and_no_later_edit() {
    let mut shard = Shard::new();
    shard.apply(&Command::append(Append {
        conversation: ROOM.into(),
        messages: vec![NewMessage {
            sender: bytes("ann"),
            client_message_id: bytes("import:1"),
            body: bytes("x"),
            original_time_ms: Some(7),
            ..NewMessage::default()
        }],
        ..Append::default()
    }));
    let edited = |original_time_ms| match edit("x") {
        How::Edit(edit) => How::Edit(Edit {
            original_time_ms,
            ..edit
        }),
        other => other,
    };
    shard.change(1, "e1", edited(Some(8)));
    assert_eq!(shard.stored(1).original_edit_time_ms, Some(8));
    shard.change(1, "e2", edited(None));
    assert_eq!(shard.stored(1).original_edit_time_ms, None);
    shard.change(1, "e3", edited(Some(8)));
    let erase = Redact {
        original_time_ms: Some(9),
        keep_original_time: true,
    };
    shard.change(1, "r1", How::Redact(erase));
    let stored = shard.stored(1);
    assert_eq!(stored.original_edit_time_ms, None);
    assert_eq!(stored.original_redact_time_ms, Some(9));
    let left = NewMessage {
        original_time_ms: Some(7),
        ..NewMessage::default()
    };
    assert_eq!(stored.message, Some(left));
    let head = &shard.records.heads[&key()];
    assert_eq!(&head.content_hash[..], &shard.sum().to_le_bytes()[..]);
}
