//! What README.md and docs/ say of the code is so: samples are what this version prints, the table of
//! scenarios is the catalogue's, links and paths lead somewhere, and commands exist.
//!
//! A sample is a block that begins with `$ firebreak sim …`; its lines are some of what that command
//! prints, in its order. What depends on the machine (seconds and speeds) may be another. When the
//! product has changed and runs otherwise, this rewrites samples, the table, and paths of files that
//! have moved:
//!
//! ```sh
//! README_WRITE=1 cargo nextest run --release -j 1 --workspace -E 'binary(readme)'
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the program it starts runs in the real world"
)]

mod commands;
mod links;
mod pages;
mod table;

use std::path::PathBuf;
use std::process::Command;

/// The page that has the samples and the table of scenarios.
fn page() -> PathBuf {
    pages::root().join("docs/simulator.md")
}

/// The lines of a block, and where it begins.
fn block<'t>(lines: &[&'t str], begins: &str) -> (usize, Vec<&'t str>) {
    let at = lines.iter().position(|line| line.starts_with(begins));
    let at = at.unwrap_or_else(|| panic!("docs/simulator.md has no sample {begins:?}"));
    let block = lines[at + 1..].iter().take_while(|line| **line != "```");
    (at + 1, block.copied().collect())
}

/// What a line is about: its first word.
fn about(line: &str) -> &str {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '-');
    let mut words = words.filter(|word| word.len() > 1 && word.starts_with(char::is_alphabetic));
    words.next().unwrap_or_default()
}

/// A line without what depends on the machine.
fn lasting(line: &str) -> String {
    let line = match about(line) {
        "simulated" => line.split(" in ").next().unwrap_or_default(),
        "runs" => line.split("; ").next().unwrap_or_default(),
        _ => line,
    };
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.last() == Some(&"×") {
        words.truncate(words.len() - 2);
    }
    words.join(" ")
}

fn check(command: &str) {
    let path = page();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (at, sample) = block(&lines, &format!("$ {command}"));
    let folder = tempfile::tempdir().unwrap();
    let args = lines[at - 1].trim_start_matches("$ firebreak sim ");
    let mut program = Command::new(env!("CARGO_BIN_EXE_firebreak-sim"));
    program.args(args.split_whitespace()).current_dir(&folder);
    program.env_remove("FIREBREAK_LOG");
    let output = program.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut printed = printed.lines();
    let found: Vec<Option<&str>> = sample
        .iter()
        .map(|line| printed.find(|other| about(other) == about(line)))
        .collect();
    if pages::rewriting() {
        let mut lines = lines.clone();
        for (line, found) in lines[at..].iter_mut().zip(found) {
            *line = found.unwrap_or(line);
        }
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        return;
    }
    for (line, found) in sample.iter().zip(found) {
        let found = found.map(lasting);
        assert_eq!(
            found,
            Some(lasting(line)),
            "the sample of `{command}` in docs/simulator.md is stale: README_WRITE=1 rewrites it, \
             see sim/tests/readme/main.rs"
        );
    }
}

#[test]
fn the_sample_of_show_is_what_it_prints() {
    check("firebreak sim show dc-silent --seed 7");
}

#[test]
fn the_sample_of_a_run_is_what_it_prints() {
    check("firebreak sim run kakao-2022 --seed 3");
}

#[test]
fn the_sample_of_a_sweep_is_what_it_prints() {
    check("firebreak sim sweep dc-silent bridge calm --seeds 0..4");
}

#[test]
fn lines_are_compared_by_what_lasts() {
    assert_eq!(about("  ✓  gap    ≤ 1500 ms   993 ms"), "gap");
    assert_eq!(about("  8.174 s  cut   the way"), "cut");
    assert_eq!(about("  0 lost, longest gap 49.5 s"), "lost");
    let simulated = lasting("  simulated   105.6 s in 6.9 s, 15.2 × real time");
    assert_eq!(simulated, "simulated 105.6 s");
    assert_eq!(
        lasting(" calm   4  4  ·   208 ms   15 ×"),
        "calm 4 4 · 208 ms"
    );
}
