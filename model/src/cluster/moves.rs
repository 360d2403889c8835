//! Changes of who holds what: replicas that move, and nodes that leave.
//!
//! ```text
//!   BeginMove ─► the new replica learns ─► ChangeVoters ─► the shard changes its voters ─► FinishMove
//!       └──────────────┴─► DropMove
//! ```
//!
//! Each step names the epoch of its move, so that what a slow or deposed leader asks for late counts
//! for no other move. Between `ChangeVoters` and `FinishMove` a move is taken back only when its new node
//! is lost: the voters may have changed already, and going on needs no more than going back would. A
//! shard's leader brings its voters to what the map says in either case.

use crate::cluster::decide::refused;
use crate::cluster::{ClusterState, Leave, Move, MoveStep};
use crate::command::Refusal;
use crate::id::{NodeId, ShardId};
use crate::limits::MOVES_MAX;
use crate::placement;

type Decided = Result<u64, Refusal>;

/// Sends a replica on its way.
pub(super) fn begin(state: &mut ClusterState, wanted: &Move) -> Decided {
    let id = ShardId(wanted.shard);
    let Some(shard) = state.shard(id) else {
        return Err(refused(format!("{id} is not a data shard")));
    };
    if let Some(going) = state.move_of(id) {
        if (going.from, going.to) == (wanted.from, wanted.to) {
            return Ok(0);
        }
        return Err(refused(format!(
            "a replica of {id} is on its way from n{} to n{} already",
            going.from, going.to
        )));
    }
    if !shard.replicas.contains(&wanted.from) {
        return Err(refused(format!("n{} has no replica of {id}", wanted.from)));
    }
    if shard.replicas.contains(&wanted.to) {
        return Err(refused(format!("n{} has a replica of {id}", wanted.to)));
    }
    if state.node(NodeId(wanted.to)).is_none() {
        return Err(refused(format!(
            "n{} is not a node of this cluster",
            wanted.to
        )));
    }
    if state.leaving.contains(&wanted.to) {
        return Err(refused(format!("n{} is leaving the cluster", wanted.to)));
    }
    let after = wanted.after(&shard.replicas);
    if !wanted.degraded
        && let Some(dc) = placement::majority_in(state, &after)
        && placement::majority_in(state, &shard.replicas) != Some(dc)
    {
        return Err(refused(format!(
            "data center {dc} would hold a majority of {id}, which its loss would take"
        )));
    }
    if state.moves.len() >= MOVES_MAX {
        return Err(refused(format!(
            "{MOVES_MAX} replicas are on their way already"
        )));
    }
    state.epoch += 1;
    let begun = Move {
        epoch: state.epoch,
        changing: false,
        ..*wanted
    };
    let at = state.moves.partition_point(|m| m.shard < begun.shard);
    state.moves.insert(at, begun);
    Ok(0)
}

/// Lets the shard's leader change the voters.
pub(super) fn change_voters(state: &mut ClusterState, step: &MoveStep) -> Decided {
    let at = find(state, step)?;
    if !state.moves[at].changing {
        state.moves[at].changing = true;
        state.epoch += 1;
    }
    Ok(0)
}

/// Notes that the voters are changed.
pub(super) fn finish(state: &mut ClusterState, step: &MoveStep) -> Decided {
    let at = find(state, step)?;
    let done = state.moves[at];
    if !done.changing {
        return Err(refused(format!(
            "nobody was allowed to change the voters of s{}",
            done.shard
        )));
    }
    state.moves.remove(at);
    for shard in state.shards.iter_mut().filter(|s| s.id == done.shard) {
        shard.replicas = done.after(&shard.replicas);
        shard.changes += 1;
    }
    state.epoch += 1;
    Ok(0)
}

/// Takes a move back.
pub(super) fn drop(state: &mut ClusterState, step: &MoveStep) -> Decided {
    let at = find(state, step)?;
    if state.moves[at].changing && !step.lost {
        return Err(refused(format!(
            "the voters of s{} may have changed already: the move is finished, not taken back",
            step.shard
        )));
    }
    state.moves.remove(at);
    state.epoch += 1;
    Ok(0)
}

