//! What is seen on the disks of the hosts while they run: votes, where messages are durable, and
//! that nothing goes back. It looks at batches at the moment when they become durable and knows
//! of the product's formats only where a vote, an entry and the body of a message lie.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use model::id::ShardId;
use parking_lot::Mutex;
use prost::Message as _;
use proto::node::{LogId, VoteId};
use server::identity::Record;
use store::engine::{Batch, Engine, Order, Write};
use store::key::log as key;
use store::key::log::Kind;
use store::log::SEAL_BYTES;

use crate::history::{Cover, VoteSeen, VoterSeen, WipedSeen};
use crate::host::Host;
use crate::net::field::Tracer;
use crate::net::now_us;
use crate::trace::What;

mod committed;
mod voters;

use committed::Committed;
use voters::Voters;

/// What was seen on the disks.
pub struct OnDisks {
    /// Votes, in the order in which they became durable.
    pub votes: Vec<VoteSeen>,
    /// Where acknowledged messages were.
    pub covers: Vec<Cover>,
    /// What went back.
    pub regressed: Vec<String>,
    /// Replicas that were wiped.
    pub wiped: Vec<WipedSeen>,
    /// New voters, and what they had.
    pub voters: Vec<VoterSeen>,
}

/// Watches the disks of all hosts.
pub struct Watch {
    shared: Arc<Mutex<Shared>>,
}

/// Term and index of the newest entry of a batch, by shard.
type Newest = BTreeMap<u32, (u64, u64)>;

struct Shared {
    hosts: Vec<(String, String)>,
    /// What every message's marker begins with.
    prefix: Vec<u8>,
    quorum: u32,
    /// The hosts that hold the message of each marker, a bit for each.
    held: BTreeMap<u64, u64>,
    votes: Vec<VoteSeen>,
    /// Term and node of the vote on each host's disk, by shard.
    voted: BTreeMap<(usize, u32), (u64, u64)>,
    /// The highest term that each host has ever voted in, durably, by shard; also one that burned.
    voted_ever: BTreeMap<(usize, u32), u64>,
    committed: Committed,
    covers: Vec<Cover>,
    regressed: Vec<String>,
    wiped: Vec<WipedSeen>,
    voters: Voters,
    /// Terms of data shards in which an entry was seen, by shard.
    begun: BTreeSet<(u32, u64)>,
    /// Hosts with a disk that is not a member's any more, and whether they were let in all the same.
    outcasts: BTreeMap<usize, bool>,
    /// Who each host is, as its disk says.
    identities: BTreeMap<usize, Record>,
}

impl Watch {
    /// Watches from now on. The body of each message of the run begins with `prefix` and its
    /// number, in hex, and a `-`.
    pub fn new(prefix: &str, replicas: u32) -> Watch {
        Watch {
            shared: Arc::new(Mutex::new(Shared {
                hosts: Vec::new(),
                prefix: prefix.as_bytes().to_vec(),
                quorum: replicas / 2 + 1,
                held: BTreeMap::new(),
                votes: Vec::new(),
                voted: BTreeMap::new(),
                voted_ever: BTreeMap::new(),
                committed: Committed::default(),
                covers: Vec::new(),
                regressed: Vec::new(),
                wiped: Vec::new(),
                voters: Voters::default(),
                begun: BTreeSet::new(),
                outcasts: BTreeMap::new(),
                identities: BTreeMap::new(),
            })),
        }
    }

    /// Adds a host, with its disk.
    pub fn add(&self, host: &Host, tracer: Tracer) {
        let at = {
            let mut shared = self.shared.lock();
            shared.hosts.push((host.name.clone(), host.dc.clone()));
            shared.hosts.len() - 1
        };
        let shared = self.shared.clone();
        let observer = move |batch: &Batch| {
            let (mut hash, mut newest) = (0, Newest::new());
            let mut shared = shared.lock();
            for write in batch.writes() {
                hash ^= shared.durable(at, write, &mut newest);
            }
            shared.whole(at, newest);
            drop(shared);
            tracer.add(What::Disk, [at as u64, hash], &[]);
        };
        host.raftdb().observe(Some(Arc::new(observer)));
    }

