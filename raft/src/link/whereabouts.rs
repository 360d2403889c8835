//! Where other nodes are to be looked for. A node is its disk; where it is, is news that it brings itself
//! with every call, and who answers at an address is asked before anything rests on it. So all that is
//! kept here are hints: the best first, and the others when nobody answers there.
//!
//! ```text
//!   own     told by the node itself, which proved its disk            kept on this disk
//!   listed  by the cluster: what some leader has checked              in the view
//!   told    by another node, or a seed at which the node answered     in memory
//! ```
//!
//! Of two words that of the later start counts, by the boot counter, in whatever order they come.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::cluster::ClusterState;
use model::id::NodeId;
use model::limits::{ADDRESS_BYTES_MAX, NAME_SEGMENT_BYTES_MAX};
use parking_lot::Mutex;
use prost::Message as _;
use proto::node::Place;
use store::{Error, Log};

/// Local records: where a node said last that it is.
const PLACE: &str = "place/";
/// Hints of others that are kept for a node.
const TOLD_MAX: usize = 3;

/// What is known, shared by all who look.
#[derive(Clone)]
pub(crate) struct Whereabouts {
    log: Log,
    known: Arc<Mutex<BTreeMap<NodeId, Known>>>,
}

#[derive(Default)]
struct Known {
    listed: Option<(u64, String)>,
    own: Option<Place>,
    told: Vec<Place>,
}

/// Where to look for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) address: String,
    /// The start of the node that is said to be there; 0 = not known.
    pub(crate) boot: u64,
    /// The node itself says so, or the cluster.
    pub(crate) sure: bool,
}

/// Whether a place is fit to be looked at.
fn is_usable(place: &Place) -> bool {
    place.address.len() <= ADDRESS_BYTES_MAX
        && place.rack.len() <= NAME_SEGMENT_BYTES_MAX
        && proto::net::destination(&place.address).is_ok()
}

impl Whereabouts {
    /// Reads back what nodes said to this one before.
    pub(crate) fn open(log: Log) -> Result<Whereabouts, Error> {
        let mut known: BTreeMap<NodeId, Known> = BTreeMap::new();
        for (key, value) in log.local_scan(PLACE)? {
            let node = key.strip_prefix(PLACE).and_then(|id| id.parse().ok());
            if let (Some(node), Ok(place)) = (node, Place::decode(value)) {
                known.entry(NodeId(node)).or_default().own = Some(place);
            }
        }
        Ok(Whereabouts {
            log,
            known: Arc::new(Mutex::new(known)),
        })
    }

    /// Takes what the cluster knows. Nodes that are not in it are not looked for.
    pub(crate) fn list(&self, view: &ClusterState) {
        let mut known = self.known.lock();
        known.retain(|id, _| view.node(*id).is_some());
        for node in &view.nodes {
            let one = known.entry(NodeId(node.id)).or_default();
            one.listed = Some((node.address_boot, node.address.clone()));
            // What was said before that is over.
            one.own.take_if(|place| place.boot < node.address_boot);
            one.told.retain(|place| place.boot >= node.address_boot);
        }
    }

    /// A node that has proved its disk says where it is; whether that is news. Durable then, so that
    /// nodes that start again find each other where they were last.
    pub(crate) async fn said(&self, place: Place) -> Result<bool, Error> {
        let node = NodeId(place.node);
        let listed = |known: &Known| {
            known
                .listed
                .as_ref()
                .is_some_and(|(boot, _)| place.boot < *boot)
        };
        {
            let known = self.known.lock();
            let before = known.get(&node);
            let own = before.and_then(|known| known.own.as_ref());
            let older = own.is_some_and(|own| place.boot < own.boot);
            let same =
                own.is_some_and(|own| own.address == place.address && own.rack == place.rack);
            if older || own == Some(&place) || before.is_some_and(listed) || !is_usable(&place) {
                return Ok(false);
            }
            if same {
                drop(known);
                self.keep(node, place);
                return Ok(false);
            }
        }
        let record = Bytes::from(place.encode_to_vec());
        let key = format!("{PLACE}{}", node.0);
        self.log.local_put(&key, Some(record)).await?;
        self.keep(node, place);
        Ok(true)
    }

    fn keep(&self, node: NodeId, place: Place) {
        let mut known = self.known.lock();
        let own = &mut known.entry(node).or_default().own;
        if own.as_ref().is_none_or(|before| before.boot <= place.boot) {
            *own = Some(place);
        }
    }

    /// Somebody else says where a node is; whether that is a hint that there was not.
    pub(crate) fn told(&self, place: Place) -> bool {
        let mut all = self.known.lock();
        let Some(known) = all.get_mut(&NodeId(place.node)) else {
            return false;
        };
        let has = known
            .hints()
            .iter()
            .any(|hint| hint.address == place.address);
        let listed = known.listed.as_ref().map_or(0, |(boot, _)| *boot);
        if has || place.boot < listed || !is_usable(&place) {
            return false;
        }
        known.told.push(place);
        known.told.sort_by_key(|place| Reverse(place.boot));
        known.told.truncate(TOLD_MAX);
        true
    }

