//! What a drill can do to this process, and the thread from which it is told to: no fault reaches that,
//! not even a standstill of everything else.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use futures::future::BoxFuture;
use proto::net::faulty::{Rule, Switch};
use server::drill::faults::kind::Kind;
use server::drill::faults::{Control, Stage, service};
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;

mod still;

use still::Still;

/// This process.
pub struct Process {
    network: Switch,
    still: Still,
}

impl Process {
    /// Of the runtime that it is made in, with the network that `network` puts faults on.
    pub fn new(network: Switch) -> Process {
        Process {
            network,
            still: Still::of(tokio::runtime::Handle::current()),
        }
    }
}

impl Stage for Process {
    fn refuses(&self, _: &Kind) -> Option<String> {
        None
    }

    fn network(&self, rules: Vec<Rule>) {
        self.network.set(rules);
    }

    fn stand_still(&self, until: Option<Instant>) {
        self.still.until(until.map(Instant::into_std));
    }

    fn look_up(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn open(&self, control: Arc<Control>, listen: &str) -> io::Result<Option<String>> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("drill".into())
            .spawn(move || runtime.block_on(serve(control, listener)))?;
        Ok(Some(address.to_string()))
    }
}

/// Keeps the faults and serves the service, until the node ends.
async fn serve(control: Arc<Control>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "no drill can put faults on this node");
            return control.keep().await;
        }
    };
    let ended = control.clone();
    let served = proto::net::http2_server()
        .add_service(service::server(control.clone()))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            ended.closed().await;
        });
    let keep = control.keep();
    tokio::pin!(served);
    tokio::select! {
        // Calls in progress are of no use to a node that has ended.
        () = keep => {}
        served = &mut served => if let Err(error) = served {
            tracing::error!(%error, "the listener of drills has ended");
        },
    }
}
