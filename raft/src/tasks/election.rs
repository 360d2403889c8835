//! What happens when a node falls silent: every shard that it led elects at once, instead of
//! waiting for openraft's own timers, which are slow on purpose.
//!
//! The verdict is about nodes, not shards: a link was silent for its limit, or was reset and is
//! refused ([`crate::link`]), or the node itself says that its log waits for its disk
//! ([`crate::tasks::slow_nodes`]) or its replica of one shard is broken. Before electing, the survivors of a
//! shard ask each other for their last log ids and whether they too have lost the leader; a
//! majority must agree.
//!
//! ```text
//!  verdict ─► agree (a majority lost it) ─► my turn? ──────────────► stand ─► somebody leads
//!                  ▲                           │ somebody stands        │
//!                  └──────── a turn later ◄────┴────────────────────────┘ nobody won
//! ```
//!
//! Machines that have more to do than processors are late at each step of it, and that is when it
//! counts: survivors of a fire are overloaded. So a turn is fitted to how late the survivors are, as
//! they tell in pings ([`crate::link::vitals`]), and is doubled with each term that nobody won: who stands
//! again before the votes are there takes them from itself. And who has just stood still reads first
//! what came meanwhile, before it stands or gives anybody up ([`crate::link::pulse`]).
//!
//! The longest log goes first, among equals the replica that should rather lead by the policies; the
//! next one after one turn, which is what it takes to see a vote of the one before. So all shards of
//! a node elect in one wave, each with one candidate. The way past the voters' leases is openraft's
//! hand-over, from whatever vote the candidate has: votes marked as one pass leases, so inbound
//! marked votes are refused while their leader is held alive here.

mod survivors;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use model::cluster;
use model::id::NodeId;
use openraft::metrics::RaftServerMetrics;
use openraft::raft::TransferLeaderRequest;
use proto::node as wire;
use tokio::time::{Instant, sleep};

use self::survivors::{Survivors, backed_off, jitter};
use crate::adapter::told;
use crate::adapter::types::{self, Types, Vote};
use crate::api::{ElectionCause, Event};
use crate::link::{Link, Reach};
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::{balance, news};

/// How long the survivors keep asking each other.
const ELECT_MAX: Duration = Duration::from_secs(10);
/// Between two rounds of asking: the first, and the longest where nobody agrees.
const AGREE_PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(200));
/// On top of two rounds, for the answer of one survivor.
const ANSWER_SLACK: Duration = Duration::from_millis(100);
/// On top of rounds and syncs, for one candidate's turn.
const TURN_SLACK: Duration = Duration::from_millis(40);
/// Sleeping shards that elect at a time: those that somebody uses must not wait for them.
const ASLEEP_AT_ONCE: usize = 256;
/// Longest turn, and the longest that it is doubled to.
const TURN_MAX: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// How often a turn is doubled.
const DOUBLED_MAX: u32 = 3;
/// Longer than any wait.
const LONG: Duration = Duration::from_secs(3_600);

