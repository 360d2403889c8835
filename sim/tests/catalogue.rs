//! Scenario files: those that ship, what a seed makes of them, and what is said of wrong ones.

#![allow(
    clippy::unwrap_used,
    reason = "a test that is surprised should stop where it is"
)]

use std::collections::BTreeSet;

use firebreak_sim::catalogue::{self, Variant, atlas};
use firebreak_sim::plan::{Event, Fault, Part, Plan, Standstill, Tier};
use proptest::collection::vec;
use proptest::prelude::*;

/// Seeds that every shipped scenario is drawn with.
const SEEDS: u64 = 200;

#[test]
fn every_shipped_scenario_is_taken_and_they_are_in_the_order_of_their_names() {
    let names: Vec<&str> = catalogue::all()
        .iter()
        .map(|shipped| shipped.name)
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    for name in names {
        match catalogue::load(name) {
            Ok(file) => assert_eq!(file.name, name),
            Err(refused) => panic!("{refused}"),
        }
    }
}

#[test]
fn a_seed_makes_the_same_plan_again_and_it_leaves_what_it_promises() {
    for shipped in catalogue::all() {
        let file = catalogue::load(shipped.name).unwrap();
        let again = catalogue::load(shipped.name).unwrap();
        for seed in 0..SEEDS {
            let plan = file.plan(seed, Variant::Ours, Tier::Direct);
            assert_eq!(plan, again.plan(seed, Variant::Ours, Tier::Direct));
            assert_eq!((plan.seed, plan.tier), (seed, Tier::Direct));
            if let Err(why) = atlas::check(&plan) {
                panic!("{} --seed {seed}: {why}\n{:#?}", shipped.name, plan.events);
            }
            whole(&plan);
        }
    }
}

/// What holds of every plan: hosts exist, times are in order and inside the load, and it is the
/// same when it was written and read.
fn whole(plan: &Plan) {
    let mut hosts: Vec<&str> = plan
        .topology
        .nodes()
        .map(|(_, node)| node.name.as_str())
        .collect();
    hosts.extend(plan.workload.sites.iter().map(|site| site.name.as_str()));
    let json = serde_json::to_value(plan).unwrap();
    for event in json["events"].as_array().unwrap() {
        for key in ["hosts", "from", "to"] {
            for host in event["fault"][key].as_array().into_iter().flatten() {
                let host = host.as_str().unwrap();
                assert!(hosts.contains(&host), "{host} of {}", plan.scenario);
            }
        }
        if let Some(named) = event["fault"]["hosts"].as_array() {
            assert!(!named.is_empty(), "{event} of {}", plan.scenario);
        }
        assert!(event["at_ms"].as_u64().unwrap() <= plan.workload.duration_ms);
    }
    assert!(plan.events.is_sorted_by_key(|event| event.at_ms));
    assert_eq!(&serde_json::from_value::<Plan>(json).unwrap(), plan);
}

#[test]
fn a_scenario_that_draws_more_elsewhere_draws_the_same_faults() {
    let plan = |text: &str| {
        let file =
            catalogue::parse(text, "good.toml").unwrap_or_else(|refused| panic!("{refused}"));
        file.plan(7, Variant::Ours, Tier::Grpc)
    };
    let good = plan(GOOD);
    let other = plan(&GOOD.replace("senders = 10", "senders = 20\nrooms = 99\ntails = 9"));
    assert_ne!(good.workload, other.workload);
    assert_eq!(
        (&good.events, &good.topology),
        (&other.events, &other.topology)
    );
    let other = plan(&GOOD.replace("for = \"1s..3s\"", "for = \"1s..2s\""));
    let but = |plan: &Plan, line| {
        let others = plan.events.iter().filter(|event| event.line != line);
        others.cloned().collect::<Vec<_>>()
    };
    assert_ne!(good.events, other.events);
    assert_eq!(but(&good, 2), but(&other, 2));
}

