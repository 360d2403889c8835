use super::*;

const LONG: Duration = Duration::from_secs(10);

/// A window, and what its callers hear.
struct Bench {
    window: Window,
    stream: u64,
    now: Instant,
    acks: Vec<oneshot::Receiver<Outcome>>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            window: Window::new(),
            stream: 1,
            now: Instant::now(),
            acks: Vec::new(),
        }
    }

    /// Enqueues a message of conversation `parent`; true when it may go out at once.
    fn push(&mut self, parent: &str, text: &str, deadline: Duration) -> bool {
        let (answer, ack) = oneshot::channel();
        self.acks.push(ack);
        let message = v1::Message {
            body: Bytes::from(text.to_owned()),
            ..v1::Message::default()
        };
        self.window
            .push((parent, String::new()), message, self.now, deadline, answer)
    }

    /// The next frame: correlation ids and texts.
    fn take(&mut self) -> Vec<(u64, String)> {
        let taken = self.window.take(self.stream, self.now, 100, 1 << 20);
        let item = |bytes: Bytes| {
            let item = v1::AppendItem::decode(bytes).unwrap();
            let body = item.message.unwrap().body;
            (
                item.correlation_id,
                String::from_utf8(body.to_vec()).unwrap(),
            )
        };
        taken.items.into_iter().map(item).collect()
    }

    fn texts(&mut self) -> Vec<String> {
        self.take().into_iter().map(|(_, text)| text).collect()
    }

    fn ack(&mut self, ids: &[u64]) -> Summary {
        let result = |id: &u64| v1::AppendResult {
            correlation_id: *id,
            outcome: Some(v1::append_result::Outcome::Appended(v1::Appended::default())),
        };
        self.window
            .answer(ids.iter().map(result).collect(), self.now)
    }

    fn refuse(&mut self, id: u64) -> Summary {
        let error = v1::ItemError {
            code: Code::Unavailable as i32,
            retry_after_ms: 1,
            ..v1::ItemError::default()
        };
        let outcome = Some(v1::append_result::Outcome::Error(error));
        self.window.answer(
            vec![v1::AppendResult {
                correlation_id: id,
                outcome,
            }],
            self.now,
        )
    }
}

#[test]
fn what_comes_while_a_conversation_is_in_flight_waits_and_goes_out_together() {
    let mut bench = Bench::new();
    assert!(bench.push("a", "a1", LONG));
    let first = bench.take();
    assert!(!bench.push("a", "a2", LONG));
    assert!(!bench.push("a", "a3", LONG));
    assert!(bench.push("b", "b1", LONG));
    assert_eq!(bench.texts(), ["b1"]);
    assert_eq!(bench.ack(&[first[0].0]).acked, 1);
    assert_eq!(bench.texts(), ["a2", "a3"]);
}

#[test]
fn a_broken_stream_sends_all_that_is_unanswered_again_in_order() {
    let mut bench = Bench::new();
    for (parent, text) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
        bench.push(parent, text, LONG);
    }
    let sent = bench.take();
    assert_eq!(sent.len(), 3);
    bench.push("a", "a3", LONG);
    bench.ack(&[sent[0].0]);
    bench.window.rewind();
    let again = bench.take();
    let texts: Vec<&str> = again.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["b1", "a2", "a3"]);
    // The answers of both streams count once.
    let ids: Vec<u64> = again.iter().chain(&sent).map(|(id, _)| *id).collect();
    assert_eq!(bench.ack(&ids).acked, 3);
    assert!(bench.window.is_empty());
    assert!(
        bench.window.by_parent.is_empty(),
        "idle conversations are forgotten"
    );
}

#[test]
fn a_refused_message_goes_first_again_after_a_pause() {
    let mut bench = Bench::new();
    bench.push("a", "a1", LONG);
    bench.push("a", "a2", LONG);
    let sent = bench.take();
    bench.push("a", "a3", LONG);
    assert_eq!(bench.refuse(sent[1].0).unavailable, 1);
    bench.refuse(sent[0].0);
    assert_eq!(bench.texts(), Vec::<String>::new());
    let due = bench.window.next_wake().unwrap();
    assert!(due > bench.now && due <= bench.now + BACKOFF_MAX);
    assert!(!bench.window.wake(bench.now));
    assert!(bench.window.wake(due));
    assert_eq!(bench.texts(), ["a1", "a2", "a3"]);
}

