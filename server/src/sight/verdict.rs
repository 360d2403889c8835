//! How a cluster stands, in one sentence, and everything that is wrong with it.
//!
//! ```text
//!  View ─► problems (what stops it, what it lives with) ─► Verdict ─► the sentence, the exit code
//! ```

mod kind;
mod problems;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use self::kind::Kind;
use self::problems::{
    broken, by_dc, clocks_off, forming, full_disks, not_led, not_restored, silent_nodes,
};
use self::words::{any, count, list};
use super::view::{Replica, Shard, View};

pub use self::kind::runbooks;
pub use self::problems::clock_off;
pub use self::words::span;

/// How a cluster stands, as the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// 0: everything is in its place.
    Whole,
    /// 3: every call is served, and something is lost that another loss would build on.
    Degraded,
    /// 1: some calls are not served.
    NotServing,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether calls are not served for it.
    pub stops: bool,
    /// For people.
    pub what: String,
    /// What that means, for people.
    pub why: &'static str,
    /// The runbook that says what to do: `firebreak generate runbooks` writes them.
    pub runbook: &'static str,
    /// Where to look next.
    pub command: &'static str,
}

/// What follows from a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// How the cluster stands.
    pub verdict: Verdict,
    /// The same in a sentence, with the gravest reasons.
    pub sentence: String,
    /// Everything that is wrong, the gravest first.
    pub problems: Vec<Problem>,
    /// Data centers of which a loss now would leave shards without a quorum.
    pub at_risk: Vec<String>,
}

/// Problems that the sentence names.
pub const TOLD_MAX: usize = 3;
impl Verdict {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Whole => 0,
            Verdict::Degraded => 3,
            Verdict::NotServing => 1,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Verdict::Whole => "whole",
            Verdict::Degraded => "DEGRADED, but serving",
            Verdict::NotServing => "NOT SERVING",
        }
    }
}

impl Judged {
    /// Of a cluster that nobody answers for.
    pub fn silent(asked: &str) -> Judged {
        Judged::of(
            vec![stop(Kind::Silent, format!("no node answers; {asked}"))],
            "",
            vec![],
        )
    }

    /// Of what was seen.
    pub fn view(view: &View) -> Judged {
        if view.map_epoch == 0 {
            return Judged::of(forming(view), "", vec![]);
        }
        let mut problems = Vec::new();
        problems.extend(not_led(view));
        problems.extend(full_disks(view));
        problems.extend(silent_nodes(view));
        problems.extend(broken(view));
        problems.extend(not_restored(view));
        problems.extend(clocks_off(view));
        problems.sort_by_key(|problem| !problem.stops);
        let at_risk = at_risk(view);
        let whole = whole(view);
        Judged::of(problems, &whole, at_risk)
    }

    fn of(problems: Vec<Problem>, whole: &str, at_risk: Vec<String>) -> Judged {
        let verdict = match problems.first() {
            None => Verdict::Whole,
            Some(first) if first.stops => Verdict::NotServing,
            Some(_) => Verdict::Degraded,
        };
        let mut parts: Vec<String> = match problems.is_empty() {
            true => vec![whole.to_owned()],
            false => problems
                .iter()
                .take(TOLD_MAX)
                .map(|one| one.what.clone())
                .collect(),
        };
        let more = problems.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            parts.push(format!("and {more} more problems"));
        }
        if verdict != Verdict::NotServing && !at_risk.is_empty() {
            parts.push(format!("losing {} now would stop shards", any(&at_risk)));
        }
        Judged {
            sentence: format!("{}: {}", verdict.word(), parts.join("; ")),
            verdict,
            problems,
            at_risk,
        }
    }
}

fn stop(kind: Kind, what: String) -> Problem {
    problem(kind, true, what)
}

fn bear(kind: Kind, what: String) -> Problem {
    problem(kind, false, what)
}

fn problem(kind: Kind, stops: bool, what: String) -> Problem {
    Problem {
        stops,
        what,
        why: kind.why(),
        runbook: kind.runbook(),
        command: kind.command(),
    }
}

/// What is said when nothing is wrong.
fn whole(view: &View) -> String {
    let dcs: BTreeSet<&str> = view.nodes.iter().map(|node| node.dc.as_str()).collect();
    let (whole_dcs, others) = by_dc(view, |node| node.draining);
    let drained: Vec<String> = { whole_dcs.iter() }
        .map(|(dc, _)| format!("data center {dc}"))
        .chain(others.iter().map(|node| node.name.clone()))
        .collect();
    let mut text = format!(
        "all {} are led, {} in {} answer, every replica is in its place",
        count(view.shards.len(), "shard"),
        count(view.nodes.len(), "node"),
        count(dcs.len(), "data center"),
    );
    if !drained.is_empty() {
        text.push_str(&format!("; drained: {}", list(&drained)));
    }
    let may_burn = at_risk(view).is_empty() && dcs.len() > 1;
    if may_burn {
        text.push_str("; any one data center may burn now and nothing is lost");
    }
    text
}

/// Whether a replica is there to vote.
pub fn is_up(replica: &Replica) -> bool {
    let absent = matches!(
        replica.state.as_str(),
        "unreachable" | "missing" | "learner"
    );
    !absent && replica.broken_reason.is_none()
}

/// Whether most replicas of a shard are there to vote.
pub fn has_quorum(shard: &Shard) -> bool {
    let up = shard
        .replicas
        .iter()
        .filter(|replica| is_up(replica))
        .count();
    up * 2 > shard.replicas.len()
}

/// The data centers of which the loss would leave a shard without a quorum that has one now.
fn at_risk(view: &View) -> Vec<String> {
    let dcs: BTreeSet<&str> = view
        .nodes
        .iter()
        .filter(|node| node.reachable)
        .map(|node| node.dc.as_str())
        .collect();
    let dc_of: BTreeMap<&str, &str> = view
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node.dc.as_str()))
        .collect();
    let stops = |dc: &&str| {
        view.shards
            .iter()
            .filter(|shard| has_quorum(shard))
            .any(|shard| {
                let up = shard.replicas.iter().filter(|replica| {
                    is_up(replica) && dc_of.get(replica.node.as_str()) != Some(dc)
                });
                up.count() * 2 <= shard.replicas.len()
            })
    };
    dcs.into_iter().filter(stops).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
