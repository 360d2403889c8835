//! The meta shard's state: who the nodes are and which of them hold which slots.
//! Disk and wire formats: tags are permanent.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::id::{NodeId, ShardId, Slot};

pub mod access;
pub mod audit;
mod decide;
pub mod drills;
mod leading;
mod moves;
mod pardon;
mod place;
mod policy;
pub mod tenants;
pub mod tokens;

pub use decide::{decide, decide_at};
pub use leading::{leader_order, leaders};

/// Everything the meta shard holds.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterState {
    /// Format of the record, 1.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// 16 random bytes drawn by `firebreak init`, in hex.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
    /// Rises with every change; 0 only before the founding.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Sorted by id.
    #[prost(message, repeated, tag = "4")]
    pub nodes: Vec<Node>,
    /// Sorted by slot; empty until `nodes_expected` nodes have joined. Without the meta shard.
    #[prost(message, repeated, tag = "5")]
    pub shards: Vec<Shard>,
    /// blake3 of the join token, 32 bytes.
    #[prost(bytes = "bytes", tag = "6")]
    pub token_hash: Bytes,
    /// How many nodes make the cluster lay out its shards.
    #[prost(uint32, tag = "7")]
    pub nodes_expected: u32,
    /// Data shards to lay out; 0 = one per node.
    #[prost(uint32, tag = "8")]
    pub shards_wanted: u32,
    /// Replicas of each data shard.
    #[prost(uint32, tag = "9")]
    pub replicas: u32,
    /// The meta shard's members, the first the preferred leader.
    #[prost(uint64, repeated, tag = "10")]
    pub meta_replicas: Vec<u64>,
    /// The id that the next node gets.
    #[prost(uint64, tag = "11")]
    pub next_node_id: u64,
    /// Where leaders and replicas are to be.
    #[prost(message, optional, tag = "12")]
    pub policies: Option<Policies>,
    /// Nodes that are to lead nothing and take no new clients, sorted by id.
    #[prost(uint64, repeated, tag = "13")]
    pub draining: Vec<u64>,
    /// Replicas on their way from one node to another, sorted by shard; one of a shard at most.
    #[prost(message, repeated, tag = "14")]
    pub moves: Vec<Move>,
    /// Nodes that give up all they hold and are removed then. Sorted.
    #[prost(uint64, repeated, tag = "15")]
    pub leaving: Vec<u64>,
    /// More of `token_hash`: when it expires. Versions before kept its text, too.
    #[prost(message, optional, tag = "30")]
    pub join_token: Option<JoinToken>,
    /// What nodes join with beside `token_hash`, in the order they were made.
    #[prost(message, repeated, tag = "31")]
    pub tokens: Vec<tokens::Token>,
    /// Starts of nodes that are to be forgotten, since they were forged. Sorted by node; one of a
    /// node at most.
    #[prost(message, repeated, tag = "40")]
    pub pardons: Vec<Pardon>,
    /// What is planned, runs and was of drills; none where there was never one.
    #[prost(message, optional, tag = "50")]
    pub drills: Option<drills::Drills>,
    /// Who may call, and what they may use; none where there was never a tenant created.
    #[prost(message, optional, tag = "60")]
    pub tenants: Option<tenants::Tenants>,
    /// Who may call; none where nobody was ever named.
    #[prost(message, optional, tag = "70")]
    pub access: Option<access::Access>,
    /// The end of the audit's chain; none before its first record.
    #[prost(message, optional, tag = "71")]
    pub trail: Option<audit::Trail>,
}

/// What nodes join with.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JoinToken {
    /// The text; empty where only the hash is kept.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Command time from which it lets nobody in, Unix milliseconds; 0 = never.
    #[prost(uint64, tag = "2")]
    pub expires_ms: u64,
}

