//! The real side: a port of this machine for each simulated node, on a thread with a runtime of its own.

use std::net::{Ipv4Addr, TcpListener as Bound};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use firebreak_sim::train::{Piece, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::super::Failure;

/// Pieces that wait in each direction; then whoever sends waits.
const PIECES_MAX: usize = 64;
/// Bytes of a piece.
const PIECE_BYTES: usize = 16 * 1024;
/// How long nothing is accepted once descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The ports, taken and not yet open: who connects waits.
pub(super) struct Ports {
    bound: Vec<Bound>,
    /// host:port of each.
    pub addresses: Vec<String>,
}

/// Whether connections are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Open,
    Over,
}

impl Ports {
    /// Takes as many of this machine, `first` and those behind it; 0 lets the system choose.
    pub(super) fn take(first: u16, count: usize) -> Result<Ports, Failure> {
        let mut ports = Ports {
            bound: Vec::new(),
            addresses: Vec::new(),
        };
        for at in 0..count {
            let port = match first {
                0 => Some(0),
                first => u16::try_from(at).ok().and_then(|at| first.checked_add(at)),
            };
            let refused = |why: String| {
                Failure::Usage(format!(
                    "--port {first}: {count} ports from there are needed, and {why}; 0 takes free ones"
                ))
            };
            let port = port.ok_or_else(|| refused("there are not so many".to_owned()))?;
            let bound = Bound::bind((Ipv4Addr::LOCALHOST, port)).and_then(|bound| {
                bound.set_nonblocking(true)?;
                Ok((bound.local_addr()?, bound))
            });
            let (address, bound) =
                bound.map_err(|error| refused(format!("{port} cannot be had: {error}")))?;
            ports.addresses.push(address.to_string());
            ports.bound.push(bound);
        }
        Ok(ports)
    }

    /// Serves them on a thread, as the state says, until that is over or its sender is gone.
    pub(super) fn serve(
        self,
        wires: mpsc::UnboundedSender<Wire>,
        mut state: watch::Receiver<State>,
    ) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("the ports: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let Ports { bound, addresses } = self;
        let serving = move || {
            runtime.block_on(async move {
                if state.wait_for(|state| *state == State::Open).await.is_err() {
                    return;
                }
                for (bound, address) in bound.into_iter().zip(addresses) {
                    // Only a runtime without its driver would refuse.
                    if let Ok(listener) = TcpListener::from_std(bound) {
                        tokio::spawn(accept(listener, address, wires.clone()));
                    }
                }
                // Gone is over, too. All connections end with this runtime.
                let _ = state.wait_for(|state| *state == State::Over).await;
            });
        };
        let thread = thread::Builder::new().name("ports".to_owned());
        thread.spawn(serving).map(drop).map_err(failed)
    }
}

async fn accept(listener: TcpListener, to: String, wires: mpsc::UnboundedSender<Wire>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(carry(stream, to.clone(), wires.clone()))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One connection's whole life.
async fn carry(stream: TcpStream, to: String, wires: mpsc::UnboundedSender<Wire>) {
    // Without it answers are late, and that is all.
    let _ = stream.set_nodelay(true);
    let (send_in, incoming) = mpsc::channel(PIECES_MAX);
    let (outgoing, receive_out) = mpsc::channel(PIECES_MAX);
    let wire = Wire {
        to,
        incoming,
        outgoing,
    };
    if wires.send(wire).is_err() {
        return;
    }
    let (mut reader, mut writer) = stream.into_split();
    let up = async {
        read(&mut reader, send_in).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = up => {}
        reset = write(&mut writer, receive_out) => {
            if reset && let Ok(stream) = reader.reunite(writer) {
                // Whoever called is to see that nobody is there.
                let _ = stream.set_zero_linger();
            }
        }
    }
}

async fn read(from: &mut OwnedReadHalf, to: mpsc::Sender<bytes::Bytes>) {
    loop {
        let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
        match from.read_buf(&mut bytes).await {
            Ok(1..) => {
                if to.send(bytes.freeze()).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return,
        }
    }
}

/// Whether it ends with a reset.
async fn write(to: &mut OwnedWriteHalf, mut from: mpsc::Receiver<Piece>) -> bool {
    while let Some(piece) = from.recv().await {
        match piece {
            Piece::Bytes(bytes) => {
                if to.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            Piece::Reset => return true,
        }
    }
    // Its other end has gone already, or hears of it now.
    let _ = to.shutdown().await;
    false
}
