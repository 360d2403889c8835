//! One AppendStream that keeps its share of messages unanswered: everything that can be sent goes
//! into one frame, everything that has come is taken before the next is sent.

use std::time::Duration;

use futures::FutureExt as _;
use proto::net::Channel;
use proto::v1;
use proto::v1::append_result::Outcome;
use proto::v1::messages_client::MessagesClient;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::super::pace::Pace;
use super::{CALL_LIMIT, Course, Job, Tally};

/// Items of a frame.
const FRAME_ITEMS: usize = 256;

/// One stream, until the course is over and everything is answered.
pub async fn run(
    channel: Channel,
    job: &Job,
    worker: usize,
    workers: usize,
    course: &Course,
) -> Tally {
    let share = (job.concurrency / workers).max(1);
    let (frames, outgoing) = unbounded_channel();
    let mut sender = Sender {
        job,
        worker,
        workers,
        pace: job.pace(workers, worker),
        intended: vec![Duration::ZERO; share],
        free: (0..share).rev().collect(),
        sent: 0,
        frames,
    };
    let mut tally = Tally::new();
    sender.send(course);
    let mut client =
        MessagesClient::new(channel).max_decoding_message_size(model::limits::FRAME_BYTES_MAX);
    let answers = match client
        .append_stream(UnboundedReceiverStream::new(outgoing))
        .await
    {
        Ok(answers) => answers.into_inner(),
        Err(e) => {
            tally.failed(|| format!("the stream did not open: {}", e.message()));
            return tally;
        }
    };
    if let Err(why) = pump(&mut sender, answers, course, &mut tally).await {
        tally.failed(|| why);
    }
    tally.failed += sender.unanswered() as u64;
    tally
}

async fn pump(
    sender: &mut Sender<'_>,
    mut answers: Streaming<v1::AppendStreamResponse>,
    course: &Course,
    tally: &mut Tally,
) -> Result<(), String> {
    let give_up = course.began + course.end + CALL_LIMIT;
    loop {
        sender.send(course);
        if sender.unanswered() == 0 && sender.done(course) {
            return Ok(());
        }
        let wake = sender.wake(course).map_or(give_up, |at| at.min(give_up));
        tokio::select! {
            answer = answers.message() => {
                sender.take(answer, course, tally)?;
                // Whatever else has come already goes with it.
                while let Some(answer) = answers.message().now_or_never() {
                    sender.take(answer, course, tally)?;
                }
            }
            () = tokio::time::sleep_until(wake) => {
                if wake == give_up {
                    return Err(format!("{} messages without an answer", sender.unanswered()));
                }
            }
        }
    }
}

struct Sender<'a> {
    job: &'a Job,
    worker: usize,
    workers: usize,
    pace: Option<Pace>,
    /// By slot, which is also the correlation id: when the message in it was meant to be sent.
    intended: Vec<Duration>,
    free: Vec<usize>,
    sent: u64,
    frames: UnboundedSender<v1::AppendStreamRequest>,
}

impl Sender<'_> {
    fn unanswered(&self) -> usize {
        self.intended.len() - self.free.len()
    }

    /// Whether nothing more will be sent.
    fn done(&self, course: &Course) -> bool {
        course.over() || self.pace.as_ref().is_some_and(|p| p.next() >= course.end)
    }

    /// When there will be something to send although nothing is answered.
    fn wake(&self, course: &Course) -> Option<tokio::time::Instant> {
        let pace = self
            .pace
            .as_ref()
            .filter(|_| !self.free.is_empty() && !self.done(course))?;
        Some(course.began + pace.next())
    }

    /// Sends all that may be sent now.
    fn send(&mut self, course: &Course) {
        let now = course.began.elapsed();
        if now >= course.end {
            return;
        }
        let mut items = Vec::with_capacity(self.free.len().min(FRAME_ITEMS));
        while !self.free.is_empty() {
            let due = match &mut self.pace {
                None => Some(now),
                Some(pace) => pace.take_due(now),
            };
            let (Some(intended), Some(slot)) = (due, due.and_then(|_| self.free.pop())) else {
                break;
            };
            self.intended[slot] = intended;
            items.push(v1::AppendItem {
                correlation_id: slot as u64,
                parent: self.job.parent(self.worker, self.workers, self.sent),
                message: Some(self.job.message(self.worker, self.sent)),
                ..v1::AppendItem::default()
            });
            self.sent += 1;
            if items.len() == FRAME_ITEMS {
                let items = std::mem::take(&mut items);
                // A closed stream shows itself where answers are read.
                let _ = self.frames.send(v1::AppendStreamRequest { items });
            }
        }
        if !items.is_empty() {
            let _ = self.frames.send(v1::AppendStreamRequest { items });
        }
    }

    fn take(
        &mut self,
        answer: Result<Option<v1::AppendStreamResponse>, tonic::Status>,
        course: &Course,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let answer = answer
            .map_err(|e| format!("the stream broke: {:?}: {}", e.code(), e.message()))?
            .ok_or_else(|| "the node closed the stream".to_owned())?;
        for result in answer.results {
            let slot = usize::try_from(result.correlation_id).unwrap_or(usize::MAX);
            let intended = *self
                .intended
                .get(slot)
                .ok_or_else(|| format!("an answer to {slot}, which was never sent"))?;
            self.free.push(slot);
            match result.outcome {
                Some(Outcome::Appended(_)) => tally.answered(course, intended, 1),
                Some(Outcome::Error(e)) => tally.failed(|| format!("{}: {}", e.reason, e.message)),
                None => tally.failed(|| "an answer without an outcome".to_owned()),
            }
        }
        if self.free.len() > self.intended.len() {
            return Err("a message was answered twice".to_owned());
        }
        Ok(())
    }
}
