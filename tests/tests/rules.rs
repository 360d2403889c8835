//! Rules of conversations and pages from anywhere, over real gRPC, on one node and on three: fences, keys,
//! messages that expire, holds, and lists that begin at a seq, a time or the first unread message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::time::Duration;

use client::{
    AppendOptions, Client, Error, Event, From, Level, ListOptions, Message, Page, Rules, v1,
};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary, client, client_of, cluster};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_on_one_node() {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    plan.places.truncate(1);
    plan.replicas = 1;
    let cluster = Cluster::start(plan).await.expect("the node comes up");
    all(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_on_three_nodes() {
    let (_place, cluster) = cluster(1).await;
    all(&cluster).await;
}

async fn all(cluster: &Cluster) {
    tokio::join!(
        fences(cluster),
        keys(cluster),
        history(cluster),
        expiry(cluster),
        held(cluster),
        planned(cluster)
    );
}

/// What the command counts, as JSON.
async fn counted(cluster: &Cluster, args: &[&str]) -> serde_json::Value {
    let mut command = tokio::process::Command::new(binary());
    command.args(["retention", "plan", "--json"]).args(args);
    command.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn planned(cluster: &Cluster) {
    let (client, room) = (client(cluster), room("planned"));
    for n in 0..5 {
        say(&client, &room, &format!("message {n}")).await;
    }
    let what_if = ["--conversation", &room, "--ttl", "1d"];
    let now = counted(cluster, &what_if).await;
    assert_eq!(now["messages"], 0, "{now}");
    let later = [&what_if[..], &["--at", "2100-01-01T00:00:00Z"]].concat();
    let later = counted(cluster, &later).await;
    assert_eq!(later["messages"], 5, "{later}");
    assert!(later["bytes"].as_u64().unwrap() > 100);
    assert_eq!(later["missing"].as_array().unwrap().len(), 0, "{later}");
    let head = client.get_conversation(&room, &Level::Linearizable).await;
    assert_eq!(head.unwrap().min_seq, 1, "nothing is removed");
}

fn room(name: &str) -> String {
    format!("tenants/test/conversations/{name}")
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, reason: &str) {
    let error = answer.expect_err(reason);
    assert_eq!(error.reason(), Some(reason), "{error}");
}

async fn say(client: &Client, room: &str, text: &str) -> u64 {
    let said = client.append(room, Message::text("ann", text)).await;
    said.unwrap().seq
}

async fn fences(cluster: &Cluster) {
    let (client, room) = (client(cluster), room("fenced"));
    say(&client, &room, "before").await;
    let rules = Rules::default().fence("writer-1").expected_fence("");
    client.set_rules(&room, rules).await.unwrap();
    refused(
        client.append(&room, Message::text("ann", "none")).await,
        "FENCED",
    );
    let one = Message::text("ann", "one").fence("writer-1");
    assert_eq!(client.append(&room, one).await.unwrap().seq, 2);
    let stream = client.append_stream(&client::StreamOptions::default());
    let two = Message::text("ann", "two").fence("writer-1");
    assert_eq!(stream.send(&room, two).await.unwrap().seq, 3);
    refused(
        stream.send(&room, Message::text("ann", "three")).await,
        "FENCED",
    );
    // Another writer takes over, through another node.
    let other = client_of(cluster, cluster.nodes().len() - 1);
    let late = Rules::default()
        .fence("writer-2")
        .expected_fence("writer-0");
    refused(other.set_rules(&room, late).await, "FENCED");
    let over = Rules::default().fence("writer-2");
    other.set_rules(&room, over).await.unwrap();
    let late = Message::text("ann", "late").fence("writer-1");
    refused(client.append(&room, late).await, "FENCED");
    let batch = vec![Message::text("bob", "a"), Message::text("bob", "b")];
    let options = AppendOptions {
        fence_token: "writer-2".into(),
        ..AppendOptions::default()
    };
    let appended = other.append_batch(&room, batch, options).await.unwrap();
    assert_eq!(appended[1].seq, 5);
    let head = client.get_conversation(&room, &Level::Linearizable).await;
    assert_eq!(head.unwrap().fence_token, "writer-2");
}

async fn keys(cluster: &Cluster) {
    let (client, room) = (client(cluster), room("keyed"));
    let commit = |expected| AppendOptions {
        key: "mls-commit".into(),
        expected_last_seq_of_key: Some(expected),
        ..AppendOptions::default()
    };
    let first = Message::text("ann", "epoch 1");
    let first = client.append_with(&room, first, commit(0)).await.unwrap();
    say(&client, &room, "chat").await;
    say(&client, &room, "more chat").await;
    let stale = Message::text("bob", "epoch 1 too");
    refused(
        client.append_with(&room, stale, commit(0)).await,
        "KEY_SEQ_MISMATCH",
    );
    let second = Message::text("bob", "epoch 2");
    let second = client.append_with(&room, second, commit(first.seq)).await;
    assert_eq!(second.unwrap().seq, 4);
    let head = client.get_conversation(&room, &Level::Linearizable).await;
    let expect = v1::KeySeq {
        key: "mls-commit".into(),
        last_seq: 4,
    };
    assert_eq!(head.unwrap().keys, [expect]);
    let keyless = AppendOptions {
        expected_last_seq_of_key: Some(0),
        ..AppendOptions::default()
    };
    let asked = client.append_with(&room, Message::text("ann", "x"), keyless);
    refused(asked.await, "INVALID_FIELDS");
}

fn seqs(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|one| one.seq).collect()
}

fn created_ms(message: &v1::Message) -> i64 {
    let time = message.create_time.unwrap();
    time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000
}

async fn history(cluster: &Cluster) {
    let (client, room) = (client(cluster), room("long"));
    for n in 1..=30 {
        say(&client, &room, &format!("message {n}")).await;
        if n == 15 {
            // So that this message's time is its own.
            sleep(Duration::from_millis(20)).await;
        }
    }
    let list = |options: ListOptions| {
        let (client, room) = (client.clone(), room.clone());
        async move { client.list(&room, &options).await.unwrap() }
    };
    let base = ListOptions {
        page_size: 5,
        ..ListOptions::default()
    };
    // Around an anchor, and from there both ways, through tokens alone.
    let around = ListOptions {
        start_seq: 12,
        context_before: 3,
        ..base.clone()
    };
    let page = list(around).await;
    assert_eq!(seqs(&page), [9, 10, 11, 12, 13, 14, 15, 16]);
    assert_eq!(page.anchor_seq, 12);
    let token = |page_token: &str| ListOptions {
        page_token: page_token.to_owned(),
        ..base.clone()
    };
    let before = list(token(&page.prev_page_token)).await;
    assert_eq!(seqs(&before), [4, 5, 6, 7, 8]);
    assert_eq!(
        seqs(&list(token(&before.next_page_token)).await),
        [9, 10, 11, 12, 13]
    );
    let first = list(token(&before.prev_page_token)).await;
    assert_eq!(seqs(&first), [1, 2, 3]);
    assert_eq!(first.prev_page_token, "");
    let last = list(ListOptions {
        start_seq: 29,
        ..base.clone()
    });
    assert_eq!(last.await.next_page_token, "");
    // By time, in both directions.
    let all = list(ListOptions {
        page_size: 30,
        ..base.clone()
    });
    let all = all.await.messages;
    let at = |index: usize| Some(created_ms(&all[index]));
    let from = list(ListOptions {
        start_time_ms: at(15),
        context_before: 1,
        ..base.clone()
    });
    let from = from.await;
    assert_eq!(
        (seqs(&from)[..2].to_vec(), from.anchor_seq),
        (vec![15, 16], 16)
    );
    let back = list(ListOptions {
        start_time_ms: at(14),
        descending: true,
        ..base.clone()
    });
    assert_eq!(seqs(&back.await), [15, 14, 13, 12, 11]);
    let never = list(ListOptions {
        start_time_ms: Some(0),
        descending: true,
        ..base.clone()
    });
    assert!(never.await.messages.is_empty());
    let future = list(ListOptions {
        start_time_ms: Some(created_ms(&all[29]) + 1),
        context_before: 2,
        ..base.clone()
    });
    assert_eq!(seqs(&future.await), [29, 30]);
    // From the first unread message.
    let unread = list(ListOptions {
        unread_after: Some(28),
        context_before: 2,
        ..base.clone()
    });
    let unread = unread.await;
    assert_eq!(
        (seqs(&unread), unread.anchor_seq),
        (vec![27, 28, 29, 30], 29)
    );
    let two = ListOptions {
        unread_after: Some(1),
        start_seq: 3,
        ..base
    };
    refused(client.list(&room, &two).await, "INVALID_FIELDS");
}

async fn expiry(cluster: &Cluster) {
    let (client, room) = (client(cluster), room("expiring"));
    let ttl = Duration::from_secs(2);
    let mut tail = client.tail(&room, From::Seq(1));
    let began = Instant::now();
    say(&client, &room, "stays").await;
    let short = Message::text("ann", "goes").ttl(ttl);
    let short = client.append(&room, short).await.unwrap().seq;
    say(&client, &room, "stays, too").await;
    let message = client.get_message(&room, short, &Level::Linearizable).await;
    let message = message.unwrap();
    assert_eq!(&message.body[..], b"goes");
    let expires = message.expire_time.unwrap();
    let created = message.create_time.unwrap();
    assert_eq!(expires.seconds - created.seconds, 2);
    // It is gone from reads when its time has come, and a command makes a tombstone of it.
    let gone = timeout(LIMIT, async {
        loop {
            let message = client.get_message(&room, short, &Level::Linearizable).await;
            let message = message.unwrap();
            if message.body.is_empty() {
                break message;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    let gone = gone.await.unwrap();
    assert!(began.elapsed() + Duration::from_millis(300) >= ttl);
    assert!(gone.redaction.unwrap().expired && gone.sender.is_empty());
    let told = timeout(LIMIT, async {
        loop {
            match tail.next().await.unwrap().unwrap() {
                Event::Changed(message) if message.seq == short => break message,
                _ => {}
            }
        }
    });
    let told = told.await.expect("the tail tells of it");
    assert!(told.redaction.unwrap().expired);
    // The conversation's own time takes what is there, too: from the first message on it is gone wholly.
    let rules = Rules::default().ttl(Duration::from_secs(1));
    client.set_rules(&room, rules).await.unwrap();
    let left = timeout(LIMIT, async {
        loop {
            let head = client.get_conversation(&room, &Level::Linearizable).await;
            let head = head.unwrap();
            if head.min_seq == 4 {
                break head;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let left = left.await.expect("what has expired is removed");
    assert_eq!(
        (left.last_seq, left.content_hash.to_vec()),
        (3, vec![0; 16])
    );
    let gone = client.get_message(&room, 1, &Level::Linearizable).await;
    refused(gone, "MESSAGE_NOT_FOUND");
    let from_one = ListOptions {
        start_seq: 1,
        ..ListOptions::default()
    };
    refused(client.list(&room, &from_one).await, "CURSOR_TRIMMED");
    assert_eq!(say(&client, &room, "numbers go on").await, 4);
}

async fn held(cluster: &Cluster) {
    let (client, room) = (client(cluster), room("held"));
    let short = Message::text("ann", "evidence").ttl(Duration::from_secs(1));
    client.append(&room, short).await.unwrap();
    client
        .set_rules(&room, Rules::default().legal_hold(true))
        .await
        .unwrap();
    sleep(Duration::from_secs(3)).await;
    let message = client
        .get_message(&room, 1, &Level::Linearizable)
        .await
        .unwrap();
    assert_eq!(&message.body[..], b"evidence");
    assert_eq!(message.expire_time, None);
    client
        .set_rules(&room, Rules::default().legal_hold(false))
        .await
        .unwrap();
    let message = client.get_message(&room, 1, &Level::Linearizable).await;
    // Gone at once, be it removed already or not.
    match message {
        Ok(message) => assert!(message.body.is_empty()),
        Err(error) => assert_eq!(error.reason(), Some("MESSAGE_NOT_FOUND")),
    }
    let none = Rules::default().ttl(Duration::from_millis(10));
    refused(client.set_rules(&room, none).await, "INVALID_FIELDS");
}
