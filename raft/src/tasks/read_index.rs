//! Read index: what a replica asks its leader so that it can be read itself, and the background
//! questions from which replicas know how old they are ([`crate::replica::age`]).
//!
//! ```text
//!  reader ─► ask the leader (shared) ─► apply up to the index ─► look ─► still its follower? ─► answer
//!                 │ lease, or a round: as for its own reads           │ no
//!                 └───────────────────────────── again ◄──────────────┘
//!
//!  every 200 ms, for all shards that one node leads:
//!  replicas ── AskPositions, following you ─► leader ┄┄ Following? ┄┄► voters     one small frame for
//!           ◄────────── Positions ───────────        ◄┄┄ those that ┄┄            each pair of nodes
//! ```
//!
//! *A reader* (promise L). The leader answers as for its own reads ([`crate::replica::read`]): nobody was told
//! anything before the question that lies behind the index. The replica then shows that, and what
//! more it has applied. That may be told too, unless it is of a later leader, which keeps silent
//! while the window of the one before lasts: so the replica's vote is looked at behind the read. It
//! gives its vote before it takes anything of a later leader, so that with the vote unchanged there
//! is nothing of such a one in what was read.
//!
//! *In the background* (promise S) what a leader has applied in its own term is enough: it
//! acknowledges nothing before it has applied it, and what was acknowledged before it led lies below.
//! Who asks says in which shards it has given no vote since that for the node that it asks. With the
//! leader itself that makes a quorum of three replicas: of a leader that won a later term before the
//! question one of the two would know. Where more are needed, the leader answers at once if its lease
//! holds, and asks the voters of all the rest together whether they still follow it. The word of one
//! that the leader itself does not reach does not count: it is to be voted out.
//!
//! All that counts as the answer to an append does ([`crate::adapter::acks`]): in a question as of the last
//! answer that its sender has heard, whose stamp it repeats. So does a leader of idle shards, whom
//! nobody sends answers to appends, know how old its own replicas are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::id::{NodeId, ShardId};
use model::{limits, mutant};
use proto::node as wire;
use proto::node::frame::Body;
use store::state::ShardState;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::adapter::acks::Sent;
use crate::adapter::told;
use crate::api::{Event, ReadError};
use crate::link::Link;
use crate::replica::group::Group;
use crate::replica::questions::LeaderAnswer;
use crate::replica::read::{Follower, ReadIndex};
use crate::shared::Shared;
use crate::time::Steady;

/// How long one question may take, beside the rounds that it needs where nodes are far apart: a leader
/// waits for the answer to what it sends, perhaps behind what others have asked, and then the answer comes.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Rounds of a leader to its quorum, and with the way to it and back.
const LEADER_ROUNDS: u32 = 3;
const READER_ROUNDS: u32 = 4;
/// How long voters may take to say whom they follow: less, so that the rest is told in time.
const ROUND_MAX: Duration = Duration::from_millis(500);
/// Questions for readers of one shard that are on their way; more readers share the next.
const QUESTIONS_MAX: usize = 4;
/// How long a replica may take to apply what it was told of: the entries come over the same link as the
/// word of them, so that one which is later than this was cut off or searched, and the leader is nearer.
const FOLLOWER_APPLY_MAX: Duration = Duration::from_millis(100);
/// Between two words of how many rounds there were.
const ROUNDS_TOLD: Duration = Duration::from_secs(1);
/// Leaders that a reader is sent to one behind the other before its caller waits.
const AT_ONCE_MAX: u32 = 3;
/// Between background questions.
const INTERVAL: Duration = Duration::from_millis(limits::AGE_INTERVAL_MS);

/// The leaders that a reader was sent to.
#[derive(Default)]
struct Named {
    last: Option<NodeId>,
    followed: u32,
}

impl Named {
    /// Whether to ask `leader` at once: it is news, and nodes that name each other make no hot loop.
    fn follow(&mut self, leader: Option<NodeId>) -> bool {
        let news = leader.is_some() && leader != self.last;
        self.last = leader;
        self.followed += u32::from(news);
        news && self.followed <= AT_ONCE_MAX
    }
}

