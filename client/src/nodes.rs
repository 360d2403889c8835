//! The nodes that the client knows, how each of them is doing, and which to ask next.
//!
//! Calls go to the nearest data center, by what a round to it takes, and spread over its nodes.
//!
//! A node that does not answer is *lost*: no call goes to it while another node is left, until a
//! probe in the background succeeds, so users' calls do not pay for finding out. Next to a lost
//! node, the others of its data center are asked last for a while, since fires take whole ones.

mod following;
mod lease;
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::limits;
use parking_lot::Mutex;
use proto::net::Channel;
use proto::net::Dialer;
use proto::v1;
use proto::v1::admin_client::AdminClient;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

pub(crate) use self::following::Following;
pub(crate) use self::lease::{Lease, Tried};
use self::node::{Node, best, rounds};
use crate::error::Error;
use crate::options::{FOLLOWED_QUIET, LATENCY_VALID, PROBE_INTERVAL_MAX, PROBE_TIMEOUT};
use crate::random::Random;

/// How a node has been doing, as seen by this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHealth {
    /// host:port.
    pub address: String,
    /// Its number; 0 while it has not been learnt.
    pub node_id: u64,
    /// Its name; empty while it has not been learnt.
    pub name: String,
    /// Its data center; empty while it has not been learnt.
    pub dc: String,
    /// It did not answer when last asked.
    pub lost: bool,
    /// Calls and streams that are using it.
    pub active: u32,
    /// A running mean over its unary answers, while recent.
    pub latency: Option<Duration>,
}

pub(crate) struct Nodes {
    dialer: Dialer,
    random: Arc<Random>,
    discover: bool,
    /// Ordered by address.
    list: Mutex<Vec<Node>>,
}

impl Nodes {
    pub(crate) fn new(
        endpoints: &[String],
        dialer: Dialer,
        random: Arc<Random>,
        discover: bool,
    ) -> Result<Arc<Nodes>, Error> {
        let nodes = Nodes {
            dialer,
            random,
            discover,
            list: Mutex::new(Vec::new()),
        };
        for endpoint in endpoints {
            nodes
                .add(endpoint, 0, "", "")
                .map_err(|error| Error::Config(error.to_string()))?;
        }
        if nodes.list.lock().is_empty() {
            return Err(Error::Config(
                "no endpoint was given, host:port is needed".to_owned(),
            ));
        }
        Ok(Arc::new(nodes))
    }

    /// How its connections are opened.
    pub(crate) fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    fn add(&self, address: &str, id: u64, name: &str, dc: &str) -> std::io::Result<()> {
        let mut list = self.list.lock();
        let Err(mut at) = list.binary_search_by(|node| (*node.address).cmp(address)) else {
            return Ok(());
        };
        if list.len() >= limits::NODES_MAX {
            // Places that nobody answers from any more make room for those of nodes that are known.
            let left = |node: &Node| node.lost.is_some() && node.id == 0 && node.active == 0;
            let Some(left) = list.iter().position(left).filter(|_| id != 0) else {
                return Ok(());
            };
            list.remove(left);
            at -= usize::from(left < at);
        }
        let node = Node {
            address: address.into(),
            id,
            name: name.to_owned(),
            dc: dc.into(),
            channel: self.dialer.dial(address)?,
            rank: self.random.rank(),
            active: 0,
            lost: None,
            refusals: 0,
            leaving: None,
            answered: None,
            latency: None,
            round: None,
            nearness: None,
            followed: 0,
            silences: watch::Sender::new(()),
        };
        list.insert(at, node);
        Ok(())
    }

    fn with(&self, address: &str, change: impl FnOnce(&mut Node)) {
        let mut list = self.list.lock();
        if let Ok(at) = list.binary_search_by(|node| (*node.address).cmp(address)) {
            change(&mut list[at]);
        }
    }

    /// What it takes to be answered by a node itself, if that is known.
    pub(crate) fn round(&self, address: &str) -> Option<Duration> {
        let mut round = None;
        self.with(address, |node| round = node.round);
        round
    }

