//! The simulated machines and their time. The only module that knows turmoil.
//!
//! turmoil gives each machine a runtime of its own in paused time, starts software on it again and
//! again, and drops all of it at a crash. It steps the hosts of one `Sim` alike, so each machine is
//! a `Sim` of its own here: that is what lets a clock run fast or slow (a step more or less), and a
//! process be stopped and go on (no steps, then one leap), once or again and again (it is starved). Its network is not used: it delivers at
//! whole milliseconds, completes a connect whose way back is cut, sends nothing again after a cut,
//! closes a crashed host's connections politely, and panics when 64 segments wait; `fabric`
//! does all of these as TCP does.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::sync::Notify;

use super::fabric::{Fabric, HostId, Shared, Way};
use super::witness::Looking;
use super::{NOW_US, Net, Witness};
use crate::dice::{derive, dice};
use crate::plan::{Link, Standstill, Starved, Tier};
use crate::trace::{Trace, What};

/// How far time goes on in one step. What reaches a machine within a step is there at its end, so
/// the fast tier's links are up to a step slower.
fn tick_us(tier: Tier) -> u64 {
    match tier {
        Tier::Grpc => 1_000,
        Tier::Direct => 4_000,
    }
}
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(1 << 32);
/// A whole, in parts per million.
const PPM: i64 = 1_000_000;

/// The clocks of one machine, shared with what runs on it.
#[derive(Clone, Default)]
pub struct Clocks {
    /// What its wall clock is ahead of true time, microseconds.
    wall_us: Arc<AtomicI64>,
    /// For how long it was suspended, as it knows, microseconds.
    suspended_us: Arc<AtomicU64>,
}

impl Clocks {
    /// Its wall clock: microseconds since the run began, as the machine believes.
    pub fn wall_us(&self) -> i64 {
        i64::try_from(super::now_us()).unwrap_or(i64::MAX) + self.wall_us.load(Ordering::Relaxed)
    }

    /// For how long the machine was suspended in all, as it knows: its monotonic clock leaves that out.
    pub fn suspended(&self) -> Duration {
        Duration::from_micros(self.suspended_us.load(Ordering::Relaxed))
    }

    fn shift(&self, by_us: i64) {
        self.wall_us.fetch_add(by_us, Ordering::Relaxed);
    }
}

struct Machine {
    name: String,
    id: HostId,
    sim: turmoil::Sim<'static>,
    clocks: Clocks,
    running: bool,
    paused: Option<Standstill>,
    starved: Option<Turns>,
    drift_ppm: i64,
    /// Parts of a step that the clocks are ahead by, millionths.
    drifted: i64,
    leap: Rc<Leap>,
}

/// Time that a resumed process must leap over.
#[derive(Default)]
struct Leap {
    ms: Cell<u64>,
    due: Notify,
}

impl Leap {
    /// Lets the machine's clocks leap whenever asked to.
    async fn serve(&self) -> std::convert::Infallible {
        loop {
            self.due.notified().await;
            tokio::time::advance(Duration::from_millis(self.ms.take())).await;
        }
    }
}

/// The turns of a process on a processor that others want, too: it waits, and runs for so long
/// that it gets its share.
struct Turns {
    how: Starved,
    dice: StdRng,
    waits: bool,
    /// Until the other begins, microseconds.
    left_us: u64,
}

impl Turns {
    fn new(how: Starved, dice: StdRng) -> Turns {
        Turns {
            how,
            dice,
            waits: false,
            left_us: 0,
        }
    }

    /// Whether it waits in the next step.
    fn wait(&mut self, tick_us: u64) -> bool {
        if self.left_us == 0 {
            let (least, most) = self.how.wait_ms;
            let share = u64::from(self.how.share_percent.min(99));
            let wait_us = self.dice.random_range(least..=most.max(least)) * 1_000;
            self.waits = !self.waits;
            self.left_us = match self.waits {
                true => wait_us,
                // As long as it would have waited once more.
                false => wait_us * share / (100 - share),
            };
        }
        let waits = self.waits;
        self.left_us = self.left_us.saturating_sub(tick_us);
        waits
    }
}

