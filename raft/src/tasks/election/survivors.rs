//! The survivors of a leader: who they are, whether they agree, and in which order they stand.

use std::cmp::Reverse;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::cluster;
use model::id::NodeId;
use proto::node as wire;
use proto::node::frame::Body;
use tokio::time::{Instant, timeout_at};

use super::{DOUBLED_MAX, TURN_MAX};
use crate::adapter::types::Vote;
use crate::tasks::election::{AGREE_PAUSE, ANSWER_SLACK, Election, LONG, TURN_SLACK, last};

/// The survivors of a leader, in the order of their turns.
pub(super) struct Survivors {
    pub(super) ranking: Vec<NodeId>,
    /// What it takes to see that the one before stands, or to win.
    pub(super) turn: Duration,
}

impl Election<'_> {
    /// The survivors, once a majority has lost the leader; nobody is waited for once there is one.
    pub(super) async fn agree(&self, vote: &Vote, voters: &[u64]) -> Option<Survivors> {
        let me = self.node.id();
        let vitals = self.node.peers().vitals();
        let others = voters.iter().map(|id| NodeId(*id));
        let others = others.filter(|id| *id != me && *id != self.old);
        let mut asked: FuturesUnordered<_> = others.map(|other| self.ask(vote, other)).collect();
        let mut survivors = vec![(last(self.group), me)];
        let mut answers_until = Instant::now() + LONG;
        while let Ok(Some(answer)) = timeout_at(answers_until, asked.next()).await {
            survivors.extend(answer);
            let well = survivors.iter().filter(|(_, id)| !vitals.stalled(*id));
            if well.count() > voters.len() / 2 {
                // Who is as near has answered, too, and may have more.
                answers_until = answers_until.min(Instant::now() + AGREE_PAUSE.0);
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
        let late = self.node.peers().vitals().lateness([other]);
        let limit = (link.round() * 2 + late + ANSWER_SLACK).min(TURN_MAX.0);
        let answer = link.call(self.group.shard.0, question, limit).await;
        let Ok(Body::LastLogAnswer(answer)) = answer else {
            return None;
        };
        let theirs = answer.vote.unwrap_or_default();
        let follows = theirs.committed && theirs.term > vote.leader_id().term;
        let said = (answer.last.map(|l| (l.term, l.index)), other);
        (answer.dead_here_too && !follows).then_some(said)
    }

    /// A candidate notes its own vote, asks, and is noted by the others; each of the two may have to
    /// wait for its disk, and then for its processor.
    fn turn(&self, survivors: &[NodeId]) -> Duration {
        let peers = self.node.peers();
        let links = survivors.iter().filter_map(|id| peers.link(*id));
        let round = links.map(|link| link.round()).max().unwrap_or_default();
        let well = survivors.iter().copied();
        let well = well.filter(|id| !peers.vitals().stalled(*id));
        let burdens = well.clone().filter_map(|id| peers.vitals().burden(id));
        let burden = burdens.max().unwrap_or_default() + peers.vitals().lateness(well);
        if model::mutant!("turns-without-back-off") {
            return (round + TURN_SLACK).min(TURN_MAX.0 / 2);
        }
        (round + burden * 2 + TURN_SLACK).min(TURN_MAX.0)
    }
}

/// A turn behind so many that nobody won.
pub(super) fn backed_off(turn: Duration, failed: u32) -> Duration {
    (turn * (1 << failed.min(DOUBLED_MAX))).min(TURN_MAX.1)
}

/// Something between nothing and `most`, another one for each replica and term.
pub(super) fn jitter(most: Duration, replica: u64, vote: Vote) -> Duration {
    let mut hash = replica ^ vote.leader_id().term.rotate_left(17);
    // The finalizer of SplitMix64.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    most * u32::from((hash >> 56) as u8) / 256
}