#[test]
fn a_fault_and_its_end_share_a_line_and_befall_the_same_hosts() {
    let file = catalogue::load("rolling-restart").unwrap();
    let plan = file.plan(3, Variant::Ours, Tier::Grpc);
    let mut hosts: Vec<(bool, String)> = Vec::new();
    for event in &plan.events {
        assert_eq!(event.line, 0);
        match &event.fault {
            Fault::Stop { hosts: stopped } => hosts.push((false, stopped.join(" "))),
            Fault::Start { hosts: started } => hosts.push((true, started.join(" "))),
            other => panic!("{other:?}"),
        }
    }
    let nodes = plan.topology.nodes().count();
    assert_eq!(hosts.len(), 2 * nodes);
    for pair in hosts.chunks(2) {
        assert_eq!((pair[0].0, pair[1].0), (false, true));
        assert_eq!(pair[0].1, pair[1].1);
    }
}

#[test]
fn a_silent_data_center_takes_the_clients_inside_with_it_and_no_others() {
    let file = catalogue::load("leader-dc-isolated").unwrap();
    let mut silent = BTreeSet::new();
    for seed in 0..30 {
        let plan = file.plan(seed, Variant::Ours, Tier::Grpc);
        let Fault::Cut {
            from,
            to,
            reset: false,
        } = &plan.events[0].fault
        else {
            panic!("{:?}", plan.events[0]);
        };
        let inside: Vec<&String> = from
            .iter()
            .filter(|name| name.starts_with("inside-"))
            .collect();
        let dc = inside[0].trim_start_matches("inside-");
        assert_eq!(inside.len(), 1);
        let dark = |name: &String| name.starts_with(&format!("{dc}-")) || name == inside[0];
        assert!(from.iter().all(dark), "{from:?}");
        assert!(!to.iter().any(dark), "{to:?}");
        let all = plan.topology.nodes().count() + plan.workload.sites.len();
        assert_eq!(from.len() + to.len(), all);
        assert!(to.contains(&format!("client-{dc}")));
        silent.insert(dc.to_owned());
    }
    assert_eq!(
        silent.len(),
        3,
        "every data center falls silent with some seed"
    );
}

#[test]
fn the_control_layout_has_the_same_story_in_one_building_and_cannot_survive_it() {
    let file = catalogue::load("kakao-2022").unwrap();
    assert!(file.has_control());
    for seed in 0..50 {
        let ours = file.plan(seed, Variant::Ours, Tier::Grpc);
        let control = file.plan(seed, Variant::Control, Tier::Grpc);
        assert!(!ours.control && control.control);
        let at = |plan: &Plan| plan.events.iter().map(|e| e.at_ms).collect::<Vec<_>>();
        assert_eq!(at(&ours), at(&control));
        let dark = |plan: &Plan| {
            let cuts = plan.events.iter().filter_map(|event| match &event.fault {
                Fault::PowerCut { hosts } => Some(hosts.len()),
                _ => None,
            });
            cuts.max().unwrap()
        };
        let of = |plan: &Plan, dcs: &[&str]| {
            let nodes = plan.topology.nodes();
            nodes
                .filter(|(dc, _)| dcs.contains(&dc.name.as_str()))
                .count()
        };
        assert_eq!(dark(&ours), of(&ours, &["pangyo"]));
        assert_eq!(dark(&control), of(&control, &["pangyo", "anyang", "busan"]));
        let why = atlas::check(&control).unwrap_err().to_string();
        assert!(
            why.contains("no connected majority, and G is promised"),
            "{why}"
        );
    }
}

#[test]
fn a_parameter_is_set_from_outside_and_a_wrong_one_is_refused() {
    let set = |name: &str, value: &str| {
        let parameters = [(name.to_owned(), value.to_owned())];
        catalogue::load_with("kakao-2022", &parameters)
    };
    let plan = set("power_cut_after", "20s")
        .unwrap()
        .plan(1, Variant::Ours, Tier::Grpc);
    let cut = plan.events.iter().find(|event| event.line == 2).unwrap();
    assert_eq!(cut.at_ms, 30_000);
    let refused = set("power_cut", "20s").unwrap_err().to_string();
    assert_eq!(
        refused,
        "kakao-2022.toml: \"power_cut\" is not a parameter of this scenario; known here: \
         power_cut_after"
    );
    let refused = set("power_cut_after", "20").unwrap_err().to_string();
    assert!(
        refused.contains("\"$power_cut_after\" = \"20\""),
        "{refused}"
    );
}

