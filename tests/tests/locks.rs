//! TLS between nodes and with clients: who is let in, and how a cluster comes to it, and goes on with
//! new certificates, without an end of service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Message};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{CALL_LIMIT, LIMIT, Load, Place, binary, client};
use model::id::NodeId;
use proto::net::secure::{SecureDialer, Trust};
use proto::net::{Channel, Dial as _, Tcp};
use proto::node::peer_client::PeerClient;
use proto::node::{Frames, WatchClusterRequest};
use proto::v1::GetStatusRequest;
use proto::v1::admin_client::AdminClient;
use server::identity::Record;
use store::Log;
use store::engine::rocks::Rocks;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const TALK: &str = "tenants/test/conversations/talk";

async fn cluster(mode: &'static str) -> (Place, Cluster) {
    let place = Place::new();
    let plan = ClusterPlan {
        tls: Some(mode),
        ..ClusterPlan::three_dcs(place.path(), &binary(), 1)
    };
    let cluster = Cluster::start(plan).await.expect("the cluster comes up");
    (place, cluster)
}

/// A channel of somebody with a certificate of this name, or none, who trusts `ca`.
fn dial(pki: &Path, ca: &Path, own: Option<&str>, address: &str) -> Channel {
    let read = |name: String| std::fs::read(pki.join(name)).unwrap();
    let own = own.map(|own| (read(format!("{own}.pem")), read(format!("{own}.key"))));
    let own = own.as_ref().map(|(cert, key)| (&**cert, &**key));
    let trust = Trust::read(&std::fs::read(ca).unwrap(), own).unwrap();
    SecureDialer::new(Tcp, trust).dial(address).unwrap()
}

async fn status(channel: Channel) -> Result<String, Status> {
    let mut admin = AdminClient::new(channel);
    let answer = admin.get_status(GetStatusRequest::default()).await?;
    Ok(answer.into_inner().node_name)
}

