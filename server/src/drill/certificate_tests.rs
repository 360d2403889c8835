use proptest::prelude::*;

use super::super::sign::Key;
use super::*;

/// Written by the first version that wrote certificates; every later one reads it.
const GOLDEN: &str = include_str!("golden/certificate.json");

fn key() -> Key {
    Key::of(&[7; KEY_BYTES]).unwrap()
}

fn kept(file: &str, bytes: &[u8]) -> Kept {
    Kept {
        file: file.to_owned(),
        digest: hex(blake3::hash(bytes).as_bytes()),
    }
}

fn body() -> Body {
    Body {
        drill: "2026-12-01-dc-silent-seoul-3f2a".to_owned(),
        cluster_id: "7f3a9c52b1d04e6f".to_owned(),
        scenario: "dc-silent".to_owned(),
        target: "seoul".to_owned(),
        hypothesis: "With seoul silent for 10 s, no call fails. 통과 \"quoted\"".to_owned(),
        end: End::Passed,
        why: "every goal was met".to_owned(),
        began_ms: 1_796_000_600_000,
        ended_ms: 1_796_000_641_400,
        layout_digest: "c1a5e2".repeat(10) + "c1a5",
        approvals: vec![Approval {
            who: "jiwoo.han".to_owned(),
            at_ms: 1_796_000_000_000,
        }],
        gap_ms: 912,
        calls: 46_000,
        failed: 0,
        lost: 0,
        duplicated: 0,
        held: ["D", "O", "E"].map(str::to_owned).to_vec(),
        broken: Vec::new(),
        files: vec![
            kept("paper.json", b"{}"),
            kept("plan.toml", b"format = 1\n"),
        ],
    }
}

fn signed(body: Body) -> Certificate {
    let signature = key().sign(&body.digest().unwrap());
    Certificate::of(body, &signature, &key().public()).unwrap()
}

fn files(name: &str) -> Option<Vec<u8>> {
    match name {
        "paper.json" => Some(b"{}".to_vec()),
        "plan.toml" => Some(b"format = 1\n".to_vec()),
        _ => None,
    }
}

#[test]
fn the_first_certificate_is_read_for_ever() {
    let read = Certificate::read(GOLDEN.as_bytes(), Some(&hex(&key().public()))).unwrap();
    assert_eq!(read.body, body());
    assert_eq!(signed(body()).text().unwrap(), GOLDEN);
    assert_eq!(read.check(files), []);
}

#[test]
fn what_was_changed_is_named() {
    let check = |change: fn(&mut Certificate), expect: Fault| {
        let mut certificate = signed(body());
        change(&mut certificate);
        let text = certificate.text().unwrap();
        assert_eq!(Certificate::read(text.as_bytes(), None), Err(expect));
    };
    check(|one| one.body.failed = 1, Fault::Body);
    check(|one| one.body.approvals[0].who.push('x'), Fault::Body);
    check(|one| one.digest = hex(&[3; KEY_BYTES]), Fault::Digest);
    check(|one| one.signature = hex(&[3; 64]), Fault::Signature);
    check(
        |one| one.public_key = hex(&[3; KEY_BYTES]),
        Fault::Signature,
    );
}

#[test]
fn what_somebody_else_signed_is_refused_where_the_key_is_known() {
    let other = Key::of(&[8; KEY_BYTES]).unwrap();
    let signature = other.sign(&body().digest().unwrap());
    let forged = Certificate::of(body(), &signature, &other.public()).unwrap();
    let text = forged.text().unwrap();
    assert!(Certificate::read(text.as_bytes(), None).is_ok());
    let known = hex(&key().public());
    assert_eq!(
        Certificate::read(text.as_bytes(), Some(&known)),
        Err(Fault::OtherKey(hex(&other.public())))
    );
}

#[test]
fn what_is_no_certificate_is_refused_with_what_would_be_right() {
    let check = |text: &str, part: &str| {
        let why = Certificate::read(text.as_bytes(), None)
            .unwrap_err()
            .to_string();
        assert!(why.contains(part), "{text}: {why}");
    };
    check("certificate", "is not JSON");
    check("{}", "firebreak drill certify");
    check(
        &GOLDEN.replace("\"format\":1,\"kind\"", "\"format\":2,\"kind\""),
        "another format",
    );
    check(&GOLDEN.replace("\"lost\":0,", ""), "cannot be read");
    check(
        &GOLDEN.replace(",\"failed\"", ", \"failed\""),
        "byte by byte",
    );
}

#[test]
fn a_changed_and_a_missing_file_are_named() {
    let certificate = signed(body());
    let changed = |name: &str| match name {
        "paper.json" => Some(b"{ }".to_vec()),
        _ => None,
    };
    assert_eq!(
        certificate.check(changed),
        [
            Fault::File("paper.json".to_owned()),
            Fault::Missing("plan.toml".to_owned())
        ]
    );
}

#[test]
fn bytes_are_written_as_small_hex_and_nothing_else_is_read() {
    assert_eq!(hex(&[0, 10, 255]), "000aff");
    assert_eq!(unhex("000aff"), Some(vec![0, 10, 255]));
    for wrong in ["0", "0A", "0g", "é"] {
        assert_eq!(unhex(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_changed_byte_of_the_certificate_is_found(at in 0..GOLDEN.len(), to in any::<u8>()) {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert!(Certificate::read(&bytes, None).is_err());
    }

    #[test]
    fn any_byte_too_many_or_too_few_is_found(at in 0..=GOLDEN.len(), byte in any::<u8>()) {
        let mut more = GOLDEN.as_bytes().to_vec();
        more.insert(at, byte);
        prop_assert!(Certificate::read(&more, None).is_err());
        prop_assert!(Certificate::read(&GOLDEN.as_bytes()[..at], None).is_err() || at == GOLDEN.len());
    }

    #[test]
    fn any_changed_byte_of_a_file_is_found(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        by in 1..=255_u8,
    ) {
        let mut body = body();
        body.files = vec![kept("ledger.jsonl", &bytes)];
        let certificate = signed(body);
        prop_assert_eq!(certificate.check(|_| Some(bytes.clone())), []);
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= by;
        let found = certificate.check(|_| Some(changed.clone()));
        prop_assert_eq!(found, [Fault::File("ledger.jsonl".to_owned())]);
    }

    #[test]
    fn what_was_signed_is_read_back(why in ".{0,60}", gap_ms in any::<u64>(), lost in any::<u64>()) {
        let body = Body { why, gap_ms, lost, ..body() };
        let text = signed(body.clone()).text().unwrap();
        prop_assert_eq!(Certificate::read(text.as_bytes(), None).unwrap().body, body);
    }
}
