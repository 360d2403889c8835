//! Whom a fault is about: names of nodes, as connections know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proto::net::faulty::Peers;

use super::Refused;

/// Peers of a fault, with their addresses looked up.
pub type Resolved = Peers;

/// A node of the cluster, with what its address leads to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// host:port, one or more.
    pub addresses: Vec<String>,
    /// Where these are; none where names are all there is, as in the simulator.
    pub sockets: Vec<SocketAddr>,
}

/// The peers of these names among `nodes`; `own` is this node's name.
///
/// # Errors
/// [`Refused`] for a name that there is not, this node's own, and one whose IP address another node has
/// that is not named: who connects from there could be either.
pub fn resolve(names: &[String], own: &str, nodes: &[Found]) -> Result<Resolved, Refused> {
    let mut peers = Peers::default();
    let mut whose: BTreeMap<IpAddr, BTreeSet<&str>> = BTreeMap::new();
    for node in nodes {
        for at in &node.sockets {
            let ip = at.ip().to_canonical();
            whose.entry(ip).or_default().insert(&node.name);
        }
    }
    for name in names {
        if name == own {
            return Err(Refused::Bad(format!(
                "{name} is this node, and no peer of it"
            )));
        }
        let Some(node) = nodes.iter().find(|node| node.name == *name) else {
            return Err(Refused::Bad(format!("the cluster has no node {name:?}")));
        };
        for at in &node.sockets {
            let of_ip = whose.get(&at.ip().to_canonical());
            let mut others = of_ip.into_iter().flatten();
            if let Some(other) = others.find(|other| !names.iter().any(|name| name == *other)) {
                return Err(Refused::Not(format!(
                    "{name} and {other} have the same IP address, {}: their connections cannot be told \
                     apart; name both, or none for everyone",
                    at.ip()
                )));
            }
        }
        peers.addresses.extend(node.addresses.iter().cloned());
        peers.sockets.extend(node.sockets.iter().copied());
    }
    Ok(peers)
}
