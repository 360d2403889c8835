//! The load against a real cluster in virtual time: three data centers, two client sites.

mod checks;
mod silent;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use client::{Client, Level};
use parking_lot::Mutex;
use proto::net::{Channel, Dial, Dialer, Network as _};
use tokio::sync::Barrier;

use super::*;
use crate::history::{Append, AppendEnd, Final, History};
use crate::host::{Founding, Host};
use crate::net::{Field, now_us};
use crate::oracle::liveness;
use crate::plan::{
    Dc, DiskKind, Expect, FORMAT, Link, NodeSpec, Readers, Tier, Topology, Workload,
};
use checks::{check_finals, check_ids, check_reads, check_sessions, check_tails, check_told};

const DCS: [&str; 3] = ["seoul", "busan", "tokyo"];
/// True time for a whole test, microseconds.
const LIMIT_US: u64 = 180_000_000;

/// A calm run of 10 s.
pub(crate) fn plan(seed: u64) -> Plan {
    let link = |ms: u64| Link {
        latency_us: (ms * 1_000, ms * 1_000),
        jitter_us: 1_000,
        loss_ppm: 0,
        bandwidth_bytes: 0,
    };
    let dc = |name: &&str| Dc {
        name: (*name).to_owned(),
        region: "kr".to_owned(),
        building: (*name).to_owned(),
        nodes: vec![NodeSpec {
            name: format!("{name}-1"),
            rack: "r1".to_owned(),
            joins_at_ms: None,
            read_lease_ms: None,
        }],
    };
    let site = |dc: &str| plan::Site {
        name: format!("client-{dc}"),
        dc: dc.to_owned(),
        inside: false,
    };
    Plan {
        format: FORMAT,
        scenario: "calm".to_owned(),
        about: "Nothing happens.".to_owned(),
        seed,
        tier: Tier::Grpc,
        disk: DiskKind::Memory,
        control: false,
        topology: Topology {
            dcs: DCS.iter().map(dc).collect(),
            local: link(1),
            wan: link(15),
            links: Vec::new(),
            shards: 0,
            replicas: 3,
            replace_after_ms: 0,
            scrub_every_ms: 0,
            prefer: Vec::new(),
        },
        workload: Workload {
            duration_ms: 10_000,
            sites: vec![site("seoul"), site("busan")],
            rooms: 8,
            zipf_milli: 900,
            own_rooms: false,
            senders: 8,
            pause_ms: (50, 200),
            stream_percent: 50,
            burst: (1, 4),
            body_bytes: (10, 300),
            resend_percent: 10,
            readers: Readers {
                linearizable: 2,
                session: 2,
                bounded: 2,
                local: 2,
                bound_ms: 2_000,
                pause_ms: (50, 200),
            },
            tails: 6,
            tail_resume_ms: 1_500,
            movers: 2,
            move_every_ms: 2_000,
            changers: 0,
            deadline_ms: 5_000,
        },
        events: Vec::new(),
        expect: Expect::default(),
    }
}

/// Something that is done to a run, ms after its load began.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// All clients come anew.
    Stampede,
    /// These data centers burn.
    Burn(&'static [&'static str]),
    /// They come back, with what their disks keep in a power cut.
    Return(&'static [&'static str]),
}

/// A dialer that notes when it was asked.
struct Noting {
    dialer: Dialer,
    dials_us: Arc<Mutex<Vec<u64>>>,
}

impl Dial for Noting {
    fn dial(&self, address: &str) -> std::io::Result<Channel> {
        self.dials_us.lock().push(now_us());
        self.dialer.dial(address)
    }
}

/// What a run of the load left.
struct Ran {
    history: History,
    places: Vec<usize>,
    /// Whom [`Env::acked`] told of.
    told: Vec<(usize, String)>,
    /// When the probe was acknowledged, true time.
    probed_us: u64,
    missed: Vec<String>,
    /// When the sites' clients were given channels.
    dials_us: Vec<u64>,
}

/// What the sites of a run share.
struct Meeting {
    sites: Barrier,
    probed_us: Mutex<u64>,
    missed: Mutex<Vec<String>>,
    finals: Mutex<Vec<Final>>,
    /// How each site ended.
    ended: Mutex<Vec<Result<(), String>>>,
}

