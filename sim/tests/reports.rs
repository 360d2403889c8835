//! The reports of runs and sweeps: documents are well-formed, keys are the documented ones, names
//! cannot break out of their place, and pages ask for nothing from anywhere. The pages that are
//! written here stay in the target folder's `tmp`, to be looked at.

#![allow(
    clippy::unwrap_used,
    reason = "a test may fail where it stands, its helpers too"
)]

mod sample;

use std::path::Path;

use firebreak_sim::outcome::{Broken, Outcome, Promise, Verdict};
use firebreak_sim::reports::coverage::{Covered, Phase};
use firebreak_sim::reports::{
    self, Failure, Mismatch, MutantResult, Proof, Skipped, Sweep, SweptRun,
};
use serde_json::Value;

/// Every kind of outcome, with the name of its page.
fn samples() -> Vec<(&'static str, Outcome)> {
    vec![
        ("silent", sample::silent()),
        ("swarm", sample::swarm()),
        ("flapping", sample::flapping()),
        ("broken", sample::broken()),
        ("stopped", sample::stopped()),
        ("kakao", sample::kakao()),
        ("rolling", sample::rolling()),
        ("calm", sample::calm("calm", 1, 3)),
        ("empty", sample::empty("empty")),
        ("hostile", hostile()),
    ]
}

/// Markup, quotes and control characters wherever a text can come from.
fn hostile() -> Outcome {
    const NAME: &str = "<script>alert(\"1\")</script>&'\u{0}\u{b}]]>";
    let mut outcome = sample::broken();
    let text = serde_json::to_string(&outcome).unwrap();
    let name = serde_json::to_string(NAME).unwrap();
    let name = name.trim_matches('"');
    let text = text
        .replace("seoul", name)
        .replace("acked-lost", name)
        .replace("room-7", name);
    outcome = serde_json::from_str(&text).unwrap();
    outcome.plan.scenario = NAME.to_owned();
    outcome.plan.about = NAME.to_owned();
    outcome.trace_hash = NAME.to_owned();
    outcome.failed.push(NAME.to_owned());
    outcome.goals[0].name = NAME.to_owned();
    outcome.stopped = Some(NAME.to_owned());
    outcome
}

fn sweep() -> Sweep {
    let mut runs = Vec::new();
    for (scenario, (_, outcome)) in [
        "dc-silent",
        "swarm",
        "flap-3s",
        "second-dc-after-30s",
        "process-pause-30s",
        "kakao-2022",
        "rolling-fire",
        "calm",
    ]
    .into_iter()
    .zip(samples())
    {
        for seed in 1..=40_u64 {
            let mut outcome = outcome.clone();
            outcome.plan.scenario = scenario.to_owned();
            outcome.plan.seed = seed;
            outcome.longest_gap_ms += seed * 7;
            outcome.wall_seconds = 6.0 + seed as f64 / 4.0;
            if seed > 2 && outcome.verdict == Verdict::Broken {
                let fine = sample::silent();
                (outcome.verdict, outcome.stopped) = (Verdict::Held, None);
                (outcome.promises, outcome.goals) = (fine.promises, fine.goals);
            }
            let page =
                (outcome.verdict != Verdict::Held).then(|| format!("{scenario}-{seed}.html"));
            runs.push(SweptRun::of(&outcome, page));
        }
    }
    let command = "firebreak sim sweep --seeds 1..40 --jobs 2".to_owned();
    Sweep {
        command,
        runs,
        skipped: Vec::new(),
        wall_seconds: 1_204.0,
    }
}

fn write(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

fn parsed(xml: &str) -> roxmltree::Document<'_> {
    let allow_dtd = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    roxmltree::Document::parse_with_options(xml, allow_dtd)
        .unwrap_or_else(|e| panic!("{e}:\n{xml}"))
}

/// Well-formed, with nothing but its own scripts, and without a request to anywhere.
fn check_page(name: &str, page: &str) {
    let document = parsed(page);
    let count = |tag| {
        document
            .descendants()
            .filter(|n| n.has_tag_name(tag))
            .count()
    };
    let charts = document
        .descendants()
        .filter(|n| n.attribute("class") == Some("chart"));
    assert_eq!(count("script"), 1 + charts.count(), "{name}");
    for tag in ["img", "iframe", "object", "embed", "base", "form"] {
        assert_eq!(count(tag), 0, "{name}: {tag}");
    }
    for node in document.descendants() {
        for attribute in node.attributes() {
            let (key, value) = (attribute.name(), attribute.value());
            assert!(
                key != "src" && !key.starts_with("on"),
                "{name}: {key}={value}"
            );
            let inside =
                value.starts_with('#') || value.starts_with("data:") || value.ends_with(".html");
            assert!(key != "href" || inside, "{name}: {value}");
        }
    }
    for far in ["http:", "https:", "//cdn", "@import", "url(//"] {
        assert!(!page.contains(far), "{name}: {far}");
    }
    let mut ids: Vec<&str> = document
        .descendants()
        .filter_map(|n| n.attribute("id"))
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{name}: an id twice");
}

