//! What should move: replicas of nodes that are lost or leaving, and those of a data center that
//! came to hold a majority for want of others.
//!
//! Given what the meta shard knows, who has been gone for how long, and the bounds, it says which
//! moves to begin, which to take back, and of every replica that is not as it should be, why.
//! No move leaves a shard with fewer replicas that are up than a quorum: where there is no quorum,
//! nothing moves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{counts, dc_max, fits, held_by, majority_in, meta_wanted};
use crate::cluster::{ClusterState, Move, MoveStep, Node, Shard};
use crate::id::{NodeId, ShardId};
use crate::limits;

/// Who cannot be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// For how long each node that cannot be reached has been gone, ms.
    pub gone_ms: BTreeMap<u64, u64>,
    /// Nodes that say that their replica of a shard is broken.
    pub broken: BTreeSet<(u64, ShardId)>,
}

/// When and how fast replicas are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A node that is gone for this long is lost.
    pub replace_after_ms: u64,
    /// Moves at once.
    pub moves_max: usize,
    /// Moves at once to one node.
    pub moves_to_node_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            replace_after_ms: limits::REPLACE_AFTER_MS,
            moves_max: limits::MOVES_PLANNED_MAX,
            moves_to_node_max: limits::MOVES_TO_NODE_MAX,
        }
    }
}

/// What to do now, and what cannot be done yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementPlan {
    /// Moves to begin, the most endangered shards first.
    pub begin: Vec<Move>,
    /// Moves whose new node was lost: they are taken back.
    pub drop: Vec<MoveStep>,
    /// Every replica that is not where it should be or not up, by shard; the meta shard's first.
    pub unrestored: Vec<Unrestored>,
}

/// A replica that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrestored {
    /// The shard.
    pub shard: ShardId,
    /// The node that the map says holds it.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Why a replica is not restored (yet). Displayed for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its node may come back.
    Gone {
        /// For how long it has been gone.
        for_ms: u64,
        /// How long is waited.
        of_ms: u64,
    },
    /// It is broken, and is rebuilt from the others.
    Broken,
    /// Another node is getting it.
    Moving {
        /// The node's name.
        to: String,
        /// Its voters are being changed.
        changing: bool,
    },
    /// The node that is getting it cannot be reached.
    Unreachable {
        /// The node's name.
        to: String,
        /// For how long it has been gone.
        for_ms: u64,
    },
    /// The meta shard goes on without it.
    LetGo,
    /// Others come first.
    Turn,
    /// Too few of its replicas are up for anything to be changed.
    NoQuorum {
        /// Replicas that are up.
        up: usize,
        /// Replicas.
        of: usize,
    },
    /// There is nowhere to put it.
    NoNode {
        /// Names of nodes that could have it, were they not gone.
        gone: Vec<String>,
    },
    /// A data center holds a majority, and no other has a node for it.
    Degraded {
        /// The data center.
        dc: String,
    },
}

impl fmt::Display for Unrestored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unrestored {
            shard, name, why, ..
        } = self;
        let shard = shard.told();
        match why {
            Why::Gone { for_ms, of_ms } => write!(
                f,
                "waiting: {name} has been gone {} of {}",
                Span(*for_ms),
                Span(*of_ms)
            ),
            Why::Broken => write!(
                f,
                "the replica of {name} is broken, and is rebuilt from the others"
            ),
            Why::Moving {
                to,
                changing: false,
            } => write!(f, "{to} is learning it in the place of {name}"),
            Why::Moving { to, changing: true } => write!(f, "{to} takes the place of {name}"),
            Why::Unreachable { to, for_ms } => write!(
                f,
                "waiting: {to}, which is to take the place of {name}, has been gone for {}",
                Span(*for_ms)
            ),
            Why::LetGo => write!(f, "{shard} goes on without {name}"),
            Why::Turn => write!(f, "{name}: other replicas are restored first"),
            Why::NoQuorum { up, of } => write!(
                f,
                "{name}: {up} of {of} replicas of {shard} are up, and no change is made without a \
                 quorum"
            ),
            Why::NoNode { gone } => {
                write!(
                    f,
                    "{name}: no node is up that could have its replica of {shard}"
                )?;
                match gone.is_empty() {
                    true => f.write_str("; add a node"),
                    false => write!(f, "; gone now: {}", gone.join(", ")),
                }
            }
            Why::Degraded { dc } => write!(
                f,
                "degraded: data center {dc} holds a majority of {shard}, and no other has a node \
                 for it; what is acknowledged may be in {dc} alone"
            ),
        }
    }
}

