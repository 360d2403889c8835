//! Changes of the cluster's own state: who founds it, who joins, which shards there are.
//!
//! Every change that is made raises the epoch by one; one that is repeated, or that would change
//! nothing, answers as the first time and raises nothing, so that all of them may be retried.

use crate::cluster::tenants::TenantChange;
use crate::cluster::{
    Change, ChangeBody, Changed, ClusterState, Join, JoinToken, Layout, MetaReplicas, Node, Shard,
    drills, moves, place, tenants,
};
use crate::cluster::{access, audit, pardon, policy, tokens};
use crate::command::{Answer, Reason, Refusal, Reply};
use crate::hash;
use crate::id::Slot;
use crate::limits::{NAME_SEGMENT_BYTES_MAX, NODES_MAX, SHARDS_MAX};

const TOKEN_BYTES_MAX: usize = 256;
pub(super) const TOKEN_HASH_BYTES: usize = 32;
const DISK_ID_BYTES: usize = 16;

/// As [`decide_at`], of changes that no time matters to.
pub fn decide(state: &mut ClusterState, change: &Change) -> Reply {
    decide_at(state, change, 0)
}

/// Makes a change at a command time, or refuses it and leaves `state` as it was.
pub fn decide_at(state: &mut ClusterState, change: &Change, now_ms: u64) -> Reply {
    if let (Some(ChangeBody::Tenant(wanted)), 1..) = (&change.body, state.epoch) {
        return tenant(state, wanted, now_ms);
    }
    let decided = match &change.body {
        Some(ChangeBody::Found(founded)) => found(state, founded),
        Some(_) if state.epoch == 0 => Err(refused("the cluster is not founded")),
        Some(ChangeBody::Join(wanted)) => join(state, wanted, now_ms),
        Some(ChangeBody::Layout(layout)) => lay_out(state, layout),
        Some(ChangeBody::MetaReplicas(replicas)) => set_meta_replicas(state, replicas),
        Some(ChangeBody::Policy(wanted)) => policy::set(state, wanted),
        Some(ChangeBody::Draining(wanted)) => policy::drain(state, wanted),
        Some(ChangeBody::BeginMove(wanted)) => moves::begin(state, wanted),
        Some(ChangeBody::ChangeVoters(step)) => moves::change_voters(state, step),
        Some(ChangeBody::FinishMove(step)) => moves::finish(state, step),
        Some(ChangeBody::DropMove(step)) => moves::drop(state, step),
        Some(ChangeBody::Leave(leave)) => moves::leave(state, leave),
        Some(ChangeBody::Remove(leave)) => moves::remove(state, leave),
        Some(ChangeBody::Announce(said)) => place::announce(state, said),
        Some(ChangeBody::Relocate(wanted)) => place::relocate(state, wanted),
        Some(ChangeBody::JoinToken(token)) => set_token(state, token),
        Some(ChangeBody::CreateToken(new)) => tokens::create(state, new, now_ms),
        Some(ChangeBody::RevokeToken(named)) => tokens::revoke(state, &named.name),
        Some(ChangeBody::ForgetBoot(wanted)) => pardon::forget(state, wanted),
        Some(ChangeBody::Drill(wanted)) => drills::decide(state, wanted, now_ms),
        Some(ChangeBody::CreateKey(key)) => access::create(state, key, now_ms),
        Some(ChangeBody::RevokeKey(named)) => access::revoke(state, &named.name, now_ms),
        Some(ChangeBody::Issuer(issuer)) => access::believe(state, issuer),
        Some(ChangeBody::RemoveIssuer(named)) => access::disbelieve(state, &named.name),
        Some(ChangeBody::Notes(notes)) => audit::take(notes),
        Some(ChangeBody::Tenant(_)) | None => Err(refused("a change of no known kind")),
    };
    Reply::new(match decided {
        Ok(node_id) => Answer::Meta(Changed {
            node_id,
            epoch: state.epoch,
            ..Changed::default()
        }),
        Err(refusal) => Answer::Refused(refusal),
    })
}

