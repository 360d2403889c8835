//! The life of a node: it reads who it is, counts the start, joins its groups, serves, and stops.
//!
//! A graceful stop gives away what the node leads, closes the port, sends clients elsewhere, lets calls
//! finish, and flushes. A drain does the first of these and sends clients elsewhere. A
//! fatal error (a failed fsync, say) ends [`run`] at once: what is on disk is then all that
//! counts, and the next start goes on from it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use model::limits::FRAME_BYTES_MAX;
use proto::net::serve::said;
use proto::net::{Ending, Guard, Listener, http2_server};
use proto::node::peer_server::{Peer, PeerServer};
use proto::node::quotas_server::QuotasServer;
use proto::v1::access_server::AccessServer;
use proto::v1::admin_server::AdminServer;
use proto::v1::changes_server::ChangesServer;
use proto::v1::conversations_server::ConversationsServer;
use proto::v1::messages_server::MessagesServer;
use proto::v1::tenants_server::TenantsServer;
use raft::{Node, Options};
use store::Log;
use store::state::State;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use crate::found::{FoundError, InitOptions, InitResult, JoinResult, init, join, joined};

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
use crate::plain;
use crate::recorder::{LAST_WRITE_MAX, Recorder};
use crate::room;
use crate::service::access::Access;
use crate::service::admin::Admin;
use crate::service::conversations::Conversations;
use crate::service::debug::Files;
use crate::service::feed::Changes;
use crate::service::grpc;
use crate::service::history::Pages;
use crate::service::messages::Messages;
use crate::service::tenants::Tenants;
use crate::sight::api::Api;
use crate::sight::happened::Happened;
use crate::sight::health::Canary;
use crate::sight::http;
use crate::sight::local::Local;
use crate::sight::metrics::{Attached, Sources};
use crate::sight::outages::Outages;
use crate::sight::rates::Rates;
use crate::start::{count_start, identity, seeds, stands};
use crate::tenants::count;
use crate::tenants::keep::Quotas;

