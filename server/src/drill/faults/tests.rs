use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use model::cluster::drills::{Drill, Drills, Lever, State};
use model::cluster::{ClusterState, Node};
use model::id::NodeId;
use parking_lot::Mutex;
use proto::net::faulty::{Harm, Rule};
use proto::v1;
use store::engine::memory::Disk;
use store::engine::{Batch, Engine};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::control::Parts;
use super::disk::{Held, Syncs, Wrong};
use super::kind::Kind;
use super::{Control, DiskSwitch, Refused, Running, Stage};
use crate::events::{Event, Events, Told};
use crate::sight::traces::Traces;

const MINUTE_MS: u64 = 60_000;

/// What was done to a process.
#[derive(Default)]
struct Done {
    rules: Mutex<Vec<Rule>>,
    still: Mutex<Option<Instant>>,
    told: Mutex<Vec<Event>>,
}

impl Stage for Done {
    fn refuses(&self, kind: &Kind) -> Option<String> {
        matches!(kind, Kind::Network(Harm::Refuse)).then(|| "cannot".to_owned())
    }

    fn network(&self, rules: Vec<Rule>) {
        *self.rules.lock() = rules;
    }

    fn stand_still(&self, until: Option<Instant>) {
        *self.still.lock() = until;
    }

    fn look_up(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let at = host.parse().map(|ip| SocketAddr::new(ip, port));
        Box::pin(async move { at.map(|at| vec![at]).map_err(io::Error::other) })
    }

    fn open(&self, _: Arc<Control>, _: &str) -> io::Result<Option<String>> {
        Ok(None)
    }
}

impl Events for Done {
    fn note(&self, event: &Event) {
        self.told.lock().push(event.clone());
    }
}

struct Stand {
    done: Arc<Done>,
    disk: DiskSwitch,
    control: Arc<Control>,
    view: watch::Sender<Arc<ClusterState>>,
}

fn node(id: u64, name: &str, address: &str) -> Node {
    Node {
        id,
        name: name.to_owned(),
        address: address.to_owned(),
        ..Node::default()
    }
}

/// These run, as the cluster knows it.
fn drills(run: &[&str], lever: Option<Lever>) -> Drills {
    let drill = |id: &&str| Drill {
        id: (*id).to_owned(),
        state: State::Running as i32,
        ..Drill::default()
    };
    Drills {
        drills: run.iter().map(drill).collect(),
        lever,
        ..Drills::default()
    }
}

/// Who lets everybody in.
fn doors(view: &watch::Sender<Arc<ClusterState>>) -> Arc<crate::access::Doors> {
    struct Still;
    impl raft::Clock for Still {
        fn unix_ms(&self) -> u64 {
            0
        }
    }
    crate::access::Doors::new(crate::access::Parts {
        required: false,
        view: view.subscribe(),
        clock: Arc::new(Still),
        cluster_id: String::new(),
        vouches: Arc::new(|_| false),
        book: None,
        session_key: [0; 32],
    })
}

/// The faults of `seoul-1`, kept by a task.
fn stand() -> Stand {
    let done = Arc::<Done>::default();
    let disk = DiskSwitch::default();
    let view = watch::Sender::new(Arc::new(ClusterState {
        nodes: vec![
            node(1, "seoul-1", "127.0.1.1:7400"),
            node(2, "busan-1", "127.0.1.2:7400"),
            node(3, "busan-2", "127.0.1.2:7401"),
            node(4, "tokyo-1", "127.0.1.3:7400"),
        ],
        drills: Some(drills(&["d", "e"], None)),
        ..ClusterState::default()
    }));
    let control = Control::new(Parts {
        stage: done.clone(),
        disk: disk.clone(),
        told: Told::new(vec![done.clone()], Traces::default()),
        view: view.subscribe(),
        own: NodeId(1),
        doors: doors(&view),
        reached: Box::new(|_| None),
    });
    tokio::spawn(control.clone().keep());
    Stand {
        done,
        disk,
        control,
        view,
    }
}

fn fault(id: &str, kind: &str) -> v1::Fault {
    v1::Fault {
        id: id.to_owned(),
        kind: kind.to_owned(),
        ..v1::Fault::default()
    }
}

impl Stand {
    async fn start(&self, drill: &str, faults: Vec<v1::Fault>, ttl_ms: u64) -> Result<(), Refused> {
        let request = v1::StartFaultsRequest {
            drill: drill.to_owned(),
            faults,
            ttl_ms,
        };
        self.control.start(request).await
    }