/// What peers have seen of a node's starts is wrong: somebody else called in its name. Once two
/// operators say so, starts above the last true one are forgotten.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Pardon {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Its last true start.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Who has said so, in order.
    #[prost(string, repeated, tag = "3")]
    pub operators: Vec<String>,
    /// The cluster's epoch since which it holds; 0 while another operator has to say so, too.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
}

/// A node and what identifies it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Node {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What people call it; unique.
    #[prost(string, tag = "2")]
    pub name: String,
    /// host:port where others reach it.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Where it burns with others.
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    /// 16 random bytes written to its disk when it joined: another disk is another node.
    #[prost(bytes = "bytes", tag = "5")]
    pub disk_id: Bytes,
    /// The start of the node that told this address; 0 = it joined with it, and told none since.
    #[prost(uint64, tag = "6")]
    pub address_boot: u64,
}

/// Where a node stands. A fire domain is a `dc`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Locality {
    /// Data centers near each other.
    #[prost(string, tag = "1")]
    pub region: String,
    /// What burns together.
    #[prost(string, tag = "2")]
    pub dc: String,
    /// What shares power and a switch.
    #[prost(string, tag = "3")]
    pub rack: String,
}

/// A shard and its replicas.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Shard {
    /// Its number, from 1.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// First slot, inclusive.
    #[prost(uint32, tag = "2")]
    pub slot_first: u32,
    /// Last slot, inclusive.
    #[prost(uint32, tag = "3")]
    pub slot_last: u32,
    /// Node ids, the first the preferred leader.
    #[prost(uint64, repeated, tag = "4")]
    pub replicas: Vec<u64>,
    /// How often its replicas have changed since it was laid out. A shard is founded by those that
    /// were laid out, never by later ones.
    #[prost(uint64, tag = "5")]
    pub changes: u64,
}

/// A replica on its way. The shard's leader carries it out: the new replica learns, then it takes
/// the place of the old one in one change of the shard's voters.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Move {
    /// The shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// The node that gives its replica up, which may be lost.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// The node that gets it.
    #[prost(uint64, tag = "3")]
    pub to: u64,
    /// The cluster's epoch when it was decided: no two moves share it.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// The leader may change the voters now: from here on it is finished, not taken back.
    #[prost(bool, tag = "5")]
    pub changing: bool,
    /// A data center may hold a majority afterwards, since too few are left.
    #[prost(bool, tag = "6")]
    pub degraded: bool,
}

/// The policies of a cluster. A tenant's is that of the shards that hold its conversations.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Policies {
    /// Of every shard that has none of its own.
    #[prost(message, optional, tag = "1")]
    pub default: Option<Policy>,
    /// Of single shards, sorted by shard.
    #[prost(message, repeated, tag = "2")]
    pub shards: Vec<ShardPolicy>,
}

/// A shard's own policy.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShardPolicy {
    /// The shard; 0 is the meta shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// Its policy, instead of the default.
    #[prost(message, optional, tag = "2")]
    pub policy: Option<Policy>,
}

/// Where a shard's replicas are, and who leads.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Policy {
    /// Data centers whose nodes should lead, the most preferred first. Behind them, and when empty,
    /// comes the order of the layout.
    #[prost(string, repeated, tag = "1")]
    pub prefer: Vec<String>,
    /// Replicas that a shard should have: 3 or 5; 0 = as it was laid out.
    #[prost(uint32, tag = "2")]
    pub replicas: u32,
    /// What must be survived, the loss of any one of: [`Survive`].
    #[prost(enumeration = "Survive", tag = "3")]
    pub survive: i32,
}

/// What may be lost at once without a majority's being lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
pub enum Survive {
    /// A data center.
    Dc = 0,
    /// All data centers of a region.
    Region = 1,
}

/// A change of the [`ClusterState`].
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    /// What changes.
    #[prost(
        oneof = "ChangeBody",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20, 21, 22, 23, 24, 40, 50, 60, 70, 71, 72, 73, 74"
    )]
    pub body: Option<ChangeBody>,
    /// Who asks for it, for the audit; none for what the cluster does by itself, and from versions before.
    #[prost(message, optional, tag = "79")]
    pub actor: Option<audit::Actor>,
}

