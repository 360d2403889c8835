//! The map as the nodes that answer know it, and the names in it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::v1::{GetStatusResponse, NodeStatus, ShardStatus, UnrestoredReplica};
use client::{Client, NodeReport};
use model::cluster::ClusterState;
use model::placement::{Facts, Leaders};
use server::sight::report::{self, Report, answers};

use super::target::{Target, printable};
use crate::exit::Usage;

/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(1);

/// What the nodes say, and the newest map among it.
pub struct Map {
    /// What each node says of itself.
    pub reports: Vec<Report>,
    newest: GetStatusResponse,
}

impl Map {
    /// Asks every node at once.
    ///
    /// # Errors
    /// When none answers, or the shards are not laid out.
    pub async fn ask(client: &Client, target: &Target) -> anyhow::Result<Map> {
        let reports = client
            .status_all(LIMIT)
            .await
            .with_context(|| format!("no node answers; {}", target.asked()))?;
        Map::of(reports.into_iter().map(told).collect())
    }

    /// Of what the nodes said.
    ///
    /// # Errors
    /// As [`Map::ask`].
    pub fn of(reports: Vec<Report>) -> anyhow::Result<Map> {
        let newest = report::newest(&reports);
        let newest = newest.context("no node answers")?.clone();
        if newest.map_epoch == 0 {
            return Err(anyhow!(
                "the cluster is forming: its shards are not laid out yet"
            ));
        }
        Ok(Map { reports, newest })
    }

    /// The newest map that was told.
    pub fn newest(&self) -> &GetStatusResponse {
        &self.newest
    }

    /// How many replicas a node holds, the meta shard's among them.
    pub fn held(&self, node: u64) -> usize {
        let shards = self.newest.shards.iter();
        shards
            .filter(|shard| shard.replicas.contains(&node))
            .count()
    }

    /// The nodes that do not answer now.
    pub fn gone(&self) -> Vec<u64> {
        let silent = self.reports.iter().filter(|one| one.status.is_err());
        let listed = silent.filter_map(|one| one.listed.as_ref());
        listed.map(|node| node.node_id).collect()
    }

    /// When all replicas of a shard were last compared, Unix milliseconds: of those that tell, the one
    /// that lags most; none when one never was.
    pub fn compared_ms(&self, shard: u32) -> Option<u64> {
        let own = answers(&self.reports).flat_map(|status| &status.replicas);
        let told = own.filter(|replica| replica.shard == shard);
        told.map(|replica| replica.scrubbed_ms)
            .min()
            .filter(|ms| *ms > 0)
    }

    /// A node by its name or its number (`n3`, `3`).
    ///
    /// # Errors
    /// Usage, when there is none.
    pub fn node(&self, text: &str) -> anyhow::Result<&NodeStatus> {
        node_in(&self.newest, text)
    }

    /// A shard by its number; 0 is the meta shard.
    ///
    /// # Errors
    /// Usage, when there is none.
    pub fn shard(&self, shard: u32) -> anyhow::Result<&ShardStatus> {
        let shards = &self.newest.shards;
        let found = shards.iter().find(|one| one.shard == shard);
        found.ok_or_else(|| {
            let last = shards.iter().map(|one| one.shard).max().unwrap_or(0);
            anyhow!(Usage(format!(
                "there is no shard {shard}; there are 1 to {last}, and 0, the meta shard"
            )))
        })
    }

    /// Why what a node holds, of one shard or of all, is not elsewhere yet: by shard, for people.
    pub fn waits(&self, node: u64, shard: Option<u32>) -> Vec<String> {
        let of = |one: &&UnrestoredReplica| {
            one.node_id == node && shard.is_none_or(|shard| one.shard == shard)
        };
        let told = self.newest.unrestored.iter().filter(of);
        told.map(|one| match one.shard {
            0 => format!("the meta shard: {}", printable(&one.why)),
            shard => format!("shard {shard}: {}", printable(&one.why)),
        })
        .collect()
    }

    /// The nodes of a data center.
    ///
    /// # Errors
    /// Usage, when there is no such data center.
    pub fn dc(&self, text: &str) -> anyhow::Result<Vec<u64>> {
        let nodes = &self.newest.nodes;
        let inside = nodes.iter().filter(|node| node.dc == text);
        let inside: Vec<u64> = inside.map(|node| node.node_id).collect();
        if inside.is_empty() {
            let mut dcs: Vec<String> = nodes.iter().map(|node| printable(&node.dc)).collect();
            dcs.sort_unstable();
            dcs.dedup();
            return Err(anyhow!(Usage(format!(
                "there is no data center {text:?}; there are {}",
                dcs.join(", ")
            ))));
        }
        Ok(inside)
    }

