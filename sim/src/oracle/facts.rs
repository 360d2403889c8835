//! The history boiled down: for each conversation, every distinct message that anybody was shown at
//! a seq, with its first witnesses. Honest histories have one such claim per seq however often it
//! was read, so the oracles work on claims and not on sightings.

use std::collections::BTreeMap;

use crate::history::{Append, AppendEnd, History, SeenMessage};

/// Who says that a message has a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// An acknowledgement, by the append's place in the history.
    Ack(usize),
    /// A read, by its place.
    Read(usize),
    /// A tail, by its place.
    Tail(usize),
    /// A node at the end, by the final's place.
    Final(usize),
}

/// A message at a seq, as somebody was told.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The number.
    pub seq: u64,
    /// The sender's name.
    pub sender: &'a str,
    /// The client message id.
    pub id: &'a str,
    /// What it says, hashed.
    pub body: u64,
    /// The first acknowledgement: when it came, and of which append.
    pub acked: Option<(u64, usize)>,
    /// The first read or tail that showed it, and when.
    pub seen: Option<(u64, Witness)>,
    /// The first final that shows it.
    pub at_rest: Option<usize>,
}

impl Claim<'_> {
    /// Whether it is this message.
    pub fn is(&self, sender: &str, id: &str, body: u64) -> bool {
        self.body == body && self.id == id && self.sender == sender
    }

    /// The first of all who say so, and when; finals are last, at `u64::MAX`.
    pub fn first(&self) -> (u64, Witness) {
        let acked = self.acked.map(|(at, append)| (at, Witness::Ack(append)));
        let of_final = (u64::MAX, Witness::Final(self.at_rest.unwrap_or_default()));
        acked.into_iter().chain(self.seen).min().unwrap_or(of_final)
    }
}

/// What is known of a conversation. Numbers are places in the history's lists.
#[derive(Debug, Default)]
pub struct Room<'a> {
    /// Its number.
    pub room: u32,
    /// In the order of their beginning.
    pub appends: Vec<usize>,
    /// Those that were answered, in the order of their beginning.
    pub reads: Vec<usize>,
    /// Tails of it.
    pub tails: Vec<usize>,
    /// As nodes show it at the end.
    pub finals: Vec<usize>,
    /// By seq, and by first witness where there are several.
    pub claims: Vec<Claim<'a>>,
    /// Sender, id and place of every append, sorted.
    sent: Vec<(&'a str, &'a str, usize)>,
}

/// All conversations of a history.
#[derive(Debug, Default)]
pub struct Facts<'a> {
    rooms: BTreeMap<u32, Room<'a>>,
}

impl<'a> Facts<'a> {
    /// Boils a history down.
    pub fn of(history: &'a History) -> Facts<'a> {
        let mut rooms: BTreeMap<u32, (Room<'a>, Claims<'a>)> = BTreeMap::new();
        for (at, append) in history.appends.iter().enumerate() {
            let (room, _) = rooms.entry(append.room).or_default();
            room.appends.push(at);
            room.sent.push((&append.sender, &append.id, at));
        }
        for (room, claims) in rooms.values_mut() {
            // No seq of an honest history is larger.
            claims.dense_max = room.appends.len() + 1;
        }
        for (at, append) in history.appends.iter().enumerate() {
            let AppendEnd::Acked { seq } = append.end else {
                continue;
            };
            let (_, claims) = rooms.entry(append.room).or_default();
            claims.acked(seq, append, at);
        }
        for (at, read) in history.reads.iter().enumerate() {
            let (Ok(page), Some(returned)) = (&read.end, read.returned_us) else {
                continue;
            };
            let (room, claims) = rooms.entry(read.room).or_default();
            room.reads.push(at);
            for seen in &page.messages {
                claims.seen(seen, returned, Witness::Read(at));
            }
        }
        for (at, tail) in history.tails.iter().enumerate() {
            let (room, claims) = rooms.entry(tail.room).or_default();
            room.tails.push(at);
            for (given, seen) in &tail.events {
                claims.seen(seen, *given, Witness::Tail(at));
            }
        }
        for (at, last) in history.finals.iter().enumerate() {
            let (room, claims) = rooms.entry(last.room).or_default();
            room.finals.push(at);
            for seen in &last.messages {
                claims.of(seen).at_rest.get_or_insert(at);
            }
        }
        let rooms = rooms.into_iter().map(|(number, (mut room, claims))| {
            room.room = number;
            room.sent.sort_unstable();
            room.claims = claims.sorted();
            (number, room)
        });
        Facts {
            rooms: rooms.collect(),
        }
    }

    /// Every conversation, by its number.
    pub fn rooms(&self) -> impl Iterator<Item = &Room<'a>> {
        self.rooms.values()
    }
}

impl<'a> Room<'a> {
    /// The appends of a message id, the last number of each being its place in the history,
    /// ascending.
    pub fn sent(&self, sender: &str, id: &str) -> &[(&'a str, &'a str, usize)] {
        let from = self
            .sent
            .partition_point(|one| (one.0, one.1) < (sender, id));
        let all = &self.sent[from..];
        let many = all.partition_point(|one| (one.0, one.1) == (sender, id));
        &all[..many]
    }

    /// Every message id with its appends.
    pub fn ids(&self) -> impl Iterator<Item = &[(&'a str, &'a str, usize)]> {
        self.sent.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
    }
}

/// Claims in the making: the first of each seq where it is found by its number, all else aside.
#[derive(Default)]
struct Claims<'a> {
    dense: Vec<Option<Claim<'a>>>,
    dense_max: usize,
    more: BTreeMap<u64, Vec<Claim<'a>>>,
}

impl<'a> Claims<'a> {
    fn acked(&mut self, seq: u64, append: &'a Append, at: usize) {
        let claim = self.claim(seq, &append.sender, &append.id, append.body);
        let when = append.returned_us.unwrap_or(u64::MAX);
        let acked = claim.acked.get_or_insert((when, at));
        *acked = (*acked).min((when, at));
    }

    fn seen(&mut self, seen: &'a SeenMessage, at_us: u64, witness: Witness) {
        let claim = self.of(seen);
        let first = claim.seen.get_or_insert((at_us, witness));
        if at_us < first.0 {
            *first = (at_us, witness);
        }
    }

    fn of(&mut self, seen: &'a SeenMessage) -> &mut Claim<'a> {
        self.claim(seen.seq, &seen.sender, &seen.id, seen.body)
    }

    fn claim(&mut self, seq: u64, sender: &'a str, id: &'a str, body: u64) -> &mut Claim<'a> {
        let new = || Claim {
            seq,
            sender,
            id,
            body,
            acked: None,
            seen: None,
            at_rest: None,
        };
        let place = usize::try_from(seq).ok().filter(|at| *at < self.dense_max);
        if let Some(at) = place {
            if self.dense.len() <= at {
                self.dense.resize_with(at + 1, || None);
            }
            let first = self.dense[at].as_ref();
            if first.is_none_or(|first| first.is(sender, id, body)) {
                return self.dense[at].get_or_insert_with(new);
            }
        }
        let more = self.more.entry(seq).or_default();
        let at = more.iter().position(|one| one.is(sender, id, body));
        let at = at.unwrap_or_else(|| {
            more.push(new());
            more.len() - 1
        });
        &mut more[at]
    }

    fn sorted(self) -> Vec<Claim<'a>> {
        let dense = self.dense.into_iter().flatten();
        let mut all: Vec<Claim<'a>> = dense.chain(self.more.into_values().flatten()).collect();
        all.sort_by_key(|claim| (claim.seq, claim.first()));
        all
    }
}
