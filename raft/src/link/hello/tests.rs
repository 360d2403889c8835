//! A doorkeeper against starts whose disks were synced more or less far.

use bytes::Bytes;
use model::cluster::{ClusterState, Node, Pardon};
use model::limits;
use store::engine::memory::{Disk, Memory};
use tonic::Code;

use super::*;
use crate::api::Secret;

const ME: NodeId = NodeId(1);
const CALLER: NodeId = NodeId(2);
const CLUSTER_ID: &str = "c1";
/// What the first start has told before it ended.
const TOLD: u64 = 5;

fn open(disk: &Disk) -> Log {
    let (log, writer) = Log::open(Arc::new(Memory::open(disk))).unwrap();
    tokio::spawn(writer);
    log
}

/// What the caller is, at its `boot`th start, from a disk that was synced `mark` times.
async fn caller(boot: u64, mark: u64) -> Hello {
    let disk = Disk::new();
    let before = open(&disk);
    for _ in 0..mark {
        before.sync().await.unwrap();
    }
    Hello::new(Arc::new(identity(boot)), open(&disk))
}

fn identity(boot: u64) -> Identity {
    Identity {
        cluster_id: CLUSTER_ID.into(),
        node: CALLER,
        name: "caller".into(),
        disk_id: [2; 16],
        boot,
        boot_nonce: boot.saturating_mul(1_000),
        address: "here:1".into(),
        rack: String::new(),
        secret: secret(),
    }
}

fn secret() -> Secret {
    Bytes::from_static(&[9; 32]).into()
}

fn view() -> ClusterState {
    ClusterState {
        nodes: vec![Node {
            id: CALLER.0,
            name: "caller".into(),
            disk_id: Bytes::from_static(&[2; 16]),
            ..Node::default()
        }],
        ..ClusterState::default()
    }
}

async fn admit(doorkeeper: &Doorkeeper, hello: &Hello) -> Result<NodeId, Status> {
    let request = hello.request(());
    doorkeeper.admit(request.metadata(), &view()).await
}

/// A doorkeeper on `disk` that has let the caller's first start in and was told [`TOLD`] by it.
async fn told(disk: &Disk) -> Doorkeeper {
    let doorkeeper = Doorkeeper::open(CLUSTER_ID.into(), ME, secret(), open(disk)).unwrap();
    let first = caller(1, 0).await;
    admit(&doorkeeper, &first).await.unwrap();
    doorkeeper.marks().note(CALLER, 1_000, TOLD);
    doorkeeper.marks().note(CALLER, 1_000, TOLD - 1);
    doorkeeper
}

#[tokio::test]
async fn a_start_that_found_less_than_was_told_is_refused_for_good() {
    for (mark, may) in [
        (TOLD - 1, false),
        (0, false),
        (TOLD, true),
        (TOLD + 1, true),
    ] {
        let doorkeeper = told(&Disk::new()).await;
        let answer = admit(&doorkeeper, &caller(2, mark).await).await;
        assert_eq!(answer.is_ok(), may, "mark {mark}: {answer:?}");
        if let Err(status) = answer {
            assert!(is_refusal(&status), "{status}");
            let both = format!("up to mark {mark}, but has told mark {TOLD}");
            assert!(status.message().contains(&both), "{status}");
        }
    }
}

#[tokio::test]
async fn a_start_that_is_known_may_come_back_whatever_it_has_told_since() {
    let doorkeeper = told(&Disk::new()).await;
    admit(&doorkeeper, &caller(1, 0).await).await.unwrap();
}

#[tokio::test]
async fn what_a_start_tells_counts_once_it_is_let_in() {
    let doorkeeper = told(&Disk::new()).await;
    doorkeeper.marks().note(CALLER, 2_000, TOLD + 9);
    admit(&doorkeeper, &caller(2, TOLD).await).await.unwrap();
    doorkeeper.marks().note(CALLER, 2_000, TOLD + 9);
    admit(&doorkeeper, &caller(3, TOLD + 8).await)
        .await
        .unwrap_err();
}

