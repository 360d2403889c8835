//! A shard's state against the machine on ordered maps: replies, pages, heads, watchers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; its numbers are small, and its reader is a thread of its own"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use model::cluster::{Change, ChangeBody, ClusterState, Node as Member};
use model::command::{
    Append, AppendWith, Body, ChangeMessage, Command, Due, Edit, Expire, Govern, How, React, Redact,
};
use model::hash;
use model::id::{ConversationKey, ConversationName, ShardId};
use model::limits::DEDUP_WINDOW_MS;
use model::state::Stored;
use proptest::prelude::*;
use prost::Message;
use store::Error;
use store::engine::Order;
use store::key;
use store::state::{Ask, Fed, Overdue, Wanted, What};
use support::reference::Reference;
use support::*;

use firebreak_store as store;

/// What happens between entries.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    Flush,
    /// Crash, start, replay.
    Crash,
}

fn any_change() -> impl Strategy<Value = Command> {
    let edit = (0..3u8).prop_map(|n| {
        How::Edit(Edit {
            body: Some(format!("edited {n}").into()),
            attributes: None,
            salt: Bytes::from_static(b"0123456789abcdef"),
            ..Edit::default()
        })
    });
    let react = (0..3u8, 0..2u8, any::<bool>()).prop_map(|(user, kind, remove)| {
        How::React(React {
            user: format!("u{user}").into(),
            kind: format!("k{kind}").into(),
            remove,
        })
    });
    let how = prop_oneof![3 => edit, 4 => react, 1 => Just(How::Redact(Redact::default()))];
    (0..3u8, 1..20u64, 0..60u8, how).prop_map(|(name, seq, request, how)| {
        Command::change(ChangeMessage {
            conversation: room(&format!("room{name}")).to_string(),
            seq,
            request_id: format!("r{request}").into(),
            expected_revision: None,
            how: Some(how),
            import: false,
        })
    })
}

/// Rules, and what goes by them. What is due is filled in when it is applied.
fn any_rule() -> impl Strategy<Value = Command> {
    let name = || (0..3u8).prop_map(|name| room(&format!("room{name}")).to_string());
    let append = (name(), 0..40u8, 0..4u64, any::<bool>()).prop_map(|(name, id, ttl, keyed)| {
        let mut message = message(&format!("ttl{id}"), b"text");
        message.ttl_ms = ttl * 1_000;
        let append = Append {
            conversation: name,
            messages: vec![message],
            ..Append::default()
        };
        Command::append_with(AppendWith {
            append: Some(append),
            key: if keyed { "key".into() } else { Bytes::new() },
            ..AppendWith::default()
        })
    });
    let ttl = prop_oneof![Just(None), (0..4u64).prop_map(|s| Some(s * 1_000))];
    let hold = proptest::option::weighted(0.3, any::<bool>());
    let govern = (name(), 0..60u8, ttl, hold).prop_map(|(name, request, ttl_ms, hold)| {
        Command::govern(Govern {
            conversation: name,
            request_id: format!("g{request}").into(),
            ttl_ms,
            hold,
            ..Govern::default()
        })
    });
    let expire = (name(), 0..9u64).prop_map(|(name, prefix_max)| {
        Command::expire(Expire {
            conversation: name,
            prefix_max,
            ..Expire::default()
        })
    });
    prop_oneof![3 => append, 1 => govern, 3 => expire]
}

/// A command as a leader would send it, who knows what is noted to expire.
fn filled(command: Command, reference: &Reference, now_ms: u64) -> Command {
    let Some(Body::Expire(expire)) = command.body else {
        return command;
    };
    let key = ConversationName::parse(&expire.conversation).unwrap().key();
    let noted = reference.records.expiries.iter();
    let due = noted.filter(|(of, at_ms, _)| *of == key && *at_ms <= now_ms);
    let due = due.map(|(_, at_ms, seq)| Due {
        at_ms: *at_ms,
        seq: *seq,
    });
    Command::expire(Expire {
        due: due.collect(),
        ..expire
    })
}

