//! Every decoder that faces the network or a disk, by name: what it is given may be refused, and must
//! not end the process. Where it is taken, it says the same again.
//!
//! `make fuzz` gives them what libFuzzer finds; a plain test gives them the corpus, and what is near it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a decoder that does not say the same again is what is looked for"
)]

use bytes::Bytes;
use model::cluster::{Change, ChangeBody, ClusterState, Node};
use model::command::{Command, Entry, Reply};
use model::id::{ConversationName, NodeId};
use model::shard::{Machine, Scope};
use prost::Message;
use server::Config;
use server::cursor::Cursor;
use server::drill::certificate::Certificate;
use server::follow::cursor::Position;
use server::recorder::ring::Segment;
use server::token::Token;

// Its state in ordered maps, which the model's own tests have.
use ::model;

#[allow(
    dead_code,
    missing_docs,
    reason = "shared with tests that use more of it"
)]
#[path = "../../../model/tests/support/mod.rs"]
mod support;

use support::Records;

/// A decoder.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Gives it something.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        run: frames,
    },
    Target {
        name: "proof",
        run: proof,
    },
    Target {
        name: "names",
        run: names,
    },
    Target {
        name: "session-token",
        run: session_token,
    },
    Target {
        name: "page-token",
        run: page_token,
    },
    Target {
        name: "feed-cursor",
        run: feed_cursor,
    },
    Target {
        name: "follow-cursor",
        run: follow_cursor,
    },
    Target {
        name: "entry",
        run: entry,
    },
    Target {
        name: "commands",
        run: commands,
    },
    Target {
        name: "changes",
        run: changes,
    },
    Target {
        name: "configuration",
        run: configuration,
    },
    Target {
        name: "drill-plan",
        run: drill_plan,
    },
    Target {
        name: "drill-certificate",
        run: drill_certificate,
    },
    Target {
        name: "recorder",
        run: recorder,
    },
    Target {
        name: "certificate",
        run: certificate,
    },
    Target {
        name: "traceparent",
        run: traceparent,
    },
];

/// Runs the decoder of a name.
///
/// # Panics
/// When there is none of that name, or the decoder does.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a decoder of this name").run)(data);
}

fn text(data: &[u8], run: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(data) {
        run(text);
    }
}

fn frames(data: &[u8]) {
    if let Ok(frames) = proto::node::Frames::decode(data) {
        let again = proto::node::Frames::decode(&*frames.encode_to_vec()).unwrap();
        assert_eq!(again.frames.len(), frames.frames.len());
    }
}

fn proof(data: &[u8]) {
    text(data, |text| {
        let secret = raft::Secret::from(Bytes::from_static(&[7; 32]));
        assert!(raft::proven(&secret, "c1", text).is_none_or(|node| node == NodeId(1)));
    });
}

fn names(data: &[u8]) {
    text(data, |text| {
        if let Ok(name) = ConversationName::parse(text) {
            assert_eq!(name.to_string(), text);
        }
    });
}

fn session_token(data: &[u8]) {
    text(data, |text| {
        if let Ok(token) = model::session::Token::decode(text) {
            let again = model::session::Token::decode(&token.encode()).unwrap();
            assert_eq!(again, token);
        }
    });
}

fn page_token(data: &[u8]) {
    let name = ConversationName::parse("tenants/t/conversations/c").unwrap();
    text(data, |text| {
        for cursor in [false, true] {
            if let Ok(token) = Token::decode(text, cursor, name.key()) {
                let again = Token::decode(&token.encode(), cursor, name.key()).unwrap();
                assert_eq!(again, token);
            }
        }
    });
}

fn feed_cursor(data: &[u8]) {
    text(data, |text| {
        if let Ok(cursor) = Cursor::decode(text, "t") {
            assert_eq!(Cursor::decode(&cursor.encode("t"), "t").unwrap(), cursor);
        }
    });
}

fn follow_cursor(data: &[u8]) {
    text(data, |text| {
        if let Ok(position) = Position::decode(text) {
            let again = Position::decode(&position.encode()).unwrap();
            assert_eq!(again.encode(), position.encode());
        }
    });
}

/// A shard with nothing in it.
fn machine(scope: Scope) -> Machine {
    Machine::new(scope, 0, 1_700_000_000_000)
}

fn entry(data: &[u8]) {
    let mut records = Records::default();
    let entry = Bytes::copy_from_slice(data);
    if let Ok(replies) = machine(Scope::Data(0..=u16::MAX)).apply(&mut records, &entry) {
        for reply in replies {
            Reply::decode(&*reply.encode_to_vec()).unwrap();
        }
    }
}

/// Several commands, one after the other on one state; each with its length in two bytes before it.
fn commands(mut data: &[u8]) {
    let (mut records, mut machine) = (Records::default(), machine(Scope::Data(0..=u16::MAX)));
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (command, rest) = rest.split_at(length);
        if Command::decode(command).is_ok() {
            let command = Bytes::copy_from_slice(command);
            let Ok(_) = machine.decide(&mut records, command);
        }
        data = rest;
    }
}

/// Several changes of a cluster of three nodes, as [`commands`] are.
fn changes(mut data: &[u8]) {
    let node = |id: u64| Node {
        id,
        name: format!("n{id}"),
        address: format!("n{id}:1"),
        disk_id: Bytes::from(vec![u8::try_from(id).unwrap_or(0); 16]),
        ..Node::default()
    };
    let mut state = ClusterState::default();
    let founding = ClusterState {
        cluster_id: "c1".to_owned(),
        token_hash: Bytes::from_static(&[1; 32]),
        nodes: (1..=3).map(node).collect(),
        meta_replicas: vec![1, 2, 3],
        ..ClusterState::default()
    };
    let found = Change::from(ChangeBody::Found(Box::new(founding)));
    model::cluster::decide_at(&mut state, &found, 1);
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (change, rest) = rest.split_at(length);
        if let Ok(change) = Change::decode(change) {
            let before = state.epoch;
            model::cluster::decide_at(&mut state, &change, 2);
            assert!(state.epoch >= before, "an epoch never goes back");
        }
        data = rest;
    }
    ClusterState::decode(&*state.encode_to_vec()).unwrap();
}

fn configuration(data: &[u8]) {
    text(data, |text| {
        if let Err(errors) = Config::parse(text, "node.toml") {
            assert!(!errors.problems.is_empty(), "refused without a reason");
        }
    });
}

fn drill_plan(data: &[u8]) {
    text(data, |text| drop(server::drill::check::read(text)));
}

fn drill_certificate(data: &[u8]) {
    drop(Certificate::read(data, None));
}

fn recorder(data: &[u8]) {
    drop(Segment::read(data));
}

fn certificate(data: &[u8]) {
    drop(proto::net::secure::Facts::of(&data.into()));
}

fn traceparent(data: &[u8]) {
    text(data, |text| {
        if let Some(context) = model::trace::Context::parse(text) {
            assert!(model::trace::Context::parse(&context.header()).is_some());
        }
    });
}

/// An entry with one command, for a corpus.
pub fn entry_of(command: &Command) -> Vec<u8> {
    let entry = Entry {
        format: model::command::FORMAT,
        time_ms: 1_700_000_000_000,
        commands: vec![command.encode_to_vec().into()],
        passed_ms: 0,
    };
    entry.encode_to_vec()
}