fn tenant(state: &mut ClusterState, wanted: &TenantChange, now_ms: u64) -> Reply {
    Reply::new(match tenants::decide(state, wanted, now_ms) {
        Ok(decided) => Answer::Meta(Changed {
            epoch: state.epoch,
            tenant: Some(Box::new(decided.tenant)),
            deduplicated: decided.deduplicated,
            ..Changed::default()
        }),
        Err(refusal) => Answer::Refused(refusal),
    })
}

fn found(state: &mut ClusterState, founded: &ClusterState) -> Result<u64, Refusal> {
    let first = founded.nodes.first().map_or(0, |node| node.id);
    if state.epoch > 0 {
        if state.cluster_id == founded.cluster_id && state.token_hash == founded.token_hash {
            return Ok(first);
        }
        return Err(Refusal::new(
            Reason::AlreadyExists,
            format!("cluster {} is founded here", state.cluster_id),
        ));
    }
    if founded.cluster_id.is_empty() || founded.token_hash.len() != TOKEN_HASH_BYTES {
        return Err(refused("a founding needs a cluster_id and a token_hash"));
    }
    if founded.nodes.is_empty() || founded.nodes.iter().any(|node| node.id == 0) {
        return Err(refused("a founding needs its first node, numbered"));
    }
    let mut new = founded.clone();
    new.format = 1;
    new.epoch = 1;
    new.nodes.sort_by_key(|node| node.id);
    if new.nodes.windows(2).any(|pair| pair[0].id == pair[1].id) {
        return Err(refused("two nodes of the founding share a number"));
    }
    let highest = new.nodes.last().map_or(0, |node| node.id);
    let Some(next) = highest.checked_add(1) else {
        return Err(refused(
            "there is no number after that of the founding's last node",
        ));
    };
    new.next_node_id = new.next_node_id.max(next);
    *state = new;
    Ok(first)
}

fn set_token(state: &mut ClusterState, wanted: &JoinToken) -> Result<u64, Refusal> {
    if wanted.token.is_empty() || wanted.token.len() > TOKEN_BYTES_MAX {
        return Err(refused(format!("a token has 1 to {TOKEN_BYTES_MAX} bytes")));
    }
    if state.join_token.as_ref() != Some(wanted) {
        state.token_hash = hash::token_hash(&wanted.token);
        state.join_token = Some(wanted.clone());
        state.epoch += 1;
    }
    Ok(0)
}

fn join(state: &mut ClusterState, join: &Join, now_ms: u64) -> Result<u64, Refusal> {
    let Some(token) = state.token(&join.token_hash) else {
        return Err(refused("the join token is not this cluster's"));
    };
    if token.has_expired(now_ms) {
        return Err(refused(
            "the join token has expired; `firebreak token create` gives another",
        ));
    }
    let node = join
        .node
        .as_ref()
        .ok_or_else(|| refused("a join without a node"))?;
    if !token.node.is_empty() && token.node != node.name {
        return Err(refused(format!(
            "the join token is for node {}, not for {}",
            token.node, node.name
        )));
    }
    check(node)?;
    let taken = |n: &&mut Node| n.name == node.name || n.disk_id == node.disk_id;
    if let Some(held) = state.nodes.iter_mut().find(taken) {
        if held.name != node.name {
            return Err(Refusal::new(
                Reason::AlreadyExists,
                format!("this disk is that of node {} (n{})", held.name, held.id),
            ));
        }
        if held.disk_id != node.disk_id {
            return Err(Refusal::new(
                Reason::AlreadyExists,
                format!(
                    "node {} (n{}) has another disk: a new or wiped disk joins under a new name",
                    held.name, held.id
                ),
            ));
        }
        let id = held.id;
        let mut updated = Node {
            id,
            address_boot: held.address_boot,
            ..node.clone()
        };
        if held.address_boot > 0 {
            // What it told itself since it joined is newer than what a join says.
            updated.address.clone_from(&held.address);
        }
        if !state.shards.is_empty() {
            place::stays(held, &updated)?;
        }
        if *held != updated {
            *held = updated;
            state.epoch += 1;
        }
        return Ok(id);
    }
    if state.nodes.len() >= NODES_MAX {
        return Err(refused(format!("the cluster has its {NODES_MAX} nodes")));
    }
    let id = state.next_node_id;
    state.next_node_id += 1;
    state.nodes.push(Node {
        id,
        address_boot: 0,
        ..node.clone()
    });
    state.epoch += 1;
    Ok(id)
}