/// What a replica finds to be overdue is what the records say.
fn overdue(node: &Node, reference: &Reference, now_ms: u64) {
    let look = node
        .shard
        .overdue(&ConversationKey([0; 16]), now_ms, 99, |_| 0);
    let found: Vec<_> = look.unwrap().overdue;
    let mut expected = Vec::new();
    for key in &reference.records.expiring {
        let head = &reference.records.heads[key];
        let first = reference.records.messages.get(&(*key, head.min_seq.max(1)));
        let first = first.map(|record| Stored::decode(record.clone()).unwrap());
        let prefix = first.is_some_and(|first| {
            let at_ms = head.expires_at(&first, 0);
            first.expired_ms.is_some() || at_ms.is_some_and(|at_ms| at_ms <= now_ms)
        });
        let noted = reference.records.expiries.iter();
        let due = noted.filter(|(of, at_ms, _)| of == key && *at_ms <= now_ms);
        let due: Vec<_> = due
            .map(|(_, at_ms, seq)| Due {
                at_ms: *at_ms,
                seq: *seq,
            })
            .collect();
        if !head.hold && !head.is_deleted() && (prefix || !due.is_empty()) {
            let name = head.name.clone();
            expected.push(Overdue {
                name,
                due,
                prefix,
                tenant_ttl_ms: 0,
            });
        }
    }
    assert_eq!(found, expected);
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![3 => any_append(), 3 => any_change(), 2 => any_rule()]
}

fn any_append() -> impl Strategy<Value = Command> {
    let message = (0..40u8, 0..8u8).prop_map(|(id, body)| {
        message(
            &format!("id{id}"),
            if body == 0 { b"other" } else { b"text" },
        )
    });
    (
        0..3u8,
        proptest::collection::vec(message, 1..12),
        any::<bool>(),
    )
        .prop_map(|(name, messages, atomic)| {
            Command::append(Append {
                conversation: room(&format!("room{name}")).to_string(),
                messages,
                atomic,
                ..Append::default()
            })
        })
}

