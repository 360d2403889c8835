//! One line of a scenario as steps.

use std::collections::BTreeSet;

use server::drill::plan::{Action, Step};
use toml::{Table, Value};

use super::Live;
use super::value::{names, ppm, text, time_of};

/// Why a cut that resets is refused.
const RESET_CUT: &str =
    "a cut that resets is not live: a node resets a connection as a whole, not one of its ways";

/// How long something lasts that has no end in the scenario, milliseconds.
const FOR_MS: u64 = 10_000;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its data center.
    pub dc: String,
    /// Its rack.
    pub rack: String,
}

/// Who plays in it.
pub struct Cast<'a> {
    /// All nodes, by name.
    pub members: &'a [Member],
    /// The data centers that are meant, all at once.
    pub targets: &'a [String],
    /// By real signals, where the controller runs on their machine.
    pub real: bool,
}

/// Why a line can never be done live; none when it can.
pub fn never_live(fault: &Table) -> Option<String> {
    let action = text(fault, "action");
    let why = match action {
        "silence" | "crash" | "power-cut" | "kill" | "stop" | "start" | "slow-sync"
        | "hang-sync" | "drain" | "cut" | "link" | "stampede" => return None,
        "pause" if matches!(text(fault, "clocks"), "" | "go-on") => return None,
        "disk-room" => return None,
        "pause" => "it stops a machine with its clocks",
        "burn" | "wipe-disk" | "bit-flip" | "lose-record" => "it destroys data",
        "fail-sync" => "the node would have to stop and be repaired",
        "small-disk" => "the node's own writes would have to fill the disk",
        "image-disk" | "old-disk" => "it exchanges disks",
        "clock-jump" | "clock-drift" => "it changes the machine's clock",
        "forge" => "it lies in a node's name",
        "move" | "move-to" | "remove" | "compact" => "operators have verbs of their own for it",
        "starve" => "it takes the machine's processors",
        _ => "a node has no such fault",
    };
    Some(format!("{action} cannot be done to a live cluster: {why}"))
}

impl Live {
    /// Whose processes are down or stopped at a time by what was translated so far.
    fn down_at(&self, at_ms: u64) -> BTreeSet<String> {
        let on = |step: &&Step| {
            let ends = step.for_ms.map_or(u64::MAX, |lasts| step.at_ms + lasts);
            step.action.needs_their_machine() && (step.at_ms..ends).contains(&at_ms)
        };
        let on = self.steps.iter().filter(on);
        on.flat_map(|step| step.nodes.iter().cloned()).collect()
    }
}

/// Adds the steps of all lines.
pub fn translate(faults: &[&Table], cast: &Cast<'_>, live: &mut Live) -> Result<(), String> {
    let mut begins: Vec<(String, u64)> = Vec::new();
    for fault in faults {
        let after = text(fault, "after");
        let base = begins.iter().find(|(name, _)| name == after);
        let base = base.map_or(0, |(_, at)| *at);
        let at_ms = base + time_of(fault, "at").unwrap_or(0);
        begins.push((text(fault, "name").to_owned(), at_ms));
        match text(fault, "action") {
            "stampede" => live.differs.push(
                "stampede: clients of the real load come back by themselves, the canaries do not"
                    .to_owned(),
            ),
            "start" => start(fault, cast, at_ms, live)?,
            _ => line(fault, cast, at_ms, live)?,
        }
    }
    // What nobody starts again lasts for a while.
    for step in &mut live.steps {
        step.for_ms.get_or_insert(FOR_MS);
    }
    Ok(())
}

/// Ends what goes on at the nodes that are started.
fn start(fault: &Table, cast: &Cast<'_>, at_ms: u64, live: &mut Live) -> Result<(), String> {
    let started = whom(fault, cast)?;
    for step in &mut live.steps {
        let open = step.for_ms.is_none() && step.at_ms < at_ms;
        if open && step.nodes.iter().all(|node| started.contains(node)) {
            step.for_ms = Some(at_ms - step.at_ms);
        }
    }
    Ok(())
}

