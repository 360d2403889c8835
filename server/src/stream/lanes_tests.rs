//! The order of a stream, driven by hand.

use model::command::{Appended, Body, Command, Outcome as Done, Reason, Refusal};
use prost::Message as _;

use super::*;

fn item(correlation_id: u64, room: &str) -> v1::AppendItem {
    v1::AppendItem {
        correlation_id,
        parent: format!("tenants/t/conversations/{room}"),
        message: Some(v1::Message {
            sender: "ann".into(),
            client_message_id: correlation_id.to_string(),
            body: "hi".into(),
            ..v1::Message::default()
        }),
        timeout_ms: 0,
        ..v1::AppendItem::default()
    }
}

fn invalid(correlation_id: u64, room: &str) -> v1::AppendItem {
    v1::AppendItem {
        message: None,
        ..item(correlation_id, room)
    }
}

fn lanes() -> Lanes {
    Lanes::new(
        limits::BODY_BYTES_MAX,
        false,
        Traffic::default(),
        Caller::unbounded(),
    )
}

/// The ids of a command's messages.
fn ids(dispatch: &Dispatch) -> Vec<u64> {
    let command = Command::decode(dispatch.command.clone()).expect("own encoding");
    let Some(Body::Append(append)) = command.body else {
        panic!("not an append");
    };
    let id = |m: &NewMessage| {
        String::from_utf8_lossy(&m.client_message_id)
            .parse()
            .expect("id")
    };
    append.messages.iter().map(id).collect()
}

fn done(seqs: &[u64]) -> Result<Reply, Failure> {
    let outcomes = seqs
        .iter()
        .map(|&seq| Done {
            seq,
            ..Done::default()
        })
        .collect();
    Ok(Reply::new(Answer::Appended(Appended { outcomes })))
}

/// Answers as (correlation id, seq or reason).
fn answers(lanes: &mut Lanes) -> Vec<(u64, String)> {
    lanes
        .take_answers()
        .into_iter()
        .map(|a| match a.outcome {
            Some(Outcome::Appended(appended)) => (a.correlation_id, appended.seq.to_string()),
            Some(Outcome::Error(error)) => (a.correlation_id, error.reason),
            None => panic!("an answer without an outcome"),
        })
        .collect()
}

