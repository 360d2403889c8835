//! The load: callers that speak the public API as it is on the wire. They share the machine with
//! the servers they measure, so they are few, keep no task per message and make bodies once.

mod stream;
mod unary;

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use hdrhistogram::Histogram;
use proto::net::Channel;
use proto::v1;
use rand::RngCore as _;
use tokio::time::Instant;

use super::pace::Pace;
use super::report;

/// How long a call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Messages of a page, for list.
pub const PAGE: i32 = 50;
/// Random bytes that bodies are cut from: more than any compressor looks back.
const POOL_BYTES: usize = 4 * 1024 * 1024;

/// Which calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Path {
    /// AppendMessage, one message a call.
    Unary,
    /// BatchAppendMessages, several messages for one conversation a call.
    Batch,
    /// AppendStream, pipelined.
    Stream,
    /// ListMessages, LINEARIZABLE, a page of 50 from the end.
    List,
}

impl Path {
    /// As in rows and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Path::Unary => "unary",
            Path::Batch => "batch",
            Path::Stream => "stream",
            Path::List => "list",
        }
    }
}

/// One run's load.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which calls.
    pub path: Path,
    /// Bytes of each body.
    pub size: usize,
    /// Conversations that take turns.
    pub conversations: usize,
    /// Callers, or unanswered messages for stream.
    pub concurrency: usize,
    /// Messages (pages) a second; `None` is a closed loop.
    pub rate: Option<f64>,
    /// Messages of a batch.
    pub batch: usize,
    /// Streams.
    pub streams: usize,
    /// Makes the client message ids of this run its own.
    pub tag: String,
    /// What bodies are cut from.
    pub pool: Bytes,
}

impl Job {
    /// A closed-loop load with everything but path and size at its default.
    pub fn new(path: Path, size: usize) -> Job {
        let mut random = rand::rng();
        let mut pool = vec![0; POOL_BYTES.max(size)];
        random.fill_bytes(&mut pool);
        // Text, which compresses a little, as messages do.
        for byte in &mut pool {
            *byte = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789."
                [usize::from(*byte & 63)];
        }
        Job {
            path,
            size,
            conversations: 1_000,
            concurrency: if path == Path::Stream { 1_024 } else { 64 },
            rate: None,
            batch: 100,
            streams: 3,
            tag: format!("{:08x}", random.next_u32()),
            pool: Bytes::from(pool),
        }
    }

    fn parent(&self, worker: usize, workers: usize, turn: u64) -> String {
        // Each worker has conversations of its own while there are enough.
        let own = (self.conversations / workers).max(1) as u64;
        let number = (worker as u64 + workers as u64 * (turn % own)) % self.conversations as u64;
        let kind = if self.path == Path::List {
            "list"
        } else {
            "load"
        };
        format!("tenants/bench/conversations/{kind}-{number}")
    }

    fn message(&self, worker: usize, n: u64) -> v1::Message {
        let span = (self.pool.len() - self.size) as u64 + 1;
        // A step that shares no factor with the pool walks all over it.
        let from = usize::try_from((n * 7_919 + worker as u64 * 1_048_583) % span).unwrap_or(0);
        v1::Message {
            sender: "bench".to_owned(),
            client_message_id: format!("{}-{worker}-{n}", self.tag),
            r#type: "text".to_owned(),
            body: self.pool.slice(from..from + self.size),
            ..v1::Message::default()
        }
    }

    fn pace(&self, workers: usize, worker: usize) -> Option<Pace> {
        self.rate.map(|rate| Pace::new(rate, workers, worker))
    }
}

/// The course of a run: what is answered between `warm` and `end` counts.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// The beginning of time.
    pub began: Instant,
    /// When counting begins.
    pub warm: Duration,
    /// When it ends, and nothing more is sent.
    pub end: Duration,
}

impl Course {
    /// Begins now.
    pub fn new(warmup: Duration, duration: Duration) -> Course {
        Course {
            began: Instant::now(),
            warm: warmup,
            end: warmup + duration,
        }
    }

    fn over(&self) -> bool {
        self.began.elapsed() >= self.end
    }
}

