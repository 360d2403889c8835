//! How a cluster stands, in one sentence, and everything that is wrong with it.
//!
//! ```text
//!  View ─► problems (what stops it, what it lives with) ─► Verdict ─► the sentence, the exit code
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::view::{Node, Replica, Shard, View};

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

/// What can be wrong; each has a runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silent,
    Forming,
    NoQuorum,
    NoLeader,
    DiskFull,
    NodeSilent,
    Broken,
    Misplaced,
    ClockOff,
}

/// The runbooks that problems name.
pub fn runbooks() -> impl Iterator<Item = &'static str> {
    Kind::ALL.into_iter().map(Kind::runbook)
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Silent,
        Kind::Forming,
        Kind::NoQuorum,
        Kind::NoLeader,
        Kind::DiskFull,
        Kind::NodeSilent,
        Kind::Broken,
        Kind::Misplaced,
        Kind::ClockOff,
    ];

    fn runbook(self) -> &'static str {
        match self {
            Kind::Silent => "no-node-answers",
            Kind::Forming => "cluster-forming",
            Kind::NoQuorum => "no-quorum",
            Kind::NoLeader => "no-leader",
            Kind::DiskFull => "disk-full",
            Kind::NodeSilent => "node-silent",
            Kind::Broken => "replica-broken",
            Kind::Misplaced => "replica-misplaced",
            Kind::ClockOff => "clock-off",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Kind::Silent => "nobody can be asked, so nothing is known of the cluster from here",
            Kind::Forming => "shards are laid out once all nodes that were promised have joined",
            Kind::NoQuorum => {
                "a majority of a shard's replicas must answer before anything of it is acknowledged"
            }
            Kind::NoLeader => "calls to these shards wait, and are served once one is elected",
            Kind::DiskFull => "a node keeps a reserve so that its databases never run out of room",
            Kind::NodeSilent => {
                "its shards are led elsewhere; with another loss some may be without a quorum"
            }
            Kind::Broken => "what it stored cannot be read; it is rebuilt from the others",
            Kind::Misplaced => {
                "a shard is safe against the next loss once all its replicas are whole"
            }
            Kind::ClockOff => {
                "times of messages would be wrong, and leases are measured less surely"
            }
        }
    }

    fn command(self) -> &'static str {
        match self {
            Kind::Silent | Kind::Forming | Kind::NoQuorum | Kind::NoLeader => {
                "firebreak status --watch"
            }
            Kind::DiskFull => "firebreak node list",
            Kind::NodeSilent | Kind::ClockOff => "firebreak node list",
            Kind::Broken | Kind::Misplaced => "firebreak shard list",
        }
    }
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
/// Names in a list before it says how many more there are.
const NAMED_MAX: usize = 6;

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

fn forming(view: &View) -> Vec<Problem> {
    let (joined, expected) = (view.nodes.len(), view.nodes_expected);
    let what = match joined < expected as usize {
        true => format!("the cluster is forming: {joined} of {expected} nodes have joined"),
        false => format!(
            "the cluster is forming: {joined} nodes have joined, its shards are being laid out"
        ),
    };
    let whys = view
        .unrestored
        .iter()
        .map(|one| stop(Kind::Forming, one.why.clone()));
    std::iter::once(stop(Kind::Forming, what))
        .chain(whys)
        .collect()
}

