//! What was erased is in no file of any node: real processes, and a search through all that they keep.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; it reads the files of the processes that it starts"
)]

use std::path::{Path, PathBuf};

use client::{Client, Edit, Message};
use firebreak_tests::{client, cluster};

const ROOM: &str = "tenants/test/conversations/secrets";
const GONE: &str = "tenants/test/conversations/gone";

/// Words that are nowhere but in what the test says, and that no compression makes shorter.
const APPENDED: &str = "kq7ZxPw3vTn9aGd2LmYb5RsJ";
const EDITED: &str = "Wc4hUe8oXf1pQi6jNzVtKyD0";
const REACTED: &str = "bS3mZr9wLk5xHq";
const DELETED: &str = "Jt2vCn7yRp4gXw8dFz6qMs1u";
const SENDER: &str = "uY5kNe0rTb7cWq3xPj";
const WORDS: [&str; 5] = [APPENDED, EDITED, REACTED, DELETED, SENDER];

fn files(of: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// The files below a directory that hold a word. One that is removed meanwhile holds nothing.
fn holding(of: &Path, word: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(of, &mut all);
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut parts = bytes.windows(word.len());
        parts.any(|part| part == word.as_bytes())
    };
    all.into_iter().filter(holds).collect()
}

async fn say(client: &Client) {
    let secret = Message::text(SENDER, format!("{APPENDED} {APPENDED}"));
    client.append(ROOM, secret).await.unwrap();
    client
        .append(ROOM, Message::text("ann", "harmless"))
        .await
        .unwrap();
    client.edit(ROOM, 1, Edit::text(EDITED)).await.unwrap();
    client
        .react(ROOM, 1, ("ben", REACTED, false), "")
        .await
        .unwrap();
    client
        .append(GONE, Message::text("ann", DELETED))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_in_no_file_of_any_node() {
    let (place, mut cluster) = cluster(1).await;
    let client = client(&cluster);
    say(&client).await;
    for word in WORDS {
        assert!(
            !holding(place.path(), word).is_empty(),
            "{word} was never there"
        );
    }
    client.redact(ROOM, 1, "erase").await.unwrap();
    client.delete_conversation(GONE, "delete").await.unwrap();
    let status = cluster.run(&[
        "erase",
        "status",
        "--wait",
        "120",
        "--target",
        &cluster.addresses().join(","),
    ]);
    let status = status.unwrap();
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(0), "{said}");
    for word in WORDS {
        assert_eq!(
            holding(place.path(), word),
            Vec::<PathBuf>::new(),
            "{word}: {said}"
        );
    }
    // What was not erased is there, also after all have started again.
    let harmless = client
        .get_message(ROOM, 2, &client::Level::Linearizable)
        .await;
    assert_eq!(&harmless.unwrap().body[..], b"harmless");
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    cluster.kill(&all).unwrap();
    for node in all {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(firebreak_tests::LIMIT).await.unwrap();
    let erased = client
        .get_message(ROOM, 1, &client::Level::Linearizable)
        .await;
    let erased = erased.unwrap();
    assert!(erased.redaction.is_some() && erased.body.is_empty() && erased.sender.is_empty());
    for word in WORDS {
        assert_eq!(holding(place.path(), word), Vec::<PathBuf>::new(), "{word}");
    }
}