/// What `look` finds in this node's replica of a shard: a linearizable read, whoever leads. `look`
/// may be asked several times; what it found last is given.
pub(crate) async fn read<T>(
    node: &Arc<Shared>,
    group: &Arc<Group>,
    limit: Duration,
    look: impl Fn(&ShardState) -> T,
) -> Result<T, ReadError> {
    let deadline = Instant::now() + limit;
    let mut named = Named::default();
    group.leadership.sleep.begin();
    loop {
        // Who is about to lead waits for it; who has handed over asks whom it named.
        let leads = group.leadership.expected() == Some(group.node);
        if leads || mutant!("lease-kept-after-step-down") && group.has_led() {
            let left = deadline.saturating_duration_since(Instant::now());
            match group.read(left, &look).await {
                Err(ReadError::NotLeader { leader, .. }) if named.follow(leader) => continue,
                read => return read,
            }
        }
        let LeaderAnswer { leader, at } = match told(node, group, deadline).await {
            Err(ReadError::NotLeader { leader, .. }) if named.follow(leader) => continue,
            told => told?,
        };
        if !mutant!("follower-read-without-waiting-for-apply") {
            applied(group, at.index, deadline).await?;
        }
        let found = look(&group.state);
        if group.follows(at.term, leader) {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(ReadError::NoQuorum(group.shard));
        }
    }
}

/// Waits until reads of the replica see what lies at `index`.
async fn applied(group: &Group, index: u64, deadline: Instant) -> Result<(), ReadError> {
    let mut reached = group.state.watch_applied();
    let until = deadline.min(Instant::now() + FOLLOWER_APPLY_MAX);
    let there = reached.wait_for(|reached| reached.index() >= index);
    if matches!(timeout_at(until, there).await, Ok(Ok(_))) {
        return Ok(());
    }
    let (shard, last) = (group.shard, group.last_index());
    let reached = group.state.reached().index();
    tracing::debug!(%shard, index, reached, last, "a replica is behind its leader");
    Err(ReadError::Behind(shard))
}

/// What the leader answers to a question that is sent after this call. All who wait share it.
async fn told(
    node: &Arc<Shared>,
    group: &Arc<Group>,
    deadline: Instant,
) -> Result<LeaderAnswer, ReadError> {
    let (told, wait) = oneshot::channel();
    let ask = {
        let mut questions = group.questions.lock();
        questions.waiting.push(told);
        let ask = questions.asking < QUESTIONS_MAX;
        questions.asking += usize::from(ask);
        ask
    };
    if ask {
        tokio::spawn(ask_for_readers(node.clone(), group.clone()));
    }
    match timeout_at(deadline, wait).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(ReadError::NoQuorum(group.shard)),
    }
}

async fn ask_for_readers(node: Arc<Shared>, group: Arc<Group>) {
    loop {
        let waiting = {
            let mut questions = group.questions.lock();
            let waiting = std::mem::take(&mut questions.waiting);
            questions.asking -= usize::from(waiting.is_empty());
            waiting
        };
        if waiting.is_empty() {
            return;
        }
        let result = ask_leader(&node, &group).await;
        for reader in waiting {
            // A reader that is gone has stopped waiting.
            let _ = reader.send(result.clone());
        }
    }
}

async fn ask_leader(node: &Arc<Shared>, group: &Group) -> Result<LeaderAnswer, ReadError> {
    let shard = group.shard;
    let not_leader = |leader| ReadError::NotLeader { shard, leader };
    let leader = node.leader(shard).ok_or_else(|| not_leader(None))?;
    if leader == node.id() {
        // A guess that is wrong, or was right a moment ago.
        node.guess(shard, node.replica_after(shard, leader));
        return Err(not_leader(None));
    }
    let result = match node.peers().link(leader) {
        Some(link) => ask(node, &link, group, leader).await,
        None => Err(ReadError::Unreachable(leader)),
    };
    if let Err(error) = &result {
        tracing::debug!(%shard, %leader, %error, "a question for a reader failed");
    }
    match &result {
        Ok(_) => node.guess(shard, Some(leader)),
        Err(ReadError::NotLeader {
            leader: Some(named),
            ..
        }) => node.guess(shard, Some(*named)),
        Err(_) => node.guess(shard, node.replica_after(shard, leader)),
    }
    result
}

async fn ask(
    node: &Shared,
    link: &Link,
    group: &Group,
    leader: NodeId,
) -> Result<LeaderAnswer, ReadError> {
    let shard = group.shard;
    let asked = group.time.now();
    let question = Body::AskPositions(wire::AskPositions {
        shards: vec![shard.0],
        reader: true,
        ..wire::AskPositions::default()
    });
    let limit = ASK_MAX + node.longest_round() * READER_ROUNDS;
    let Ok(Body::Positions(answer)) = link.call(shard.0, question, limit).await else {
        return Err(ReadError::Unreachable(leader));
    };
    match told_of(&answer).next() {
        Some((told, at)) if told == shard => {
            group.note_position(at.index, asked);
            Ok(LeaderAnswer { leader, at })
        }
        Some(_) | None if answer.leader == leader.0 => Err(ReadError::NoQuorum(shard)),
        Some(_) | None => Err(ReadError::NotLeader {
            shard,
            leader: (answer.leader != 0).then_some(NodeId(answer.leader)),
        }),
    }
}

