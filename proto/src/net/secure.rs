//! TLS on any network whose connections are bytes.
//!
//! ```text
//!  accepted ─► first byte ── 0x16: a handshake, which may bring a certificate ──► certified by it
//!                       └─── else: plain, while the mode lets it be             ──► not certified
//!
//!  dialled  ─► a handshake; whom this end meant must be who is certified
//!                       └─ optional: nobody there speaks TLS ─► once more, plainly
//! ```
//!
//! A cluster moves from `Off` to `Strict` through `Optional`, node by node, without an end of service:
//! an optional node takes both, tries TLS first, and goes on plainly where the other has none yet. So
//! `Optional` stops nobody who stands between two nodes; `Strict` does.

use std::future::Future;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::codegen::http::HeaderValue;
use tonic::service::Routes;
use tonic::transport::server::Connected;

use crate::PLAIN;

use super::connect::{Connects, dial_by};
use super::greet::{Greet, Greeted};
use super::serve::serve_greeting;
use super::{Channel, Dial, Dialer, Ending, Guard, Network, serve};

pub use certificate::{Certified, Facts, SCHEME, fingerprint};
pub use material::{Error, Material, Trust};
pub use stream::{Again, Secured};

mod certificate;
mod material;
mod pinned;
mod stream;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// Which connections are taken, and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With TLS, and without; others are reached with it where they speak it.
    Optional,
    /// With TLS only, both ways.
    Strict,
}

/// The certificates of a process, which may be exchanged while it runs. Clones share them: a
/// connection that begins takes those that are there then.
#[derive(Clone)]
pub struct Keys(Arc<RwLock<Arc<Material>>>);

impl Keys {
    /// With these to begin with.
    pub fn new(material: Material) -> Keys {
        Keys(Arc::new(RwLock::new(Arc::new(material))))
    }

    /// Those of now.
    pub fn now(&self) -> Arc<Material> {
        self.0.read().clone()
    }

    /// Exchanges them.
    pub fn exchange(&self, material: Material) {
        *self.0.write() = Arc::new(material);
    }
}

/// A network with TLS, or without.
#[derive(Clone)]
pub struct Secure<N> {
    below: N,
    tls: Tls,
}

#[derive(Clone)]
enum Tls {
    Off,
    On(Mode, Keys),
    /// Of a node that has no certificate yet: it only dials.
    Joining(Arc<Trust>),
}

impl<N> Secure<N> {
    /// `below`, as it is.
    pub fn off(below: N) -> Secure<N> {
        Secure {
            below,
            tls: Tls::Off,
        }
    }

    /// `below`, with TLS.
    pub fn new(below: N, mode: Mode, keys: Keys) -> Secure<N> {
        Secure {
            below,
            tls: Tls::On(mode, keys),
        }
    }

    /// `below`, with TLS, for a node that asks for its certificate: it trusts these, and serves nobody.
    pub fn joining(below: N, trust: Trust) -> Secure<N> {
        Secure {
            below,
            tls: Tls::Joining(Arc::new(trust)),
        }
    }
}

impl<N: Connects> Network for Secure<N> {
    type Io = N::Io;
    type Incoming = N::Incoming;

    async fn listen(&self, address: &str) -> io::Result<N::Incoming> {
        self.below.listen(address).await
    }

    fn dialer(&self) -> Dialer {
        match &self.tls {
            Tls::Off => self.below.dialer(),
            Tls::On(..) | Tls::Joining(_) => Arc::new(self.clone()),
        }
    }

    async fn serve(
        &self,
        incoming: N::Incoming,
        routes: Routes,
        stop: impl Future<Output = ()> + Send,
        ending: Ending,
        guard: Guard,
    ) {
        match &self.tls {
            Tls::Off | Tls::Joining(_) => {
                serve::serve(incoming, routes, stop, ending, guard).await;
            }
            Tls::On(mode, keys) => {
                let greet = Handshakes {
                    mode: *mode,
                    keys: keys.clone(),
                };
                serve_greeting(incoming, routes, stop, ending, guard, greet).await;
            }
        }
    }
}

impl<N: Connects> Dial for Secure<N> {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        self.dial_as(address, Whom::AnyNode)
    }

    fn dial_node(&self, address: &str, name: &str) -> io::Result<Channel> {
        self.dial_as(address, Whom::Node(name.to_owned()))
    }
}

impl<N: Connects> Secure<N> {
    fn dial_as(&self, address: &str, whom: Whom) -> io::Result<Channel> {
        let network = self.clone();
        dial_by(address, move |host, port| {
            let (network, whom) = (network.clone(), whom.clone());
            async move { network.open(host, port, whom).await }
        })
    }

    async fn open(self, host: String, port: u16, whom: Whom) -> io::Result<Secured<N::Io>> {
        let (config, or_plainly) = match &self.tls {
            Tls::Off => return Ok(Secured::Plain(self.below.connect(&host, port).await?)),
            Tls::On(mode, keys) => (keys.now().client.clone(), *mode == Mode::Optional),
            Tls::Joining(trust) => (trust.client.clone(), false),
        };
        let connector = TlsConnector::from(config);
        let io = open(&self.below, connector, (&host, port), or_plainly).await?;
        if let Secured::Tls(_) = &io {
            whom.is(io.certified()?)?;
        }
        Ok(io)
    }
}

