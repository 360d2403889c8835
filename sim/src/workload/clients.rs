//! The clients of one site. Its sessions share a few, as the users of a chat gateway do. In a
//! stampede all of them are dropped and built anew at once; a call that is under way keeps its old
//! client until it ends.

use std::time::Duration;

use client::{AppendStream, Client, StreamOptions};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Env;
use crate::dice::derive;

/// Clients of a site: one for each half of its sessions; what is sent again goes through the
/// other's.
const CLIENTS: usize = 2;

pub(crate) struct Clients {
    env: Env,
    pool: Mutex<Pool>,
    /// How often the pool was built anew.
    rebuilt: watch::Sender<u64>,
}

struct Pool {
    clients: Vec<Client>,
    stream: AppendStream,
    /// Times that the clients before these tried again.
    retries: u64,
}

impl Pool {
    fn retries(&self) -> u64 {
        let each = self.clients.iter().map(|client| client.stats().retries);
        self.retries + each.sum::<u64>()
    }
}

impl Clients {
    pub(crate) fn new(env: &Env) -> Result<Clients, String> {
        Ok(Clients {
            env: env.clone(),
            pool: Mutex::new(pool(env, 0)?),
            rebuilt: watch::Sender::new(0),
        })
    }

    /// The client that `session` uses at present.
    pub(crate) fn of(&self, session: u32) -> Client {
        self.pool.lock().clients[session as usize % CLIENTS].clone()
    }

    /// The other one: it was given the endpoints in another order, ranks nodes in another order,
    /// and so mostly goes through another gateway.
    pub(crate) fn other_than(&self, session: u32) -> Client {
        self.pool.lock().clients[(session as usize + 1) % CLIENTS].clone()
    }

    /// The site's stream.
    pub(crate) fn stream(&self) -> AppendStream {
        self.pool.lock().stream.clone()
    }

    /// Changes after every stampede, when the new clients are there.
    pub(crate) fn rebuilt(&self) -> watch::Receiver<u64> {
        self.rebuilt.subscribe()
    }

    /// Builds the clients anew whenever the site is told to, for ever.
    pub(crate) async fn stampede(&self) {
        let mut told = self.env.stampede.clone();
        told.mark_unchanged();
        while told.changed().await.is_ok() {
            let generation = *self.rebuilt.borrow() + 1;
            match pool(&self.env, generation) {
                Ok(new) => {
                    let mut pool = self.pool.lock();
                    let retries = pool.retries();
                    *pool = Pool { retries, ..new };
                    drop(pool);
                    self.rebuilt.send_replace(generation);
                }
                // The same endpoints were good before.
                Err(error) => tracing::error!(error, "the clients could not be built anew"),
            }
        }
    }

    /// Times that the clients tried again so far.
    pub(crate) fn retries(&self) -> u64 {
        self.pool.lock().retries()
    }
}

fn pool(env: &Env, generation: u64) -> Result<Pool, String> {
    let clients: Result<Vec<Client>, String> = (0..CLIENTS)
        .map(|at| {
            let name = format!("client {} {at} {generation}", env.site.name);
            build(env, &name, env.plan.workload.deadline_ms, at)
        })
        .collect();
    let clients = clients?;
    let stream = clients[0].append_stream(&StreamOptions::default());
    Ok(Pool {
        clients,
        stream,
        retries: 0,
    })
}

/// A client of the whole cluster whose chance is called `name`, that is told the endpoints from
/// place `first` on.
pub(crate) fn build(
    env: &Env,
    name: &str,
    deadline_ms: u64,
    first: usize,
) -> Result<Client, String> {
    let mut endpoints = env.endpoints.clone();
    let turn = first % endpoints.len().max(1);
    endpoints.rotate_left(turn);
    Client::builder()
        .endpoints(endpoints)
        .dialer(env.dialer.clone())
        .deadline(Duration::from_millis(deadline_ms))
        .seed(derive(env.plan.seed, name))
        .build()
        .map_err(|error| error.to_string())
}