/// The kinds of changes.
#[derive(Clone, PartialEq, Oneof)]
pub enum ChangeBody {
    /// The first change of a cluster's life.
    #[prost(message, boxed, tag = "1")]
    Found(Box<ClusterState>),
    /// Adds a node, or answers again with the id it has (same name and disk).
    #[prost(message, tag = "2")]
    Join(Join),
    /// Lays out the shards, once.
    #[prost(message, tag = "3")]
    Layout(Layout),
    /// Notes who replicates the meta shard.
    #[prost(message, tag = "4")]
    MetaReplicas(MetaReplicas),
    /// Sets a policy, or takes a shard's own away.
    #[prost(message, tag = "5")]
    Policy(SetPolicy),
    /// Drains nodes, or takes them back.
    #[prost(message, tag = "6")]
    Draining(SetDraining),
    /// Sends a replica on its way. Of the move its epoch and whether it is changing do not count.
    #[prost(message, tag = "7")]
    BeginMove(Move),
    /// The leader of the shard asks whether it may change the voters, and may.
    #[prost(message, tag = "8")]
    ChangeVoters(MoveStep),
    /// The voters are changed, and that is committed.
    #[prost(message, tag = "9")]
    FinishMove(MoveStep),
    /// Takes a move back whose voters were not changed yet.
    #[prost(message, tag = "10")]
    DropMove(MoveStep),
    /// A node is to give up all it holds, or to stay after all.
    #[prost(message, tag = "11")]
    Leave(Leave),
    /// Removes a node that was leaving and holds nothing any more; its id is never used again.
    #[prost(message, tag = "12")]
    Remove(Leave),
    /// A node is at another address since it started.
    #[prost(message, tag = "20")]
    Announce(Announce),
    /// An operator says that a node stands elsewhere.
    #[prost(message, tag = "21")]
    Relocate(Relocate),
    /// Nodes join with another token from now on.
    #[prost(message, tag = "22")]
    JoinToken(JoinToken),
    /// Nodes may join with another token, too.
    #[prost(message, tag = "23")]
    CreateToken(tokens::NewToken),
    /// Nodes join with a token no more; by its id.
    #[prost(message, tag = "24")]
    RevokeToken(Named),
    /// An operator says which start of a node was its last true one.
    #[prost(message, tag = "40")]
    ForgetBoot(ForgetBoot),
    /// Changes the drills.
    #[prost(message, tag = "50")]
    Drill(drills::DrillChange),
    /// Changes the tenants.
    #[prost(message, boxed, tag = "60")]
    Tenant(Box<tenants::TenantChange>),
    /// Takes an API key in.
    #[prost(message, tag = "70")]
    CreateKey(access::Key),
    /// Has an API key open nothing any more.
    #[prost(message, tag = "71")]
    RevokeKey(Named),
    /// Believes an issuer of tokens, in place of the one of its name.
    #[prost(message, tag = "72")]
    Issuer(access::Issuer),
    /// Believes an issuer no more.
    #[prost(message, tag = "73")]
    RemoveIssuer(Named),
    /// Something for the audit.
    #[prost(message, tag = "74")]
    Notes(audit::Notes),
}

/// A key by its id, or an issuer by its name.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Named {
    /// That.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// An operator says which start of a node was its last true one; a second one has to confirm it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ForgetBoot {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Its last true start.
    #[prost(uint64, tag = "2")]
    pub boot: u64,
    /// Who says so.
    #[prost(string, tag = "3")]
    pub operator: String,
}

/// Sets a policy.
#[derive(Clone, PartialEq, Message)]
pub struct SetPolicy {
    /// Whose; none = the default of all shards.
    #[prost(uint32, optional, tag = "1")]
    pub shard: Option<u32>,
    /// What it is to be; none takes a shard's own away, so that the default holds again.
    #[prost(message, optional, tag = "2")]
    pub policy: Option<Policy>,
}