#[test]
fn names_and_files_that_are_not_there_are_refused() {
    let check = |name: &str, expect: &str| {
        let refused = catalogue::load(name).unwrap_err().to_string();
        assert!(refused.starts_with(expect), "{refused}");
    };
    check(
        "dc-silend",
        "dc-silend: \"dc-silend\" is not a scenario; did you mean \"dc-silent\"?",
    );
    check("nowhere/mine.toml", "nowhere/mine.toml: cannot be read: ");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, GOOD).unwrap();
    let file = catalogue::load(path.to_str().unwrap()).unwrap();
    assert_eq!(file.name, "mine");
    let path = folder.path().join("Not Mine.toml");
    std::fs::write(&path, GOOD).unwrap();
    let refused = catalogue::load(path.to_str().unwrap()).unwrap_err();
    assert!(
        refused.to_string().contains("its name must be"),
        "{refused}"
    );
    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    let refused = catalogue::load(path.to_str().unwrap()).unwrap_err();
    assert!(
        refused.to_string().contains("has 2097152 bytes"),
        "{refused}"
    );
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let refused = catalogue::load(path.to_str().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("cannot be read"), "{refused}");
}

#[test]
fn swarms_of_any_scenario_leave_what_it_promises_and_seeds_differ() {
    let mut kinds = BTreeSet::new();
    for shipped in catalogue::all() {
        let file = catalogue::load(shipped.name).unwrap();
        let mut plans = BTreeSet::new();
        for seed in 0..SEEDS / 4 {
            let plan = catalogue::swarm(&file, seed);
            assert_eq!(plan, catalogue::swarm(&file, seed));
            if let Err(why) = atlas::check(&plan) {
                panic!("{} --seed {seed}: {why}\n{:#?}", shipped.name, plan.events);
            }
            whole(&plan);
            kinds.extend(plan.events.iter().map(|event| event.fault.kind()));
            plans.insert(serde_json::to_string(&plan.events).unwrap());
        }
        assert!(plans.len() as u64 > SEEDS / 8, "{}", shipped.name);
    }
    // What no shipped timeline does yet.
    let never = ["wipe-disk"];
    for kind in KINDS {
        assert_eq!(kinds.contains(kind), !never.contains(&kind), "{kind}");
    }
}

const KINDS: [&str; 34] = [
    "burn",
    "power-cut",
    "crash",
    "kill",
    "stop",
    "start",
    "pause",
    "resume",
    "starve",
    "cut",
    "block",
    "heal",
    "reset",
    "link",
    "slow-sync",
    "hang-sync",
    "fail-sync",
    "disk-room",
    "small-disk",
    "bit-flip",
    "lose-record",
    "compact",
    "wipe-disk",
    "image-disk",
    "old-disk",
    "move",
    "remove",
    "forge",
    "clock-jump",
    "clock-drift",
    "drain",
    "move-to",
    "drill",
    "stampede",
];