/// Who may be at the other end of a connection that a node opens.
#[derive(Clone)]
enum Whom {
    AnyNode,
    Node(String),
}

impl Whom {
    fn is(&self, certified: Certified) -> io::Result<()> {
        let right = match (self, &certified) {
            (Whom::AnyNode, Certified::Node(_)) => true,
            (Whom::Node(meant), Certified::Node(name)) => meant == name,
            _ => false,
        };
        let meant = match self {
            Whom::AnyNode => "a node",
            Whom::Node(name) => name,
        };
        match right {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{certified} answers where {meant} should: its certificate is another's"),
            )),
        }
    }
}

/// Dials as a client, who knows no node by its name: the certificate must be for the host it dials.
#[derive(Clone)]
pub struct SecureDialer<N> {
    below: N,
    trust: Arc<RwLock<Arc<Trust>>>,
    /// Goes on without TLS where nobody speaks it.
    or_plainly: bool,
}

impl<N: Connects> SecureDialer<N> {
    /// Over `below`, with what is trusted.
    pub fn new(below: N, trust: Trust) -> SecureDialer<N> {
        SecureDialer {
            below,
            trust: Arc::new(RwLock::new(Arc::new(trust))),
            or_plainly: false,
        }
    }

    /// Exchanges what is trusted, for all clones: connections that are opened from now on take it.
    pub fn exchange(&self, trust: Trust) {
        *self.trust.write() = Arc::new(trust);
    }

    /// Goes on without TLS where the other end does not speak it, as whoever stands between may
    /// pretend: for the time in which a cluster goes from one to the other.
    #[must_use]
    pub fn or_plainly(self) -> SecureDialer<N> {
        SecureDialer {
            or_plainly: true,
            ..self
        }
    }

    async fn open(self, host: String, port: u16) -> io::Result<Secured<N::Io>> {
        let connector = TlsConnector::from(self.trust.read().client.clone());
        open(&self.below, connector, (&host, port), self.or_plainly).await
    }
}

impl<N: Connects> Dial for SecureDialer<N> {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        let dialer = self.clone();
        dial_by(address, move |host, port| dialer.clone().open(host, port))
    }
}

/// Opens a connection with TLS; once more without, if it may be and nobody there speaks it.
async fn open<N: Connects>(
    below: &N,
    connector: TlsConnector,
    (host, port): (&str, u16),
    or_plainly: bool,
) -> io::Result<Secured<N::Io>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let io = below.connect(host, port).await?;
    match connector.connect(name, io).await {
        Ok(io) => Ok(Secured::Tls(Box::new(io.into()))),
        Err(error) if or_plainly && speaks_no_tls(&error) => {
            Ok(Secured::Plain(below.connect(host, port).await?))
        }
        Err(error) => Err(explained(&error)),
    }
}

/// Whether a handshake failed because the other end does not know what that is.
fn speaks_no_tls(error: &io::Error) -> bool {
    match tls_error(error) {
        Some(rustls::Error::InvalidMessage(_)) => true,
        Some(_) => false,
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        ),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The same failure, with what is likely behind it.
fn explained(error: &io::Error) -> io::Error {
    let why = match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("the other end's certificate is not trusted: {why}")
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("the other end does not trust this one's certificate: {alert:?}")
        }
        _ if speaks_no_tls(error) => {
            format!("the other end does not speak TLS, or ended the connection: {error}")
        }
        _ => format!("the TLS handshake failed: {error}"),
    };
    io::Error::new(error.kind(), why)
}

/// How accepted connections begin.
#[derive(Clone)]
struct Handshakes {
    mode: Mode,
    keys: Keys,
}

impl<Io> Greet<Io> for Handshakes
where
    Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    type Io = Secured<Again<Io>>;

    async fn greet(&self, mut io: Io) -> io::Result<Greeted<Secured<Again<Io>>>> {
        let first = io.read_u8().await?;
        let io = Again::new(first, io);
        if first != HANDSHAKE {
            // Who speaks plainly to a strict node is told so, by an answer to each call.
            let certified = match self.mode {
                Mode::Optional => None,
                Mode::Strict => Some(HeaderValue::from_static(PLAIN)),
            };
            let io = Secured::Plain(io);
            return Ok(Greeted { io, certified });
        }
        let acceptor = TlsAcceptor::from(self.keys.now().server.clone());
        let io = Secured::Tls(Box::new(acceptor.accept(io).await?.into()));
        let certified = HeaderValue::from_str(&io.certified()?.to_string());
        let certified =
            certified.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Greeted {
            io,
            certified: Some(certified),
        })
    }
}

#[cfg(test)]
#[path = "secure/tests.rs"]
mod tests;
