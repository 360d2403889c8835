//! A connection between two hosts, as both kernels know it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::task::Waker;

use bytes::BytesMut;

use super::HostId;
use crate::net::direct::Frame;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::net) struct End {
    pub(super) conn: u64,
    pub(super) side: usize,
}

impl End {
    pub(super) fn other(self) -> End {
        End {
            conn: self.conn,
            side: 1 - self.side,
        }
    }
}

pub(super) enum Payload {
    Bytes(BytesMut),
    Frame(Frame),
    Fin,
}

impl Payload {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Frame(frame) => frame.bytes(),
            Payload::Fin => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is on its way.
    Opening,
    Open,
    /// The program has let go of it.
    Closed,
    /// Its host knows nothing of it any more.
    Gone,
}

pub(super) struct Side {
    pub(super) host: HostId,
    pub(super) stage: Stage,
    /// Why reads and writes fail.
    pub(super) error: Option<ErrorKind>,
    // What this side sends.
    pub(super) on_line: VecDeque<Payload>,
    pub(super) last_due_us: u64,
    /// When the last segment was sent: more bytes of the same instant join it.
    pub(super) last_sent_us: u64,
    pub(super) stalled: VecDeque<Payload>,
    pub(super) stalled_since_us: u64,
    pub(super) attempt: u32,
    /// Sent and not known to be read.
    pub(super) outstanding: usize,
    /// Read by the other side, whose word of it does not come through.
    pub(super) unheard: usize,
    pub(super) fin_sent: bool,
    /// Several calls share a connection.
    pub(super) writers: Vec<Waker>,
    // What this side receives.
    pub(super) received: VecDeque<Payload>,
    pub(super) ended: bool,
    pub(super) reader: Option<Waker>,
}

impl Side {
    pub(super) fn new(host: HostId, stage: Stage) -> Side {
        Side {
            host,
            stage,
            error: None,
            on_line: VecDeque::new(),
            last_due_us: 0,
            last_sent_us: u64::MAX,
            stalled: VecDeque::new(),
            stalled_since_us: 0,
            attempt: 0,
            outstanding: 0,
            unheard: 0,
            fin_sent: false,
            writers: Vec::new(),
            received: VecDeque::new(),
            ended: false,
            reader: None,
        }
    }

    pub(super) fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writers.drain(..).for_each(Waker::wake);
    }

    pub(super) fn fail(&mut self, kind: ErrorKind) {
        self.error.get_or_insert(kind);
        self.on_line.clear();
        self.stalled.clear();
        self.wake();
    }
}

pub(super) struct Conn {
    pub(super) sides: [Side; 2],
    pub(super) port: u16,
}
