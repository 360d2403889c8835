//! The simulated network, as seen from outside: hosts, links, time, and what is done to them.

use std::future::Future;
use std::time::Duration;

use super::{Cut, Net};

/// What host software ends with.
pub type Ended = Result<(), Box<dyn std::error::Error>>;

/// How far time goes on in one step. Links deliver on these, so their delays are whole ones.
const TICK: Duration = Duration::from_millis(1);
/// Segments in flight on a connection, and connections waiting to be accepted; turmoil panics
/// when more wait.
const TCP_CAPACITY: usize = 4_096;
/// Between hosts whose link was given no latency of its own.
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_millis(2);

/// All hosts and the links between them.
pub struct Field {
    sim: turmoil::Sim<'static>,
    hosts: Vec<String>,
    cut: Cut,
}

impl Field {
    /// An empty one. [`Field::step`] fails after `limit` of virtual time.
    pub fn new(seed: u64, limit: Duration) -> Field {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(limit)
            .tcp_capacity(TCP_CAPACITY)
            .min_message_latency(LATENCY_MIN)
            .max_message_latency(LATENCY_MAX)
            .enable_random_order()
            .build();
        Field {
            sim,
            hosts: Vec::new(),
            cut: Cut::default(),
        }
    }

    /// The network as the host called `host` has it.
    pub fn net(&self, host: &str) -> Net {
        Net {
            host: host.to_owned(),
            cut: self.cut.clone(),
        }
    }

    /// Adds a host and starts it; `software` is called at each of its starts. The run fails when
    /// the software ends with an error.
    pub fn host<F>(&mut self, name: &str, software: impl Fn() -> F + 'static)
    where
        F: Future<Output = Ended> + 'static,
    {
        self.hosts.push(name.to_owned());
        self.sim.host(name, software);
    }

    /// Adds a host whose end is the end of the run.
    pub fn client(&mut self, name: &str, software: impl Future<Output = Ended> + 'static) {
        self.hosts.push(name.to_owned());
        self.sim.client(name, software);
    }

    /// How long a segment takes between two hosts, one way: `min` to `max`, mostly near `min`.
    pub fn set_latency(&self, a: &str, b: &str, min: Duration, max: Duration) {
        self.sim.set_link_latency(a, b, min);
        self.sim.set_link_max_message_latency(a, b, max);
    }

    /// Ends hosts as a fire does: from one instant on nothing is heard of them.
    ///
    /// # Errors
    /// As [`Field::step`].
    pub fn burn(&mut self, names: &[String]) -> Result<(), String> {
        self.cut.lock().extend(names.iter().cloned());
        self.links_of(names, |sim, a, b| sim.partition(a, b));
        // What a stopping host sends is dropped; what had reached it must not wait for its return.
        self.step()?;
        for name in names {
            self.sim.crash(name.as_str());
        }
        Ok(())
    }

    /// Starts burned hosts again and joins their links.
    pub fn restart(&mut self, names: &[String]) {
        self.cut.lock().retain(|name| !names.contains(name));
        self.links_of(names, |sim, a, b| sim.repair(a, b));
        for name in names {
            self.sim.bounce(name.as_str());
        }
    }

    fn links_of(&self, names: &[String], change: impl Fn(&turmoil::Sim<'static>, &str, &str)) {
        for (at, one) in self.hosts.iter().enumerate() {
            for other in &self.hosts[at + 1..] {
                if names.contains(one) || names.contains(other) {
                    change(&self.sim, one, other);
                }
            }
        }
    }

    /// Lets a millisecond pass. Says whether the clients have ended.
    ///
    /// # Errors
    /// When the software of a host ended with an error, or the run's limit is reached.
    ///
    /// # Panics
    /// When anything on a host panics.
    pub fn step(&mut self) -> Result<bool, String> {
        self.sim.step().map_err(|error| error.to_string())
    }

    /// Virtual time since the run began.
    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }
}