    /// A host is about to start on `disk`: whatever was durable on it must still be there.
    pub fn check(&self, name: &str, disk: &dyn Engine) {
        let mut shared = self.shared.lock();
        let Some(at) = shared.hosts.iter().position(|host| host.0 == name) else {
            return;
        };
        shared.check(at, disk);
    }

    /// A host has got other disks: nothing is expected of them. What it held still counts for answers
    /// that are on their way.
    pub fn forget(&self, name: &str) {
        let mut shared = self.shared.lock();
        let Some(at) = shared.hosts.iter().position(|host| host.0 == name) else {
            return;
        };
        shared.voted.retain(|(host, _), _| *host != at);
        shared.committed.forget(at);
        shared.voters.forget(at);
    }

    /// A host has got an old disk back: nobody may let it in again.
    pub fn cast_out(&self, name: &str) {
        self.forget(name);
        let mut shared = self.shared.lock();
        if let Some(at) = shared.hosts.iter().position(|host| host.0 == name) {
            shared.outcasts.insert(at, false);
        }
    }

    /// Who a host is, as its disk says; none before it is a member.
    pub fn identity(&self, name: &str) -> Option<Record> {
        let shared = self.shared.lock();
        let at = shared.hosts.iter().position(|host| host.0 == name)?;
        let identity = shared.identities.get(&at)?;
        Some(identity.clone()).filter(Record::is_member)
    }

    /// The message of `marker` is acknowledged now, to the append at this place.
    pub fn acked(&self, append: usize, marker: &str) {
        let mut shared = self.shared.lock();
        let number = marker.trim_end_matches('-').rsplit('-').next();
        let marker = number.and_then(|number| u64::from_str_radix(number, 16).ok());
        let Some(marker) = marker else { return };
        let held = shared.held.get(&marker).copied().unwrap_or(0);
        let holders = (0..shared.hosts.len()).filter(|at| held & (1 << at) != 0);
        let (mut hosts, mut dcs) = (Vec::new(), Vec::new());
        for at in holders {
            hosts.push(shared.hosts[at].0.clone());
            dcs.push(shared.hosts[at].1.clone());
        }
        hosts.sort_unstable();
        dcs.sort_unstable();
        dcs.dedup();
        let quorum = shared.quorum;
        shared.covers.push(Cover {
            append,
            hosts,
            dcs,
            quorum,
        });
    }

    /// What was seen.
    pub fn finish(&self) -> OnDisks {
        let mut shared = self.shared.lock();
        OnDisks {
            votes: std::mem::take(&mut shared.votes),
            covers: std::mem::take(&mut shared.covers),
            regressed: std::mem::take(&mut shared.regressed),
            wiped: std::mem::take(&mut shared.wiped),
            voters: shared.voters.take(),
        }
    }
}

/// The term of an entry: the first eight bytes behind its seal.
fn term_of(value: &[u8]) -> Option<u64> {
    let term = value.get(SEAL_BYTES..SEAL_BYTES + 8)?;
    Some(u64::from_be_bytes(term.try_into().ok()?))
}

fn vote_of(key: &[u8], value: &[u8]) -> Option<(ShardId, VoteId)> {
    let shard = shard_of(key, Kind::Vote)?;
    Some((shard, VoteId::decode(value.get(SEAL_BYTES..)?).ok()?))
}

fn committed_of(key: &[u8], value: &[u8]) -> Option<(ShardId, LogId)> {
    let shard = shard_of(key, Kind::Committed)?;
    Some((shard, LogId::decode(value.get(SEAL_BYTES..)?).ok()?))
}

fn identity_of(key: &[u8], value: &[u8]) -> Option<Record> {
    let identity = key::local_name(key) == Some("identity");
    identity.then(|| Record::decode(value.get(SEAL_BYTES..)?).ok())?
}

/// The shard in the key of a record that there is one of.
fn shard_of(key: &[u8], kind: Kind) -> Option<ShardId> {
    let shard = ShardId(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?));
    (*key == key::single(shard, kind)).then_some(shard)
}

/// The shard all of whose records are removed.
fn whole_shard(from: &[u8], to: &[u8]) -> Option<ShardId> {
    let shard = ShardId(u32::from_be_bytes(from.get(1..5)?.try_into().ok()?));
    let (first, end) = key::shard(shard);
    (*from == first && *to == end).then_some(shard)
}