/// What the other end says of the caller's being a node of this name and number.
async fn as_node(channel: Channel, cluster: &str, node: u64) -> Status {
    let mut request = Request::new(WatchClusterRequest { known_epoch: 0 });
    for (key, value) in [
        ("firebreak-cluster", cluster.to_owned()),
        ("firebreak-node", node.to_string()),
        ("firebreak-boot", "99".to_owned()),
        ("firebreak-nonce", "1".to_owned()),
        ("firebreak-disk", "00".repeat(16)),
        ("firebreak-certified", format!("node/n{node}")),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    PeerClient::new(channel)
        .watch_cluster(request)
        .await
        .expect_err("a stranger is no node")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_cluster_serves_whom_it_knows_and_tells_others_why_not() {
    let (place, cluster) = cluster("strict").await;
    let load = Load::start(&client(&cluster), "strict", 6);
    load.more(60).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client(&cluster)).await;
    let (pki, address) = (cluster.pki(), cluster.nodes()[0].address.clone());
    let ca = pki.join("ca.pem");
    let run = |args: &[&str]| {
        let output = Command::new(binary())
            .args(args)
            .args(["--target", &address])
            .output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let ca_text = ca.display().to_string();
    assert_eq!(run(&["status", "--ca", &ca_text]).0, Some(0));
    // Plainly: the node answers, and says what is wrong.
    let refused = status(Tcp.dial(&address).unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let details = refused.get_details_error_info().unwrap();
    assert_eq!(details.reason, "TLS_REQUIRED");
    let (code, told) = run(&["status"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("TLS_REQUIRED"), "{told}");
    // With an authority that has certified nobody here.
    let other = place.path().join("other");
    let other_dir = other.display().to_string();
    cluster
        .run_ok(&["cert", "ca", "--dir", &other_dir])
        .unwrap();
    let strangers = other.join("ca.pem");
    let refused = status(dial(&pki, &strangers, None, &address)).await;
    let refused = format!("{:?}", refused.unwrap_err());
    assert!(refused.contains("not trusted"), "{refused}");
    // Who has a certificate of that authority's is nobody to the node.
    let client = [
        "cert",
        "client",
        "--dir",
        &other_dir,
        "--name",
        "eve",
        "--operator",
    ];
    cluster.run_ok(&client).unwrap();
    assert!(
        status(dial(&other, &ca, Some("operator-eve"), &address))
            .await
            .is_err()
    );
    // Who is known as a client is no node, whatever it says it is.
    let id = cluster.statuses().await[0].cluster_id.clone();
    for own in [None, Some("operator-harness"), Some("node-busan-1")] {
        let refused = as_node(dial(&pki, &ca, own, &address), &id, 2).await;
        assert_eq!(refused.code(), Code::Unauthenticated, "{own:?}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_cluster_believes_nobody_who_only_says_that_it_is_a_node() {
    let (_place, cluster) = firebreak_tests::cluster(1).await;
    let id = cluster.statuses().await[0].cluster_id.clone();
    let refused = as_node(cluster.nodes()[0].channel(), &id, 2).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert!(refused.message().contains("firebreak-proof"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_the_certificate_of_another_does_not_start() {
    let (_place, mut cluster) = cluster("strict").await;
    cluster.terminate(2, LIMIT).unwrap();
    let (mine, other) = (&cluster.nodes()[2].name, &cluster.nodes()[1].name);
    for end in ["pem", "key"] {
        let file = |name: &str| cluster.pki().join(format!("node-{name}.{end}"));
        std::fs::copy(file(other), file(mine)).unwrap();
    }
    let config = cluster.nodes()[2].config.display().to_string();
    let output = cluster.run(&["serve", "--config", &config]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains(&format!("the certificate of node/{other}")),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_to_tls_under_load_without_a_failed_call() {
    let (_place, mut cluster) = cluster("off").await;
    let load = Load::start(&client(&cluster), "roll", 6);
    load.more(60).await;
    for mode in ["optional", "strict"] {
        for i in 0..3 {
            cluster.set_tls(i, mode).unwrap();
            cluster.terminate(i, LIMIT).unwrap();
            cluster.start_node(i).unwrap();
            cluster.wait_ready(LIMIT).await.unwrap();
            load.more(20).await;
        }
    }
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client(&cluster)).await;
    let refused = status(Tcp.dial(&cluster.nodes()[0].address).unwrap()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}

/// What the disk of a node that is down says it is.
fn identity(cluster: &Cluster, node: usize) -> Record {
    let node = &cluster.nodes()[node];
    let engine = Rocks::open_log(&node.data_dir.join("raftdb")).unwrap();
    let (log, _writer) = Log::open(Arc::new(engine)).unwrap();
    Record::load(&log, &node.name).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_took_a_removed_nodes_disk_and_certificate_is_refused_all_the_same() {
    let place = Place::new();
    let mut plan = ClusterPlan {
        tls: Some("strict"),
        ..ClusterPlan::three_dcs(place.path(), &binary(), 1)
    };
    plan.places.push(("kr".to_owned(), "jeju".to_owned()));
    let mut cluster = Cluster::start(plan).await.expect("the cluster comes up");
    let (name, pki) = (cluster.nodes()[3].name.clone(), cluster.pki());
    let (address, ca) = (cluster.nodes()[0].address.clone(), pki.join("ca.pem"));
    let ca_text = ca.display().to_string();
    let remove = [
        "node", "remove", &name, "--target", &address, "--ca", &ca_text,
    ];
    cluster.run_ok(&remove).unwrap();
    let ended = cluster.wait_end(3, LIMIT).unwrap();
    assert_eq!(ended.code(), Some(77));
    let stolen = identity(&cluster, 3);
    let disk: String = stolen.disk_id.iter().map(|b| format!("{b:02x}")).collect();
    let start = (NodeId(stolen.node), stolen.boot + 1, 7);
    let secret = stolen.secret.clone().into();
    let proof = raft::prove(&secret, &stolen.cluster_id, start, NodeId(1)).unwrap();
    let mut request = Request::new(futures::stream::iter([Frames::default()]));
    for (key, value) in [
        ("firebreak-cluster", stolen.cluster_id.clone()),
        ("firebreak-node", stolen.node.to_string()),
        ("firebreak-boot", (stolen.boot + 1).to_string()),
        ("firebreak-nonce", "7".to_owned()),
        ("firebreak-disk", disk),
        ("firebreak-to", "1".to_owned()),
        ("firebreak-proof", proof),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    let own = format!("node-{name}");
    let mut peer = PeerClient::new(dial(&pki, &ca, Some(&own), &address));
    let refused = peer
        .link(request)
        .await
        .expect_err("it is no node any more");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("was removed"), "{refused}");
}

/// Waits until a node has a certificate that holds until another time, as a client sees it.
async fn exchanged(cluster: &Cluster, count: usize) {
    let begun = Instant::now();
    let told = |node: usize| {
        let log = std::fs::read_to_string(&cluster.nodes()[node].log).unwrap();
        log.matches("certificates were exchanged").count()
    };
    for node in 0..3 {
        while told(node) < count {
            assert!(begun.elapsed() < LIMIT, "node {node} looks at no file");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_and_certificates_are_exchanged_under_load_without_a_failed_call() {
    let (_place, mut cluster) = cluster("strict").await;
    let pki = cluster.pki().display().to_string();
    let file = cluster.pki().join("ca.pem");
    let trusted = || std::fs::read(&file).unwrap();
    let old = trusted();
    let dialer = SecureDialer::new(Tcp, Trust::read(&old, None).unwrap());
    let builder = Client::builder().endpoints(cluster.addresses());
    let builder = builder.dialer(Arc::new(dialer.clone()));
    let sender = builder.deadline(CALL_LIMIT).build().unwrap();
    let load = Load::start(&sender, "rotate", 6);
    load.more(60).await;
    let steps: [&[&str]; 3] = [
        &["cert", "ca", "--dir", &pki, "--next"],
        &["cert", "rotate", "--dir", &pki],
        &["cert", "ca", "--dir", &pki, "--drop-old"],
    ];
    for (round, step) in steps.iter().enumerate() {
        cluster.run_ok(step).unwrap();
        cluster.signal(&[0, 1, 2], libc::SIGHUP).unwrap();
        exchanged(&cluster, round + 1).await;
        dialer.exchange(Trust::read(&trusted(), None).unwrap());
        load.more(20).await;
    }
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    cluster.reach().unwrap();
    // New connections are trusted by the new authority alone.
    ledger.assert_kept(&client(&cluster)).await;
    let trust = Trust::read(&old, None).unwrap();
    let builder = Client::builder()
        .endpoints(cluster.addresses())
        .dialer(Arc::new(SecureDialer::new(Tcp, trust)))
        .deadline(Duration::from_secs(2));
    let late = builder.build().unwrap();
    assert!(
        late.append(TALK, Message::text("ann", "late"))
            .await
            .is_err()
    );
    // Files that are of no use leave those before.
    std::fs::write(cluster.pki().join("ca.pem"), "nonsense").unwrap();
    cluster.signal(&[0], libc::SIGHUP).unwrap();
    let begun = Instant::now();
    let told = || std::fs::read_to_string(&cluster.nodes()[0].log).unwrap();
    while !told().contains("the files of TLS are of no use") {
        assert!(begun.elapsed() < CALL_LIMIT, "nothing is said");
        sleep(Duration::from_millis(20)).await;
    }
    let channel = cluster.nodes()[0].channel();
    assert!(status(channel).await.is_ok());
}

/// Has a node's configuration say something else in its section `tls`.
fn reconfigure(config: &Path, change: impl FnOnce(&mut toml::Table)) {
    let text = std::fs::read_to_string(config).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    change(table["tls"].as_table_mut().unwrap());
    std::fs::write(config, table.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_its_certificate_as_it_joins_and_tells_its_token_to_nobody_else() {
    let place = Place::new();
    let plan = ClusterPlan {
        tls: Some("strict"),
        ..ClusterPlan::three_dcs(place.path(), &binary(), 1)
    };
    let mut cluster = Cluster::found(plan).await.unwrap();
    let (pki, own) = (cluster.pki(), place.path().join("own"));
    std::fs::create_dir(&own).unwrap();
    let newcomer = cluster.nodes()[1].config.clone();
    reconfigure(&newcomer, |tls| {
        for (key, file) in [("ca", "ca.pem"), ("cert", "node.pem"), ("key", "node.key")] {
            tls[key] = own.join(file).display().to_string().into();
        }
    });
    let shown = cluster.run_ok(&[
        "cert",
        "show",
        "--json",
        &pki.join("ca.pem").display().to_string(),
    ]);
    let shown: serde_json::Value = serde_json::from_str(&shown.unwrap()).unwrap();
    let right = shown[0]["sha256"].as_str().unwrap().to_owned();
    let wrong = "0".repeat(64);
    let config = newcomer.display().to_string();
    let join = |cluster: &Cluster, token: &str, pin: &str| {
        let address = &cluster.nodes()[0].address;
        let args = [
            "node",
            "join",
            "--config",
            &config,
            "--token",
            token,
            "--peer",
            address,
            "--ca-fingerprint",
            pin,
        ];
        let output = cluster.run(&args).unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (name, ca) = (cluster.nodes()[1].name.clone(), pki.join("ca.pem"));
    let made = |cluster: &Cluster, node: &str, host: &str| {
        let args = [
            "token",
            "create",
            "--json",
            "--node",
            node,
            "--host",
            host,
            "--target",
            &cluster.nodes()[0].address,
            "--ca",
            &ca.display().to_string(),
        ];
        let said: serde_json::Value =
            serde_json::from_str(&cluster.run_ok(&args).unwrap()).unwrap();
        said["token"].as_str().unwrap().to_owned()
    };
    let host = cluster.nodes()[1]
        .address
        .rsplit_once(':')
        .unwrap()
        .0
        .to_owned();
    let any = cluster.token().to_owned();
    let token = made(&cluster, &name, &host);
    // Who may let in anybody is nobody in particular.
    let (code, said) = join(&cluster, &any, &right);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no certificate"), "{said}");
    // Neither another node's name nor another host is to be had.
    for (node, host) in [("gwangju-1", &*host), (&*name, "10.9.9.9")] {
        let other = made(&cluster, node, host);
        let (code, said) = join(&cluster, &other, &right);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("join token"), "{said}");
    }
    // The founder may not sign yet.
    let (code, said) = join(&cluster, &token, &right);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("tls.authority_key"), "{said}");
    assert!(!own.join("node.pem").exists());
    cluster.terminate(0, LIMIT).unwrap();
    let founder = cluster.nodes()[0].config.clone();
    reconfigure(&founder, |tls| {
        let key = pki.join("ca.key").display().to_string();
        tls.insert("authority_key".to_owned(), key.into());
    });
    cluster.start_node(0).unwrap();
    cluster.wait_answer(0, LIMIT).await.unwrap();
    // An authority that is another's hears no token.
    let (code, said) = join(&cluster, &token, &wrong);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("fingerprint"), "{said}");
    let log = std::fs::read_to_string(&cluster.nodes()[0].log).unwrap();
    assert!(!log.contains("joined"), "{log}");
    let (code, said) = join(&cluster, &token, "abc");
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = join(&cluster, "fb-guess", &right);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("token"), "{said}");
    assert!(!own.join("node.pem").exists());
    let begun = Instant::now();
    let (code, said) = loop {
        let joined = join(&cluster, &token, &right);
        // Behind the guess the next one waits for a second.
        if joined.0 == Some(0) || begun.elapsed() > LIMIT {
            break joined;
        }
        sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(code, Some(0), "{said}");
    let whose = cluster.run_ok(&["cert", "show", &own.join("node.pem").display().to_string()]);
    let whose = whose.unwrap();
    assert!(whose.contains(&format!("node/{name}")), "{whose}");
    // Again, as a script would: it is told its number again, and its files stay.
    let before = std::fs::read(own.join("node.pem")).unwrap();
    let (code, said) = join(&cluster, &token, &right);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("had been let into"), "{said}");
    assert_eq!(std::fs::read(own.join("node.pem")).unwrap(), before);
    cluster.join(2).await.unwrap();
    for node in 1..3 {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
}