/// Whether a node that joins says all that must be known of it.
fn check(node: &Node) -> Result<(), Refusal> {
    if node.name.is_empty() || node.name.len() > NAME_SEGMENT_BYTES_MAX {
        return Err(refused(format!(
            "a node's name has 1 to {NAME_SEGMENT_BYTES_MAX} bytes"
        )));
    }
    if node.address.is_empty() {
        return Err(refused("a node without an address"));
    }
    if node.dc().is_empty() {
        return Err(refused("a node without a data center"));
    }
    if node.disk_id.len() != DISK_ID_BYTES {
        return Err(refused(format!("a disk_id has {DISK_ID_BYTES} bytes")));
    }
    Ok(())
}

fn lay_out(state: &mut ClusterState, layout: &Layout) -> Result<u64, Refusal> {
    if !state.shards.is_empty() {
        if state.shards == layout.shards {
            return Ok(0);
        }
        return Err(Refusal::new(
            Reason::AlreadyExists,
            "the shards are laid out",
        ));
    }
    if layout.shards.is_empty() || layout.shards.len() > SHARDS_MAX as usize {
        return Err(refused(format!("a layout has 1 to {SHARDS_MAX} shards")));
    }
    let mut next_slot = 0;
    for shard in &layout.shards {
        if shard.slot_first != next_slot || shard.slot_last < shard.slot_first {
            return Err(refused(format!(
                "shard {} begins at slot {} where {next_slot} is the next",
                shard.id, shard.slot_first
            )));
        }
        next_slot = shard.slot_last.saturating_add(1);
        check_members(state, &shard.replicas)?;
    }
    if next_slot != Slot::COUNT {
        return Err(refused(format!("the shards end before slot {next_slot}")));
    }
    let mut ids: Vec<u32> = layout.shards.iter().map(|shard: &Shard| shard.id).collect();
    ids.sort_unstable();
    if ids.first() == Some(&0) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(refused("shards are numbered from 1, each once"));
    }
    state.shards = layout.shards.clone();
    state.epoch += 1;
    Ok(0)
}

fn set_meta_replicas(state: &mut ClusterState, replicas: &MetaReplicas) -> Result<u64, Refusal> {
    check_members(state, &replicas.nodes)?;
    if state.meta_replicas != replicas.nodes {
        state.meta_replicas.clone_from(&replicas.nodes);
        state.epoch += 1;
    }
    Ok(0)
}

/// Whether all are known nodes, each named once, and there is one.
fn check_members(state: &ClusterState, members: &[u64]) -> Result<(), Refusal> {
    if members.is_empty() {
        return Err(refused("a shard without replicas"));
    }
    for (at, member) in members.iter().enumerate() {
        if state.nodes.iter().all(|node| node.id != *member) {
            return Err(refused(format!("n{member} is not a node of this cluster")));
        }
        if members[..at].contains(member) {
            return Err(refused(format!("n{member} is named twice")));
        }
    }
    Ok(())
}

