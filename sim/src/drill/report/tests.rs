use std::fs;
use std::path::PathBuf;

use server::drill::paper::{End, Paper};

use super::facts::Standing;
use super::fixture::paper;
use super::*;
use crate::drill::tests::night;

fn text(paper: &Paper, name: &str) -> String {
    let made = files(paper, None).unwrap();
    made.into_iter()
        .find(|file| file.name == name)
        .unwrap()
        .text
}

/// Holds a file to the one that is kept. `FIREBREAK_WRITE_SAMPLES=1` writes it anew, to be read and
/// committed.
fn check_kept(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sample/drill");
    let made = text(&paper(), name);
    if std::env::var_os("FIREBREAK_WRITE_SAMPLES").is_some() {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), &made).unwrap();
    }
    let kept = fs::read_to_string(path.join(name)).unwrap();
    assert_eq!(made, kept, "{name} is other than the one that is kept");
}

#[test]
fn markdown_is_as_it_is_kept() {
    check_kept("report.md");
}

#[test]
fn junit_is_as_it_is_kept() {
    check_kept("report.xml");
}

#[test]
fn the_korean_form_is_as_it_is_kept() {
    check_kept("regulator.ko.md");
}

#[test]
fn the_english_form_is_as_it_is_kept() {
    check_kept("regulator.en.md");
}

#[test]
fn junit_has_a_failure_for_what_was_missed_and_skips_what_was_not_told() {
    let xml = text(&paper(), "report.xml");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let cases = document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"));
    let with = |tag: &str| -> Vec<String> {
        let those = cases
            .clone()
            .filter(|case| case.children().any(|node| node.has_tag_name(tag)));
        those
            .map(|case| case.attribute("name").unwrap().to_owned())
            .collect()
    };
    assert_eq!(with("failure"), ["end", "longest gap", "as rehearsed"]);
    assert_eq!(with("skipped"), ["promise U"]);
}

#[test]
fn a_page_is_whole_and_asks_for_nothing_from_anywhere() {
    let made = files(&paper(), Some(&night())).unwrap();
    let page = &made
        .iter()
        .find(|file| file.name == "report.html")
        .unwrap()
        .text;
    if let Some(path) = std::env::var_os("FIREBREAK_WRITE_PAGE") {
        fs::write(path, page).unwrap();
    }
    let document = page.replace("<!DOCTYPE html>", "");
    let document = roxmltree::Document::parse(&document).unwrap();
    for node in document.descendants() {
        for attribute in node.attributes() {
            let asks = ["src", "href", "action"].contains(&attribute.name());
            let inside =
                attribute.value().starts_with("data:") || attribute.value().starts_with('#');
            assert!(!asks || inside, "{attribute:?}");
        }
    }
    for part in [
        "worse than 99 of 100",
        "The twin that burned",
        "class=\"chart\"",
        "tokyo-2 leads s11",
        "jiwoo.han",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_comes_from_others_is_no_markup() {
    let mut paper = paper();
    let evil = "<script>alert(1)</script>|*_`\n# x";
    evil.clone_into(&mut paper.why);
    evil.clone_into(&mut paper.plan.hypothesis);
    evil.clone_into(&mut paper.plan.steps[0].nodes[0]);
    evil.clone_into(&mut paper.measured.clients[0].client);
    evil.clone_into(&mut paper.measured.clients[0].story[0]);
    evil.clone_into(&mut paper.cluster.nodes[0].name);
    paper.measured.clients[3].dc = evil.to_owned();
    for file in files(&paper, None).unwrap() {
        if file.name != "report.json" {
            assert!(!file.text.contains("<script>alert"), "{}", file.name);
        }
        if file.name.ends_with(".md") {
            assert!(!file.text.contains("\n# x"), "{}", file.name);
        }
    }
}

#[test]
fn a_drill_within_its_seeds_is_not_told_as_worse() {
    let mut paper = paper();
    let standing = |paper: &Paper| Facts::of(paper).rows[0].standing;
    assert_eq!(standing(&paper), Standing::Worse);
    paper.measured.gap_ms = 1_240;
    assert_eq!(standing(&paper), Standing::Within);
    assert!(Facts::of(&paper).warnings.is_empty());
    paper.rehearsal = None;
    assert_eq!(standing(&paper), Standing::Unknown);
    assert!(Facts::of(&paper).warnings[0].contains("not rehearsed"));
}

#[test]
fn a_map_that_changed_since_the_rehearsal_is_told() {
    let mut paper = paper();
    paper.measured.gap_ms = 900;
    "0ff".clone_into(&mut paper.cluster.layout_digest);
    assert!(Facts::of(&paper).warnings[0].contains("map had changed"));
}

#[test]
fn a_paper_with_nothing_in_it_is_told_all_the_same() {
    let mut paper = paper();
    paper.end = End::Inconclusive;
    paper.timeline.clear();
    paper.measured = Default::default();
    paper.cluster = Default::default();
    paper.oracles.clear();
    paper.approvals.clear();
    paper.plan.steps.clear();
    paper.night = None;
    for file in files(&paper, None).unwrap() {
        assert!(!file.text.is_empty(), "{}", file.name);
    }
    assert_eq!(Facts::of(&paper).rto_ms, None);
}

#[test]
fn figures_follow_from_the_paper() {
    let facts = Facts::of(&paper());
    assert_eq!(facts.rto_ms, Some(1_136), "inject to the last leader");
    assert_eq!(facts.gaps.clients, 24);
    assert_eq!(facts.gaps.max_ms, 1_612);
    assert_eq!(facts.gaps.ranges.iter().map(|(_, n)| n).sum::<u64>(), 24);
    assert_eq!(facts.gaps.worst.unwrap().client, "send-seoul-1");
    assert_eq!(facts.blast.dcs, ["seoul"]);
    assert_eq!((facts.blast.nodes.len(), facts.blast.of_nodes), (3, 9));
    assert_eq!(facts.moments[0].since_ms, Some(-5_004));
    let held = facts
        .goals
        .iter()
        .map(|goal| (goal.what.as_str(), goal.held));
    let missed: Vec<&str> = held
        .filter(|(_, held)| !held)
        .map(|(what, _)| what)
        .collect();
    assert_eq!(missed, ["longest gap"]);
}
