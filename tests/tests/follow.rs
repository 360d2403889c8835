//! Many conversations over one stream, through nodes that have their replicas and through nodes that do not:
//! everything comes once and in order, and goes on behind a cursor when a node dies.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::collections::{BTreeMap, BTreeSet};

use client::{Client, Edit, Follow, Followed, Message, Rules};
use firebreak_tests::{LIMIT, client, client_of, cluster};
use tokio::time::timeout;

const ROOMS: usize = 60;

fn room(n: usize) -> String {
    format!("tenants/test/conversations/room-{n}")
}

/// What came of each room.
#[derive(Default)]
struct Came {
    bodies: BTreeMap<String, Vec<String>>,
    changed: BTreeSet<(String, String)>,
    settings: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

impl Came {
    /// Takes events in until `enough`.
    async fn until(&mut self, follow: &mut Follow, enough: impl Fn(&Came) -> bool) {
        let came = timeout(LIMIT, async {
            while !enough(self) {
                match follow.next().await.unwrap().unwrap() {
                    Followed::Message(message) => {
                        let (parent, seq) = message.name.split_once("/messages/").unwrap();
                        let bodies = self.bodies.entry(parent.to_owned()).or_default();
                        bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
                        assert_eq!(seq, bodies.len().to_string(), "{parent} in order");
                    }
                    Followed::Changed(message) => {
                        let body = String::from_utf8(message.body.to_vec()).unwrap();
                        self.changed.insert((message.name, body));
                    }
                    Followed::Settings(conversation) => {
                        self.settings.insert(conversation.name);
                    }
                    Followed::Deleted(parent) => {
                        self.bodies.remove(&parent);
                        self.deleted.insert(parent);
                    }
                    Followed::Trimmed { parent, min_seq } => panic!("{parent} before {min_seq}"),
                    Followed::CaughtUp => {}
                }
            }
        });
        came.await.expect("what was sent comes");
    }

    fn has(&self, rooms: impl Iterator<Item = usize>, count: usize) -> bool {
        let mut rooms = rooms;
        rooms.all(|n| {
            self.bodies
                .get(&room(n))
                .is_some_and(|all| all.len() >= count)
        })
    }
}

async fn say(client: &Client, n: usize, text: &str) {
    let said = client.append(&room(n), Message::text("ann", text)).await;
    said.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_conversations_come_over_one_stream_through_any_node() {
    // Six nodes with three replicas of each shard: half of what is followed lies elsewhere.
    let (_place, cluster) = cluster(2).await;
    let writer = client(&cluster);
    for n in 0..ROOMS {
        say(&writer, n, "one").await;
    }
    let reader = client_of(&cluster, 0);
    let mut follow = reader.follow("");
    follow.add_from((0..ROOMS).map(|n| (room(n), 1)));
    // One that does not exist yet.
    follow.add([room(ROOMS)]);
    let mut came = Came::default();
    came.until(&mut follow, |came| came.has(0..ROOMS, 1)).await;
    for n in 0..=ROOMS {
        say(&writer, n, "two").await;
    }
    writer
        .edit(&room(3), 1, Edit::text("one, edited"))
        .await
        .unwrap();
    let rules = Rules::default().attributes([("topic".into(), "fire".into())].into());
    writer.set_rules(&room(4), rules).await.unwrap();
    writer.delete_conversation(&room(5), "").await.unwrap();
    say(&writer, 5, "another life").await;
    let edited = (format!("{}/messages/1", room(3)), "one, edited".to_owned());
    came.until(&mut follow, |came| {
        let others = (0..ROOMS).filter(|n| *n != 5);
        came.has(others, 2)
            && came.has(ROOMS..=ROOMS, 1)
            && came.changed.contains(&edited)
            && came.settings.contains(&room(4))
            && came.deleted.contains(&room(5))
            && came.has(5..6, 1)
    })
    .await;
    assert_eq!(came.bodies[&room(5)], ["another life"]);
    // Elsewhere, behind the cursor, what came meanwhile comes and nothing else.
    let cursor = timeout(LIMIT, async {
        loop {
            if !follow.cursor().is_empty() {
                break follow.cursor().to_owned();
            }
            follow.next().await.unwrap().unwrap();
        }
    });
    let cursor = cursor.await.unwrap();
    drop(follow);
    for n in 0..ROOMS {
        say(&writer, n, "three").await;
    }
    let other = client_of(&cluster, 5);
    let mut follow = other.follow(&cursor);
    follow.add((0..=ROOMS).map(room));
    let three = |came: &Came, n: usize| {
        let all = came.bodies.get(&room(n));
        all.is_some_and(|all| all.last().is_some_and(|last| last == "three"))
    };
    came.until(&mut follow, |came| (0..ROOMS).all(|n| three(came, n)))
        .await;
    follow.remove([room(7)]);
    say(&writer, 8, "four").await;
    came.until(&mut follow, |came| came.has(8..9, 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_when_its_node_dies_and_loses_nothing() {
    let (_place, mut cluster) = cluster(1).await;
    let writer = client(&cluster);
    let reader = client(&cluster);
    let mut follow = reader.follow("");
    follow.add_from((0..ROOMS).map(|n| (room(n), 1)));
    let mut came = Came::default();
    for round in 1..=6 {
        for n in 0..ROOMS {
            say(&writer, n, &format!("round {round}")).await;
        }
        came.until(&mut follow, |came| came.has(0..ROOMS, round))
            .await;
        if round == 3 {
            cluster.kill(&[0]).unwrap();
        }
    }
    for n in 0..ROOMS {
        let expect: Vec<String> = (1..=6).map(|round| format!("round {round}")).collect();
        assert_eq!(came.bodies[&room(n)], expect);
    }
}
