//! Who leads, told by who has won: a new leader says so to every node, so that calls that wait
//! anywhere go to it at once instead of finding it by trial; and all leaders to a node that is back,
//! which knows only those of its own shards.

use std::sync::Arc;

use model::id::{NodeId, ShardId};
use model::limits;
use openraft::async_runtime::watch::WatchReceiver;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::adapter::told;
use crate::api::{ElectionCause, Event};
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::election;

/// A shard that this node leads, and since which term.
type Won = (ShardId, u64);

/// Watches who leads one shard, until its group ends; what this node wins goes to `won`.
pub(crate) async fn watch(node: Arc<Shared>, group: Arc<Group>, won: mpsc::UnboundedSender<Won>) {
    let mut metrics = group.raft.server_metrics();
    let (shard, leaders) = (group.shard, group.leadership.leaders.clone());
    let sleep = group.leadership.sleep.clone();
    drop(group);
    let mut before = None;
    let mut changes = Changes::default();
    loop {
        let (term, leader, sight) = {
            let now = metrics.borrow_and_update();
            let of = now.vote.leader_id();
            let sight = Sight {
                vote: (of.term, NodeId(of.voted_for)),
                leader: now.current_leader.map(NodeId),
                stands: now.state == openraft::ServerState::Candidate,
            };
            (of.term, sight.leader, sight)
        };
        changes.see(&node, shard, sight);
        let now = (term, leader);
        if before.replace(now).is_some_and(|before| before != now) {
            sleep.begin_anew();
        }
        let news = leader.filter(|one| leaders.lock().see(shard, node.id(), term, *one));
        if let Some(leader) = news {
            node.heard_of_leader(shard, leader);
            let own = leader == node.id();
            let event = Event::Led {
                shard,
                term,
                leader,
                own,
            };
            node.note(event);
            if leader == node.id() {
                // Nobody listens only while the node is stopping.
                let _ = won.send((shard, term));
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// What a replica shows of its vote and its leader.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sight {
    vote: (u64, NodeId),
    leader: Option<NodeId>,
    stands: bool,
}

/// What was seen of a replica before, so that what is news can be told.
#[derive(Default)]
struct Changes {
    before: Option<Sight>,
    /// Who led last.
    led: Option<NodeId>,
    /// An election by openraft's timer or by a hand-over: why, and since when.
    stands: Option<(ElectionCause, Instant)>,
}

impl Changes {
    fn see(&mut self, node: &Shared, shard: ShardId, now: Sight) {
        let Some(before) = self.before.replace(now) else {
            self.led = now.leader;
            return;
        };
        let (term, candidate) = now.vote;
        if before.vote != now.vote {
            node.note(Event::Voted {
                shard,
                term,
                candidate,
            });
        }
        if before.leader.is_some() && now.leader.is_none() {
            node.note(Event::Leaderless { shard, term });
        }
        self.elections(node, shard, now);
        self.led = now.leader.or(self.led);
    }

    /// Elections that this node did not begin by a verdict of its own.
    fn elections(&mut self, node: &Shared, shard: ShardId, now: Sight) {
        let Some(group) = node.group(shard) else {
            return;
        };
        let ours = node.electing.lock().contains(&shard);
        if now.stands && self.stands.is_none() && !ours {
            let cause = match group.handing_over() {
                true => ElectionCause::HandOver,
                false => ElectionCause::Timer,
            };
            election::note_began(node, &group, self.led, cause);
            self.stands = Some((cause, Instant::now()));
        }
        let over = now.leader.is_some() || !now.stands;
        if let Some((cause, began)) = self.stands.take_if(|_| over) {
            let of = (self.led, cause);
            election::note_ended(node, &group, of, began.elapsed(), now.leader);
        }
    }
}

fn leads(won: impl Iterator<Item = Won>) -> wire::Leads {
    let led = won.map(|(shard, term)| wire::Led {
        shard: shard.0,
        term,
    });
    wire::Leads { led: led.collect() }
}

/// Tells all nodes what this one has won, all shards of a wave together.
pub(crate) async fn tell(node: Arc<Shared>, mut won: mpsc::UnboundedReceiver<Won>) {
    let mut shards = Vec::new();
    while won
        .recv_many(&mut shards, limits::SHARDS_MAX as usize)
        .await
        > 0
    {
        let leads = leads(shards.drain(..));
        for link in node.peers().all() {
            link.tell(Body::Leads(leads.clone()));
        }
    }
}

/// Tells `peer` that this node leads `led`.
pub(crate) fn tell_all(node: &Shared, peer: NodeId, led: &[Arc<Group>]) {
    let won = led.iter().map(|group| {
        let term = told::server(&group.raft).vote.leader_id().term;
        (group.shard, term)
    });
    if let Some(link) = node.peers().link(peer).filter(|_| !led.is_empty()) {
        link.tell(Body::Leads(leads(won)));
    }
}

/// What `from` tells of its shards.
pub(crate) fn hear(node: &Shared, from: NodeId, leads: &wire::Leads) {
    // No more than there may be: what is heard is kept.
    for led in leads
        .led
        .iter()
        .filter(|led| led.shard <= limits::SHARDS_MAX)
    {
        node.heard_of_leader(ShardId(led.shard), from);
    }
}
