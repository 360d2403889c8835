//! `[expect]`, `[draw]` and `[swarm]`.

use super::file::{Aliases, Kind, Swarm, Topology};
use super::reader::{Found, Reader, Section};
use super::refused::unknown;
use super::topology::WORDS;
use super::values;
use crate::outcome::Promise;
use crate::plan::{Expect, Pending};

/// What an expectation may wait for, besides a promise, and the key that asks for it.
const GOALS: [(&str, &str); 10] = [
    ("gap", "gap_max"),
    ("reads", "read_max"),
    ("tails", "tail_max"),
    ("failed-calls", "failed_calls_max"),
    ("recovery", "recovery_max"),
    ("refusals", "refusal_max"),
    ("age-p99", "age_p99_max"),
    ("leaderless", "leaderless_max"),
    ("rest", "rest_max"),
    ("snapshots", "snapshots_max"),
];

/// Reads `[expect]`.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Expect {
    let section = reader.section(top, "expect");
    if !section.exists() && top.has("expect") {
        return Expect::default();
    }
    if !section.exists() {
        reader.add(
            top,
            "expect",
            "is missing: what must hold, as promises = \"DOELSUHGP\"",
        );
        return Expect::default();
    }
    let keys = [
        "promises",
        "gap_max",
        "read_max",
        "tail_max",
        "failed_calls_max",
        "recovery_max",
        "refusal_max",
        "age_p99_max",
        "leaderless_max",
        "rest_max",
        "snapshots_max",
        "acked_min",
        "pending",
    ];
    reader.known(&section, &keys);
    let hour = 3_600_000;
    let failed = values::count("calls", 0..=1_000_000);
    let snapshots = values::count("snapshots", 0..=1_000_000);
    let acked = values::count("acknowledgements", 1..=100_000_000);
    let mut expect = Expect {
        promises: reader
            .need(&section, "promises", promises)
            .unwrap_or_default(),
        gap_max_ms: reader.get(&section, "gap_max", values::ms(1..=hour)),
        read_max_ms: reader.get(&section, "read_max", values::ms(1..=hour)),
        tail_max_ms: reader.get(&section, "tail_max", values::ms(1..=hour)),
        failed_calls_max: reader
            .get(&section, "failed_calls_max", failed)
            .map(u64::from),
        recovery_max_ms: reader.get(&section, "recovery_max", values::ms(1..=hour)),
        refusal_max_ms: reader.get(&section, "refusal_max", values::ms(1..=hour)),
        age_p99_max_ms: reader.get(&section, "age_p99_max", values::ms(1..=hour)),
        leaderless_max_ms: reader.get(&section, "leaderless_max", values::ms(1..=hour)),
        rest_max_ms: reader.get(&section, "rest_max", values::ms(1..=hour)),
        snapshots_max: reader
            .get(&section, "snapshots_max", snapshots)
            .map(u64::from),
        acked_min: reader
            .need(&section, "acked_min", acked)
            .map_or(1, u64::from),
        pending: Vec::new(),
    };
    for table in reader.sections(&section, "pending") {
        reader.known(&table, &["what", "why"]);
        let what = reader.need(&table, "what", values::text);
        let why = reader.need(&table, "why", values::text);
        if let (Some(what), Some(why)) = (what, why) {
            if let Some(message) = not_expected(&what, &expect, &section) {
                reader.add(&table, "what", message);
            }
            expect.pending.push(Pending { what, why });
        }
    }
    expect
}

/// Letters of promises, put into the order of DESIGN.md.
fn promises(found: &Found) -> Result<String, String> {
    let letters = Promise::ALL.map(Promise::letter);
    let all: String = letters.iter().collect();
    let must = || format!("must be letters of promises, of {all}, as \"DOELSUH\"");
    let Found::Text(text) = found else {
        return Err(must());
    };
    if let Some(wrong) = text.chars().find(|c| !letters.contains(c)) {
        return Err(format!("{}: '{wrong}' is none", must()));
    }
    if let Some(twice) = letters.iter().find(|c| text.matches(**c).count() > 1) {
        return Err(format!("{}: '{twice}' is there twice", must()));
    }
    Ok(letters.into_iter().filter(|c| text.contains(*c)).collect())
}

