use proptest::prelude::*;
use proto::v1::{LedRecord, StartedRecord};

use super::*;
use crate::recorder::tape::Memory;

fn led(at: u64) -> Record {
    Record {
        unix_ms: at,
        boot: 1,
        what: Some(What::Led(LedRecord {
            shard: 1,
            term: at,
            leader: 2,
            own: false,
        })),
        ..Record::default()
    }
}

fn head(at: u64) -> Record {
    Record {
        unix_ms: at,
        what: Some(What::Started(StartedRecord {
            version: "1".into(),
            node_id: 1,
            name: "seoul-1".into(),
        })),
        ..Record::default()
    }
}

/// Terms of the records that were noted, in their order.
fn terms(found: &Found) -> Vec<u64> {
    let records = found.records.iter();
    let terms = records.filter_map(|(_, record)| match &record.what {
        Some(What::Led(led)) => Some(led.term),
        _ => None,
    });
    terms.collect()
}

fn all(tape: &Memory) -> Found {
    read(tape, (0, u64::MAX), Position::default(), u64::MAX).unwrap()
}

#[test]
fn a_file_of_this_version_stays_readable() {
    let golden = include_bytes!("golden/v1.frec");
    let mut bytes = MAGIC.to_vec();
    frame(&head(1_796_000_000_000), &mut bytes);
    frame(&led(1_796_000_000_123), &mut bytes);
    if std::env::var_os("FIREBREAK_WRITE_GOLDEN").is_some() {
        let path = "src/recorder/golden/v1.frec";
        std::fs::write(path, &bytes).unwrap();
    }
    let segment = Segment::read(golden);
    let records: Vec<Record> = segment.records.into_iter().map(|(_, r)| r).collect();
    assert_eq!(records, [head(1_796_000_000_000), led(1_796_000_000_123)]);
    assert_eq!(segment.torn_bytes, 0);
    assert_eq!(bytes, golden, "what is written now is what is written then");
}

#[test]
fn a_file_of_another_version_is_no_record_and_is_counted() {
    let mut bytes = b"FBREC\x02\0\0".to_vec();
    frame(&led(1), &mut bytes);
    let segment = Segment::read(&bytes);
    assert!(segment.records.is_empty());
    assert_eq!(segment.torn_bytes, bytes.len() as u64);
}

#[test]
fn each_start_and_each_failed_write_begins_a_new_file_with_its_head() {
    let tape = Arc::new(Memory::default());
    let mut ring = Ring::new(tape.clone(), 1 << 20);
    ring.append(&[head(1)], &[led(1)]).unwrap();
    ring.append(&[head(2)], &[led(2)]).unwrap();
    let mut again = Ring::new(tape.clone(), 1 << 20);
    again.append(&[head(3)], &[led(3)]).unwrap();
    let found = all(&tape);
    assert_eq!(terms(&found), [1, 2, 3]);
    assert_eq!(found.records.len(), 5, "two files, each with a head");
    assert_eq!(tape.segments().unwrap().len(), 2);
}

#[test]
fn a_time_is_found_and_pages_go_on_where_they_ended() {
    let tape = Arc::new(Memory::default());
    let mut ring = Ring::new(tape.clone(), 1 << 20);
    for at in 1..=100 {
        ring.append(&[], &[led(at)]).unwrap();
    }
    let of = |from, to| terms(&read(&*tape, (from, to), Position::default(), u64::MAX).unwrap());
    assert_eq!(of(10, 12), [10, 11, 12]);
    assert_eq!(of(101, 200), Vec::<u64>::new());
    let later = read(&*tape, (50, 60), Position::default(), u64::MAX).unwrap();
    assert_eq!(later.head, [led(49)], "who led before");
    let (mut seen, mut after) = (Vec::new(), Position::default());
    loop {
        let page = read(&*tape, (1, 100), after, 100).unwrap();
        seen.extend(terms(&page));
        after = page.records.last().unwrap().0;
        after = after.to_string().parse().unwrap();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (1..=100).collect::<Vec<u64>>());
    assert!("1-2".parse::<Position>().is_err());
}

#[test]
fn agreed_time_counts_where_it_is_known() {
    let mut record = led(1_000);
    (record.ahead_ms, record.agreed) = (-400, true);
    assert_eq!(at_ms(&record), 600);
    record.agreed = false;
    assert_eq!(at_ms(&record), 1_000);
}

proptest! {
    /// Whatever is cut off the ends of files, what is left of each is a prefix of what was written to it.
    #[test]
    fn a_prefix_of_what_was_noted_survives_any_cut(
        batches in prop::collection::vec(1..20u64, 1..30),
        cuts in prop::collection::vec((0..64u64, 0..5_000usize), 0..6),
        flips in prop::collection::vec((0..64u64, 0..5_000usize), 0..2),
    ) {
        let tape = Arc::new(Memory::default());
        let mut at = 0;
        let mut written: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (n, batch) in batches.iter().enumerate() {
            // Every few batches the process starts again.
            let mut ring = Ring::new(tape.clone(), 1 << 20);
            for _ in 0..=n % 3 {
                let records: Vec<Record> = (0..*batch).map(|_| { at += 1; led(at) }).collect();
                ring.append(&[head(at)], &records).unwrap();
                let last = *tape.segments().unwrap().keys().next_back().unwrap();
                written.entry(last).or_default().extend(at - batch + 1..=at);
            }
        }
        let numbers: Vec<u64> = written.keys().copied().collect();
        let pick = |n: u64| numbers[usize::try_from(n).unwrap() % numbers.len()];
        for (segment, bytes) in &cuts {
            tape.cut(pick(*segment), *bytes);
        }
        for (segment, byte) in &flips {
            let number = pick(*segment);
            let mut bytes = tape.read(number, usize::MAX).unwrap();
            if let Some(byte) = bytes.get_mut(*byte) {
                *byte ^= 4;
            }
            tape.remove(number).unwrap();
            tape.append(number, &bytes).unwrap();
        }
        for (number, noted) in &written {
            let bytes = tape.read(*number, usize::MAX).unwrap();
            let segment = Segment::read(&bytes);
            let found = Found {
                records: segment.records.into_iter().map(|(offset, record)| {
                    (Position { segment: *number, offset }, record)
                }).collect(),
                ..Found::default()
            };
            let seen = terms(&found);
            prop_assert_eq!(&noted[..seen.len()], &seen[..]);
            let whole = cuts.is_empty() && flips.is_empty();
            prop_assert!(!whole || seen.len() == noted.len());
        }
    }

    #[test]
    fn the_ring_keeps_its_bound_and_the_newest(count in 1..400u64, bytes_max in 2_000..20_000u64) {
        let tape = Arc::new(Memory::default());
        let mut ring = Ring::new(tape.clone(), bytes_max);
        for at in 1..=count {
            ring.append(&[head(at)], &[led(at)]).unwrap();
            let has: u64 = tape.segments().unwrap().values().sum();
            prop_assert!(has <= bytes_max, "{} of {}", has, bytes_max);
        }
        let seen = terms(&all(&tape));
        let expect: Vec<u64> = (count + 1 - seen.len() as u64..=count).collect();
        prop_assert_eq!(seen, expect);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = MAGIC.to_vec();
        file.extend(&bytes);
        for bytes in [bytes, file] {
            let segment = Segment::read(&bytes);
            prop_assert!(segment.torn_bytes <= bytes.len() as u64);
        }
    }
}
