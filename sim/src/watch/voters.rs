//! Who becomes a voter, as the memberships in logs say, and what was on that one's disk then.
//!
//! A shard's leader makes a replica a voter only once it has nearly all of the log, as of an entry
//! behind the one that names it a learner. And a replica that was wiped, and may have acknowledged
//! anything before, votes only once it has nearly all that was known to be committed at that time.

use std::collections::BTreeMap;

use model::cluster::ClusterState;
use prost::Message;

use super::committed::Replica;
use crate::history::VoterSeen;

/// The tag of a log record that is a membership.
const TAG_MEMBERSHIP: u8 = 2;

/// As the product writes it: see its records of the log.
#[derive(Clone, PartialEq, Message)]
struct Membership {
    #[prost(message, repeated, tag = "1")]
    configs: Vec<Config>,
    #[prost(uint64, repeated, tag = "2")]
    nodes: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    incarnations: Vec<Incarnation>,
}

#[derive(Clone, PartialEq, Message)]
struct Config {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Incarnation {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

/// A node, and which of its replicas.
type Member = (u64, u64);

/// What the memberships of one shard have said.
#[derive(Default)]
struct Said {
    /// The entry that first named each, in whatever part.
    named: BTreeMap<Member, u64>,
    /// Those that were voters.
    voted: BTreeMap<Member, u64>,
}

/// All that is known of voters.
#[derive(Default)]
pub(super) struct Voters {
    hosts: BTreeMap<u64, String>,
    said: BTreeMap<u32, Said>,
    /// What replicas that were wiped must have before they vote.
    needed: BTreeMap<Replica, u64>,
    seen: Vec<VoterSeen>,
}

impl Voters {
    /// Takes the names of the nodes from a view of the cluster.
    pub(super) fn learn(&mut self, view: &[u8]) {
        if let Ok(view) = ClusterState::decode(view) {
            let nodes = view.nodes.into_iter();
            self.hosts.extend(nodes.map(|node| (node.id, node.name)));
        }
    }

    /// The host of a node.
    pub(super) fn host(&self, node: u64) -> Option<&str> {
        self.hosts.get(&node).map(String::as_str)
    }

    /// The nodes that the data of an entry names as voters for the first time, each with the index of
    /// the entry that first named it at all.
    pub(super) fn named(&mut self, shard: u32, index: u64, data: &[u8]) -> Vec<(u64, u64)> {
        let Some((&TAG_MEMBERSHIP, record)) = data.split_first() else {
            return Vec::new();
        };
        let Ok(members) = Membership::decode(record) else {
            return Vec::new();
        };
        let incarnation = |node: u64| {
            let mut given = members.incarnations.iter();
            let given = given.find(|one| one.node == node);
            given.map_or(0, |one| one.incarnation)
        };
        let said = self.said.entry(shard).or_default();
        // The first membership is the founders', who have nothing to lack.
        let founded = said.named.is_empty();
        for node in &members.nodes {
            let member = (*node, incarnation(*node));
            said.named.entry(member).or_insert(index);
        }
        let mut news = Vec::new();
        for node in members.configs.iter().flat_map(|config| &config.voters) {
            let member = (*node, incarnation(*node));
            if said.voted.insert(member, index).is_none() && !founded {
                news.push((*node, said.named.get(&member).copied().unwrap_or(index)));
            }
        }
        news
    }

    /// A replica was wiped when so much was known to be committed.
    pub(super) fn wiped(&mut self, replica: Replica, committed: u64) {
        let needed = self.needed.entry(replica).or_default();
        *needed = (*needed).max(committed);
    }

    /// A replica's vote is on its disk; for whoever is known to have won no vote was given. What it
    /// must have, the first time.
    pub(super) fn votes(&mut self, replica: Replica, committed: bool) -> Option<u64> {
        match committed {
            true => None,
            false => self.needed.remove(&replica),
        }
    }

    /// A host has other disks now.
    pub(super) fn forget(&mut self, host: usize) {
        self.needed.retain(|replica, _| replica.0 != host);
    }

    pub(super) fn seen(&mut self, seen: VoterSeen) {
        self.seen.push(seen);
    }

    pub(super) fn take(&mut self) -> Vec<VoterSeen> {
        std::mem::take(&mut self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(voters: &[u64], nodes: &[(u64, u64)]) -> Vec<u8> {
        let record = Membership {
            configs: vec![Config {
                voters: voters.to_vec(),
            }],
            nodes: nodes.iter().map(|(node, _)| *node).collect(),
            incarnations: nodes
                .iter()
                .map(|(node, incarnation)| Incarnation {
                    node: *node,
                    incarnation: *incarnation,
                })
                .collect(),
        };
        [&[TAG_MEMBERSHIP][..], &record.encode_to_vec()].concat()
    }

    #[test]
    fn a_voter_is_new_once_and_counts_from_where_it_was_named_first() {
        let mut voters = Voters::default();
        let old = [(1, 0), (2, 0), (3, 0)];
        assert_eq!(voters.named(7, 1, &data(&[1, 2, 3], &old)), []);
        let learns = [(1, 0), (2, 0), (3, 4)];
        assert_eq!(voters.named(7, 50, &data(&[1, 2], &learns)), []);
        assert_eq!(voters.named(7, 60, &data(&[1, 2, 3], &learns)), [(3, 50)]);
        assert_eq!(voters.named(7, 60, &data(&[1, 2, 3], &learns)), []);
        assert_eq!(voters.named(7, 61, &[1, 2, 3]), [], "no membership");
    }

    #[test]
    fn who_was_wiped_votes_with_what_was_committed_then() {
        let mut voters = Voters::default();
        voters.wiped((0, 7), 90);
        voters.wiped((0, 7), 20);
        assert_eq!(voters.votes((0, 7), true), None, "it follows");
        assert_eq!(voters.votes((1, 7), false), None);
        assert_eq!(voters.votes((0, 7), false), Some(90));
        assert_eq!(voters.votes((0, 7), false), None);
    }
}
