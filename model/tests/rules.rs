//! The rules of a conversation against a simple model: fences, keys, what expires and what a hold keeps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a test fails where it cannot go on; its numbers are small"
)]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use firebreak_model as model;
use model::command::{
    Answer, Append, AppendWith, ChangeMessage, Command, Configure, Delete, Due, Entry, Expire,
    Expired, FORMAT, Fence, Govern, How, NewMessage, React, Reason, Redact, Reply, Setting,
};
use model::hash::record_hash;
use model::id::{ConversationKey, ConversationName};
use model::limits::KEYS_MAX;
use model::shard::{Machine, Scope};
use model::state::{Conversation, Stored};
use proptest::prelude::*;
use prost::Message as _;
use support::Records;

const START_MS: u64 = 1_700_000_000_000;
const ROOM: &str = "tenants/t/conversations/room";

struct Shard {
    machine: Machine,
    records: Records,
    now_ms: u64,
    asked: u64,
}

impl Shard {
    fn new() -> Shard {
        Shard {
            machine: Machine::new(Scope::Data(0..=u16::MAX), 0, 0),
            records: Records::default(),
            now_ms: START_MS,
            asked: 0,
        }
    }

    fn key() -> ConversationKey {
        ConversationName::parse(ROOM).unwrap().key()
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
        replies.remove(0).answer.unwrap()
    }

    fn id(&mut self) -> Bytes {
        self.asked += 1;
        format!("id-{}", self.asked).into()
    }