fn expect(lanes: &mut Lanes, expected: &[(u64, &str)]) {
    let found = answers(lanes);
    let found: Vec<_> = found
        .iter()
        .map(|(id, what)| (*id, what.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_conversation_has_one_command_in_flight_and_the_rest_leave_together() {
    let mut lanes = lanes();
    lanes.accept(item(1, "a"));
    let first = lanes.next_command().expect("ready");
    assert_eq!(ids(&first), [1]);
    for id in 2..=4 {
        lanes.accept(item(id, "a"));
    }
    assert!(lanes.next_command().is_none(), "one in flight");
    lanes.finish(first.lane, done(&[1]));
    let second = lanes.next_command().expect("ready again");
    assert_eq!(ids(&second), [2, 3, 4]);
    lanes.finish(second.lane, done(&[2, 3, 4]));
    expect(&mut lanes, &[(1, "1"), (2, "2"), (3, "3"), (4, "4")]);
    assert!(lanes.is_idle() && lanes.next_command().is_none());
}

#[test]
fn a_slow_conversation_holds_up_no_other() {
    let mut lanes = lanes();
    for (id, room) in [(1, "a"), (2, "b"), (3, "a")] {
        lanes.accept(item(id, room));
    }
    let a = lanes.next_command().expect("a");
    let b = lanes.next_command().expect("b");
    assert_eq!((ids(&a), ids(&b)), (vec![1, 3], vec![2]));
    assert_ne!(a.slot, b.slot);
    lanes.finish(b.lane, done(&[9]));
    expect(&mut lanes, &[(2, "9")]);
    lanes.finish(a.lane, done(&[1, 2]));
    expect(&mut lanes, &[(1, "1"), (3, "2")]);
}

#[test]
fn an_invalid_item_fails_alone_and_in_its_turn() {
    let mut lanes = lanes();
    lanes.accept(item(1, "a"));
    lanes.accept(invalid(2, "a"));
    lanes.accept(item(3, "a"));
    let command = lanes.next_command().expect("ready");
    assert_eq!(ids(&command), [1, 3]);
    assert!(lanes.take_answers().is_empty(), "2 waits for 1");
    lanes.finish(command.lane, done(&[1, 2]));
    expect(&mut lanes, &[(1, "1"), (2, "INVALID_FIELDS"), (3, "2")]);

    lanes.accept(invalid(4, "a"));
    assert!(lanes.next_command().is_none());
    expect(&mut lanes, &[(4, "INVALID_FIELDS")]);

    lanes.accept(v1::AppendItem {
        parent: "rooms/1".into(),
        ..item(5, "a")
    });
    expect(&mut lanes, &[(5, "INVALID_FIELDS")]);
    assert!(lanes.is_idle());
}

#[test]
fn when_an_outcome_is_unknown_those_behind_it_are_not_tried() {
    let mut lanes = lanes();
    lanes.accept(item(1, "a"));
    lanes.accept(item(2, "a"));
    let command = lanes.next_command().expect("ready");
    lanes.accept(item(3, "a"));
    lanes.accept(invalid(4, "a"));
    lanes.accept(item(5, "b"));
    lanes.finish(command.lane, Err(Failure::DeadlineExceeded("lost".into())));
    expect(
        &mut lanes,
        &[
            (1, "OUTCOME_UNKNOWN"),
            (2, "OUTCOME_UNKNOWN"),
            (3, "PREDECESSOR_FAILED"),
            (4, "INVALID_FIELDS"),
        ],
    );
    assert_eq!(
        ids(&lanes.next_command().expect("another conversation")),
        [5]
    );
    lanes.accept(item(6, "a"));
    assert_eq!(
        ids(&lanes.next_command().expect("later items are new")),
        [6]
    );
}

#[test]
fn a_refused_message_fails_alone_and_a_refused_command_whole() {
    let mut lanes = lanes();
    lanes.accept(item(1, "a"));
    lanes.accept(item(2, "a"));
    let command = lanes.next_command().expect("ready");
    lanes.accept(item(3, "a"));
    let refusal = Refusal::new(Reason::ClientMessageIdReused, "other content");
    let outcomes = vec![
        Done {
            refusal: Some(refusal.clone()),
            ..Done::default()
        },
        Done {
            seq: 8,
            ..Done::default()
        },
    ];
    lanes.finish(
        command.lane,
        Ok(Reply::new(Answer::Appended(Appended { outcomes }))),
    );
    expect(&mut lanes, &[(1, "CLIENT_MESSAGE_ID_REUSED"), (2, "8")]);
    let command = lanes.next_command().expect("ready");
    lanes.accept(item(4, "a"));
    lanes.finish(command.lane, Ok(Reply::refused(Reason::KeyCollision, "no")));
    expect(&mut lanes, &[(3, "KEY_COLLISION")]);
    assert_eq!(
        ids(&lanes.next_command().expect("those behind are tried")),
        [4]
    );
}

#[test]
fn an_answer_with_too_few_outcomes_is_an_error_and_no_panic() {
    let mut lanes = lanes();
    lanes.accept(item(1, "a"));
    lanes.accept(item(2, "a"));
    let command = lanes.next_command().expect("ready");
    lanes.finish(command.lane, done(&[1]));
    expect(&mut lanes, &[(1, "1"), (2, "INTERNAL")]);
    lanes.accept(item(3, "a"));
    let command = lanes.next_command().expect("ready");
    lanes.finish(command.lane, Ok(Reply::default()));
    expect(&mut lanes, &[(3, "INTERNAL")]);
}

#[test]
fn deadlines_never_decrease_within_a_conversation() {
    let timed = |id, timeout_ms| v1::AppendItem {
        timeout_ms,
        ..item(id, "a")
    };
    let is_long = |dispatch: &Dispatch| dispatch.deadline.remaining() > Duration::from_secs(60);
    let mut lanes = lanes();
    lanes.accept(timed(1, 600_000));
    let first = lanes.next_command().expect("ready");
    assert!(is_long(&first));
    lanes.accept(timed(2, 100));
    lanes.finish(first.lane, done(&[1]));
    let second = lanes.next_command().expect("ready");
    assert!(is_long(&second), "answered after 1");
    lanes.finish(second.lane, done(&[2]));
    lanes.accept(timed(3, 100));
    let third = lanes.next_command().expect("ready");
    assert!(!is_long(&third), "idle in between");
    lanes.finish(third.lane, done(&[3]));
    lanes.accept(timed(4, 0));
    let fourth = lanes.next_command().expect("ready");
    assert!(
        fourth.deadline.remaining() > Duration::from_secs(5),
        "the default"
    );
}

#[test]
fn commands_are_bounded_in_messages_and_bytes() {
    let mut lanes = lanes();
    for id in 0..3_000 {
        lanes.accept(item(id, "a"));
    }
    let first = lanes.next_command().expect("ready");
    assert_eq!(ids(&first).len(), limits::ENTRY_MESSAGES_MAX);
    lanes.finish(first.lane, Err(Failure::Overload));
    assert_eq!(answers(&mut lanes).len(), 3_000);

    let large = |id| {
        let mut item = item(id, "b");
        if let Some(message) = item.message.as_mut() {
            message.body = vec![0; limits::BODY_BYTES_MAX].into();
        }
        item
    };
    for id in 0..20 {
        lanes.accept(large(id));
    }
    let command = lanes.next_command().expect("ready");
    assert!(
        command.command.len() <= COMMAND_BYTES_MAX,
        "{}",
        command.command.len()
    );
    assert!(ids(&command).len() >= 7);
}

#[test]
fn reading_waits_when_too_much_is_unanswered() {
    let mut lanes = lanes();
    let mut id = 0;
    while lanes.has_room() {
        for _ in 0..limits::STREAM_FRAME_ITEMS_MAX {
            lanes.accept(item(id, "a"));
            id += 1;
        }
    }
    assert_eq!(usize::try_from(id), Ok(limits::STREAM_UNANSWERED_MAX));
    let command = lanes.next_command().expect("ready");
    lanes.finish(command.lane, Err(Failure::Overload));
    assert!(lanes.has_room() && lanes.is_idle());
    assert_eq!(lanes.unanswered_bytes, 0);
}

#[test]
fn idle_conversations_are_forgotten_when_there_are_too_many() {
    let mut lanes = lanes();
    for id in 0..(LANES_KEPT_MAX as u64 + 10) {
        lanes.accept(item(id, &format!("room{id}")));
        let command = lanes.next_command().expect("ready");
        if id > 0 {
            lanes.finish(command.lane, done(&[1]));
        }
    }
    assert!(lanes.by_name.len() <= LANES_KEPT_MAX);
    assert!(
        lanes.by_name.contains_key("tenants/t/conversations/room0"),
        "still in flight"
    );
}