    /// Who leads each shard by its own word; see [`report::leaders`].
    pub fn leaders(&self) -> Leaders {
        report::leaders(&self.reports)
    }

    /// The map as the model has it.
    pub fn state(&self) -> ClusterState {
        report::state(&self.newest)
    }

    /// What the nodes that answer say of their disks and their load.
    pub fn facts(&self) -> BTreeMap<u64, Facts> {
        report::facts(&self.reports)
    }

    /// What people call a node.
    pub fn name(&self, node: u64) -> String {
        let known = self.newest.nodes.iter().find(|one| one.node_id == node);
        known.map_or_else(|| format!("n{node}"), |one| printable(&one.name))
    }
}

/// What a node said, as what is common to the server and the command has it.
pub fn told(report: NodeReport) -> Report {
    Report {
        address: report.address,
        listed: report.listed,
        status: report.status.map_err(|error| error.to_string()),
        took: report.took,
    }
}

/// A node by its name, or by its number as `n3`, in a map whose shards may not be laid out yet.
///
/// # Errors
/// Usage, with the names there are.
pub fn node_in<'a>(status: &'a GetStatusResponse, text: &str) -> anyhow::Result<&'a NodeStatus> {
    let nodes = &status.nodes;
    let number = text.strip_prefix('n').unwrap_or(text).parse::<u64>().ok();
    let named = nodes.iter().find(|node| node.name == text);
    let found = named.or_else(|| nodes.iter().find(|node| Some(node.node_id) == number));
    found.ok_or_else(|| {
        let names: Vec<String> = nodes.iter().map(|node| printable(&node.name)).collect();
        anyhow!(Usage(format!(
            "there is no node {text:?}; there are {}",
            names.join(", ")
        )))
    })
}

#[cfg(test)]
mod tests {
    use client::v1::ReplicaStatus;

    use super::*;

    /// Two nodes in seoul and one in busan, and what the third, which leads the meta shard, tells.
    fn map(unrestored: &[(u32, u64, &str)]) -> Map {
        let node = |node_id, dc: &str| NodeStatus {
            node_id,
            name: format!("{dc}-{node_id}"),
            dc: dc.to_owned(),
            ..NodeStatus::default()
        };
        let nodes = vec![node(1, "seoul"), node(2, "seoul"), node(3, "busan")];
        let unrestored: Vec<UnrestoredReplica> = unrestored
            .iter()
            .map(|(shard, node_id, why)| UnrestoredReplica {
                shard: *shard,
                node_id: *node_id,
                why: (*why).to_owned(),
            })
            .collect();
        let report = |at: usize| Report {
            address: String::new(),
            listed: Some(nodes[at].clone()),
            status: Ok(GetStatusResponse {
                node_id: nodes[at].node_id,
                map_epoch: 7,
                nodes: nodes.clone(),
                shards: (0..=4)
                    .map(|shard| ShardStatus {
                        shard,
                        ..ShardStatus::default()
                    })
                    .collect(),
                replicas: vec![ReplicaStatus {
                    state: ["follower", "follower", "leader"][at].to_owned(),
                    ..ReplicaStatus::default()
                }],
                unrestored: if at == 2 {
                    unrestored.clone()
                } else {
                    Vec::new()
                },
                ..GetStatusResponse::default()
            }),
            took: Duration::ZERO,
        };
        // The last is not the one that is asked.
        Map::of(vec![report(2), report(0), report(1)]).unwrap()
    }

    #[test]
    fn a_node_has_three_names_and_what_is_unknown_is_wrong_usage() {
        let map = map(&[]);
        for name in ["busan-3", "n3", "3"] {
            assert_eq!(map.node(name).unwrap().node_id, 3, "{name}");
        }
        assert_eq!(map.dc("seoul").unwrap(), [1, 2]);
        assert_eq!(map.shard(4).unwrap().shard, 4);
        let unknown = [
            map.node("n4").map(drop),
            map.node("").map(drop),
            map.dc("mars").map(drop),
            map.shard(5).map(drop),
        ];
        for unknown in unknown {
            let error = unknown.unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
            assert!(error.to_string().contains("; there are "), "{error}");
        }
    }

    #[test]
    fn what_is_waited_for_is_told_as_the_meta_shards_leader_sees_it() {
        let map = map(&[
            (0, 1, "seoul-2 is learning it"),
            (3, 1, "no node\u{1b} is up"),
            (3, 2, "waiting"),
            (4, 1, "others first"),
        ]);
        let all = [
            "the meta shard: seoul-2 is learning it",
            "shard 3: no node\u{fffd} is up",
            "shard 4: others first",
        ];
        assert_eq!(map.waits(1, None), all);
        assert_eq!(map.waits(1, Some(3)), all[1..2]);
        assert!(map.waits(3, None).is_empty());
    }
}
