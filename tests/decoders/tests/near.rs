//! The corpus, and what is near it: each file as it is, and with a few bytes changed, cut, doubled and
//! exchanged for another file's, always the same ones.
//!
//! `FUZZ_SEEDS_WRITE=1 cargo test --release -p firebreak-decoders` writes the seeds that are missing.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs;
use std::path::{Path, PathBuf};

use firebreak_decoders::{TARGETS, entry_of, run};
use model::cluster::{Change, ChangeBody, JoinToken, Leave, SetDraining};
use model::command::{Append, Command, Create, NewMessage};
use prost::Message as _;
use proto::node as wire;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Changed copies of each file.
const COPIES: usize = 2_000;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

fn files(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("{target} has no corpus: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort_unstable();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn changed(random: &mut SmallRng, file: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] = random.random(),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.random()),
            4 => {
                let from = random.random_range(0..=other.len());
                let to = random.random_range(from..=other.len()).min(from + 64);
                let piece = &other[from..to];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let end = (at + 9).min(bytes.len());
                let huge = [0xff; 9];
                bytes.splice(at..end, huge);
            }
        }
    }
    bytes
}

#[test]
fn whatever_comes_is_taken_or_refused() {
    seeds();
    for target in TARGETS {
        let files = files(target.name);
        let mut random = SmallRng::seed_from_u64(7);
        for (n, file) in files.iter().enumerate() {
            run(target.name, file);
            let other = &files[(n + 1) % files.len()];
            for _ in 0..COPIES {
                run(target.name, &changed(&mut random, file, other));
            }
        }
    }
}

#[test]
fn every_decoder_has_a_fuzzing_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    for target in TARGETS {
        let file = folder.join(format!("{}.rs", target.name));
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            text.contains(&format!("\"{}\"", target.name)),
            "{}",
            file.display()
        );
    }
}

/// Each with its length in two bytes before it.
fn listed(all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in all {
        let length = u16::try_from(one.len()).unwrap();
        bytes.extend(length.to_le_bytes());
        bytes.extend(one);
    }
    bytes
}

fn append(id: &str) -> Command {
    Command::append(Append {
        conversation: "tenants/t/conversations/c".into(),
        messages: vec![NewMessage {
            sender: "ann".into(),
            client_message_id: id.to_owned().into(),
            kind: "text".into(),
            body: "hello".into(),
            ..NewMessage::default()
        }],
        ..Append::default()
    })
}

/// Writes what is missing, where that is asked for.
fn seeds() {
    if std::env::var_os("FUZZ_SEEDS_WRITE").is_none() {
        return;
    }
    let create = Command::create(Create {
        conversation: "tenants/t/conversations/c".into(),
        request_id: "r1".into(),
        ..Create::default()
    });
    let change = |body| Change::from(body).encode_to_vec();
    let token = change(ChangeBody::JoinToken(JoinToken {
        token: "fb-1".into(),
        expires_ms: 5,
    }));
    let drain = change(ChangeBody::Draining(SetDraining {
        node: "n2".into(),
        dc: String::new(),
        draining: true,
    }));
    let leave = change(ChangeBody::Leave(Leave {
        node: 3,
        stays: false,
    }));
    let frames = wire::Frames {
        format: 1,
        frames: vec![wire::Frame {
            id: 1,
            shard: 1,
            body: Some(wire::frame::Body::Ping(wire::Ping::default())),
            ..wire::Frame::default()
        }],
    };
    let secret = raft::Secret::from(bytes::Bytes::from_static(&[7; 32]));
    let (node, to) = (model::id::NodeId(1), model::id::NodeId(2));
    let proof = raft::prove(&secret, "c1", (node, 3, 4), to).unwrap();
    let name = model::id::ConversationName::parse("tenants/t/conversations/c").unwrap();
    let session = model::session::Token::of_conversation(&name.to_string(), 9);
    let cursor = server::cursor::Cursor::whole();
    let configuration = "name = \"a\"\nlisten = \"127.0.0.1:1\"\ndata_dir = \"d\"\n\n[locality]\nregion = \"r\"\ndc = \"d\"\n\n[raft]\nheartbeat_ms = 100\n";
    let written: Vec<(&str, Vec<u8>)> = vec![
        ("frames", frames.encode_to_vec()),
        ("proof", proof.into_bytes()),
        ("names", name.to_string().into_bytes()),
        ("session-token", session.unwrap().encode().into_bytes()),
        ("page-token", b"AAAA".to_vec()),
        ("feed-cursor", cursor.encode("t").into_bytes()),
        ("follow-cursor", b"AAAA".to_vec()),
        ("entry", entry_of(&append("m1"))),
        (
            "commands",
            listed(&[
                create.encode_to_vec(),
                append("m1").encode_to_vec(),
                append("m1").encode_to_vec(),
            ]),
        ),
        ("changes", listed(&[token, drain, leave])),
        ("configuration", configuration.as_bytes().to_vec()),
        ("drill-plan", b"format = 1\nname = \"x\"\n".to_vec()),
        ("drill-certificate", b"{\"format\":1}".to_vec()),
        ("recorder", vec![1, 0, 0, 0]),
        ("certificate", vec![0x30, 0x82, 1, 0]),
        (
            "traceparent",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_vec(),
        ),
    ];
    for (target, bytes) in written {
        let folder = corpus(target);
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("seed");
        if !file.exists() {
            fs::write(file, bytes).unwrap();
        }
    }
}
