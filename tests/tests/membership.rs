//! Who is in a cluster, and who is not any more: what a node, its operator and its service manager are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::path::Path;
use std::process::Output;

use firebreak::cluster::{Cluster, process};
use firebreak_tests::{LIMIT, Load, client, cluster};

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// Runs a command that must end with this code and say this.
#[track_caller]
fn ends(cluster: &Cluster, args: &[&str], code: i32, says: &str) -> String {
    let output = cluster.run(args).unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(says), "{args:?}: {said}");
    said
}

fn config_of(cluster: &Cluster, node: usize) -> String {
    cluster.nodes()[node].config.display().to_string()
}

/// Starts a node that must end with this code and say this.
#[track_caller]
fn starts_in_vain(cluster: &mut Cluster, node: usize, code: i32, says: &str) {
    std::fs::write(&cluster.nodes()[node].log, "").unwrap();
    cluster.start_node(node).unwrap();
    let status = cluster.wait_end(node, LIMIT).unwrap();
    let said = process::tail_of(&cluster.nodes()[node].log);
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_while_it_runs_stops_and_comes_back_as_a_new_one_only() {
    let (_place, mut cluster) = cluster(2).await;
    let gone = 5;
    let (name, target) = (
        cluster.nodes()[gone].name.clone(),
        cluster.nodes()[0].address.clone(),
    );
    let load = Load::start(&client(&cluster), "stay", 8);
    load.more(50).await;
    let said = ends(
        &cluster,
        &["node", "remove", &name, "--target", &target],
        0,
        "is removed",
    );
    let status = cluster.wait_end(gone, LIMIT).unwrap();
    let log = process::tail_of(&cluster.nodes()[gone].log);
    assert_eq!(status.code(), Some(77), "{said}\n{log}");
    assert!(log.contains("was removed from the cluster"), "{log}");
    load.more(50).await;
    let ledger = load.stop().await;
    ledger.assert_no_call_failed();

    // No service manager gets anywhere by starting it again, nor an operator by joining again.
    starts_in_vain(&mut cluster, gone, 77, "was removed from the cluster");
    let config = config_of(&cluster, gone);
    let token = cluster.token().to_owned();
    let join = [
        "node", "join", "--config", &config, "--token", &token, "--peer", &target,
    ];
    ends(&cluster, &join, 2, "was removed");

    // What it was told to do is right, under the same name too.
    std::fs::remove_dir_all(&cluster.nodes()[gone].data_dir).unwrap();
    ends(&cluster, &join, 0, "joined cluster");
    cluster.start_node(gone).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    ledger.assert_kept(&client(&cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_again_says_whether_it_still_holds() {
    let (_place, mut cluster) = cluster(1).await;
    let (_other_place, other) = {
        let place = firebreak_tests::Place::new();
        let mut plan =
            firebreak::cluster::ClusterPlan::three_dcs(place.path(), &firebreak_tests::binary(), 1);
        plan.replicas = 1;
        (place, Cluster::found(plan).await.unwrap())
    };
    cluster.terminate(1, LIMIT).unwrap();
    let config = config_of(&cluster, 1);
    let (token, peer) = (
        cluster.token().to_owned(),
        cluster.nodes()[0].address.clone(),
    );
    let foreign = other.nodes()[0].address.clone();
    let join = |token: &str, peer: &str, more: &[&str]| -> Vec<String> {
        let args = [
            "node", "join", "--config", &config, "--token", token, "--peer", peer,
        ];
        args.iter()
            .chain(more)
            .map(|arg| (*arg).to_owned())
            .collect()
    };
    let check = |args: Vec<String>, code: i32, says: &str| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        ends(&cluster, &args, code, says)
    };
    check(join(&token, &peer, &[]), 0, "had been let into");
    check(join("fb-guess", &peer, &[]), 2, "token");
    check(join(other.token(), &foreign, &[]), 2, "cluster");
    check(join(&token, "127.0.0.1:1", &[]), 1, "nothing was checked");
    check(
        join("fb-guess", "127.0.0.1:1", &["--if-needed"]),
        0,
        "had been let into",
    );
    let said = check(join(&token, &peer, &["--json"]), 0, "{");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["before"], true, "{said}");
    assert_eq!(said["name"], cluster.nodes()[1].name.as_str(), "{said}");
    cluster.start_node(1).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_data_directory_stops() {
    let (_place, mut cluster) = cluster(1).await;
    std::fs::remove_dir_all(&cluster.nodes()[0].data_dir).ok();
    let status = cluster.wait_end(0, LIMIT).unwrap();
    let said = process::tail_of(&cluster.nodes()[0].log);
    assert_eq!(status.code(), Some(70), "{said}");
    assert!(
        said.contains("was removed or replaced while the node ran"),
        "{said}"
    );
}

fn rewrite(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(config, text.replace(from, to)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_changes_its_data_center_by_an_operators_word_alone() {
    let (_place, mut cluster) = cluster(1).await;
    let target = cluster.nodes()[0].address.clone();
    let (name, config) = (
        cluster.nodes()[2].name.clone(),
        cluster.nodes()[2].config.clone(),
    );
    let (region, dc) = (
        cluster.nodes()[2].region.clone(),
        cluster.nodes()[2].dc.clone(),
    );
    cluster.terminate(2, LIMIT).unwrap();
    rewrite(&config, &format!("dc = \"{dc}\""), "dc = \"osaka\"");
    starts_in_vain(
        &mut cluster,
        2,
        2,
        &format!("node relocate {name} --region {region} --dc osaka"),
    );
    let relocate = |dc: &str| {
        let args = [
            "node", "relocate", &name, "--region", &region, "--dc", dc, "--target", &target,
        ];
        args.map(str::to_owned)
    };
    let run = |cluster: &Cluster, args: [String; 9], code, says: &str| {
        let args = args.each_ref().map(String::as_str);
        ends(cluster, &args, code, says)
    };
    run(&cluster, relocate("osaka"), 0, "dc=osaka");
    cluster.start_node(2).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    known(&mut cluster, &name, |node| node.dc == "osaka").await;
    // A rack is of no matter to anybody: it comes with the node.
    cluster.terminate(2, LIMIT).unwrap();
    rewrite(&config, "rack = \"r1\"", "rack = \"r9\"");
    cluster.start_node(2).unwrap();
    known(&mut cluster, &name, |node| node.rack == "r9").await;
}

/// Waits until every running node knows this of a node.
async fn known(cluster: &mut Cluster, name: &str, what: impl Fn(&proto::v1::NodeStatus) -> bool) {
    let seen = cluster.wait_for(LIMIT, "a change to be known", |statuses| {
        let knows = |status: &proto::v1::GetStatusResponse| {
            let mut nodes = status.nodes.iter();
            nodes.any(|node| node.name == name && what(node))
        };
        match statuses.iter().find(|status| !knows(status)) {
            None => Ok(()),
            Some(status) => Err(format!("{} does not know it", status.node_name)),
        }
    });
    seen.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_revoked_and_expire_and_no_disk_keeps_their_text() {
    let place = firebreak_tests::Place::new();
    let plan =
        firebreak::cluster::ClusterPlan::three_dcs(place.path(), &firebreak_tests::binary(), 1);
    let mut cluster = Cluster::found(plan).await.unwrap();
    let target = cluster.nodes()[0].address.clone();
    let shown = |args: &[&str]| {
        let args = [args, &["--json", "--target", &target]].concat();
        let said = cluster.run_ok(&args).unwrap();
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    let text_of = |value: &serde_json::Value| value["token"].as_str().unwrap().to_owned();
    let join = |token: &str| -> Output {
        let config = config_of(&cluster, 1);
        let args = [
            "node", "join", "--config", &config, "--token", token, "--peer", &target,
        ];
        cluster.run(&args).unwrap()
    };
    let refused = async |token: &str, why: &str| {
        // A guess a second is compared.
        let begun = tokio::time::Instant::now();
        loop {
            let said = join(token);
            if said.status.code() == Some(2) && text(&said).contains(why) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{}", text(&said));
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    let first = cluster.token().to_owned();
    let show = ["token", "show", "--target", &target];
    ends(&cluster, &show, 1, "only hashes");
    let second = shown(&["token", "create", "--label", "rack 7", "--valid", "never"]);
    let short = shown(&["token", "create", "--valid", "1ms"]);
    refused(&text_of(&short), "expired").await;
    let listed = shown(&["token", "list"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(listed[1]["label"], "rack 7", "{listed:?}");
    assert_eq!(listed[1]["id"], second["id"], "{listed:?}");
    assert_eq!(listed[2]["expired"], true, "{listed:?}");
    let first_id = listed[0]["id"].as_str().unwrap();
    let unknown = ["token", "revoke", "00000000", "--target", &target];
    ends(&cluster, &unknown, 1, "no token 00000000");
    shown(&["token", "revoke", first_id]);
    refused(&first, "not this cluster's").await;
    let third = shown(&["token", "rotate"]);
    refused(&text_of(&second), "not this cluster's").await;
    let joined = join(&text_of(&third));
    assert_eq!(joined.status.code(), Some(0), "{}", text(&joined));
    assert_eq!(shown(&["token", "list"]).as_array().unwrap().len(), 1);
    let texts = [first, text_of(&second), text_of(&third)];
    cluster.terminate(0, LIMIT).unwrap();
    let mut looked_at = 0;
    let mut folders = vec![cluster.nodes()[0].data_dir.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                looked_at += bytes.len();
                for text in &texts {
                    let found = memchr::memmem::find(&bytes, text.as_bytes());
                    assert!(found.is_none(), "{} has {text}", path.display());
                }
            }
        }
    }
    assert!(looked_at > 10_000, "{looked_at} bytes were looked at");
}

#[test]
fn a_relative_data_directory_is_beside_the_configuration_and_shown_whole() {
    let place = firebreak_tests::Place::new();
    let folder = place.path().join("etc");
    std::fs::create_dir(&folder).unwrap();
    let config = folder.join("node.toml");
    let text = "name = \"n\"\nlisten = \"127.0.0.1:7999\"\ndata_dir = \"data\"\n[locality]\nregion = \"r\"\ndc = \"d\"\n";
    std::fs::write(&config, text).unwrap();
    let output = std::process::Command::new(firebreak_tests::binary())
        .args([
            "init",
            "--json",
            "--nodes",
            "1",
            "--replicas",
            "1",
            "--config",
            "etc/node.toml",
        ])
        .current_dir(place.path())
        .output()
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let data = folder.join("data");
    assert_eq!(said["data_dir"], data.display().to_string(), "{said}");
    assert!(data.join("FORMAT").is_file());
    assert!(!place.path().join("data").exists());
}