/// All machines, their time and their network.
pub struct Field {
    machines: Vec<Machine>,
    fabric: Shared,
    seed: u64,
    tier: Tier,
    order: StdRng,
    turns: Vec<usize>,
    now_us: u64,
    looking: Option<Looking>,
}

impl Field {
    /// An empty one; `local` and `wan` are how packets go inside of a group of hosts and between
    /// groups, unless told otherwise.
    pub fn new(seed: u64, tier: Tier, local: Link, wan: Link) -> Field {
        NOW_US.set(0);
        Field {
            machines: Vec::new(),
            fabric: Arc::new(Mutex::new(Fabric::new(dice(seed, "fabric"), local, wan))),
            seed,
            tier,
            order: dice(seed, "turns"),
            turns: Vec::new(),
            now_us: 0,
            looking: None,
        }
    }

    /// The network as the host called `host` has it; the host is added to `group` when it is new.
    pub fn net(&mut self, host: &str, group: &str) -> Net {
        let mut fabric = self.fabric.lock();
        let id = fabric
            .host(host)
            .unwrap_or_else(|| fabric.add_host(host, group));
        Net {
            fabric: self.fabric.clone(),
            host: id,
            tier: self.tier,
            looking: self.looking.clone(),
        }
    }

    /// The network as the host called `host` has it, whose calls `witness` looks at from now on. Only nodes
    /// that get their network later, and speak HTTP/2, are looked at.
    pub fn looked_at(&mut self, host: &str, group: &str, witness: Arc<dyn Witness>) -> Net {
        let net = self.net(host, group);
        self.looking = Some(Looking {
            of: net.host,
            witness,
        });
        net
    }

    /// Adds a machine and starts its software, which is called at each start. What the software
    /// returns is its own affair.
    pub fn machine<F>(
        &mut self,
        name: &str,
        group: &str,
        software: impl Fn() -> F + 'static,
    ) -> Clocks
    where
        F: Future<Output = ()> + 'static,
    {
        let id = self.net(name, group).host;
        let mut sim = turmoil::Builder::new()
            .rng_seed(derive(self.seed, name))
            .tick_duration(Duration::from_micros(tick_us(self.tier)))
            .simulation_duration(FOREVER)
            .build();
        let leap = Rc::new(Leap::default());
        let leaping = leap.clone();
        sim.host("machine", move || {
            let (leap, software) = (leaping.clone(), software());
            async move {
                tokio::select! {
                    biased;
                    never = leap.serve() => match never {},
                    () = software => Ok(()),
                }
            }
        });
        let clocks = Clocks::default();
        self.turns.push(self.machines.len());
        self.machines.push(Machine {
            name: name.to_owned(),
            id,
            sim,
            clocks: clocks.clone(),
            running: true,
            paused: None,
            starved: None,
            drift_ppm: 0,
            drifted: 0,
            leap,
        });
        clocks
    }

    fn find(&mut self, name: &str) -> Result<&mut Machine, String> {
        let found = self
            .machines
            .iter_mut()
            .find(|machine| machine.name == name);
        found.ok_or_else(|| format!("there is no host {name:?}"))
    }

    /// How packets usually go from a group of hosts to another.
    pub fn set_usual(&self, from: &str, to: &str, link: Link) {
        self.fabric.lock().set_usual(from, to, link);
    }

    /// How packets go from now on; none = as usual.
    pub fn set_link(&self, from: &str, to: &str, link: Option<Link>) {
        self.fabric.lock().set_link(from, to, link);
    }

    /// Nothing goes from the one hosts to the others any more; with `reset`, what is sent is
    /// answered with a reset.
    pub fn cut(&self, from: &[String], to: &[String], reset: bool) {
        let way = if reset { Way::Reset } else { Way::Silent };
        self.each(from, to, |fabric, a, b| fabric.set_way(a, b, way));
    }

