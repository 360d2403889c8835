//! The life of a node: it reads who it is, counts the start, joins its groups, serves, and stops.
//!
//! A graceful stop gives away what the node leads, closes the port, sends clients elsewhere, lets calls
//! finish, and flushes. A drain does the first of these and sends clients elsewhere. A
//! fatal error (a failed fsync, say) ends [`run`] at once: what is on disk is then all that
//! counts, and the next start goes on from it.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use proto::net::{Ending, Guard, Listener};
use raft::{Node, Options};
use store::Log;
use store::state::State;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

mod ports;
mod routes;
mod serving;

pub use crate::found::{FoundError, InitOptions, InitResult, JoinResult, init, join, joined};

use self::ports::{Ports, Until};
use self::routes::{send_elsewhere, services};
use self::serving::Serving;
use crate::World;
use crate::access::{self, Book, Doors};
use crate::budget::Budget;
use crate::config::{Auth, Config, TlsMode};
use crate::drill::faults::disk::Held;
use crate::drill::faults::{self, DiskSwitch, Running};
use crate::events::{Event, Events, Refusals, Told, watch_refusals};
use crate::gateway::Gateway;
use crate::guesses::Guesses;
use crate::identity::Record;
use crate::memory::{Gauging, Memory};
use crate::recorder::Recorder;
use crate::room::{self, DiskRoom};
use crate::service::admin::Admin;
use crate::service::debug::Files;
use crate::sight::api::Api;
use crate::sight::happened::Happened;
use crate::sight::health::Canary;
use crate::sight::http;
use crate::sight::local::Local;
use crate::sight::metrics::Sources;
use crate::sight::outages::Outages;
use crate::sight::rates::Rates;
use crate::start::{count_start, identity, seeds, stands};
use crate::tenants::count;

/// Why a node did not start, or stopped.
#[derive(Debug, Error)]
pub enum RunError {
    /// The data directory belongs to no cluster.
    #[error(
        "the data directory belongs to no cluster yet: `firebreak init` founds one, `firebreak \
         node join` joins one"
    )]
    NotMember,
    /// The record of who this node is.
    #[error(transparent)]
    Identity(#[from] crate::identity::Error),
    /// The databases could not be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The cluster does not want this node: it was removed, or its disk is not the one that its peers
    /// know. Starting it again does not help.
    #[error("{0}")]
    Refused(String),
    /// The configuration puts the node where the cluster does not know it.
    #[error(
        "the configuration says {configured}, and the cluster knows {name} in {known}: what burns with a \
         node changes by an operator's word alone. If the machine stands there, say so at any other \
         node, `firebreak node relocate {name} --region {region} --dc {dc}`, and start this one again; \
         if not, put locality back"
    )]
    Elsewhere {
        /// The node's name.
        name: String,
        /// Where the configuration says it stands.
        configured: String,
        /// Where the cluster does.
        known: String,
        /// Of the configuration.
        region: String,
        /// Of the configuration.
        dc: String,
    },
    /// The groups could not be started from what is on disk.
    #[error("cannot start: {0}")]
    Start(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// host:port.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Entropy(std::io::Error),
    /// The node was running and had to stop at once.
    #[error("stopped at once: {0}")]
    Fatal(String),
}

/// Runs a node until `shutdown` completes or something fatal happens. `listening` is called once
/// it serves. Must run on a tokio runtime; dropping the future stops the node as a crash would.
///
/// # Errors
/// [`RunError`].
pub fn run<'a>(
    world: World,
    config: Config,
    shutdown: impl Future<Output = ()> + 'a,
    listening: impl FnOnce() + 'a,
) -> LocalBoxFuture<'a, Result<(), RunError>> {
    // Boxed where no type is open any more, so that the node is compiled here and not in each program.
    running(world, config, Box::pin(shutdown), Box::new(listening)).boxed_local()
}