fn run(plan: Plan, timeline: &[(u64, Do)]) -> Ran {
    let plan = Arc::new(plan);
    let mut field = Field::new(plan.seed, plan.tier, plan.topology.local, plan.topology.wan);
    let hosts = cluster(&mut field, &plan);
    let recorder = Recorder::new(&plan);
    let (stampede, stampedes) = watch::channel(0);
    let (told, dials_us) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
    let meeting = Arc::new(Meeting {
        sites: Barrier::new(plan.workload.sites.len()),
        probed_us: Mutex::default(),
        missed: Mutex::default(),
        finals: Mutex::default(),
        ended: Mutex::default(),
    });
    for (index, site) in plan.workload.sites.iter().enumerate() {
        let tells = told.clone();
        let env = Env {
            plan: plan.clone(),
            site: site.clone(),
            dialer: Arc::new(Noting {
                dialer: field.net(&site.name, &site.dc).dialer(),
                dials_us: Arc::clone(&dials_us),
            }),
            endpoints: hosts.iter().map(|host| host.address()).collect(),
            now_us: Arc::new(now_us),
            acked: Arc::new(move |number, marker: &str| {
                tells.lock().push((number, marker.to_owned()));
            }),
            stampede: stampedes.clone(),
            recorder: recorder.clone(),
        };
        let (meeting, hosts) = (meeting.clone(), hosts.clone());
        field.machine(&site.name, &site.dc, move || {
            let (env, meeting, hosts) = (env.clone(), meeting.clone(), hosts.clone());
            async move {
                let ended = live(env, index, hosts, &meeting).await;
                meeting.ended.lock().push(ended);
            }
        });
    }
    let mut left = timeline.iter().peekable();
    while meeting.ended.lock().len() < plan.workload.sites.len() {
        field.step().unwrap();
        let now = field.now_us();
        assert!(now < LIMIT_US, "the sites hang");
        assert!(hosts.iter().all(|host| host.ended().is_none()));
        let due = |at_ms: u64| recorder.begun().is_some_and(|us| now >= us + at_ms * 1_000);
        if let Some((_, what)) = left.next_if(|(at_ms, _)| due(*at_ms)) {
            act(*what, &mut field, &hosts, &stampede);
        }
    }
    let ended: Result<(), String> = meeting.ended.lock().drain(..).collect();
    ended.unwrap();
    let (mut history, places) = recorder.finish();
    history.finals = std::mem::take(&mut *meeting.finals.lock());
    let told = std::mem::take(&mut *told.lock());
    let missed = std::mem::take(&mut *meeting.missed.lock());
    let dials_us = std::mem::take(&mut *dials_us.lock());
    Ran {
        history,
        places,
        told,
        probed_us: *meeting.probed_us.lock(),
        missed,
        dials_us,
    }
}

/// The plan's nodes, running.
fn cluster(field: &mut Field, plan: &Plan) -> Vec<Arc<Host>> {
    let nodes = || plan.topology.nodes();
    let hosts: Vec<Arc<Host>> = nodes()
        .map(|(dc, node)| Arc::new(Host::new(node, (&dc.name, &dc.region), plan).unwrap()))
        .collect();
    let founding = Arc::new(Founding {
        nodes: u32::try_from(hosts.len()).unwrap(),
        shards: plan.topology.shards,
        replicas: plan.topology.replicas,
        founder: hosts[0].address(),
        peers: Vec::new(),
        founded: AtomicBool::new(false),
        token: Mutex::default(),
    });
    for host in &hosts {
        let net = field.net(&host.name, &host.dc);
        let (mine, founding) = (host.clone(), founding.clone());
        let clocks = field.machine(&host.name, &host.dc, move || {
            mine.clone().live(net.clone(), founding.clone())
        });
        host.follow(clocks);
    }
    hosts
}

fn act(what: Do, field: &mut Field, hosts: &[Arc<Host>], stampede: &watch::Sender<u64>) {
    let (Do::Burn(dcs) | Do::Return(dcs)) = what else {
        stampede.send_modify(|count| *count += 1);
        return;
    };
    for host in hosts.iter().filter(|host| dcs.contains(&host.dc.as_str())) {
        if matches!(what, Do::Burn(_)) {
            field.go_dark(&host.name).unwrap();
            host.cut_power().unwrap();
        } else {
            field.start(&host.name).unwrap();
        }
    }
}

