//! The load of a run: chat clients at sites outside the cluster, which drive the real client
//! library and record all that they see. It knows nothing of the network under it but the dialer.
//!
//! ```text
//!  Plan ─► site ─┬─ sender × n ─┐
//!                ├─ reader × n ─┼─► clients (anew in a stampede) ─► client ─► cluster
//!                ├─ mover  × n ─┤                                      │
//!                ├─ tail   × n ─┘   recorder ◄─────── what they saw ◄──┘
//!                └─ witness (inside), one attempt a call, each at one node
//!  at the end:  probe, Tails::drain, finals            └─► History ─► oracles
//! ```
//!
//! Everything that is drawn comes from the plan's seed, a stream of numbers for each session, so a
//! session draws the same whatever others do. The order in which a run uses this module:
//!
//! 1. every site runs [`site`], which ends with the load and leaves its tails running;
//! 2. after a heal, one site may [`probe`];
//! 3. at rest, every site drains its [`Tails`];
//! 4. one site reads the [`finals`]; [`Recorder::finish`] gives the history.

mod calls;
mod changer;
mod clients;
mod fader;
mod feeder;
mod finals;
mod message;
mod mover;
mod probe;
mod reader;
mod recorder;
mod rooms;
mod sender;
mod sessions;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use proto::net::Dialer;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::plan::{self, Plan};
use clients::Clients;
use sessions::{Sessions, living_at};

pub use finals::finals;
pub use message::{body_hash, marker, number};
pub use probe::{PROBER, probe};
pub use recorder::Recorder;
pub use rooms::{TENANT, Zipf, room_of};
pub use tail::{DRAIN_MAX, Tails};

/// True time, microseconds since the run began.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Called at the very moment when an acknowledgement is recorded, with the append's number (see
/// [`Recorder::finish`]) and the [`marker`] that its body begins with.
pub type Acked = Arc<dyn Fn(usize, &str) + Send + Sync>;

/// What a client site is given.
#[derive(Clone)]
pub struct Env {
    /// The run.
    pub plan: Arc<Plan>,
    /// This site, one of the plan's.
    pub site: plan::Site,
    /// How its clients open connections.
    pub dialer: Dialer,
    /// host:port of one node of each data center, the nearest first.
    pub endpoints: Vec<String>,
    /// True time.
    pub now_us: Now,
    /// Who hears of acknowledgements.
    pub acked: Acked,
    /// When this changes, every client of the site is dropped and built anew at once.
    pub stampede: watch::Receiver<u64>,
    /// What all sites of the run record in.
    pub recorder: Recorder,
}

impl Env {
    pub(crate) fn now(&self) -> u64 {
        (self.now_us)()
    }
}

/// A site while its load goes on.
pub(crate) struct Site {
    pub(crate) env: Env,
    /// Its place among the plan's sites.
    pub(crate) index: usize,
    pub(crate) clients: Clients,
    /// When the load ends.
    pub(crate) until_us: u64,
}

impl Site {
    fn new(env: Env) -> Result<Site, String> {
        let sites = &env.plan.workload.sites;
        let index = sites.iter().position(|site| site.name == env.site.name);
        let index = index.ok_or_else(|| format!("{} is no site of the plan", env.site.name))?;
        let clients = Clients::new(&env)?;
        let began_us = env.recorder.begin(env.now());
        let until_us = began_us.saturating_add(env.plan.workload.duration_ms * 1_000);
        Ok(Site {
            env,
            index,
            clients,
            until_us,
        })
    }

    pub(crate) fn workload(&self) -> &plan::Workload {
        &self.env.plan.workload
    }

    pub(crate) fn sessions(&self) -> Sessions {
        Sessions::of(self.workload())
    }

    /// Those of `count` that live here.
    fn mine(&self, count: u32) -> impl Iterator<Item = u32> + use<> {
        living_at(self.index, self.workload().sites.len(), count)
    }

    /// Waits for a drawn time, at least 1 ms; false when the load is over after it.
    pub(crate) async fn pause(&self, bounds_ms: (u64, u64), dice: &mut StdRng) -> bool {
        let (least, most) = bounds_ms;
        let pause = dice.random_range(least..=most.max(least)).max(1);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.env.now() < self.until_us
    }
}

/// The load of one client site: its senders, readers, and the movers that are here at the time,
/// for as long as the plan says. Completes when its last call has been answered; the tails go on
/// until they are drained or dropped. To be run inside the tokio runtime of the site's host.
///
/// # Errors
/// When the site is not of the plan, an endpoint is not host:port, or a client of the load panics.
pub async fn site(env: Env) -> Result<Tails, String> {
    let site = Arc::new(Site::new(env)?);
    let tails = Tails::open(site.clone(), site.mine(site.workload().tails));
    let mut load = JoinSet::new();
    for k in site.mine(site.workload().senders) {
        load.spawn(sender::run(site.clone(), k));
    }
    let levels = sessions::levels(&site.workload().readers);
    for k in site.mine(u32::try_from(levels.len()).unwrap_or(u32::MAX)) {
        load.spawn(reader::run(site.clone(), k, levels[k as usize]));
    }
    for k in 0..site.workload().movers {
        load.spawn(mover::run(site.clone(), k));
    }
    for k in site.mine(site.workload().changers) {
        load.spawn(changer::run(site.clone(), k));
        load.spawn(fader::run(site.clone(), k));
    }
    if site.env.site.inside {
        load.spawn(witness::run(site.clone()));
    }
    while let Some(ended) = load.join_next().await {
        ended.map_err(|error| format!("a client at {}: {error}", site.env.site.name))?;
    }
    site.env
        .recorder
        .end(site.env.now(), site.clients.retries());
    Ok(tails)
}