    /// What a node said itself.
    pub(crate) fn own(&self, node: NodeId) -> Option<Place> {
        self.known.lock().get(&node)?.own.clone()
    }

    /// What all nodes said themselves.
    pub(crate) fn all(&self) -> Vec<Place> {
        let known = self.known.lock();
        known.values().filter_map(|one| one.own.clone()).collect()
    }

    /// Where to look for a node, the best place first, each address once.
    pub(crate) fn hints(&self, node: NodeId) -> Vec<Hint> {
        self.known
            .lock()
            .get(&node)
            .map_or_else(Vec::new, Known::hints)
    }
}

impl Known {
    fn hints(&self) -> Vec<Hint> {
        let hint = |place: &Place, sure| Hint {
            address: place.address.clone(),
            boot: place.boot,
            sure,
        };
        let own = self.own.iter().map(|place| hint(place, true));
        let listed = self.listed.iter().map(|(boot, address)| Hint {
            address: address.clone(),
            boot: *boot,
            sure: true,
        });
        let told = self.told.iter().map(|place| hint(place, false));
        let mut hints: Vec<Hint> = own.chain(listed).chain(told).collect();
        // Stable: of one start the node's own word goes first.
        hints.sort_by_key(|hint| Reverse(hint.boot));
        let mut seen: Vec<Hint> = Vec::with_capacity(hints.len());
        for hint in hints {
            match seen
                .iter_mut()
                .find(|before| before.address == hint.address)
            {
                Some(before) => before.sure |= hint.sure,
                None => seen.push(hint),
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use model::cluster::Node;
    use store::engine::memory::{Disk, Memory};

    use super::*;

    fn place(boot: u64, address: &str) -> Place {
        Place {
            node: 2,
            boot,
            address: address.into(),
            rack: String::new(),
        }
    }

    fn view(boot: u64, address: &str) -> ClusterState {
        ClusterState {
            nodes: vec![Node {
                id: 2,
                address: address.into(),
                address_boot: boot,
                ..Node::default()
            }],
            ..ClusterState::default()
        }
    }

    #[track_caller]
    fn looks_at(known: &Whereabouts, expect: &[&str]) {
        let hints = known.hints(NodeId(2)).into_iter();
        let hints: Vec<String> = hints.map(|hint| hint.address).collect();
        assert_eq!(hints, expect);
    }

    async fn on<T, F: Future<Output = T>>(disk: &Disk, work: impl FnOnce(Whereabouts) -> F) -> T {
        let (log, writer) = Log::open(Arc::new(Memory::open(disk))).expect("a good disk");
        let writer = tokio::spawn(writer);
        let result = work(Whereabouts::open(log).expect("readable")).await;
        writer.await.expect("no panic").expect("no error");
        result
    }

    #[tokio::test]
    async fn the_latest_start_counts_in_whatever_order_the_words_come() {
        let disk = Disk::new();
        on(&disk, async |known: Whereabouts| {
            known.list(&view(0, "joined:1"));
            looks_at(&known, &["joined:1"]);
            assert!(known.said(place(3, "third:1")).await.expect("saved"));
            assert!(!known.said(place(3, "third:1")).await.expect("saved"));
            assert!(!known.said(place(2, "second:1")).await.expect("late"));
            looks_at(&known, &["third:1", "joined:1"]);
            assert!(known.told(place(4, "hint:1")));
            assert!(!known.told(place(4, "hint:1")));
            looks_at(&known, &["hint:1", "third:1", "joined:1"]);
            // The cluster knows of a later start than all of these.
            known.list(&view(5, "fifth:1"));
            looks_at(&known, &["fifth:1"]);
            assert!(!known.said(place(3, "third:1")).await.expect("late"));
            assert!(!known.told(place(4, "hint:1")));
            assert!(!known.said(place(6, "0.0.0.0:0")).await.expect("no address"));
            looks_at(&known, &["fifth:1"]);
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_node_said_itself_is_there_after_a_power_cut_and_hints_are_bounded() {
        let disk = Disk::new();
        on(&disk, async |known: Whereabouts| {
            known.list(&view(0, "joined:1"));
            known.said(place(3, "third:1")).await.expect("saved");
            for n in 0..50_u64 {
                known.told(place(n, &format!("hint-{n}:1")));
            }
            assert_eq!(known.hints(NodeId(2)).len(), 2 + TOLD_MAX);
        })
        .await;
        disk.power_cut(0);
        on(&disk, async |known: Whereabouts| {
            known.list(&view(0, "joined:1"));
            looks_at(&known, &["third:1", "joined:1"]);
            known.list(&ClusterState::default());
            looks_at(&known, &[]);
        })
        .await;
    }
}
