//! Connections in memory, which can be cut, silenced and refused per node.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::net::Channel;
use proto::net::{Dial, endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};

/// One way.
const LATENCY: Duration = Duration::from_millis(1);

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Normally.
    Up,
    /// Nothing passes and nothing is closed: a fire.
    Silent,
    /// Connections are reset and refused: a killed process.
    Down,
}

#[derive(Clone, Copy)]
struct State {
    link: Link,
    /// Connections of an older generation are cut.
    generation: u64,
}

struct Peer {
    accept: mpsc::UnboundedSender<DuplexStream>,
    state: watch::Sender<State>,
}

/// The network.
#[derive(Default)]
pub struct Net(Mutex<BTreeMap<String, Peer>>);

impl Net {
    pub fn new() -> Arc<Net> {
        Arc::default()
    }

    /// The connections that come in at `address`.
    pub fn listen(&self, address: &str) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (accept, accepted) = mpsc::unbounded_channel();
        let state = watch::channel(State {
            link: Link::Up,
            generation: 0,
        })
        .0;
        self.0
            .lock()
            .insert(address.to_owned(), Peer { accept, state });
        accepted
    }

    pub fn set(&self, address: &str, link: Link) {
        self.0.lock()[address]
            .state
            .send_modify(|state| state.link = link);
    }

    /// Resets every connection of a node.
    pub fn cut(&self, address: &str) {
        self.0.lock()[address]
            .state
            .send_modify(|state| state.generation += 1);
    }

    pub fn dialer(self: &Arc<Self>) -> Arc<dyn Dial> {
        Arc::new(Dialer(self.clone()))
    }

    async fn connect(&self, address: &str) -> io::Result<DuplexStream> {
        let mut state = match self.0.lock().get(address) {
            Some(peer) => peer.state.subscribe(),
            None => return Err(io::ErrorKind::ConnectionRefused.into()),
        };
        // A silent node answers no SYN.
        let passed = state.wait_for(|state| state.link != Link::Silent).await;
        if passed.map_err(io::Error::other)?.link == Link::Down {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, near_pump) = duplex(64 * 1024);
        let (far, far_pump) = duplex(64 * 1024);
        tokio::spawn(pump(near_pump, far_pump, state));
        let accept = self.0.lock()[address].accept.clone();
        accept
            .send(far)
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

async fn pump(near: DuplexStream, far: DuplexStream, state: watch::Receiver<State>) {
    let generation = state.borrow().generation;
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    let mut cut = state.clone();
    tokio::select! {
        biased;
        _ = cut.wait_for(|now| now.link == Link::Down || now.generation != generation) => {}
        _ = copy(near_read, far_write, state.clone()) => {}
        _ = copy(far_read, near_write, state.clone()) => {}
    }
}

async fn copy(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        tokio::time::sleep(LATENCY).await;
        state
            .wait_for(|state| state.link != Link::Silent)
            .await
            .map_err(io::Error::other)?;
        to.write_all(&buffer[..count]).await?;
    }
}

struct Dialer(Arc<Net>);

impl Dial for Dialer {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        let (net, target) = (self.0.clone(), address.to_owned());
        let connector = tower::service_fn(move |_| {
            let (net, target) = (net.clone(), target.clone());
            async move { net.connect(&target).await.map(hyper_util::rt::TokioIo::new) }
        });
        Ok(endpoint(address)?
            .connect_with_connector_lazy(connector)
            .into())
    }
}
