//! The simulated network, as seen from inside a host: [`proto::net::Network`] over the simulated
//! connections of `fabric`, with the whole HTTP/2 stack on them or without it (`direct`).

pub(crate) mod direct;
mod fabric;
pub mod field;
mod link;
mod stream;
mod witness;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::net::faulty::{Harm, Rule};
use proto::net::{Channel, Dial, Dialer, Ending, Guard, Network, endpoint};
use tonic::service::Routes;

use crate::plan::Tier;
use fabric::{Bend, HostId, Shared};
pub use field::Field;
pub use stream::{Incoming, Io};
use witness::Looking;
pub use witness::{Answered, Witness};

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

/// True time since the run began, microseconds, whatever a host's own clocks say. Whole
/// milliseconds while hosts run.
pub fn now_us() -> u64 {
    NOW_US.get()
}

/// The network of one host.
#[derive(Clone)]
pub struct Net {
    fabric: Shared,
    host: HostId,
    tier: Tier,
    /// Whose calls somebody looks at, if anybody does.
    looking: Option<Looking>,
}

impl Net {
    /// Faults that the host's node puts on its own connections from now on, and no others. Cuts only.
    pub fn bend(&self, rules: Vec<Rule>) {
        let mut fabric = self.fabric.lock();
        let mut bends = Vec::new();
        for Rule { peers, harm } in rules {
            let Harm::Cut { sends, hears } = harm else {
                continue;
            };
            let of = |address: &String| {
                let (host, port) = host_and_port(address).ok()?;
                fabric.whose(self.host, host, port)
            };
            bends.push(Bend {
                peers: peers.map(|peers| peers.addresses.iter().filter_map(of).collect()),
                sends,
                hears,
            });
        }
        fabric.bend(self.host, bends);
    }

    /// Opens a connection to `host:port`.
    ///
    /// # Errors
    /// As of TCP; nothing at all comes of one to a host that is silent.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<Io> {
        Io::connect(&self.fabric, self.host, host, port).await
    }
}

fn no_address(address: &str) -> io::Error {
    let text = format!("{address:?} is not an address of the form host:port");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The two parts of an address.
///
/// # Errors
/// When it is none.
pub(crate) fn host_and_port(address: &str) -> io::Result<(&str, u16)> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| no_address(address))?;
    Ok((host, port.parse().map_err(|_| no_address(address))?))
}

impl Network for Net {
    type Io = Io;
    type Incoming = Incoming;

    async fn listen(&self, address: &str) -> io::Result<Incoming> {
        let (_, port) = host_and_port(address)?;
        Incoming::listen(&self.fabric, self.host, port)
    }

    fn dialer(&self) -> Dialer {
        Arc::new(self.clone())
    }

    async fn serve(
        &self,
        incoming: Incoming,
        routes: Routes,
        stop: impl Future<Output = ()> + Send,
        ending: Ending,
        guard: Guard,
    ) {
        match self.tier {
            Tier::Direct => direct::serve(incoming, routes, stop, ending, guard).await,
            Tier::Grpc => {
                let routes = match self.looking.clone() {
                    Some(looking) => looking.at(self.fabric.lock().name(self.host), routes),
                    None => routes,
                };
                proto::net::serve::serve(incoming, routes, stop, ending, guard).await;
            }
        }
    }
}

impl Dial for Net {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        // Checks the address, too.
        let endpoint = endpoint(address)?;
        let (host, port) = host_and_port(address)?;
        if self.tier == Tier::Direct {
            let direct = direct::Direct::new(self.clone(), host.to_owned(), port);
            return Ok(Channel::over(Arc::new(direct)));
        }
        let (net, host) = (self.clone(), host.to_owned());
        type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<Io>>> + Send>>;
        let connector = tower::service_fn(move |_: http::Uri| -> Connecting {
            let (net, host) = (net.clone(), host.clone());
            Box::pin(async move { net.connect(&host, port).await.map(TokioIo::new) })
        });
        Ok(endpoint.connect_with_connector_lazy(connector).into())
    }
}