/// Drains nodes, or takes them back.
#[derive(Clone, PartialEq, Message)]
pub struct SetDraining {
    /// A node, by name or by id ("n4" or "4"); empty = all of `dc`.
    #[prost(string, tag = "1")]
    pub node: String,
    /// The nodes that a data center has now.
    #[prost(string, tag = "2")]
    pub dc: String,
    /// Whether they drain from now on, or serve again.
    #[prost(bool, tag = "3")]
    pub draining: bool,
}

/// Adds a node.
#[derive(Clone, PartialEq, Message)]
pub struct Join {
    /// blake3 of the token given, 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub token_hash: Bytes,
    /// The node; its id is ignored.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// The token itself, on its way to the leader of the meta shard, who puts its hash in its place:
    /// every node knows the hash, so that it proves nothing, and the log need not know the token.
    #[prost(string, tag = "3")]
    pub token: String,
}

/// Lays out the shards.
#[derive(Clone, PartialEq, Message)]
pub struct Layout {
    /// All of them, sorted by slot, covering [0, 2^16).
    #[prost(message, repeated, tag = "1")]
    pub shards: Vec<Shard>,
}

/// Who replicates the meta shard.
#[derive(Clone, PartialEq, Message)]
pub struct MetaReplicas {
    /// Node ids.
    #[prost(uint64, repeated, tag = "1")]
    pub nodes: Vec<u64>,
}

/// A step of one move.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MoveStep {
    /// The shard.
    #[prost(uint32, tag = "1")]
    pub shard: u32,
    /// The epoch of its move: an answer that comes late must not count for another.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// To take it back: its new node is lost, so that it would never end, whatever was allowed.
    #[prost(bool, tag = "3")]
    pub lost: bool,
}

/// A node leaves, or stays after all.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Leave {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// It stays after all.
    #[prost(bool, tag = "2")]
    pub stays: bool,
}

/// Where a node is since one of its starts. Its disk says who it is; the address is news.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Announce {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Of its disk, by which its peers know it.
    #[prost(bytes = "bytes", tag = "2")]
    pub disk_id: Bytes,
    /// The start that says so: what an earlier one said may come later.
    #[prost(uint64, tag = "3")]
    pub boot: u64,
    /// host:port where others reach it.
    #[prost(string, tag = "4")]
    pub address: String,
    /// Its rack, on which nothing depends.
    #[prost(string, tag = "5")]
    pub rack: String,
}

/// A node stands elsewhere, or always did: what burns with it changes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Relocate {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Where.
    #[prost(message, optional, tag = "2")]
    pub locality: Option<Locality>,
}

/// The answer to a [`Change`] that was made.
#[derive(Clone, PartialEq, Message)]
pub struct Changed {
    /// The node's id, for a join; for a pardon, once it holds.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// The epoch after it.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The tenant, for a change of one.
    #[prost(message, optional, boxed, tag = "60")]
    pub tenant: Option<Box<tenants::Tenant>>,
    /// The same request had changed the tenant before; it is as it was then.
    #[prost(bool, tag = "61")]
    pub deduplicated: bool,
}

impl From<ChangeBody> for Change {
    /// One that the cluster makes by itself.
    fn from(body: ChangeBody) -> Change {
        Change {
            body: Some(body),
            actor: None,
        }
    }
}

