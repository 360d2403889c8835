//! What an operator sees of real nodes over plain HTTP: health, metrics, the console and its JSON, from
//! whole clusters and from what is left of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Load, Place, binary, client, cluster};
use serde_json::Value;
use server::sight::metrics::{METRICS, budget, series};

/// How long any page and verb may take, whatever has burned.
const ANSWER: Duration = Duration::from_secs(5);
/// What one node may give a scraper, with few peers and tenants.
const SERIES_MAX: usize = 900;

struct Answer {
    status: u16,
    head: String,
    body: String,
    took: Duration,
}

/// One request over HTTP/1.1, as browsers and scrapers make it.
fn get(address: &str, path: &str, headers: &str) -> Answer {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    if head.contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Answer {
        status,
        head,
        body,
        took: began.elapsed(),
    }
}

/// A change that a page asks for, as a browser sends it from `origin`.
fn post(address: &str, path: &str, origin: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\norigin: {origin}\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        whole.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
    whole
}

fn json(address: &str, path: &str) -> Value {
    let answer = get(address, path, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{path}: {}", answer.body))
}

/// Waits until a page of a node says what it should.
fn wait_for(address: &str, path: &str, status: u16, says: &str) -> String {
    let until = Instant::now() + LIMIT;
    loop {
        let answer = get(address, path, "");
        if answer.status == status && answer.body.contains(says) {
            return answer.body;
        }
        let (found, body) = (answer.status, answer.body);
        assert!(
            Instant::now() < until,
            "{path} says {found} {body:?}, not {status} {says:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All pages of the API, with what each must have.
const PAGES: [(&str, &str); 8] = [
    ("/api/now", "figures"),
    ("/api/timeline", "lanes"),
    ("/api/shards", "shards"),
    ("/api/whatif?dc=seoul", "sentence"),
    ("/api/jobs", "jobs"),
    ("/api/drills", "history"),
    ("/api/promises", "promises"),
    ("/api/settings", "values"),
];

fn every_page_answers(address: &str, answered: usize) {
    for (path, key) in PAGES {
        let began = Instant::now();
        let page = json(address, path);
        assert!(
            began.elapsed() < ANSWER,
            "{path} took {:?}",
            began.elapsed()
        );
        assert!(!page[key].is_null(), "{path} has no {key}: {page}");
        let seen_by = &page["seen_by"];
        assert_eq!(seen_by["answered"], answered, "{path}: {seen_by}");
        assert!(
            seen_by["age_ms"].as_u64().unwrap() < 5_000,
            "{path}: {seen_by}"
        );
    }
    assert_eq!(get(address, "/livez", "").status, 200);
}

fn verbs_answer(cluster: &Cluster, node: usize, code: i32) {
    let address = &cluster.nodes()[node].address;
    for verb in [&["status"][..], &["node", "list"], &["shard", "list"]] {
        let began = Instant::now();
        let output = cluster
            .run(&[verb, &["--target", address]].concat())
            .unwrap();
        assert!(
            began.elapsed() < ANSWER,
            "{verb:?} took {:?}",
            began.elapsed()
        );
        if verb == ["status"] {
            assert_eq!(output.status.code(), Some(code), "{output:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_safety_lever_is_pulled_and_released_from_a_page_of_a_node_and_no_other() {
    let (_place, cluster) = cluster(1).await;
    let address = cluster.nodes()[0].address.clone();
    let lever = "/api/drills/lever";
    let pull = r#"{"pull": true, "who": "kim", "why": "smoke"}"#;
    let own = format!("http://{address}");
    let (status, text) = post(&address, lever, "http://127.0.0.1:1", pull);
    assert_eq!(status, 403, "{text}");
    let (status, text) = post(&address, lever, &own, "pull");
    assert_eq!(status, 400, "{text}");
    assert_eq!(json(&address, "/api/now")["lever"], Value::Null);
    let (status, text) = post(&address, lever, &own, pull);
    assert_eq!(status, 200, "{text}");
    // Another node's page does it at this one, too, and every node knows.
    let other = cluster.nodes()[1].address.clone();
    wait_for(&other, "/api/now", 200, "\"lever\":\"kim\"");
    let output = cluster
        .run(&["drill", "status", "--target", &other])
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let release = r#"{"pull": false, "who": "lee"}"#;
    let (status, text) = post(&address, lever, &format!("http://{other}"), release);
    assert_eq!(status, 200, "{text}");
    wait_for(&other, "/api/now", 200, "\"lever\":null");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_is_seen_from_each_node() {
    let (_place, cluster) = cluster(1).await;
    let client = client(&cluster);
    let load = Load::start(&client, "sight", 4);
    load.more(200).await;
    for node in cluster.nodes() {
        let address = node.address.as_str();
        wait_for(address, "/healthz", 200, "a client can append here");
        assert_eq!(get(address, "/readyz", "").status, 200);
        every_page_answers(address, 3);
        let now = json(address, "/api/now");
        assert_eq!(now["verdict"], "whole", "{now}");
        assert_eq!(now["seen_by"]["node"], node.name.as_str());
        assert_eq!(now["dcs"].as_array().unwrap().len(), 3, "{now}");
        assert!(now["dcs"][0]["lose"]["served"].as_bool().unwrap(), "{now}");
        assert_eq!(
            now["links"].as_array().unwrap().len(),
            6,
            "each feels two others: {now}"
        );
    }
    let address = cluster.nodes()[0].address.as_str();
    let asked = json(address, "/api/now")["figures"]["acks_per_s"]
        .as_f64()
        .unwrap();
    assert!(asked > 0.0, "a load is running");
    metrics_are_those_of_the_table(address);
    wrong_requests_are_told(address);
    pages_come_from_the_binary(address);
    load.stop().await;
}

fn metrics_are_those_of_the_table(address: &str) {
    let scraped = get(address, "/metrics", "");
    assert_eq!(scraped.status, 200);
    assert!(
        scraped.head.contains("application/openmetrics-text"),
        "{}",
        scraped.head
    );
    let named = scraped
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    let kept: BTreeSet<String> = METRICS
        .iter()
        .map(|metric| {
            let name = metric.full_name();
            let name = name.strip_suffix("_total").unwrap_or(&name).to_owned();
            format!("{name} {}", metric.kind.name())
        })
        .collect();
    assert_eq!(named, kept);
    let count = series(&scraped.body);
    assert!(count < SERIES_MAX, "{count} series");
    assert!(count <= budget(3), "{count} series of {}", budget(3));
    assert!(
        scraped.body.contains("firebreak_healthy 1"),
        "{}",
        scraped.body
    );
    assert!(
        !scraped.body.contains("shard=\""),
        "no series is of a shard"
    );
    let shards = get(address, "/metrics/shards?worst=2", "");
    assert_eq!(
        shards.body.matches("firebreak_shard_term{").count(),
        2,
        "{}",
        shards.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_shards_add_no_series_and_status_tells_the_budget() {
    let place = Place::new();
    let mut counts = Vec::new();
    for shards in [1, 10_000] {
        let folder = place.path().join(shards.to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut plan = ClusterPlan::three_dcs(&folder, &binary(), 1);
        plan.places.truncate(1);
        (plan.shards, plan.replicas) = (Some(shards), 1);
        plan.settings.push_str("\n[memory]\nmax_mb = 2048\n");
        let cluster = Cluster::start(plan).await.unwrap();
        let address = &cluster.nodes()[0].address;
        let scraped = tokio::task::block_in_place(|| get(address, "/metrics", ""));
        counts.push(series(&scraped.body));
        assert!(
            !scraped.body.contains("shard=\""),
            "no series is of a shard"
        );
        let status = cluster
            .run(&["status", "--json", "--target", address])
            .unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(
            status["shards"].as_array().unwrap().len(),
            shards as usize + 1
        );
        let resources = status["nodes"][0]["resources"].as_array().unwrap();
        let told = resources.iter().find(|one| one["name"] == "metric series");
        let (used, max) = (&told.unwrap()["used"], &told.unwrap()["max"]);
        assert_eq!(max.as_u64().unwrap(), budget(1) as u64);
        assert!(
            used.as_u64().unwrap() <= max.as_u64().unwrap(),
            "{used} of {max}"
        );
    }
    // What has not happened on one may have on the other: a reason, an election's cause.
    assert!(counts[1] <= counts[0] + 100, "{counts:?}");
    assert!(counts.iter().all(|count| *count <= budget(1)), "{counts:?}");
}

fn wrong_requests_are_told(address: &str) {
    for (path, status, says) in [
        ("/nowhere", 404, "the console is at /"),
        ("/api/nowhere", 404, "unknown_page"),
        ("/api/timeline?from_ms=9&to_ms=5", 400, "must be earlier"),
        ("/api/timeline?from_ms=soon", 400, "no Unix time"),
        ("/api/whatif?dc=mars", 400, "there is no data center"),
        ("/api/whatif?planet=mars", 400, "is not known"),
        ("/metrics/shards?worst=0", 400, "1 to 1000"),
        ("/metrics/shards?worst=many", 400, "1 to 1000"),
        ("/firebreak.v1.Admin/GetStatus", 405, ""),
    ] {
        let answer = get(address, path, "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(says), "{path}: {}", answer.body);
    }
}

fn pages_come_from_the_binary(address: &str) {
    let page = get(address, "/", "");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("<!doctype html>") || page.body.contains("<!DOCTYPE html>"));
    for must in [
        "content-security-policy: default-src 'self'",
        "etag: ",
        "nosniff",
    ] {
        assert!(page.head.contains(must), "{must}: {}", page.head);
    }
    // A page of another node of the cluster may ask; a stranger's may not.
    let allowed = |origin: &str| {
        let header = format!("origin: {origin}\r\n");
        let answer = get(address, "/api/jobs", &header);
        answer
            .head
            .contains(&format!("access-control-allow-origin: {origin}"))
    };
    let host = address.rsplit_once(':').unwrap().0;
    assert!(allowed(&format!("http://{host}:1")));
    assert!(!allowed("http://example.org:80"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_and_verb_answers_from_what_is_left() {
    let (_place, mut cluster) = cluster(1).await;
    let address = cluster.nodes()[0].address.clone();
    wait_for(&address, "/healthz", 200, "");
    cluster.kill(&[1]).unwrap();
    wait_for(&address, "/api/now", 200, "\"verdict\":\"degraded\"");
    every_page_answers(&address, 2);
    verbs_answer(&cluster, 0, 3);
    // What it leads alone is led on: clients can append.
    wait_for(&address, "/healthz", 200, "");
    cluster.kill(&[2]).unwrap();
    let why = wait_for(&address, "/healthz", 503, "cannot append here");
    assert!(why.contains("quorum") || why.contains("NO_QUORUM"), "{why}");
    wait_for(&address, "/api/now", 200, "\"verdict\":\"not-serving\"");
    every_page_answers(&address, 1);
    verbs_answer(&cluster, 0, 1);
    let now = json(&address, "/api/now");
    let dead = now["nodes"].as_array().unwrap();
    let dead = dead.iter().filter(|node| node["reachable"] == false);
    assert_eq!(dead.count(), 2, "the dead stay on the page: {now}");
    assert!(get(&address, "/livez", "").took < ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_says_so_and_lives() {
    let (_place, cluster) = cluster(1).await;
    let node = &cluster.nodes()[0];
    let address = node.address.clone();
    wait_for(&address, "/healthz", 200, "");
    cluster
        .run_ok(&["node", "drain", &node.name, "--target", &address])
        .unwrap();
    wait_for(&address, "/healthz", 503, "drain");
    wait_for(&address, "/readyz", 503, "drains");
    assert_eq!(get(&address, "/livez", "").status, 200);
    let jobs = json(&address, "/api/jobs");
    let drains = jobs["jobs"].as_array().unwrap().iter();
    assert!(drains.clone().any(|job| job["kind"] == "drain"), "{jobs}");
    cluster
        .run_ok(&["node", "undrain", &node.name, "--target", &address])
        .unwrap();
    wait_for(&address, "/healthz", 200, "");
    wait_for(&address, "/readyz", 200, "");
}