/// The place of the move that a step names.
fn find(state: &ClusterState, step: &MoveStep) -> Result<usize, Refusal> {
    let named = |m: &Move| (m.shard, m.epoch) == (step.shard, step.epoch);
    let none = || {
        refused(format!(
            "s{} is not in the move of epoch {}",
            step.shard, step.epoch
        ))
    };
    state.moves.iter().position(named).ok_or_else(none)
}

/// A node is to give up all it holds, or stays after all.
pub(super) fn leave(state: &mut ClusterState, leave: &Leave) -> Decided {
    if leave.stays {
        let before = state.leaving.len();
        state.leaving.retain(|node| *node != leave.node);
        if state.leaving.len() < before {
            state.epoch += 1;
        }
        return Ok(leave.node);
    }
    if state.leaving.contains(&leave.node) {
        return Ok(leave.node);
    }
    placement::may_leave(state, leave.node).map_err(refused)?;
    let at = state.leaving.partition_point(|node| *node < leave.node);
    state.leaving.insert(at, leave.node);
    state.epoch += 1;
    Ok(leave.node)
}

/// Removes a node that was leaving and holds nothing any more.
pub(super) fn remove(state: &mut ClusterState, leave: &Leave) -> Decided {
    let node = leave.node;
    if state.was_removed(NodeId(node)) {
        return Ok(node);
    }
    if !state.leaving.contains(&node) {
        return Err(refused(format!("n{node} is not leaving")));
    }
    if let Some(holds) = placement::held_by(state, node).next() {
        return Err(refused(format!("n{node} still has a replica of {holds}")));
    }
    state.nodes.retain(|n| n.id != node);
    state.leaving.retain(|n| *n != node);
    state.epoch += 1;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Change, ChangeBody, Changed, Locality, Node, Shard, decide};
    use crate::command::Answer;

    fn cluster(dcs: &[&str]) -> ClusterState {
        let node = |(id, dc): (u64, &&str)| Node {
            id,
            name: format!("n{id}"),
            locality: Some(Locality {
                dc: (*dc).into(),
                ..Locality::default()
            }),
            ..Node::default()
        };
        ClusterState {
            epoch: 1,
            nodes: (1..).zip(dcs).map(node).collect(),
            shards: vec![Shard {
                id: 1,
                slot_first: 0,
                slot_last: 65_535,
                replicas: vec![1, 2, 3],
                changes: 0,
            }],
            replicas: 3,
            meta_replicas: vec![1, 2, 3],
            next_node_id: dcs.len() as u64 + 1,
            ..ClusterState::default()
        }
    }

    fn step(epoch: u64) -> MoveStep {
        MoveStep {
            shard: 1,
            epoch,
            lost: false,
        }
    }

    fn moving(from: u64, to: u64) -> ChangeBody {
        ChangeBody::BeginMove(Move {
            shard: 1,
            from,
            to,
            ..Move::default()
        })
    }

    #[track_caller]
    fn check(state: &mut ClusterState, body: ChangeBody, expect: Result<u64, &str>) {
        let before = state.clone();
        let reply = decide(state, &Change::from(body));
        match (reply.answer, expect) {
            (Some(Answer::Meta(Changed { epoch, .. })), Ok(expected)) => {
                assert_eq!(epoch, expected);
            }
            (Some(Answer::Refused(refusal)), Err(says)) => {
                assert!(refusal.message.contains(says), "{}", refusal.message);
                assert_eq!(*state, before, "a refused change has no effect");
            }
            (answer, _) => panic!("{answer:?}"),
        }
    }

    #[test]
    fn a_replica_learns_and_takes_the_place_of_the_old_one_in_steps_that_may_be_repeated() {
        let mut state = cluster(&["a", "b", "c", "d"]);
        let step = step(2);
        check(&mut state, moving(2, 4), Ok(2));
        check(&mut state, moving(2, 4), Ok(2));
        assert!(state.holds(NodeId(4), ShardId(1)) && state.holds(NodeId(2), ShardId(1)));
        check(
            &mut state,
            ChangeBody::FinishMove(step),
            Err("nobody was allowed"),
        );
        check(&mut state, ChangeBody::ChangeVoters(step), Ok(3));
        check(&mut state, ChangeBody::ChangeVoters(step), Ok(3));
        check(
            &mut state,
            ChangeBody::DropMove(step),
            Err("not taken back"),
        );
        check(&mut state, ChangeBody::FinishMove(step), Ok(4));
        assert_eq!(
            (&state.shards[0].replicas[..], state.shards[0].changes),
            (&[1, 4, 3][..], 1)
        );
        check(
            &mut state,
            ChangeBody::FinishMove(step),
            Err("not in the move"),
        );
        assert!(!state.holds(NodeId(2), ShardId(1)));
    }

    #[test]
    fn a_move_whose_voters_may_change_is_taken_back_only_when_its_new_node_is_lost() {
        let mut state = cluster(&["a", "b", "c", "d"]);
        check(&mut state, moving(2, 4), Ok(2));
        check(&mut state, ChangeBody::ChangeVoters(step(2)), Ok(3));
        check(
            &mut state,
            ChangeBody::DropMove(step(2)),
            Err("not taken back"),
        );
        let lost = MoveStep {
            lost: true,
            ..step(2)
        };
        check(&mut state, ChangeBody::DropMove(lost), Ok(4));
        assert_eq!(state.shards[0].replicas, [1, 2, 3]);
    }

    #[test]
    fn a_step_of_an_earlier_move_does_not_count_for_a_later_one() {
        let mut state = cluster(&["a", "b", "c", "d"]);
        let old = step(2);
        check(&mut state, moving(2, 4), Ok(2));
        check(&mut state, ChangeBody::DropMove(old), Ok(3));
        check(&mut state, moving(2, 4), Ok(4));
        for late in [
            ChangeBody::ChangeVoters(old),
            ChangeBody::FinishMove(old),
            ChangeBody::DropMove(old),
        ] {
            check(&mut state, late, Err("not in the move of epoch 2"));
        }
    }

    #[test]
    fn a_move_that_makes_no_sense_or_makes_a_fire_fatal_is_refused() {
        let mut state = cluster(&["a", "b", "c", "b", "d"]);
        check(&mut state, moving(4, 5), Err("n4 has no replica"));
        check(&mut state, moving(1, 2), Err("n2 has a replica"));
        check(&mut state, moving(1, 9), Err("not a node"));
        check(&mut state, moving(1, 4), Err("b would hold a majority"));
        check(&mut state, moving(2, 4), Ok(2));
        check(&mut state, moving(1, 5), Err("on its way from n2 to n4"));
    }

    #[test]
    fn a_node_leaves_when_it_holds_nothing_and_never_comes_back() {
        let mut state = cluster(&["a", "b", "c", "b"]);
        let leave = |node, stays| Leave { node, stays };
        check(
            &mut state,
            ChangeBody::Leave(leave(1, false)),
            Err("a majority"),
        );
        check(
            &mut state,
            ChangeBody::Remove(leave(2, false)),
            Err("not leaving"),
        );
        check(&mut state, ChangeBody::Leave(leave(2, false)), Ok(2));
        check(&mut state, ChangeBody::Leave(leave(2, true)), Ok(3));
        check(&mut state, ChangeBody::Leave(leave(2, false)), Ok(4));
        check(&mut state, moving(1, 2), Err("n2 has a replica"));
        check(
            &mut state,
            ChangeBody::Remove(leave(2, false)),
            Err("a replica of"),
        );
        check(&mut state, moving(2, 4), Ok(5));
        let step = step(5);
        check(&mut state, ChangeBody::ChangeVoters(step), Ok(6));
        check(&mut state, ChangeBody::FinishMove(step), Ok(7));
        state.meta_replicas = vec![1, 4, 3];
        check(&mut state, ChangeBody::Remove(leave(2, false)), Ok(8));
        check(&mut state, ChangeBody::Remove(leave(2, false)), Ok(8));
        assert!(state.was_removed(NodeId(2)) && !state.was_removed(NodeId(5)));
        assert!(state.leaving.is_empty());
    }
}
