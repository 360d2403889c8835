//! Faults of drills on real nodes: they are felt, and they end by themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it watches run on the real clock"
)]

use std::time::{Duration, Instant};

use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary, cluster};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::change_drill_request::Change;
use proto::v1::faults_client::FaultsClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// The longest time to live there is.
const TTL_MS: u64 = 60_000;
const DRILL: &str = "test";

async fn status(cluster: &Cluster, node: usize) -> v1::GetStatusResponse {
    let mut admin = AdminClient::new(cluster.nodes()[node].channel());
    let began = Instant::now();
    loop {
        let mut request = Request::new(v1::GetStatusRequest::default());
        request.set_timeout(LIMIT);
        match admin.get_status(request).await {
            Ok(status) => return status.into_inner(),
            // A connection that a silence has ended.
            Err(error) => assert!(began.elapsed() < LIMIT, "{error}"),
        }
    }
}

async fn change(cluster: &Cluster, change: Change) -> u64 {
    let mut admin = AdminClient::new(cluster.nodes()[2].channel());
    let request = v1::ChangeDrillRequest {
        change: Some(change),
    };
    let mut request = Request::new(request);
    request.set_timeout(LIMIT);
    let changed = admin.change_drill(request).await.unwrap();
    changed.into_inner().number
}

/// The drill as a node knows it.
async fn drill(cluster: &Cluster, node: usize) -> Option<v1::Drill> {
    let mut admin = AdminClient::new(cluster.nodes()[node].channel());
    let drills = admin.get_drills(v1::GetDrillsRequest {}).await.unwrap();
    let drills = drills.into_inner().drills.unwrap_or_default().drills;
    drills.into_iter().find(|drill| drill.id == DRILL)
}

/// Has the drill run, and waits until `node` knows it.
async fn begin(cluster: &Cluster, node: usize) {
    let plan = format!(
        "format = 1\nid = \"{DRILL}\"\nscenario = \"dc-silent\"\nabout = \"\"\nhypothesis = \"\"\n\
         target = \"\"\ncluster_id = \"\"\nmap_epoch = 0\nmade_ms = 0\nbefore_ms = 1\nafter_ms = 1\n\
         [caps]\n[goals]\n[[step]]\nat_ms = 0\nfor_ms = 1\naction = \"silence\"\nnodes = [\"{}\"]\n",
        cluster.nodes()[node].name
    );
    let (id, who) = (|| DRILL.to_owned(), |who: &str| who.to_owned());
    let store = v1::StoreDrill {
        id: id(),
        plan,
        scenario: "dc-silent".to_owned(),
        who: who("ann"),
        ..v1::StoreDrill::default()
    };
    change(cluster, Change::Store(store)).await;
    let began = Instant::now();
    let digest = loop {
        if let Some(drill) = drill(cluster, 2).await {
            break drill.plan_digest;
        }
        assert!(began.elapsed() < LIMIT, "it is not stored");
    };
    for one in ["ann", "bea"] {
        let approve = v1::ApproveDrill {
            id: id(),
            who: who(one),
            digest: digest.clone(),
        };
        change(cluster, Change::Approve(approve)).await;
    }
    let begin = v1::BeginDrill {
        id: id(),
        who: who("test"),
        plan_digest: digest,
    };
    let number = change(cluster, Change::Begin(begin)).await;
    let mut admin = AdminClient::new(cluster.nodes()[2].channel());
    tokio::spawn(async move {
        // As a controller: the cluster ends a drill whose controller is silent.
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let beat = Change::Beat(v1::BeatDrill {
                id: DRILL.to_owned(),
                number,
                note: String::new(),
            });
            let change = Some(beat);
            let _ = admin.change_drill(v1::ChangeDrillRequest { change }).await;
        }
    });
    let runs = |drill: v1::Drill| drill.state() == v1::drill::State::Running;
    while !drill(cluster, node).await.is_some_and(runs) {
        assert!(began.elapsed() < LIMIT, "it does not run");
    }
}