/// Watches one link and passes verdicts, until the link is dropped.
pub(crate) async fn watch(node: Arc<Shared>, link: Link) {
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
        crate::tasks::sleep::wake_for(&node, peer);
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
async fn resume(node: &Shared, peer: NodeId) {
    let led = balance::led(node);
    news::tell_all(node, peer, &led);
    for group in led {
        // A group that has stopped leads nothing any more.
        let _ = group.raft.trigger().reset_backoff([peer.0]).await;
    }
}

/// Elects in every shard that `peer` leads, first in those that somebody uses; how many there are.
pub(crate) fn elect_all(node: &Arc<Shared>, peer: NodeId) -> usize {
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
pub(crate) fn asked(node: &Arc<Shared>, group: &Arc<Group>, dead: NodeId) -> wire::LastLogAnswer {
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
pub(crate) fn may_pass_lease(node: &Shared, group: &Group, candidate: u64) -> bool {
    match group.leader() {
        None => true,
        Some(leader) if leader.0 == candidate => true,
        Some(leader) => group.handing_over() || lost(node, group, leader),
    }
}

/// Whether a node cannot lead a shard, as seen from here: it is not held alive, it says itself that
/// its log waits for its disk or its replica is broken, or it handed over and nobody took it.
pub(crate) fn lost(node: &Shared, group: &Group, leader: NodeId) -> bool {
    !node.peers().seems_alive(leader)
        || node.peers().vitals().stalled(leader)
        || node.peers().vitals().unfit(leader, group.shard)
        || group.lost_by_hand_over(leader, node.peers().vitals().lateness([node.id(), leader]))
}

fn vote_of(group: &Group) -> Vote {
    told::server(&group.raft).vote
}

fn vote_and_voters(group: &Group) -> (Vote, Vec<u64>) {
    let told = told::server(&group.raft);
    (told.vote, told.membership_config.voter_ids().collect())
}

fn last(group: &Group) -> Option<(u64, u64)> {
    group.last_log().map(|p| (p.term, p.index))
}

/// One survivor's part in electing a new leader of one shard, `old` having led it. At most one of
/// these runs for a shard.
pub(crate) async fn elect(node: Arc<Shared>, group: Arc<Group>, old: NodeId) {
    if node.electing.lock().insert(group.shard) {
        elect_inserted(node, group, old).await;
    }
}

/// The same, behind the note that it goes on.
async fn elect_inserted(node: Arc<Shared>, group: Arc<Group>, old: NodeId) {
    let election = Election {
        node: &node,
        group: &group,
        old,
    };
    let needed = election.needed();
    if needed {
        let (cause, began) = (cause(&node, &group, old), Instant::now());
        note_began(&node, &group, Some(old), cause);
        node.stop.run_until_cancelled(election.run()).await;
        let won = group
            .leader()
            .filter(|leader| !election.needed_for(*leader));
        note_ended(&node, &group, (Some(old), cause), began.elapsed(), won);
    }
    node.electing.lock().remove(&group.shard);
    if needed {
        // What came of it, openraft's own timers go on from there.
        group.leadership.sleep.wake();
    }
}

/// Why `old` is to lead no more, as it looks from here.
fn cause(node: &Shared, group: &Group, old: NodeId) -> ElectionCause {
    let vitals = node.peers().vitals();
    let reach = node.peers().link(old).map(|link| *link.watch().borrow());
    match reach {
        Some(Reach::Gone { reset: true }) => ElectionCause::Reset,
        Some(Reach::Gone { reset: false }) => ElectionCause::Silent,
        _ if vitals.stalled(old) => ElectionCause::DiskStalled,
        _ if vitals.unfit(old, group.shard) => ElectionCause::Unfit,
        _ if group.lost_by_hand_over(old, vitals.lateness([node.id(), old])) => {
            ElectionCause::LostHandOver
        }
        // Nearly: another has asked, and the silence is as good as at its limit.
        _ => ElectionCause::Silent,
    }
}

/// Tells that an election begins here.
pub(crate) fn note_began(node: &Shared, group: &Group, old: Option<NodeId>, cause: ElectionCause) {
    let shard = group.shard;
    node.note(Event::ElectionBegan { shard, old, cause });
}

/// Tells what has come of it.
pub(crate) fn note_ended(
    node: &Shared,
    group: &Group,
    (old, cause): (Option<NodeId>, ElectionCause),
    took: Duration,
    won: Option<NodeId>,
) {
    let (shard, ms, why) = (group.shard, took.as_millis(), cause.name());
    match won {
        Some(leader) => tracing::info!(%shard, %leader, ms, why, "an election has ended"),
        None => tracing::info!(%shard, ms, why, "an election has ended without a leader"),
    }
    node.note(Event::ElectionEnded {
        shard,
        old,
        cause,
        took,
        won,
    });
}

struct Election<'a> {
    node: &'a Arc<Shared>,
    group: &'a Group,
    old: NodeId,
}

impl Election<'_> {
    async fn run(&self) {
        let began = Instant::now();
        let mut pause = AGREE_PAUSE.0;
        while self.needed() && began.elapsed() < ELECT_MAX {
            let (vote, voters) = vote_and_voters(self.group);
            if !voters.contains(&self.node.id().0) {
                return;
            }
            match self.agree(&vote, &voters).await {
                Some(survivors) => {
                    pause = AGREE_PAUSE.0;
                    if self.take_turn(vote, &survivors).await.is_err() {
                        // The group has stopped.
                        return;
                    }
                }
                None => {
                    sleep(pause).await;
                    pause = (pause * 2).min(AGREE_PAUSE.1);
                }
            }
        }
        if self.needed() {
            let shard = self.group.shard;
            tracing::warn!(%shard, old = %self.old, "nobody was elected; openraft's timers go on");
        }
    }

    /// Stands when it is this node's turn, or waits for who stands before.
    async fn take_turn(&self, vote: Vote, survivors: &Survivors) -> Result<(), ()> {
        let me = self.node.id();
        let failed = self.failed(&vote);
        let turn = backed_off(survivors.turn, failed);
        let place = survivors.ranking.iter().position(|one| *one == me);
        let place = u32::try_from(place.unwrap_or(0)).unwrap_or(u32::MAX);
        let mut wait = turn.saturating_mul(place);
        if failed > 0 {
            // Survivors that see each other differently all stand first.
            wait += jitter(turn / 2, me.0 ^ (u64::from(self.group.shard.0) << 32), vote);
        }
        if !wait.is_zero() && self.voted_otherwise(&vote, wait).await {
            // Somebody stands: that takes a turn to see through.
            if !self.led_within(turn * 2).await {
                self.note_failed(turn * 2, "whom it voted for did not win");
            }
            return Ok(());
        }
        self.node.peers().vitals().pulse().settled().await;
        if !self.needed() || vote_of(self.group) != vote {
            return Ok(());
        }
        // Only the candidate's own group is told. The marked votes pass the others' leases by
        // themselves; told too, those would drop their leases, and stand for the same term.
        let request = TransferLeaderRequest::<Types>::new(vote, me.0, None);
        let told = self.group.raft.handle_transfer_leader(request).await;
        told.map_err(drop)?.ok();
        // One with a shorter log may have used up the term; openraft does not note that where it
        // refuses.
        let stood = self.group.outlogged.load(Ordering::Relaxed);
        let turns = match vote.leader_id().term < stood {
            true => 1,
            false => u32::try_from(survivors.ranking.len()).unwrap_or(u32::MAX),
        };
        let limit = turn.saturating_mul(turns);
        if !self.led_within(limit).await {
            self.note_failed(limit, "this node stood and did not win");
        }
        Ok(())
    }

    /// How many terms nobody has won, as far as is known here.
    fn failed(&self, vote: &Vote) -> u32 {
        if model::mutant!("turns-without-back-off") {
            return 0;
        }
        let leaders = self.group.leadership.leaders.lock();
        let led = leaders.history.last().map(|(term, _)| *term);
        let since = led.map_or(0, |led| vote.leader_id().term.saturating_sub(led));
        u32::try_from(since).unwrap_or(u32::MAX)
    }

    /// Tells why there is still no leader.
    fn note_failed(&self, waited: Duration, what: &'static str) {
        let (shard, term) = (self.group.shard, vote_of(self.group).leader_id().term);
        let vitals = self.node.peers().vitals();
        let late_ms = vitals.lateness([self.node.id()]).as_millis();
        let (waited_ms, votes) = (waited.as_millis(), self.group.granted.votes(term));
        tracing::info!(%shard, term, waited_ms, late_ms, votes, "an election failed: {what}");
    }

    /// Whether nobody leads, or only one who cannot.
    fn needed(&self) -> bool {
        if !self.group.place.counts() {
            return false;
        }
        let leader = self.group.leader();
        leader.is_none_or(|leader| self.needed_for(leader))
    }

    /// Whether who leads cannot.
    fn needed_for(&self, leader: NodeId) -> bool {
        leader == self.old && lost(self.node, self.group, leader)
    }

    /// Whether this replica has another vote than `vote` within `limit`.
    async fn voted_otherwise(&self, vote: &Vote, limit: Duration) -> bool {
        let other = |now: &RaftServerMetrics<Types>| (now.vote != *vote).then_some(());
        self.seen(limit, other).await
    }

    /// Waits until somebody leads, no longer than `limit`; whether somebody does.
    async fn led_within(&self, limit: Duration) -> bool {
        let another = |now: &RaftServerMetrics<Types>| {
            let leader = now.current_leader;
            leader.filter(|leader| *leader != self.old.0).map(drop)
        };
        self.seen(limit, another).await
    }

    /// Whether `look` finds something within `limit`.
    async fn seen(
        &self,
        limit: Duration,
        look: impl Fn(&RaftServerMetrics<Types>) -> Option<()>,
    ) -> bool {
        let pulse = self.node.peers().vitals().pulse();
        let seen = self.group.seen(Instant::now() + LONG, look);
        pulse.within(limit, seen).await.flatten().is_some()
    }
}

#[cfg(test)]
mod tests;