/// The lists of an answer, one by one.
fn told_of(answer: &wire::Positions) -> impl Iterator<Item = (ShardId, ReadIndex)> + '_ {
    let positions = answer.terms.iter().zip(&answer.indexes);
    let told = answer.shards.iter().zip(positions);
    told.map(|(shard, (term, index))| {
        let (term, index) = (*term, *index);
        (ShardId(*shard), ReadIndex { term, index })
    })
}

/// Answers a question for positions of `from`.
pub(crate) async fn tell(node: &Arc<Shared>, from: NodeId, ask: wire::AskPositions) -> Body {
    let mut answer = wire::Positions::default();
    if ask.reader {
        let shard = ShardId(ask.shards.first().copied().unwrap_or(u32::MAX));
        let limit = ASK_MAX + node.longest_round() * LEADER_ROUNDS;
        match node.group(shard) {
            Some(group) => match group.read_index(limit).await {
                Ok(at) => add(&mut answer, shard, at),
                Err(ReadError::NotLeader { leader, .. }) => {
                    answer.leader = leader.unwrap_or(NodeId(0)).0;
                }
                Err(_) => answer.leader = node.id().0,
            },
            None => answer.leader = node.leader(shard).unwrap_or(NodeId(0)).0,
        }
    } else {
        for (shard, at) in positions(node, from, &ask).await {
            add(&mut answer, shard, at);
        }
        answer.stamp = Some(node.stamps.now());
    }
    Body::Positions(answer)
}

fn add(answer: &mut wire::Positions, shard: ShardId, at: ReadIndex) {
    answer.shards.push(shard.0);
    answer.terms.push(at.term);
    answer.indexes.push(at.index);
}

/// Which of a leader's shards this node follows it in.
pub(crate) fn still_follows(node: &Shared, leader: NodeId, asked: &wire::Following) -> Body {
    let mut answer = wire::Following::default();
    for (shard, term) in asked.shards.iter().zip(&asked.terms) {
        let group = node.group(ShardId(*shard));
        if group.is_some_and(|group| group.follows(*term, leader)) {
            answer.shards.push(*shard);
            answer.terms.push(*term);
        }
    }
    Body::Following(answer)
}

/// A shard that this node leads, and where it was when a quorum began to be asked.
struct Open {
    group: Arc<Group>,
    at: ReadIndex,
    /// Who asked, if it follows this node in that term.
    follower: Option<Follower>,
}

/// How far this node has come in those of the shards asked for that it leads, confirmed after `from`
/// asked.
async fn positions(
    node: &Arc<Shared>,
    from: NodeId,
    ask: &wire::AskPositions,
) -> Vec<(ShardId, ReadIndex)> {
    let (now, since) = (Instant::now(), node.time().now());
    let reaches = node.peers().reachable(from);
    let heard = ask.heard.filter(|_| reaches);
    let heard = heard.and_then(|stamp| node.stamps.moment(stamp));
    let (mut sure, mut open) = (Vec::new(), Vec::new());
    let mut terms = ask.terms.iter().copied();
    for shard in &ask.shards {
        let term = terms.next().filter(|term| reaches && *term != 0);
        let follower = term.map(|term| Follower { node: from, term });
        let Some(group) = node.group(ShardId(*shard)) else {
            continue;
        };
        let reached = group.state.reached().position;
        let standing = group.standing_with(follower, since);
        let Some((standing, reached)) = standing.zip(reached) else {
            continue;
        };
        let follower = follower.filter(|one| one.term == standing.term);
        if let Some((one, at)) = follower.zip(heard) {
            let sent = Sent { term: one.term, at };
            group.acks.confirmed(one.node, sent);
        }
        // What leaders before it acknowledged lies below the first entry of its own term; what it
        // has decided itself it may have to keep to itself for a while.
        if reached.term != standing.term || group.may_tell_at(standing.term) > now {
            continue;
        }
        let at = ReadIndex {
            term: reached.term,
            index: reached.index,
        };
        if standing.covers(at.term, since) || group.lease_holds(at.term) {
            sure.push((group.shard, at));
        } else {
            open.push(Open {
                group,
                at,
                follower,
            });
        }
    }
    if !open.is_empty() {
        node.read_rounds.fetch_add(1, Ordering::Relaxed);
        // Those that are not confirmed by then are left out.
        let _ = timeout(ROUND_MAX, round(node, &open, since)).await;
        let confirmed = open.iter().filter(|open| open.confirmed(since));
        sure.extend(confirmed.map(|open| (open.group.shard, open.at)));
    }
    sure
}