/// What this node has synced, it has synced with what it was told until then.
#[tokio::test]
async fn a_doorkeeper_that_lost_its_power_knows_the_boots_and_the_marks() {
    let disk = Disk::new();
    let doorkeeper = told(&disk).await;
    doorkeeper.log.sync().await.unwrap();
    disk.power_cut(0);
    drop(doorkeeper);
    let doorkeeper = Doorkeeper::open(CLUSTER_ID.into(), ME, secret(), open(&disk)).unwrap();
    let old = admit(&doorkeeper, &caller(2, TOLD - 1).await).await;
    assert!(is_refusal(&old.unwrap_err()));
    answers(&doorkeeper, &caller(2, TOLD - 1).await)
        .await
        .unwrap_err();
    // The start that was let in is believed still, and only that.
    doorkeeper.marks().note(CALLER, 2_000, TOLD + 9);
    doorkeeper.marks().note(CALLER, 1_000, TOLD + 1);
    let old = admit(&doorkeeper, &caller(2, TOLD).await).await;
    assert!(is_refusal(&old.unwrap_err()));
    admit(&doorkeeper, &caller(2, TOLD + 1).await)
        .await
        .unwrap();
    admit(&doorkeeper, &caller(1, TOLD + 1).await)
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn who_syncs_nothing_itself_writes_down_what_it_was_told_and_one_sync_is_enough() {
    let disk = Disk::new();
    let doorkeeper = told(&disk).await;
    let marks = doorkeeper.marks().clone();
    let kept = tokio::spawn(async move { marks.keep().await });
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    // The first is the caller's start.
    assert_eq!(doorkeeper.log.stats().syncs, 2);
    let mark = doorkeeper.log.mark();
    for told in 1..=100 {
        doorkeeper.marks().note(CALLER, 1_000, TOLD + told);
    }
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(doorkeeper.log.stats().syncs, 3);
    assert_eq!(doorkeeper.log.mark(), mark, "that raises no mark");
    disk.power_cut(0);
    kept.abort();
    let doorkeeper = Doorkeeper::open(CLUSTER_ID.into(), ME, secret(), open(&disk)).unwrap();
    admit(&doorkeeper, &caller(2, TOLD + 99).await)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_version_without_marks_is_never_refused_for_them() {
    let doorkeeper = told(&Disk::new()).await;
    let mut request = caller(2, 0).await.request(());
    request.metadata_mut().remove(MARK);
    let answer = doorkeeper.admit(request.metadata(), &view()).await;
    assert_eq!(answer.unwrap(), CALLER);
}

/// A node that took over the address of another must not vote in its place.
#[tokio::test]
async fn who_means_another_node_is_told_so() {
    let disk = Disk::new();
    let doorkeeper = Doorkeeper::open(CLUSTER_ID.into(), ME, secret(), open(&disk)).unwrap();
    let caller = caller(1, 0).await;
    let for_me = caller.request_to(ME, ());
    let answer = doorkeeper.admit(for_me.metadata(), &view()).await;
    assert_eq!(answer.unwrap(), CALLER);
    let for_another = caller.request_to(NodeId(7), ());
    let answer = doorkeeper.admit(for_another.metadata(), &view()).await;
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("n1, not n7"),
        "{}",
        status.message()
    );
    assert!(!is_refusal(&status), "the caller's disk is right");
}

async fn answers(doorkeeper: &Doorkeeper, hello: &Hello) -> Result<Proof, Status> {
    let (view, answer) = (view(), hello.response(()));
    doorkeeper
        .admit_answerer(&view.nodes[0], answer.metadata(), &view)
        .await
}

#[tokio::test]
async fn what_an_old_disk_answers_does_not_count() {
    let doorkeeper = told(&Disk::new()).await;
    let known = answers(&doorkeeper, &caller(1, 0).await).await.unwrap();
    assert_eq!(known, Proof::Given);
    assert_eq!(
        answers(&doorkeeper, &caller(2, TOLD).await).await.unwrap(),
        Proof::Given
    );
    for old in [caller(1, 0).await, caller(3, TOLD - 1).await] {
        let status = answers(&doorkeeper, &old).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(!is_refusal(&status), "this node's own disk is right");
        assert!(status.message().contains("old copy"), "{status}");
    }
}

#[tokio::test]
async fn who_answers_in_the_place_of_another_does_not_count() {
    let doorkeeper = told(&Disk::new()).await;
    let other = |change: fn(&mut Identity)| {
        let mut identity = identity(1);
        change(&mut identity);
        Hello::new(Arc::new(identity), open(&Disk::new()))
    };
    for (hello, says) in [
        (other(|it| it.node = NodeId(3)), "n3 answers in the place"),
        (other(|it| it.disk_id = [9; 16]), "with another disk"),
        (other(|it| it.cluster_id = "c2".into()), "of cluster c1"),
    ] {
        let status = answers(&doorkeeper, &hello).await.unwrap_err();
        assert!(status.message().contains(says), "{status}");
    }
}

#[tokio::test]
async fn a_version_that_does_not_say_who_answers_counts_once_its_start_was_let_in() {
    let doorkeeper = told(&Disk::new()).await;
    let silent = MetadataMap::new();
    let view = view();
    let answer = doorkeeper.admit_answerer(&view.nodes[0], &silent, &view);
    assert_eq!(answer.await.unwrap(), Proof::Later);
    assert!(doorkeeper.has_let_in(CALLER, 1_000));
    for nonce in [0, 999, 2_000] {
        assert!(!doorkeeper.has_let_in(CALLER, nonce), "{nonce}");
    }
}

#[tokio::test]
async fn a_node_does_not_call_itself() {
    let doorkeeper = told(&Disk::new()).await;
    let myself = Identity {
        node: ME,
        ..identity(1)
    };
    let hello = Hello::new(Arc::new(myself), open(&Disk::new()));
    let status = admit(&doorkeeper, &hello).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("no node calls itself"),
        "{status}"
    );
}

