//! Somebody who has read a member's disk calls the other nodes in its name, or a member with a bug
//! does: what they say in good order counts, and nothing else. None of it stops a node, or stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Load, assert_identical, client, cluster};
use futures::StreamExt as _;
use model::cluster::{Change, ChangeBody, Join, MetaReplicas};
use model::command::{self, Answer, Append, Command, NewMessage, Reply};
use model::hash;
use model::id::NodeId;
use prost::Message as _;
use proto::node as wire;
use proto::node::frame::Body;
use proto::node::peer_client::PeerClient;
use proto::node::snapshot_chunk::Part;
use proto::node::{Frame, Frames};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use server::identity::Record;
use store::Log;
use store::engine::rocks::Rocks;
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

/// The member whose disk was read: it is down meanwhile.
const READ: usize = 1;
/// Between two looks at a log.
const LOG_CHECK_EVERY: Duration = Duration::from_millis(50);

/// What the disk of a node that is down says it is.
fn identity(cluster: &Cluster, node: usize) -> Record {
    let node = &cluster.nodes()[node];
    let engine = Rocks::open_log(&node.data_dir.join("raftdb")).unwrap();
    let (log, _writer) = Log::open(Arc::new(engine)).unwrap();
    Record::load(&log, &node.name).unwrap().unwrap()
}

/// A call of `as_node` to the node of this position in the cluster's list, or to whoever is there.
fn signed<T>(as_node: &Record, to: Option<usize>, message: T) -> Request<T> {
    let disk: String = as_node.disk_id.iter().map(|b| format!("{b:02x}")).collect();
    let mut request = Request::new(message);
    for (key, value) in [
        ("firebreak-cluster", as_node.cluster_id.clone()),
        ("firebreak-node", as_node.node.to_string()),
        ("firebreak-boot", as_node.boot.to_string()),
        ("firebreak-nonce", as_node.boot_nonce.to_string()),
        ("firebreak-disk", disk),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    // The first is n1, and the others joined in their order.
    let to = to.map_or(0, |position| position as u64 + 1);
    if to > 0 {
        request.metadata_mut().insert("firebreak-to", to.into());
    }
    let start = (NodeId(as_node.node), as_node.boot, as_node.boot_nonce);
    let secret = as_node.secret.clone().into();
    let proof = raft::prove(&secret, &as_node.cluster_id, start, NodeId(to)).unwrap();
    let proof = proof.parse().unwrap();
    request.metadata_mut().insert("firebreak-proof", proof);
    request
}

/// Sends frames over a link of its own; the answers, as they come.
async fn link(
    cluster: &Cluster,
    to: usize,
    as_node: &Record,
    frames: Vec<Frame>,
) -> Result<Streaming<Frames>, Status> {
    let frames = Frames { format: 1, frames };
    let sent = futures::stream::iter([frames]).chain(futures::stream::pending());
    let answers = PeerClient::new(cluster.nodes()[to].channel())
        .link(signed(as_node, Some(to), sent))
        .await?;
    Ok(answers.into_inner())
}

fn frame(shard: u32, body: Body) -> Frame {
    Frame {
        id: 1,
        shard,
        body: Some(body),
        ..Frame::default()
    }
}

/// The answer to one frame.
async fn ask(cluster: &Cluster, to: usize, as_node: &Record, shard: u32, body: Body) -> Body {
    let asked = link(cluster, to, as_node, vec![frame(shard, body)]).await;
    let mut answers = asked.unwrap();
    let answer = timeout(LIMIT, answers.message()).await.unwrap().unwrap();
    answer.unwrap().frames[0].body.clone().unwrap()
}

fn vote(term: u64, node: u64) -> wire::VoteId {
    wire::VoteId {
        term,
        node,
        committed: true,
    }
}

#[track_caller]
fn assert_refused(answer: &Body, says: &str) {
    let Body::Failed(failed) = answer else {
        panic!("not refused: {answer:?}");
    };
    assert!(failed.message.contains(says), "{}", failed.message);
}

/// Every node runs on in its old process, all replicas are alike, and messages are still taken.
async fn unharmed(cluster: &mut Cluster) {
    cluster.check().unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    let load = Load::start(&client(cluster), "after", 6);
    load.more(60).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client(cluster)).await;
    assert_identical(cluster).await;
}