/// Shards that nobody leads, those without a quorum apart.
fn not_led(view: &View) -> Vec<Problem> {
    let dark = view.shards.iter().filter(|shard| shard.leader.is_none());
    let (electing, lost): (Vec<&Shard>, Vec<&Shard>) = dark.partition(|shard| has_quorum(shard));
    let mut problems = Vec::new();
    for (kind, shards, why) in [
        (Kind::NoQuorum, lost, "no quorum of their replicas answers"),
        (
            Kind::NoLeader,
            electing,
            "nobody leads them; an election takes about a second",
        ),
    ] {
        if !shards.is_empty() {
            let names: Vec<String> = shards.iter().map(|shard| shard_name(shard)).collect();
            let (of, all) = (shards.len(), view.shards.len());
            problems.push(stop(
                kind,
                format!(
                    "{of} of {all} shards are not served ({}): {why}",
                    list(&names)
                ),
            ));
        }
    }
    problems
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

/// Disks that are filled up to their reserve: appends are refused where no other node can lead, or no
/// quorum has room.
fn full_disks(view: &View) -> Vec<Problem> {
    let full: BTreeSet<&str> = view
        .nodes
        .iter()
        .filter(|node| node.disk_reserve_reached)
        .map(|node| node.name.as_str())
        .collect();
    if full.is_empty() {
        return Vec::new();
    }
    let refuses = |shard: &&Shard| {
        let mut up = shard
            .replicas
            .iter()
            .filter(|replica| is_up(replica))
            .peekable();
        let is_full = |replica: &Replica| full.contains(replica.node.as_str());
        let all_up = up.peek().is_some() && up.all(&is_full);
        let roomy = shard.replicas.iter().filter(|replica| !is_full(replica));
        all_up || roomy.count() * 2 <= shard.replicas.len()
    };
    // The meta shard takes changes of the map, whose room is kept.
    let data = || view.shards.iter().filter(|shard| shard.shard != 0);
    let refusing: Vec<String> = data().filter(refuses).map(shard_name).collect();
    let names: Vec<&str> = full.iter().copied().collect();
    let disks = match names.len() {
        1 => format!("the disk of {} is full up to its reserve", names[0]),
        _ => format!("the disks of {} are full up to their reserve", list(&names)),
    };
    let of = data().count();
    vec![match refusing.len() {
        0 => bear(
            Kind::DiskFull,
            format!("{disks}: others lead what it would"),
        ),
        some if some == of => stop(
            Kind::DiskFull,
            format!("{disks}: every append is refused (DISK_FULL), reads are answered"),
        ),
        _ => stop(
            Kind::DiskFull,
            format!(
                "{disks}: appends to shards {} are refused (DISK_FULL), reads are answered",
                list(&refusing)
            ),
        ),
    }]
}

/// Nodes that do not answer; a data center of which all are silent is named instead of them.
fn silent_nodes(view: &View) -> Vec<Problem> {
    let (whole_dcs, others) = by_dc(view, |node| !node.reachable);
    let dcs = whole_dcs.iter().map(|(dc, nodes)| {
        let since = nodes.iter().filter_map(|node| node.gone_ms).min();
        gone(&format!("all of data center {dc}"), since)
    });
    let others = others.iter().map(|node| gone(&node.name, node.gone_ms));
    let names: Vec<String> = dcs.chain(others).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let dark = view.nodes.iter().filter(|node| !node.reachable).count();
    let what = format!(
        "{dark} of {} nodes {} not answer: {}",
        view.nodes.len(),
        if dark == 1 { "does" } else { "do" },
        list(&names)
    );
    let missed = |shard: &Shard| {
        let mut replicas = shard.replicas.iter();
        !has_quorum(shard) && replicas.any(|replica| replica.state == "unreachable")
    };
    match view.shards.iter().any(missed) {
        true => vec![Problem {
            why: "shards have no quorum without them: enough of them must come back",
            ..stop(Kind::NodeSilent, what)
        }],
        false => vec![bear(Kind::NodeSilent, what)],
    }
}

/// Data centers of more than one node of which all are such, with these, and the other such nodes.
fn by_dc(view: &View, such: impl Fn(&Node) -> bool) -> (Vec<(&str, Vec<&Node>)>, Vec<&Node>) {
    let mut dcs: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &view.nodes {
        dcs.entry(&node.dc).or_default().push(node);
    }
    let (mut whole, mut others) = (Vec::new(), Vec::new());
    for (dc, nodes) in dcs {
        match nodes.len() > 1 && nodes.iter().all(|node| such(node)) {
            true => whole.push((dc, nodes)),
            false => others.extend(nodes.into_iter().filter(|node| such(node))),
        }
    }
    (whole, others)
}

fn gone(what: &str, ms: Option<u64>) -> String {
    match ms {
        None | Some(0) => what.to_owned(),
        Some(ms) => format!("{what} (gone for {})", span(ms)),
    }
}

fn broken(view: &View) -> Vec<Problem> {
    let replicas = view.shards.iter().flat_map(|shard| {
        let broken = shard
            .replicas
            .iter()
            .filter(|one| one.broken_reason.is_some());
        broken.map(move |one| format!("shard {} on {}", shard_name(shard), one.node))
    });
    let replicas: Vec<String> = replicas.collect();
    match replicas.is_empty() {
        true => Vec::new(),
        false => vec![bear(
            Kind::Broken,
            format!(
                "{} broken and stopped: {}",
                are(replicas.len(), "replica"),
                list(&replicas)
            ),
        )],
    }
}

/// Replicas that are not where or as they should be, besides those of nodes that do not answer and
/// those that are broken, which are told already.
fn not_restored(view: &View) -> Vec<Problem> {
    let silent = |name: &str| view.nodes.iter().any(|n| n.name == name && !n.reachable);
    let missing = view.shards.iter().flat_map(|shard| {
        let missing = shard.replicas.iter().filter(|one| one.state == "missing");
        missing.map(|one| (shard.shard, one.node.as_str()))
    });
    let unrestored = view.unrestored.iter();
    let unrestored = unrestored.map(|one| (one.shard, one.node.as_str()));
    let broken = |shard: u32, node: &str| {
        let shard = view.shards.iter().find(|one| one.shard == shard);
        shard.is_some_and(|shard| {
            let mut replicas = shard.replicas.iter();
            replicas.any(|one| one.node == node && one.broken_reason.is_some())
        })
    };
    let replicas: BTreeSet<(u32, &str)> = missing
        .chain(unrestored)
        .filter(|(shard, node)| !silent(node) && !broken(*shard, node))
        .collect();
    let names: Vec<String> = replicas
        .iter()
        .map(|(shard, node)| match shard {
            0 => format!("meta on {node}"),
            shard => format!("{shard} on {node}"),
        })
        .collect();
    match names.is_empty() {
        true => Vec::new(),
        false => vec![bear(
            Kind::Misplaced,
            format!(
                "{} not where or as they should be: {}",
                are(names.len(), "replica"),
                list(&names)
            ),
        )],
    }
}

/// Nodes whose clock is off.
fn clocks_off(view: &View) -> Vec<Problem> {
    let off = view.nodes.iter().filter(|node| node.clock_off_ms != 0);
    off.map(|node| bear(Kind::ClockOff, clock_off(&node.name, node.clock_off_ms)))
        .collect()
}

/// Says whose clock is off, and what that means.
pub fn clock_off(node: &str, off_ms: i64) -> String {
    let way = if off_ms < 0 { "behind" } else { "ahead of" };
    let off = Duration::from_millis(off_ms.unsigned_abs());
    let off = match off.as_secs() {
        0..10 => off,
        // Whole seconds say enough.
        s => Duration::from_secs(s),
    };
    let off = humantime::format_duration(off);
    format!(
        "the clock of {node} is {off} {way} the others': it leads nothing until it is set right"
    )
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

fn shard_name(shard: &Shard) -> String {
    match shard.shard {
        0 => "meta".to_owned(),
        number => number.to_string(),
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

fn are(number: usize, what: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, what))
}

/// `a, b and 3 more`.
fn list<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `a`, `a or b`.
fn any(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// `42 s`, `7 min`, `3 h`.
pub fn span(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three nodes in three data centers, two shards beside the meta shard.
    fn whole_view() -> View {
        let names = ["seoul-1", "busan-1", "tokyo-1"];
        let node = |(at, name): (usize, &&str)| Node {
            node_id: at as u64 + 1,
            name: (*name).to_owned(),
            dc: name.trim_end_matches("-1").to_owned(),
            address: format!("{name}:7001"),
            reachable: true,
            gone_ms: None,
            draining: false,
            leads: 1,
            replicas: 3,
            disk_free_bytes: Some(1 << 30),
            disk_reserve_reached: false,
            ..Node::default()
        };
        let shard = |shard: u32| Shard {
            shard,
            slot_first: 0,
            slot_last: 0,
            leader: Some(names[shard as usize].to_owned()),
            leader_dc: None,
            term: 1,
            replicas: names
                .map(|node| Replica {
                    node: node.to_owned(),
                    state: match node == names[shard as usize] {
                        true => "leader",
                        false => "follower",
                    }
                    .to_owned(),
                    lag: Some(0),
                    broken_reason: None,
                })
                .into(),
        };
        View {
            cluster_id: "c".to_owned(),
            map_epoch: 3,
            nodes_expected: 3,
            nodes: names.iter().enumerate().map(node).collect(),
            shards: (0..3).map(shard).collect(),
            unrestored: Vec::new(),
        }
    }

    /// The node is gone, and what it led is led by the next one, where a majority is left.
    fn lose(view: &mut View, name: &str) {
        let lost = view
            .nodes
            .iter_mut()
            .find(|node| node.name == name)
            .unwrap();
        (lost.reachable, lost.gone_ms) = (false, Some(42_000));
        for shard in &mut view.shards {
            for replica in shard.replicas.iter_mut().filter(|one| one.node == name) {
                (replica.state, replica.lag) = ("unreachable".to_owned(), None);
            }
            let up = shard.replicas.iter().find(|one| one.state != "unreachable");
            shard.leader = match has_quorum(shard) {
                true => up.map(|one| one.node.clone()),
                false => None,
            };
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut View), verdict: Verdict, says: &[&str]) {
        let mut view = whole_view();
        change(&mut view);
        let judged = Judged::view(&view);
        assert_eq!(judged.verdict, verdict, "{judged:?}");
        for part in says {
            assert!(
                judged.sentence.contains(part),
                "{part}: {}",
                judged.sentence
            );
        }
    }

    #[test]
    fn all_in_its_place_is_whole_also_when_a_node_is_drained() {
        let all = "all 3 shards are led, 3 nodes in 3 data centers answer";
        check(|_| (), Verdict::Whole, &["whole: ", all]);
        let drain = |view: &mut View| view.nodes[1].draining = true;
        check(drain, Verdict::Whole, &[all, "drained: busan-1"]);
        let all_of_one = |view: &mut View| {
            view.nodes[1].draining = true;
            view.nodes.push(Node {
                name: "busan-2".to_owned(),
                ..view.nodes[1].clone()
            });
        };
        check(all_of_one, Verdict::Whole, &["drained: data center busan"]);
    }

    #[test]
    fn a_lost_data_center_is_degraded_and_the_next_one_would_stop_it() {
        check(
            |view| lose(view, "busan-1"),
            Verdict::Degraded,
            &[
                "DEGRADED, but serving: 1 of 3 nodes does not answer: busan-1 (gone for 42 s)",
                "losing seoul or tokyo now would stop shards",
            ],
        );
    }

    #[test]
    fn a_data_center_that_is_silent_is_named_instead_of_its_nodes() {
        let burnt = |view: &mut View| {
            lose(view, "busan-1");
            view.nodes.push(Node {
                name: "busan-2".to_owned(),
                gone_ms: Some(41_000),
                ..view.nodes[1].clone()
            });
        };
        let says = ["2 of 4 nodes do not answer: all of data center busan (gone for 41 s); losing"];
        check(burnt, Verdict::Degraded, &says);
    }

    #[test]
    fn nodes_without_which_there_is_no_quorum_are_not_called_borne() {
        let mut view = whole_view();
        lose(&mut view, "busan-1");
        assert!(Judged::view(&view).problems.iter().all(|one| !one.stops));
        lose(&mut view, "tokyo-1");
        assert!(Judged::view(&view).problems.iter().all(|one| one.stops));
    }

    #[test]
    fn without_a_quorum_nothing_is_served_whoever_called_itself_leader() {
        check(
            |view| {
                lose(view, "busan-1");
                lose(view, "tokyo-1");
            },
            Verdict::NotServing,
            &[
                "NOT SERVING: 3 of 3 shards are not served (meta, 1, 2): no quorum",
                "2 of 3 nodes do not answer",
            ],
        );
        let electing = |view: &mut View| view.shards[2].leader = None;
        let says = ["1 of 3 shards are not served (2): nobody leads them"];
        check(electing, Verdict::NotServing, &says);
    }

    #[test]
    fn full_disks_are_borne_while_another_node_can_lead() {
        let full = |nodes: &'static [usize]| {
            move |view: &mut View| {
                for at in nodes {
                    view.nodes[*at].disk_reserve_reached = true;
                }
            }
        };
        let one = ["the disk of busan-1 is full up to its reserve"];
        check(full(&[1]), Verdict::Degraded, &one);
        let two = ["busan-1, tokyo-1", "every append is refused (DISK_FULL)"];
        check(full(&[1, 2]), Verdict::NotServing, &two);
        let all = [
            "busan-1, seoul-1, tokyo-1",
            "every append is refused (DISK_FULL)",
        ];
        check(full(&[0, 1, 2]), Verdict::NotServing, &all);
        let rest = |view: &mut View| {
            lose(view, "busan-1");
            full(&[0, 2])(view);
        };
        check(rest, Verdict::NotServing, &["every append is refused"]);
    }

    #[test]
    fn replicas_that_are_broken_missing_or_on_their_way_are_degraded() {
        let broken = |view: &mut View| {
            let replica = &mut view.shards[2].replicas[0];
            replica.broken_reason = Some("raftdb/4.sst: checksum".to_owned());
        };
        let says = ["1 replica is broken and stopped: shard 2 on seoul-1"];
        check(broken, Verdict::Degraded, &says);
        let missing = |view: &mut View| view.shards[2].replicas[0].state = "missing".to_owned();
        let says = ["1 replica is not where or as they should be: 2 on seoul-1"];
        check(missing, Verdict::Degraded, &says);
        let unrestored = |view: &mut View| {
            view.unrestored.push(crate::sight::view::Unrestored {
                shard: 0,
                node: "tokyo-1".to_owned(),
                why: "osaka-1 is learning it".to_owned(),
            });
        };
        check(unrestored, Verdict::Degraded, &["meta on tokyo-1"]);
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_name() {
        let ahead = |view: &mut View| view.nodes[1].clock_off_ms = 7 * 86_400_000 + 250;
        let says = ["the clock of busan-1 is 7days ahead of the others': it leads nothing"];
        check(ahead, Verdict::Degraded, &says);
        let behind = |view: &mut View| view.nodes[0].clock_off_ms = -1_500;
        let says = ["the clock of seoul-1 is 1s 500ms behind the others'"];
        check(behind, Verdict::Degraded, &says);
    }

    #[test]
    fn a_cluster_that_forms_or_is_silent_does_not_serve() {
        let forming = |view: &mut View| {
            view.map_epoch = 0;
            view.nodes.truncate(1);
        };
        let says = ["the cluster is forming: 1 of 3 nodes have joined"];
        check(forming, Verdict::NotServing, &says);
        let silent = Judged::silent("asked a:1");
        assert_eq!(silent.verdict.exit_code(), 1);
        assert_eq!(silent.sentence, "NOT SERVING: no node answers; asked a:1");
    }

    #[test]
    fn long_lists_are_cut_and_times_are_rounded() {
        let names: Vec<String> = (0..9).map(|n| format!("n{n}")).collect();
        assert_eq!(list(&names), "n0, n1, n2, n3, n4, n5 and 3 more");
        assert_eq!(
            [span(1_999), span(130_000), span(7_300_000)],
            ["1 s", "2 min", "2 h"]
        );
    }
}
