//! What a node listens on, and what it serves there.

use std::sync::Arc;

use proto::net::serve::said;
use proto::net::{Ending, Guard, Listener, http2_server};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::access::{self, Doors};
use crate::plain;
use crate::sight::http;
use crate::world::LocalConnections;

/// The listeners of a node that serves nobody yet.
pub(super) struct Ports {
    /// Of clients and of other nodes.
    pub incoming: Listener,
    /// Of browsers, where the console has a port of its own.
    pub pages: Option<Listener>,
    /// Of operators on this machine.
    pub local: Option<LocalConnections>,
}

/// How long a port serves, and how its connections end.
#[derive(Clone)]
pub(super) struct Until {
    /// No more calls are taken once this says so.
    pub stopping: watch::Receiver<bool>,
    pub ending: Ending,
    pub guard: Guard,
}

impl Ports {
    /// Serves calls, and the console's pages where there are some. Gives why the first listener has ended, once
    /// it has.
    pub(super) fn serve(
        self,
        routes: Routes,
        pages: Option<axum::Router>,
        doors: Arc<Doors>,
        until: &Until,
        tasks: &mut JoinSet<()>,
    ) -> watch::Receiver<Option<String>> {
        let (routes, alone) = match (pages, self.pages) {
            (Some(pages), Some(incoming)) => (routes, Some((incoming, pages))),
            (Some(pages), None) => (http::beside(routes, pages), None),
            (None, _) => (routes, None),
        };
        let routes = access::layer::guarded(routes, doors.clone());
        if let Some(connections) = self.local {
            let routes = access::layer::local(routes.clone());
            tasks.spawn(locally(connections, routes, until.stopping.clone()));
        }
        let routes = plain::refused(routes);
        let (served, ended) = watch::channel(None);
        if let Some((incoming, pages)) = alone {
            let routes = http::beside(Routes::default(), pages);
            let routes = plain::refused(access::layer::guarded(routes, doors));
            tasks.spawn(until.clone().serve(incoming, routes));
        }
        let serving = until.clone().serve(self.incoming, routes);
        tasks.spawn(async move {
            serving.await;
            served.send_replace(Some("it ended".to_owned()));
        });
        ended
    }
}

impl Until {
    async fn serve(self, incoming: Listener, routes: Routes) {
        let Until {
            mut stopping,
            ending,
            guard,
        } = self;
        let stopped = async move { said(&mut stopping).await };
        incoming.serve(routes, stopped, ending, guard).await;
    }
}

async fn locally(
    connections: LocalConnections,
    routes: Routes,
    mut stopping: watch::Receiver<bool>,
) {
    let stopped = async move { said(&mut stopping).await };
    let served = http2_server().add_routes(routes);
    let ended = served.serve_with_incoming_shutdown(connections, stopped);
    if let Err(error) = ended.await {
        tracing::error!(%error, "the local socket is served no more");
    }
}