#[test]
fn the_atlas_knows_what_a_cluster_survives() {
    let check = |plan: &Plan, faults: &[Fault], expect: Option<&str>| {
        let events = faults.iter().zip(0_u32..).map(|(fault, line)| Event {
            at_ms: 1_000 * u64::from(line),
            line,
            fault: fault.clone(),
            label: None,
        });
        let plan = Plan {
            events: events.collect(),
            ..plan.clone()
        };
        let why = atlas::check(&plan).err().map(|why| why.to_string());
        assert_eq!(why.as_deref(), expect, "{faults:#?}");
    };
    let text = "about = \"x\"\n[expect]\npromises = \"DGP\"\nacked_min = 1\n[topology]\n";
    let nine = catalogue::parse(text, "nine.toml").unwrap();
    let nine = nine.plan(0, Variant::Ours, Tier::Grpc);
    let hosts = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let dc = |dc: &str| (1..=3).map(|n| format!("{dc}-{n}")).collect::<Vec<_>>();
    let cut = |from: Vec<String>, to: Vec<String>| Fault::Cut {
        from,
        to,
        reset: false,
    };
    let kill = |name: &str| Fault::Kill {
        hosts: hosts(&[name]),
    };
    let start = |name: &str| Fault::Start {
        hosts: hosts(&[name]),
    };
    let burn = |dc_name: &str| Fault::Burn { hosts: dc(dc_name) };
    let flip = |name: &str| Fault::BitFlip {
        hosts: hosts(&[name]),
        part: Part::Log,
    };

    check(&nine, &[burn("seoul")], None);
    check(
        &nine,
        &[kill("seoul-1"), kill("seoul-2"), kill("seoul-3")],
        None,
    );
    let stuck = "at 1.000 s a shard on seoul-1, busan-1, tokyo-1 has no connected majority, and G \
                 is promised";
    check(&nine, &[kill("seoul-1"), kill("busan-1")], Some(stuck));
    check(
        &nine,
        &[kill("seoul-1"), start("seoul-1"), kill("busan-1")],
        None,
    );
    // Seen from both sides, one way of a cut is enough; a bridge leaves a majority.
    check(&nine, &[cut(dc("seoul"), dc("busan"))], None);
    check(
        &nine,
        &[cut(dc("seoul"), dc("busan")), cut(dc("tokyo"), dc("seoul"))],
        None,
    );
    let both = [
        cut(dc("seoul"), dc("busan")),
        cut(dc("busan"), dc("tokyo")),
        cut(dc("tokyo"), dc("seoul")),
    ];
    let stuck = stuck.replace("1.000", "2.000");
    check(&nine, &both, Some(&stuck));
    let heal = Fault::Heal {
        from: dc("seoul"),
        to: dc("busan"),
    };
    check(
        &nine,
        &[both[0].clone(), both[1].clone(), heal, both[2].clone()],
        None,
    );
    let hang = |name: &str| Fault::HangSync {
        hosts: hosts(&[name]),
        hang: true,
    };
    let pause = Fault::Pause {
        hosts: hosts(&["tokyo-3"]),
        clocks: Standstill::GoOn,
    };
    let stuck = "at 1.000 s a shard on seoul-1, busan-1, tokyo-3 has no connected majority, and G \
                 is promised";
    check(&nine, &[hang("busan-1"), pause], Some(stuck));

    let lost = "at 1.000 s disks are lost in busan and seoul: what a quorum there acknowledged may \
                be gone, and D is promised";
    check(&nine, &[flip("seoul-1"), flip("busan-2")], Some(lost));
    check(&nine, &[flip("seoul-1"), burn("seoul")], None);
    check(
        &nine,
        &[burn("seoul"), start("seoul-1")],
        Some("at 1.000 s seoul-1 starts, but it burned: what burned does not come back"),
    );
    check(
        &nine,
        &[kill("seoul-1"), kill("seoul-1")],
        Some("at 1.000 s seoul-1 is killed, but it is down already"),
    );
    check(
        &nine,
        &[start("seoul-1")],
        Some("at 0.000 s seoul-1 starts, but it runs"),
    );
    let old = Fault::OldDisk {
        hosts: hosts(&["seoul-1"]),
    };
    check(
        &nine,
        &[kill("seoul-1"), old],
        Some("at 1.000 s there is no image of seoul-1: image-disk takes one"),
    );

    // Five replicas survive two.
    let dcs: String = ["a", "b", "c", "d", "e"]
        .map(|dc| format!("[[topology.dc]]\nname = \"{dc}\"\n"))
        .concat();
    let text = format!("{text}replicas = 5\n{dcs}");
    let five = catalogue::parse(&text, "five.toml").unwrap();
    let five = five.plan(0, Variant::Ours, Tier::Grpc);
    check(&five, &[burn("a"), burn("b")], None);
    let all = [burn("a"), burn("b"), burn("c")];
    let lost = "at 2.000 s disks are lost in a and b and c: what a quorum there acknowledged may be \
                gone, and D is promised";
    check(&five, &all, Some(lost));
}

#[test]
fn the_example_of_the_readme_is_right() {
    let readme = include_str!("../scenarios/README.md");
    let mut examples = readme.split("```toml\n").skip(1);
    let example = examples
        .next()
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let file = catalogue::parse(example, "readme.toml").unwrap_or_else(|r| panic!("{r}"));
    whole(&file.plan(1, Variant::Ours, Tier::Grpc));
}