/// A time for people: `45 s`, `3 min`.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / 1_000 {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds => write!(f, "{} min", seconds / 60),
        }
    }
}

/// What to do now. The same question has the same answer; once its moves are begun they are not
/// in it any more.
pub fn plan(state: &ClusterState, health: &Health, policy: &Policy) -> PlacementPlan {
    let mut planner = Planner::new(state, health, policy);
    planner.meta();
    let mut waiting: Vec<&Shard> = Vec::new();
    for shard in &state.shards {
        match state.move_of(ShardId(shard.id)) {
            Some(going) => planner.going(shard, going),
            None => waiting.push(shard),
        }
    }
    // The most endangered first; among equals in the order of their slots.
    waiting.sort_by_key(|shard| std::cmp::Reverse(planner.lost_of(shard).count()));
    for shard in waiting {
        planner.settled(shard);
    }
    let mut plan = planner.plan;
    plan.unrestored.sort_by_key(|one| (one.shard, one.node));
    plan
}

struct Planner<'s> {
    state: &'s ClusterState,
    health: &'s Health,
    policy: &'s Policy,
    /// Nodes that are not lost and not leaving.
    left: Vec<u64>,
    /// Replicas of each node, with those it is getting.
    load: BTreeMap<u64, usize>,
    /// Moves to each node.
    inbound: BTreeMap<u64, usize>,
    plan: PlacementPlan,
}

/// Where a replica can go.
enum Place {
    To(u64),
    Turn,
    None,
}

impl<'s> Planner<'s> {
    fn new(state: &'s ClusterState, health: &'s Health, policy: &'s Policy) -> Planner<'s> {
        let ids = || state.nodes.iter().map(|node| node.id);
        let mut load: BTreeMap<u64, usize> = ids().map(|id| (id, 0)).collect();
        let mut inbound = BTreeMap::new();
        for replica in state.shards.iter().flat_map(|shard| &shard.replicas) {
            *load.entry(*replica).or_default() += 1;
        }
        for going in &state.moves {
            *load.entry(going.to).or_default() += 1;
            *inbound.entry(going.to).or_default() += 1;
        }
        let mut planner = Planner {
            state,
            health,
            policy,
            left: Vec::new(),
            load,
            inbound,
            plan: PlacementPlan::default(),
        };
        planner.left = ids().filter(|id| !planner.lost(*id)).collect();
        planner
    }

    fn up(&self, node: u64) -> bool {
        self.state.node(NodeId(node)).is_some() && !self.health.gone_ms.contains_key(&node)
    }

    fn broken(&self, node: u64, shard: ShardId) -> bool {
        self.health.broken.contains(&(node, shard))
    }

    /// Whether its replicas are to be elsewhere.
    fn lost(&self, node: u64) -> bool {
        let gone = self.health.gone_ms.get(&node);
        self.state.leaving.contains(&node)
            || self.state.node(NodeId(node)).is_none()
            || gone.is_some_and(|gone| *gone >= self.policy.replace_after_ms)
    }

    fn lost_of<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = u64> + 'a {
        let replicas = shard.replicas.iter().copied();
        replicas.filter(|node| self.lost(*node))
    }

    fn name(&self, node: u64) -> String {
        let known = self.state.node(NodeId(node));
        known.map_or_else(|| format!("n{node}"), |node| node.name.clone())
    }

    fn tell(&mut self, shard: ShardId, node: u64, why: Why) {
        let name = self.name(node);
        self.plan.unrestored.push(Unrestored {
            shard,
            node,
            name,
            why,
        });
    }