impl Shared {
    /// Takes in a write that is durable now, of entries also into `newest`; gives a hash of it.
    fn durable(&mut self, at: usize, write: &Write, newest: &mut Newest) -> u64 {
        match write {
            Write::Put(key, value) => {
                if let Some((shard, index)) = key::entry_parts(key) {
                    if let Some(term) = term_of(value) {
                        self.committed.entry((at, shard.0), index, term);
                        newest.insert(shard.0, (term, index));
                    }
                    if let Some(data) = value.get(SEAL_BYTES + 8..) {
                        self.named(shard, index, data);
                    }
                    self.hold(at, value);
                } else if let Some((shard, vote)) = vote_of(key, value) {
                    self.vote(at, shard, &vote);
                } else if let Some((shard, id)) = committed_of(key, value) {
                    self.committed.note((at, shard.0), id);
                } else if let Some(identity) = identity_of(key, value) {
                    self.identities.insert(at, identity);
                } else if key::local_name(key) == Some("view") {
                    self.voters
                        .learn(value.get(SEAL_BYTES..).unwrap_or_default());
                }
                xxhash_rust::xxh3::xxh3_64_with_seed(value, xxhash_rust::xxh3::xxh3_64(key))
            }
            Write::Delete(key) => xxhash_rust::xxh3::xxh3_64(key),
            Write::DeleteRange(from, to) => {
                if let Some((shard, index)) = key::entry_parts(from) {
                    self.truncated(at, shard, index, to);
                } else if let Some(shard) = whole_shard(from, to) {
                    self.wipe(at, shard);
                }
                xxhash_rust::xxh3::xxh3_64_with_seed(to, xxhash_rust::xxh3::xxh3_64(from))
            }
        }
    }

    /// Looks at a batch that is durable as a whole, by its newest entries: an entry must not be on a disk before a vote of
    /// its term is; who led a term was elected by durable votes; and whoever came back with an old
    /// disk takes no entries.
    fn whole(&mut self, at: usize, newest: Newest) {
        for (shard, (term, index)) in newest {
            if let Some(let_in) = self.outcasts.get_mut(&at) {
                if !std::mem::replace(let_in, true) {
                    self.regressed.push(format!(
                        "{} s{shard}: came back with an old disk and was given entry {index}",
                        self.hosts[at].0
                    ));
                }
                continue;
            }
            let voted = self.voted.get(&(at, shard)).map_or(0, |vote| vote.0);
            if voted < term {
                self.regressed.push(format!(
                    "{} s{shard}: entry {index} of term {term} is durable, its vote is of term {voted}",
                    self.hosts[at].0
                ));
            }
            if shard == ShardId::META.0 || !self.begun.insert((shard, term)) {
                continue;
            }
            let elected = |host: &usize| self.voted_ever.get(&(*host, shard)) >= Some(&term);
            let voters = (0..self.hosts.len()).filter(elected);
            let voters = u32::try_from(voters.count()).unwrap_or(u32::MAX);
            // The first term begins with the founder's word alone.
            if term > 1 && voters < self.quorum {
                self.regressed.push(format!(
                    "s{shard}: term {term} began with {voters} durable votes of {}",
                    self.quorum
                ));
            }
        }
    }

    /// A removed tail may hold what is noted as committed; a removed head is no loss.
    fn truncated(&mut self, at: usize, shard: ShardId, from: u64, to: &[u8]) {
        let replica = (at, shard.0);
        let end = key::entry_parts(to).map(|(_, index)| index);
        match end {
            Some(end) => self.committed.cut(replica, end.saturating_sub(1)),
            None => {
                if let Some(id) = self.committed.truncated(replica, from) {
                    self.regressed.push(format!(
                        "{} s{}: noted entry {} of term {} as committed; its log was cut back to {}",
                        self.hosts[at].0,
                        shard.0,
                        id.index,
                        id.term,
                        from.saturating_sub(1)
                    ));
                }
            }
        }
    }