#[test]
fn pages_are_well_formed_and_ask_for_nothing_from_anywhere() {
    for (name, outcome) in samples() {
        let page = reports::html(&outcome);
        write(&format!("{name}.html"), &page);
        check_page(name, &page);
        assert!(page.contains(&outcome.plan.seed.to_string()), "{name}");
    }
    for (name, sweep) in [("index", sweep()), ("index-empty", Sweep::default())] {
        let page = reports::index_html(&sweep);
        write(&format!("{name}.html"), &page);
        check_page(name, &page);
    }
}

#[test]
fn names_cannot_break_out_of_a_page() {
    let outcome = hostile();
    let page = reports::html(&outcome);
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"));
    let run = SweptRun::of(&outcome, Some("a\"><script>.html".to_owned()));
    let runs = vec![run];
    let page = reports::index_html(&Sweep {
        runs,
        ..Sweep::default()
    });
    assert!(!page.contains("<script>alert") && !page.contains("a\"><script>"));
    check_page("hostile index", &page);
}

#[test]
fn a_page_shows_the_verdict_the_evidence_and_the_command() {
    let page = reports::html(&sample::broken());
    for said in [
        "✗ Broken",
        "not kept: D durable; missed: gap 10000 ms (asked for: ≤ 3000 ms)",
        "at 71.2 s no replica has it",
        "firebreak sim run second-dc-after-30s --seed 7",
        "9f3a61c07be2d418",
        "seoul burns · 20.00 s to the end",
        "waits for: refusals are told apart from failures",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let page = reports::html(&sample::silent());
    assert!(page.contains("✓ Held") && page.contains("shard 3: nobody leads · 20.00 s to"));
}

#[test]
fn json_has_the_documented_keys() {
    const KEYS: &[&str] = &[
        "acked",
        "command",
        "control",
        "disk",
        "evidence",
        "exit_code",
        "failed",
        "failed_calls",
        "goals",
        "leaders",
        "longest_gap_at_ms",
        "longest_gap_ms",
        "lost",
        "oracles",
        "pending",
        "promises",
        "reads",
        "recovery_ms",
        "retries",
        "rto_ms",
        "scenario",
        "seconds",
        "seed",
        "sim_seconds",
        "stopped",
        "tailed",
        "tier",
        "timeline",
        "trace",
        "trace_events",
        "trace_hash",
        "verdict",
        "wall_seconds",
    ];
    for (name, outcome) in samples() {
        let json: Value = serde_json::from_str(&reports::json(&outcome)).unwrap();
        let mut keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, KEYS, "{name}");
        let letters: Vec<&String> = json["promises"].as_object().unwrap().keys().collect();
        assert_eq!(letters.len(), Promise::ALL.len(), "{name}");
    }
}

#[test]
fn json_says_what_was_seen() {
    let json: Value = serde_json::from_str(&reports::json(&sample::kakao())).unwrap();
    assert_eq!(json["verdict"], "held");
    assert_eq!(json["promises"]["D"], true);
    assert_eq!(json["promises"]["S"], Value::Null);
    assert_eq!(json["longest_gap_ms"], 412);
    assert_eq!(json["recovery_ms"], Value::Null);
    assert_eq!(json["timeline"][0]["kind"], "burn");
    assert_eq!(json["pending"][0]["what"], "A");
    let control = &json["control"];
    assert_eq!(control["verdict"], "broken");
    assert_eq!(control["promises"]["D"], false);
    assert_eq!(control["evidence"][0]["oracle"], "acked-lost");
    assert_eq!(control["lost"], 3);
}

#[test]
fn the_sweeps_json_counts_runs_and_lists_failures() {
    let json: Value = serde_json::from_str(&reports::sweep_json(&sweep())).unwrap();
    assert_eq!(json["runs"], 320);
    assert_eq!(json["safety_failures"], 4);
    assert_eq!(json["goal_misses"], 0);
    let failures = json["failures"].as_array().unwrap();
    let broken = failures
        .iter()
        .filter(|f| f["scenario"] == "second-dc-after-30s");
    let promises: Vec<&Value> = broken.map(|f| &f["promise"]).collect();
    assert_eq!(
        promises,
        [&Value::Null, &"D".into(), &Value::Null, &"D".into()]
    );
    assert_eq!(failures[0]["seed"], 1);
    assert_eq!(json["scenarios"]["calm"]["promises"]["D"]["held"], 40);
    let burns = json["coverage"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["kind"] == "burn");
    assert!(burns.unwrap()["times"].as_u64().unwrap() > 40);
}

