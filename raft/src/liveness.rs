//! What happens when a node falls silent: every shard that it led elects at once, instead of
//! waiting for openraft's own timers, which are slow on purpose.
//!
//! The verdict is about nodes, not shards: a link was silent for its limit, or was reset and is
//! refused ([`crate::link`]), or the node itself says that its log waits for its disk
//! ([`crate::gray`]). Before electing, the survivors of a shard ask each other for their last log
//! ids and whether they too have lost the leader; a majority must agree.
//!
//! ```text
//!  verdict ─► agree (a majority lost it) ─► my turn? ──────────────► stand ─► somebody leads
//!                  ▲                           │ somebody stands        │
//!                  └──────── a turn later ◄────┴────────────────────────┘ nobody won
//! ```
//!
//! The longest log goes first, among equals the replica that should rather lead by the policies; the
//! next one after one turn, which is what it takes to see a vote of the one before. So all shards of
//! a node elect in one wave, each with one candidate. The way past the voters' leases is openraft's
//! hand-over, from whatever vote the candidate has: votes marked as one pass leases, so inbound
//! marked votes are refused while their leader is held alive here.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::cluster;
use model::id::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::TransferLeaderRequest;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::time::{Instant, sleep, timeout_at};

use crate::group::Group;
use crate::link::{Link, Reach};
use crate::node::Inner;
use crate::types::{self, Types, Vote};

/// How long the survivors keep asking each other.
const AGREE_MAX: Duration = Duration::from_secs(3);
/// Between two rounds of asking.
const AGREE_PAUSE: Duration = Duration::from_millis(25);
/// On top of two rounds, for the answer of one survivor.
const ANSWER_SLACK: Duration = Duration::from_millis(100);
/// On top of rounds and syncs, for one candidate's turn.
const TURN_SLACK: Duration = Duration::from_millis(40);
/// Sleeping shards that elect at a time: those that somebody uses must not wait for them.
const ASLEEP_AT_ONCE: usize = 256;
/// Longest turn.
const TURN_MAX: Duration = Duration::from_millis(500);

/// Watches one link and passes verdicts, until the link is dropped.
pub(crate) async fn watch(node: Arc<Inner>, link: Link) {
    let peer = link.node();
    let mut reach = link.watch();
    drop(link);
    let mut silent = false;
    loop {
        // A link that has never been up has led nothing since this node started, or its shards
        // are waiting for openraft's timers as they must.
        if reach.wait_for(|reach| *reach == Reach::Up).await.is_err() {
            return;
        }
        if std::mem::take(&mut silent) {
            tracing::info!(%peer, "a node is back");
            resume(&node, peer).await;
        }
        crate::sleep::wake_for(&node, peer);
        let gone = |reach: &Reach| matches!(reach, Reach::Gone { .. });
        let Ok(reset) = reach
            .wait_for(gone)
            .await
            .map(|reach| *reach == Reach::Gone { reset: true })
        else {
            return;
        };
        silent = true;
        let shards = elect_all(&node, peer);
        tracing::warn!(%peer, shards, reset, "a node is silent");
    }
}

/// What this node leads goes on at once to a node that is back: openraft would wait out what is left
/// of the pause that it makes between two attempts, while a shard may need that replica.
async fn resume(node: &Inner, peer: NodeId) {
    let led = crate::balance::led(node);
    crate::news::tell_all(node, peer, &led);
    for group in led {
        // A group that has stopped leads nothing any more.
        let _ = group.raft.trigger().reset_backoff([peer.0]).await;
    }
}

/// Elects in every shard that `peer` leads, first in those that somebody uses; how many there are.
pub(crate) fn elect_all(node: &Arc<Inner>, peer: NodeId) -> usize {
    let mut led = node.groups();
    led.retain(|group| group.leader() == Some(peer));
    let shards = led.len();
    led.retain(|group| node.electing.lock().insert(group.shard));
    let asleep = |group: &Arc<Group>| group.leadership.sleep.is_still();
    let (mut asleep, used): (Vec<_>, Vec<_>) = led.into_iter().partition(asleep);
    for group in used {
        tokio::spawn(elect_inserted(node.clone(), group, peer));
    }
    if !asleep.is_empty() {
        // Those first where this node goes first: where others do, it would wait for them.
        let view = node.current_view();
        asleep.sort_by_cached_key(|group| {
            let order = cluster::leader_order(&view, group.shard);
            let mut survivors = order.iter().filter(|id| **id != peer);
            survivors.position(|id| *id == node.id())
        });
        let node = node.clone();
        tokio::spawn(async move {
            let elections = futures::stream::iter(asleep);
            let elect = |group| elect_inserted(node.clone(), group, peer);
            elections.for_each_concurrent(ASLEEP_AT_ONCE, elect).await;
        });
    }
    shards
}