    /// A shard that is in a move.
    fn going(&mut self, shard: &Shard, going: &Move) {
        let id = ShardId(shard.id);
        // A replica that has not learned everything yet never will, whatever was allowed.
        if self.lost(going.to) {
            self.plan.drop.push(MoveStep {
                lost: going.changing,
                ..going.step()
            });
        }
        let mut voters = vec![shard.replicas.clone()];
        if going.changing {
            voters.push(going.after(&shard.replicas));
        }
        let to = self.name(going.to);
        let why = match voters.iter().find_map(|voters| self.no_quorum(id, voters)) {
            Some(none) => none,
            None => match self.health.gone_ms.get(&going.to) {
                Some(&for_ms) => Why::Unreachable { to, for_ms },
                None => Why::Moving {
                    to,
                    changing: going.changing,
                },
            },
        };
        self.tell(id, going.from, why);
        self.tell_gone(id, &shard.replicas, Some(going.from));
    }

    /// The meta shard, whose own leader changes its members.
    fn meta(&mut self) {
        let (state, id) = (self.state, ShardId::META);
        let members = &state.meta_replicas;
        self.tell_gone(id, members, None);
        let lost = members.iter().copied().filter(|node| self.lost(*node));
        let lost: Vec<u64> = lost.collect();
        if lost.is_empty() {
            return;
        }
        if let Some(none) = self.no_quorum(id, members) {
            lost.iter()
                .for_each(|node| self.tell(id, *node, none.clone()));
            return;
        }
        let may = |node: &&Node| self.left.contains(&node.id) && self.up(node.id);
        let may: Vec<Node> = state.nodes.iter().filter(may).cloned().collect();
        let wanted = meta_wanted(state, &may, members);
        let mut new = wanted.iter().filter(|node| !members.contains(node));
        let could = |node: &&u64| !members.contains(node) && !self.up(**node);
        let gone = self.left.iter().filter(could);
        let gone: Vec<String> = gone.map(|node| self.name(*node)).collect();
        for node in lost {
            let why = match (wanted.contains(&node), new.next()) {
                (true, _) => Why::NoNode { gone: gone.clone() },
                (false, None) => Why::LetGo,
                (false, Some(to)) => Why::Moving {
                    to: self.name(*to),
                    changing: false,
                },
            };
            self.tell(id, node, why);
        }
    }

    /// That too few of these voters are up, if so.
    fn no_quorum(&self, shard: ShardId, voters: &[u64]) -> Option<Why> {
        let well = |node: &&u64| self.up(**node) && !self.broken(**node, shard);
        let (up, of) = (voters.iter().filter(well).count(), voters.len());
        (up < of / 2 + 1).then_some(Why::NoQuorum { up, of })
    }

    /// Tells of the replicas that are gone and may come back, and of those that are broken.
    fn tell_gone(&mut self, shard: ShardId, replicas: &[u64], but: Option<u64>) {
        for &node in replicas {
            if let Some(&for_ms) = self.health.gone_ms.get(&node)
                && !self.lost(node)
                && Some(node) != but
            {
                let of_ms = self.policy.replace_after_ms;
                self.tell(shard, node, Why::Gone { for_ms, of_ms });
            } else if self.up(node) && self.broken(node, shard) && Some(node) != but {
                self.tell(shard, node, Why::Broken);
            }
        }
    }

    /// A shard that is in no move.
    fn settled(&mut self, shard: &Shard) {
        let id = ShardId(shard.id);
        self.tell_gone(id, &shard.replicas, None);
        let lost: Vec<u64> = self.lost_of(shard).collect();
        if lost.is_empty() {
            let well = |node: &u64| self.up(*node) && !self.broken(*node, id);
            if shard.replicas.iter().all(well) {
                self.spread(shard);
            }
            return;
        }
        let no_quorum = self.no_quorum(id, &shard.replicas);
        for (nth, &node) in lost.iter().enumerate() {
            if let Some(none) = &no_quorum {
                self.tell(id, node, none.clone());
            } else if nth > 0 {
                self.tell(id, node, Why::Turn);
            } else {
                self.replace(shard, node);
            }
        }
    }