fn line(fault: &Table, cast: &Cast<'_>, at_ms: u64, live: &mut Live) -> Result<(), String> {
    let mut action = action(fault, cast, live)?;
    let mut nodes = match text(fault, "from") {
        "" => whom(fault, cast)?,
        from => place(from, cast)?,
    };
    if let (
        "world" | "all" | "others",
        Action::Cut {
            peers,
            sends,
            hears,
        },
    ) = (text(fault, "from"), &mut action)
        && !peers.is_empty()
    {
        // What the world sends them does not arrive: that is done where they are.
        nodes = std::mem::take(peers);
        std::mem::swap(sends, hears);
    }
    if needs_life(&action) {
        let down = live.down_at(at_ms);
        nodes.retain(|node| !down.contains(node));
        if nodes.is_empty() {
            let what = action.name();
            live.differs
                .push(format!("{what}: nobody of those is up then"));
            return Ok(());
        }
    }
    let for_ms = time_of(fault, "for");
    let every = time_of(fault, "every");
    let each = !text(fault, "each").is_empty();
    let times = fault.get("times").and_then(Value::as_integer).unwrap_or(1);
    let times = u64::try_from(times).unwrap_or(1).max(1);
    let groups: Vec<Vec<String>> = match text(fault, "each") {
        "" => (0..times).map(|_| nodes.clone()).collect(),
        "node" => nodes.into_iter().map(|node| vec![node]).collect(),
        of => by(&nodes, cast, of == "rack"),
    };
    let mut at = at_ms;
    for nodes in groups {
        // What is down twice is down once.
        let busy = live.steps.iter().any(|one: &Step| {
            one.for_ms.is_none()
                && one.action == action
                && one.nodes.iter().all(|n| nodes.contains(n))
        });
        if busy && !each {
            extend(live, &action, &nodes, at, for_ms);
        } else {
            live.steps.push(Step {
                at_ms: at,
                for_ms,
                action: action.clone(),
                nodes,
            });
        }
        at += every.unwrap_or(0);
    }
    Ok(())
}

/// Whether only a process that runs can do it to itself.
fn needs_life(action: &Action) -> bool {
    !action.needs_their_machine() && *action != Action::Drain
}

/// More nodes of the same kind: those that are down already stay down.
fn extend(live: &mut Live, action: &Action, nodes: &[String], at_ms: u64, for_ms: Option<u64>) {
    let down: Vec<String> = {
        let same = live
            .steps
            .iter()
            .filter(|one| one.action == *action && one.for_ms.is_none());
        same.flat_map(|one| one.nodes.iter().cloned()).collect()
    };
    let more: Vec<String> = nodes
        .iter()
        .filter(|n| !down.contains(n))
        .cloned()
        .collect();
    if !more.is_empty() {
        live.steps.push(Step {
            at_ms,
            for_ms,
            action: action.clone(),
            nodes: more,
        });
    }
}

fn action(fault: &Table, cast: &Cast<'_>, live: &mut Live) -> Result<Action, String> {
    let flag = |key: &str, usual: bool| {
        let given = fault.get(key).and_then(Value::as_bool);
        given.unwrap_or(usual)
    };
    let peers = || match text(fault, "to") {
        "" | "world" | "others" | "all" | "outside" => Ok(Vec::new()),
        to => place(to, cast),
    };
    let name = text(fault, "action");
    Ok(match name {
        "silence" if flag("reset", false) => Action::Reset,
        "silence" => Action::Silence,
        "crash" | "kill" | "power-cut" => {
            if !matches!(name, "kill") {
                let kept = format!("{name}: the disks keep what they have");
                live.differs.push(kept);
            }
            match (cast.real, name) {
                (true, _) => Action::Sigkill,
                (false, "power-cut") => Action::Silence,
                (false, _) => Action::Reset,
            }
        }
        "stop" if cast.real => Action::Restart,
        "stop" => {
            return Err(
                "stop sends SIGTERM and starts again: with --real, where the controller runs on the \
                 nodes' machine"
                    .to_owned(),
            );
        }
        "pause" if cast.real => Action::Sigstop,
        "pause" => Action::StandStill,
        "slow-sync" => Action::SlowSync {
            sync_ms: time_of(fault, "sync"),
        },
        "hang-sync" => Action::SlowSync { sync_ms: None },
        "disk-room" => Action::FullDisk,
        "drain" => Action::Drain,
        "cut" if flag("reset", false) => return Err(RESET_CUT.to_owned()),
        "cut" => Action::Cut {
            peers: peers()?,
            sends: true,
            hears: flag("both", true),
        },
        "link" => Action::Slow {
            peers: peers()?,
            delay_ms: time_of(fault, "latency").unwrap_or(0),
            jitter_ms: time_of(fault, "jitter").unwrap_or(0),
            loss_ppm: ppm(text(fault, "loss")).unwrap_or(0),
        },
        other => return Err(format!("{other} is not live")),
    })
}