/// Why nothing of this name can be waited for.
fn not_expected(what: &str, expect: &Expect, section: &Section<'_>) -> Option<String> {
    let goal = GOALS.iter().find(|(name, _)| *name == what);
    let is_letter = what.chars().count() == 1 && what.chars().all(|c| Promise::of(c).is_some());
    let expected = match goal {
        Some((_, key)) => section.has(key),
        None if is_letter => expect.promises.contains(what),
        None => {
            let letters: Vec<String> = expect.promises.chars().map(String::from).collect();
            let goals = GOALS.map(|(name, _)| name);
            let known = letters.iter().map(String::as_str).chain(goals);
            return Some(unknown(what, "something that can be pending", known));
        }
    };
    if expect.pending.iter().any(|pending| pending.what == what) {
        return Some(format!("\"{what}\" is pending twice"));
    }
    (!expected).then(|| format!("\"{what}\" is not expected above, so nothing of it is pending"))
}

/// Reads `[draw]`: names for what a seed chooses.
pub(super) fn aliases(reader: &mut Reader<'_>, section: &Section<'_>) -> Aliases {
    reader.known(section, &["dcs", "nodes"]);
    let mut read = |key| {
        let names = reader.get(section, key, |found| {
            let names = values::names(found)?;
            for name in &names {
                values::name(&Found::Text(name.clone()))?;
            }
            Ok(names)
        });
        names.unwrap_or_default()
    };
    Aliases {
        dcs: read("dcs"),
        nodes: read("nodes"),
    }
}

/// Checks the names of `[draw]` against the topology's.
pub(super) fn check_aliases(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    aliases: &Aliases,
    topology: &Topology,
) {
    let mut seen: Vec<&str> = topology.dcs.iter().map(|dc| dc.name.as_str()).collect();
    for (key, names) in [("dcs", &aliases.dcs), ("nodes", &aliases.nodes)] {
        for name in names {
            if seen.contains(&name.as_str()) || WORDS.contains(&name.as_str()) {
                let message = format!("\"{name}\" is the name of something else already");
                reader.add(section, key, message);
            }
            seen.push(name);
        }
    }
    let nodes: u32 = topology.dcs.iter().map(|dc| topology.least_nodes(dc)).sum();
    let bounds = [
        ("dcs", aliases.dcs.len(), topology.dcs.len(), "data centers"),
        ("nodes", aliases.nodes.len(), nodes as usize, "nodes"),
    ];
    for (key, names, there, what) in bounds {
        if names > there {
            let message = format!("{names} different {what} cannot be drawn of {there}");
            reader.add(section, key, message);
        }
    }
}

const KINDS: &[(&str, Kind)] = &[
    ("burn", Kind::Burn),
    ("crash", Kind::Crash),
    ("power-cut", Kind::PowerCut),
    ("kill", Kind::Kill),
    ("stop", Kind::Stop),
    ("silence", Kind::Silence),
    ("flap", Kind::Flap),
    ("asymmetric-cut", Kind::AsymmetricCut),
    ("bridge", Kind::Bridge),
    ("reset", Kind::Reset),
    ("loss", Kind::Loss),
    ("latency", Kind::Latency),
    ("pause", Kind::Pause),
    ("starve", Kind::Starve),
    ("slow-sync", Kind::SlowSync),
    ("hang-sync", Kind::HangSync),
    ("fail-sync", Kind::FailSync),
    ("disk-room", Kind::DiskRoom),
    ("bit-flip", Kind::BitFlip),
    ("clock-jump", Kind::ClockJump),
    ("clock-drift", Kind::ClockDrift),
    ("drain", Kind::Drain),
    ("stampede", Kind::Stampede),
];

/// Reads `[swarm]`.
pub(super) fn swarm(reader: &mut Reader<'_>, top: &Section<'_>, load_ms: u64) -> Swarm {
    let section = reader.section(top, "swarm");
    reader.known(
        &section,
        &["always", "kinds", "faults", "window", "leave_out"],
    );
    let kinds = reader.get(&section, "kinds", |found| {
        let names = values::names(found)?;
        let mut kinds = Vec::new();
        for name in names {
            let kind = values::word("a kind of fault that swarms draw", KINDS);
            kinds.push(kind(&Found::Text(name))?);
        }
        Ok(kinds)
    });
    let all = || KINDS.iter().map(|(_, kind)| *kind).collect();
    let faults = reader.get(&section, "faults", values::counts("faults", 0..=20));
    let window = reader.get(&section, "window", values::window_ms(0..=load_ms));
    Swarm {
        always: reader.get(&section, "always", values::yes).unwrap_or(false),
        kinds: kinds.unwrap_or_else(all),
        faults: faults.unwrap_or((1, 4)),
        window_ms: window.unwrap_or((load_ms / 10, load_ms * 7 / 10)),
        leave_out: reader
            .get(&section, "leave_out", values::yes)
            .unwrap_or(true),
    }
}