/// What a worker saw.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latency of each call that counts, µs.
    pub latencies: Histogram<u64>,
    /// Messages (pages) that count.
    pub counted: u64,
    /// Calls or items that failed, over the whole run.
    pub failed: u64,
    /// The first failure, in words.
    pub first_error: Option<String>,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            latencies: report::histogram(),
            counted: 0,
            failed: 0,
            first_error: None,
        }
    }

    fn answered(&mut self, course: &Course, intended: Duration, messages: u64) {
        self.answered_at(course.began.elapsed(), course, intended, messages);
    }

    fn answered_at(&mut self, now: Duration, course: &Course, intended: Duration, messages: u64) {
        if now < course.warm || now >= course.end {
            return;
        }
        self.counted += messages;
        let us = u64::try_from(now.saturating_sub(intended).as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(us.max(1));
    }

    fn failed(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        if self.first_error.is_none() {
            self.first_error = Some(why());
        }
    }

    fn add(&mut self, other: &Tally) {
        // Same bounds, so this cannot fail.
        let _ = self.latencies.add(&other.latencies);
        self.counted += other.counted;
        self.failed += other.failed;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }
}

/// Runs a load to its end over channels to the nodes.
pub async fn run(channels: &[Channel], job: &Job, course: Course) -> Tally {
    let workers = if job.path == Path::Stream {
        job.streams
    } else {
        job.concurrency
    };
    let workers = workers.clamp(1, job.concurrency.max(1));
    let tasks = (0..workers).map(|worker| {
        let channel = channels[worker % channels.len()].clone();
        let job = job.clone();
        tokio::spawn(async move {
            match job.path {
                Path::Stream => stream::run(channel, &job, worker, workers, &course).await,
                Path::Unary | Path::Batch | Path::List => {
                    unary::run(channel, &job, worker, workers, &course).await
                }
            }
        })
    });
    let mut sum = Tally::new();
    for tally in join_all(tasks).await {
        match tally {
            Ok(tally) => sum.add(&tally),
            Err(e) => sum.failed(|| format!("a worker ended early: {e}")),
        }
    }
    sum
}

/// Fills the conversations that list reads with at least two pages each.
///
/// # Errors
/// What the first node that refused said.
pub async fn fill(channels: &[Channel], job: &Job) -> anyhow::Result<()> {
    const CALLERS: usize = 16;
    let tasks = (0..CALLERS).map(|worker| {
        let channel = channels[worker % channels.len()].clone();
        let job = job.clone();
        tokio::spawn(async move { unary::fill(channel, &job, worker, CALLERS).await })
    });
    for done in join_all(tasks).await {
        done??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn workers_together_visit_every_conversation_and_share_none() {
        let mut job = Job::new(Path::Unary, 16);
        job.conversations = 12;
        let visited = |worker| -> BTreeSet<String> {
            (0..50).map(|turn| job.parent(worker, 3, turn)).collect()
        };
        let sets = [visited(0), visited(1), visited(2)];
        assert!(sets.iter().all(|s| s.len() == 4));
        assert_eq!(sets.iter().flatten().collect::<BTreeSet<_>>().len(), 12);
    }

    #[test]
    fn fewer_conversations_than_workers_are_shared() {
        let mut job = Job::new(Path::Unary, 16);
        job.conversations = 2;
        let names: BTreeSet<_> = (0..8).map(|worker| job.parent(worker, 8, 3)).collect();
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn ids_are_unique_and_bodies_have_the_size_asked_for() {
        let job = Job::new(Path::Stream, 256);
        let mut ids = BTreeSet::new();
        for worker in 0..3 {
            for n in 0..1_000 {
                let message = job.message(worker, n);
                assert_eq!(message.body.len(), 256);
                assert!(ids.insert(message.client_message_id));
            }
        }
    }

    #[test]
    fn only_answers_between_warm_up_and_end_count_from_their_intended_time() {
        let course = Course::new(Duration::from_secs(1), Duration::from_secs(1));
        let mut tally = Tally::new();
        for ms in [999, 1_500, 2_000] {
            let (now, intended) = (Duration::from_millis(ms), Duration::from_millis(500));
            tally.answered_at(now, &course, intended, 1);
        }
        assert_eq!(tally.counted, 1);
        let latency = tally.latencies.max();
        assert!((999_000..1_001_000).contains(&latency), "{latency}");
    }
}