    /// A node has answered by itself after `round`.
    pub(crate) fn note_round(&self, address: &str, round: Duration) {
        self.with(address, |node| {
            node.round = Some(node.round.map_or(round, |mean| (mean * 7 + round) / 8));
        });
    }

    /// As [`Nodes::note_round`], where the node itself said so. Longer rounds count little by little.
    pub(crate) fn note_nearness(&self, address: &str, round: Duration) {
        self.with(address, |node| {
            let grown = |near: Duration| near + near / 2 + Duration::from_millis(1);
            node.nearness = Some(node.nearness.map_or(round, |near| round.min(grown(near))));
        });
    }

    /// The best node for a call that has tried some.
    pub(crate) fn choose(self: &Arc<Self>, tried: &Tried) -> Lease {
        let mut list = self.list.lock();
        #[allow(
            clippy::expect_used,
            reason = "the list is never empty: `new` refuses that, and only a full one loses any"
        )]
        let best = best(&list, tried, Instant::now()).expect("a client knows at least one node");
        self.lease(&mut list[best])
    }

    fn lease(self: &Arc<Self>, node: &mut Node) -> Lease {
        node.active += 1;
        Lease {
            nodes: self.clone(),
            address: node.address.clone(),
            dc: node.dc.clone(),
            channel: node.channel.clone(),
        }
    }

    /// Whether the node to choose now is nearer by far than the one in `lease`.
    pub(crate) fn has_nearer(&self, lease: &Lease) -> bool {
        let list = self.list.lock();
        let rounds = rounds(&list);
        let used = list.iter().find(|node| node.address == lease.address);
        let best = best(&list, &Tried::default(), Instant::now()).map(|at| &list[at]);
        used.zip(best)
            .is_some_and(|(used, best)| best.distance(&rounds) < used.distance(&rounds))
    }

    /// Whether a node is left that is neither lost nor tried: moving to it needs no wait.
    pub(crate) fn has_fresh(&self, tried: &Tried) -> bool {
        self.list
            .lock()
            .iter()
            .any(|node| node.lost.is_none() && !tried.addresses.contains(&node.address))
    }

    /// The channel of one node, which becomes known by this.
    pub(crate) fn channel(&self, address: &str) -> Result<Channel, Error> {
        let mut channel = None;
        self.with(address, |node| channel = Some(node.channel.clone()));
        match channel {
            Some(channel) => Ok(channel),
            None => self
                .dialer
                .dial(address)
                .map_err(|error| Error::Config(error.to_string())),
        }
    }

    pub(crate) fn health(&self) -> Vec<NodeHealth> {
        let now = Instant::now();
        self.list
            .lock()
            .iter()
            .map(|node| NodeHealth {
                address: node.address.to_string(),
                node_id: node.id,
                name: node.name.clone(),
                dc: node.dc.to_string(),
                lost: node.lost.is_some(),
                active: node.active,
                latency: node
                    .latency
                    .filter(|(_, at)| now - *at < LATENCY_VALID)
                    .map(|(mean, _)| mean),
            })
            .collect()
    }

    /// Takes in what the node at `asked` says about the cluster.
    pub(crate) fn learn(&self, asked: &str, status: &v1::GetStatusResponse) {
        let now = Instant::now();
        let describe = |node: &mut Node, from: &v1::NodeStatus| {
            if from.draining {
                node.leaving = Some(now);
            }
            node.id = from.node_id;
            node.name.clone_from(&from.name);
            if *node.dc != *from.dc {
                node.dc = from.dc.as_str().into();
            }
        };
        for known in &status.nodes {
            // An endpoint may be another name for the node's own address.
            if known.node_id == status.node_id {
                self.with(asked, |node| describe(node, known));
            }
            if self.is_elsewhere(known) {
                continue;
            }
            if self.discover
                && let Err(error) = self.add(&known.address, known.node_id, &known.name, &known.dc)
            {
                tracing::warn!(node = known.name, %error, "a node of the cluster has no usable address");
            }
            self.with(&known.address, |node| describe(node, known));
        }
    }

    /// Whether a node is known by another name than its address. Who is lost there has moved: it is
    /// not that node any more.
    fn is_elsewhere(&self, known: &v1::NodeStatus) -> bool {
        let mut elsewhere = false;
        for node in self.list.lock().iter_mut() {
            if node.id != known.node_id || node.id == 0 || *node.address == *known.address {
                continue;
            }
            match node.lost {
                Some(_) => node.id = 0,
                None => elsewhere = true,
            }
        }
        elsewhere
    }

    /// The nodes that streams are followed at, and that have not answered lately.
    pub(crate) fn quiet(&self, now: Instant) -> Vec<(Arc<str>, Channel)> {
        let list = self.list.lock();
        let heard = |node: &Node| node.answered.is_some_and(|at| now - at < FOLLOWED_QUIET);
        let quiet = list.iter().filter(|node| node.followed > 0 && !heard(node));
        quiet
            .map(|node| (node.address.clone(), node.channel.clone()))
            .collect()
    }

    /// A node does not answer: no call goes there, and who follows something there goes elsewhere.
    pub(crate) fn fell_silent(&self, address: &str) {
        let now = Instant::now();
        self.with(address, |node| {
            node.lose(now);
            node.silences.send_replace(());
        });
    }

    /// The lost nodes that are to be asked again now.
    pub(crate) fn due_for_a_probe(&self, now: Instant) -> Vec<(Arc<str>, Channel)> {
        let list = self.list.lock();
        let due = list
            .iter()
            .filter(|node| node.lost.is_some_and(|lost| lost.next_probe <= now));
        due.map(|node| (node.address.clone(), node.channel.clone()))
            .collect()
    }

    /// A node of each data center but `dc`, the same ones each time: their connections are kept
    /// open, so that a call which has to go elsewhere need not wait for one, and it is known how far
    /// each data center is.
    pub(crate) fn spares(&self, dc: &str) -> Vec<(Arc<str>, Channel)> {
        let list = self.list.lock();
        let mut spares: BTreeMap<&str, &Node> = BTreeMap::new();
        let fit = |node: &&Node| node.lost.is_none() && !node.dc.is_empty() && *node.dc != *dc;
        for node in list.iter().filter(fit) {
            let best = spares.entry(&node.dc).or_insert(node);
            if node.rank < best.rank {
                *best = node;
            }
        }
        let spares = spares.into_values();
        spares
            .map(|node| (node.address.clone(), node.channel.clone()))
            .collect()
    }

    /// Asks one node for the cluster's status, and learns from it; whether it answered.
    pub(crate) async fn probe(&self, address: &str, channel: Channel) -> bool {
        let mut admin =
            AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
        let answer = timeout(
            PROBE_TIMEOUT,
            admin.get_status(v1::GetStatusRequest::default()),
        )
        .await;
        let now = Instant::now();
        if let Ok(Ok(status)) = answer {
            self.with(address, |node| {
                node.lost = None;
                node.refusals = 0;
                node.answered = Some(now);
            });
            self.learn(address, status.get_ref());
            return true;
        }
        self.with(address, |node| match &mut node.lost {
            Some(lost) => {
                lost.interval = (lost.interval * 2).min(PROBE_INTERVAL_MAX);
                lost.next_probe = now + lost.interval;
            }
            None => node.lose(now),
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use proto::net::Tcp;

    use super::*;
    use crate::error::Fault;
    use crate::options::{DC_SUSPECT, LEAVING_VALID};

    fn nodes() -> Arc<Nodes> {
        let endpoints = ["a:1".to_owned(), "b:1".to_owned()];
        let random = Arc::new(Random::new(Some(3)));
        let nodes = Nodes::new(&endpoints, Arc::new(Tcp), random, true).unwrap();
        let node = |node_id, address: &str, dc: &str| v1::NodeStatus {
            node_id,
            name: format!("{dc}-{node_id}"),
            address: address.to_owned(),
            dc: dc.to_owned(),
            ..v1::NodeStatus::default()
        };
        let status = v1::GetStatusResponse {
            node_id: 1,
            nodes: vec![
                node(1, "a:1", "seoul"),
                node(2, "b:1", "busan"),
                node(3, "c:1", "seoul"),
                node(4, "d:1", "tokyo"),
            ],
            ..v1::GetStatusResponse::default()
        };
        nodes.learn("a:1", &status);
        nodes
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_a_node_of_another_data_center_is_next() {
        let nodes = nodes();
        let mut tried = Tried::default();
        for _ in 0..3 {
            let first = nodes.choose(&tried);
            first.failed(Fault::Refused);
            tried.failed(&first);
            let second = nodes.choose(&tried);
            assert_ne!(first.dc, second.dc);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearest_data_center_is_asked_first_and_those_at_hand_share() {
        let nodes = nodes();
        for (address, ms) in [("a:1", 2), ("b:1", 8), ("d:1", 31)] {
            nodes.note_nearness(address, Duration::from_millis(ms));
        }
        nodes.note_nearness("a:1", Duration::from_millis(300));
        let leases: Vec<Lease> = (0..9).map(|_| nodes.choose(&Tried::default())).collect();
        let on = |address: &str| leases.iter().filter(|one| &*one.address == address).count();
        assert_eq!([on("a:1"), on("b:1"), on("c:1"), on("d:1")], [3, 3, 3, 0]);
        let far = nodes.lease(&mut nodes.list.lock()[3]);
        assert!(nodes.has_nearer(&far) && !nodes.has_nearer(&leases[0]));
        for address in ["a:1", "b:1", "c:1"] {
            nodes.with(address, |node| node.lose(Instant::now()));
        }
        assert_eq!(&*nodes.choose(&Tried::default()).address, "d:1");
        assert!(!nodes.has_nearer(&far), "what is nearer is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_node_is_asked_last_and_its_data_center_next_to_last() {
        let nodes = nodes();
        nodes.with("a:1", |node| node.lose(Instant::now()));
        let leases: Vec<Lease> = (0..20).map(|_| nodes.choose(&Tried::default())).collect();
        assert!(leases.iter().all(|lease| &*lease.dc != "seoul"));
        tokio::time::advance(DC_SUSPECT).await;
        let again: Vec<Lease> = (0..20).map(|_| nodes.choose(&Tried::default())).collect();
        assert!(again.iter().any(|lease| &*lease.address == "c:1"));
        assert!(again.iter().all(|lease| &*lease.address != "a:1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_goes_away_is_asked_last_until_it_says_otherwise_or_some_time_has_passed() {
        let nodes = nodes();
        nodes.choose(&Tried::default()).failed(Fault::Leaving);
        let leaving = nodes.list.lock().iter().position(|n| n.leaving.is_some());
        let address = nodes.list.lock()[leaving.unwrap()].address.clone();
        let spread = |nodes: &Arc<Nodes>| -> Vec<Arc<str>> {
            let leases: Vec<Lease> = (0..8).map(|_| nodes.choose(&Tried::default())).collect();
            leases.iter().map(|lease| lease.address.clone()).collect()
        };
        assert!(!spread(&nodes).contains(&address));
        tokio::time::advance(LEAVING_VALID).await;
        assert!(spread(&nodes).contains(&address));
    }

    #[tokio::test(start_paused = true)]
    async fn leases_spread_over_equal_nodes() {
        let nodes = nodes();
        let _leases: Vec<Lease> = (0..8).map(|_| nodes.choose(&Tried::default())).collect();
        assert!(nodes.health().iter().all(|node| node.active == 2));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused() {
        let random = || Arc::new(Random::new(Some(1)));
        let wrong = Nodes::new(&["nowhere".to_owned()], Arc::new(Tcp), random(), true);
        assert!(matches!(wrong.err(), Some(Error::Config(text)) if text.contains("host:port")));
        assert!(matches!(
            Nodes::new(&[], Arc::new(Tcp), random(), true),
            Err(Error::Config(_))
        ));
    }
}