const GOOD: &str = include_str!("catalogue/good.toml");

/// A case of `refused.txt`.
struct Case {
    name: String,
    changes: Vec<(Vec<String>, Vec<String>)>,
    says: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            let (name, changes, says) = (name.to_owned(), Vec::new(), Vec::new());
            cases.push(Case {
                name,
                changes,
                says,
            });
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        if let Some(gone) = line.strip_prefix("- ") {
            match case.changes.last_mut() {
                Some((from, to)) if to.is_empty() => from.push(gone.to_owned()),
                _ => case.changes.push((vec![gone.to_owned()], Vec::new())),
            }
        } else if let Some(put) = line.strip_prefix("+ ") {
            case.changes.last_mut().unwrap().1.push(put.to_owned());
        } else if let Some(says) = line.strip_prefix("= ") {
            case.says.push(says.to_owned());
        }
    }
    cases
}

#[test]
fn wrong_files_are_refused_with_line_key_and_what_would_be_right() {
    catalogue::parse(GOOD, "good.toml").unwrap_or_else(|refused| panic!("{refused}"));
    let golden = include_str!("catalogue/refused.txt");
    let cases = cases(golden);
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut told = golden.split("\n## ").next().unwrap().to_owned();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut text = GOOD.to_owned();
        told.push_str(&format!("\n## {}\n", case.name));
        for (from, to) in &case.changes {
            let (gone, put) = (from.join("\n"), to.join("\n"));
            assert_eq!(text.matches(&gone).count(), 1, "{}: {gone}", case.name);
            text = text.replacen(&gone, &put, 1);
            from.iter()
                .for_each(|line| told.push_str(&format!("- {line}\n")));
            to.iter()
                .for_each(|line| told.push_str(&format!("+ {line}\n")));
        }
        let says: Vec<String> = match catalogue::parse(&text, "good.toml") {
            Ok(_) => vec!["taken".to_owned()],
            Err(refused) => refused.to_string().lines().map(str::to_owned).collect(),
        };
        says.iter()
            .for_each(|line| told.push_str(&format!("= {line}\n")));
        if says != case.says {
            wrong.push(format!("{}:\n{}", case.name, says.join("\n")));
        }
    }
    if std::env::var_os("CATALOGUE_UPDATE").is_some() {
        let path = "tests/catalogue/refused.txt";
        std::fs::write(path, told).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = catalogue::parse(&text, "any.toml");
    }

    #[test]
    fn no_change_of_a_good_file_makes_reading_or_drawing_panic(
        shipped in 0..catalogue::all().len() + 1,
        changes in vec((any::<prop::sample::Index>(), 0_usize..12, piece()), 1..4),
        seed in any::<u64>(),
    ) {
        let mut text = catalogue::all().get(shipped).map_or(GOOD, |s| s.text).to_owned();
        for (at, gone, put) in changes {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((at + gone).min(text.len()));
            text.replace_range(at..end, &put);
        }
        if let Ok(file) = catalogue::parse(&text, "changed.toml") {
            let plan = file.plan(seed, Variant::Ours, Tier::Grpc);
            prop_assert!(atlas::check(&plan).is_ok());
            whole(&plan);
            whole(&file.plan(seed, Variant::Control, Tier::Grpc));
            whole(&catalogue::swarm(&file, seed));
        }
    }
}

/// Something that a file may have anywhere.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "",
        "0",
        "9",
        "99999999999999999999",
        "-1",
        "\"",
        "..",
        "s",
        "ms",
        "d",
        "%",
        "any",
        "all",
        "others",
        "\n",
        "[",
        "]",
        "[[fault]]\n",
        "=",
        "{",
        "}",
        "$",
        "#",
        "ü",
        "seoul",
        "seoul-1",
        "1.5",
        "true",
        "each = \"node\"\n",
        "times = 9\n",
        "every = \"1s\"\n",
        "nan",
        "\u{0}",
    ];
    let words = prop::sample::select(words.to_vec()).prop_map(str::to_owned);
    prop_oneof![words, "\\PC{0,8}"]
}
