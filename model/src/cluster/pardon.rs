//! Taking back starts of a node that its peers have seen and that it never made. Two operators have to
//! say so: it lets a disk in that would be refused, and the reason for refusing it may be a true one.

use super::decide::refused;
use super::{ClusterState, ForgetBoot, Pardon};
use crate::command::Refusal;
use crate::id::NodeId;
use crate::limits::NAME_SEGMENT_BYTES_MAX;
use crate::rules;

/// Notes what an operator says, or makes it hold when another has said the same; gives the node's id
/// when it holds.
pub(super) fn forget(state: &mut ClusterState, wanted: &ForgetBoot) -> Result<u64, Refusal> {
    let ForgetBoot {
        node,
        boot,
        operator,
    } = wanted;
    if let Some(why) = rules::text(operator, 1, NAME_SEGMENT_BYTES_MAX) {
        return Err(refused(format!("the operator's name {why}")));
    }
    if *boot == 0 {
        return Err(refused("starts are counted from 1"));
    }
    if state.node(NodeId(*node)).is_none() {
        return Err(refused(format!("n{node} is not a node of this cluster")));
    }
    let next = state.epoch + 1;
    let place = state.pardons.partition_point(|one| one.node < *node);
    let said = state.pardons.get_mut(place);
    let said = said.filter(|one| one.node == *node);
    match said {
        Some(same) if same.boot == *boot => {
            if same.epoch > 0 {
                return Ok(*node);
            }
            if same.operators.contains(operator) {
                return Ok(0);
            }
            same.operators.push(operator.clone());
            same.epoch = next;
            state.epoch = next;
            // Where a forged start said that it is, the true ones may say otherwise.
            let mut held = state.nodes.iter_mut().filter(|held| held.id == *node);
            if let Some(held) = held.next() {
                held.address_boot = held.address_boot.min(*boot);
            }
            Ok(*node)
        }
        found => {
            let first = Pardon {
                node: *node,
                boot: *boot,
                operators: vec![operator.clone()],
                epoch: 0,
            };
            match found {
                Some(other) => *other = first,
                None => state.pardons.insert(place, first),
            }
            state.epoch = next;
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Node;

    fn state() -> ClusterState {
        let node = |id| Node {
            id,
            ..Node::default()
        };
        ClusterState {
            epoch: 5,
            nodes: vec![node(1), node(2)],
            ..ClusterState::default()
        }
    }

    fn says(state: &mut ClusterState, operator: &str, node: u64, boot: u64) -> Result<u64, String> {
        let operator = operator.to_owned();
        let wanted = ForgetBoot {
            node,
            boot,
            operator,
        };
        forget(state, &wanted).map_err(|refusal| refusal.message)
    }

    #[test]
    fn it_holds_once_two_operators_have_said_the_same() {
        let mut state = state();
        assert_eq!(says(&mut state, "ann", 2, 4), Ok(0));
        assert_eq!(says(&mut state, "ann", 2, 4), Ok(0));
        assert_eq!(state.epoch, 6);
        assert_eq!(state.pardon_of(NodeId(2)), None);
        assert_eq!(says(&mut state, "bob", 2, 4), Ok(2));
        assert_eq!(state.epoch, 7);
        let pardon = state.pardon_of(NodeId(2)).unwrap();
        assert_eq!((pardon.boot, pardon.epoch), (4, 7));
        assert_eq!(says(&mut state, "cid", 2, 4), Ok(2));
        assert_eq!(state.epoch, 7);
    }

    #[test]
    fn another_start_is_another_pardon_and_begins_anew() {
        let mut state = state();
        says(&mut state, "ann", 2, 4).unwrap();
        assert_eq!(says(&mut state, "bob", 2, 5), Ok(0));
        assert_eq!(says(&mut state, "ann", 1, 5), Ok(0));
        assert_eq!(state.pardons.len(), 2);
        assert_eq!(says(&mut state, "ann", 2, 5), Ok(2));
        assert!(state.pardon_of(NodeId(1)).is_none());
    }

    #[test]
    fn nobody_and_nothing_are_refused() {
        let mut state = state();
        assert!(says(&mut state, "", 2, 4).is_err());
        assert!(says(&mut state, "a\nb", 2, 4).is_err());
        assert!(says(&mut state, "ann", 3, 4).is_err());
        assert!(says(&mut state, "ann", 2, 0).is_err());
        assert_eq!(state, super::tests::state());
    }
}
