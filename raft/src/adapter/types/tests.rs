//! Records of the log are read and written as ever.

use std::collections::{BTreeMap, BTreeSet};

use openraft::Membership;
use store::Record;

use super::*;

/// What was written once must be read for ever: change a line here only together with a
/// format that readers can tell apart.
const GOLDEN: &str = include_str!("../../../tests/golden/records.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let position = Position {
        term: 3,
        index: 700,
    };
    let membership = Membership::new(
        vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
        BTreeMap::from([1, 2, 3, 4, 5].map(|id| (id, Member::default()))),
    )
    .unwrap();
    let commands = model::command::Entry {
        format: model::command::FORMAT_WITHOUT_PASSED,
        time_ms: 1_700_000_000_000,
        commands: vec![Bytes::from_static(b"command")],
        passed_ms: 0,
    };
    let payload = |payload| {
        encode_entry(&Entry {
            log_id: log_id(position),
            payload,
        })
        .data
    };
    let stored = StoredMembership::new(Some(log_id(position)), membership.clone());
    let member = |id| {
        (
            id,
            Member {
                incarnation: id - 1,
            },
        )
    };
    let nodes = BTreeMap::from([1, 2, 300].map(member));
    let begun_anew = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
    let begun_anew = payload(EntryPayload::Membership(begun_anew));
    vec![
        ("entry blank", payload(EntryPayload::Blank).to_vec()),
        (
            "entry commands",
            payload(EntryPayload::Normal(Payload::encode(
                &commands,
                Traces::new(),
            )))
            .to_vec(),
        ),
        (
            "entry membership",
            payload(EntryPayload::Membership(membership)).to_vec(),
        ),
        ("stored membership", encode_membership(&stored).to_vec()),
        ("entry membership with incarnations", begun_anew.to_vec()),
        (
            "vote",
            vote_to_wire(&Vote::new_committed(3, 2)).encode_to_vec(),
        ),
        (
            "committed",
            log_id_to_wire(&log_id(position)).encode_to_vec(),
        ),
    ]
}

#[test]
fn golden_records_are_written_and_read_as_ever() {
    let written: String = samples()
        .iter()
        .map(|(name, bytes)| format!("{name}: {}\n", hex(bytes)))
        .collect();
    assert_eq!(
        written, GOLDEN,
        "a record of the log or the hard state has another encoding"
    );
    for (name, bytes) in samples() {
        let bytes = Bytes::from(bytes);
        if name.starts_with("entry") {
            let position = Position {
                term: 3,
                index: 700,
            };
            let entry = decode_entry(Record {
                position,
                data: bytes.clone(),
            })
            .unwrap();
            assert_eq!(encode_entry(&entry).data, bytes, "{name}");
        }
        if name == "stored membership" {
            assert_eq!(
                encode_membership(&decode_membership(&bytes).unwrap()),
                bytes
            );
        }
    }
}

#[test]
fn malformed_records_are_errors() {
    let position = Position { term: 1, index: 1 };
    for data in [&b""[..], b"\x07", b"\x02\xff\xff"] {
        let record = Record {
            position,
            data: Bytes::copy_from_slice(data),
        };
        assert!(decode_entry(record).is_err(), "{data:?}");
    }
    assert!(decode_membership(&Bytes::from_static(b"\xff")).is_err());
    assert!(append_from_wire(proto::node::AppendEntries::default()).is_err());
}