/// The nodes of a place: a data center, a node, or one of the words.
fn place(name: &str, cast: &Cast<'_>) -> Result<Vec<String>, String> {
    if name == "all" || name == "world" {
        return Ok(of(cast, |_| true));
    }
    let named = of(cast, |one| one.name == name || one.dc == name);
    match named.is_empty() || cast.targets.iter().any(|target| target == name) {
        true => targets(cast).map(|targets| of(cast, |one| targets.contains(&one.dc))),
        false => Ok(named),
    }
}

/// Whom the keys of a line name.
fn whom(fault: &Table, cast: &Cast<'_>) -> Result<Vec<String>, String> {
    let mut dcs = names(fault, "dc");
    dcs.extend(names(fault, "building"));
    let nodes = [names(fault, "node"), names(fault, "nodes")].concat();
    let count = fault.get("nodes").and_then(Value::as_integer);
    let everywhere = dcs.is_empty() || dcs.iter().any(|dc| dc == "all");
    if dcs.len() > 1 {
        return Err("it befalls more than one data center".to_owned());
    }
    let chosen = match everywhere {
        true if nodes.iter().any(|node| node == "all") => return Ok(of(cast, |_| true)),
        true if !dcs.is_empty() && nodes.is_empty() && count.is_none() => {
            return Ok(of(cast, |_| true));
        }
        _ => targets(cast)?,
    };
    let inside = of(cast, |one| chosen.contains(&one.dc));
    let few = usize::try_from(count.unwrap_or(0)).unwrap_or(0);
    let rack = text(fault, "rack");
    Ok(match (rack, few) {
        ("", 0) if nodes.is_empty() || nodes.iter().any(|node| node == "all") => inside,
        ("", 0) => first(chosen, nodes.len(), cast),
        ("", few) => first(chosen, few, cast),
        _ => chosen.iter().flat_map(|dc| one_rack(dc, cast)).collect(),
    })
}

/// The first nodes of each of some data centers.
fn first(dcs: &[String], few: usize, cast: &Cast<'_>) -> Vec<String> {
    let inside = |dc: &String| of(cast, |one| one.dc == *dc).into_iter().take(few);
    dcs.iter().flat_map(inside).collect()
}

/// The first rack of a data center; where it has none, its first node.
fn one_rack(dc: &str, cast: &Cast<'_>) -> Vec<String> {
    let inside = cast.members.iter().filter(|one| one.dc == dc);
    let first = inside
        .clone()
        .map(|one| one.rack.as_str())
        .min()
        .unwrap_or("");
    match first {
        "" => inside.map(|one| one.name.clone()).take(1).collect(),
        rack => of(cast, |one| one.dc == dc && one.rack == rack),
    }
}

fn of(cast: &Cast<'_>, which: impl Fn(&Member) -> bool) -> Vec<String> {
    let members = cast.members.iter().filter(|one| which(one));
    members.map(|one| one.name.clone()).collect()
}

/// Nodes by their data center or rack.
fn by(nodes: &[String], cast: &Cast<'_>, rack: bool) -> Vec<Vec<String>> {
    let mut groups: Vec<((&str, &str), Vec<String>)> = Vec::new();
    for one in cast.members.iter().filter(|one| nodes.contains(&one.name)) {
        let key = (one.dc.as_str(), if rack { one.rack.as_str() } else { "" });
        match groups.iter_mut().find(|(held, _)| *held == key) {
            Some((_, group)) => group.push(one.name.clone()),
            None => groups.push((key, vec![one.name.clone()])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The data centers that are meant.
fn targets<'a>(cast: &Cast<'a>) -> Result<&'a [String], String> {
    let mut dcs: Vec<&str> = cast.members.iter().map(|one| one.dc.as_str()).collect();
    dcs.sort_unstable();
    dcs.dedup();
    match cast.targets.is_empty() {
        false => Ok(cast.targets),
        true => Err(format!(
            "it befalls one data center: name it with --target dc=NAME; there are {}",
            dcs.join(", ")
        )),
    }
}
