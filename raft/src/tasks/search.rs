//! Nodes that do not find each other any more, since some of them have moved. Whom a node dials, it tells
//! where it is ([`crate::link::hello`]); so it is enough that one of two still finds the other. Where neither
//! does, they ask: the seeds of their configuration, and nodes that they reach. All that is told are hints
//! ([`crate::link::whereabouts`]): a link asks who answers before it is up.
//!
//! What the cluster lists is what its leader has checked: a node's new address is noted once it was
//! reached there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use model::cluster::{Announce, ClusterState};
use model::id::NodeId;
use proto::net::{Channel, Dialer};
use proto::node as wire;
use proto::node::peer_client::PeerClient;
use tokio::time::{sleep, timeout};

use crate::api::Refused;
use crate::link::hello::{self, Hello};
use crate::shared::Shared;

/// For one node to say who it is.
const ASK_MAX: Duration = Duration::from_secs(1);
/// First and longest pause between two rounds of asking while somebody is missing.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Looks for nodes that are not reached.
pub(crate) struct Search {
    node: Arc<Shared>,
    hello: Hello,
    dialer: Dialer,
    seeds: Vec<(String, Channel)>,
    /// Whom of those that are reached to ask next.
    turn: usize,
}

/// What came of a question: where it was asked, and the answer.
type Asked = (String, Option<wire::WhoAnswer>);

impl Search {
    pub(crate) fn new(node: Arc<Shared>, hello: Hello, dialer: Dialer, seeds: &[String]) -> Search {
        let dialed = seeds.iter();
        let dialed = dialed.filter_map(|seed| Some((seed.clone(), dialer.dial(seed).ok()?)));
        Search {
            node,
            hello,
            seeds: dialed.collect(),
            dialer,
            turn: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        let (mut pause, mut missed) = (PAUSE.0, BTreeSet::new());
        loop {
            sleep(pause).await;
            self.check_myself().await;
            let missing = self.missing();
            let news = missing != missed || !missing.is_empty() && self.ask().await;
            pause = match news || missing.is_empty() {
                true => PAUSE.0,
                false => (pause * 2).min(PAUSE.1),
            };
            missed = missing;
        }
    }

    /// The nodes of the cluster that are not reached.
    fn missing(&self) -> BTreeSet<NodeId> {
        let view = self.node.current_view();
        let ids = view.nodes.iter().map(|node| NodeId(node.id));
        let missing = ids.filter(|id| !self.node.peers().reachable(*id));
        missing.collect()
    }

    /// Asks seeds that lead to nobody who is reached, and one who is; whether there is a new hint.
    async fn ask(&mut self) -> bool {
        let links = self.node.peers().all();
        let up: Vec<_> = links.iter().filter(|link| link.is_up()).collect();
        let mut asked = Vec::new();
        if let Some(link) = up.get(self.turn.checked_rem(up.len()).unwrap_or(0)) {
            asked.push((link.address(), link.channel()));
        }
        self.turn = self.turn.wrapping_add(1);
        let linked: Vec<String> = up.iter().map(|link| link.address()).collect();
        let seeds = self.seeds.iter().filter(|(seed, _)| !linked.contains(seed));
        asked.extend(seeds.cloned());
        let asks = asked.into_iter().map(|(at, channel)| self.who(at, channel));
        let mut news = false;
        for (at, answer) in join_all(asks).await {
            let Some(answer) = answer else { continue };
            for hint in hints(&at, answer) {
                let node = NodeId(hint.node);
                if self.node.peers().reachable(node) || !self.node.peers().whereabouts().told(hint)
                {
                    continue;
                }
                news = true;
                if let Some(link) = self.node.peers().link(node) {
                    link.look_again();
                }
            }
        }
        news
    }

    async fn who(&self, at: String, channel: Channel) -> Asked {
        let request = self.hello.request(wire::WhoRequest {});
        let mut client = PeerClient::new(channel);
        match timeout(ASK_MAX, client.who(request)).await {
            Ok(Ok(answer)) => return (at, Some(answer.into_inner())),
            Ok(Err(status)) if hello::is_removal(&status) => {
                let (removed, why) = (true, status.message().to_owned());
                self.node.refused(Refused { removed, why }).await;
            }
            Ok(Err(_)) | Err(_) => {}
        }
        (at, None)
    }

    /// This node's own address is noted once it was seen to lead here.
    async fn check_myself(&self) {
        let place = self.node.place();
        let view = self.node.current_view();
        let Some(listed) = view.node(NodeId(place.node)) else {
            return;
        };
        let rack = listed.locality.as_ref().map_or("", |listed| &listed.rack);
        let here = listed.address == place.address;
        let whereabouts = self.node.peers().whereabouts();
        if here && rack == place.rack || whereabouts.own(self.node.id()) == Some(place.clone()) {
            return;
        }
        if here {
            // Only the disk can fail here, which stops the node by itself.
            let _ = whereabouts.said(place).await;
            return;
        }
        let Ok(channel) = self.dialer.dial(&place.address) else {
            return;
        };
        let (_, answer) = self.who(place.address.clone(), channel).await;
        let here = answer.and_then(|answer| answer.here);
        if here.is_some_and(|here| here.node == place.node && here.boot == place.boot) {
            let _ = whereabouts.said(place).await;
        }
    }
}

/// What an answer says of places. Who answered is to be found where it did, whatever it calls that.
fn hints(at: &str, answer: wire::WhoAnswer) -> Vec<wire::Place> {
    let mut hints = answer.others;
    if let Some(here) = answer.here {
        hints.push(wire::Place {
            address: at.to_owned(),
            ..here.clone()
        });
        hints.push(here);
    }
    hints
}

/// The first node that is reached at another address than is listed, by its own word, or says another
/// rack. Nothing while the meta shard has a member whose version may not know what that is.
pub(crate) fn to_announce(
    node: &Shared,
    view: &ClusterState,
    voters: &BTreeSet<u64>,
) -> Option<Announce> {
    let peers = node.peers();
    let own = |id: u64| peers.whereabouts().own(NodeId(id));
    let me = node.id().0;
    let mut others = voters.iter().filter(|id| **id != me);
    if !others.all(|id| own(*id).is_some()) {
        return None;
    }
    let mut said = view.nodes.iter().filter_map(|listed| {
        let said = own(listed.id)?;
        let rack = listed.locality.as_ref().map_or("", |place| &place.rack);
        let same = said.address == listed.address && said.rack == rack;
        let there = peers.address(NodeId(listed.id)) == Some(said.address.clone());
        let fit = !same && there && peers.reachable(NodeId(listed.id));
        (fit && said.boot > listed.address_boot).then(|| Announce {
            node: listed.id,
            disk_id: listed.disk_id.clone(),
            boot: said.boot,
            address: said.address,
            rack: said.rack,
        })
    });
    said.next()
}
