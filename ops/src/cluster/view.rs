//! What the nodes say about the cluster through the admin API, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::id::ShardId;
use proto::net::Channel;
use proto::v1::admin_client::AdminClient;
use proto::v1::{
    ConversationHash, GetStatusRequest, GetStatusResponse, HashReplicaRequest, ReplicaStatus,
};
use tonic::Status;

/// How long a node may take to say how it is.
const STATUS_LIMIT: Duration = Duration::from_secs(2);

/// Shards that a message names; thousands may be meant.
const NAMED_MAX: usize = 8;

/// Asks one node.
///
/// # Errors
/// What the node or the connection says.
pub async fn status(channel: Channel) -> Result<GetStatusResponse, Status> {
    let mut admin = AdminClient::new(channel);
    tokio::time::timeout(STATUS_LIMIT, admin.get_status(GetStatusRequest::default()))
        .await
        .map_err(|_| Status::deadline_exceeded("no status in time"))?
        .map(tonic::Response::into_inner)
}

/// One replica of a shard, read back from its disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaHashes {
    /// Raft position of the read point.
    pub applied_index: u64,
    /// Changes applied at the read point.
    pub revision: u64,
    /// Every conversation, by name.
    pub conversations: BTreeMap<String, ConversationHash>,
}

/// Has a node read one of its replicas back from disk and hash it.
///
/// # Errors
/// What the node says.
pub async fn hash_replica(channel: Channel, shard: u32) -> Result<ReplicaHashes, Status> {
    let mut admin = AdminClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    let mut answers = admin
        .hash_replica(HashReplicaRequest { shard })
        .await?
        .into_inner();
    let mut hashes = ReplicaHashes::default();
    while let Some(answer) = answers.message().await? {
        hashes.applied_index = answer.applied_index;
        hashes.revision = answer.revision;
        let named = answer
            .conversations
            .into_iter()
            .map(|c| (c.name.clone(), c));
        hashes.conversations.extend(named);
    }
    Ok(hashes)
}

/// Whether `running` nodes answered and all of them know `nodes` nodes and the shards.
///
/// # Errors
/// What is missing.
pub fn all_know(
    statuses: &[GetStatusResponse],
    running: usize,
    nodes: usize,
) -> Result<(), String> {
    if statuses.len() < running {
        return Err(format!(
            "{} of {running} running nodes answer",
            statuses.len()
        ));
    }
    for status in statuses {
        if status.nodes.len() < nodes {
            return Err(format!(
                "{} knows {} of {nodes} nodes",
                status.node_name,
                status.nodes.len()
            ));
        }
        if status.map_epoch == 0 || status.shards.iter().all(|s| s.shard == 0) {
            return Err(format!("{} knows no shards", status.node_name));
        }
    }
    Ok(())
}

/// Who leads each shard, by the leaders' own word; with two that claim it, the higher term.
pub fn leaders(statuses: &[GetStatusResponse]) -> BTreeMap<u32, u64> {
    let mut best: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for status in statuses {
        for replica in status.replicas.iter().filter(|r| r.state == "leader") {
            let claim = (replica.term, status.node_id);
            let held = best.entry(replica.shard).or_insert(claim);
            *held = (*held).max(claim);
        }
    }
    best.into_iter()
        .map(|(shard, (_, node))| (shard, node))
        .collect()
}

/// The replicas of every shard of the newest map among the answers, the meta shard included.
pub fn shard_replicas(statuses: &[GetStatusResponse]) -> BTreeMap<u32, BTreeSet<u64>> {
    let newest = statuses.iter().max_by_key(|s| s.map_epoch);
    newest.map_or_else(BTreeMap::new, |s| {
        s.shards
            .iter()
            .map(|s| (s.shard, s.replicas.iter().copied().collect()))
            .collect()
    })
}

