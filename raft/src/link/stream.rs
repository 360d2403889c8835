//! One shard's stream of appends over a link.

use std::sync::Arc;

use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::mpsc;

use crate::link::connection::Connection;
use crate::link::frame;
use crate::link::outbox::{Closed, Outbox, Wait};

/// One shard's stream of appends over one connection; closes when dropped.
pub(crate) struct AppendStream {
    pub(super) shared: Arc<Connection>,
    pub(super) sender: AppendSender,
    pub(super) received: mpsc::UnboundedReceiver<wire::Frame>,
}

/// Sends on an [`AppendStream`] from another task.
#[derive(Clone)]
pub(crate) struct AppendSender {
    pub(super) out: Arc<Outbox>,
    pub(super) shard: u32,
    pub(super) id: u64,
}

impl AppendStream {
    pub(crate) fn sender(&self) -> AppendSender {
        self.sender.clone()
    }

    /// Whether what stood at a position is known to have arrived.
    pub(crate) fn has_arrived(&self, position: u64) -> bool {
        self.sender.out.has_arrived(position)
    }

    /// The next answer; `None` when the connection or the stream is gone.
    pub(crate) async fn next(&mut self) -> Option<wire::Frame> {
        self.received.recv().await
    }
}

impl AppendSender {
    /// Waits for room. Where they stand in what is sent.
    ///
    /// # Errors
    /// [`Closed`] when the connection is gone.
    pub(crate) async fn send(
        &self,
        append: wire::AppendEntries,
        wait: Wait,
    ) -> Result<u64, Closed> {
        let frame = frame::streamed(self.id, self.shard, Some(Body::Append(append)), false);
        self.out.put_entries(frame, wait).await
    }

    /// How large a piece of what can wait should be now, bytes.
    pub(crate) fn piece_bytes(&self) -> u64 {
        self.out.piece_bytes()
    }
}

impl Drop for AppendStream {
    fn drop(&mut self) {
        self.shared.current.lock().waiting.remove(&self.sender.id);
        // Best effort: a connection that is gone has closed the stream already.
        let AppendSender { out, shard, id } = &self.sender;
        let _ = out.put(frame::streamed(*id, *shard, None, true));
    }
}