async fn running(
    mut world: World,
    config: Config,
    shutdown: LocalBoxFuture<'_, ()>,
    listening: Box<dyn FnOnce() + '_>,
) -> Result<(), RunError> {
    // All that runs beside this future; dropped with it.
    let mut tasks = JoinSet::new();
    let disk = DiskSwitch::default();
    if config.drill.allowed {
        for database in [&mut world.raftdb, &mut world.msgdb] {
            *database = Arc::new(Held::new(database.clone(), disk.clone()));
        }
    }
    let opened = open(&world, &config, &mut tasks).await?;
    let mut serving = serve(&mut world, &config, opened, disk, &mut tasks)?;
    listening();
    match serving.outcome(shutdown).await {
        Ok(end) => serving.stop(end).await,
        Err(error) => {
            let why = error.to_string();
            serving.end(&Event::Died { why }).await;
            tracing::error!(%error, "stopping at once");
            Err(error)
        }
    }
}

/// A node that has its databases, its groups and its port, and serves nobody yet.
struct Opened {
    ports: Ports,
    log: Log,
    /// Why the log's writer has failed, once it has.
    log_failure: watch::Receiver<Option<String>>,
    state: State,
    raft: Arc<Node>,
    record: Record,
    budget: Budget,
    memory: Memory,
    guard: Guard,
    gauging: Gauging,
    told: Told,
    refusals: Arc<Refusals>,
    recorder: Recorder,
    happened: Happened,
}

/// Opens the databases, takes the port, counts the start, and starts the groups.
async fn open(world: &World, config: &Config, tasks: &mut JoinSet<()>) -> Result<Opened, RunError> {
    let budget = Budget::of(config, world.machine);
    let guard = budget.guard(config.limits.body_bytes_max);
    let (raftdb, msgdb) = (world.raftdb.clone(), world.msgdb.clone());
    let memory = Memory::new(budget.clone(), guard.clone(), raftdb, msgdb);
    let (log, writer) = Log::open_within(world.raftdb.clone(), memory.tails())?;
    let (log_failed, log_failure) = watch::channel(None);
    tasks.spawn(async move {
        if let Err(error) = writer.await {
            log_failed.send_replace(Some(error.to_string()));
        }
    });
    let record = Record::load(&log, &config.name)?.filter(Record::is_member);
    let mut record = record.ok_or(RunError::NotMember)?;
    if let Some(why) = raft::refusal(&log)? {
        return Err(RunError::Refused(why));
    }
    let ports = Ports {
        incoming: listen(world, &config.listen).await?,
        pages: match &config.http.listen {
            Some(own) if config.http.enabled => Some(listen(world, own).await?),
            Some(_) | None => None,
        },
        local: None,
    };
    count_start(world, &log, &mut record).await?;
    stands(world, config, &log, &mut record).await?;

    let state = State::open_within(world.msgdb.clone(), log.clone(), memory.heads())?;
    memory.has(log.clone(), state.clone());
    let refusals = Arc::<Refusals>::default();
    let (clock, background) = (world.clock.clone(), world.background.clone());
    let tape = world.tape.clone();
    let recorder = Recorder::new(clock, background, tape, config.recorder_bytes);
    let happened = Happened::default();
    let listeners: Vec<Arc<dyn Events>> = vec![
        refusals.clone(),
        Arc::new(recorder.clone()),
        Arc::new(happened.clone()),
    ];
    let told = Told::new(listeners, world.traces.clone());
    let mut options = options(world, config, &record, (&budget, &memory), &log, &state)?;
    options.events = Arc::new(told.clone());
    told.tell(&Event::Started {
        boot: record.boot,
        version: env!("CARGO_PKG_VERSION"),
    });
    recorder.named(options.identity.node.0, &config.name);
    let tuning = options.tuning.clone();
    let raft = Node::start(options).await.map_err(RunError::Start)?;
    recorder.of(&raft, &log, tuning);
    tasks.spawn(recorder.clone().run());
    let gauging = memory.gauge(&world.gauge, &raft, &log, &state);
    tracing::info!(
        node = %raft.identity().node, name = %config.name, boot = record.boot,
        cluster = %record.cluster_id, listen = %config.listen, advertise = %config.advertise,
        data_dir = %config.data_dir.display(), "starting"
    );
    budget.tell();
    Ok(Opened {
        ports,
        log,
        log_failure,
        state,
        raft,
        record,
        budget,
        memory,
        guard,
        gauging,
        told,
        refusals,
        recorder,
        happened,
    })
}

