//! Messages that change, over real gRPC, on one node and on three: what calls answer, what reads
//! through each node show, and what tails deliver.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use client::{Changed, Client, Edit, Error, Event, From, Level, ListOptions, Message, Tail};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary, client, client_of, cluster};
use proto::v1;
use tokio::time::timeout;

const ROOM: &str = "tenants/test/conversations/room";

async fn one_node() -> (Place, Cluster) {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    plan.places.truncate(1);
    plan.replicas = 1;
    let cluster = Cluster::start(plan).await.expect("the node comes up");
    (place, cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_change_on_one_node() {
    let (_place, cluster) = one_node().await;
    changes(&cluster).await;
    tails(&cluster).await;
    lives(&cluster).await;
    listed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_change_on_three_nodes() {
    let (_place, cluster) = cluster(1).await;
    changes(&cluster).await;
    tails(&cluster).await;
    lives(&cluster).await;
    listed(&cluster).await;
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, reason: &str) {
    let error = answer.expect_err(reason);
    assert_eq!(error.reason(), Some(reason), "{error}");
}

/// The message as each node shows it, which is the same.
async fn seen(cluster: &Cluster, room: &str, seq: u64) -> v1::Message {
    let mut first = None;
    for node in 0..cluster.nodes().len() {
        let client = client_of(cluster, node);
        let message = client.get_message(room, seq, &Level::Linearizable).await;
        let message = message.unwrap();
        let options = ListOptions {
            start_seq: seq,
            page_size: 1,
            ..ListOptions::default()
        };
        let page = client.list(room, &options).await.unwrap();
        assert_eq!(
            page.messages,
            std::slice::from_ref(&message),
            "through node {node}"
        );
        assert_eq!(*first.get_or_insert(message.clone()), message);
    }
    first.unwrap()
}

async fn hash(client: &Client, room: &str) -> Vec<u8> {
    let head = client.get_conversation(room, &Level::Linearizable).await;
    head.unwrap().content_hash.to_vec()
}

async fn changes(cluster: &Cluster) {
    let client = client(cluster);
    for n in 1..=3 {
        let message = Message::text("ann", format!("text {n}")).id(format!("m{n}"));
        client.append(ROOM, message).await.unwrap();
    }
    edits(cluster, &client).await;
    reactions(cluster, &client).await;
    redactions(cluster, &client).await;
    missing(&client).await;
    equal_replicas(cluster).await;
}

async fn edits(cluster: &Cluster, client: &Client) {
    let before = hash(client, ROOM).await;
    let said = seen(cluster, ROOM, 2).await;
    let edit = Edit::text("other")
        .id("e1")
        .expected_revision(said.revision);
    let edited = client.edit(ROOM, 2, edit.clone()).await.unwrap();
    assert!(edited.revision > said.revision && !edited.deduplicated);
    let now = seen(cluster, ROOM, 2).await;
    assert_eq!(
        (&now.body[..], now.seq, now.revision),
        (&b"other"[..], 2, edited.revision)
    );
    assert!(now.edit_time.is_some() && now.create_time == said.create_time);
    assert_ne!(hash(client, ROOM).await, before);
    // The same again, through each node, changes nothing, though its condition does not hold any more.
    for node in 0..cluster.nodes().len() {
        let again = client_of(cluster, node).edit(ROOM, 2, edit.clone()).await;
        let again = again.unwrap();
        assert_eq!(
            (again.revision, again.deduplicated),
            (edited.revision, true)
        );
    }
    refused(
        client.edit(ROOM, 2, Edit::text("third").id("e1")).await,
        "REQUEST_ID_REUSED",
    );
    refused(client.redact(ROOM, 2, "e1").await, "REQUEST_ID_REUSED");
    let late = Edit::text("late").expected_revision(said.revision);
    refused(client.edit(ROOM, 2, late).await, "REVISION_MISMATCH");
    // Attributes alone leave the body.
    let attributes = [("lang".to_owned(), "ko".to_owned())].into();
    let edit = Edit::default().attributes(attributes);
    client.edit(ROOM, 2, edit).await.unwrap();
    let now = seen(cluster, ROOM, 2).await;
    assert_eq!((&now.body[..], now.attributes.len()), (&b"other"[..], 1));
}

async fn reactions(cluster: &Cluster, client: &Client) {
    let react = async |who: &str, kind: &str, remove, id: &str| {
        client
            .react(ROOM, 1, (who, kind, remove), id)
            .await
            .unwrap()
    };
    let before = seen(cluster, ROOM, 1).await;
    let first = react("ben", "👍", false, "r1").await;
    assert!(first.count == 1 && first.revision > before.revision);
    assert_eq!(
        react("ben", "👍", false, "r1").await.revision,
        first.revision
    );
    let second = react("cho", "👍", false, "").await;
    assert_eq!(second.count, 2);
    let same = react("cho", "👍", false, "").await;
    assert_eq!(
        (same.count, same.revision),
        (2, second.revision),
        "set already"
    );
    react("cho", "heart", false, "").await;
    let options = ListOptions {
        reader: "cho".into(),
        ..ListOptions::default()
    };
    let page = client.list(ROOM, &options).await.unwrap();
    let counts = &page.messages[0].reactions;
    let counts: Vec<_> = counts.iter().map(|c| (&*c.kind, c.count, c.mine)).collect();
    assert_eq!(counts, [("heart", 1, true), ("👍", 2, true)]);
    assert_eq!(react("cho", "heart", true, "").await.count, 0);
    let now = seen(cluster, ROOM, 1).await;
    assert_eq!(now.reactions.len(), 1);
    assert!(now.seq == 1 && now.edit_time.is_none() && !now.reactions[0].mine);
}

async fn redactions(cluster: &Cluster, client: &Client) {
    let gone: Changed = client.redact(ROOM, 1, "d1").await.unwrap();
    let tombstone = seen(cluster, ROOM, 1).await;
    assert_eq!((tombstone.seq, tombstone.revision), (1, gone.revision));
    assert!(tombstone.redaction.is_some() && tombstone.create_time.is_some());
    let bare = v1::Message {
        name: tombstone.name.clone(),
        seq: 1,
        revision: gone.revision,
        create_time: tombstone.create_time,
        redaction: tombstone.redaction,
        ..v1::Message::default()
    };
    assert_eq!(tombstone, bare, "nothing else is left");
    assert!(client.redact(ROOM, 1, "d1").await.unwrap().deduplicated);
    // Erased already: nothing moves.
    let again = client.redact(ROOM, 1, "d2").await.unwrap();
    assert_eq!(again.revision, gone.revision);
    refused(
        client.edit(ROOM, 1, Edit::text("x")).await,
        "MESSAGE_REDACTED",
    );
    let react = client.react(ROOM, 1, ("ben", "k", false), "").await;
    refused(react, "MESSAGE_REDACTED");
    // A retry of the append has its first answer, and brings nothing back.
    let retry = Message::text("ann", "text 1").id("m1");
    let retried = client.append(ROOM, retry).await.unwrap();
    assert_eq!((retried.seq, retried.deduplicated), (1, true));
    assert_eq!(seen(cluster, ROOM, 1).await, bare);
}

async fn missing(client: &Client) {
    refused(
        client.edit(ROOM, 99, Edit::text("x")).await,
        "MESSAGE_NOT_FOUND",
    );
    let none = client.get_message(ROOM, 99, &Level::Linearizable).await;
    refused(none, "MESSAGE_NOT_FOUND");
    let nowhere = "tenants/test/conversations/nowhere";
    refused(
        client.redact(nowhere, 1, "").await,
        "CONVERSATION_NOT_FOUND",
    );
    for wrong in [
        client.edit(ROOM, 1, Edit::default()).await,
        client.edit(ROOM, 1, Edit::text("")).await,
        client.react(ROOM, 1, ("", "k", false), "").await,
        client.edit(ROOM, 0, Edit::text("x")).await,
    ] {
        refused(wrong, "INVALID_FIELDS");
    }
}

/// All replicas of all shards come to hold the same, by what they read back from their disks.
async fn equal_replicas(cluster: &Cluster) {
    let shards = cluster.statuses().await[0].shards.len();
    for shard in 0..=u32::try_from(shards).unwrap() {
        let equal = async {
            while !are_equal(cluster, shard).await {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, equal)
            .await
            .expect("all are told everything");
    }
}

/// Whether the replicas of a shard have come equally far; they hold the same then.
async fn are_equal(cluster: &Cluster, shard: u32) -> bool {
    let mut held = Vec::new();
    for (node, of) in cluster.nodes().iter().enumerate() {
        let replica = client_of(cluster, node);
        let Ok(hash) = replica.hash_replica(&of.address, shard).await else {
            continue;
        };
        for room in &hash.conversations {
            assert_eq!(room.running_hash, room.disk_hash, "{room:?}");
        }
        held.push((hash.revision, hash.conversations));
    }
    let even = held.windows(2).all(|pair| pair[0].0 == pair[1].0);
    assert!(
        !even || held.windows(2).all(|pair| pair[0] == pair[1]),
        "{held:?}"
    );
    even
}

async fn next(tail: &mut Tail) -> Event {
    let event = timeout(LIMIT, tail.next()).await.expect("in time");
    event.expect("a tail does not end").unwrap()
}

async fn tails(cluster: &Cluster) {
    let client = client(cluster);
    let room = "tenants/test/conversations/followed";
    for n in 1..=3 {
        client
            .append(room, Message::text("ann", format!("{n}")))
            .await
            .unwrap();
    }
    client.edit(room, 1, Edit::text("one")).await.unwrap();
    let mut tail = client.tail(room, From::Seq(1));
    for (seq, body) in [(1, "one"), (2, "2"), (3, "3")] {
        match next(&mut tail).await {
            Event::Message(message) => {
                assert_eq!((message.seq, &message.body[..]), (seq, body.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next(&mut tail).await, Event::CaughtUp { last_seq: 3 });
    let edited = client.edit(room, 2, Edit::text("two")).await.unwrap();
    let said = client
        .append(room, Message::text("ann", "4"))
        .await
        .unwrap();
    let gone = client.redact(room, 3, "").await.unwrap();
    let loved = client
        .react(room, 1, ("ben", "k", false), "")
        .await
        .unwrap();
    let expected = [
        edited.revision,
        said.revision,
        gone.revision,
        loved.revision,
    ];
    let mut revisions = Vec::new();
    let mut cursors = Vec::new();
    for _ in expected {
        cursors.push(tail.cursor().to_owned());
        match next(&mut tail).await {
            Event::Message(message) | Event::Changed(message) => revisions.push(message.revision),
            other @ Event::CaughtUp { .. } => panic!("{other:?}"),
        }
    }
    assert_eq!(revisions, expected);
    // From each of the cursors, through each node, comes what came behind it.
    for node in 0..cluster.nodes().len() {
        for (at, cursor) in cursors.iter().enumerate() {
            let again = client_of(cluster, node);
            let mut tail = again.tail(room, From::Cursor(cursor.clone()));
            let mut found = Vec::new();
            while found.len() < expected.len() - at {
                match next(&mut tail).await {
                    Event::Message(message) | Event::Changed(message) => {
                        found.push(message.revision);
                    }
                    Event::CaughtUp { .. } => {}
                }
            }
            assert_eq!(found, expected[at..], "node {node}, cursor {at}");
        }
    }
}

/// A conversation that is deleted and begins again is another one, and says so.
async fn lives(cluster: &Cluster) {
    let client = client(cluster);
    let room = "tenants/test/conversations/mortal";
    for n in 1..=3 {
        let message = Message::text("ann", format!("{n}")).id(format!("m{n}"));
        client.append(room, message).await.unwrap();
    }
    let color = [("color".to_owned(), "red".to_owned())];
    let set = client
        .update_conversation(room, color.clone().into(), "u1")
        .await
        .unwrap();
    let head = client
        .get_conversation(room, &Level::Linearizable)
        .await
        .unwrap();
    assert_eq!((head.attributes.len(), head.incarnation), (1, 1));
    let options = ListOptions {
        page_size: 1,
        ..ListOptions::default()
    };
    let page = client.list(room, &options).await.unwrap();
    let mut tail = client.tail(room, From::Seq(1));
    assert!(matches!(next(&mut tail).await, Event::Message(first) if first.seq == 1));
    let cursor = tail.cursor().to_owned();
    let deleted = client.delete_conversation(room, "d1").await.unwrap();
    for node in 0..cluster.nodes().len() {
        let at = client_of(cluster, node);
        let gone = at.get_conversation(room, &Level::Linearizable).await;
        refused(gone, "CONVERSATION_NOT_FOUND");
        let again = at.delete_conversation(room, "d1").await.unwrap();
        assert!(again.deduplicated && again.conversation == deleted.conversation);
        let again = at
            .update_conversation(room, color.clone().into(), "u1")
            .await
            .unwrap();
        assert!(again.deduplicated && again.conversation == set.conversation);
        let retry = Message::text("ann", "2").id("m2");
        assert_eq!(at.append(room, retry).await.unwrap().seq, 2);
        refused(
            at.get_message(room, 2, &Level::Linearizable).await,
            "CONVERSATION_NOT_FOUND",
        );
    }
    loop {
        let event = timeout(LIMIT, tail.next())
            .await
            .expect("in time")
            .expect("an end");
        let Err(error) = event else { continue };
        assert_eq!(error.reason(), Some("CONVERSATION_NOT_FOUND"));
        break;
    }
    assert_eq!(
        client
            .append(room, Message::text("ann", "new"))
            .await
            .unwrap()
            .seq,
        1
    );
    let head = client
        .get_conversation(room, &Level::Linearizable)
        .await
        .unwrap();
    assert_eq!(
        (head.last_seq, head.incarnation, head.attributes.len()),
        (1, 2, 0)
    );
    let options = ListOptions {
        page_token: page.next_page_token,
        ..options
    };
    refused(client.list(room, &options).await, "OTHER_INCARNATION");
    let mut tail = client.tail(room, From::Cursor(cursor));
    let event = timeout(LIMIT, tail.next())
        .await
        .expect("in time")
        .expect("an end");
    refused(event, "OTHER_INCARNATION");
}

/// All conversations of a tenant and no other come once each, in pages that go on through any node.
async fn listed(cluster: &Cluster) {
    let client = client(cluster);
    let mut expected = std::collections::BTreeSet::new();
    for n in 0..30 {
        let room = format!("tenants/many/conversations/r{n}");
        client
            .append(&room, Message::text("ann", "x"))
            .await
            .unwrap();
        expected.insert(room);
    }
    client
        .delete_conversation("tenants/many/conversations/r7", "")
        .await
        .unwrap();
    expected.remove("tenants/many/conversations/r7");
    let (mut found, mut token, mut node) = (Vec::new(), String::new(), 0);
    loop {
        let at = client_of(cluster, node % cluster.nodes().len());
        let page = at
            .list_conversations("many", 7, &token, &Level::Linearizable)
            .await;
        let (page, next) = page.unwrap();
        assert!(page.len() <= 7);
        found.extend(page.into_iter().map(|room| room.name));
        (token, node) = (next, node + 1);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(
        found.into_iter().collect::<std::collections::BTreeSet<_>>(),
        expected
    );
}