    fn renew(&self, ids: &[&str], ttl_ms: u64) -> Result<(), Refused> {
        self.control.renew(&v1::RenewFaultsRequest {
            drill: "d".to_owned(),
            ttl_ms,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        })
    }

    fn rules(&self) -> usize {
        self.done.rules.lock().len()
    }

    fn ids(&self) -> Vec<String> {
        let faults = self.control.told().faults;
        faults.into_iter().map(|fault| fault.id).collect()
    }
}

async fn pass(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_nobody_renews_ends_when_its_time_is_over() {
    let stand = stand();
    stand
        .start("d", vec![fault("a", "silence")], 15_000)
        .await
        .unwrap();
    assert_eq!(stand.control.told().faults[0].left_ms, 15_000);
    pass(14_990).await;
    assert_eq!(stand.rules(), 1);
    pass(20).await;
    // By the clock alone: nobody has asked.
    assert_eq!(stand.rules(), 0);
    let told = stand.done.told.lock();
    let ends = told.iter().map(|event| match event {
        Event::Fault { id, ended, .. } => (id.as_str(), ended.as_deref()),
        other => panic!("{other:?}"),
    });
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends, [("a", None), ("a", Some("its time is over"))]);
}

#[tokio::test(start_paused = true)]
async fn a_fault_lives_as_long_as_it_is_renewed_and_no_longer_than_it_lasts() {
    let stand = stand();
    let lasting = v1::Fault {
        lasts_ms: 25_000,
        ..fault("b", "full-disk")
    };
    let both = vec![fault("a", "silence"), lasting];
    stand.start("d", both.clone(), 10_000).await.unwrap();
    for _ in 0..3 {
        pass(8_000).await;
        // To put it on again is to renew it.
        stand.start("d", both.clone(), 10_000).await.unwrap();
        stand.renew(&[], 10_000).unwrap();
    }
    assert!(stand.disk.is_full());
    pass(1_010).await;
    assert_eq!(
        (stand.ids(), stand.disk.is_full()),
        (vec!["a".to_owned()], false)
    );
    let gone = stand.renew(&["a", "b"], 10_000).unwrap_err();
    assert!(
        matches!(&gone, Refused::Gone(why) if why.contains("\"b\"")),
        "{gone}"
    );
    // The other was renewed all the same.
    pass(9_500).await;
    assert_eq!(stand.ids(), ["a"]);
    pass(510).await;
    assert_eq!(stand.rules(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_refused_whole_and_with_the_reason() {
    let stand = stand();
    let with = |peers: &[&str]| v1::Fault {
        peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
        ..fault("p", "silence")
    };
    let slow = |delay_ms, loss_ppm| v1::Fault {
        delay_ms,
        loss_ppm,
        ..fault("s", "slow")
    };
    let sync = v1::Fault {
        sync_ms: Some(0),
        ..fault("y", "slow-sync")
    };
    let peers_of_disk = v1::Fault {
        peers: vec!["busan-1".to_owned()],
        ..fault("f", "full-disk")
    };
    for (bad, why) in [
        (fault("", "silence"), "id"),
        (fault("x", "fire"), "no kind"),
        (fault("x", "cut"), "sends, hears or both"),
        (fault("x", "refuse"), "cannot"),
        (slow(10_001, 0), "at most 10000"),
        (slow(1, 500_001), "at most 500000"),
        (slow(0, 0), "needs delay_ms"),
        (sync, "sync_ms"),
        (peers_of_disk, "no peers"),
        (with(&["nobody"]), "no node"),
        (with(&["seoul-1"]), "is this node"),
        (with(&["busan-1"]), "cannot be told apart"),
        (fault("good", "silence"), "twice"),
    ] {
        let refused = stand
            .start("d", vec![fault("good", "silence"), bad], 1)
            .await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(stand.rules(), 0, "{why}");
    }
    for ttl_ms in [0, MINUTE_MS + 1] {
        assert!(
            stand
                .start("d", vec![fault("a", "silence")], ttl_ms)
                .await
                .is_err()
        );
        assert!(stand.renew(&[], ttl_ms).is_err());
    }
    // All of an address can be named.
    stand
        .start("d", vec![with(&["busan-1", "busan-2"])], 1_000)
        .await
        .unwrap();
    let rules = stand.done.rules.lock().clone();
    assert_eq!(rules[0].peers.as_ref().unwrap().sockets.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn faults_are_of_one_drill_at_a_time() {
    let stand = stand();
    stand
        .start("d", vec![fault("a", "silence")], 1_000)
        .await
        .unwrap();
    let other = stand.start("e", vec![fault("a", "silence")], 1_000).await;
    assert!(other.unwrap_err().to_string().contains("\"d\" are on"));
    let same = stand.start("d", vec![fault("a", "reset")], 1_000).await;
    assert!(same.unwrap_err().to_string().contains("another one"));
    let end = |drill: &str| v1::EndFaultsRequest {
        drill: drill.to_owned(),
        ids: Vec::new(),
    };
    stand.control.end(&end("e"));
    assert_eq!(stand.ids(), ["a"]);
    stand.control.end(&end("d"));
    assert!(stand.ids().is_empty() && stand.rules() == 0);
    stand
        .start("e", vec![fault("a", "silence")], 1_000)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_end_when_the_drill_does_or_the_lever_is_pulled_and_none_begins_then() {
    let stand = stand();
    let pulled = || Lever {
        who: "ann".to_owned(),
        why: "smoke".to_owned(),
        ..Lever::default()
    };
    for (now, why) in [
        (drills(&["e"], None), "no drill \"d\""),
        (
            drills(&["d"], Some(pulled())),
            "ann pulled the lever: smoke",
        ),
    ] {
        let learn = |drills| {
            stand
                .view
                .send_modify(|view| Arc::make_mut(view).drills = Some(drills));
        };
        learn(drills(&["d"], None));
        let on = vec![fault("a", "silence")];
        stand.start("d", on.clone(), MINUTE_MS).await.unwrap();
        learn(now);
        // Nobody has asked, and its time is not over.
        pass(1).await;
        assert_eq!(stand.rules(), 0, "{why}");
        let refused = stand.start("d", on, MINUTE_MS).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert!(stand.renew(&[], MINUTE_MS).is_err());
        let told = stand.done.told.lock();
        let Some(Event::Fault { ended, .. }) = told.last() else {
            panic!("nothing was told");
        };
        assert!(ended.as_ref().is_some_and(|ended| ended.contains(why)));
    }
    assert!(stand.control.told().lever.contains("smoke"));
}

#[tokio::test(start_paused = true)]
async fn all_end_with_the_node() {
    let stand = stand();
    let all = vec![
        fault("a", "silence"),
        fault("b", "slow-sync"),
        fault("c", "stand-still"),
    ];
    let began = Instant::now();
    stand.start("d", all, MINUTE_MS).await.unwrap();
    let until = *stand.done.still.lock();
    assert_eq!(until, Some(began + Duration::from_millis(MINUTE_MS)));
    drop(Running {
        control: stand.control.clone(),
        address: None,
    });
    assert_eq!((stand.rules(), *stand.done.still.lock()), (0, None));
    stand.control.closed().now_or_never().unwrap();
}

#[tokio::test(start_paused = true)]
async fn slow_and_stalled_syncs_are_told_late_and_lose_nothing() {
    let switch = DiskSwitch::default();
    let disk = Disk::new();
    let below: Arc<dyn Engine> = Arc::new(store::engine::memory::Memory::open(&disk));
    let held = Held::new(below, switch.clone());
    let write = || {
        let mut batch = Batch::default();
        batch.put(b"k".to_vec(), b"v".to_vec());
        held.write(batch).unwrap();
    };
    let wrong = |syncs| Wrong { syncs, full: false };
    write();
    held.sync().now_or_never().unwrap().unwrap();
    switch.set(wrong(Syncs::Slow(Duration::from_millis(300))));
    write();
    let began = Instant::now();
    held.sync().await.unwrap();
    assert_eq!(began.elapsed().as_millis(), 300);
    switch.set(wrong(Syncs::Stalled));
    write();
    let mut sync = held.sync();
    assert!((&mut sync).now_or_never().is_none());
    // It is on the disk, and only the word is late.
    assert_eq!(disk.unsynced(), 0);
    pass(MINUTE_MS).await;
    assert!((&mut sync).now_or_never().is_none());
    switch.set(Wrong::default());
    sync.now_or_never().unwrap().unwrap();
}