/// How long a node that stops tries to give its leaders away.
const STEP_ASIDE_MAX: Duration = Duration::from_secs(3);
/// How long clients have to go elsewhere, once a node that stops has told them and before it takes no
/// more calls: several answers of a busy one.
const NOTICE: Duration = Duration::from_millis(300);
/// How long calls may go on after a stop was asked for.
const CALLS_MAX: Duration = Duration::from_secs(5);
/// How long clients may take to hang up behind their calls: what they had sent before they heard of the
/// stop is answered until then. A round each, but for those that are gone.
const CALLERS_MAX: Duration = Duration::from_secs(1);
/// How long the groups may take to stop and flush.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

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
    incoming: Listener,
    /// Where the console has a port of its own.
    pages_incoming: Option<Listener>,
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
    let incoming = listen(world, &config.listen).await?;
    let pages_incoming = match &config.http.listen {
        Some(own) if config.http.enabled => Some(listen(world, own).await?),
        Some(_) | None => None,
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
        incoming,
        pages_incoming,
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

/// A node that serves.
struct Serving {
    raft: Arc<Node>,
    gateway: Arc<Gateway>,
    log_failure: watch::Receiver<Option<String>>,
    /// Why the listener has ended, once it has.
    server_ended: watch::Receiver<Option<String>>,
    health: HealthReporter,
    /// Sends clients elsewhere while the node drains.
    elsewhere_task: AbortHandle,
    elsewhere: watch::Sender<bool>,
    /// Its clients are to hang up.
    closing: watch::Sender<bool>,
    /// No more calls are taken.
    stop: watch::Sender<bool>,
    callers: TaskTracker,
    /// What the node keeps in memory is told for as long as this lives.
    _gauging: Gauging,
    /// Its metrics are told for as long as this lives.
    _attached: Attached,
    /// A drill's faults end with this.
    _faults: Option<Running>,
    told: Told,
    recorder: Recorder,
}

/// Serves on the port, and starts what goes on beside it.
fn serve(
    world: &mut World,
    config: &Config,
    opened: Opened,
    disk_faults: DiskSwitch,
    tasks: &mut JoinSet<()>,
) -> Result<Serving, RunError> {
    let Opened {
        incoming,
        pages_incoming,
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
    } = opened;
    let (stop, mut stopping) = watch::channel(false);
    let elsewhere = watch::Sender::new(false);
    let dc = &config.locality.dc;
    let gateway = Gateway::new(
        raft.clone(),
        dc,
        world.seed,
        elsewhere.subscribe(),
        (told.clone(), config.tenants),
    );
    tasks.spawn(count::tell(gateway.clone()));
    tasks.spawn(count::count(gateway.clone()));
    let databases = vec![world.raftdb.clone(), world.msgdb.clone()];
    let reserve = config.limits.disk_reserve;
    let disk = world.disk.clone();
    let (disk_seen, disk) = room::watch(
        disk,
        databases,
        state.clone(),
        raft.clone(),
        reserve,
        told.clone(),
        disk_faults.clone(),
    );
    let doors = doors(world, config, &raft)?;
    if let Some(book) = doors.book() {
        tasks.spawn(book.clone().tell(gateway.clone()));
    }
    let faults = faults::open(world, config, &raft, &told, (disk_faults, doors.clone()))?;
    tasks.spawn(disk);
    tasks.spawn(watch_refusals(refusals, guard.clone(), told.clone()));
    tasks.spawn(forget_founding(raft.clone(), log.clone(), record));
    let (health, health_service) = tonic_health::server::health_reporter();
    let elsewhere_task = tasks.spawn(send_elsewhere(
        health.clone(),
        raft.clone(),
        elsewhere.clone(),
    ));
    let local = Local {
        gateway: gateway.clone(),
        canary: Canary::new(gateway.clone(), config.http.canary),
        happened,
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
    let admin = Arc::new(Admin {
        gateway: gateway.clone(),
        log,
        state,
        background: world.background.clone(),
        disk: disk_seen,
        budget,
        memory,
        guard: guard.clone(),
        started: Instant::now(),
        pid: world.pid,
        entropy: world.entropy.clone(),
        clock: world.clock.clone(),
        guesses: Guesses::default(),
        authority: world.authority.clone(),
        metrics: world.metrics.clone(),
        local: local.clone(),
        recorder: recorder.clone(),
        files: Arc::new(files(world, config)),
        faults: faults.as_ref().map(|running| running.told_of()),
    });
    let attached = world.metrics.attach(Sources {
        admin: admin.clone(),
        process: world.process.clone(),
    });
    let body_bytes_max = config.limits.body_bytes_max;
    let peer = raft.peer_service();
    let routes = services(
        &gateway,
        (admin.clone(), doors.clone()),
        body_bytes_max,
        peer,
    );
    let mut routes = routes.map_err(RunError::Start)?.add_service(health_service);
    let pages = config.http.enabled.then(|| {
        let shared = http::Shared {
            api: Arc::new(Api::new(admin, config.clone())),
            metrics: world.metrics.clone(),
            doors: doors.clone(),
        };
        http::router(shared, world.console.clone())
    });
    let (pages_incoming, alone) = match (pages, pages_incoming) {
        (Some(pages), Some(incoming)) => (Some(incoming), Some(pages)),
        (Some(pages), None) => {
            routes = http::beside(routes, pages);
            (None, None)
        }
        (None, _) => (None, None),
    };
    let routes = access::layer::guarded(routes, doors.clone());
    if let Some(connections) = world.local.take() {
        let routes = access::layer::local(routes.clone());
        let mut stopping = stopping.clone();
        tasks.spawn(async move {
            let stopped = async move { said(&mut stopping).await };
            let served = http2_server().add_routes(routes);
            let ended = served.serve_with_incoming_shutdown(connections, stopped);
            if let Err(error) = ended.await {
                tracing::error!(%error, "the local socket is served no more");
            }
        });
    }
    let routes = plain::refused(routes);
    let (served, server_ended) = watch::channel(None);
    let callers = TaskTracker::new();
    let closing = watch::Sender::new(false);
    let ending = Ending {
        closing: closing.subscribe(),
        elsewhere: elsewhere.subscribe(),
        callers: callers.clone(),
    };
    if let (Some(incoming), Some(pages)) = (pages_incoming, alone) {
        let (guard, ending) = (guard.clone(), ending.clone());
        let mut stopping = stopping.clone();
        tasks.spawn(async move {
            let stopped = async move { said(&mut stopping).await };
            let routes = http::beside(Routes::default(), pages);
            let routes = access::layer::guarded(routes, doors);
            let routes = plain::refused(routes);
            incoming.serve(routes, stopped, ending, guard).await;
        });
    }
    tasks.spawn(async move {
        let stopped = async move { said(&mut stopping).await };
        incoming.serve(routes, stopped, ending, guard).await;
        served.send_replace(Some("it ended".to_owned()));
    });
    Ok(Serving {
        raft,
        gateway,
        log_failure,
        server_ended,
        health,
        elsewhere_task,
        elsewhere,
        closing,
        stop,
        callers,
        _gauging: gauging,
        _attached: attached,
        _faults: faults,
        told,
        recorder,
    })
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

impl Serving {
    /// Waits for an end: `Ok` for one that clients need not notice, with what [`run`] gives then; `Err`
    /// for one at once.
    async fn outcome(
        &mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Result<(), RunError>, RunError> {
        let (mut fatal, mut refused) = (self.raft.fatal(), self.raft.refused());
        tokio::select! {
            biased;
            reason = reason(&mut fatal) => Err(RunError::Fatal(reason)),
            reason = reason(&mut self.log_failure) => Err(RunError::Fatal(reason)),
            refused = reason(&mut refused) => match refused.removed {
                // It holds nothing that anybody counts on, and its clients need not notice.
                true => Ok(Err(RunError::Refused(refused.why))),
                false => Err(RunError::Refused(refused.why)),
            },
            () = shutdown => Ok(Ok(())),
            why = reason(&mut self.server_ended) => {
                Err(RunError::Fatal(format!("the listener: {why}")))
            }
        }
    }

    /// Tells of the end, and has the recorder write it, unless the disk holds it up.
    async fn end(&self, event: &Event) {
        self.told.tell(event);
        // What is not written by then is lost.
        let _ = timeout(LAST_WRITE_MAX, self.recorder.flush()).await;
    }

    /// Gives away what the node leads, sends clients elsewhere, lets calls finish, and flushes.
    async fn stop(self, end: Result<(), RunError>) -> Result<(), RunError> {
        match &end {
            Ok(()) => tracing::info!("stopping"),
            Err(error) => {
                tracing::error!(%error, "clients are sent elsewhere, and this node stops")
            }
        }
        self.told.tell(&Event::Stopping);
        let left = self.raft.step_aside(STEP_ASIDE_MAX).await;
        if left > 0 {
            tracing::warn!(
                shards = left,
                "what nobody could take over is led until the end"
            );
        }
        self.elsewhere_task.abort();
        set_health(&self.health, ServingStatus::NotServing).await;
        self.closing.send_replace(true);
        self.elsewhere.send_replace(true);
        tokio::time::sleep(NOTICE).await;
        self.stop.send_replace(true);
        let (calls, callers) = (&self.gateway.calls, &self.callers);
        tracing::debug!(
            calls = calls.len(),
            clients = callers.len(),
            "taking no more calls"
        );
        calls.close();
        if timeout(CALLS_MAX, calls.wait()).await.is_err() {
            tracing::warn!(calls = calls.len(), "calls were cut off");
        }
        tracing::debug!(clients = callers.len(), "every call has ended");
        callers.close();
        if timeout(CALLERS_MAX, callers.wait()).await.is_err() {
            tracing::info!(clients = callers.len(), "clients did not hang up in time");
        }
        // Whatever failed until here was no part of stopping.
        let failed = self.raft.fatal().borrow().clone();
        if timeout(SHUTDOWN_MAX, self.raft.shutdown()).await.is_err() {
            tracing::warn!(
                "the groups did not stop in time; the next start replays what was not flushed"
            );
        }
        self.end(&Event::Stopped).await;
        tracing::info!("stopped");
        failed.map_or(end, |reason| Err(RunError::Fatal(reason)))
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

/// Everything on one listener.
fn services(
    gateway: &Arc<Gateway>,
    (admin, doors): (Arc<Admin>, Arc<Doors>),
    body_bytes_max: usize,
    peer: PeerServer<impl Peer>,
) -> Result<Routes, String> {
    let messages = Messages {
        gateway: gateway.clone(),
        body_bytes_max,
        pages: Pages::default(),
    };
    let conversations = Conversations {
        gateway: gateway.clone(),
    };
    let changes = Changes {
        gateway: gateway.clone(),
    };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let text = |error: tonic_reflection::server::Error| format!("reflection: {error}");
    let reflection_v1 = reflection().build_v1().map_err(text)?;
    // What older clients ask for.
    let reflection_v1alpha = reflection().build_v1alpha().map_err(text)?;
    let routes = Routes::new(
        MessagesServer::new(messages)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX),
    )
    .add_service(ConversationsServer::new(conversations))
    .add_service(ChangesServer::new(changes).max_encoding_message_size(FRAME_BYTES_MAX))
    .add_service(TenantsServer::new(Tenants {
        gateway: gateway.clone(),
    }))
    .add_service(QuotasServer::new(Quotas {
        gateway: gateway.clone(),
    }))
    .add_service(AdminServer::from_arc(admin.clone()))
    .add_service(AccessServer::new(Access { admin, doors }))
    .add_service(
        peer.max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX),
    )
    .add_service(reflection_v1)
    .add_service(reflection_v1alpha);
    grpc::with_rules(
        routes,
        &[
            proto::DESCRIPTORS,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ],
    )
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

/// Healthy as soon as the cluster's view is known, until the node drains and leaders have moved; then
/// its clients are sent elsewhere. Calls go on being answered: nobody has to hurry.
async fn send_elsewhere(health: HealthReporter, raft: Arc<Node>, elsewhere: watch::Sender<bool>) {
    set_health(&health, ServingStatus::NotServing).await;
    if raft.view().wait_for(|view| view.epoch > 0).await.is_err() {
        return;
    }
    let mut aside = raft.aside();
    loop {
        let gone = *aside.borrow_and_update();
        let status = match gone {
            true => ServingStatus::NotServing,
            false => ServingStatus::Serving,
        };
        set_health(&health, status).await;
        elsewhere.send_replace(gone);
        if aside.changed().await.is_err() {
            return;
        }
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in [
        "",
        "firebreak.v1.Messages",
        "firebreak.v1.Conversations",
        "firebreak.v1.Tenants",
        "firebreak.v1.Admin",
        "firebreak.v1.Access",
    ] {
        health.set_service_status(service, status).await;
    }
}

/// Completes when there is a reason; never when nobody is left to give one.
async fn reason<T: Clone>(reasons: &mut watch::Receiver<Option<T>>) -> T {
    let reason = reasons
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}
