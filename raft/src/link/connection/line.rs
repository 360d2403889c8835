//! One connection from dialing to its end: it is opened, looked at, and listened to.

use std::sync::{Arc, Weak};

use futures::Stream;
use model::limits;
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;
use crate::link::FORMAT;
use crate::link::hello::Proof;
use crate::link::outbox::Outbox;
use crate::link::rtt::PING_INTERVAL;
use crate::link::vitals::Vitals;

/// One connection, from dialing to its end; `Ok` when the last handle is gone.
pub(super) async fn connect_once(link: &Weak<Connection>) -> Result<(), tonic::Status> {
    let Some((pace, queued)) = link.upgrade().map(|shared| {
        let pace = std::mem::take(&mut *shared.pace.lock());
        (pace, shared.queued.clone())
    }) else {
        return Ok(());
    };
    let outbox = Arc::new(Outbox::over(pace, queued));
    let _closed = CloseOnDrop(outbox.clone(), link.clone());
    let Some(line) = Line::open(link, outbox).await? else {
        return Ok(());
    };
    line.serve(link).await
}

pub(super) fn silent() -> tonic::Status {
    tonic::Status::deadline_exceeded("the other node is silent")
}

fn elsewhere() -> tonic::Status {
    tonic::Status::unavailable("the other node is looked for elsewhere")
}

/// A connection that the other has answered.
struct Line {
    answers: tonic::Streaming<wire::Frames>,
    vitals: Vitals,
    /// Changes when the other is looked for elsewhere.
    moved: watch::Receiver<()>,
    /// Whether the other has shown that it is the one.
    proof: Proof,
    outbox: Arc<Outbox>,
    /// The outbox, until the link goes up with it.
    fresh: Option<Arc<Outbox>>,
    next_ping: Instant,
}

impl Line {
    /// Dials, and looks at who answers; `None` when the last handle is gone.
    async fn open(
        link: &Weak<Connection>,
        outbox: Arc<Outbox>,
    ) -> Result<Option<Line>, tonic::Status> {
        let Some(shared) = link.upgrade() else {
            return Ok(None);
        };
        let mut moved = shared.moved.subscribe();
        let limit = shared.begin();
        // The other answers this one with its first frame. It waits for the connection, so its
        // time says nothing about a round.
        let _ = outbox.put(shared.ping(false, false));
        let frames = batches(outbox.clone(), link.clone());
        let request = shared.hello.request_to(shared.node, frames);
        let mut client = PeerClient::new(shared.channel())
            .max_decoding_message_size(limits::FRAME_BYTES_MAX)
            .max_encoding_message_size(limits::FRAME_BYTES_MAX);
        let (vitals, door) = (shared.vitals.clone(), shared.doorkeeper.clone());
        let (member, view) = (shared.member.clone(), shared.view.clone());
        drop(shared);
        let opened = tokio::select! {
            biased;
            _ = moved.changed() => return Err(elsewhere()),
            opened = vitals.pulse().timeout(limit, client.link(request)) => opened,
        };
        let opened = opened.ok_or_else(silent)??;
        // Before anything that it says counts.
        let now = view.borrow().clone();
        let admitted = door.admit_answerer(&member, opened.metadata(), &now);
        let proof = admitted.await?;
        Ok(Some(Line {
            answers: opened.into_inner(),
            vitals,
            moved,
            proof,
            fresh: Some(outbox.clone()),
            outbox,
            next_ping: Instant::now() + PING_INTERVAL,
        }))
    }

    /// Takes answers and pings, until either end gives up; `Ok` when the last handle is gone.
    async fn serve(mut self, link: &Weak<Connection>) -> Result<(), tonic::Status> {
        loop {
            let Some(left) = link.upgrade().map(|shared| shared.silence_left()) else {
                return Ok(());
            };
            let wake = self.next_ping.min(Instant::now() + left);
            let answer = tokio::select! {
                biased;
                // The sender lives in the link.
                _ = self.moved.changed() => return Err(elsewhere()),
                answer = self.answers.message() => Some(answer?),
                () = tokio::time::sleep_until(wake) => None,
            };
            let Some(shared) = link.upgrade() else {
                return Ok(());
            };
            match answer {
                Some(Some(batch)) => self.take(&shared, batch)?,
                Some(None) => {
                    return Err(tonic::Status::unavailable("the other node closed the link"));
                }
                None if shared.silence_left().is_zero() => return Err(silent()),
                None if Instant::now() >= self.next_ping => {
                    self.next_ping = Instant::now() + PING_INTERVAL;
                    let up = self.fresh.is_none();
                    let _ = self.outbox.put(shared.ping(up, true));
                }
                None => {}
            }
        }
    }

    /// What came. It counts only once the other has proven to be the one.
    fn take(&mut self, shared: &Connection, batch: wire::Frames) -> Result<(), tonic::Status> {
        if batch.frames.len() > wire::FRAMES_MAX {
            return Err(tonic::Status::out_of_range(
                "too many frames in one message",
            ));
        }
        let now = self.vitals.pulse().now();
        *shared.heard.lock() = now;
        if self.proof == Proof::Later && shared.is_proven_by(&batch) {
            self.proof = Proof::Given;
        }
        if self.proof == Proof::Later {
            return Ok(());
        }
        *shared.answered.lock() = now;
        if let Some(out) = self.fresh.take() {
            shared.go_up(out);
        }
        shared.received(batch);
        Ok(())
    }
}

/// Ends what waits for a connection with it, so that who waits for room there learns of it.
struct CloseOnDrop(Arc<Outbox>, Weak<Connection>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        if let Some(shared) = self.1.upgrade() {
            *shared.pace.lock() = self.0.pace().again();
        }
    }
}

/// Takes what waits in an outbox, one message after the other.
fn batches(
    outbox: Arc<Outbox>,
    link: Weak<Connection>,
) -> impl Stream<Item = wire::Frames> + Send + 'static {
    futures::stream::unfold((outbox, link), |(outbox, link)| async move {
        let ping = || Some(link.upgrade()?.ping(true, false));
        let frames = outbox.take(ping).await?;
        let format = FORMAT;
        Some((wire::Frames { format, frames }, (outbox, link)))
    })
}