#[test]
fn the_json_of_proofs_and_mutants_has_numbers_and_lists() {
    let mismatch = Mismatch {
        scenario: "calm".to_owned(),
        seed: 9,
        how: "beside others".to_owned(),
        first_second: Some(12),
        expected: "aa".to_owned(),
        found: "bb".to_owned(),
        command: "firebreak sim run calm --seed 9".to_owned(),
    };
    let proof = Proof {
        seeds: 50,
        runs: 150,
        mismatches: vec![mismatch],
        ..Proof::default()
    };
    let json: Value = serde_json::from_str(&reports::prove_json(&proof)).unwrap();
    assert_eq!(
        (&json["seeds"], &json["mismatches"]),
        (&50.into(), &1.into())
    );
    assert_eq!(json["differing"][0]["first_second"], 12);
    let mutant = |name: &str, seeds_needed| MutantResult {
        name: name.to_owned(),
        oracle: "acked-lost".to_owned(),
        oracles: vec!["acked-lost".to_owned()],
        caught_by: None,
        broken_instead: Default::default(),
        seeds_needed,
        seeds_tried: 200,
        scenario: "all-power-cut".to_owned(),
        pending: None,
        evidence: None,
        command: String::new(),
        wall_ms: 0,
    };
    let mutants = [
        mutant("ack-before-fsync", Some(3)),
        mutant("vote-not-synced", None),
    ];
    let json: Value = serde_json::from_str(&reports::mutants_json(&mutants)).unwrap();
    assert_eq!((&json["mutants"], &json["caught"]), (&2.into(), &1.into()));
    assert_eq!(json["list"][0]["seeds_needed"], 3);
    assert_eq!(json["list"][1]["seeds_needed"], Value::Null);
    assert_eq!(json["list"][1]["name"], "vote-not-synced");
}

#[test]
fn junit_counts_agree_with_its_cases() {
    let all = samples();
    let outcomes: Vec<&Outcome> = all.iter().map(|(_, outcome)| outcome).collect();
    let xml = reports::junit(&outcomes);
    write("junit.xml", &xml);
    let document = parsed(&xml);
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let suites: Vec<_> = root.children().filter(|n| n.is_element()).collect();
    assert_eq!(suites.len(), outcomes.len());
    for counted in suites.iter().chain([&root]) {
        for (attribute, tag) in [
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ] {
            let count = counted
                .descendants()
                .filter(|n| n.has_tag_name(tag))
                .count();
            assert_eq!(
                counted.attribute(attribute),
                Some(&*count.to_string()),
                "{attribute}"
            );
        }
    }
}

#[test]
fn junit_fails_what_the_verdict_blames_and_skips_what_is_pending() {
    let outcome = sample::broken();
    let xml = reports::junit(&[&outcome]);
    let document = parsed(&xml);
    let case = |name: &str| {
        let mut cases = document
            .descendants()
            .filter(|n| n.has_tag_name("testcase"));
        let case = cases.find(|n| n.attribute("name") == Some(name)).unwrap();
        let came = case.children().find(|n| n.is_element());
        came.map(|n| {
            (
                n.tag_name().name().to_owned(),
                n.text().unwrap_or("").to_owned(),
            )
        })
    };
    let (came, text) = case("D durable").unwrap();
    assert_eq!(came, "failure");
    assert!(text.contains("no replica has it") && text.contains("again: firebreak sim run"));
    assert_eq!(case("O ordered"), None);
    assert_eq!(case("S honest staleness").unwrap().0, "skipped");
    assert_eq!(case("A admin lives").unwrap().0, "skipped");
    assert_eq!(case("gap ≤ 3000 ms").unwrap().0, "failure");
    assert_eq!(case("failed-calls ≤ 0").unwrap().0, "skipped");
}

#[test]
fn the_terminals_text_is_plain_without_colour_and_the_same_words_with_it() {
    for (name, outcome) in samples().into_iter().filter(|(name, _)| *name != "hostile") {
        let plain = reports::text(&outcome, false);
        assert!(!plain.contains('\u{1b}'), "{name}");
        let coloured = reports::text(&outcome, true);
        assert!(coloured.contains('\u{1b}'), "{name}");
        let mut bare = String::new();
        for (n, part) in coloured.split('\u{1b}').enumerate() {
            let part = if n == 0 {
                part
            } else {
                part.split_once('m').unwrap().1
            };
            bare.push_str(part);
        }
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&bare), words(&plain), "{name}");
        write(&format!("{name}.txt"), &coloured);
    }
    let text = reports::text(&sample::broken(), false);
    assert!(text.ends_with("again: firebreak sim run second-dc-after-30s --seed 7"));
    assert!(text.contains("✗ BROKEN  not kept: D durable"));
    assert!(text.contains("D acked-lost: room-7"));
}

