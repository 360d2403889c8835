//! Carries the bytes of real connections over simulated ones. It knows nothing of what they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};

use super::notes::Notes;
use super::{Piece, Wire};
use crate::net::{Io, Net, host_and_port, now_us};

/// A node that owes bytes for so long does not answer, as whoever waits for them sees.
const SILENT: Duration = Duration::from_secs(1);
/// Between two looks whether one does.
const ANSWER_CHECK_EVERY: Duration = Duration::from_millis(100);
/// Bytes that are taken at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// Carries all connections as long as they come. `names` has the nodes' addresses.
pub async fn live(
    net: Net,
    wires: Arc<Mutex<mpsc::UnboundedReceiver<Wire>>>,
    notes: Notes,
    names: BTreeMap<String, String>,
) {
    let mut wires = wires.lock().await;
    while let Some(wire) = wires.recv().await {
        let named = names.iter().find(|(_, address)| **address == wire.to);
        let node = named.map_or_else(String::new, |(name, _)| name.clone());
        tokio::spawn(carry(net.clone(), wire, node, notes.clone()));
    }
}

/// One connection's whole life.
async fn carry(net: Net, wire: Wire, node: String, notes: Notes) {
    let began_us = now_us();
    let Ok((host, port)) = host_and_port(&wire.to) else {
        return;
    };
    let opened = tokio::select! {
        opened = net.connect(host, port) => opened,
        () = wire.outgoing.closed() => return,
        () = silent(&notes, &node, began_us) => return,
    };
    let Ok(io) = opened else {
        notes.silent(&node, began_us);
        // Whoever called may be gone.
        let _ = wire.outgoing.send(Piece::Reset).await;
        return;
    };
    pump(io, wire, (&node, &notes)).await;
}

/// Notes that a node does not answer, and never completes.
async fn silent(notes: &Notes, node: &str, since_us: u64) {
    sleep(SILENT).await;
    notes.silent(node, since_us);
    std::future::pending().await
}

async fn pump(io: Io, wire: Wire, (node, notes): (&str, &Notes)) {
    let (reader, writer) = split(io);
    let (owing, owed) = tokio::sync::watch::channel(None);
    let Wire {
        incoming, outgoing, ..
    } = wire;
    let up = up(incoming, writer, &owing);
    let down = down(reader, outgoing, &owing);
    let both = async {
        tokio::join!(up, down);
    };
    let watched = async {
        loop {
            sleep(ANSWER_CHECK_EVERY).await;
            let since: Option<Instant> = *owed.borrow();
            if let Some(since) = since
                && since.elapsed() > SILENT
            {
                let ago = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                notes.silent(node, now_us().saturating_sub(ago));
                owing.send_replace(None);
            }
        }
    };
    tokio::select! {
        () = both => {}
        () = watched => {}
    }
}

/// Since when a node owes bytes.
type Owing = tokio::sync::watch::Sender<Option<Instant>>;

async fn up(mut incoming: mpsc::Receiver<Bytes>, mut to: impl AsyncWrite + Unpin, owing: &Owing) {
    while let Some(bytes) = incoming.recv().await {
        owing.send_if_modified(|since| since.replace(since.unwrap_or_else(Instant::now)).is_none());
        if to.write_all(&bytes).await.is_err() {
            // The other direction hears why.
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn down(mut from: impl AsyncRead + Unpin, outgoing: mpsc::Sender<Piece>, owing: &Owing) {
    loop {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        let read = tokio::select! {
            read = from.read_buf(&mut bytes) => read,
            () = outgoing.closed() => return,
        };
        let piece = match read {
            Ok(0) => return,
            Ok(_) => Piece::Bytes(bytes.freeze()),
            Err(_) => Piece::Reset,
        };
        owing.send_replace(None);
        let ends = piece == Piece::Reset;
        if outgoing.send(piece).await.is_err() || ends {
            return;
        }
    }
}