fn any_entry() -> impl Strategy<Value = (u64, Vec<Command>, Then, bool)> {
    let step =
        prop_oneof![8 => 0..3u64, 1 => Just(DEDUP_WINDOW_MS / 2), 1 => Just(DEDUP_WINDOW_MS + 1)];
    let then =
        prop_oneof![6 => Just(Then::Nothing), 2 => Just(Then::Flush), 2 => Just(Then::Crash)];
    (
        step,
        proptest::collection::vec(any_command(), 1..5),
        then,
        any::<bool>(),
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_replica_answers_and_holds_what_the_machine_says_through_flushes_and_crashes(
        entries in proptest::collection::vec(any_entry(), 1..20),
    ) {
        block_on(async {
            let disks = Disks::default();
            let mut node = disks.start();
            let mut reference = Reference::default();
            let (mut now_ms, mut waiting) = (START_MS, Vec::new());
            let count = entries.len() as u64;
            for (index, (step_ms, commands, then, together)) in (1..).zip(entries) {
                now_ms += step_ms;
                let fill = |command| filled(command, &reference, now_ms);
                let commands: Vec<Command> = commands.into_iter().map(fill).collect();
                waiting.push(entry(index, now_ms, &commands));
                if together && index < count {
                    continue; // applied in one write with the next
                }
                let batch = std::mem::take(&mut waiting);
                let payloads: Vec<Bytes> = batch.iter().filter_map(|e| e.payload.clone()).collect();
                let replies = node.run(batch).await;
                let expected: Vec<_> = payloads.iter().map(|p| reference.apply(p)).collect();
                assert_eq!(replies, expected);
                match then {
                    Then::Nothing => {}
                    Then::Flush => node.state.flush().await.unwrap(),
                    Then::Crash => {
                        disks.power_cut(0);
                        node = disks.start();
                        node.replay();
                    }
                }
            }
            assert_eq!(node.shard.applied().revision, reference.revision());
            node.state.flush().await.unwrap();
            let restarted = disks.start(); // its heads come from disk
            let (_, hashes) = restarted.seen();
            assert_eq!(hashes.len(), reference.records.heads.len());
            for (key, head) in &reference.records.heads {
                let name = model::id::ConversationName::parse(&head.name).unwrap();
                let (found, page) = restarted
                    .shard
                    .list(&name, 0, Order::Ascending, usize::MAX, usize::MAX)
                    .unwrap()
                    .unwrap();
                assert_eq!(&found, head);
                let min_seq = head.min_seq.max(1);
                assert_eq!(page.len() as u64, head.last_seq + 1 - min_seq);
                for stored in page {
                    let record = &reference.records.messages[&(*key, stored.seq)];
                    assert_eq!(stored, Stored::decode(record.clone()).unwrap());
                }
                whole_page(&restarted, &reference, &name);
                reactors(&restarted, &reference, &name);
            }
            for after in 0..=restarted.shard.reached().revision {
                feeds(&restarted, &reference, after);
            }
            for later_ms in [0, 2_000] {
                overdue(&restarted, &reference, now_ms + later_ms);
            }
        });
    }
}

/// All that was changed behind a revision, asked for little by little.
fn fed(node: &Node, after: u64, limit: usize) -> Vec<Fed> {
    let mut cursor = vec![(0..=u16::MAX, after)];
    let mut all = Vec::new();
    let to = node.shard.reached().revision;
    for _ in 0..1_000 {
        let mut next = Vec::new();
        for (slots, after) in cursor {
            let ask = Ask {
                slots,
                after,
                belongs: &|_| true,
                limit,
                bytes_max: limit * 600,
                heads_max: 2,
            };
            let feed = node.shard.feed(&ask).unwrap();
            assert!(feed.reached.iter().all(|(_, reached)| *reached >= after));
            all.extend(feed.changes);
            next.extend(feed.reached);
        }
        let slots: usize = next.iter().map(|(slots, _)| slots.len()).sum();
        assert_eq!(slots, 1 << 16, "no slot is left out");
        if next.iter().all(|(_, reached)| *reached >= to) {
            return all;
        }
        cursor = next;
    }
    panic!("the feed does not go on");
}

/// A feed tells what was changed, once, and nothing else.
fn feeds(node: &Node, reference: &Reference, after: u64) {
    let records = &reference.records;
    let mut expected = std::collections::BTreeMap::new();
    for ((key, seq), record) in &records.messages {
        let stored = Stored::decode(record.clone()).unwrap();
        let reacted = records.reactions.get(&(*key, *seq));
        let revision = stored.revision.max(reacted.map_or(0, |all| all.revision));
        if revision > after {
            expected.insert((*key, *seq), revision);
        }
    }
    for limit in [1, 3, 1_000] {
        let mut found = std::collections::BTreeMap::new();
        for one in fed(node, after, limit) {
            let key = ConversationName::parse(&one.name).unwrap().key();
            if let What::Message(shown) = one.what {
                assert_eq!(shown.revision, one.revision);
                let before = found.insert((key, shown.stored.seq), one.revision);
                assert_eq!(before, None, "told twice");
            }
        }
        assert_eq!(found, expected, "behind {after}, {limit} at a time");
    }
}

/// All reactions of a conversation, read in pages of two, and those of a part of its messages.
fn reactors(node: &Node, reference: &Reference, name: &ConversationName) {
    let key = name.key();
    for (first, last) in [(0, u64::MAX), (2, 5)] {
        let all = reference.records.reacted.iter();
        let expected: Vec<_> = all
            .filter(|((of, seq, _), _)| *of == key && (first..=last).contains(seq))
            .map(|(_, one)| one.clone())
            .collect();
        let (mut found, mut behind) = (Vec::new(), None);
        loop {
            let page = node.shard.reactors(name, (first, last), behind, 2);
            let page = page.unwrap().unwrap();
            assert!(page.reactions.len() <= 2);
            found.extend(page.reactions);
            behind = page.next;
            if behind.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
    }
}

/// A page shows each message with its reactions, and what was changed behind each revision.
fn whole_page(node: &Node, reference: &Reference, name: &ConversationName) {
    let (key, records) = (name.key(), &reference.records);
    let reader = b"u1";
    let page = |start_seq, changed_after| {
        let wanted = Wanted {
            start_seq,
            order: Order::Ascending,
            limit: usize::MAX,
            bytes_max: usize::MAX,
            reader: Some(reader),
            changed_after,
        };
        node.shard.page(name, &wanted).unwrap().unwrap()
    };
    let all = page(0, None);
    for shown in &all.messages {
        let seq = shown.stored.seq;
        let counted = records.reactions.get(&(key, seq));
        let expected = counted.map_or(Vec::new(), |all| all.counts.clone());
        let expected = expected.into_iter().map(|one| {
            let id = hash::reaction_id(reader, &one.kind);
            let mine = records.reacted.contains_key(&(key, seq, id));
            (one, mine)
        });
        assert_eq!(shown.reactions, expected.collect::<Vec<_>>());
        let reacted = counted.map_or(0, |all| all.revision);
        assert_eq!(shown.revision, shown.stored.revision.max(reacted));
    }
    for after in 0..=reference.revision() {
        let half = all.messages.len() / 2;
        let next = all.head.min_seq.max(1) + half as u64;
        let mut expected: Vec<_> = all.messages[..half].iter().collect();
        let is_new = |seq| {
            let noted = records.changes.iter();
            let mut noted = noted.filter(|(at, of)| at.0 == key && **of == seq);
            noted.any(|(at, _)| at.1 > after)
        };
        expected.retain(|shown| is_new(shown.stored.seq));
        expected.sort_by_key(|shown| shown.revision);
        let found = page(next, Some(after));
        assert_eq!(found.changed.iter().collect::<Vec<_>>(), expected);
        assert_eq!(found.messages[..], all.messages[half..]);
        assert_eq!(found.changed_to, found.head.revision);
    }
}

/// Whether a shard may have erasures is known without a look, and never wrongly denied.
#[tokio::test]
async fn a_shard_without_erasures_is_not_looked_at_until_it_has_one() {
    let (disks, node) = room_of(2).await;
    // What was there before a start is not known.
    assert!(node.shard.may_have_erasures());
    assert_eq!(node.shard.erasures(9).unwrap(), []);
    assert!(!node.shard.may_have_erasures());
    let erase = Command::change(ChangeMessage {
        conversation: room("room").to_string(),
        seq: 1,
        request_id: "erase".into(),
        expected_revision: None,
        how: Some(How::Redact(Redact::default())),
        import: false,
    });
    node.run(vec![entry(3, START_MS, &[erase])]).await;
    assert!(node.shard.may_have_erasures());
    assert_eq!(node.shard.erasures(9).unwrap().len(), 1);
    assert!(node.shard.may_have_erasures());
    drop(disks);
}

/// Pages are read while messages change, and each is of one moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_of_one_moment_while_messages_change() {
    const MESSAGES: u64 = 8;
    let (_disks, node) = room_of(MESSAGES).await;
    let (shard, done) = (node.shard.clone(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&done);
    // Each round writes one number into the first message and the last, in one command each: whoever
    // reads sees the first never behind the last.
    let reads = std::thread::spawn(move || {
        let mut pages = 0u64;
        while !stop.load(Ordering::Relaxed) || pages == 0 {
            let wanted = Wanted {
                start_seq: 0,
                order: Order::Ascending,
                limit: 100,
                bytes_max: usize::MAX,
                reader: Some(b"u"),
                changed_after: None,
            };
            let page = shard.page(&room("room"), &wanted).unwrap().unwrap();
            let first = &page.messages[0];
            let last = &page.messages[MESSAGES as usize - 1];
            let of = |shown: &store::state::Shown| shown.revision;
            assert!(of(first) <= page.revision() && of(last) <= page.revision());
            let rounds = |shown: &store::state::Shown| {
                let body = &shown.stored.message.as_ref().unwrap().body;
                let text = std::str::from_utf8(body).unwrap();
                text.strip_prefix("round ")
                    .map_or(0, |n| n.parse::<u64>().unwrap())
            };
            let (first, last) = (rounds(first), rounds(last));
            assert!(first == last || first == last + 1, "{first} {last}");
            pages += 1;
        }
    });
    for round in 1..=300 {
        for (part, seq) in [(0, 1), (1, MESSAGES)] {
            let edit = How::Edit(Edit {
                body: Some(format!("round {round}").into()),
                salt: Bytes::from_static(b"0123456789abcdef"),
                ..Edit::default()
            });
            let command = Command::change(ChangeMessage {
                conversation: room("room").to_string(),
                seq,
                request_id: format!("{round}-{part}").into(),
                expected_revision: None,
                how: Some(edit),
                import: false,
            });
            let index = MESSAGES + 2 * round + part - 1;
            node.run(vec![entry(index, START_MS, &[command])]).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    reads.join().unwrap();
}

async fn room_of(count: u64) -> (Disks, Node) {
    let disks = Disks::default();
    let node = disks.start();
    let entries = (1..=count).map(|i| entry(i, START_MS, &[say("room", &i.to_string())]));
    node.run(entries.collect()).await;
    (disks, node)
}

#[tokio::test]
async fn pages_go_both_ways_and_end_at_their_bounds() {
    let (_disks, node) = room_of(40).await;
    let list = |start, order, limit, bytes| -> Vec<u64> {
        let page = node
            .shard
            .list(&room("room"), start, order, limit, bytes)
            .unwrap()
            .unwrap();
        assert_eq!(page.0.last_seq, 40);
        page.1.iter().map(|stored| stored.seq).collect()
    };
    let all = usize::MAX;
    assert_eq!(list(0, Order::Ascending, 3, all), [1, 2, 3]);
    assert_eq!(list(39, Order::Ascending, 9, all), [39, 40]);
    assert_eq!(list(41, Order::Ascending, 9, all), [0u64; 0]);
    assert_eq!(list(0, Order::Descending, 2, all), [40, 39]);
    assert_eq!(list(2, Order::Descending, 9, all), [2, 1]);
    assert_eq!(list(99, Order::Descending, 1, all), [40]);
    assert_eq!(list(0, Order::Ascending, 0, all), [0u64; 0]);
    assert_eq!(
        list(5, Order::Ascending, 9, 1),
        [5],
        "a page has a message, however large"
    );
    assert_eq!(
        node.shard
            .list(&room("none"), 0, Order::Ascending, 9, all)
            .unwrap(),
        None
    );
    assert_eq!(node.shard.conversation(&room("none")).unwrap(), None);
}

#[tokio::test]
async fn watchers_see_what_was_applied_when_apply_returns() {
    let (_disks, node) = room_of(2).await;
    let watch = node.shard.watch(&room("room"));
    let new = node.shard.watch(&room("new"));
    let applied = node.shard.watch_applied();
    assert_eq!(
        (*watch.borrow(), *new.borrow(), applied.borrow().position),
        (2, 0, Some(at(2)))
    );
    node.run(vec![entry(
        3,
        START_MS,
        &[say("room", "3"), say("new", "1")],
    )])
    .await;
    assert_eq!(
        (*watch.borrow(), *new.borrow(), applied.borrow().position),
        (3, 1, Some(at(3)))
    );
}

#[tokio::test]
async fn a_flipped_bit_stops_its_shard_with_file_and_key_and_the_others_go_on() {
    let disks = Disks::default();
    let node = disks.start();
    let slot = room("room0").key().slot().0;
    let others = if slot < 0x8000 {
        0x8000..=u16::MAX
    } else {
        0..=0x7fff
    };
    let commands: Vec<Command> = (0..20).map(|i| say("room0", &i.to_string())).collect();
    node.run(vec![entry(1, START_MS, &commands)]).await;
    node.state.flush().await.unwrap();
    let head = key::state::head(&room("room0").key());
    assert!(disks.state.corrupt(&head, |value| value[9] ^= 1));

    let node = disks.start();
    let other = node.state.shard(ShardId(2), others).unwrap();
    let list = node
        .shard
        .list(&room("room0"), 0, Order::Ascending, 99, usize::MAX);
    let hash = node.shard.hash(|_| {}).map(|_| ());
    let apply = node
        .shard
        .apply(vec![entry(2, START_MS, &[say("room0", "new")])])
        .map(|_| ());
    let again = node.shard.apply(vec![chat(2)]).map(|_| ());
    for result in [list.map(|_| ()), hash, apply, again] {
        let Err(Error::Corrupt { file, key, .. }) = result else {
            panic!("not found: {result:?}");
        };
        assert_eq!(file, "msgdb");
        assert!(key.ends_with("/head"), "{key}");
    }
    let quiet = ToApplyQuiet::at(1);
    assert!(other.apply(vec![quiet]).is_ok());
}

/// An entry that Raft makes for itself.
struct ToApplyQuiet;

impl ToApplyQuiet {
    fn at(index: u64) -> store::state::ToApply {
        store::state::ToApply {
            position: at(index),
            membership: Some(Bytes::from_static(b"members")),
            payload: None,
        }
    }
}

#[tokio::test]
async fn a_missing_message_is_found() {
    let (disks, node) = room_of(5).await;
    node.state.flush().await.unwrap();
    let mut batch = store::engine::Batch::new();
    batch.delete(key::state::message(&room("room").key(), 3).to_vec());
    let engine = store::engine::memory::Memory::open(&disks.state);
    store::engine::Engine::write(&engine, batch).unwrap();
    store::engine::Engine::sync(&engine).await.unwrap();
    let node = disks.start();
    let list = node
        .shard
        .list(&room("room"), 0, Order::Ascending, 99, usize::MAX);
    let Err(Error::Corrupt { key, .. }) = list else {
        panic!("not found: {list:?}");
    };
    assert!(key.ends_with("/message/3"), "{key}");
}

#[tokio::test]
async fn the_meta_shard_keeps_the_cluster_and_the_membership() {
    let disks = Disks::default();
    let node = disks.start();
    let meta = node.state.shard(ShardId::META, 0..=0).unwrap();
    let founding = Command::meta(Change {
        body: Some(ChangeBody::Found(Box::new(ClusterState {
            cluster_id: "c".into(),
            token_hash: hash::token_hash("t"),
            nodes: vec![Member {
                id: 1,
                ..Member::default()
            }],
            ..ClusterState::default()
        }))),
        actor: None,
    });
    let log = node.log.shard(ShardId::META).unwrap();
    let record = |index| store::Record {
        position: at(index),
        data: Bytes::new(),
    };
    log.append(
        vec![record(1), record(2)],
        Box::new(|result| result.unwrap()),
    );
    meta.apply(vec![ToApplyQuiet::at(1), entry(2, START_MS, &[founding])])
        .unwrap();
    assert_eq!(meta.cluster().epoch, 1);
    node.state.flush().await.unwrap();
    assert_eq!(meta.flushed(), meta.applied());

    let node = disks.start();
    let meta = node.state.shard(ShardId::META, 0..=0).unwrap();
    assert_eq!(meta.cluster().cluster_id, "c");
    assert_eq!(meta.applied().membership, "members");
    assert_eq!(meta.applied().position, Some(at(2)));
}

#[tokio::test]
async fn an_entry_of_a_later_format_stops_the_shard() {
    let node = Disks::default().start();
    let later = model::command::Entry {
        format: 9,
        ..Default::default()
    };
    let later = store::state::ToApply {
        position: at(1),
        membership: None,
        payload: Some(later.encode_to_vec().into()),
    };
    let result = node.shard.apply(vec![later]);
    assert!(
        matches!(result, Err(Error::Format { found: 9, .. })),
        "{result:?}"
    );
    assert_eq!(node.shard.applied().position, None);
}