    /// A replica is wiped: nobody counts on what was on it.
    fn wipe(&mut self, at: usize, shard: ShardId) {
        let needed = self.committed.highest(shard.0);
        self.voters.wiped((at, shard.0), needed);
        self.committed.given_up((at, shard.0));
        self.voted.remove(&(at, shard.0));
        self.wiped.push(WipedSeen {
            at_us: now_us(),
            host: self.hosts[at].0.clone(),
            shard: shard.0,
        });
    }

    /// An entry with this data is on a disk; perhaps it is a membership that names new voters.
    fn named(&mut self, shard: ShardId, index: u64, data: &[u8]) {
        for (node, needed) in self.voters.named(shard.0, index, data) {
            let Some(host) = self.voters.host(node) else {
                continue;
            };
            let Some(at) = self.hosts.iter().position(|one| one.0 == host) else {
                continue;
            };
            let seen = VoterSeen {
                at_us: now_us(),
                host: self.hosts[at].0.clone(),
                shard: shard.0,
                voted: false,
                last: self.committed.last((at, shard.0)),
                needed,
            };
            self.voters.seen(seen);
        }
    }

    fn vote(&mut self, at: usize, shard: ShardId, vote: &VoteId) {
        if let Some(needed) = self.voters.votes((at, shard.0), vote.committed) {
            let seen = VoterSeen {
                at_us: now_us(),
                host: self.hosts[at].0.clone(),
                shard: shard.0,
                voted: true,
                last: self.committed.last((at, shard.0)),
                needed,
            };
            self.voters.seen(seen);
        }
        self.voted.insert((at, shard.0), (vote.term, vote.node));
        // What somebody votes who came back with an old disk counts for nothing.
        if !self.outcasts.contains_key(&at) {
            let ever = self.voted_ever.entry((at, shard.0)).or_default();
            *ever = (*ever).max(vote.term);
        }
        self.votes.push(VoteSeen {
            at_us: now_us(),
            host: self.hosts[at].0.clone(),
            shard: shard.0,
            term: vote.term,
            node: vote.node,
            committed: vote.committed,
        });
    }

    /// Notes the messages in an entry as held by a host.
    fn hold(&mut self, at: usize, value: &[u8]) {
        let mut rest = value;
        while let Some(found) = memchr::memmem::find(rest, &self.prefix) {
            rest = &rest[found + self.prefix.len()..];
            let digits = rest.iter().map_while(|byte| char::from(*byte).to_digit(16));
            let number = digits.fold(0_u64, |number, digit| number << 4 | u64::from(digit));
            *self.held.entry(number).or_default() |= 1 << at;
        }
    }

    fn check(&mut self, at: usize, disk: &dyn Engine) {
        let name = self.hosts[at].0.clone();
        let voted: Vec<_> = self.voted.range((at, 0)..(at + 1, 0)).collect();
        let mut regressed = Vec::new();
        for ((_, shard), (term, node)) in voted {
            let key = key::single(ShardId(*shard), Kind::Vote);
            // A record that cannot be read, or whose sum does not fit, is a fault that was injected;
            // the node says so itself.
            let Ok(value) = disk.get(&key) else { continue };
            let body = value
                .as_deref()
                .map(|value| store::log::unseal(&key, value));
            let Ok(body) = body.transpose() else { continue };
            let found = body.and_then(|body| VoteId::decode(body).ok());
            let found = found.map(|vote| (vote.term, vote.node));
            if found.is_none_or(|found| found < (*term, *node)) {
                regressed.push(format!(
                    "{name} s{shard}: voted in term {term} for n{node}, durably; its disk now has {found:?}"
                ));
            }
        }
        for (shard, last) in self.committed.lasts(at) {
            let Ok(Some(found)) = last_entry(disk, ShardId(shard)) else {
                continue;
            };
            if found < last {
                regressed.push(format!(
                    "{name} s{shard}: entry {last} was durable; its disk now ends at {found}"
                ));
            }
        }
        self.regressed.extend(regressed);
    }
}

/// The index of the last entry on a disk; none when there is no entry.
fn last_entry(disk: &dyn Engine, shard: ShardId) -> Result<Option<u64>, store::Error> {
    let (from, to) = key::entries_from(shard, 0);
    let mut last = None;
    disk.scan(&from, &to, Order::Descending, &mut |key, _| {
        last = key::entry_parts(key).map(|(_, index)| index);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(last)
}
