//! The load against a real cluster in virtual time: three data centers, two client sites, nothing
//! goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use client::Client;
use parking_lot::Mutex;
use proto::net::Network as _;
use tokio::sync::Barrier;

use super::*;
use crate::history::{AppendEnd, History, Level, Seen};
use crate::host::{Founding, Host};
use crate::net::{self, Field};
use crate::plan::{
    Dc, DiskKind, Expect, FORMAT, Link, NodeSpec, Readers, Tier, Topology, Workload,
};
use crate::view;

const DCS: [&str; 3] = ["seoul", "busan", "tokyo"];
/// Virtual time for a whole test.
const LIMIT: Duration = Duration::from_secs(180);
/// One way between data centers.
const LATENCY: Duration = Duration::from_millis(15);

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
        },
        workload: Workload {
            duration_ms: 10_000,
            sites: vec![site("seoul"), site("busan")],
            rooms: 8,
            zipf_milli: 900,
            senders: 8,
            pause_ms: (50, 200),
            stream_percent: 50,
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
            deadline_ms: 5_000,
        },
        events: Vec::new(),
        expect: Expect::default(),
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
}

/// What the sites of a run share.
struct Meeting {
    sites: Barrier,
    probed_us: Mutex<u64>,
    missed: Mutex<Vec<String>>,
    finals: Mutex<Vec<crate::history::Final>>,
}

fn run(plan: Plan) -> Ran {
    let plan = Arc::new(plan);
    let mut field = Field::new(plan.seed, LIMIT);
    let hosts: Vec<Arc<Host>> = DCS
        .iter()
        .map(|dc| Arc::new(Host::new(&format!("{dc}-1"), dc, plan.seed).unwrap()))
        .collect();
    let founding = Arc::new(Founding::new(3, hosts[0].address()));
    for host in &hosts {
        let (mine, net, founding) = (host.clone(), field.net(&host.name), founding.clone());
        field.host(&host.name, move || {
            mine.clone().live(net.clone(), founding.clone())
        });
    }
    let recorder = Recorder::new(&plan);
    let (stampede, stampedes) = watch::channel(0);
    let told = Arc::new(Mutex::new(Vec::new()));
    let meeting = Arc::new(Meeting {
        sites: Barrier::new(plan.workload.sites.len()),
        probed_us: Mutex::default(),
        missed: Mutex::default(),
        finals: Mutex::default(),
    });
    for (index, site) in plan.workload.sites.iter().enumerate() {
        let tells = told.clone();
        let env = Env {
            plan: plan.clone(),
            site: site.clone(),
            dialer: field.net(&site.name).dialer(),
            endpoints: hosts.iter().map(|host| host.address()).collect(),
            now_us: Arc::new(|| u64::try_from(net::now().as_micros()).unwrap()),
            acked: Arc::new(move |number, marker: &str| {
                tells.lock().push((number, marker.to_owned()));
            }),
            stampede: stampedes.clone(),
            recorder: recorder.clone(),
        };
        let (meeting, hosts) = (meeting.clone(), hosts.clone());
        field.client(&site.name, async move {
            Ok(live(env, index, hosts, meeting).await?)
        });
    }
    for (at, a) in hosts.iter().enumerate() {
        for b in &hosts[at + 1..] {
            field.set_latency(
                &a.name,
                &b.name,
                LATENCY,
                LATENCY + Duration::from_millis(2),
            );
        }
    }
    let mut rushed = false;
    while !field.step().unwrap() {
        let began = recorder.begun();
        let now = u64::try_from(field.now().as_micros()).unwrap();
        if !rushed && began.is_some_and(|began| now > began + 4_000_000) {
            stampede.send_replace(1);
            rushed = true;
        }
    }
    let (mut history, places) = recorder.finish();
    history.finals = std::mem::take(&mut *meeting.finals.lock());
    let told = std::mem::take(&mut *told.lock());
    let missed = std::mem::take(&mut *meeting.missed.lock());
    Ran {
        history,
        places,
        told,
        probed_us: *meeting.probed_us.lock(),
        missed,
    }
}