/// Whether each shard has a replica that says it leads.
///
/// # Errors
/// Which shards have none.
pub fn all_led(statuses: &[GetStatusResponse]) -> Result<(), String> {
    let led = leaders(statuses);
    let shards = shard_replicas(statuses);
    if shards.is_empty() {
        return Err("no node knows any shard".to_owned());
    }
    let dark: Vec<u32> = shards
        .into_keys()
        .filter(|shard| !led.contains_key(shard))
        .collect();
    if dark.is_empty() {
        return Ok(());
    }
    let named = dark
        .iter()
        .take(NAMED_MAX)
        .map(|shard| ShardId(*shard).told());
    let named: Vec<String> = named.collect();
    let others = match dark.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    Err(format!("no leader of {}{others}", named.join(", ")))
}

/// Whether all replicas of each shard have applied the leader's whole log.
///
/// # Errors
/// The first replica that has not, and how far it is.
pub fn all_replicated(statuses: &[GetStatusResponse]) -> Result<(), String> {
    all_led(statuses)?;
    let led = leaders(statuses);
    let told = statuses.iter().flat_map(|status| {
        let of = move |replica: &ReplicaStatus| (replica.shard, status.node_id);
        status
            .replicas
            .iter()
            .map(move |replica| (of(replica), replica))
    });
    let told: BTreeMap<(u32, u64), &ReplicaStatus> = told.collect();
    let name = |node: u64| {
        let known = statuses.iter().find(|status| status.node_id == node);
        known.map_or_else(|| format!("n{node}"), |status| status.node_name.clone())
    };
    let replica_of = |shard: u32, node: u64| told.get(&(shard, node)).copied();
    for (shard, nodes) in shard_replicas(statuses) {
        let wanted = led
            .get(&shard)
            .and_then(|&node| replica_of(shard, node))
            .map(|leader| leader.last_log_index)
            .ok_or_else(|| format!("no leader of {}", ShardId(shard).told()))?;
        let shard_told = ShardId(shard).told();
        for node in nodes {
            let replica = replica_of(shard, node).ok_or_else(|| {
                format!("{} does not show its replica of {shard_told}", name(node))
            })?;
            if replica.state == "broken" {
                return Err(format!(
                    "{shard_told} on {} is broken: {}",
                    name(node),
                    replica.broken_reason
                ));
            }
            if replica.applied_index != wanted {
                return Err(format!(
                    "{shard_told} on {} has applied {} of {wanted}",
                    name(node),
                    replica.applied_index
                ));
            }
        }
    }
    Ok(())
}

/// Notes who led which term of which shard, from all nodes' own histories.
#[derive(Clone, Debug, Default)]
pub struct LeaderHistory {
    terms: BTreeMap<(u32, u64), BTreeSet<u64>>,
}

impl LeaderHistory {
    /// Adds what the nodes say now.
    pub fn note(&mut self, statuses: &[GetStatusResponse]) {
        for status in statuses {
            for replica in &status.replicas {
                for t in replica.leader_history.iter().filter(|t| t.leader != 0) {
                    self.terms
                        .entry((replica.shard, t.term))
                        .or_default()
                        .insert(t.leader);
                }
                if replica.state == "leader" {
                    let term = self.terms.entry((replica.shard, replica.term)).or_default();
                    term.insert(status.node_id);
                }
            }
        }
    }

