//! Streams that are followed at a node which falls silent: nothing tells a client of it, and what others
//! say meanwhile is not to be missed for long.

use client::{Event, Followed, From as Start, Message};
use tokio::time::sleep;

use super::*;

const ROOM: &str = "tenants/chat/conversations/watched";
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the client gets to know its nodes before it follows anything.
const LEARNS: Duration = Duration::from_secs(3);
/// When the data center falls silent, and when it is over, microseconds behind the first message that came.
const SILENT_US: u64 = 4_000_000;
const OVER_US: u64 = 16_000_000;
/// Whoever follows is to hear of it after this: to notice takes a second, and to go elsewhere less.
const WAIT_MAX_MS: u64 = 2_000;
/// It was followed there, and not elsewhere.
const WAIT_MIN_MS: u64 = 200;

/// When something was said or came, by its seq.
type Times = Arc<Mutex<BTreeMap<u64, u64>>>;

#[derive(Clone, Default)]
struct SeenTimes {
    acked: Times,
    tail: Times,
    follow: Times,
}

async fn client(dialer: Dialer, endpoints: Vec<String>, seed: u64) -> Client {
    let builder = Client::builder().endpoints(endpoints).dialer(dialer);
    builder.seed(seed).build().unwrap()
}

/// Says something again and again.
async fn say(client: Client, seen: SeenTimes) {
    loop {
        let said = client.append(ROOM, Message::text("ann", "on and on")).await;
        if let Ok(said) = said {
            seen.acked.lock().insert(said.seq, now_us());
        }
        sleep(PAUSE).await;
    }
}

/// Follows it in both ways.
async fn watch_both(client: Client, seen: SeenTimes) {
    sleep(LEARNS).await;
    while seen.acked.lock().is_empty() {
        sleep(PAUSE).await;
    }
    let mut tail = client.tail(ROOM, Start::Seq(1));
    let mut follow = client.follow("");
    follow.add_from([(ROOM, 1)]);
    loop {
        tokio::select! {
            event = tail.next() => {
                if let Event::Message(message) = event.unwrap().unwrap() {
                    seen.tail.lock().insert(message.seq, now_us());
                }
            }
            event = follow.next() => {
                if let Followed::Message(message) = event.unwrap().unwrap() {
                    seen.follow.lock().insert(message.seq, now_us());
                }
            }
        }
    }
}

/// The longest that a message was missed which had been acknowledged, ms.
fn longest_ms(seen: &Times, acked: &Times) -> u64 {
    let (seen, acked) = (seen.lock(), acked.lock());
    let pairs = seen.iter().zip(seen.iter().skip(1));
    let waits = pairs.filter_map(|((_, before), (seq, at))| {
        Some(at.saturating_sub(*acked.get(seq)?.max(before)) / 1_000)
    });
    waits.max().unwrap()
}

/// The longest waits of a tail and of a follower while this data center is silent, ms.
fn waits(tier: Tier, dc: &str) -> [u64; 2] {
    let plan = Plan { tier, ..plan(5) };
    let mut field = Field::new(plan.seed, tier, plan.topology.local, plan.topology.wan);
    let hosts = cluster(&mut field, &plan);
    let endpoints: Vec<String> = hosts.iter().map(|host| host.address()).collect();
    let seen = SeenTimes::default();
    for (name, dc) in [("sender", "busan"), ("watcher", "seoul")] {
        let dialer = field.net(name, dc).dialer();
        let (endpoints, seen) = (endpoints.clone(), seen.clone());
        field.machine(name, dc, move || {
            let (dialer, endpoints, seen) = (dialer.clone(), endpoints.clone(), seen.clone());
            async move {
                let client = client(dialer, endpoints, name.len() as u64).await;
                match name {
                    "sender" => say(client, seen).await,
                    _ => watch_both(client, seen).await,
                }
            }
        });
    }
    let (mut first_us, mut silent) = (None, false);
    loop {
        field.step().unwrap();
        let now = field.now_us();
        assert!(now < LIMIT_US, "nothing comes");
        if first_us.is_none() && !seen.tail.lock().is_empty() && !seen.follow.lock().is_empty() {
            first_us = Some(now);
        }
        let since = first_us.map_or(0, |first| now - first);
        if since > SILENT_US && !silent {
            silent = true;
            let hosts = field.hosts().into_iter();
            let there = |host: &String| host.starts_with(dc);
            let (silent, others): (Vec<String>, Vec<String>) = hosts.partition(there);
            field.cut(&silent, &others, false);
            field.cut(&others, &silent, false);
        }
        if since > OVER_US {
            break;
        }
    }
    [&seen.tail, &seen.follow].map(|times| longest_ms(times, &seen.acked))
}

/// Each falls silent once: one of them has the node at which somebody follows.
fn check(tier: Tier) {
    let all = ["seoul", "busan", "tokyo"].map(|dc| waits(tier, dc));
    for (n, name) in ["tail", "follow"].iter().enumerate() {
        let longest = all.iter().map(|waits| waits[n]).max().unwrap();
        let right = WAIT_MIN_MS..=WAIT_MAX_MS;
        assert!(right.contains(&longest), "{name} over {tier:?}: {all:?} ms");
    }
}

#[test]
fn who_follows_something_at_a_node_that_falls_silent_goes_on_elsewhere_within_two_seconds() {
    check(Tier::Grpc);
    check(Tier::Direct);
}