#[tokio::test]
async fn starts_that_leap_are_refused_and_not_noted() {
    let doorkeeper = told(&Disk::new()).await;
    for boot in [2 + limits::BOOT_LEAP_MAX, u64::MAX] {
        let status = admit(&doorkeeper, &caller(boot, TOLD).await)
            .await
            .unwrap_err();
        assert!(status.message().contains("starts so often"), "{status}");
        assert!(!is_refusal(&status), "its disk may be right");
    }
    admit(&doorkeeper, &caller(2, TOLD).await).await.unwrap();
}

#[tokio::test]
async fn a_mark_that_leaps_is_not_believed() {
    let doorkeeper = told(&Disk::new()).await;
    doorkeeper.marks().note(CALLER, 1_000, u64::MAX);
    admit(&doorkeeper, &caller(2, TOLD).await).await.unwrap();
}

#[tokio::test]
async fn a_pardon_takes_back_starts_that_were_forged_and_lets_no_older_disk_in() {
    let disk = Disk::new();
    let doorkeeper = told(&disk).await;
    admit(&doorkeeper, &caller(900, TOLD).await).await.unwrap();
    doorkeeper.marks().note(CALLER, 900_000, 7_000);
    admit(&doorkeeper, &caller(3, TOLD).await)
        .await
        .unwrap_err();
    let mut view = view();
    view.pardons = vec![Pardon {
        node: CALLER.0,
        boot: 2,
        operators: vec!["ann".into(), "bob".into()],
        epoch: 9,
    }];
    let come = async |doorkeeper: &Doorkeeper, boot| {
        let caller = caller(boot, TOLD).await;
        doorkeeper
            .admit(caller.request(()).metadata(), &view)
            .await
            .map(drop)
    };
    come(&doorkeeper, 2).await.unwrap_err();
    come(&doorkeeper, 3).await.unwrap();
    // It is used up: what is seen from now on counts again, after a restart as well.
    drop(doorkeeper);
    let doorkeeper = Doorkeeper::open(CLUSTER_ID.into(), ME, secret(), open(&disk)).unwrap();
    assert_eq!(doorkeeper.marks().highest(CALLER), 0, "nor what it told");
    come(&doorkeeper, 800).await.unwrap();
    come(&doorkeeper, 4).await.unwrap_err();
}

#[tokio::test]
async fn a_pardon_that_is_asked_for_by_one_operator_changes_nothing() {
    let doorkeeper = told(&Disk::new()).await;
    admit(&doorkeeper, &caller(900, TOLD).await).await.unwrap();
    let mut view = view();
    view.pardons = vec![Pardon {
        node: CALLER.0,
        boot: 2,
        operators: vec!["ann".into()],
        epoch: 0,
    }];
    let caller = caller(3, TOLD).await;
    let answer = doorkeeper.admit(caller.request(()).metadata(), &view).await;
    assert!(is_refusal(&answer.unwrap_err()));
}