async fn listen(world: &World, address: &str) -> Result<Listener, RunError> {
    let listens = world.network.listen(address).await;
    listens.map_err(|error| RunError::Listen {
        address: address.to_owned(),
        error,
    })
}

/// Serves on the port, and starts what goes on beside it.
fn serve(
    world: &mut World,
    config: &Config,
    opened: Opened,
    disk_faults: DiskSwitch,
    tasks: &mut JoinSet<()>,
) -> Result<Serving, RunError> {
    let (stop, stopping) = watch::channel(false);
    let (elsewhere, closing) = (watch::Sender::new(false), watch::Sender::new(false));
    let raft = opened.raft.clone();
    let gateway = Gateway::new(
        raft.clone(),
        &config.locality.dc,
        world.seed,
        elsewhere.subscribe(),
        (opened.told.clone(), config.tenants),
    );
    let Beside {
        disk,
        doors,
        faults,
    } = beside(world, config, &opened, &gateway, disk_faults, tasks)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let leaving = send_elsewhere(health.clone(), raft.clone(), elsewhere.clone());
    let elsewhere_task = tasks.spawn(leaving);
    let local = local(world, config, &opened, &gateway, tasks);
    let admin = Arc::new(admin(world, config, &opened, local, disk, faults.as_ref()));
    let attached = world.metrics.attach(Sources {
        admin: admin.clone(),
        process: world.process.clone(),
    });
    let (body_bytes_max, peer) = (config.limits.body_bytes_max, raft.peer_service());
    let routes = services(
        &gateway,
        (admin.clone(), doors.clone()),
        body_bytes_max,
        peer,
    );
    let routes = routes.map_err(RunError::Start)?.add_service(health_service);
    let pages = config.http.enabled.then(|| {
        let shared = http::Shared {
            api: Arc::new(Api::new(admin, config.clone())),
            metrics: world.metrics.clone(),
            doors: doors.clone(),
        };
        http::router(shared, world.console.clone())
    });
    let callers = TaskTracker::new();
    let until = Until {
        stopping,
        ending: Ending {
            closing: closing.subscribe(),
            elsewhere: elsewhere.subscribe(),
            callers: callers.clone(),
        },
        guard: opened.guard,
    };
    let ports = Ports {
        local: world.local.take(),
        ..opened.ports
    };
    Ok(Serving {
        raft,
        gateway,
        log_failure: opened.log_failure,
        server_ended: ports.serve(routes, pages, doors, &until, tasks),
        health,
        elsewhere_task,
        elsewhere,
        closing,
        stop,
        callers,
        _gauging: opened.gauging,
        _attached: attached,
        _faults: faults,
        told: opened.told,
        recorder: opened.recorder,
    })
}

/// What goes on beside the calls of a node.
struct Beside {
    disk: watch::Receiver<DiskRoom>,
    doors: Arc<Doors>,
    faults: Option<Running>,
}

fn beside(
    world: &World,
    config: &Config,
    opened: &Opened,
    gateway: &Arc<Gateway>,
    disk_faults: DiskSwitch,
    tasks: &mut JoinSet<()>,
) -> Result<Beside, RunError> {
    let (raft, told) = (&opened.raft, &opened.told);
    tasks.spawn(count::tell(gateway.clone()));
    tasks.spawn(count::count(gateway.clone()));
    let (disk, watching) = room::watch(
        world.disk.clone(),
        vec![world.raftdb.clone(), world.msgdb.clone()],
        opened.state.clone(),
        raft.clone(),
        config.limits.disk_reserve,
        told.clone(),
        disk_faults.clone(),
    );
    let doors = doors(world, config, raft)?;
    if let Some(book) = doors.book() {
        tasks.spawn(book.clone().tell(gateway.clone()));
    }
    let faults = faults::open(world, config, raft, told, (disk_faults, doors.clone()))?;
    tasks.spawn(watching);
    let (refusals, guard) = (opened.refusals.clone(), opened.guard.clone());
    tasks.spawn(watch_refusals(refusals, guard, told.clone()));
    let record = opened.record.clone();
    tasks.spawn(forget_founding(raft.clone(), opened.log.clone(), record));
    Ok(Beside {
        disk,
        doors,
        faults,
    })
}

