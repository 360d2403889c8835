//! Nodes in one process, over real loopback TCP and memory engines: founding, joining, laying out,
//! appending through any node, and losing the node that leads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; its nodes run on the real clock"
)]

use std::sync::Arc;
use std::time::Duration;

use firebreak_raft::{
    Clock, Identity, Keep, Node, Options, ProposeError, ReplicaStatus, Room, Tuning,
};
use model::cluster::{
    Change, ChangeBody, ClusterState, Join, Locality, Node as Member, SetDraining,
};
use model::command::{Answer, Append, Command, NewMessage, Reply};
use model::id::{ConversationName, NodeId, ShardId};
use prost::Message;
use proto::net::{Channel, Dial, Dialer, Network, Tcp};
use store::Log;
use store::engine::Order;
use store::engine::memory::{Disk, Memory};
use store::state::State;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "token";

struct Now;

impl Clock for Now {
    fn unix_ms(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(now.unwrap().as_millis()).unwrap()
    }
}

struct Running {
    node: Arc<Node>,
    /// A runtime of its own, so that dropping it ends the node as a kill does, sockets and all.
    runtime: tokio::runtime::Runtime,
    raftdb: Disk,
    msgdb: Disk,
    member: Member,
    boot: u64,
}

fn member(id: u64, dc: &str) -> Member {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    Member {
        id,
        name: format!("{dc}-{id}"),
        address: format!("127.0.0.1:{port}"),
        locality: Some(Locality {
            region: "kr".into(),
            dc: dc.into(),
            rack: String::new(),
        }),
        disk_id: vec![u8::try_from(id).unwrap(); 16].into(),
        address_boot: 0,
    }
}

/// Never gets through to one address.
struct Blind {
    to: String,
}

impl Dial for Blind {
    fn dial(&self, address: &str) -> std::io::Result<Channel> {
        match address == self.to {
            // Nobody listens there.
            true => Tcp.dial("127.0.0.1:1"),
            false => Tcp.dial(address),
        }
    }
}

/// Gets through to nobody.
struct Lonely;

impl Dial for Lonely {
    fn dial(&self, _: &str) -> std::io::Result<Channel> {
        Tcp.dial("127.0.0.1:1")
    }
}

async fn start(
    member: Member,
    disks: (Disk, Disk),
    boot: u64,
    found: Option<ClusterState>,
    seeds: Vec<String>,
) -> Running {
    start_over(Tcp.dialer(), member, disks, boot, found, seeds).await
}

async fn start_over(
    dialer: Dialer,
    member: Member,
    (raftdb, msgdb): (Disk, Disk),
    boot: u64,
    found: Option<ClusterState>,
    seeds: Vec<String>,
) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (log, writer) = Log::open(Arc::new(Memory::open(&raftdb))).unwrap();
    let state = State::open(Arc::new(Memory::open(&msgdb)), log.clone()).unwrap();
    runtime.spawn(writer);
    let identity = Identity {
        cluster_id: "c1".into(),
        node: NodeId(member.id),
        name: member.name.clone(),
        disk_id: member.disk_id.as_ref().try_into().unwrap(),
        boot,
        boot_nonce: boot * 1_000,
        address: member.address.clone(),
        rack: String::new(),
        secret: firebreak_raft::Secret::default(),
    };
    let options = Options {
        identity,
        dialer,
        clock: Arc::new(Now),
        log,
        state,
        // Little state and log is much here, so that a short absence needs a snapshot.
        tuning: Tuning {
            keep: Keep {
                flush_bytes: 16 * 1024,
                log_bytes_max: 24 * 1024,
                ..Keep::default()
            },
            ..Tuning::default()
        },
        body_bytes_max: model::limits::BODY_BYTES_MAX,
        queue_bytes_max: store::Share::of(usize::MAX),
        links_bytes_max: store::Share::of(usize::MAX),
        events: std::sync::Arc::new(firebreak_raft::Nobody),
        opened: std::sync::Arc::new(|_| ()),
        seeds,
        found,
    };
    let address = member.address.clone();
    let serving = runtime.spawn(async move {
        let node = Node::start(options).await.unwrap();
        let incoming = Tcp.listen(&address).await.unwrap();
        let service = node.peer_service();
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        node
    });
    Running {
        node: serving.await.unwrap(),
        runtime,
        raftdb,
        msgdb,
        member,
        boot,
    }
}

