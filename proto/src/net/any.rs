//! A network whose types are forgotten, so that what stands on it is compiled once and not in each program.

use std::future::Future;
use std::io;

use futures::future::BoxFuture;
use tonic::service::Routes;

use super::{Dialer, Ending, Guard, Network};

/// Any [`Network`].
pub trait AnyNetwork: Send + Sync + 'static {
    /// Listens on `host:port`.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Listener>>;

    /// How to reach others over this network.
    fn dialer(&self) -> Dialer;
}

type Serve =
    dyn FnOnce(Routes, BoxFuture<'static, ()>, Ending, Guard) -> BoxFuture<'static, ()> + Send;

/// The accepted connections of one listener.
pub struct Listener(Box<Serve>);

impl Listener {
    /// Serves them, as [`Network::serve`] does.
    pub fn serve(
        self,
        routes: Routes,
        stop: impl Future<Output = ()> + Send + 'static,
        ending: Ending,
        guard: Guard,
    ) -> BoxFuture<'static, ()> {
        (self.0)(routes, Box::pin(stop), ending, guard)
    }
}

impl<N: Network> AnyNetwork for N {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Listener>> {
        let network = self.clone();
        Box::pin(async move {
            let incoming = Network::listen(self, address).await?;
            Ok(Listener(Box::new(move |routes, stop, ending, guard| {
                Box::pin(async move { network.serve(incoming, routes, stop, ending, guard).await })
            })))
        })
    }

    fn dialer(&self) -> Dialer {
        Network::dialer(self)
    }
}
