//! The fire: which data center burns, and how long the rest takes to go on and to heal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Client, ListOptions};
use firebreak::cluster::Cluster;
use firebreak::cluster::view::{self, LeaderHistory};
use model::id::ConversationName;
use proto::v1::GetStatusResponse;

use super::import::Run;
use super::proof::only;

/// Between two looks at the nodes.
const NODES_CHECK_EVERY: Duration = Duration::from_millis(25);
/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(90);

/// The data center whose nodes lead most shards now, and its nodes' positions. The meta shard
/// counts too, so that among equals the one burns that hurts most.
///
/// # Errors
/// When no shard is led.
pub async fn choose(cluster: &Cluster) -> anyhow::Result<(String, Vec<usize>)> {
    let statuses = cluster.statuses().await;
    let dc_of: BTreeMap<u64, &str> = statuses
        .iter()
        .filter_map(|s| {
            let node = cluster.nodes().iter().find(|n| n.name == s.node_name)?;
            Some((s.node_id, node.dc.as_str()))
        })
        .collect();
    let dc = busiest(&view::leaders(&statuses), &dc_of).context("no shard is led")?;
    Ok((dc.to_owned(), cluster.in_dc(dc)))
}

fn busiest<'a>(leaders: &BTreeMap<u32, u64>, dc_of: &BTreeMap<u64, &'a str>) -> Option<&'a str> {
    let mut led: BTreeMap<&str, usize> = BTreeMap::new();
    for node in leaders.values() {
        if let Some(dc) = dc_of.get(node) {
            *led.entry(dc).or_default() += 1;
        }
    }
    let most = led.values().copied().max()?;
    led.into_iter().find(|(_, n)| *n == most).map(|(dc, _)| dc)
}

/// Watches the survivors until every shard is led by one of them. `None`: never.
///
/// # Errors
/// When a survivor dies.
pub async fn until_led(
    cluster: &mut Cluster,
    since: Instant,
    history: &mut LeaderHistory,
) -> anyhow::Result<Option<Duration>> {
    loop {
        cluster.check()?;
        let statuses = cluster.statuses().await;
        history.note(&statuses);
        if view::all_led(&statuses).is_ok() {
            return Ok(Some(since.elapsed()));
        }
        if since.elapsed() > NEVER {
            return Ok(None);
        }
        tokio::time::sleep(NODES_CHECK_EVERY).await;
    }
}

/// Watches all nodes until every replica has applied what its leader had committed one look
/// before, while the import may go on. `None`: never.
///
/// # Errors
/// When a node dies.
pub async fn until_caught_up(
    cluster: &mut Cluster,
    since: Instant,
    history: &mut LeaderHistory,
) -> anyhow::Result<Option<Duration>> {
    let mut goal: BTreeMap<u32, u64> = BTreeMap::new();
    loop {
        cluster.check()?;
        let statuses = cluster.statuses().await;
        history.note(&statuses);
        if caught_up(&statuses, &goal) {
            return Ok(Some(since.elapsed()));
        }
        if since.elapsed() > NEVER {
            return Ok(None);
        }
        goal = committed(&statuses);
        tokio::time::sleep(NODES_CHECK_EVERY).await;
    }
}

fn committed(statuses: &[GetStatusResponse]) -> BTreeMap<u32, u64> {
    let mut highest = BTreeMap::new();
    for replica in statuses.iter().flat_map(|s| &s.replicas) {
        let known = highest.entry(replica.shard).or_insert(0);
        *known = replica
            .committed_index
            .max(replica.applied_index)
            .max(*known);
    }
    highest
}

fn caught_up(statuses: &[GetStatusResponse], goal: &BTreeMap<u32, u64>) -> bool {
    let shards = view::shard_replicas(statuses);
    let applied = |shard: u32, node: u64| {
        let status = statuses.iter().find(|s| s.node_id == node)?;
        status
            .replicas
            .iter()
            .find(|r| r.shard == shard)
            .map(|r| r.applied_index)
    };
    !shards.is_empty()
        && shards.iter().all(|(shard, replicas)| {
            goal.get(shard).is_some_and(|goal| {
                replicas
                    .iter()
                    .all(|&node| applied(*shard, node).is_some_and(|a| a >= *goal))
            })
        })
}