/// The whole life of a site.
async fn live(
    env: Env,
    index: usize,
    hosts: Vec<Arc<Host>>,
    meeting: &Meeting,
) -> Result<(), String> {
    let client = Client::builder()
        .endpoints(env.endpoints.clone())
        .dialer(env.dialer.clone())
        .seed(index as u64)
        .build()
        .map_err(|error| error.to_string())?;
    // Until every shard serves.
    for room in 0..env.plan.workload.rooms {
        let name = env.recorder.room_name(room);
        loop {
            match client.get_conversation(name, &Level::Linearizable).await {
                Ok(_) => break,
                Err(error) if error.is_not_found() => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
    drop(client);
    let tails = site(env.clone()).await?;
    meeting.sites.wait().await;
    if index == 0 {
        *meeting.probed_us.lock() = probe(&env, Duration::from_secs(10)).await?;
    }
    meeting.sites.wait().await;
    let missed = tails.drain(DRAIN_MAX).await;
    meeting.missed.lock().extend(missed);
    meeting.sites.wait().await;
    if index == 0 {
        let nodes: Vec<(String, String)> = hosts
            .iter()
            .map(|host| (host.name.clone(), host.address()))
            .collect();
        let read = finals(&env, &nodes, env.plan.workload.rooms).await;
        let read: Result<Vec<_>, String> = read.into_iter().collect();
        *meeting.finals.lock() = read?;
    }
    Ok(())
}

#[test]
fn a_calm_load_is_acknowledged_read_at_every_level_and_followed_to_its_end() {
    for tier in [Tier::Grpc, Tier::Direct] {
        let plan = Plan { tier, ..plan(11) };
        check_calm(&run(plan, &[(4_000, Do::Stampede)]));
    }
}

fn check_calm(ran: &Ran) {
    let history = &ran.history;
    let workload = plan(11).workload;
    assert!(history.ended_us >= history.began_us + 10_000_000);
    assert!(history.appends.len() > 400, "{}", history.appends.len());
    let failed = liveness::failed(history, |_| true);
    assert!(failed.is_empty(), "{failed:?}");
    assert!(ran.missed.is_empty(), "{:?}", ran.missed);
    let acked = |append: &Append| matches!(append.end, AppendEnd::Acked { .. });
    assert!(history.appends.iter().all(acked));

    let ids = check_ids(history);
    let repeats = history.appends.iter().filter(|append| append.repeats);
    assert_eq!(repeats.count(), history.appends.len() - ids);
    assert!(history.appends.len() - ids > 10);
    check_told(ran);

    // Two clients of each site know three nodes, and all of them came anew.
    let stampede = history.began_us + 4_000_000..history.began_us + 4_100_000;
    let dials = ran.dials_us.iter().filter(|us| stampede.contains(us));
    assert_eq!(dials.count(), 2 * 2 * 3);

    check_sessions(history);
    check_reads(history, &workload);
    let rooms = check_finals(history, &workload);
    check_tails(history, &rooms);
    assert!(ran.probed_us > history.ended_us);
    let probed = |append: &&Append| append.sender == PROBER;
    assert_eq!(history.appends.iter().filter(probed).count(), 8);
}

#[test]
fn what_an_outage_left_unknown_is_sent_again_under_its_id_and_settled() {
    let mut plan = plan(12);
    plan.workload.duration_ms = 18_000;
    let lost = &DCS[1..];
    let ran = run(plan, &[(2_000, Do::Burn(lost)), (9_000, Do::Return(lost))]);
    let history = &ran.history;
    let workload = &super::tests::plan(12).workload;
    assert!(!liveness::failed(history, |_| true).is_empty());
    let mut unknown: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for append in &history.appends {
        let acked = matches!(append.end, AppendEnd::Acked { .. });
        unknown.entry(append.id.as_str()).or_default().push(acked);
    }
    let settled = unknown
        .values()
        .filter(|ends| !ends[0] && ends.contains(&true));
    assert!(settled.count() > 5);
    check_ids(history);
    check_told(&ran);
    check_sessions(history);
    let rooms = check_finals(history, workload);
    assert!(ran.missed.is_empty(), "{:?}", ran.missed);
    check_tails(history, &rooms);
}
