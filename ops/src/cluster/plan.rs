//! What cluster to make, and what its nodes are configured with.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node::Node;
use super::tls;

/// The disk is shared with all else on this machine, so that its size says nothing of the room that
/// is the nodes'; what they need is looked at once, before they start.
const LIMITS: &str = "[limits]\ndisk_reserve_percent = 0\n";

/// What cluster to make.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Where everything goes: for each node NAME the configuration NAME.toml, the log NAME.log
    /// and the data directory NAME.
    pub dir: PathBuf,
    /// The `firebreak` to run.
    pub binary: PathBuf,
    /// (region, data center) pairs.
    pub places: Vec<(String, String)>,
    /// Nodes in each data center.
    pub nodes_per_dc: usize,
    /// Racks that those stand in, one after the other.
    pub racks_per_dc: usize,
    /// Data shards; `None` leaves it to `firebreak init`.
    pub shards: Option<u32>,
    /// Replicas of each shard.
    pub replicas: u32,
    /// More TOML for every node's configuration, sections only.
    pub settings: String,
    /// Round trip between data centers, made up by the nodes' own transport: each data center gets
    /// a loopback address of its own then. `None`: all are at 127.0.0.1.
    pub round_trip: Option<Duration>,
    /// How the nodes begin with TLS: `off`, `optional` or `strict`, with certificates that are made
    /// for them. `None`: off, and there are none.
    pub tls: Option<&'static str>,
    /// Leave the nodes running when this process ends.
    pub outlive: bool,
}

impl ClusterPlan {
    /// Three data centers, `nodes_per_dc` nodes in each, three replicas.
    pub fn three_dcs(dir: &Path, binary: &Path, nodes_per_dc: usize) -> ClusterPlan {
        let place = |region: &str, dc: &str| (region.to_owned(), dc.to_owned());
        ClusterPlan {
            dir: dir.to_owned(),
            binary: binary.to_owned(),
            places: vec![
                place("kr", "seoul"),
                place("kr", "busan"),
                place("jp", "tokyo"),
            ],
            nodes_per_dc,
            racks_per_dc: 1,
            shards: None,
            replicas: 3,
            settings: LIMITS.to_owned(),
            round_trip: None,
            tls: None,
            outlive: false,
        }
    }
}

impl ClusterPlan {
    /// The address that the nodes of a data center have.
    pub fn host(&self, dc: &str) -> Ipv4Addr {
        let at = self.places.iter().position(|(_, name)| name == dc);
        match (self.round_trip, at.and_then(|at| u8::try_from(at).ok())) {
            // Clients come from 127.0.0.1 and are near everywhere.
            (Some(_), Some(at)) => Ipv4Addr::new(127, 0, 1, at.saturating_add(1)),
            (None, _) | (_, None) => Ipv4Addr::LOCALHOST,
        }
    }

    /// The sections of a node's configuration.
    pub(super) fn settings_of(&self, node: &Node) -> String {
        let tls = node
            .tls
            .map(|mode| tls::section(&self.dir, &node.name, mode));
        [
            self.settings.clone(),
            self.distances(&node.dc),
            tls.unwrap_or_default(),
        ]
        .concat()
    }

    fn distances(&self, dc: &str) -> String {
        let Some(round_trip) = self.round_trip else {
            return String::new();
        };
        let one_way_ms = round_trip.as_millis() / 2;
        let others = self.places.iter().filter(|(_, other)| other != dc);
        let delays: Vec<String> = others
            .map(|(_, other)| format!("\"{}\" = {one_way_ms}", self.host(other)))
            .collect();
        format!("\n[network]\ndelay_ms = {{ {} }}\n", delays.join(", "))
    }
}
