//! Flow control, as HTTP/2's: a call's body may be so far ahead of its reader and no further, and so
//! may all bodies of a connection together. What was read is credited in halves of a window, so that
//! most calls, which are small, cost no frame for it. Bodies go in pieces of a frame's size, so that
//! those of one connection take turns.

use std::collections::BTreeMap;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::net::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

use super::{Part, send_now};
use crate::net::stream::Io;

/// The largest piece of a body, as HTTP/2's frames have it unless told otherwise.
const PIECE_BYTES: usize = 16 * 1024;
const STREAM_WINDOW: usize = STREAM_WINDOW_BYTES as usize;
const CONNECTION_WINDOW: usize = CONNECTION_WINDOW_BYTES as usize;

/// A connection's end and the windows of what goes over it.
pub(super) struct Flow {
    io: Io,
    windows: Mutex<Windows>,
}

struct Windows {
    /// What may be sent of all calls together, bytes.
    connection: usize,
    /// What may be sent of calls that have sent some.
    calls: BTreeMap<u64, usize>,
    /// Who waits for either.
    waiting: Vec<Waker>,
    /// What was read here and is not credited yet.
    read: usize,
}

impl Flow {
    pub(super) fn new(io: Io) -> Flow {
        Flow {
            io,
            windows: Mutex::new(Windows {
                connection: CONNECTION_WINDOW,
                calls: BTreeMap::new(),
                waiting: Vec::new(),
                read: 0,
            }),
        }
    }

    pub(super) fn io(&self) -> &Io {
        &self.io
    }

    /// Sends data of a call; waits for its windows.
    pub(super) async fn send_data(&self, call: u64, mut data: Bytes) -> io::Result<()> {
        loop {
            let taken = std::future::poll_fn(|context| self.take(call, data.len(), context)).await;
            let piece = data.split_to(taken);
            super::send(&self.io, call, Part::Data(piece)).await?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    fn take(&self, call: u64, bytes: usize, context: &mut Context<'_>) -> Poll<usize> {
        let mut windows = self.windows.lock();
        let Windows {
            connection,
            calls,
            waiting,
            ..
        } = &mut *windows;
        let window = calls.entry(call).or_insert(STREAM_WINDOW);
        let taken = bytes.min(PIECE_BYTES).min(*window).min(*connection);
        if taken == 0 && bytes > 0 {
            waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        *window -= taken;
        *connection -= taken;
        Poll::Ready(taken)
    }

    /// The other side has read so much of a call, or with 0 of all of them.
    pub(super) fn credited(&self, call: u64, bytes: usize) {
        let mut windows = self.windows.lock();
        match call {
            0 => windows.connection += bytes,
            call => {
                // Of one that is over there is nothing to send.
                if let Some(window) = windows.calls.get_mut(&call) {
                    *window += bytes;
                }
            }
        }
        let waiting = std::mem::take(&mut windows.waiting);
        drop(windows);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Nothing more is sent of a call.
    pub(super) fn sent(&self, call: u64) {
        self.windows.lock().calls.remove(&call);
    }

    /// So much was read here, or will never be: the connection's window is wide again.
    pub(super) fn read(&self, bytes: usize) {
        let mut windows = self.windows.lock();
        windows.read += bytes;
        if windows.read < CONNECTION_WINDOW / 2 {
            return;
        }
        let read = std::mem::take(&mut windows.read);
        drop(windows);
        send_now(&self.io, 0, Part::Window(read));
    }
}

/// How much of one call was read and is not credited yet.
#[derive(Default)]
pub(super) struct CallRead(usize);

impl CallRead {
    pub(super) fn add(&mut self, flow: &Flow, call: u64, bytes: usize) {
        flow.read(bytes);
        self.0 += bytes;
        if self.0 >= STREAM_WINDOW / 2 {
            let read = std::mem::take(&mut self.0);
            send_now(flow.io(), call, Part::Window(read));
        }
    }
}
