//! What pages list is what the code has: the scenarios, what is pending in them, and the known bugs.

use std::collections::BTreeSet;

use firebreak_sim::catalogue::{self, Variant};
use firebreak_sim::plan::Tier;
use model::mutants::ALL;

use crate::pages;

/// Its head, and where it begins.
const HEAD: &str = "| scenario | what happens | longest gap | failed calls | serves again |\n\
                    |---|---|---|---|---|\n";
/// What is not promised.
const NONE: &str = "–";

/// `1.5 s`; of a bound that a scenario does not have, a dash.
fn seconds(ms: Option<u64>) -> String {
    let Some(ms) = ms else {
        return NONE.to_owned();
    };
    let (whole, part) = (ms / 1_000, format!("{:03}", ms % 1_000));
    match part.trim_end_matches('0') {
        "" => format!("{whole} s"),
        part => format!("{whole}.{part} s"),
    }
}

fn rows() -> String {
    let row = |shipped: &catalogue::Shipped| {
        let file = catalogue::load(shipped.name).unwrap_or_else(|refused| panic!("{refused}"));
        let plan = file.plan(0, Variant::Ours, Tier::Direct);
        let expect = &plan.expect;
        let failed = expect.failed_calls_max.map(|calls| calls.to_string());
        format!(
            "| `{}` | {} | {} | {} | {} |\n",
            shipped.name,
            plan.about.trim_end_matches('.'),
            seconds(expect.gap_max_ms),
            failed.unwrap_or_else(|| NONE.to_owned()),
            seconds(expect.recovery_max_ms),
        )
    };
    catalogue::all().iter().map(row).collect()
}

#[test]
fn the_page_of_metrics_has_every_one() {
    let page = pages::root().join("docs/metrics.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, table) = text
        .split_once("## All series\n")
        .expect("the table's head");
    let rest = format!(
        "\nA histogram is told as `…_bucket`, `…_sum` and `…_count`.\n\n{}",
        server::sight::metrics::reference()
    );
    if pages::rewriting() {
        std::fs::write(&page, format!("{before}## All series\n{rest}")).unwrap();
        return;
    }
    assert_eq!(
        table, rest,
        "docs/metrics.md is stale: README_WRITE=1 rewrites it"
    );
}

#[test]
fn the_table_of_scenarios_is_the_catalogue_s() {
    let text = std::fs::read_to_string(crate::page()).unwrap();
    let (before, rest) = text.split_once(HEAD).expect("the table's head");
    let (table, after) = rest.split_once("\n\n").expect("the table's end");
    let rows = rows();
    if pages::rewriting() {
        std::fs::write(crate::page(), format!("{before}{HEAD}{rows}\n{after}")).unwrap();
        return;
    }
    let stale: Vec<&str> = rows
        .lines()
        .filter(|row| !table.lines().any(|old| old == *row))
        .collect();
    assert!(
        stale.is_empty() && table.lines().count() == rows.lines().count(),
        "the table of docs/simulator.md is stale, README_WRITE=1 rewrites it:\n{}",
        stale.join("\n")
    );
}

#[test]
fn seconds_are_written_as_people_do() {
    let written = [Some(150), Some(1_500), Some(60_000), None].map(seconds);
    assert_eq!(written, ["0.15 s", "1.5 s", "60 s", "–"]);
}

/// What stands between backticks in the section of this heading.
fn named<'t>(text: &'t str, heading: &str) -> BTreeSet<&'t str> {
    let (_, section) = text.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    section.split('`').skip(1).step_by(2).collect()
}

#[test]
fn what_is_pending_is_told_and_nothing_else() {
    let text = std::fs::read_to_string(crate::page()).unwrap();
    let told = named(&text, "\n## Pending\n");
    let is_pending = |shipped: &&catalogue::Shipped| {
        let file = catalogue::load(shipped.name).unwrap_or_else(|refused| panic!("{refused}"));
        let plan = file.plan(0, Variant::Ours, Tier::Direct);
        // What a swarm draws may be gray, and its reason stands with the swarm.
        plan.scenario != "swarm" && !plan.expect.pending.is_empty()
    };
    let pending: BTreeSet<&str> = catalogue::all()
        .iter()
        .filter(is_pending)
        .map(|s| s.name)
        .collect();
    assert_eq!(told, pending, "docs/simulator.md, \"Pending\"");
}

#[test]
fn every_known_bug_is_told_and_no_other() {
    let page = pages::root().join("docs/internals/simulator.md");
    let text = std::fs::read_to_string(page).unwrap();
    let told = named(&text, "\n## Known bugs\n");
    let known: BTreeSet<&str> = ALL.iter().map(|mutant| mutant.name).collect();
    let missing: Vec<_> = known.difference(&told).collect();
    assert!(
        missing.is_empty(),
        "docs/internals/simulator.md has no {missing:?}"
    );
    let oracles: BTreeSet<&str> = ALL
        .iter()
        .flat_map(|mutant| mutant.oracles)
        .copied()
        .collect();
    // What looks like the name of a bug or an oracle, is one.
    let names = told
        .iter()
        .filter(|name| name.contains('-') && !name.contains([' ', '/', '.']));
    let unknown: Vec<_> = names
        .filter(|name| !known.contains(*name) && !oracles.contains(*name))
        .collect();
    assert!(
        unknown.is_empty(),
        "docs/internals/simulator.md has {unknown:?}, which are no bugs"
    );
}