/// Reads one conversation of every data shard at LINEARIZABLE through one of the returned nodes:
/// a shard serves when that is answered. Gives how long after `since` the last one was. `None`:
/// one was not within `limit`.
///
/// # Errors
/// When the nodes cannot be asked.
pub async fn until_served(
    cluster: &Cluster,
    run: &Arc<Run>,
    through: &[usize],
    since: Instant,
    limit: Duration,
) -> anyhow::Result<Option<Duration>> {
    let statuses = cluster.statuses().await;
    let newest = statuses
        .iter()
        .max_by_key(|s| s.map_epoch)
        .context("no node answers")?;
    let left = limit.saturating_sub(since.elapsed());
    let probes = newest
        .shards
        .iter()
        .filter(|s| s.shard != 0)
        .filter_map(|shard| {
            let holds = |name: &ConversationName| {
                let slot = u32::from(name.key().slot().0);
                (shard.slot_first..=shard.slot_last).contains(&slot)
            };
            // A shard that none of the conversations is in has nothing to serve here.
            let chat = run.script.chats.iter().find(|chat| holds(&chat.name))?;
            let node = through[shard.shard as usize % through.len()];
            Some((only(&cluster.nodes()[node], left), chat.name.as_str()))
        });
    let mut calls = Vec::new();
    for (client, name) in probes {
        calls.push(probe(client?, name));
    }
    let served = futures::future::join_all(calls).await;
    Ok(served.into_iter().all(|ok| ok).then(|| since.elapsed()))
}

async fn probe(client: Client, name: &str) -> bool {
    match client
        .list(
            name,
            &ListOptions {
                page_size: 1,
                ..ListOptions::default()
            },
        )
        .await
    {
        Ok(_) => true,
        Err(e) => e.is_not_found(),
    }
}

/// The names of some nodes, for people.
pub fn names(cluster: &Cluster, which: &[usize]) -> String {
    let names: Vec<&str> = which
        .iter()
        .map(|&i| cluster.nodes()[i].name.as_str())
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proto::v1::{ReplicaStatus, ShardStatus};

    use super::*;

    #[test]
    fn the_data_center_that_leads_most_shards_burns() {
        let dc_of = BTreeMap::from([(1, "seoul"), (2, "busan"), (3, "busan")]);
        let check = |leaders: &[(u32, u64)], expect: Option<&str>| {
            assert_eq!(busiest(&leaders.iter().copied().collect(), &dc_of), expect);
        };
        check(&[(1, 1), (2, 2), (3, 3)], Some("busan"));
        check(&[(1, 1), (2, 1), (3, 3)], Some("seoul"));
        // The meta shard decides between equals.
        check(&[(0, 1), (1, 1), (2, 2)], Some("seoul"));
        check(&[], None);
    }

    fn node(id: u64, applied: u64, committed: u64) -> GetStatusResponse {
        GetStatusResponse {
            node_id: id,
            map_epoch: 1,
            shards: vec![ShardStatus {
                shard: 1,
                replicas: vec![1, 2],
                ..Default::default()
            }],
            replicas: vec![ReplicaStatus {
                shard: 1,
                applied_index: applied,
                committed_index: committed,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn caught_up_means_every_replica_has_applied_what_was_committed_before() {
        let before = committed(&[node(1, 5, 9), node(2, 4, 7)]);
        assert_eq!(before, BTreeMap::from([(1, 9)]));
        assert!(caught_up(&[node(1, 12, 14), node(2, 9, 12)], &before));
        assert!(!caught_up(&[node(1, 12, 14), node(2, 8, 12)], &before));
        assert!(!caught_up(&[node(1, 12, 14)], &before));
        assert!(!caught_up(&[], &before));
        assert!(!caught_up(
            &[node(1, 1, 1), node(2, 1, 1)],
            &BTreeMap::new()
        ));
    }
}