    /// The one hosts open no connections to the others any more, or do again.
    pub fn block(&self, from: &[String], to: &[String], block: bool) {
        self.each(from, to, |fabric, a, b| fabric.block(a, b, block));
    }

    /// Ends [`Field::cut`].
    pub fn heal(&self, from: &[String], to: &[String]) {
        self.each(from, to, |fabric, a, b| fabric.set_way(a, b, Way::Open));
    }

    /// For each of the hosts, between how many of them and it packets go both ways; it counts itself.
    pub fn joined(&self, hosts: &[&str]) -> Vec<usize> {
        let fabric = self.fabric.lock();
        let ids: Vec<_> = hosts.iter().map(|name| fabric.host(name)).collect();
        let joined = |a: Option<HostId>, b: Option<HostId>| match (a, b) {
            (Some(a), Some(b)) => fabric.joined(a, b),
            _ => false,
        };
        let others = |a: &Option<HostId>| ids.iter().filter(|b| joined(*a, **b)).count();
        ids.iter().map(others).collect()
    }

    /// Resets the connections between hosts.
    pub fn reset(&self, from: &[String], to: &[String]) {
        self.each(from, to, |fabric, a, b| fabric.reset_between(a, b));
    }

    fn each(&self, from: &[String], to: &[String], act: impl Fn(&mut Fabric, HostId, HostId)) {
        let mut fabric = self.fabric.lock();
        for a in from
            .iter()
            .filter_map(|name| fabric.host(name))
            .collect::<Vec<_>>()
        {
            for b in to
                .iter()
                .filter_map(|name| fabric.host(name))
                .collect::<Vec<_>>()
            {
                if a != b {
                    act(&mut fabric, a, b);
                }
            }
        }
    }

    /// The node of a machine is at `host:port` from now on.
    ///
    /// # Errors
    /// When there is no such machine, or that is no address.
    pub fn settle(&mut self, name: &str, address: &str) -> Result<(), String> {
        let id = self.find(name)?.id;
        let (host, port) = super::host_and_port(address).map_err(|error| error.to_string())?;
        self.fabric.lock().settle(id, host, port);
        Ok(())
    }

