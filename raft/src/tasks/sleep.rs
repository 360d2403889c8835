//! Shards that nobody uses sleep: openraft's timers stand still, no heartbeat is sent, and what is
//! left of their cost are the nodes' pings and the shared questions for ages ([`crate::tasks::read_index`]).
//!
//! ```text
//!  leader: nothing new for a while, and all that are reached have applied everything
//!    │ stops its timers
//!    ├── Sleep {term, index} ──► replicas: still its followers, applied up to there: stop theirs
//!    ◄── those that sleep ─────┘
//!    └ one that it reaches does not sleep: it wakes again, and with it, by a heartbeat, all
//! ```
//!
//! *Waking.* Who sends or takes an append is awake: that is a write, a read that needs a round, a
//! heartbeat. So is who sees another vote or leader than before. A leader wakes when a node comes
//! back that has a replica, for its log may have ended early or its disk be another; and when it is
//! asked for a vote. A follower wakes when its leader was not confirmed for long. When the
//! leader's node falls silent, its sleeping shards elect as all others do ([`crate::tasks::election`]).
//!
//! *Turns.* When a node starts, when another is back, or leaders could not be confirmed, thousands of
//! shards would be awake at once that nobody uses; on a machine that cannot keep up their heartbeats
//! come late, and they elect for ever. So they take turns, from waking to sleep. The timers of a
//! replica that was just opened stand still until it is its turn, or it is asked for something, or
//! told of a leader.
//!
//! *Leases.* openraft counts a leader's lease by appends, so that it runs out in sleep. Reads never
//! rest on it ([`crate::replica::read`]), but two things do. A leader past it takes no proposal: so the first
//! one waits for a round ([`crate::replica::leaders::Leadership::rouse`]). And a follower past it votes for
//! anybody: so a follower gives no vote while it sleeps, or its leader was confirmed lately, as long as
//! it holds that one's node alive; nor does a leader that a quorum has confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::cluster::ClusterState;
use model::id::{NodeId, ShardId};
use model::limits;
use proto::node as wire;
use proto::node::frame::Body;
use store::Position;
use tokio::time::{Instant, sleep};

use crate::adapter::told;
use crate::adapter::types::{self, LogId};
use crate::replica::group::Group;
use crate::shared::Shared;
use crate::tasks::election;

/// Between looks for shards that nobody uses.
const IDLE_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Looks that must find a shard as it was.
const LOOKS: u64 = limits::IDLE_MS / 1_000;
/// Shards that are put to sleep at a time. Those of a question that comes too late all wake again,
/// which thousands at once would do for good on a node whose awake shards keep it busy.
const PORTION: usize = 256;
/// For the replicas to say that they sleep.
const ASK_MAX: Duration = Duration::from_secs(1);

/// The longest turn of a replica: the shard may be in use.
const TURN_MAX: Duration = Duration::from_millis(limits::IDLE_MS + 3_000);
/// Between looks whether a turn is over.
const TURN_LOOK: Duration = Duration::from_millis(250);

/// Whether a vote that is not a hand-over's may be given, as far as sleep is concerned.
pub(crate) fn may_vote(node: &Shared, group: &Arc<Group>, candidate: u64) -> bool {
    let sleep = &group.leadership.sleep;
    match group.leader() {
        Some(leader) if leader == group.node => {
            if !sleep.lapsed.load(Ordering::SeqCst) {
                return true;
            }
            // Who asks has not heard of this leader.
            rouse(group.clone());
            !group.is_confirmed()
        }
        // One that a late heartbeat woke behind its leader's back has no lease any more, either.
        Some(leader) if leader.0 != candidate && (sleep.is_asleep() || !sleep.is_unconfirmed()) => {
            election::lost(node, group, leader)
        }
        Some(_) | None => true,
    }
}

/// Where its log ends, when this node leads it and nothing is going on: all that are reached
/// have everything, and it is applied here.
fn resting(group: &Group, node: &Shared, view: &ClusterState) -> Option<Position> {
    let (term, leader) = group.leadership.now();
    let last = group.last_log()?;
    let quiet = leader == Some(group.node)
        && last.term == term
        && group.state.reached().position == Some(last)
        && !group.shard.is_meta()
        && view.move_of(group.shard).is_none()
        && !node.electing.lock().contains(&group.shard);
    let handed_over = group.leadership.leaders.lock().gave_up_lease(term);
    if !quiet || handed_over || group.may_tell_at(term) > Instant::now() || group.is_joint() {
        return None;
    }
    let has_all = |(id, matched): (&u64, &Option<LogId>)| {
        let matched = matched.as_ref().map(types::position);
        matched == Some(last) || !node.peers().reachable(NodeId(*id))
    };
    let all_have = told::data(&group.raft, |told| {
        let mut replicas = told.replication.as_ref()?.iter();
        Some(replicas.all(has_all))
    });
    (all_have? && group.is_confirmed()).then_some(last)
}

/// Puts the shards that this node leads to sleep when nobody uses them, and wakes those that it
/// follows in when nobody leads them any more.
pub(crate) async fn keep(node: Arc<Shared>) {
    let mut seen: BTreeMap<ShardId, (Position, u64)> = BTreeMap::new();
    loop {
        sleep(IDLE_CHECK_EVERY).await;
        let view = node.current_view();
        let mut now = BTreeMap::new();
        let mut idle = Vec::new();
        for group in node.groups() {
            if group.leadership.sleep.is_asleep() {
                continue;
            }
            let Some(last) = resting(&group, &node, &view) else {
                continue;
            };
            let looks = match seen.get(&group.shard) {
                Some((before, looks)) if *before == last => looks + 1,
                Some(_) | None => 1,
            };
            now.insert(group.shard, (last, looks));
            if looks > LOOKS {
                idle.push((group, last));
            }
        }
        seen = now;
        for portion in idle.chunks(PORTION) {
            put_to_sleep(&node, portion).await;
        }
    }
}