/// What a node sees of itself, and what looks for it.
fn local(
    world: &World,
    config: &Config,
    opened: &Opened,
    gateway: &Arc<Gateway>,
    tasks: &mut JoinSet<()>,
) -> Local {
    let local = Local {
        gateway: gateway.clone(),
        canary: Canary::new(gateway.clone(), config.http.canary),
        happened: opened.happened.clone(),
        rates: Rates::default(),
        outages: Outages::default(),
        http: config.http.address(config),
        clock: world.clock.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    tasks.spawn(local.clone().watch());
    tasks.spawn(local.outages.clone().watch(local.clone()));
    if config.http.canary {
        tasks.spawn(local.canary.clone().sing());
    }
    local
}

/// The operators' service.
fn admin(
    world: &World,
    config: &Config,
    opened: &Opened,
    local: Local,
    disk: watch::Receiver<DiskRoom>,
    faults: Option<&Running>,
) -> Admin {
    Admin {
        gateway: local.gateway.clone(),
        log: opened.log.clone(),
        state: opened.state.clone(),
        background: world.background.clone(),
        disk,
        budget: opened.budget.clone(),
        memory: opened.memory.clone(),
        guard: opened.guard.clone(),
        started: Instant::now(),
        pid: world.pid,
        entropy: world.entropy.clone(),
        clock: world.clock.clone(),
        guesses: Guesses::default(),
        authority: world.authority.clone(),
        metrics: world.metrics.clone(),
        local,
        recorder: opened.recorder.clone(),
        files: Arc::new(files(world, config)),
        faults: faults.map(Running::told_of),
    }
}

/// What the node tells of itself and its process.
fn files(world: &World, config: &Config) -> Files {
    Files {
        config: config.clone(),
        metrics: world.metrics.clone(),
        process: world.process.clone(),
        debug: world.debug.clone(),
        background: world.background.clone(),
        pid: world.pid,
        machine: world.machine,
        calls: Files::calls(),
    }
}

fn options(
    world: &World,
    config: &Config,
    record: &Record,
    (budget, memory): (&Budget, &Memory),
    log: &Log,
    state: &State,
) -> Result<Options, RunError> {
    let mut tuning = budget.tune(&config.raft);
    world.disk.fit(&mut tuning.keep);
    let opened = memory.clone();
    Ok(Options {
        identity: identity(config, record)?,
        dialer: world.network.dialer(),
        clock: world.clock.clone(),
        log: log.clone(),
        state: state.clone(),
        tuning,
        body_bytes_max: config.limits.body_bytes_max,
        queue_bytes_max: memory.queue(),
        links_bytes_max: memory.links(),
        events: Arc::new(raft::Nobody),
        opened: Arc::new(move |shards| opened.opened(shards)),
        seeds: seeds(config, record),
        found: record.found.clone(),
    })
}

/// Who is let in.
fn doors(world: &World, config: &Config, raft: &Arc<Node>) -> Result<Arc<Doors>, RunError> {
    let required = config.auth == Auth::Required;
    if required && raft.identity().secret.is_none() && config.tls.mode == TlsMode::Off {
        return Err(RunError::Start(
            "auth.mode = \"required\" needs nodes that prove themselves to each other, and this cluster was \
             founded before they had a secret for it: set tls.mode"
                .to_owned(),
        ));
    }
    let passed_on = raft.clone();
    let mut session_key = [0; 32];
    if required {
        world
            .entropy
            .fill(&mut session_key)
            .map_err(RunError::Entropy)?;
    }
    Ok(Doors::new(access::Parts {
        required,
        view: raft.view(),
        clock: world.clock.clone(),
        cluster_id: raft.identity().cluster_id.clone(),
        vouches: Arc::new(move |headers| passed_on.vouches(headers).is_some()),
        book: required.then(|| Arc::new(Book::default())),
        session_key,
    }))
}

/// Once the cluster lives, its founder's disk need not keep what was to be founded.
async fn forget_founding(raft: Arc<Node>, log: Log, mut record: Record) {
    if record.found.is_none() || raft.view().wait_for(|view| view.epoch > 0).await.is_err() {
        return;
    }
    record.found = None;
    if let Err(error) = record.save(&log).await {
        // The log's failure stops the node; this is for the curious.
        tracing::warn!(%error, "the founding was not forgotten");
    }
}