    /// Turns a machine off, silently: nothing is heard of it from this instant on.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn go_dark(&mut self, name: &str) -> Result<(), String> {
        let id = self.find(name)?.id;
        self.fabric.lock().go_dark(id);
        self.stop(name)
    }

    /// Ends a machine's software; its kernel resets the connections.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn kill(&mut self, name: &str) -> Result<(), String> {
        let id = self.find(name)?.id;
        self.fabric.lock().process_ended(id);
        self.stop(name)
    }

    fn stop(&mut self, name: &str) -> Result<(), String> {
        let machine = self.find(name)?;
        machine.sim.crash("machine");
        machine.running = false;
        machine.paused = None;
        machine.leap.ms.set(0);
        Ok(())
    }

    /// Starts a machine's software again.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn start(&mut self, name: &str) -> Result<(), String> {
        let machine = self.find(name)?;
        machine.sim.bounce("machine");
        machine.running = true;
        let id = machine.id;
        self.fabric.lock().light(id);
        Ok(())
    }

    /// Whether a machine's software runs, paused or not.
    pub fn runs(&self, name: &str) -> bool {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.is_some_and(|machine| machine.running)
    }

    /// Stops a machine where it is.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn pause(&mut self, name: &str, clocks: Standstill) -> Result<(), String> {
        let machine = self.find(name)?;
        if machine.running {
            machine.paused = Some(clocks);
        }
        Ok(())
    }

    /// Lets a machine that was stopped go on: if its clocks went on, they leap to where they would be.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn resume(&mut self, name: &str) -> Result<(), String> {
        let machine = self.find(name)?;
        if machine.running {
            machine.paused = None;
        }
        Ok(())
    }

    /// What runs on a machine has to wait for its turns, or not any more. It stays so through
    /// starts and stops.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn starve(&mut self, name: &str, starved: Option<Starved>) -> Result<(), String> {
        let what = format!("turns of {name} from {}", self.now_us);
        let dice = dice(self.seed, &what);
        let machine = self.find(name)?;
        machine.starved = starved.map(|how| Turns::new(how, dice));
        Ok(())
    }

    /// Moves a machine's wall clock.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn jump(&mut self, name: &str, by_ms: i64) -> Result<(), String> {
        self.find(name)?.clocks.shift(by_ms.saturating_mul(1_000));
        Ok(())
    }

    /// Lets all of a machine's clocks run fast or slow.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn drift(&mut self, name: &str, ppm: i64) -> Result<(), String> {
        self.find(name)?.drift_ppm = ppm.clamp(1 - PPM, PPM);
        Ok(())
    }

    /// Lets a step pass on every machine.
    ///
    /// # Errors
    /// When the simulation itself failed.
    ///
    /// # Panics
    /// When anything on a machine panics.
    pub fn step(&mut self) -> Result<(), String> {
        self.now_us += tick_us(self.tier);
        NOW_US.set(self.now_us);
        {
            let mut fabric = self.fabric.lock();
            fabric.advance(self.now_us);
            if self.now_us.is_multiple_of(1_000_000) {
                fabric.trace.checkpoint();
            }
        }
        self.turns.shuffle(&mut self.order);
        for turn in &self.turns {
            self.machines[*turn].tick(tick_us(self.tier))?;
        }
        Ok(())
    }

    /// True time since the run began, microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Adds to the trace.
    pub fn trace(&self, what: What, numbers: [u64; 2], bytes: &[u8]) {
        self.fabric
            .lock()
            .trace
            .add(self.now_us, what, numbers, bytes);
    }

    /// A way to add to the trace from inside hosts.
    pub fn tracer(&self) -> Tracer {
        Tracer(self.fabric.clone())
    }

    /// Takes the trace out, at the end.
    pub fn take_trace(&self) -> Trace {
        std::mem::take(&mut self.fabric.lock().trace)
    }

    /// The names of all hosts.
    pub fn hosts(&self) -> Vec<String> {
        self.fabric.lock().host_names()
    }
}

/// Adds to the trace of the run.
#[derive(Clone)]
pub struct Tracer(Shared);

impl Tracer {
    /// Adds something that happens now.
    pub fn add(&self, what: What, numbers: [u64; 2], bytes: &[u8]) {
        self.0
            .lock()
            .trace
            .add(super::now_us(), what, numbers, bytes);
    }
}

impl Machine {
    fn tick(&mut self, tick_us: u64) -> Result<(), String> {
        if !self.running {
            return Ok(());
        }
        match self.paused {
            None => {
                let starved = self.starved.as_mut();
                if starved.is_some_and(|turns| turns.wait(tick_us)) {
                    self.leap.ms.set(self.leap.ms.get() + tick_us / 1_000);
                    return Ok(());
                }
            }
            Some(Standstill::GoOn) => {
                self.leap.ms.set(self.leap.ms.get() + tick_us / 1_000);
                return Ok(());
            }
            Some(Standstill::Suspended) => {
                self.clocks
                    .suspended_us
                    .fetch_add(tick_us, Ordering::Relaxed);
                return Ok(());
            }
            Some(Standstill::Unknown) => return Ok(()),
        }
        if self.leap.ms.get() > 0 {
            self.leap.due.notify_one();
        }
        self.drifted += self.drift_ppm;
        let mut steps = 1;
        if self.drifted >= PPM {
            self.drifted -= PPM;
            steps = 2;
        } else if self.drifted <= -PPM {
            self.drifted += PPM;
            steps = 0;
        }
        self.clocks
            .shift((steps - 1) * i64::try_from(tick_us).unwrap_or(0));
        for _ in 0..steps {
            let stepped = self.sim.step();
            stepped.map_err(|error| format!("{}: {error}", self.name))?;
        }
        Ok(())
    }
}