    /// Replaces one replica that is lost.
    fn replace(&mut self, shard: &Shard, from: u64) {
        let mut cap = dc_max(shard.replicas.len());
        // Where too few data centers are left: better beside another than not at all.
        let crowded = !fits(self.state, &self.left, shard.replicas.len());
        let mut place = self.place(shard, from, cap);
        if crowded && matches!(place, Place::None) {
            cap = usize::MAX;
            place = self.place(shard, from, cap);
        }
        let why = match place {
            Place::To(to) => return self.begin(shard, from, to, cap == usize::MAX),
            Place::Turn => Why::Turn,
            Place::None => Why::NoNode {
                gone: self
                    .could(shard, from, cap)
                    .map(|node| self.name(node))
                    .collect(),
            },
        };
        self.tell(ShardId(shard.id), from, why);
    }

    /// Takes a replica out of a data center that holds a majority, if another can have it.
    fn spread(&mut self, shard: &Shard) {
        let Some(dc) = majority_in(self.state, &shard.replicas) else {
            return;
        };
        let inside = |node: &&u64| self.state.dc_of(**node) == dc;
        let inside = shard.replicas.iter().filter(inside);
        // Not the preferred leader, if another can go.
        let heaviest = |node: &&u64| {
            let first = shard.replicas.first() == Some(*node);
            (!first, self.load.get(*node).copied(), **node)
        };
        let Some(&from) = inside.max_by_key(heaviest) else {
            return;
        };
        match self.place(shard, from, dc_max(shard.replicas.len())) {
            Place::To(to) => self.begin(shard, from, to, false),
            Place::Turn => self.tell(ShardId(shard.id), from, Why::Turn),
            Place::None => {
                let dc = dc.to_owned();
                self.tell(ShardId(shard.id), from, Why::Degraded { dc });
            }
        }
    }

    /// The nodes that could have what `from` gives up, gone or not: those in a data center with
    /// fewer than `cap` of the others.
    fn could(&self, shard: &Shard, from: u64, cap: usize) -> impl Iterator<Item = u64> {
        let replicas = shard.replicas.iter().copied();
        let others: Vec<u64> = replicas.filter(|node| *node != from).collect();
        let held = counts(self.state, &others);
        let left = self.left.iter().copied();
        left.filter(move |node| {
            let there = held.get(self.state.dc_of(*node)).copied().unwrap_or(0);
            *node != from && !others.contains(node) && there < cap
        })
    }

    /// The best of them that is up: where there are fewest replicas, then on the node with the
    /// least load.
    fn place(&self, shard: &Shard, from: u64, cap: usize) -> Place {
        let others = shard.replicas.iter().filter(|node| **node != from);
        let dcs: Vec<&str> = others.map(|node| self.state.dc_of(*node)).collect();
        let in_dc = |node: u64| {
            let dc = self.state.dc_of(node);
            dcs.iter().filter(|other| **other == dc).count()
        };
        let free = self.could(shard, from, cap).filter(|node| self.up(*node));
        let many = |node: u64| self.inbound.get(&node).copied().unwrap_or(0);
        let best = free.min_by_key(|&node| {
            let waits = many(node) >= self.policy.moves_to_node_max;
            (waits, in_dc(node), self.load.get(&node).copied(), node)
        });
        let going = self.state.moves.len() + self.plan.begin.len();
        match best {
            None => Place::None,
            Some(_) if going >= self.policy.moves_max => Place::Turn,
            Some(to) if many(to) >= self.policy.moves_to_node_max => Place::Turn,
            Some(to) => Place::To(to),
        }
    }

    fn begin(&mut self, shard: &Shard, from: u64, to: u64, degraded: bool) {
        *self.load.entry(to).or_default() += 1;
        *self.inbound.entry(to).or_default() += 1;
        let why = Why::Moving {
            to: self.name(to),
            changing: false,
        };
        self.tell(ShardId(shard.id), from, why);
        self.plan.begin.push(Move {
            shard: shard.id,
            from,
            to,
            degraded,
            ..Move::default()
        });
    }
}

/// Nodes that are leaving and hold nothing any more.
impl PlacementPlan {
    /// The nodes that can be removed now.
    pub fn removable(state: &ClusterState) -> impl Iterator<Item = u64> {
        let leaving = state.leaving.iter().copied();
        leaving.filter(|node| held_by(state, *node).next().is_none())
    }
}
