use std::io;

use model::id::NodeId;
use raft::Verdict;

use super::tape::Memory;
use super::*;

const UNIX_MS: u64 = 1_796_000_000_000;

struct Fixed;

impl Clock for Fixed {
    fn unix_ms(&self) -> u64 {
        UNIX_MS
    }
}

/// At once, or never.
struct Inline {
    runs: bool,
}

impl Background for Inline {
    fn run(&self, job: Box<dyn FnOnce() + Send>) {
        if self.runs {
            job();
        }
    }
}

/// A disk that takes nothing.
struct Full;

impl Tape for Full {
    fn segments(&self) -> io::Result<std::collections::BTreeMap<u64, u64>> {
        Ok(std::collections::BTreeMap::new())
    }

    fn append(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn read(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn remove(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn recorder(tape: Arc<dyn Tape>, runs: bool, bytes_max: u64) -> Recorder {
    Recorder::new(Arc::new(Fixed), Arc::new(Inline { runs }), tape, bytes_max)
}

fn up(peer: u64) -> Event {
    Event::Raft(Raft::Verdict {
        peer: NodeId(peer),
        verdict: Verdict::Up,
        round: Duration::from_millis(1),
        limit: Duration::from_millis(300),
    })
}

async fn all(recorder: &Recorder) -> Vec<Record> {
    let found = recorder.read((0, u64::MAX), Position::default(), u64::MAX);
    let found = found.await.unwrap();
    found
        .records
        .into_iter()
        .map(|(_, record)| record)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_noted_is_read_back_with_when_it_was_noted() {
    let recorder = recorder(Arc::new(Memory::default()), true, 1 << 20);
    recorder.note(&Event::Started {
        boot: 7,
        version: "1",
    });
    recorder.named(3, "seoul-1");
    tokio::time::advance(Duration::from_millis(1_200)).await;
    recorder.note(&up(2));
    tokio::time::advance(Duration::from_millis(300)).await;
    recorder.flush().await;
    let records = all(&recorder).await;
    let last = records.last().unwrap();
    assert!(matches!(&last.what, Some(What::Verdict(v)) if v.peer == 2 && v.verdict == "up"));
    assert_eq!(
        (last.unix_ms, last.run_us, last.boot),
        (UNIX_MS - 300, 1_200_000, 7)
    );
    let first = records.first().unwrap();
    assert!(matches!(&first.what, Some(What::Started(s)) if s.name == "seoul-1"));
    assert_eq!(recorder.dropped(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_are_added_up_by_the_second_and_quiet_seconds_are_none() {
    let recorder = recorder(Arc::new(Memory::default()), true, 1 << 20);
    let running = tokio::spawn(recorder.clone().run());
    tokio::task::yield_now().await;
    for _ in 0..50 {
        recorder.note(&Event::Asked {
            shard: Some(ShardId(1)),
            took: Duration::from_millis(4),
            failed: None,
        });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    recorder.flush().await;
    let records = all(&recorder).await;
    let [record] = &records[..] else {
        panic!("one second had something: {records:?}");
    };
    assert!(matches!(&record.what, Some(What::Second(s)) if s.asked[0].answered == 50));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_costs_records_and_nothing_else() {
    let recorder = recorder(Arc::new(Full), true, 1 << 20);
    (0..5).for_each(|peer| recorder.note(&up(peer)));
    recorder.flush().await;
    assert_eq!(recorder.dropped(), 5);
    recorder.note(&up(9));
    recorder.flush().await;
    assert_eq!(
        recorder.dropped(),
        6,
        "each is counted once, and it goes on"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_runs_is_lost_and_the_next_one_is_tried() {
    let recorder = recorder(Arc::new(Memory::default()), false, 1 << 20);
    recorder.note(&up(1));
    recorder.flush().await;
    recorder.note(&up(2));
    recorder.flush().await;
    assert_eq!(recorder.dropped(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
    let recorder = recorder(Arc::new(Memory::default()), true, 64 << 20);
    let more = 10;
    for _ in 0..NOTES_MAX + more {
        recorder.note(&up(1));
    }
    assert_eq!(recorder.dropped(), more as u64);
    recorder.flush().await;
    assert_eq!(all(&recorder).await.len(), NOTES_MAX);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_the_disk_has_little_room_or_the_recorder_is_off() {
    let tape = Arc::new(Memory::default());
    let recorder_on = recorder(tape.clone(), true, 1 << 20);
    let room = |room| Event::Room { room, free: 1 };
    recorder_on.note(&room(Room::Tight));
    recorder_on.flush().await;
    assert!(tape.segments().unwrap().is_empty());
    recorder_on.note(&room(Room::Enough));
    recorder_on.note(&up(1));
    recorder_on.flush().await;
    assert_eq!(all(&recorder_on).await.len(), 2);
    let off = recorder(Arc::new(Memory::default()), true, 0);
    off.note(&up(1));
    off.flush().await;
    assert!(off.is_off() && all(&off).await.is_empty());
}

#[test]
fn what_a_second_costs_is_bounded_by_what_was_used_in_it() {
    let now = Instant::now();
    let bytes = |led: u32, asked: u32| {
        let mut second = Second::new(now);
        for shard in 1..=led {
            let took = Duration::from_micros(4_321);
            second.decided(ShardId(shard), (40, 9_000), took, true, now);
            let at = now + Duration::from_millis(951);
            second.decided(ShardId(shard), (40, 9_000), took, true, at);
        }
        for shard in 1..=asked {
            second.asked(Some(ShardId(shard)), Duration::from_micros(5_432), None);
        }
        let record = second.record(200, Duration::from_millis(2), Duration::from_millis(1));
        record.map_or(0, |record| prost::Message::encoded_len(&record))
    };
    assert_eq!(bytes(0, 0), 0);
    // Thirteen shards over nine nodes, and a thousand.
    assert!(bytes(2, 13) <= 400, "{}", bytes(2, 13));
    assert!(bytes(112, 1_000) <= 26_000, "{}", bytes(112, 1_000));
}
