//! A doorkeeper against starts whose disks were synced more or less far.

use model::cluster::Node;
use store::engine::memory::{Disk, Memory};

use super::*;

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
    let identity = Identity {
        cluster_id: CLUSTER_ID.into(),
        node: CALLER,
        name: "caller".into(),
        disk_id: [2; 16],
        boot,
        boot_nonce: boot * 1_000,
        address: "here:1".into(),
        rack: String::new(),
    };
    Hello::new(Arc::new(identity), open(&disk))
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
    let doorkeeper = Doorkeeper::open(CLUSTER_ID.into(), ME, open(disk), Marks::default()).unwrap();
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

#[tokio::test]
async fn a_doorkeeper_that_has_restarted_knows_the_boots_only() {
    let disk = Disk::new();
    drop(told(&disk).await);
    let doorkeeper =
        Doorkeeper::open(CLUSTER_ID.into(), ME, open(&disk), Marks::default()).unwrap();
    admit(&doorkeeper, &caller(2, 0).await).await.unwrap();
    admit(&doorkeeper, &caller(1, TOLD).await)
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
    let doorkeeper =
        Doorkeeper::open(CLUSTER_ID.into(), ME, open(&disk), Marks::default()).unwrap();
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
