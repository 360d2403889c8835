//! A node is its disk, and its address is news: whoever comes back elsewhere is found, and who answers at
//! an address is asked before it is believed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Load, client, cluster};

/// Waits until every running node lists node `i` at its address, and has heard it there.
async fn listed(cluster: &mut Cluster, i: usize) {
    let (name, address) = {
        let node = &cluster.nodes()[i];
        (node.name.clone(), node.address.clone())
    };
    let seen = cluster.wait_for(LIMIT, "the new address to be known", |statuses| {
        for status in statuses {
            let node = status.nodes.iter().find(|node| node.name == name);
            let node = node.ok_or_else(|| format!("{} lists no {name}", status.node_name))?;
            if node.address != address || !node.reachable {
                return Err(format!(
                    "{} has {name} at {}, reachable: {}",
                    status.node_name, node.address, node.reachable
                ));
            }
        }
        Ok(())
    });
    seen.await.unwrap();
}

fn text(output: &std::process::Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_at_another_address_is_found_there_and_counts_for_quorums() {
    let (_place, mut cluster) = cluster(1).await;
    let load = Load::start(&client(&cluster), "moved", 8);
    load.more(100).await;
    cluster.terminate(1, LIMIT).unwrap();
    cluster.readdress(&[1], 0).unwrap();
    cluster.start_node(1).unwrap();
    listed(&mut cluster, 1).await;
    // Without it there is no majority now.
    cluster.kill(&[2]).unwrap();
    let ledger = load.stop().await;
    let after = Load::start(&client(&cluster), "after", 8);
    after.more(100).await;
    let after = after.stop().await;
    after.assert_no_call_failed();
    ledger.assert_kept(&client(&cluster)).await;
    after.assert_kept(&client(&cluster)).await;
    // It is known for good: also to one that was away meanwhile.
    cluster.start_node(2).unwrap();
    listed(&mut cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_have_all_moved_find_each_other_by_one_that_they_are_told_of() {
    let (_place, mut cluster) = cluster(1).await;
    let load = Load::start(&client(&cluster), "all", 8);
    load.more(100).await;
    let ledger = load.stop().await;
    cluster.kill(&[0, 1, 2]).unwrap();
    cluster.readdress(&[0, 1, 2], 0).unwrap();
    for node in [2, 1, 0] {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
    for node in 0..3 {
        listed(&mut cluster, node).await;
    }
    ledger.assert_kept(&client(&cluster)).await;
    // And once more, without anybody who is told of anybody that is left where it was.
    cluster.kill(&[0, 1, 2]).unwrap();
    for node in [0, 1, 2] {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
    ledger.assert_kept(&client(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_each_others_addresses_are_told_apart() {
    let (_place, mut cluster) = cluster(1).await;
    let load = Load::start(&client(&cluster), "swapped", 8);
    load.more(100).await;
    let ledger = load.stop().await;
    cluster.kill(&[1, 2]).unwrap();
    cluster.swap_addresses(1, 2).unwrap();
    cluster.start_node(1).unwrap();
    cluster.start_node(2).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    listed(&mut cluster, 1).await;
    listed(&mut cluster, 2).await;
    let after = Load::start(&client(&cluster), "after", 8);
    after.more(100).await;
    after.stop().await.assert_no_call_failed();
    ledger.assert_kept(&client(&cluster)).await;
    let target = cluster.addresses().join(",");
    let status = cluster.run(&["status", "--target", &target]).unwrap();
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_not_taken_for_the_new_one_that_has_its_address() {
    let (_place, mut cluster) = cluster(1).await;
    cluster.kill(&[2]).unwrap();
    let lost = &cluster.nodes()[2];
    let config = std::fs::read_to_string(&lost.config).unwrap();
    let (name, address) = (lost.name.clone(), lost.address.clone());
    let new = cluster.plan().dir.join("new.toml");
    let config = config
        .replace(&format!("name = \"{name}\""), "name = \"newcomer\"")
        .replace(
            &lost.data_dir.display().to_string(),
            &cluster.plan().dir.join("newcomer").display().to_string(),
        );
    std::fs::write(&new, config).unwrap();
    let new = new.display().to_string();
    let (token, peer) = (cluster.token(), &cluster.nodes()[0].address);
    cluster
        .run_ok(&[
            "node", "join", "--config", &new, "--token", token, "--peer", peer,
        ])
        .unwrap();
    let mut serving = std::process::Command::new(firebreak_tests::binary())
        .args(["serve", "--config", &new])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let seen = cluster.wait_for(LIMIT, "the newcomer to be reached", |statuses| {
        let reached = |status: &proto::v1::GetStatusResponse| {
            let mut nodes = status.nodes.iter();
            nodes.any(|node| node.name == "newcomer" && node.reachable)
        };
        match statuses.iter().all(reached) {
            true => Ok(()),
            false => Err("it is not".to_owned()),
        }
    });
    let seen = seen.await;
    let target = cluster.nodes()[0].address.clone();
    let status = cluster
        .run(&["status", "--json", "--target", &target])
        .unwrap();
    serving.kill().unwrap();
    serving.wait().unwrap();
    seen.unwrap();
    let said: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let nodes = said["nodes"].as_array().unwrap();
    let of = |name: &str| nodes.iter().find(|node| node["name"] == name).unwrap();
    assert_eq!(of("newcomer")["reachable"], true, "{said}");
    assert_eq!(of(&name)["reachable"], false, "{said}");
    let problem = of(&name)["problem"].as_str().unwrap();
    assert!(
        problem.contains(&format!("newcomer (n4) answers at {address}")),
        "{problem}"
    );
}