/// What this node tells another survivor. It begins to elect itself if it has lost the leader, too:
/// the one whose turn is first must not be the last to begin.
pub(crate) fn asked(node: &Arc<Inner>, group: &Arc<Group>, dead: NodeId) -> wire::LastLogAnswer {
    let vote = vote_of(group);
    if group.leader() == Some(dead) && lost(node, group, dead) {
        tokio::spawn(elect(node.clone(), group.clone(), dead));
    }
    wire::LastLogAnswer {
        last: last(group).map(|(term, index)| wire::LogId { term, index }),
        vote: Some(types::vote_to_wire(&vote)),
        dead_here_too: group.leader() != Some(dead) || lost(node, group, dead),
    }
}

/// Whether a vote marked as a hand-over may pass leases here: not while its leader is held alive,
/// unless that leader hands over itself.
pub(crate) fn may_pass_lease(node: &Inner, group: &Group, candidate: u64) -> bool {
    match group.leader() {
        None => true,
        Some(leader) if leader.0 == candidate => true,
        Some(leader) => group.handing_over() || lost(node, group, leader),
    }
}

/// Whether a node cannot lead a shard, as seen from here: it is not held alive, it says itself that
/// its log waits for its disk, or it handed over and nobody took it.
pub(crate) fn lost(node: &Inner, group: &Group, leader: NodeId) -> bool {
    !node.peers().seems_alive(leader)
        || node.peers().vitals().stalled(leader)
        || group.lost_by_hand_over(leader)
}

fn vote_of(group: &Group) -> Vote {
    group.raft.server_metrics().borrow_watched().vote
}

fn vote_and_voters(group: &Group) -> (Vote, Vec<u64>) {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    (
        metrics.vote,
        metrics.membership_config.voter_ids().collect(),
    )
}

fn last(group: &Group) -> Option<(u64, u64)> {
    group.last_log().map(|p| (p.term, p.index))
}

/// One survivor's part in electing a new leader of one shard, `old` having led it. At most one of
/// these runs for a shard.
pub(crate) async fn elect(node: Arc<Inner>, group: Arc<Group>, old: NodeId) {
    if node.electing.lock().insert(group.shard) {
        elect_inserted(node, group, old).await;
    }
}

/// The same, behind the note that it goes on.
async fn elect_inserted(node: Arc<Inner>, group: Arc<Group>, old: NodeId) {
    let election = Election {
        node: &node,
        group: &group,
        old,
    };
    let needed = election.needed();
    if needed {
        node.stop.run_until_cancelled(election.run()).await;
    }
    node.electing.lock().remove(&group.shard);
    if needed {
        // What came of it, openraft's own timers go on from there.
        group.leadership.sleep.wake();
    }
}

struct Election<'a> {
    node: &'a Arc<Inner>,
    group: &'a Group,
    old: NodeId,
}

/// The survivors of a leader, in the order of their turns.
struct Survivors {
    ranking: Vec<NodeId>,
    /// What it takes to see that the one before stands.
    turn: Duration,
}