    /// Appends a message; its seq, or why it was refused.
    fn say(&mut self, with: AppendWith, ttl_ms: u64) -> Result<u64, Reason> {
        let message = NewMessage {
            sender: "ann".into(),
            client_message_id: self.id(),
            body: "hello".into(),
            ttl_ms,
            ..NewMessage::default()
        };
        let append = Append {
            conversation: ROOM.into(),
            messages: vec![message],
            ..with.append.clone().unwrap_or_default()
        };
        let append = Some(append);
        match self.apply(&Command::append_with(AppendWith { append, ..with })) {
            Answer::Appended(mut appended) => {
                let outcome = appended.outcomes.remove(0);
                match outcome.refusal {
                    None => Ok(outcome.seq),
                    Some(refusal) => Err(refusal.reason()),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn govern(&mut self, govern: Govern) -> Result<(), Reason> {
        let govern = Govern {
            conversation: ROOM.into(),
            request_id: self.id(),
            ..govern
        };
        match self.apply(&Command::govern(govern)) {
            Answer::Configured(_) => Ok(()),
            Answer::Refused(refusal) => Err(refusal.reason()),
            other => panic!("{other:?}"),
        }
    }

    /// As a leader would, with what the records note.
    fn expire(&mut self, prefix_max: u64) -> Expired {
        let noted = self.records.expiries.iter();
        let due = noted.filter(|(_, at_ms, _)| *at_ms <= self.now_ms);
        let due = due.map(|(_, at_ms, seq)| Due {
            at_ms: *at_ms,
            seq: *seq,
        });
        let expire = Expire {
            conversation: ROOM.into(),
            due: due.collect(),
            prefix_max,
            tenant_ttl_ms: 0,
        };
        match self.apply(&Command::expire(expire)) {
            Answer::Expired(expired) => expired,
            other => panic!("{other:?}"),
        }
    }

    fn head(&self) -> Option<&Conversation> {
        self.records.heads.get(&Shard::key())
    }

    fn stored(&self, seq: u64) -> Option<Stored> {
        let record = self.records.messages.get(&(Shard::key(), seq))?;
        Some(Stored::decode(record.clone()).unwrap())
    }

    /// The sum that the head must hold, of what is there.
    fn sum(&self) -> u128 {
        let add = |sum: u128, record: &[u8]| sum.wrapping_add(record_hash(record));
        let sum = self.records.messages.values().fold(0, |sum, r| add(sum, r));
        let counts = self.records.reactions.values();
        let sum = counts.fold(sum, |sum, r| add(sum, &r.encode_to_vec()));
        let each = self.records.reacted.values();
        each.fold(sum, |sum, r| add(sum, &r.encode_to_vec()))
    }
}

fn fence(token: &'static str, expected: Option<&'static str>) -> Govern {
    Govern {
        fence: Some(Fence {
            token: token.into(),
            expected: expected.map(Bytes::from),
        }),
        ..Govern::default()
    }
}

fn with_token(token: &'static str) -> AppendWith {
    AppendWith {
        fence_token: token.into(),
        ..AppendWith::default()
    }
}

fn with_key(key: &'static str, expected: Option<u64>) -> AppendWith {
    AppendWith {
        key: key.into(),
        expected_last_seq_of_key: expected,
        ..AppendWith::default()
    }
}

#[test]
fn once_a_fence_is_set_only_who_has_its_token_appends() {
    let mut shard = Shard::new();
    assert_eq!(shard.say(AppendWith::default(), 0), Ok(1));
    assert_eq!(shard.say(with_token("a"), 0), Ok(2), "none is asked for");
    assert_eq!(shard.govern(fence("a", Some("x"))), Err(Reason::Fenced));
    assert_eq!(shard.govern(fence("a", Some(""))), Ok(()));
    assert_eq!(shard.say(AppendWith::default(), 0), Err(Reason::Fenced));
    assert_eq!(shard.say(with_token("b"), 0), Err(Reason::Fenced));
    assert_eq!(shard.say(with_token("a"), 0), Ok(3));
    // Who takes over need not know the token before.
    assert_eq!(shard.govern(fence("b", None)), Ok(()));
    assert_eq!(shard.say(with_token("a"), 0), Err(Reason::Fenced));
    assert_eq!(shard.say(with_token("b"), 0), Ok(4));
    assert_eq!(shard.govern(fence("", Some("b"))), Ok(()));
    assert_eq!(shard.say(AppendWith::default(), 0), Ok(5));
}

#[test]
fn a_retry_behind_a_new_fence_gets_its_first_answer() {
    let mut shard = Shard::new();
    let message = NewMessage {
        sender: "ann".into(),
        client_message_id: "1".into(),
        body: "hello".into(),
        ..NewMessage::default()
    };
    let append = Append {
        conversation: ROOM.into(),
        messages: vec![message],
        ..Append::default()
    };
    let Answer::Appended(first) = shard.apply(&Command::append(append.clone())) else {
        panic!("not appended");
    };
    assert_eq!(shard.govern(fence("a", None)), Ok(()));
    let Answer::Appended(again) = shard.apply(&Command::append(append)) else {
        panic!("not answered");
    };
    assert!(again.outcomes[0].deduplicated);
    assert_eq!(again.outcomes[0].seq, first.outcomes[0].seq);
}

#[test]
fn a_key_has_a_last_seq_of_its_own_and_ordinary_messages_do_not_move_it() {
    let mut shard = Shard::new();
    assert_eq!(shard.say(with_key("mls", Some(0)), 0), Ok(1));
    for seq in 2..5 {
        assert_eq!(shard.say(AppendWith::default(), 0), Ok(seq));
    }
    assert_eq!(
        shard.say(with_key("mls", Some(0)), 0),
        Err(Reason::KeySeqMismatch)
    );
    assert_eq!(shard.say(with_key("mls", Some(1)), 0), Ok(5));
    assert_eq!(shard.say(with_key("other", Some(0)), 0), Ok(6));
    assert_eq!(shard.say(with_key("mls", Some(5)), 0), Ok(7));
    let head = shard.head().unwrap();
    let keys: Vec<_> = head
        .keys
        .iter()
        .map(|one| (&one.key[..], one.seq))
        .collect();
    assert_eq!(keys, [(&b"mls"[..], 7), (&b"other"[..], 6)]);
    for n in 2..KEYS_MAX {
        let with = AppendWith {
            key: format!("key-{n}").into(),
            ..AppendWith::default()
        };
        assert!(shard.say(with, 0).is_ok());
    }
    assert_eq!(shard.say(with_key("more", None), 0), Err(Reason::KeysFull));
    assert!(shard.say(with_key("mls", Some(7)), 0).is_ok());
}

#[test]
fn what_a_deleted_conversation_had_of_rules_is_gone_with_it() {
    let mut shard = Shard::new();
    shard.say(with_key("mls", None), 60_000).unwrap();
    shard.govern(fence("a", None)).unwrap();
    assert_eq!(shard.records.expiring.len(), 1);
    let delete = Command::configure(Configure {
        conversation: ROOM.into(),
        request_id: "delete".into(),
        setting: Some(Setting::Delete(Delete {})),
    });
    assert!(matches!(shard.apply(&delete), Answer::Configured(_)));
    assert!(shard.records.expiring.is_empty() && shard.records.expiries.is_empty());
    assert_eq!(shard.say(with_key("mls", Some(0)), 0), Ok(1));
}

/// What a reader may see of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Simple {
    created_ms: u64,
    ttl_ms: u64,
    erased: bool,
    tombstone: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Say(u64),
    Wait(u64),
    Rule(Option<u64>, Option<bool>),
    Expire(u64),
    React(u64),
    Redact(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![Just(0), 1..60u64].prop_map(Step::Say),
        3 => (1..40u64).prop_map(Step::Wait),
        1 => (
            proptest::option::of(prop_oneof![Just(0), 1..80u64]),
            proptest::option::weighted(0.3, any::<bool>()),
        ).prop_map(|(ttl, hold)| Step::Rule(ttl, hold)),
        4 => (0..6u64).prop_map(Step::Expire),
        1 => (1..12u64).prop_map(Step::React),
        1 => (1..12u64).prop_map(Step::Redact),
    ]
}

#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, Simple>,
    min_seq: u64,
    ttl_ms: u64,
    hold: bool,
}

impl Model {
    fn expired(&self, one: &Simple, now_ms: u64) -> bool {
        let own = if one.tombstone || one.erased {
            0
        } else {
            one.ttl_ms
        };
        let ttl = [own, self.ttl_ms].into_iter().filter(|ttl| *ttl > 0).min();
        let past = ttl.is_some_and(|ttl| one.created_ms + ttl <= now_ms);
        !self.hold && (past || one.tombstone)
    }

    fn expire(&mut self, prefix_max: u64, now_ms: u64) {
        for _ in 0..prefix_max {
            let Some(first) = self.messages.get(&self.min_seq).copied() else {
                break;
            };
            if !self.expired(&first, now_ms) {
                break;
            }
            self.messages.remove(&self.min_seq);
            self.min_seq += 1;
        }
        let hold = self.hold;
        for one in self.messages.values_mut() {
            let past = one.ttl_ms > 0 && one.created_ms + one.ttl_ms <= now_ms;
            one.tombstone |= past && !hold && !one.erased;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_has_expired_goes_and_nothing_else(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut shard = Shard::new();
        let mut simple = Model { min_seq: 1, ..Model::default() };
        for step in steps {
            match step {
                Step::Say(ttl_s) => {
                    let seq = shard.say(AppendWith::default(), ttl_s * 1_000).unwrap();
                    prop_assert_eq!(seq, shard.head().unwrap().last_seq);
                    simple.messages.insert(seq, Simple {
                        created_ms: shard.now_ms,
                        ttl_ms: ttl_s * 1_000,
                        erased: false,
                        tombstone: false,
                    });
                }
                Step::Wait(s) => shard.now_ms += s * 1_000,
                _ if shard.head().is_none() => {}
                Step::Rule(None, None) => {}
                Step::Rule(ttl_s, hold) => {
                    let ttl_ms = ttl_s.map(|s| s * 1_000);
                    shard.govern(Govern { ttl_ms, hold, ..Govern::default() }).unwrap();
                    simple.ttl_ms = ttl_ms.unwrap_or(simple.ttl_ms);
                    simple.hold = hold.unwrap_or(simple.hold);
                }
                Step::Expire(prefix_max) => {
                    let done = shard.expire(prefix_max);
                    simple.expire(prefix_max, shard.now_ms);
                    prop_assert_eq!(done.min_seq, simple.min_seq);
                }
                Step::React(seq) | Step::Redact(seq) => {
                    let how = match step {
                        Step::React(_) => How::React(React {
                            user: "bob".into(),
                            kind: "+1".into(),
                            remove: false,
                        }),
                        _ => How::Redact(Redact::default()),
                    };
                    let redact = matches!(how, How::Redact(_));
                    let change = ChangeMessage {
                        conversation: ROOM.into(),
                        seq,
                        request_id: shard.id(),
                        expected_revision: None,
                        how: Some(how),
..ChangeMessage::default()
};
                    let answer = shard.apply(&Command::change(change));
                    if let (Answer::Changed(_), Some(one)) = (answer, simple.messages.get_mut(&seq)) {
                        one.erased |= redact && !one.tombstone;
                    }
                }
            }
            check(&shard, &simple)?;
        }
    }
}

fn check(shard: &Shard, simple: &Model) -> Result<(), TestCaseError> {
    let Some(head) = shard.head() else {
        return Ok(());
    };
    prop_assert_eq!(head.min_seq, simple.min_seq);
    let there: Vec<u64> = shard.records.messages.keys().map(|at| at.1).collect();
    let expect: Vec<u64> = (simple.min_seq..=head.last_seq).collect();
    prop_assert_eq!(there, expect, "numbers are dense");
    for (seq, one) in &simple.messages {
        let stored = shard.stored(*seq).unwrap();
        prop_assert_eq!(
            stored.expired_ms.is_some(),
            one.tombstone,
            "message {}",
            seq
        );
        let content = stored.message.unwrap_or_default();
        let gone = one.tombstone || one.erased;
        prop_assert_eq!(content.body.is_empty(), gone, "message {}", seq);
    }
    let held = u128::from_le_bytes(head.content_hash[..].try_into().unwrap());
    prop_assert_eq!(held, shard.sum(), "the hash is of what is there");
    for (_, seq) in shard.records.reactions.keys() {
        prop_assert!(*seq >= simple.min_seq);
    }
    for seq in shard.records.changes.values() {
        prop_assert!(*seq >= simple.min_seq, "a note of a change of what is gone");
    }
    Ok(())
}

#[test]
fn a_hold_keeps_what_has_expired_until_it_is_lifted() {
    let mut shard = Shard::new();
    for _ in 0..3 {
        shard.say(AppendWith::default(), 1_000).unwrap();
    }
    let hold = |hold| Govern {
        hold: Some(hold),
        ..Govern::default()
    };
    shard.govern(hold(true)).unwrap();
    shard.now_ms += 60_000;
    let done = shard.expire(100);
    assert_eq!((done.removed, done.tombstones, done.min_seq), (0, 0, 1));
    assert_eq!(
        &shard.stored(2).unwrap().message.unwrap().body[..],
        b"hello"
    );
    shard.govern(hold(false)).unwrap();
    let done = shard.expire(100);
    assert_eq!((done.removed, done.min_seq), (3, 4));
    assert_eq!(shard.say(AppendWith::default(), 0), Ok(4), "numbers go on");
}

#[test]
fn a_command_that_removes_too_much_at_once_is_invalid() {
    let mut shard = Shard::new();
    shard.say(AppendWith::default(), 0).unwrap();
    let expire = Expire {
        conversation: ROOM.into(),
        prefix_max: 513,
        ..Expire::default()
    };
    match shard.apply(&Command::expire(expire)) {
        Answer::Refused(refusal) => assert_eq!(refusal.reason(), Reason::Invalid),
        other => panic!("{other:?}"),
    }
}
