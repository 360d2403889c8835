//! Callers with one call outstanding each: AppendMessage, BatchAppendMessages, ListMessages.

use anyhow::Context as _;
use proto::net::Channel;
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tonic::{Request, Status};

use super::{CALL_LIMIT, Course, Job, PAGE, Path, Tally};

/// One caller, until the course is over.
pub async fn run(
    channel: Channel,
    job: &Job,
    worker: usize,
    workers: usize,
    course: &Course,
) -> Tally {
    let mut tally = Tally::new();
    let mut client =
        MessagesClient::new(channel).max_decoding_message_size(model::limits::FRAME_BYTES_MAX);
    let mut pace = job.pace(workers, worker);
    let mut turn = 0;
    while !course.over() {
        let intended = match &mut pace {
            None => course.began.elapsed(),
            Some(pace) => {
                let at = pace.take();
                if at >= course.end {
                    break;
                }
                tokio::time::sleep_until(course.began + at).await;
                at
            }
        };
        match call(&mut client, job, worker, workers, turn).await {
            Ok(messages) => tally.answered(course, intended, messages),
            Err(status) => {
                tally.failed(|| format!("{:?}: {}", status.code(), status.message()));
                // A node that refuses at once must not turn this into a busy loop.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        turn += 1;
    }
    tally
}

async fn call(
    client: &mut MessagesClient<Channel>,
    job: &Job,
    worker: usize,
    workers: usize,
    turn: u64,
) -> Result<u64, Status> {
    let parent = job.parent(worker, workers, turn);
    match job.path {
        Path::List => {
            let page = v1::ListMessagesRequest {
                parent,
                page_size: PAGE,
                descending: true,
                ..v1::ListMessagesRequest::default()
            };
            let found = client
                .list_messages(limited(page))
                .await?
                .into_inner()
                .messages
                .len();
            if i32::try_from(found) != Ok(PAGE) {
                return Err(Status::data_loss(format!(
                    "{found} messages on a page of {PAGE}"
                )));
            }
            Ok(1)
        }
        Path::Batch => {
            batch(client, parent, job, worker, turn, job.batch).await?;
            Ok(job.batch as u64)
        }
        Path::Unary | Path::Stream => {
            let request = v1::AppendMessageRequest {
                parent,
                message: Some(job.message(worker, turn)),
                ..v1::AppendMessageRequest::default()
            };
            client.append_message(limited(request)).await?;
            Ok(1)
        }
    }
}

async fn batch(
    client: &mut MessagesClient<Channel>,
    parent: String,
    job: &Job,
    worker: usize,
    turn: u64,
    messages: usize,
) -> Result<(), Status> {
    let first = turn * messages as u64;
    let request = v1::BatchAppendMessagesRequest {
        parent,
        messages: (first..first + messages as u64)
            .map(|n| job.message(worker, n))
            .collect(),
        precondition: None,
    };
    client
        .batch_append_messages(limited(request))
        .await
        .map(drop)
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

/// Fills this worker's share of the conversations that list reads.
pub async fn fill(
    channel: Channel,
    job: &Job,
    worker: usize,
    workers: usize,
) -> anyhow::Result<()> {
    const MESSAGES: usize = 2 * PAGE as usize;
    // A batch has a bound in bytes, too.
    let per_call = (model::limits::BATCH_BYTES_MAX / 2 / job.size.max(1)).clamp(1, MESSAGES);
    let mut client = MessagesClient::new(channel);
    let mut turn = 0;
    for number in (worker..job.conversations).step_by(workers) {
        for _ in 0..MESSAGES.div_ceil(per_call) {
            let parent = format!("tenants/bench/conversations/list-{number}");
            batch(&mut client, parent, job, worker, turn, per_call)
                .await
                .context("cannot fill the conversations to be listed")?;
            turn += 1;
        }
    }
    Ok(())
}
