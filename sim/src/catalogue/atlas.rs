//! The fault atlas: whether what a plan does to a cluster leaves what it promises.
//!
//! For every choice of replicas that a shard may have, one node in each of as many data centers as
//! there are replicas, and for every choice of the meta shard's voters, at most two of five in one:
//!
//! - where D is promised, no two data centers ever lose disks (of five replicas, no three): what a
//!   quorum has synced stays on some synced disk of every quorum;
//! - where G is promised, at every moment some replica is up and has a majority that is up too and
//!   that it reaches both ways; where only P is, after the last fault;
//! - where nodes that are gone are replaced, those that were lost for long enough before a fault are
//!   no replicas any more: the choices are among the others, and among those that joined;
//! - always, faults make sense: only what is down starts, only a stopped disk is exchanged, and
//!   what burned does not come back.

use std::collections::BTreeSet;
use std::fmt;

use super::choices::Choices;
use super::damage::Damage;
use crate::plan::{Fault, NodeSpec, Plan};

/// How long after it was given up a node's replicas are on others, at the latest, ms.
const REPLACED_MS: u64 = 15_000;

/// Why a plan cannot keep what it promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsurvivable {
    /// The line of the timeline that goes too far.
    pub line: u32,
    /// When, ms after the load began.
    pub at_ms: u64,
    /// The promise that is not left; none when the fault makes no sense by itself.
    pub promise: Option<char>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Unsurvivable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at_ms / 1_000;
        let ms = self.at_ms % 1_000;
        write!(out, "at {seconds}.{ms:03} s {}", self.why)?;
        match self.promise {
            Some(letter) => write!(out, ", and {letter} is promised"),
            None => Ok(()),
        }
    }
}

/// Whether a plan leaves what it promises.
///
/// # Errors
/// The first moment at which it does not.
pub fn check(plan: &Plan) -> Result<(), Unsurvivable> {
    let mut choices = Choices::of(&plan.topology);
    let mut damage = Damage::new(&plan.topology);
    let promises = |letter| plan.expect.promises.contains(letter);
    let mut events = plan.events.iter().peekable();
    while let Some(event) = events.next() {
        let wrong = |promise, why| Unsurvivable {
            line: event.line,
            at_ms: event.at_ms,
            promise,
            why,
        };
        let replaced = replaced(plan, event.at_ms);
        if damage.forget(&replaced) {
            let joined = |node: &NodeSpec| node.joins_at_ms.is_none_or(|at| at <= event.at_ms);
            let may = |node: &NodeSpec| joined(node) && !replaced.contains(node.name.as_str());
            choices = Choices::among(&plan.topology, &may);
        }
        damage.take(&event.fault).map_err(|why| wrong(None, why))?;
        if promises('D') {
            let lost = damage.dcs_without_disks(&plan.topology);
            if lost.len() > (plan.topology.replicas as usize - 1) / 2 {
                let lost: Vec<&str> = lost.into_iter().collect();
                let why = format!(
                    "disks are lost in {}: what a quorum there acknowledged may be gone",
                    lost.join(" and ")
                );
                return Err(wrong(Some('D'), why));
            }
        }
        let more = events.peek().is_some_and(|next| next.at_ms == event.at_ms);
        let last = events.peek().is_none();
        if (promises('G') && !more) || (promises('P') && last) {
            let letter = if promises('G') { 'G' } else { 'P' };
            if let Some(stuck) = choices.stuck(&damage.reach()) {
                let among = |(at, _): &(usize, &String)| stuck & (1 << at) != 0;
                let names = damage.names().enumerate().filter(among);
                let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
                let names = names.join(", ");
                let why = format!("a shard on {names} has no connected majority");
                return Err(wrong(Some(letter), why));
            }
        }
    }
    Ok(())
}

/// The nodes that burned so long before that their replicas are on others.
fn replaced(plan: &Plan, at_ms: u64) -> BTreeSet<&str> {
    let after_ms = plan.topology.replace_after_ms;
    let long_ago = |at: u64| after_ms > 0 && at + after_ms + REPLACED_MS <= at_ms;
    let burned = plan.events.iter().filter(|event| long_ago(event.at_ms));
    let hosts = burned.flat_map(|event| match &event.fault {
        Fault::Burn { hosts } => &hosts[..],
        _ => &[],
    });
    hosts.map(String::as_str).collect()
}