async fn put_to_sleep(node: &Arc<Shared>, idle: &[(Arc<Group>, Position)]) {
    let mut questions: BTreeMap<NodeId, wire::Sleep> = BTreeMap::new();
    let view = node.current_view();
    for (group, last) in idle {
        // It had to wait for the portions before it.
        if resting(group, node, &view) != Some(*last) {
            continue;
        }
        // Before anybody is told: no heartbeat comes behind it.
        group.leadership.sleep.fall_asleep(true);
        for other in group
            .others()
            .into_iter()
            .filter(|other| node.peers().reachable(*other))
        {
            let question = questions.entry(other).or_default();
            question.shards.push(group.shard.0);
            question.terms.push(last.term);
            question.indexes.push(last.index);
        }
    }
    let mut asked: FuturesUnordered<_> = questions
        .into_iter()
        .map(|(other, question)| async move {
            let asked = question.shards.clone();
            let answer = match node.peers().link(other) {
                Some(link) => link.call(0, Body::Sleep(question), ASK_MAX).await.ok(),
                None => None,
            };
            let slept: BTreeSet<u32> = match answer {
                Some(Body::Sleep(slept)) => slept.shards.into_iter().collect(),
                Some(_) | None => BTreeSet::new(),
            };
            let awake = asked
                .into_iter()
                .filter(move |shard| !slept.contains(shard));
            awake.map(ShardId)
        })
        .collect();
    while let Some(awake) = asked.next().await {
        awake.filter_map(|shard| node.group(shard)).for_each(rouse);
    }
}

/// What this node's replicas do when `leader` says that nothing is going on in its shards.
pub(crate) fn lie_down(node: &Shared, leader: NodeId, asked: &wire::Sleep) -> Body {
    let mut slept = wire::Sleep::default();
    let places = asked.terms.iter().zip(&asked.indexes);
    for (shard, (term, index)) in asked.shards.iter().zip(places) {
        let Some(group) = node.group(ShardId(*shard)) else {
            continue;
        };
        let last = Some(Position {
            term: *term,
            index: *index,
        });
        let rests = group.follows(*term, leader)
            && group.last_log() == last
            && group.state.reached().position == last
            && !node.electing.lock().contains(&group.shard);
        if rests {
            group.leadership.sleep.fall_asleep(false);
            slept.shards.push(*shard);
        }
    }
    Body::Sleep(slept)
}

/// Lets a replica that was just opened look for its leader when it is its turn, and does `first`
/// then.
pub(crate) async fn begin(node: &Shared, group: &Group, first: impl Future<Output = ()>) {
    let begun = async {
        let begun = group.leadership.sleep.begin();
        first.await;
        begun
    };
    take_turn(node, group, begun).await;
}

/// Wakes what this node leads and `back`, which was away, has a replica of.
pub(crate) fn wake_for(node: &Arc<Shared>, back: NodeId) {
    for group in node.groups() {
        if may_rouse(&group) && group.others().contains(&back) {
            queue(node, group, |group| async move {
                let may = may_rouse(&group);
                if may {
                    group.leadership.rouse().await;
                }
                may
            });
        }
    }
}

fn may_rouse(group: &Group) -> bool {
    group.leadership.sleep.is_asleep() && group.leads()
}

/// Wakes a follower that has not heard of its leader's being one for long.
pub(crate) fn wake_unconfirmed(node: &Arc<Shared>, group: &Arc<Group>) {
    // Who elects wakes behind it.
    if is_lost(group) && !node.electing.lock().contains(&group.shard) {
        queue(node, group.clone(), |group| async move {
            let lost = is_lost(&group);
            if lost {
                tracing::debug!(shard = %group.shard, "a sleeping shard is not led any more");
                group.leadership.sleep.wake();
            }
            lost
        });
    }
}

fn is_lost(group: &Group) -> bool {
    let sleep = &group.leadership.sleep;
    sleep.is_asleep() && sleep.is_unconfirmed() && !group.leads()
}

/// Does `wake` when it is the replica's turn, once for all who ask until then.
fn queue<F>(
    node: &Arc<Shared>,
    group: Arc<Group>,
    wake: impl FnOnce(Arc<Group>) -> F + Send + 'static,
) where
    F: Future<Output = bool> + Send,
{
    if group.leadership.sleep.queued.swap(true, Ordering::SeqCst) {
        return;
    }
    let node = node.clone();
    tokio::spawn(async move {
        let woken = async {
            group.leadership.sleep.queued.store(false, Ordering::SeqCst);
            wake(group.clone()).await
        };
        let turn = take_turn(&node, &group, woken);
        node.stop.run_until_cancelled(turn).await;
    });
}

/// Waits for a turn and does `wake`; if that woke the replica, keeps the turn until it sleeps again.
async fn take_turn(node: &Shared, group: &Group, wake: impl Future<Output = bool>) {
    // It is never closed.
    let Ok(_turn) = node.turns.acquire().await else {
        return;
    };
    let until = Instant::now() + TURN_MAX;
    if !wake.await {
        return;
    }
    while !group.leadership.sleep.is_asleep() && Instant::now() < until {
        sleep(TURN_LOOK).await;
    }
}

fn rouse(group: Arc<Group>) {
    tokio::spawn(async move { group.leadership.rouse().await });
}