impl Election<'_> {
    async fn run(&self) {
        let me = self.node.id();
        let began = Instant::now();
        while self.needed() && began.elapsed() < AGREE_MAX {
            let (vote, voters) = vote_and_voters(self.group);
            if !voters.contains(&me.0) {
                return;
            }
            let Some(Survivors { ranking, turn }) = self.agree(&vote, &voters).await else {
                sleep(AGREE_PAUSE).await;
                continue;
            };
            let place = ranking.iter().position(|one| *one == me).unwrap_or(0);
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let moved = self.voted_otherwise(&vote, turn.saturating_mul(place));
            if place > 0 && moved.await {
                // Somebody stands: that takes a turn to see through.
                self.led_within(turn * 2).await;
                continue;
            }
            if !self.needed() || vote_of(self.group) != vote {
                continue;
            }
            // Only the candidate's own group is told. The marked votes pass the others' leases by
            // themselves; told too, those would drop their leases, and stand for the same term.
            let request = TransferLeaderRequest::<Types>::new(vote, me.0, None);
            if self
                .group
                .raft
                .handle_transfer_leader(request)
                .await
                .is_err()
            {
                // The group has stopped.
                return;
            }
            // One with a shorter log may have used up the term; openraft does not note that where it
            // refuses.
            let stood = self.group.outlogged.load(Ordering::Relaxed);
            let turns = match vote.leader_id().term < stood {
                true => 1,
                false => u32::try_from(ranking.len()).unwrap_or(u32::MAX),
            };
            self.led_within(turn.saturating_mul(turns)).await;
        }
    }

    /// Whether nobody leads, or only one who cannot.
    fn needed(&self) -> bool {
        match self.group.leader() {
            None => true,
            Some(leader) => leader == self.old && lost(self.node, self.group, leader),
        }
    }

    /// Whether this replica has another vote than `vote` within `limit`.
    async fn voted_otherwise(&self, vote: &Vote, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let other = |now: &RaftServerMetrics<Types>| (now.vote != *vote).then_some(());
        self.group.seen(until, other).await.is_some()
    }

    /// Waits until somebody leads, no longer than `limit`.
    async fn led_within(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let another = |now: &RaftServerMetrics<Types>| {
            let leader = now.current_leader;
            leader.filter(|leader| *leader != self.old.0)
        };
        // Whoever it is.
        let _ = self.group.seen(until, another).await;
    }

    /// The survivors, once a majority has lost the leader; nobody is waited for once there is one.
    async fn agree(&self, vote: &Vote, voters: &[u64]) -> Option<Survivors> {
        let me = self.node.id();
        let vitals = self.node.peers().vitals();
        let others = voters.iter().map(|id| NodeId(*id));
        let others = others.filter(|id| *id != me && *id != self.old);
        let mut asked: FuturesUnordered<_> = others.map(|other| self.ask(vote, other)).collect();
        let mut survivors = vec![(last(self.group), me)];
        let mut answers_until = Instant::now() + TURN_MAX;
        while let Ok(Some(answer)) = timeout_at(answers_until, asked.next()).await {
            survivors.extend(answer);
            let well = survivors.iter().filter(|(_, id)| !vitals.stalled(*id));
            if well.count() > voters.len() / 2 {
                // Who is as near has answered, too, and may have more.
                answers_until = answers_until.min(Instant::now() + AGREE_PAUSE);
            }
        }
        let well = survivors.iter().filter(|(_, id)| !vitals.stalled(*id));
        if well.count() <= voters.len() / 2 {
            return None;
        }
        let view = self.node.current_view();
        let preferred = cluster::leader_order(&view, self.group.shard);
        let place = |id: &NodeId| preferred.iter().position(|one| one == id);
        let ids: Vec<NodeId> = survivors.iter().map(|(_, id)| *id).collect();
        let reaches = |a: &NodeId, b: &NodeId| !vitals.says_unreached(*a, *b);
        let unfit = |id: &NodeId| {
            let reached = ids
                .iter()
                .filter(|other| reaches(id, other) && reaches(other, id));
            vitals.stalled(*id) || reached.count() <= voters.len() / 2
        };
        // The same for all survivors, as far as they know the same.
        survivors.sort_by_key(|(last, id)| {
            (
                unfit(id),
                Reverse(*last),
                place(id).unwrap_or(usize::MAX),
                *id,
            )
        });
        Some(Survivors {
            ranking: survivors.into_iter().map(|(_, id)| id).collect(),
            turn: self.turn(&ids),
        })
    }

    /// What a survivor says, if it has lost the leader too and follows nobody else.
    async fn ask(&self, vote: &Vote, other: NodeId) -> Option<(Option<(u64, u64)>, NodeId)> {
        let link = self.node.peers().link(other)?;
        let question = Body::LastLog(wire::LastLog { dead: self.old.0 });
        let limit = link.round() * 2 + ANSWER_SLACK;
        let answer = link.call(self.group.shard.0, question, limit).await;
        let Ok(Body::LastLogAnswer(answer)) = answer else {
            return None;
        };
        let theirs = answer.vote.unwrap_or_default();
        let follows = theirs.committed && theirs.term > vote.leader_id().term;
        let said = (answer.last.map(|l| (l.term, l.index)), other);
        (answer.dead_here_too && !follows).then_some(said)
    }

    /// A candidate notes its own vote, asks, and is noted by the others.
    fn turn(&self, survivors: &[NodeId]) -> Duration {
        let peers = self.node.peers();
        let links = survivors.iter().filter_map(|id| peers.link(*id));
        let round = links.map(|link| link.round()).max().unwrap_or_default();
        let burdens = survivors.iter().filter(|id| !peers.vitals().stalled(**id));
        let burden = burdens.filter_map(|id| peers.vitals().burden(*id)).max();
        (round + burden.unwrap_or_default() * 2 + TURN_SLACK).min(TURN_MAX)
    }
}