impl ClusterState {
    /// All shards, the meta shard first.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + '_ {
        let shards = self.shards.iter().map(|shard| ShardId(shard.id));
        std::iter::once(ShardId::META).chain(shards)
    }

    /// Whether all nodes have joined and the shards are yet to be laid out.
    pub fn awaits_layout(&self) -> bool {
        self.epoch > 0 && self.shards.is_empty() && self.nodes.len() >= self.nodes_expected as usize
    }

    /// The shard that holds `slot`; `None` until the shards are laid out.
    pub fn shard_of(&self, slot: Slot) -> Option<&Shard> {
        let slot = u32::from(slot.0);
        let after = self.shards.partition_point(|s| s.slot_first <= slot);
        let shard = self.shards.get(after.checked_sub(1)?)?;
        (slot <= shard.slot_last).then_some(shard)
    }

    /// The shard with this number.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        // As laid out, each is at its number's place: with thousands it is not searched for.
        let place = usize::try_from(id.0.checked_sub(1)?).ok()?;
        let there = self.shards.get(place).filter(|shard| shard.id == id.0);
        there.or_else(|| self.shards.iter().find(|shard| shard.id == id.0))
    }

    /// The node with this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|n| n.id == id.0)
    }

    /// The nodes that replicate a shard, the meta shard included.
    pub fn replicas_of(&self, id: ShardId) -> &[u64] {
        if id.is_meta() {
            return &self.meta_replicas;
        }
        self.shard(id).map_or(&[], |s| &s.replicas)
    }

    /// The move that a shard is in.
    pub fn move_of(&self, id: ShardId) -> Option<&Move> {
        self.moves.iter().find(|m| m.shard == id.0)
    }

    /// Whether a node is to have a replica of a shard: it is one of them, or is getting one.
    pub fn holds(&self, node: NodeId, shard: ShardId) -> bool {
        self.replicas_of(shard).contains(&node.0)
            || self.move_of(shard).is_some_and(|m| m.to == node.0)
    }

    /// Whether a node was in the cluster and is not any more. Ids are given in turn and never
    /// again, so an older view that says so is right, too.
    pub fn was_removed(&self, node: NodeId) -> bool {
        node.0 > 0 && node.0 < self.next_node_id && self.node(node).is_none()
    }

    /// Whether a token with this hash lets nodes join.
    pub fn takes_token(&self, hash: &Bytes) -> bool {
        self.token(hash).is_some()
    }

    /// The pardon of a node that holds.
    pub fn pardon_of(&self, node: NodeId) -> Option<&Pardon> {
        let of = self.pardons.iter().find(|pardon| pardon.node == node.0);
        of.filter(|pardon| pardon.epoch > 0)
    }

    /// The data center of a node, empty when it is not known.
    pub fn dc_of(&self, node: u64) -> &str {
        self.node(NodeId(node)).map_or("", Node::dc)
    }

    /// The policy that holds for a shard: its own, else the default.
    pub fn policy_of(&self, id: ShardId) -> Policy {
        let Some(policies) = &self.policies else {
            return Policy::default();
        };
        let own = policies.shards.iter().find(|own| own.shard == id.0);
        let own = own.and_then(|own| own.policy.as_ref());
        own.or(policies.default.as_ref())
            .cloned()
            .unwrap_or_default()
    }

    /// Whether a node is to lead nothing.
    pub fn is_draining(&self, id: NodeId) -> bool {
        self.draining.binary_search(&id.0).is_ok()
    }
}

impl Move {
    /// Names this move in its steps.
    pub fn step(&self) -> MoveStep {
        MoveStep {
            shard: self.shard,
            epoch: self.epoch,
            lost: false,
        }
    }

    /// The shard's replicas after it: the new one stands where the old one stood.
    pub fn after(&self, replicas: &[u64]) -> Vec<u64> {
        let place = |id: &u64| if *id == self.from { self.to } else { *id };
        replicas.iter().map(place).collect()
    }
}

impl JoinToken {
    /// Whether it lets nobody in at this time.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms > 0 && now_ms >= self.expires_ms
    }
}

impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Locality { region, dc, rack } = self;
        write!(f, "region={region},dc={dc}")?;
        match rack.as_str() {
            "" => Ok(()),
            rack => write!(f, ",rack={rack}"),
        }
    }
}

impl Node {
    /// Its data center, empty when unknown.
    pub fn dc(&self) -> &str {
        self.locality.as_ref().map_or("", |l| &l.dc)
    }
}