#[test]
fn what_expires_is_told_whether_it_was_sent_and_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.push("a", "a1", Duration::from_secs(1));
    bench.take();
    bench.push("b", "b1", Duration::from_secs(1));
    bench.push("b", "b2", LONG);
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.window.expire(bench.now), 2);
    for (at, unknown) in [(0, true), (1, false)] {
        let error = bench.acks[at].try_recv().unwrap().unwrap_err();
        assert_eq!(error.outcome_unknown(), unknown);
    }
    // What was never sent leaves those behind it alone.
    let sent = bench.take();
    assert_eq!(sent[0].1, "b2");
    bench.ack(&[sent[0].0]);
    assert!(bench.window.is_empty() && bench.window.by_parent.is_empty());
}

#[test]
fn nothing_overtakes_a_message_whose_outcome_stays_unknown() {
    let internal = |id| v1::AppendResult {
        correlation_id: id,
        outcome: Some(v1::append_result::Outcome::Error(v1::ItemError {
            code: Code::Internal as i32,
            reason: "INTERNAL".to_owned(),
            ..v1::ItemError::default()
        })),
    };
    for expires in [true, false] {
        let mut bench = Bench::new();
        bench.push("a", "a1", Duration::from_secs(1));
        bench.push("a", "a2", LONG);
        let sent = bench.take();
        bench.push("a", "a3", LONG);
        bench.push("b", "b1", LONG);
        bench.now += Duration::from_secs(1);
        let ended = match expires {
            true => bench.window.expire(bench.now),
            false => {
                bench
                    .window
                    .answer(vec![internal(sent[0].0)], bench.now)
                    .failed
            }
        };
        assert_eq!(ended, 3, "expires: {expires}");
        let first = bench.acks[0].try_recv().unwrap().unwrap_err();
        assert_ne!(first.reason(), Some("PREDECESSOR_FAILED"));
        for (at, unknown) in [(1, true), (2, false)] {
            let error = bench.acks[at].try_recv().unwrap().unwrap_err();
            assert_eq!(error.reason(), Some("PREDECESSOR_FAILED"));
            assert_eq!(error.outcome_unknown(), unknown);
        }
        // What comes after that goes out, and an answer too late changes nothing.
        bench.push("a", "a4", LONG);
        assert_eq!(bench.texts(), ["b1", "a4"]);
        assert_eq!(bench.ack(&[sent[1].0]), Summary::default());
    }
}

#[test]
fn a_message_sent_late_tells_the_node_how_little_time_is_left() {
    let mut bench = Bench::new();
    bench.push("a", "a1", LONG);
    bench.now += Duration::from_secs(4);
    let taken = bench.window.take(1, bench.now, 100, 1 << 20);
    let item = v1::AppendItem::decode(taken.items[0].clone()).unwrap();
    assert_eq!(item.timeout_ms, 6_000);
    assert_eq!(&item.message.unwrap().body[..], b"a1");
}

#[test]
fn a_frame_ends_at_its_bounds_and_the_rest_of_a_conversation_waits_for_its_answers() {
    let mut bench = Bench::new();
    for number in 0..5 {
        bench.push("a", &number.to_string(), LONG);
    }
    assert_eq!(bench.window.take(1, bench.now, 2, 1 << 20).items.len(), 2);
    assert!(bench.take().is_empty());
    bench.window.rewind();
    assert_eq!(bench.window.take(1, bench.now, 100, 1).items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_one_stream_owes_is_answered_by_it_while_another_takes_what_is_new() {
    let mut bench = Bench::new();
    bench.push("a", "a1", LONG);
    let first = bench.take();
    bench.stream = 2;
    bench.push("a", "a2", LONG);
    bench.push("b", "b1", LONG);
    assert_eq!(bench.texts(), ["b1"], "a2 waits for a1");
    bench.ack(&[first[0].0]);
    assert_eq!(bench.texts(), ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn when_one_of_two_streams_breaks_only_what_it_owed_is_sent_again() {
    let mut bench = Bench::new();
    for (parent, text) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
        bench.push(parent, text, LONG);
    }
    assert_eq!(bench.texts(), ["a1", "a2", "b1"]);
    bench.stream = 2;
    bench.push("c", "c1", LONG);
    assert_eq!(bench.texts(), ["c1"]);
    bench.push("a", "a3", LONG);
    assert!(bench.window.rewind_one(1));
    assert!(!bench.window.rewind_one(1), "nothing of it is left");
    assert_eq!(bench.texts(), ["a1", "a2", "a3", "b1"]);
}