/// The service of a node, over a connection of its own.
async fn faults(cluster: &Cluster, node: usize) -> FaultsClient<Channel> {
    let address = status(cluster, node).await.drill_address;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    FaultsClient::new(endpoint.connect().await.unwrap())
}

fn fault(id: &str, kind: &str) -> v1::Fault {
    v1::Fault {
        id: id.to_owned(),
        kind: kind.to_owned(),
        ..v1::Fault::default()
    }
}

fn start(faults: Vec<v1::Fault>, ttl_ms: u64) -> v1::StartFaultsRequest {
    v1::StartFaultsRequest {
        drill: DRILL.to_owned(),
        faults,
        ttl_ms,
    }
}

/// Whether the nodes but one say that it is reached.
async fn reach(cluster: &Cluster, gone: usize) -> Vec<bool> {
    let name = &cluster.nodes()[gone].name;
    let mut all = Vec::new();
    for other in (0..cluster.nodes().len()).filter(|other| *other != gone) {
        let nodes = status(cluster, other).await.nodes;
        all.push(
            nodes
                .iter()
                .any(|node| node.name == *name && node.reachable),
        );
    }
    all
}

async fn until_reached(cluster: &Cluster, gone: usize, wanted: bool) {
    let began = Instant::now();
    while reach(cluster, gone)
        .await
        .iter()
        .any(|reached| *reached != wanted)
    {
        assert!(began.elapsed() < LIMIT, "reached: not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_that_nobody_renews_is_felt_and_gone_when_its_time_is_over() {
    const SHORT_MS: u64 = 1_000;
    let (_place, cluster) = cluster(1).await;
    let told = status(&cluster, 0).await;
    assert!(told.drill_allowed && told.faults.is_empty());
    let mut node = faults(&cluster, 0).await;
    // No drill runs.
    let bare = start(vec![fault("a", "silence")], SHORT_MS);
    let bare = node.start_faults(bare).await.unwrap_err();
    assert_eq!(bare.code(), Code::FailedPrecondition);
    begin(&cluster, 0).await;
    let on = start(vec![fault("a", "silence")], TTL_MS);
    let on = node.start_faults(on).await.unwrap().into_inner();
    assert_eq!((on.drill.as_str(), on.faults.len()), (DRILL, 1));
    assert!(on.faults[0].left_ms <= TTL_MS);
    until_reached(&cluster, 0, false).await;
    // Nothing reaches it, and who put the fault on still does.
    let mut admin = AdminClient::new(cluster.nodes()[0].channel());
    let mut request = Request::new(v1::GetStatusRequest::default());
    request.set_timeout(Duration::from_millis(200));
    assert!(admin.get_status(request).await.is_err());
    let renew = || v1::RenewFaultsRequest {
        drill: DRILL.to_owned(),
        ttl_ms: SHORT_MS,
        ids: vec!["a".to_owned()],
    };
    let began = Instant::now();
    node.renew_faults(renew()).await.unwrap();
    until_reached(&cluster, 0, true).await;
    assert!(began.elapsed() >= Duration::from_millis(SHORT_MS));
    assert!(status(&cluster, 0).await.faults.is_empty());
    let over = node.renew_faults(renew()).await.unwrap_err();
    assert_eq!(over.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standstill_ends_at_a_word_and_the_node_goes_on() {
    let (_place, cluster) = cluster(1).await;
    let mut node = faults(&cluster, 1).await;
    begin(&cluster, 1).await;
    let still = start(vec![fault("s", "stand-still")], TTL_MS);
    node.start_faults(still).await.unwrap();
    until_reached(&cluster, 1, false).await;
    let ended = node.end_faults(v1::EndFaultsRequest::default()).await;
    assert!(ended.unwrap().into_inner().faults.is_empty());
    until_reached(&cluster, 1, true).await;
    let mut slow = fault("d", "slow-sync");
    slow.sync_ms = Some(1);
    let on = start(vec![slow, fault("f", "full-disk")], TTL_MS);
    node.start_faults(on).await.unwrap();
    let began = Instant::now();
    let full = |told: &v1::GetStatusResponse| told.stats.as_ref().unwrap().disk_reserve_reached;
    while !full(&status(&cluster, 1).await) {
        assert!(began.elapsed() < LIMIT, "the disk is not full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&cluster, 1).await.faults.len(), 2);
    node.end_faults(v1::EndFaultsRequest::default())
        .await
        .unwrap();
    while full(&status(&cluster, 1).await) {
        assert!(began.elapsed() < LIMIT, "the disk is still full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_drills_are_not_allowed_there_is_nobody_to_ask() {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    plan.settings.push_str("\n[drill]\nallowed = false\n");
    let cluster = Cluster::start(plan).await.unwrap();
    let told = status(&cluster, 0).await;
    assert_eq!(
        (told.drill_allowed, told.drill_address.as_str()),
        (false, "")
    );
    let mut node = FaultsClient::new(cluster.nodes()[0].channel());
    let refused = node.get_faults(v1::GetFaultsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lever_ends_all_and_bars_new_ones_until_it_is_released() {
    let (_place, cluster) = cluster(1).await;
    begin(&cluster, 0).await;
    let mut node = faults(&cluster, 0).await;
    let slow = v1::Fault {
        delay_ms: 20,
        hears: true,
        ..fault("a", "slow")
    };
    let on = node.start_faults(start(vec![slow.clone()], TTL_MS)).await;
    assert_eq!(on.unwrap().into_inner().faults.len(), 1);
    let pull = v1::PullLever {
        who: "ann".to_owned(),
        why: "smoke".to_owned(),
    };
    change(&cluster, Change::Pull(pull)).await;
    let began = Instant::now();
    loop {
        let told = node
            .get_faults(v1::GetFaultsRequest {})
            .await
            .unwrap()
            .into_inner();
        if told.faults.is_empty() && told.lever.contains("smoke") {
            break;
        }
        assert!(began.elapsed() < LIMIT, "{told:?}");
    }
    let refused = node
        .start_faults(start(vec![slow], TTL_MS))
        .await
        .unwrap_err();
    assert!(refused.message().contains("smoke"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_apart_or_is_wrong_is_refused_with_the_reason() {
    let (_place, cluster) = cluster(1).await;
    let mut node = faults(&cluster, 0).await;
    begin(&cluster, 0).await;
    let other = cluster.nodes()[1].name.clone();
    let with = |peer: &str| v1::Fault {
        peers: vec![peer.to_owned()],
        ..fault("a", "silence")
    };
    let of = |drill: &str, faults, ttl_ms| v1::StartFaultsRequest {
        drill: drill.to_owned(),
        ..start(faults, ttl_ms)
    };
    for (request, code, why) in [
        (
            of(DRILL, vec![fault("a", "silence")], 0),
            Code::InvalidArgument,
            "ttl_ms",
        ),
        (
            of(DRILL, vec![fault("a", "silence")], 60_001),
            Code::InvalidArgument,
            "ttl_ms",
        ),
        (
            of("", vec![fault("a", "silence")], 1),
            Code::InvalidArgument,
            "name",
        ),
        (
            of(DRILL, vec![fault("a", "fire")], 1),
            Code::InvalidArgument,
            "no kind",
        ),
        (
            of(DRILL, vec![fault("a", "cut")], 1),
            Code::InvalidArgument,
            "sends",
        ),
        (
            of(DRILL, vec![with("nobody")], 1),
            Code::InvalidArgument,
            "no node",
        ),
        // All are at 127.0.0.1.
        (
            of(DRILL, vec![with(&other)], 1),
            Code::FailedPrecondition,
            "told apart",
        ),
    ] {
        let refused = node.start_faults(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
    let none = node.get_faults(v1::GetFaultsRequest {}).await.unwrap();
    assert!(none.into_inner().faults.is_empty());
}
