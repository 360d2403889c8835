//! Commands of the simulator and targets of the Makefile that pages show exist. Those of `firebreak`
//! are looked at in `ops/src/docs_tests.rs`, where their parser is.

use std::collections::BTreeSet;
use std::process::Command;

use crate::pages::{self, Block, Page};

/// What ends a command in a line of a shell.
const ENDS: [&str; 7] = [" # ", "  #", "&&", "||", "|", ";", " & "];

/// The lines of a block as a shell has them; in a workflow an option may stand on a line of its own.
fn lines(block: &Block<'_>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in &block.lines {
        let line = line.trim();
        match lines.last_mut() {
            Some(last) if line.starts_with("--") => *last = format!("{last} {line}"),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// All places of a page where a command may stand.
fn candidates(page: &Page) -> Vec<String> {
    let shown = ["sh", "text", "yaml"];
    let blocks = page.blocks();
    let blocks = blocks
        .iter()
        .filter(|block| shown.contains(&block.language));
    let spans = page.spans().map(str::to_owned);
    blocks.flat_map(lines).chain(spans).collect()
}

/// What follows `begin`, up to the end of the command.
fn arguments<'l>(line: &'l str, begin: &str) -> Option<&'l str> {
    let (before, rest) = line.split_once(begin)?;
    let own = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    if before.ends_with(own) {
        return None;
    }
    let end = ENDS.iter().filter_map(|end| rest.find(end)).min();
    Some(rest[..end.unwrap_or(rest.len())].trim())
}

#[test]
fn every_command_of_the_simulator_exists() {
    let mut commands = BTreeSet::new();
    for page in pages::all() {
        for line in candidates(&page) {
            let begins = ["firebreak sim ", "firebreak-sim ", "firebreak-sim-mutants "];
            let found = begins.iter().find_map(|begin| arguments(&line, begin));
            let meant = |command: &&str| !command.contains('…') && !command.starts_with('-');
            let found = found.filter(meant);
            commands.extend(found.map(|command| (command.to_owned(), page.path.clone())));
        }
    }
    assert!(commands.len() > 15, "only {commands:?} were found");
    for (command, page) in commands {
        let mut program = Command::new(env!("CARGO_BIN_EXE_firebreak-sim"));
        // With --help nothing is run; what is unknown is refused all the same.
        let words = command.split_whitespace();
        program.args(words.map(|word| if word == "N" { "7" } else { word }));
        program.arg("--help");
        let output = program.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "{page}: firebreak sim {command}\n{told}"
        );
    }
}

#[test]
fn every_target_of_the_makefile_exists() {
    let makefile = std::fs::read_to_string(pages::root().join("Makefile")).unwrap();
    let mut targets = 0;
    for page in pages::all() {
        for line in candidates(&page) {
            // A command, not a word of a sentence.
            let Some(rest) = line.strip_prefix("make ") else {
                continue;
            };
            let target = rest.split_whitespace().next().unwrap_or_default();
            targets += 1;
            let has = makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:")));
            assert!(has, "{}: there is no `make {target}`", page.path);
        }
    }
    assert!(targets > 8, "only {targets} were found");
}

#[test]
fn a_command_ends_where_the_shell_ends_it() {
    let arguments = |line| arguments(line, "firebreak sim ");
    assert_eq!(arguments("firebreak sim list   # all"), Some("list"));
    assert_eq!(
        arguments("a && firebreak sim run x --seed 7 && b"),
        Some("run x --seed 7")
    );
    assert_eq!(
        arguments("$ firebreak sim show swarm | head"),
        Some("show swarm")
    );
    assert_eq!(arguments("myfirebreak sim list"), None);
}