#[test]
fn a_break_that_the_scenario_does_not_ask_about_is_no_failure() {
    let mut outcome = sample::calm("calm", 1, 3);
    let evidence = Broken {
        promise: Promise::P,
        oracle: "serves-again".to_owned(),
        evidence: "shard 2 served after 12 s".to_owned(),
    };
    let judged = outcome.promises.get_mut(&Promise::P).unwrap();
    (judged.held, judged.broken) = (Some(false), vec![evidence]);
    assert_eq!(reports::failures(&outcome), []);
    outcome.plan.expect.promises.push('P');
    outcome.verdict = Verdict::GoalMissed;
    let failure = Failure {
        promise: Some(Promise::P),
        oracle: "serves-again".to_owned(),
        evidence: "shard 2 served after 12 s".to_owned(),
    };
    assert_eq!(reports::failures(&outcome), [failure]);
}

#[test]
fn empty_cells_of_the_coverage_matrix_are_visible() {
    let page = reports::index_html(&sweep());
    assert!(page.contains("title=\"old-disk in phase at-rest: 0\">0</span>"));
    assert!(page.contains("title=\"burn in phase steady: "));
    let outcome = sample::silent();
    let covered = Covered {
        kind: "burn".to_owned(),
        phase: Phase::Steady,
        times: 1,
    };
    assert_eq!(SweptRun::of(&outcome, None).coverage, [covered]);
}

#[test]
fn on_a_telephone_cells_say_what_they_are_and_labels_that_have_no_room_are_left_out() {
    let page = reports::index_html(&sweep());
    let document = parsed(&page);
    let tables = document.descendants().filter(|node| {
        let class = node.attribute("class").unwrap_or_default();
        node.has_tag_name("table") && class.split(' ').any(|one| one == "matrix")
    });
    let mut cells = 0;
    for cell in tables.flat_map(|table| table.descendants()) {
        if cell.has_tag_name("td") {
            let label = cell.attribute("data-label").unwrap_or_default();
            assert!(!label.is_empty(), "{:?}", cell.range());
            cells += 1;
        }
    }
    assert!(cells > 100, "{cells}");
    // A phone's plot has room for 230 px: about 36 letters.
    let page = reports::html(&sample::silent());
    let document = parsed(&page);
    let labels = document.descendants().filter(|node| {
        let class = node.attribute("class").unwrap_or_default();
        class.split(' ').any(|one| one == "label")
    });
    let long = |node: &roxmltree::Node<'_, '_>| {
        let text = node.text().unwrap_or_default();
        text.chars().count() > 36
    };
    for label in labels.filter(long) {
        assert_eq!(label.attribute("class"), Some("label long"));
    }
    assert!(page.contains("class=\"tick more\""));
}

#[test]
fn what_was_not_run_is_in_every_report_of_a_sweep() {
    let mut sweep = sweep();
    let asked = ["calm", "bridge", "flap-3s"];
    let made = |scenario: &str| {
        sweep
            .runs
            .iter()
            .filter(|run| run.scenario == scenario)
            .count()
    };
    let made = |scenario: &str| made(scenario) as u64;
    sweep.skipped = Skipped::of(asked, Some(41), made, "the time was up");
    let what: Vec<String> = sweep.skipped.iter().map(Skipped::what).collect();
    let one = "1 of its 41 runs were not made";
    assert_eq!(what, [one, "none of its 41 runs was made", one]);
    let json: Value = serde_json::from_str(&reports::sweep_json(&sweep)).unwrap();
    assert_eq!(json["skipped"][1]["scenario"], "bridge");
    assert_eq!(json["scenarios"]["bridge"]["runs"], 0);
    let xml = reports::sweep_junit(&sweep);
    let xml = parsed(&xml);
    let skipped = xml
        .descendants()
        .filter(|node| node.has_tag_name("skipped"));
    assert_eq!(skipped.count(), 3);
    assert!(reports::index_html(&sweep).contains("none of its 41 runs was made: the time was up"));
    // As many as there is time for: one run is enough.
    let any = Skipped::of(
        ["calm", "bridge"],
        None,
        |name| u64::from(name == "calm"),
        "",
    );
    assert_eq!(any.len(), 1);
    assert_eq!(any[0].what(), "no run was made");
}

#[test]
fn a_sweeps_journal_can_be_written_and_read_again() {
    let sweep = sweep();
    let text = serde_json::to_string(&sweep).unwrap();
    assert_eq!(serde_json::from_str::<Sweep>(&text).unwrap(), sweep);
}