/// The whole life of a site.
async fn live(
    env: Env,
    index: usize,
    hosts: Vec<Arc<Host>>,
    meeting: Arc<Meeting>,
) -> Result<(), String> {
    let client = Client::builder()
        .endpoints(env.endpoints.clone())
        .dialer(env.dialer.clone())
        .seed(index as u64)
        .build()
        .map_err(|error| error.to_string())?;
    loop {
        let seen = view::statuses(&client, 3).await;
        if seen.and_then(|statuses| view::all_led(&statuses)).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
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
    let ran = run(plan(11));
    let history = &ran.history;
    let workload = plan(11).workload;
    assert!(history.ended_us >= history.began_us + 10_000_000);
    assert!(history.appends.len() > 400, "{}", history.appends.len());
    assert_eq!(failed_calls(history, workload.deadline_ms), [""; 0]);
    assert!(ran.missed.is_empty(), "{:?}", ran.missed);

    // Every id has one seq, and sending it again was answered with that.
    let mut seqs: BTreeMap<(u32, &str, &str), u64> = BTreeMap::new();
    for append in &history.appends {
        let AppendEnd::Acked { seq } = append.end else {
            panic!("{append:?}");
        };
        let id = (append.room, append.sender.as_str(), append.id.as_str());
        assert_eq!(seqs.insert(id, seq).unwrap_or(seq), seq, "{append:?}");
    }
    let repeats = history.appends.iter().filter(|append| append.repeats);
    assert_eq!(repeats.count(), history.appends.len() - seqs.len());
    assert!(history.appends.len() - seqs.len() > 10);

    // Those who were told of acknowledgements were told of each, by its marker.
    assert_eq!(ran.told.len(), history.appends.len());
    let markers: BTreeMap<&str, BTreeSet<&str>> =
        ran.told
            .iter()
            .fold(BTreeMap::new(), |mut by, (number, marker)| {
                let append = &history.appends[ran.places[*number]];
                let ids: &mut BTreeSet<&str> = by.entry(marker.as_str()).or_default();
                ids.insert(append.id.as_str());
                by
            });
    assert!(markers.values().all(|ids| ids.len() == 1));

    check_sessions(history);
    check_reads(history, &workload);
    let rooms = check_finals(history, &workload);
    check_tails(history, &rooms);
    assert!(ran.probed_us > history.ended_us);
    let probed = |append: &&crate::history::Append| append.sender == PROBER;
    assert_eq!(history.appends.iter().filter(probed).count(), 8);
}

/// Operations of a session follow one another, and movers are seen at every site.
fn check_sessions(history: &History) {
    let mut calls: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for append in &history.appends {
        let call = (append.invoked_us, append.returned_us.unwrap());
        calls.entry(append.session).or_default().push(call);
    }
    for read in &history.reads {
        let call = (read.invoked_us, read.returned_us.unwrap());
        calls.entry(read.session).or_default().push(call);
    }
    for (session, calls) in &mut calls {
        calls.sort_unstable();
        let in_turn = calls.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        assert!(in_turn, "session {session}: {calls:?}");
    }
    for mover in ["m0", "m1"] {
        let own = history
            .appends
            .iter()
            .filter(|append| append.sender == mover);
        let sites: BTreeSet<&str> = own.map(|append| append.site.as_str()).collect();
        assert_eq!(sites.len(), 2, "{mover}");
    }
}

fn check_reads(history: &History, workload: &Workload) {
    let bound_ms = workload.readers.bound_ms;
    for level in [
        Level::Linearizable,
        Level::Session,
        Level::Bounded { bound_ms },
        Level::Local,
    ] {
        let of = history.reads.iter().filter(|read| read.level == level);
        let pages: Vec<_> = of.map(|read| read.end.as_ref().unwrap()).collect();
        assert!(pages.len() > 50, "{level:?}: {}", pages.len());
        assert!(pages.iter().any(|page| page.from > 1));
        assert!(
            pages
                .iter()
                .any(|page| page.from == 0 && page.messages.len() > 1)
        );
        for page in pages {
            let dense = page.messages.windows(2).all(|p| p[0].seq + 1 == p[1].seq);
            assert!(
                dense && page.messages.len() <= page.limit as usize,
                "{page:?}"
            );
        }
    }
}

/// All nodes show the same at both levels; gives it, by room.
fn check_finals(history: &History, workload: &Workload) -> BTreeMap<u32, Vec<Seen>> {
    assert_eq!(history.finals.len(), 3 * 2 * workload.rooms as usize);
    let mut rooms: BTreeMap<u32, Vec<Seen>> = BTreeMap::new();
    for last in &history.finals {
        let first = rooms
            .entry(last.room)
            .or_insert_with(|| last.messages.clone());
        assert_eq!(*first, last.messages, "{} {:?}", last.node, last.level);
        assert!((1..).zip(&last.messages).all(|(seq, seen)| seq == seen.seq));
    }
    for append in &history.appends {
        let AppendEnd::Acked { seq } = append.end else {
            continue;
        };
        let seen = &rooms[&append.room][usize::try_from(seq).unwrap() - 1];
        let said = (&append.sender, &append.id, append.body);
        assert_eq!((&seen.sender, &seen.id, seen.body), said);
    }
    rooms
}

fn check_tails(history: &History, rooms: &BTreeMap<u32, Vec<Seen>>) {
    assert_eq!(history.tails.len(), 6);
    for tail in &history.tails {
        assert!(tail.complete && tail.error.is_none(), "{tail:?}");
        let given: Vec<&Seen> = tail.events.iter().map(|(_, seen)| seen).collect();
        let expect = rooms[&tail.room]
            .iter()
            .filter(|seen| seen.seq >= tail.from);
        assert_eq!(given, expect.collect::<Vec<_>>());
    }
}
