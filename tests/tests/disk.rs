//! Disks that are not what they should be are kept out: wiped ones, old copies, another node's,
//! another cluster's, and one that is in use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::path::Path;
use std::process::Command;

use firebreak::cluster::{Cluster, process};
use firebreak_tests::{LIMIT, Load, client, cluster};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(done.success());
}

/// Starts a node that must refuse to run, and gives what it said.
fn refuses(cluster: &mut Cluster, node: usize) -> String {
    std::fs::write(&cluster.nodes()[node].log, "").unwrap();
    cluster.start_node(node).unwrap();
    let status = cluster.wait_end(node, LIMIT).unwrap();
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    process::tail_of(&cluster.nodes()[node].log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_is_not_taken_for_the_node_that_had_the_name() {
    let (_place, mut cluster) = cluster(1).await;
    let client = client(&cluster);
    let load = Load::start(&client, "wiped", 8);
    load.more(200).await;
    cluster.kill(&[2]).unwrap();
    std::fs::remove_dir_all(&cluster.nodes()[2].data_dir).unwrap();
    let said = refuses(&mut cluster, 2);
    assert!(said.contains("`firebreak node join` joins one"), "{said}");

    let config = cluster.nodes()[2].config.display().to_string();
    let (token, peer) = (
        cluster.token().to_owned(),
        cluster.nodes()[0].address.clone(),
    );
    let join = [
        "node", "join", "--config", &config, "--token", &token, "--peer", &peer,
    ];
    let output = cluster.run(&join).unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&cluster.nodes()[2].name), "{said}");

    load.more(200).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_disk_is_refused_by_the_others() {
    let (place, mut cluster) = cluster(1).await;
    let client = client(&cluster);
    let load = Load::start(&client, "copy", 8);
    load.more(100).await;
    cluster.terminate(2, LIMIT).unwrap();
    let data_dir = cluster.nodes()[2].data_dir.clone();
    let (old, new) = (place.path().join("old"), place.path().join("new"));
    copy(&data_dir, &old);
    cluster.start_node(2).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    load.more(200).await;
    cluster.terminate(2, LIMIT).unwrap();
    std::fs::rename(&data_dir, &new).unwrap();
    copy(&old, &data_dir);
    let said = refuses(&mut cluster, 2);
    assert!(said.contains("old copy"), "{said}");

    // The disk that belongs there is let in again.
    std::fs::remove_dir_all(&data_dir).unwrap();
    std::fs::rename(&new, &data_dir).unwrap();
    cluster.start_node(2).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();
    ledger.assert_kept(&client).await;
    cluster.wait_replicated(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_serves_one_node_of_one_cluster_at_a_time() {
    let (_place, mut cluster) = cluster(1).await;
    // A second process on the same directory, on another port.
    let config = std::fs::read_to_string(&cluster.nodes()[0].config).unwrap();
    let second = cluster.plan().dir.join("second.toml");
    let (_, port) = cluster.nodes()[0].address.rsplit_once(':').unwrap();
    std::fs::write(&second, config.replace(&format!(":{port}\""), ":19999\"")).unwrap();
    let second = second.display().to_string();
    let output = cluster.run(&["serve", "--config", &second]).unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let directory = cluster.nodes()[0].data_dir.display().to_string();
    assert!(
        said.contains(&directory) || said.contains("in use"),
        "{said}"
    );

    // Another node's directory under this node's configuration.
    cluster.terminate(1, LIMIT).unwrap();
    cluster.terminate(2, LIMIT).unwrap();
    let (one, two) = (
        cluster.nodes()[1].data_dir.clone(),
        cluster.nodes()[2].data_dir.clone(),
    );
    let aside = cluster.plan().dir.join("aside");
    std::fs::rename(&one, &aside).unwrap();
    copy(&two, &one);
    let said = refuses(&mut cluster, 1);
    assert!(said.contains(&cluster.nodes()[2].name), "{said}");

    // Founding again over a cluster's data.
    let config = cluster.nodes()[2].config.display().to_string();
    let output = cluster
        .run(&["init", "--config", &config, "--nodes", "3"])
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("already"), "{said}");

    std::fs::remove_dir_all(&one).unwrap();
    std::fs::rename(&aside, &one).unwrap();
    for node in [1, 2] {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
}
