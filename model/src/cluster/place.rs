//! Where nodes are. An address is news that a node brings itself, proved to its peers by its disk; which
//! data center it burns with is for operators alone to say.

use super::decide::refused;
use super::{Announce, ClusterState, Locality, Node, Relocate};
use crate::command::{Reason, Refusal};
use crate::limits::{ADDRESS_BYTES_MAX, BOOT_LEAP_MAX, NAME_SEGMENT_BYTES_MAX};

/// Notes the address that a node has told. What an earlier start of it told, and what is known, changes
/// nothing.
pub(super) fn announce(state: &mut ClusterState, said: &Announce) -> Result<u64, Refusal> {
    let node = known(state, said.node)?;
    if node.disk_id != said.disk_id {
        return Err(refused(format!(
            "{} (n{}) has another disk than the one that says where it is",
            node.name, node.id
        )));
    }
    if said.boot > node.address_boot.saturating_add(BOOT_LEAP_MAX) {
        return Err(refused(format!(
            "{} (n{}) says where it is since its start {}: no node starts so often",
            node.name, node.id, said.boot
        )));
    }
    if said.address.is_empty() || said.address.len() > ADDRESS_BYTES_MAX {
        return Err(refused(format!(
            "an address has 1 to {ADDRESS_BYTES_MAX} bytes"
        )));
    }
    if said.rack.len() > NAME_SEGMENT_BYTES_MAX {
        return Err(refused(format!(
            "a rack's name has at most {NAME_SEGMENT_BYTES_MAX} bytes"
        )));
    }
    let id = node.id;
    let mut updated = node.clone();
    updated.address.clone_from(&said.address);
    updated
        .locality
        .get_or_insert_default()
        .rack
        .clone_from(&said.rack);
    if said.boot <= node.address_boot || updated == *node {
        return Ok(id);
    }
    updated.address_boot = said.boot;
    *node = updated;
    state.epoch += 1;
    Ok(id)
}

/// Has a node stand where an operator says.
pub(super) fn relocate(state: &mut ClusterState, wanted: &Relocate) -> Result<u64, Refusal> {
    let place = wanted.locality.clone().unwrap_or_default();
    for (what, name) in [("region", &place.region), ("data center", &place.dc)] {
        if name.is_empty() || name.len() > NAME_SEGMENT_BYTES_MAX {
            return Err(refused(format!(
                "the name of a {what} has 1 to {NAME_SEGMENT_BYTES_MAX} bytes"
            )));
        }
    }
    let node = known(state, wanted.node)?;
    let id = node.id;
    if node.locality.as_ref() == Some(&place) {
        return Ok(id);
    }
    let others = state.nodes.iter().filter(|other| other.id != id);
    let mut beside = others.filter(|other| other.dc() == place.dc);
    if let Some(other) = beside.find(|other| region(other) != place.region) {
        return Err(refused(format!(
            "data center {} is in region {}, with {} in it, and not in region {}",
            place.dc,
            region(other),
            other.name,
            place.region
        )));
    }
    known(state, id)?.locality = Some(place);
    state.epoch += 1;
    Ok(id)
}

/// Refuses a node that says of itself that it burns with others than the cluster knows.
pub(super) fn stays(held: &Node, comes: &Node) -> Result<(), Refusal> {
    if held.dc() == comes.dc() && region(held) == region(comes) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::AlreadyExists,
        format!(
            "{} (n{}) is in {} and would come as one in {}: a node's data center changes by an \
             operator's word alone, `firebreak node relocate {} --region {} --dc {}`",
            held.name,
            held.id,
            shown(held.locality.as_ref()),
            shown(comes.locality.as_ref()),
            held.name,
            region(comes),
            comes.dc(),
        ),
    ))
}

fn shown(place: Option<&Locality>) -> String {
    place.map_or_else(String::new, Locality::to_string)
}

fn region(node: &Node) -> &str {
    node.locality.as_ref().map_or("", |place| &place.region)
}

fn known(state: &mut ClusterState, id: u64) -> Result<&mut Node, Refusal> {
    let found = state.nodes.iter_mut().find(|node| node.id == id);
    found.ok_or_else(|| refused(format!("n{id} is not a node of this cluster")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn node(id: u64, dc: &str) -> Node {
        Node {
            id,
            name: format!("{dc}-{id}"),
            address: format!("{dc}-{id}:1"),
            locality: Some(Locality {
                region: "kr".into(),
                dc: dc.into(),
                rack: "r1".into(),
            }),
            disk_id: Bytes::from(vec![1; 16]),
            address_boot: 0,
        }
    }

    fn cluster() -> ClusterState {
        ClusterState {
            epoch: 5,
            nodes: vec![node(1, "seoul"), node(2, "busan")],
            ..ClusterState::default()
        }
    }

    fn said(boot: u64, address: &str) -> Announce {
        Announce {
            node: 2,
            disk_id: Bytes::from(vec![1; 16]),
            boot,
            address: address.into(),
            rack: "r1".into(),
        }
    }

    #[test]
    fn the_latest_start_of_a_node_says_where_it_is_whenever_that_comes() {
        let mut state = cluster();
        for (boot, address, expect, epoch) in [
            // As it joined.
            (1, "busan-2:1", "busan-2:1", 5),
            (3, "new:1", "new:1", 6),
            // Again, and late.
            (3, "new:1", "new:1", 6),
            (2, "old:1", "new:1", 6),
            (4, "busan-2:1", "busan-2:1", 7),
        ] {
            assert_eq!(announce(&mut state, &said(boot, address)), Ok(2));
            assert_eq!(
                (state.nodes[1].address.as_str(), state.epoch),
                (expect, epoch),
                "start {boot} at {address}"
            );
        }
    }

    #[test]
    fn another_disk_or_no_address_moves_nobody() {
        let mut state = cluster();
        let before = state.clone();
        let mut foreign = said(9, "x:1");
        foreign.disk_id = Bytes::from(vec![2; 16]);
        let mut unknown = said(9, "x:1");
        unknown.node = 3;
        for wrong in [foreign, unknown, said(9, ""), said(9, &"x".repeat(10_000))] {
            assert!(announce(&mut state, &wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(state, before);
    }

    #[test]
    fn an_operator_moves_a_node_to_a_data_center_and_nobody_moves_a_data_center() {
        let mut state = cluster();
        let to = |region: &str, dc: &str| Relocate {
            node: 2,
            locality: Some(Locality {
                region: region.into(),
                dc: dc.into(),
                rack: String::new(),
            }),
        };
        let refusal = relocate(&mut state, &to("jp", "seoul")).expect_err("two regions");
        assert!(
            refusal.message.contains("in region kr"),
            "{}",
            refusal.message
        );
        assert!(relocate(&mut state, &to("jp", "")).is_err());
        assert_eq!(relocate(&mut state, &to("jp", "tokyo")), Ok(2));
        assert_eq!(relocate(&mut state, &to("jp", "tokyo")), Ok(2));
        assert_eq!((state.nodes[1].dc(), state.epoch), ("tokyo", 6));
        let mut comes = state.nodes[1].clone();
        assert!(stays(&state.nodes[1], &comes).is_ok());
        comes.locality = node(2, "busan").locality;
        let refusal = stays(&state.nodes[1], &comes).expect_err("not by its own word");
        assert!(
            refusal.message.contains("node relocate"),
            "{}",
            refusal.message
        );
    }
}
