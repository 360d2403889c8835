//! Makes a run: builds the field, starts the hosts and the client, does what the timeline says,
//! and gathers the report.

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use parking_lot::Mutex;
use proto::net::Network as _;

use crate::dice::derive;
use crate::host::{Founding, Host};
use crate::load::{self, Ledger};
use crate::net::{self, Field, Net};
use crate::readback::{self, Readback};
use crate::report::Report;
use crate::scenario::{Action, Scenario};
use crate::view;

/// The client's host.
const CLIENT: &str = "client";
/// One way between the client and any data center.
const CLIENT_LATENCY: Duration = Duration::from_millis(5);
/// The most that a link between data centers, or to the client, is slower than its latency.
const JITTER_MAX: Duration = Duration::from_millis(4);
/// How long the cluster may take until all shards are led.
const FOUNDING_MAX: Duration = Duration::from_secs(60);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);
/// Virtual time for reading back.
const READBACK_MAX: Duration = Duration::from_secs(120);

/// What the client's host tells the run.
#[derive(Default)]
struct Told {
    /// When the load began.
    began: Option<Duration>,
    ledger: Ledger,
    retries: u64,
    readback: Readback,
}

/// Makes a run. It takes one thread and some tens of times less than its virtual time.
///
/// # Panics
/// When anything in it panics: a broken invariant of the product.
pub fn run(scenario: &Scenario) -> Report {
    let told = Arc::new(Mutex::new(Told::default()));
    let limit = FOUNDING_MAX + scenario.load + load::DEADLINE + READBACK_MAX;
    let mut field = Field::new(derive(scenario.seed, "field"), limit);
    let mut events = Vec::new();
    let outcome = drive(scenario, &mut field, &told, &mut events);
    let told = std::mem::take(&mut *told.lock());
    Report {
        command: scenario.command(),
        nodes: scenario.nodes(),
        events,
        acked: told.ledger.acked(),
        retries: told.retries,
        longest_gap: told.ledger.longest_gap(),
        worst_gap: told.ledger.worst_gap(),
        gap_max: scenario.gap_max,
        failed: told.ledger.failed,
        settled: told.readback.settled,
        replicas: told.readback.replicas,
        reads: told.readback.reads,
        broken: told.readback.broken,
        stopped: outcome.err(),
        simulated: field.now(),
    }
}

fn drive(
    scenario: &Scenario,
    field: &mut Field,
    told: &Arc<Mutex<Told>>,
    events: &mut Vec<(Duration, String)>,
) -> Result<(), String> {
    let hosts = build(scenario, field)?;
    let endpoints = one_of_each_dc(scenario, &hosts);
    let net = field.net(CLIENT);
    let (mine, tells) = (scenario.clone(), told.clone());
    field.client(CLIENT, async move {
        Ok(client(mine, net, endpoints, tells).await?)
    });
    for host in &hosts {
        field.set_latency(
            CLIENT,
            &host.name,
            CLIENT_LATENCY,
            CLIENT_LATENCY + JITTER_MAX,
        );
    }
    let mut left = scenario.timeline.iter().peekable();
    loop {
        if field.step()? {
            return Ok(());
        }
        let began = told.lock().began;
        let since = began.map(|began| field.now().saturating_sub(began));
        if let (Some(since), Some((at, action))) = (since, left.peek())
            && since >= *at
        {
            act(action, field, &hosts)?;
            let event = match action {
                Action::Burn(dc) => format!("{dc} burns"),
                Action::Return(dc) => format!("{dc} is back"),
            };
            tracing::info!(at_ms = since.as_millis(), event);
            events.push((since, event));
            left.next();
        }
    }
}

/// All hosts, running, with the latencies between them.
fn build(scenario: &Scenario, field: &mut Field) -> Result<Vec<Arc<Host>>, String> {
    let mut hosts = Vec::new();
    for (dc, nodes) in &scenario.dcs {
        for number in 1..=*nodes {
            let host = Host::new(&format!("{dc}-{number}"), dc, scenario.seed)?;
            hosts.push(Arc::new(host));
        }
    }
    let founder = hosts.first().ok_or("a scenario needs nodes")?.address();
    let founding = Arc::new(Founding::new(scenario.nodes(), founder));
    for host in &hosts {
        let (mine, net, founding) = (host.clone(), field.net(&host.name), founding.clone());
        field.host(&host.name, move || {
            mine.clone().live(net.clone(), founding.clone())
        });
    }
    for (at, a) in hosts.iter().enumerate() {
        for b in hosts[at + 1..].iter().filter(|b| b.dc != a.dc) {
            let max = scenario.latency + JITTER_MAX;
            field.set_latency(&a.name, &b.name, scenario.latency, max);
        }
    }
    Ok(hosts)
}

fn one_of_each_dc(scenario: &Scenario, hosts: &[Arc<Host>]) -> Vec<String> {
    let firsts = scenario
        .dcs
        .iter()
        .filter_map(|(dc, _)| hosts.iter().find(|host| host.dc == *dc));
    firsts.map(|host| host.address()).collect()
}

fn act(action: &Action, field: &mut Field, hosts: &[Arc<Host>]) -> Result<(), String> {
    let of = |dc: &str| -> Vec<String> {
        let hosts = hosts.iter().filter(|host| host.dc == dc);
        hosts.map(|host| host.name.clone()).collect()
    };
    match action {
        Action::Burn(dc) => {
            field.burn(&of(dc))?;
            for host in hosts.iter().filter(|host| host.dc == *dc) {
                host.cut_power();
            }
        }
        Action::Return(dc) => field.restart(&of(dc)),
    }
    Ok(())
}

/// The whole life of the client's host.
async fn client(
    scenario: Scenario,
    net: Net,
    endpoints: Vec<String>,
    told: Arc<Mutex<Told>>,
) -> Result<(), String> {
    let client = Client::builder()
        .endpoints(endpoints)
        .dialer(net.dialer())
        .deadline(load::DEADLINE)
        .seed(derive(scenario.seed, "client"))
        .build()
        .map_err(|error| error.to_string())?;
    let nodes = scenario.nodes();
    loop {
        let seen = view::statuses(&client, nodes).await;
        match seen.and_then(|statuses| view::all_led(&statuses)) {
            Ok(()) => break,
            Err(why) if net::now() > FOUNDING_MAX => {
                return Err(format!("the cluster did not come to life: {why}"));
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    told.lock().began = Some(net::now());
    let ledger = load::run(&scenario, &client).await?;
    {
        let mut told = told.lock();
        told.ledger = ledger.clone();
        told.retries = client.stats().retries;
    }
    let readback = readback::run(&net, &client, nodes, &ledger).await?;
    told.lock().readback = readback;
    Ok(())
}