/// A cluster with something in it, and one node down whose disk was read.
async fn burgled() -> (firebreak_tests::Place, Cluster, Record) {
    let (place, mut cluster) = cluster(1).await;
    let load = Load::start(&client(&cluster), "before", 6);
    load.more(60).await;
    load.stop().await;
    cluster.kill(&[READ]).unwrap();
    let read = identity(&cluster, READ);
    (place, cluster, read)
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_leap_and_logs_that_are_none_are_refused_and_stop_nobody() {
    let (_place, mut cluster, read) = burgled().await;
    let pids = cluster.pids();
    for node in [0, 2] {
        let other = cluster.nodes()[node].channel();
        let status = v1::GetStatusRequest::default();
        let status = AdminClient::new(other.clone()).get_status(status).await;
        let status = status.unwrap().into_inner();
        for replica in &status.replicas {
            let (shard, term) = (replica.shard, replica.term);
            let append = |vote, entries: &[(u64, u64)]| {
                let entries = entries.iter().map(|(term, index)| wire::Entry {
                    id: Some(wire::LogId {
                        term: *term,
                        index: *index,
                    }),
                    record: Bytes::from_static(&[0]),
                    ..wire::Entry::default()
                });
                Body::Append(wire::AppendEntries {
                    vote: Some(vote),
                    prev: None,
                    entries: entries.collect(),
                    commit: None,
                    incarnation: 0,
                })
            };
            let check = async |body: Body, says: &str| {
                assert_refused(&ask(&cluster, node, &read, shard, body).await, says);
            };
            check(append(vote(u64::MAX, read.node), &[]), "leaps").await;
            // In the name of who leads.
            check(append(vote(term, status.node_id), &[]), "in the name of").await;
            let next = vote(term + 1, read.node);
            check(append(next, &[(term + 2, 0)]), "after").await;
            check(append(next, &[(1, 0), (1, 2)]), "does not follow").await;
            // Over what is decided.
            let decided: Vec<_> = (0..=replica.applied_index)
                .map(|index| (term + 1, index))
                .collect();
            check(append(next, &decided), "not the one that is decided").await;
            let asked = wire::Vote {
                vote: Some(wire::VoteId {
                    committed: false,
                    ..vote(u64::MAX, read.node)
                }),
                transfer: true,
                ..wire::Vote::default()
            };
            check(Body::Vote(asked), "leaps").await;
            let transfer = wire::TransferLeader {
                from: Some(vote(term, status.node_id)),
                to: read.node,
                windows_over: true,
                ..wire::TransferLeader::default()
            };
            check(Body::Transfer(transfer), "in the name of").await;
        }
    }
    cluster.check().unwrap();
    cluster.start_node(READ).unwrap();
    unharmed(&mut cluster).await;
    assert_eq!((cluster.pids()[0], cluster.pids().len()), (pids[0], 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_nothing_is_refused_before_anything_is_stopped() {
    let (_place, mut cluster, read) = burgled().await;
    for node in [0, 2] {
        let other = cluster.nodes()[node].channel();
        for shard in 0..=3 {
            let head = wire::SnapshotHead {
                format: 1,
                shard,
                vote: Some(vote(50, read.node)),
                last: Some(wire::LogId {
                    term: 50,
                    index: 1_000_000,
                }),
                files: 0,
                ..wire::SnapshotHead::default()
            };
            let chunk = wire::SnapshotChunk {
                part: Some(Part::Head(head)),
            };
            let sent = signed(&read, Some(node), futures::stream::iter([chunk]));
            let installed = PeerClient::new(other.clone()).install_snapshot(sent).await;
            let status = installed.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
    }
    cluster.start_node(READ).unwrap();
    unharmed(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_commands_keep_the_rules_of_callers() {
    let (_place, mut cluster, read) = burgled().await;
    let message = |sender: &'static [u8], body: usize| NewMessage {
        sender: Bytes::from_static(sender),
        client_message_id: "1".into(),
        body: vec![b'x'; body].into(),
        kind: "text".into(),
        ..NewMessage::default()
    };
    let append = |messages| {
        Command::append(Append {
            conversation: "tenants/t/conversations/forged".into(),
            messages,
            ..Append::default()
        })
    };
    let meta = |body| Command::meta(Change::from(body));
    let by_hash = Join {
        token_hash: hash::token_hash(cluster.token()),
        node: Some(model::cluster::Node {
            name: "forged".into(),
            address: "127.0.0.1:1".into(),
            disk_id: Bytes::from_static(&[9; 16]),
            locality: Some(model::cluster::Locality {
                dc: "seoul".into(),
                region: "kr".into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Join::default()
    };
    let commands = [
        (1, append(vec![message(b"s", 65_537)])),
        (1, append(vec![message(b"s", 5_000_000)])),
        (1, append(vec![message(b"\xff\xfe", 1)])),
        (1, append(vec![message(b"s", 1); 100_000])),
        (
            0,
            meta(ChangeBody::MetaReplicas(MetaReplicas { nodes: vec![1] })),
        ),
        (0, meta(ChangeBody::Join(by_hash))),
    ];
    for node in [0, 2] {
        for (shard, command) in &commands {
            let forward = Body::Forward(wire::Forward {
                timeout_ms: 5_000,
                commands: vec![command.encode_to_vec().into()],
                ..wire::Forward::default()
            });
            match ask(&cluster, node, &read, *shard, forward).await {
                Body::ForwardAnswer(answer) => {
                    let reply = Reply::decode(answer.replies[0].clone()).unwrap();
                    let Some(Answer::Refused(refusal)) = reply.answer else {
                        panic!("decided: {reply:?}");
                    };
                    assert_eq!(refusal.reason(), command::Reason::Invalid);
                }
                // Who does not lead the meta shard leaves joins to its leader.
                Body::Failed(_) if *shard == 0 => {}
                other => panic!("{other:?}"),
            }
        }
    }
    cluster.start_node(READ).unwrap();
    unharmed(&mut cluster).await;
    let statuses = cluster.statuses().await;
    assert!(statuses.iter().all(|status| status.nodes.len() == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_that_leap_are_not_noted_and_forged_ones_are_forgotten_by_two_operators() {
    let (_place, mut cluster, read) = burgled().await;
    let forge = async |boot: u64| {
        let forged = Record {
            boot,
            boot_nonce: 7,
            ..read.clone()
        };
        for node in [0, 2] {
            let linked = link(&cluster, node, &forged, Vec::new()).await;
            let expect = boot < u64::MAX;
            assert_eq!(linked.is_ok(), expect, "{boot}: {:?}", linked.err());
        }
    };
    forge(u64::MAX).await;
    cluster.start_node(READ).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    cluster.kill(&[READ]).unwrap();
    let read = identity(&cluster, READ);
    let forge = async |boot: u64| {
        let forged = Record {
            boot,
            boot_nonce: 7,
            ..read.clone()
        };
        for node in [0, 2] {
            link(&cluster, node, &forged, Vec::new()).await.unwrap();
        }
    };
    // One that does not leap is believed, and the true node is refused.
    forge(read.boot + 1_000).await;
    cluster.start_node(READ).unwrap();
    let ended = cluster.wait_end(READ, LIMIT).unwrap();
    assert!(!ended.success(), "{ended}");

    let target = cluster.nodes()[0].address.clone();
    let name = cluster.nodes()[READ].name.clone();
    let boot = read.boot.to_string();
    let says = |operator: &str| {
        let args = [
            "node",
            "forget-boot",
            &name,
            "--boot",
            &boot,
            "--operator",
            operator,
            "--target",
            &target,
            "--json",
        ];
        let said: serde_json::Value =
            serde_json::from_str(&cluster.run_ok(&args).unwrap()).unwrap();
        said["holds"].as_bool().unwrap()
    };
    assert!(!says("ann"));
    assert!(!says("ann"), "once is not twice");
    assert!(says("bob"));
    let config = cluster.nodes()[READ].config.display().to_string();
    let again = cluster.run_ok(&["node", "ask-again", "--config", &config]);
    assert!(again.unwrap().contains("may ask again"));
    cluster.start_node(READ).unwrap();
    unharmed(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_is_told_nothing_and_no_node_calls_itself() {
    let (_place, mut cluster, read) = burgled().await;
    let other = cluster.nodes()[0].channel();
    let watch = async |as_node: Record| {
        let asked = signed(&as_node, None, wire::WatchClusterRequest { known_epoch: 0 });
        PeerClient::new(other.clone())
            .watch_cluster(asked)
            .await
            .map(drop)
            .unwrap_err()
    };
    let stranger = Record {
        node: 999,
        ..read.clone()
    };
    assert_eq!(watch(stranger).await.code(), Code::Unavailable);
    let status = v1::GetStatusRequest::default();
    let status = AdminClient::new(other.clone()).get_status(status).await;
    let itself = Record {
        node: status.unwrap().into_inner().node_id,
        ..read.clone()
    };
    let status = watch(itself).await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(
        status.message().contains("no node calls itself"),
        "{status}"
    );
    cluster.start_node(READ).unwrap();
    unharmed(&mut cluster).await;
}

/// MiB that a process has in memory.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_whose_pongs_nobody_takes_fill_no_memory() {
    let (_place, mut cluster, read) = burgled().await;
    let pid = cluster.nodes()[0].pid().unwrap();
    let before = resident_mib(pid);
    let ping = |id| Frame {
        id,
        body: Some(Body::Ping(wire::Ping::default())),
        ..Frame::default()
    };
    // More than one message may hold, and many that hold as much as they may.
    let mut unread = Vec::new();
    for (count, times) in [(60_000, 10), (1_000_000, 3)] {
        for _ in 0..times {
            let frames = (1..=count).map(ping).collect();
            unread.push(link(&cluster, 0, &read, frames).await.unwrap());
        }
    }
    // What is too much is told, when it has been looked at.
    let told = || {
        let log = std::fs::read_to_string(&cluster.nodes()[0].log).unwrap();
        log.matches("too many frames").count()
    };
    timeout(LIMIT, async {
        while told() < 3 {
            tokio::time::sleep(LOG_CHECK_EVERY).await;
        }
    })
    .await
    .unwrap();
    let grown = resident_mib(pid).saturating_sub(before);
    assert!(grown < 200, "{grown} MiB more than the {before} before");
    drop(unread);
    cluster.start_node(READ).unwrap();
    unharmed(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_compared_once_a_second_and_never_become_entries() {
    let (_place, mut cluster) = cluster(1).await;
    let last = async |cluster: &Cluster| {
        let statuses = cluster.statuses().await;
        let meta = statuses.iter().flat_map(|status| &status.replicas);
        let meta = meta.filter(|replica| replica.shard == 0);
        meta.map(|replica| replica.last_log_index).max().unwrap()
    };
    let before = last(&cluster).await;
    let guess = async |token: &str| {
        let request = v1::JoinNodeRequest {
            token: token.into(),
            name: "guesser".into(),
            address: "127.0.0.1:1".into(),
            region: "kr".into(),
            dc: "seoul".into(),
            disk_id: vec![7; 16].into(),
            ..v1::JoinNodeRequest::default()
        };
        let mut admin = AdminClient::new(cluster.nodes()[0].channel());
        let status = admin.join_node(request).await.unwrap_err();
        status.get_details_error_info().unwrap().reason
    };
    let guesses = (0..40).map(|number| {
        let guess = &guess;
        async move { guess(&format!("fb-{number:040x}")).await }
    });
    let reasons = futures::future::join_all(guesses).await;
    let compared = reasons.iter().filter(|reason| *reason == "JOIN_REFUSED");
    assert_eq!(compared.count(), 1, "{reasons:?}");
    let limited = reasons.iter().filter(|reason| *reason == "JOIN_LIMITED");
    assert_eq!(limited.count(), 39, "{reasons:?}");
    // Leaders write a few entries of their own, and no guess is among them.
    let more = last(&cluster).await - before;
    assert!(more < 20, "{more} entries more");
    let log = std::fs::read_to_string(&cluster.nodes()[0].log).unwrap();
    assert!(log.contains("asks to join with a wrong token"), "{log}");
    unharmed(&mut cluster).await;
}