impl Open {
    fn confirmed(&self, since: Steady) -> bool {
        let now = self.group.time.now();
        let standing = self.group.standing_with(self.follower, now);
        standing.is_some_and(|standing| standing.covers(self.at.term, since))
    }
}

/// Asks the voters of all `open` shards whether they follow this node, until all are confirmed.
async fn round(node: &Arc<Shared>, open: &[Open], since: Steady) {
    let mut questions: BTreeMap<NodeId, wire::Following> = BTreeMap::new();
    for Open {
        group,
        at,
        follower,
    } in open
    {
        let members = told::server(&group.raft).membership_config;
        let said = follower.map(|one| one.node);
        for voter in members.voter_ids().map(NodeId) {
            if voter != node.id() && Some(voter) != said {
                let question = questions.entry(voter).or_default();
                question.shards.push(group.shard.0);
                question.terms.push(at.term);
            }
        }
    }
    let mut asked: FuturesUnordered<_> = questions
        .into_iter()
        .filter_map(|(voter, question)| {
            let link = node.peers().link(voter)?;
            Some(async move {
                let answer = link.call(0, Body::Following(question), ASK_MAX).await;
                (voter, answer)
            })
        })
        .collect();
    while let Some((voter, answer)) = asked.next().await {
        let Ok(Body::Following(answer)) = answer else {
            continue;
        };
        let follows: BTreeMap<u32, u64> = answer.shards.into_iter().zip(answer.terms).collect();
        for Open { group, at, .. } in open {
            if follows.get(&group.shard.0) == Some(&at.term) {
                let sent = Sent {
                    term: at.term,
                    at: since,
                };
                group.acks.confirmed(voter, sent);
            }
        }
        if open.iter().all(|open| open.confirmed(since)) {
            return;
        }
    }
}

/// Asks, again and again, the leaders of all replicas of this node how far they have come.
pub(crate) async fn keep_known(node: Arc<Shared>) {
    let mut told = Instant::now();
    loop {
        sleep(INTERVAL).await;
        if told.elapsed() >= ROUNDS_TOLD {
            told = Instant::now();
            match node.read_rounds.swap(0, Ordering::Relaxed) {
                0 => {}
                rounds => node.note(Event::ReadRounds { rounds }),
            }
        }
        let mut led: BTreeMap<NodeId, Vec<Arc<Group>>> = BTreeMap::new();
        for group in node.groups() {
            crate::tasks::sleep::wake_unconfirmed(&node, &group);
            if let Some(leader) = group.leader().filter(|leader| *leader != node.id()) {
                led.entry(leader).or_default().push(group);
            }
        }
        for (leader, groups) in led {
            if let Some(link) = node.peers().link(leader).filter(Link::is_up) {
                tokio::spawn(ask_all(&node, link, groups));
            }
        }
    }
}

/// Asks for the positions of `groups`, whose votes are read now: later they may no longer be those of
/// this node's replicas.
fn ask_all(
    node: &Arc<Shared>,
    link: Link,
    groups: Vec<Arc<Group>>,
) -> impl Future<Output = ()> + use<> {
    let (asked, leader) = (node.time().now(), link.node());
    let heard = node.stamps.heard.lock().get(&leader).copied();
    let follows = |group: &Arc<Group>| group.follows_in(leader).unwrap_or(0);
    let question = Body::AskPositions(wire::AskPositions {
        shards: groups.iter().map(|group| group.shard.0).collect(),
        reader: false,
        terms: groups.iter().map(follows).collect(),
        heard,
    });
    let node = node.clone();
    async move {
        let Ok(Body::Positions(answer)) = link.call(0, question, ASK_MAX).await else {
            return;
        };
        if let Some(stamp) = answer.stamp {
            node.stamps.heard.lock().insert(leader, stamp);
        }
        let told: BTreeMap<ShardId, ReadIndex> = told_of(&answer).collect();
        for group in groups {
            if let Some(at) = told.get(&group.shard) {
                group.note_position(at.index, asked);
            }
        }
    }
}