pub(super) fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Locality;
    use crate::hash::token_hash;
    use bytes::Bytes;

    /// When everything is decided here.
    const NOW_MS: u64 = 1_000;

    fn node(name: &str, disk: u8) -> Node {
        Node {
            id: 0,
            name: name.into(),
            address: format!("{name}:7000"),
            locality: Some(Locality {
                region: "kr".into(),
                dc: "seoul".into(),
                rack: "r1".into(),
            }),
            disk_id: Bytes::from(vec![disk; 16]),
            address_boot: 0,
        }
    }

    fn founding() -> Change {
        Change {
            body: Some(ChangeBody::Found(Box::new(ClusterState {
                cluster_id: "c1".into(),
                token_hash: token_hash("secret"),
                nodes: vec![Node {
                    id: 1,
                    ..node("a", 1)
                }],
                meta_replicas: vec![1],
                ..ClusterState::default()
            }))),
            actor: None,
        }
    }

    fn joining(node: Node, token: &str) -> Change {
        Change {
            body: Some(ChangeBody::Join(Join {
                token_hash: token_hash(token),
                node: Some(node),
                token: String::new(),
            })),
            actor: None,
        }
    }

    fn laying(shards: &[(u32, u32, u32, &[u64])]) -> Change {
        let shards = shards
            .iter()
            .map(|&(id, slot_first, slot_last, replicas)| Shard {
                id,
                slot_first,
                slot_last,
                replicas: replicas.to_vec(),
                changes: 0,
            })
            .collect();
        Change {
            body: Some(ChangeBody::Layout(Layout { shards })),
            actor: None,
        }
    }

    #[track_caller]
    fn made(state: &mut ClusterState, change: &Change, node_id: u64, epoch: u64) {
        let reply = decide_at(state, change, NOW_MS);
        let changed = Changed {
            node_id,
            epoch,
            ..Changed::default()
        };
        assert_eq!(reply.answer, Some(Answer::Meta(changed)));
    }

    #[track_caller]
    fn refuses(state: &mut ClusterState, change: &Change, reason: Reason, says: &str) {
        let before = state.clone();
        let Some(Answer::Refused(refusal)) = decide_at(state, change, NOW_MS).answer else {
            panic!("not refused: {change:?}");
        };
        assert_eq!(refusal.reason, reason as i32, "{}", refusal.message);
        assert!(refusal.message.contains(says), "{}", refusal.message);
        assert_eq!(*state, before, "a refused change has no effect");
    }

    #[test]
    fn a_cluster_is_founded_once_and_a_repeated_founding_answers_the_same() {
        let mut state = ClusterState::default();
        refuses(
            &mut state,
            &joining(node("b", 2), "secret"),
            Reason::Invalid,
            "not founded",
        );
        made(&mut state, &founding(), 1, 1);
        made(&mut state, &founding(), 1, 1);
        let mut other = founding();
        if let Some(ChangeBody::Found(founded)) = &mut other.body {
            founded.cluster_id = "c2".into();
        }
        refuses(&mut state, &other, Reason::AlreadyExists, "c1");
    }

    #[test]
    fn a_node_joins_once_and_its_new_address_is_noted() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        made(&mut state, &joining(node("b", 2), "secret"), 2, 2);
        made(&mut state, &joining(node("b", 2), "secret"), 2, 2);
        let mut moved = node("b", 2);
        moved.address = "elsewhere:7000".into();
        made(&mut state, &joining(moved, "secret"), 2, 3);
        assert_eq!(state.nodes[1].address, "elsewhere:7000");
        made(&mut state, &joining(node("c", 3), "secret"), 3, 4);
    }

    #[test]
    fn a_wrong_token_a_taken_name_and_a_taken_disk_are_refused() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        refuses(
            &mut state,
            &joining(node("b", 2), "guess"),
            Reason::Invalid,
            "token",
        );
        refuses(
            &mut state,
            &joining(node("a", 2), "secret"),
            Reason::AlreadyExists,
            "another disk",
        );
        refuses(
            &mut state,
            &joining(node("b", 1), "secret"),
            Reason::AlreadyExists,
            "node a (n1)",
        );
        let mut bare = node("b", 2);
        bare.locality = None;
        refuses(
            &mut state,
            &joining(bare, "secret"),
            Reason::Invalid,
            "data center",
        );
    }

    #[test]
    fn a_token_is_replaced_by_another_and_expires() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        let token = |token: &str, expires_ms| Change {
            body: Some(ChangeBody::JoinToken(JoinToken {
                token: token.into(),
                expires_ms,
            })),
            actor: None,
        };
        made(&mut state, &token("new", NOW_MS + 1), 0, 2);
        made(&mut state, &token("new", NOW_MS + 1), 0, 2);
        let (old, new) = (
            joining(node("b", 2), "secret"),
            joining(node("b", 2), "new"),
        );
        refuses(&mut state, &old, Reason::Invalid, "not this cluster's");
        made(&mut state, &new, 2, 3);
        made(&mut state, &token("late", NOW_MS), 0, 4);
        let late = joining(node("c", 3), "late");
        refuses(&mut state, &late, Reason::Invalid, "expired");
        made(&mut state, &token("late", 0), 0, 5);
        made(&mut state, &late, 3, 6);
        refuses(&mut state, &token("", 0), Reason::Invalid, "a token has");
    }

    #[test]
    fn a_token_for_one_node_lets_in_no_other() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        let one = tokens::Token {
            hash: token_hash("one"),
            node: "b".into(),
            host: "10.0.0.7".into(),
            ..tokens::Token::default()
        };
        let new = tokens::NewToken {
            token: Some(one),
            alone: false,
        };
        let create = Change {
            body: Some(ChangeBody::CreateToken(new)),
            actor: None,
        };
        made(&mut state, &create, 0, 2);
        let other = joining(node("c", 3), "one");
        refuses(&mut state, &other, Reason::Invalid, "is for node b");
        made(&mut state, &joining(node("b", 2), "one"), 2, 3);
    }

    #[test]
    fn who_has_joined_is_elsewhere_by_its_own_word_and_in_another_data_center_by_an_operators() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        made(&mut state, &joining(node("b", 2), "secret"), 2, 2);
        let mut elsewhere = node("b", 2);
        elsewhere.locality.get_or_insert_default().dc = "busan".into();
        // While nothing is placed yet, what was wrong is mended.
        made(&mut state, &joining(elsewhere, "secret"), 2, 3);
        made(&mut state, &laying(&[(1, 0, 65_535, &[1])]), 0, 4);
        let back = joining(node("b", 2), "secret");
        refuses(&mut state, &back, Reason::AlreadyExists, "node relocate b");
        state.nodes[1].address_boot = 7;
        state.nodes[1].address = "told:1".into();
        let mut again = node("b", 2);
        again.locality.get_or_insert_default().dc = "busan".into();
        made(&mut state, &joining(again, "secret"), 2, 4);
        assert_eq!(state.nodes[1].address, "told:1");
    }

    #[test]
    fn the_shards_are_laid_out_once_and_cover_every_slot() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        let whole = laying(&[(1, 0, 32_767, &[1]), (2, 32_768, 65_535, &[1])]);
        for (wrong, says) in [
            (laying(&[]), "1 to"),
            (laying(&[(1, 0, 65_534, &[1])]), "end before"),
            (laying(&[(1, 1, 65_535, &[1])]), "begins at slot 1"),
            (
                laying(&[(1, 0, 9, &[1]), (1, 10, 65_535, &[1])]),
                "each once",
            ),
            (laying(&[(1, 0, 65_535, &[7])]), "n7"),
            (laying(&[(1, 0, 65_535, &[1, 1])]), "twice"),
            (laying(&[(1, 0, 65_535, &[])]), "without replicas"),
        ] {
            refuses(&mut state, &wrong, Reason::Invalid, says);
        }
        made(&mut state, &whole, 0, 2);
        made(&mut state, &whole, 0, 2);
        refuses(
            &mut state,
            &laying(&[(1, 0, 65_535, &[1])]),
            Reason::AlreadyExists,
            "laid out",
        );
    }

    #[test]
    fn the_meta_replicas_are_known_nodes() {
        let mut state = ClusterState::default();
        made(&mut state, &founding(), 1, 1);
        made(&mut state, &joining(node("b", 2), "secret"), 2, 2);
        let members = |nodes: &[u64]| Change {
            body: Some(ChangeBody::MetaReplicas(MetaReplicas {
                nodes: nodes.to_vec(),
            })),
            actor: None,
        };
        made(&mut state, &members(&[1]), 0, 2);
        made(&mut state, &members(&[2, 1]), 0, 3);
        refuses(&mut state, &members(&[3]), Reason::Invalid, "n3");
        refuses(
            &mut state,
            &members(&[]),
            Reason::Invalid,
            "without replicas",
        );
    }
}