impl Running {
    /// Ends the node at once, as a kill or a power cut does.
    fn kill(self) -> (Member, Disk, Disk, u64) {
        tokio::task::block_in_place(|| self.runtime.shutdown_timeout(PATIENCE));
        self.raftdb.power_cut(0);
        self.msgdb.power_cut(0);
        (self.member, self.raftdb, self.msgdb, self.boot)
    }
}

fn founding(member: &Member, nodes: u32, shards: u32) -> ClusterState {
    ClusterState {
        format: 1,
        cluster_id: "c1".into(),
        nodes: vec![member.clone()],
        token_hash: model::hash::token_hash(TOKEN),
        nodes_expected: nodes,
        shards_wanted: shards,
        replicas: 3,
        meta_replicas: vec![member.id],
        next_node_id: member.id + 1,
        ..ClusterState::default()
    }
}

async fn propose(node: &Node, shard: ShardId, command: &Command) -> Reply {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let command = command.encode_to_vec().into();
        match node.propose(shard, command, Duration::from_secs(2)).await {
            Ok(reply) => return reply,
            Err(ProposeError::Overloaded | ProposeError::DiskFull) => panic!("no load here"),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// A cluster of one node per data center named, with its shards laid out.
async fn cluster(dcs: &[&str], shards: u32) -> Vec<Running> {
    cluster_of(dcs, shards, 3).await
}

async fn cluster_of(dcs: &[&str], shards: u32, replicas: u32) -> Vec<Running> {
    // RUST_LOG=debug shows what happens; several tests of one process share the first's.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let count = u32::try_from(dcs.len()).unwrap();
    let first = member(1, dcs[0]);
    let seed = first.address.clone();
    let found = ClusterState {
        replicas,
        ..founding(&first, count, shards)
    };
    let disks = || (Disk::new(), Disk::new());
    let mut nodes = vec![start(first, disks(), 1, Some(found), vec![]).await];
    let mut view = nodes[0].node.view();
    timeout(PATIENCE, view.wait_for(|v| v.epoch > 0))
        .await
        .unwrap()
        .unwrap();
    for (id, dc) in (2..).zip(&dcs[1..]) {
        let new = member(id, dc);
        let join = Join {
            token: TOKEN.into(),
            node: Some(new.clone()),
            ..Join::default()
        };
        let join = Command::meta(Change {
            body: Some(ChangeBody::Join(join)),
            actor: None,
        });
        let reply = propose(&nodes[0].node, ShardId::META, &join).await;
        assert!(
            matches!(&reply.answer, Some(Answer::Meta(c)) if c.node_id == id),
            "{reply:?}"
        );
        nodes.push(start(new, disks(), 1, None, vec![seed.clone()]).await);
    }
    for running in &nodes {
        let mut view = running.node.view();
        timeout(PATIENCE, view.wait_for(|v| !v.shards.is_empty()))
            .await
            .unwrap()
            .unwrap();
    }
    nodes
}

fn append(conversation: &ConversationName, id: u64) -> Command {
    Command::append(Append {
        conversation: conversation.to_string(),
        messages: vec![NewMessage {
            sender: "alice".into(),
            client_message_id: format!("m{id}").into(),
            kind: "text".into(),
            body: format!("hello {id}").into(),
            ..NewMessage::default()
        }],
        ..Append::default()
    })
}

fn seq(reply: &Reply) -> (u64, bool) {
    match &reply.answer {
        Some(Answer::Appended(appended)) => {
            let outcome = &appended.outcomes[0];
            assert_eq!(outcome.refusal, None);
            (outcome.seq, outcome.deduplicated)
        }
        other => panic!("{other:?}"),
    }
}

fn shard_of(node: &Node, name: &ConversationName) -> ShardId {
    ShardId(node.view().borrow().shard_of(name.key().slot()).unwrap().id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_a_command_and_all_replicas_come_to_hold_it() {
    let nodes = cluster(&["seoul", "busan", "tokyo"], 3).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    for id in 1..=30 {
        let through = &nodes[usize::try_from(id).unwrap() % 3].node;
        assert_eq!(
            seq(&propose(through, shard, &append(&name, id)).await),
            (id, false)
        );
    }
    // A retry through another node is answered as the first time.
    assert_eq!(
        seq(&propose(&nodes[1].node, shard, &append(&name, 3)).await),
        (3, true)
    );
    for running in &nodes {
        let state = running.node.state(shard).unwrap();
        let mut head = state.watch(&name);
        timeout(PATIENCE, head.wait_for(|seq| *seq == 30))
            .await
            .unwrap()
            .unwrap();
        let (_, messages) = state
            .list(&name, 1, Order::Ascending, 100, 1 << 20)
            .unwrap()
            .unwrap();
        let seqs: Vec<u64> = messages.iter().map(|m| m.seq).collect();
        assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    }
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_shows_what_was_just_acknowledged_and_knows_how_old_it_is() {
    let nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    for id in 1..=30 {
        propose(&nodes[0].node, shard, &append(&name, id)).await;
        for running in &nodes {
            let look = |state: &store::state::ShardState| state.conversation(&name).unwrap();
            let read = running.node.read(shard, PATIENCE, look).await;
            assert_eq!(read.unwrap().unwrap().last_seq, id);
        }
    }
    // Nothing is written any more, and still they know.
    sleep(Duration::from_secs(1)).await;
    for running in &nodes {
        let replica = running.node.replica(shard).unwrap();
        let age = replica.age().expect("it has been told");
        assert!(age < Duration::from_millis(700), "{age:?}");
        sleep(Duration::from_millis(50)).await;
        assert!(replica.age().unwrap() >= age + Duration::from_millis(50));
    }
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_node_says_so_and_refuses_at_once() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    let left = nodes.remove(0);
    assert!(!left.node.lacks_quorum(shard));
    for running in nodes {
        running.kill();
    }
    let gone = Instant::now();
    timeout(PATIENCE, left.node.quorum_lost(shard))
        .await
        .unwrap();
    assert!(
        gone.elapsed() > Duration::from_secs(1),
        "not before it was tried"
    );
    let command = append(&name, 2).encode_to_vec().into();
    let refused = left.node.propose(shard, command, PATIENCE).await;
    assert!(
        matches!(
            refused,
            Err(ProposeError::NotLeader { .. } | ProposeError::Unreachable(_))
        ),
        "nothing was done: {refused:?}"
    );
    left.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_dies_and_comes_back_and_nothing_is_lost() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    for id in 1..=20 {
        propose(&nodes[0].node, shard, &append(&name, id)).await;
    }
    let leader = nodes[0].node.leader(shard).unwrap();
    let at = nodes
        .iter()
        .position(|r| r.node.identity().node == leader)
        .unwrap();
    let (member, raftdb, msgdb, boot) = nodes.remove(at).kill();
    let lost = Instant::now();
    assert_eq!(
        seq(&propose(&nodes[0].node, shard, &append(&name, 21)).await),
        (21, false)
    );
    println!(
        "first write {} ms after the leader died",
        lost.elapsed().as_millis()
    );
    let back = start(member, (raftdb, msgdb), boot + 1, None, vec![]).await;
    let mut view = back.node.view();
    timeout(PATIENCE, view.wait_for(|v| !v.shards.is_empty()))
        .await
        .unwrap()
        .unwrap();
    let state = back.node.state(shard).unwrap();
    let mut head = state.watch(&name);
    timeout(PATIENCE, head.wait_for(|seq| *seq == 21))
        .await
        .unwrap()
        .unwrap();
    nodes.push(back);
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_round_where_the_leader_is_not_reached_and_keeps_its_order() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 3).await;
    let (member, raftdb, msgdb, boot) = nodes.pop().unwrap().kill();
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    let leader = nodes[0].node.leader(shard).unwrap();
    let leads = nodes.iter().find(|one| one.member.id == leader.0).unwrap();
    let to = leads.member.address.clone();
    let dialer = Arc::new(Blind { to });
    let disks = (raftdb, msgdb);
    let blind = start_over(dialer, member, disks, boot + 1, None, vec![]).await;
    assert_eq!(
        seq(&propose(&blind.node, shard, &append(&name, 2)).await),
        (2, false)
    );
    assert!(!blind.node.reachable(leader));
    let many: Vec<_> = (3..=60)
        .map(|id| {
            let command = append(&name, id).encode_to_vec().into();
            blind.node.propose(shard, command, PATIENCE)
        })
        .collect();
    for (id, answered) in (3..).zip(many) {
        assert_eq!(seq(&answered.await.unwrap()), (id, false));
    }
    for running in nodes.into_iter().chain([blind]) {
        running.kill();
    }
}

fn leads_nothing(running: &Running) -> bool {
    let replicas = running.node.replicas();
    replicas.iter().all(|replica| replica.state != "leader")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_or_stops_hands_over_all_that_it_leads() {
    let nodes = cluster(&["seoul", "busan", "tokyo"], 3).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    assert!(!leads_nothing(&nodes[0]), "it leads the meta shard");
    let drain = Command::meta(Change {
        body: Some(ChangeBody::Draining(SetDraining {
            dc: "seoul".into(),
            draining: true,
            ..SetDraining::default()
        })),
        actor: None,
    });
    propose(&nodes[1].node, ShardId::META, &drain).await;
    let mut aside = nodes[0].node.aside();
    timeout(PATIENCE, aside.wait_for(|aside| *aside))
        .await
        .unwrap()
        .unwrap();
    assert!(leads_nothing(&nodes[0]));
    for id in 2..=10 {
        let reply = propose(&nodes[0].node, shard, &append(&name, id)).await;
        assert_eq!(seq(&reply), (id, false), "through the drained node");
    }

    assert_eq!(nodes[1].node.step_aside(PATIENCE).await, 0);
    assert!(leads_nothing(&nodes[1]));
    assert!(leads_nothing(&nodes[0]), "what drains comes last");
    let reply = propose(&nodes[1].node, shard, &append(&name, 11)).await;
    assert_eq!(seq(&reply), (11, false));
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_copy_of_a_disk_is_refused_for_good() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let (member, raftdb, msgdb, boot) = nodes.remove(2).kill();
    let newer = start(member, (raftdb, msgdb), boot + 1, None, vec![]).await;
    let peer = NodeId(newer.member.id);
    timeout(PATIENCE, async {
        while !nodes.iter().all(|r| r.node.reachable(peer)) || !newer.node.reachable(NodeId(1)) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let (member, raftdb, msgdb, boot) = newer.kill();
    // The copy has the counter that was seen before, and another nonce or a lower count.
    let old = start(member, (raftdb, msgdb), boot - 1, None, vec![]).await;
    let mut refused = old.node.refused();
    let refused = timeout(PATIENCE, refused.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap()
        .clone()
        .unwrap();
    assert!(refused.why.contains("old copy"), "the reason is named");
    assert!(!refused.removed);
    nodes.push(old);
    for running in nodes {
        running.kill();
    }
}

/// Every record that the state of `running` holds of a conversation, as hashes.
fn hashes(running: &Running, shard: ShardId) -> Vec<(String, u64, Vec<u8>)> {
    let mut found = Vec::new();
    let state = running.node.state(shard).unwrap();
    state
        .hash(|hash| {
            assert_eq!(hash.running_hash, hash.disk_hash, "{}", hash.name);
            found.push((hash.name.clone(), hash.last_seq, hash.disk_hash.to_vec()));
        })
        .unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_too_long_gets_a_snapshot_and_is_identical() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    let leader = nodes[0].node.leader(shard).unwrap();
    let at = nodes
        .iter()
        .position(|r| r.node.identity().node != leader)
        .unwrap();
    let (member, raftdb, msgdb, boot) = nodes.remove(at).kill();
    let mut last = 1;
    // Until the log that the absent one lacks is cut.
    timeout(PATIENCE, async {
        loop {
            let replicas = nodes.iter().flat_map(|r| r.node.replicas());
            if replicas
                .filter(|r| r.shard == shard)
                .all(|r| r.purged_index > 50)
            {
                break;
            }
            last += 1;
            propose(&nodes[0].node, shard, &append(&name, last)).await;
        }
    })
    .await
    .unwrap();
    let back = start(member, (raftdb, msgdb), boot + 1, None, vec![]).await;
    timeout(PATIENCE, async {
        while back.node.state(shard).is_none() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let mut head = back.node.state(shard).unwrap().watch(&name);
    timeout(PATIENCE, head.wait_for(|seq| *seq == last))
        .await
        .unwrap()
        .unwrap();
    nodes.push(back);
    let expect = hashes(&nodes[0], shard);
    assert_eq!(expect[0].1, last);
    for running in &nodes {
        assert_eq!(hashes(running, shard), expect);
    }
    // What the snapshot brought answers retries.
    assert_eq!(
        seq(&propose(&nodes[2].node, shard, &append(&name, 1)).await),
        (1, true)
    );
    for running in nodes {
        running.kill();
    }
}

/// Whoever asks again and again how replicas are, from several threads, holds nothing up for good: openraft tells
/// of each append, and who held on to what it told and asked once more waited for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_how_replicas_are_never_stands_in_the_way_of_what_changes() {
    let nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    let leader = nodes[0].node.leader(shard).unwrap();
    let leads = nodes
        .iter()
        .position(|r| r.node.identity().node == leader)
        .unwrap();
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(true));
    for _ in 0..3 {
        let (node, asked) = (nodes[leads].node.clone(), asked.clone());
        nodes[leads].runtime.spawn(async move {
            while asked.load(std::sync::atomic::Ordering::Relaxed) {
                let replicas = node.replicas();
                assert!(replicas.iter().any(|one| one.shard == shard));
                node.replicas_together();
                tokio::task::yield_now().await;
            }
        });
    }
    for n in 2..=400 {
        propose(&nodes[0].node, shard, &append(&name, n)).await;
    }
    asked.store(false, std::sync::atomic::Ordering::Relaxed);
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_record_stops_one_replica_until_it_is_rebuilt_from_the_others() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 2).await;
    let names: Vec<_> = (0..20)
        .map(|i| ConversationName::new("acme", &format!("room-{i}")).unwrap())
        .collect();
    for name in &names {
        let shard = shard_of(&nodes[0].node, name);
        propose(&nodes[0].node, shard, &append(name, 1)).await;
    }
    let sick = shard_of(&nodes[0].node, &names[0]);
    {
        // The two others are enough for what was acknowledged.
        let state = nodes[2].node.state(sick).unwrap();
        let mut head = state.watch(&names[0]);
        timeout(PATIENCE, head.wait_for(|seq| *seq == 1))
            .await
            .unwrap()
            .unwrap();
    }
    let (member, raftdb, msgdb, boot) = nodes.remove(2).kill();
    let key = store::key::log::entry(sick, 1);
    assert!(
        raftdb.corrupt(&key, |value| *value.last_mut().unwrap() ^= 1),
        "there is an entry"
    );
    // Alone it stays stopped, over a restart.
    let boot = boot + 1;
    let lonely = Arc::new(Lonely);
    let back = start_over(lonely, member, (raftdb, msgdb), boot, None, vec![]).await;
    let mut view = back.node.view();
    timeout(PATIENCE, view.wait_for(|v| !v.shards.is_empty()))
        .await
        .unwrap()
        .unwrap();
    let replicas = back.node.replicas();
    let broken: Vec<_> = replicas.iter().filter(|r| r.state == "broken").collect();
    assert_eq!(broken.len(), 1, "{replicas:?}");
    assert_eq!(broken[0].shard, sick);
    let why = broken[0].broken_reason.clone().unwrap();
    assert!(
        why.contains("raftdb") && why.contains("key"),
        "file and key are named: {why}"
    );
    assert!(back.node.state(sick).is_none());
    let (member, raftdb, msgdb, _) = back.kill();
    let back = start(member, (raftdb, msgdb), boot + 1, None, vec![]).await;
    let well = names
        .iter()
        .find(|n| shard_of(&nodes[0].node, n) != sick)
        .unwrap();
    let shard = shard_of(&nodes[0].node, well);
    assert_eq!(
        seq(&propose(&back.node, shard, &append(well, 1)).await),
        (1, true)
    );
    // The sick shard has its quorum on the others.
    assert_eq!(
        seq(&propose(&nodes[0].node, sick, &append(&names[0], 2)).await),
        (2, false)
    );
    // They rebuild it, and count on it then: with one of them gone it makes the quorum.
    let healed = async {
        loop {
            let replicas = back.node.replicas();
            let one = replicas.iter().find(|r| r.shard == sick);
            if one.is_some_and(|r| r.state == "follower" || r.state == "leader") {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, healed).await.expect("it is rebuilt");
    let whole = async {
        let voters = |node: &Node| {
            let state = node.state(sick).map(|state| state.applied().membership);
            state.unwrap_or_default()
        };
        while voters(&back.node) != voters(&nodes[0].node) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, whole).await.expect("all agree who votes");
    nodes.remove(1).kill();
    assert_eq!(
        seq(&propose(&nodes[0].node, sick, &append(&names[0], 3)).await),
        (3, false)
    );
    nodes.push(back);
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_appends_and_reads_go_on() {
    let nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    for running in &nodes {
        running.node.set_room(Room::Reserved);
    }
    let command = append(&name, 2).encode_to_vec();
    let refused = nodes[1]
        .node
        .propose(shard, command.into(), Duration::from_secs(5))
        .await;
    assert_eq!(refused, Err(ProposeError::DiskFull));
    let leader = nodes[0].node.leader(shard).unwrap();
    let leader = nodes
        .iter()
        .find(|r| r.node.identity().node == leader)
        .unwrap();
    let read = leader.node.read(shard, Duration::from_secs(5), |state| {
        state.conversation(&name).unwrap().unwrap().last_seq
    });
    assert_eq!(read.await, Ok(1));
    for running in &nodes {
        running.node.set_room(Room::Enough);
    }
    assert_eq!(
        seq(&propose(&nodes[1].node, shard, &append(&name, 2)).await),
        (2, false)
    );
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_leader_stays_one_and_one_without_a_quorum_does_not() {
    let leading = |running: &Running| {
        let replicas = running.node.replicas();
        replicas.iter().filter(|r| r.state == "leader").count()
    };
    let quiet = Duration::from_millis(3 * Tuning::default().election_max_ms);
    let mut alone = cluster_of(&["seoul"], 1, 1).await;
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    timeout(PATIENCE, async {
        while leading(&alone[0]) < 2 || nodes.iter().map(leading).sum::<usize>() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    let until = Instant::now() + quiet;
    while Instant::now() < until {
        assert_eq!(leading(&alone[0]), 2, "alone, with its meta shard");
        assert_eq!(
            nodes.iter().map(leading).sum::<usize>(),
            2,
            "one leader a shard"
        );
        sleep(Duration::from_millis(50)).await;
    }
    let at = nodes.iter().position(|r| leading(r) > 0).unwrap();
    let left = nodes.remove(at);
    for running in nodes {
        running.kill();
    }
    timeout(PATIENCE, async {
        while leading(&left) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    left.kill();
    alone.remove(0).kill();
}

fn replica(running: &Running, shard: ShardId) -> ReplicaStatus {
    let replicas = running.node.replicas();
    replicas.into_iter().find(|r| r.shard == shard).unwrap()
}

/// Until all replicas of a shard sleep.
async fn asleep(nodes: &[Running], shard: ShardId) {
    timeout(PATIENCE, async {
        while !nodes.iter().all(|running| replica(running, shard).asleep) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_nobody_uses_sleeps_and_wakes_for_a_write_a_read_and_its_leaders_death() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    let write = async |nodes: &[Running], id| {
        let reply = propose(&nodes[0].node, shard, &append(&name, id)).await;
        assert_eq!(seq(&reply), (id, false));
    };
    write(&nodes, 1).await;
    asleep(&nodes, shard).await;
    let term = replica(&nodes[0], shard).term;
    let quiet = Duration::from_millis(3 * Tuning::default().election_max_ms);
    let until = Instant::now() + quiet;
    while Instant::now() < until {
        for running in &nodes {
            let age = running.node.replica(shard).unwrap().age();
            assert!(
                age.expect("it is told") < Duration::from_millis(700),
                "{age:?}"
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
    for running in &nodes {
        let found = replica(running, shard);
        assert_eq!((found.asleep, found.term), (true, term), "{found:?}");
    }

    write(&nodes, 2).await;
    assert!(nodes.iter().any(|running| !replica(running, shard).asleep));
    asleep(&nodes, shard).await;

    let look = |state: &store::state::ShardState| state.conversation(&name).unwrap();
    for running in &nodes {
        let read = running.node.read(shard, PATIENCE, look).await;
        assert_eq!(read.unwrap().unwrap().last_seq, 2);
    }
    asleep(&nodes, shard).await;
    assert_eq!(
        replica(&nodes[0], shard).term,
        term,
        "the same leader all the time"
    );

    let led = |running: &Running| replica(running, shard).state == "leader";
    let leader = nodes.iter().position(led).unwrap();
    nodes.remove(leader).kill();
    write(&nodes, 3).await;
    assert!(replica(&nodes[0], shard).term > term);
    // With one of them gone, too, whom openraft goes on trying to reach.
    asleep(&nodes, shard).await;
    let until = Instant::now() + quiet;
    while Instant::now() < until {
        for running in &nodes {
            assert!(replica(running, shard).asleep, "it stays so");
        }
        sleep(Duration::from_millis(5)).await;
    }
    write(&nodes, 4).await;
    for running in nodes {
        running.kill();
    }
}

/// Whether every node reaches every other.
async fn all_reach_each_other(nodes: &[Running]) {
    let ids: Vec<NodeId> = nodes.iter().map(|r| NodeId(r.member.id)).collect();
    timeout(PATIENCE, async {
        let reach = |r: &Running| ids.iter().all(|id| r.node.reachable(*id));
        while !nodes.iter().all(reach) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

/// Waits until every node lists these addresses.
async fn all_list(nodes: &[Running]) {
    for running in nodes {
        let mut view = running.node.view();
        let listed = |view: &Arc<ClusterState>| {
            let mut members = nodes.iter().map(|r| &r.member);
            members.all(|m| {
                view.node(NodeId(m.id))
                    .is_some_and(|n| n.address == m.address)
            })
        };
        timeout(PATIENCE, view.wait_for(listed))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_have_all_moved_find_each_other_through_one_seed() {
    let nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    let stopped: Vec<_> = nodes.into_iter().map(Running::kill).collect();
    let moved = |old: &Member| Member {
        address: member(old.id, "x").address,
        ..old.clone()
    };
    let members: Vec<Member> = stopped.iter().map(|(old, ..)| moved(old)).collect();
    let seed = members[0].address.clone();
    let mut nodes = Vec::new();
    for (member, (_, raftdb, msgdb, boot)) in members.into_iter().zip(stopped) {
        let seeds = vec![seed.clone()];
        nodes.push(start(member, (raftdb, msgdb), boot + 1, None, seeds).await);
    }
    all_reach_each_other(&nodes).await;
    let reply = propose(&nodes[2].node, shard, &append(&name, 2)).await;
    assert_eq!(seq(&reply), (2, false));
    all_list(&nodes).await;
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_where_another_was_is_told_apart_and_both_are_found() {
    let mut nodes = cluster(&["seoul", "busan", "tokyo"], 1).await;
    let name = ConversationName::new("acme", "room").unwrap();
    let shard = shard_of(&nodes[0].node, &name);
    propose(&nodes[0].node, shard, &append(&name, 1)).await;
    let (tokyo, busan) = (nodes.remove(2).kill(), nodes.remove(1).kill());
    let at = |one: &Member, other: &Member| Member {
        address: other.address.clone(),
        ..one.clone()
    };
    let (new_busan, new_tokyo) = (at(&busan.0, &tokyo.0), at(&tokyo.0, &busan.0));
    for (member, (_, raftdb, msgdb, boot)) in [(new_busan, busan), (new_tokyo, tokyo)] {
        nodes.push(start(member, (raftdb, msgdb), boot + 1, None, vec![]).await);
    }
    all_reach_each_other(&nodes).await;
    all_list(&nodes).await;
    for (id, running) in (2..).zip(&nodes) {
        assert_eq!(
            seq(&propose(&running.node, shard, &append(&name, id)).await),
            (id, false)
        );
    }
    for running in nodes {
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_while_it_runs_hears_of_it() {
    let nodes = cluster(&["seoul", "busan", "tokyo", "osaka"], 1).await;
    let gone = nodes.iter().find(|r| {
        let view = r.node.view();
        let view = view.borrow();
        let holds = |shard: ShardId| view.holds(NodeId(r.member.id), shard);
        !holds(ShardId(1))
    });
    let gone = gone.unwrap();
    let mut refused = gone.node.refused();
    let leave = model::cluster::Leave {
        node: gone.member.id,
        stays: false,
    };
    let leave = Command::meta(Change {
        body: Some(ChangeBody::Leave(leave)),
        actor: None,
    });
    propose(&nodes[0].node, ShardId::META, &leave).await;
    let heard = timeout(PATIENCE, refused.wait_for(Option::is_some)).await;
    let heard = heard.unwrap().unwrap().clone().unwrap();
    assert!(heard.removed, "{heard:?}");
    assert!(
        heard.why.contains("was removed from the cluster"),
        "{heard:?}"
    );
    drop(refused);
    for running in nodes {
        running.kill();
    }
}