    /// Terms seen with a leader.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether no term has been seen.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Terms that had more than one leader, for people.
    pub fn conflicts(&self) -> Vec<String> {
        let shared = self.terms.iter().filter(|(_, leaders)| leaders.len() > 1);
        shared
            .map(|((shard, term), leaders)| {
                let names: Vec<String> = leaders.iter().map(|n| format!("n{n}")).collect();
                format!("s{shard} term {term}: {}", names.join(" and "))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{LeaderTerm, ShardStatus};

    use super::*;

    fn node(id: u64, shard: u32, state: &str, term: u64, applied: u64) -> GetStatusResponse {
        let history = vec![LeaderTerm {
            term,
            leader: if state == "leader" { id } else { 0 },
        }];
        GetStatusResponse {
            node_id: id,
            node_name: format!("n-{id}"),
            map_epoch: 1,
            shards: vec![ShardStatus {
                shard,
                replicas: vec![1, 2],
                ..Default::default()
            }],
            replicas: vec![ReplicaStatus {
                shard,
                state: state.to_owned(),
                term,
                last_log_index: 9,
                applied_index: applied,
                leader_history: history,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_shard_is_led_only_when_a_replica_itself_says_so() {
        let mut follower = node(2, 1, "follower", 3, 9);
        follower.replicas[0].leader = 1;
        assert_eq!(
            all_led(&[follower.clone()]).unwrap_err(),
            "no leader of shard 1"
        );
        assert!(all_led(&[follower, node(1, 1, "leader", 3, 9)]).is_ok());
        assert!(all_led(&[]).is_err());
    }

    #[test]
    fn of_many_shards_that_nobody_leads_only_some_are_named() {
        let mut all = node(1, 1, "follower", 3, 9);
        let replica = |shard| ReplicaStatus {
            shard,
            ..all.replicas[0].clone()
        };
        let replicas: Vec<_> = (1..=20).map(replica).collect();
        all.shards = (1..=20)
            .map(|shard| ShardStatus {
                shard,
                ..all.shards[0].clone()
            })
            .collect();
        all.replicas = replicas;
        let why = all_led(&[all]).unwrap_err();
        assert_eq!(
            why,
            "no leader of shard 1, shard 2, shard 3, shard 4, shard 5, shard 6, shard 7, shard 8 and 12 others"
        );
    }

    #[test]
    fn of_two_that_claim_a_shard_the_higher_term_leads() {
        let both = [node(2, 1, "leader", 3, 9), node(1, 1, "leader", 4, 9)];
        assert_eq!(leaders(&both), BTreeMap::from([(1, 1)]));
    }

    #[test]
    fn replication_is_full_when_every_replica_has_applied_the_leaders_log() {
        let leader = node(1, 1, "leader", 3, 9);
        assert!(all_replicated(&[leader.clone(), node(2, 1, "follower", 3, 9)]).is_ok());
        let behind = all_replicated(&[leader.clone(), node(2, 1, "follower", 3, 8)]);
        assert_eq!(behind.unwrap_err(), "shard 1 on n-2 has applied 8 of 9");
        assert!(
            all_replicated(std::slice::from_ref(&leader))
                .unwrap_err()
                .contains("n2 does not show")
        );
        let broken = all_replicated(&[leader, node(2, 1, "broken", 3, 9)]);
        assert!(broken.unwrap_err().contains("broken"));
    }

    #[test]
    fn a_term_with_two_leaders_is_a_conflict_even_if_they_are_seen_at_different_times() {
        let mut history = LeaderHistory::default();
        history.note(&[node(1, 1, "leader", 3, 9)]);
        history.note(&[node(1, 1, "leader", 3, 9), node(2, 1, "leader", 4, 9)]);
        assert_eq!((history.len(), history.conflicts().len()), (2, 0));
        history.note(&[node(2, 1, "leader", 3, 9)]);
        assert_eq!(history.conflicts(), ["s1 term 3: n1 and n2"]);
    }

    #[test]
    fn nodes_that_miss_others_or_the_shards_do_not_know_the_cluster() {
        let mut one = node(1, 1, "leader", 3, 9);
        one.nodes = vec![Default::default(); 2];
        assert!(all_know(&[one.clone()], 1, 2).is_ok());
        assert!(all_know(&[one.clone()], 2, 2).is_err());
        assert!(all_know(&[one.clone()], 1, 3).is_err());
        one.map_epoch = 0;
        assert!(all_know(&[one], 1, 2).is_err());
    }
}
