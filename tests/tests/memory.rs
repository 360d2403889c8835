//! A node keeps to its memory, however many shards it has and however often they are used.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::collections::BTreeMap;

use client::{AppendStream, Message, StreamOptions};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{Place, binary, client};
use model::id::ConversationName;

const MIB: u64 = 1024 * 1024;
/// What a process has beside its budget, bytes: its threads, its program's data, what the allocator
/// keeps of what was given back.
const FIXED_BYTES: u64 = 96 * MIB;
/// By how much memory may differ from one pass to the next, percent: what flushes and compactions
/// happen to hold at the moment.
const FLAT_PERCENT: u64 = 5;

async fn started(nodes: usize, shards: u32, settings: &str) -> (Place, Cluster) {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    plan.places.truncate(nodes);
    plan.replicas = if nodes < 3 { 1 } else { 3 };
    plan.shards = Some(shards);
    plan.settings.push_str(settings);
    let cluster = Cluster::start(plan).await.expect("the cluster comes up");
    (place, cluster)
}

/// The memory that each node has for itself, bytes.
fn resident(cluster: &Cluster) -> Vec<u64> {
    let of = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    };
    cluster.pids().into_iter().map(of).collect()
}

/// A conversation in each shard.
async fn rooms(cluster: &Cluster) -> Vec<String> {
    let statuses = cluster.statuses().await;
    let mut missing: BTreeMap<u32, u32> = { statuses[0].shards.iter() }
        .filter(|shard| shard.shard != 0)
        .map(|shard| (shard.slot_last, shard.slot_first))
        .collect();
    let mut rooms = Vec::new();
    for n in 0.. {
        if missing.is_empty() {
            break;
        }
        let name = format!("tenants/test/conversations/room-{n}");
        let slot = u32::from(ConversationName::parse(&name).unwrap().key().slot().0);
        let shard = missing
            .range(slot..)
            .next()
            .map(|(last, first)| (*last, *first));
        if let Some((last, _)) = shard.filter(|(_, first)| *first <= slot) {
            missing.remove(&last);
            rooms.push(name);
        }
    }
    rooms
}

/// Appends a message to each.
async fn touch(stream: &AppendStream, rooms: &[String], pass: u64) {
    let mut acks = Vec::new();
    for room in rooms {
        let message = Message::text("ann", "as long as what people write").id(format!("p{pass}"));
        acks.push(stream.enqueue(room, message).await);
    }
    for ack in acks {
        ack.await.expect("it is appended");
    }
}

/// Passes over all shards, and what each node had behind each.
async fn passes(cluster: &Cluster, count: u64) -> Vec<Vec<u64>> {
    let rooms = rooms(cluster).await;
    let stream = client(cluster).append_stream(&StreamOptions::default());
    let mut seen = vec![resident(cluster)];
    for pass in 0..count {
        touch(&stream, &rooms, pass).await;
        seen.push(resident(cluster));
        let mib: Vec<u64> = seen[seen.len() - 1].iter().map(|one| one / MIB).collect();
        println!("pass {pass} over {} shards: {mib:?} MiB", rooms.len());
    }
    seen
}

async fn is_bounded_and_flat(nodes: usize, shards: u32, max_mb: u64) {
    let settings = format!("[memory]\nmax_mb = {max_mb}\n");
    let (_place, cluster) = started(nodes, shards, &settings).await;
    let seen = passes(&cluster, 3).await;
    for behind in &seen {
        assert!(
            behind.iter().all(|one| *one <= max_mb * MIB + FIXED_BYTES),
            "{seen:?}"
        );
    }
    for (second, third) in seen[2].iter().zip(&seen[3]) {
        assert!(*third <= second + second * FLAT_PERCENT / 100, "{seen:?}");
    }
    for status in cluster.statuses().await {
        let stats = status.stats.unwrap();
        let of = |name: &str| {
            let found = stats.resources.iter().find(|one| one.name == name);
            found.unwrap_or_else(|| panic!("{stats:?}")).clone()
        };
        let (memory, open) = (of("memory"), of("open shards"));
        println!("accounted {memory:?}\n{open:?}");
        for cache in ["heads and ids", "log entries", "commands"] {
            let cache = of(cache);
            assert!(cache.used <= cache.max, "{cache:?}");
        }
        // Counted as the dearest, replicated ones, they may be too many for the caches' good.
        assert_eq!(memory.wanted > 0, open.used > open.max, "{stats:?}");
        let least = u64::from(shards) * model::limits::OPEN_SHARD_BYTES as u64;
        assert!(open.used >= least, "{open:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_shards_that_are_all_used_stay_within_the_budget() {
    is_bounded_and_flat(1, 5_000, 512).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_too_small_for_its_shards_is_told() {
    let settings = "[memory]\nmax_mb = 128\n";
    let (_place, cluster) = started(1, 3_000, settings).await;
    let status = cluster.statuses().await.remove(0);
    let resources = status.stats.unwrap().resources;
    let memory = resources.iter().find(|one| one.name == "memory").unwrap();
    assert!(memory.wanted > memory.max, "{memory:?}");
    let log = std::fs::read_to_string(&cluster.nodes()[0].log).unwrap();
    assert!(log.contains("memory.max_mb is too small"), "{log}");
}

/// Replicated: each node leads a third of the shards and follows in the others.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "15,000 replicas in three processes take minutes on two cores"]
async fn five_thousand_replicated_shards_stay_within_the_budget() {
    is_bounded_and_flat(3, 5_000, 512).await;
}

/// What an open replica costs, for [`model::limits::OPEN_SHARD_BYTES`].
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures only"]
async fn open_shards_cost() {
    for nodes in [1, 3] {
        let mut means = Vec::new();
        for shards in [50, 1_050] {
            let (_place, cluster) = started(nodes, shards, "").await;
            let seen = passes(&cluster, 2).await;
            means.push(
                seen.iter()
                    .map(|of| of.iter().sum::<u64>() / of.len() as u64)
                    .collect(),
            );
        }
        let [few, many] = <[Vec<u64>; 2]>::try_from(means).unwrap();
        for (pass, (few, many)) in few.iter().zip(&many).enumerate() {
            let kib = many.saturating_sub(*few) / 1_000 / 1024;
            println!("{nodes} nodes, behind pass {pass}: {kib} KiB a shard");
        }
    }
}
