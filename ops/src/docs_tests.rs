//! The commands that README.md, docs/ and the runbooks show are commands, with these options.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Cli;

/// What ends a command in a line of a shell.
const ENDS: [&str; 10] = [" # ", "  #", "&&", "||", "|", ";", " &", ")", " > ", " 2> "];

/// What stands in front of a command in a line of a shell.
const BEGINS: [&str; 8] = ["until", "do", "|", "&&", ";", "$(", "# or:", "$"];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/internals", "ops/src/cmd/generate/runbooks"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages
}

/// The commands of a line of a block, or of prose, where they stand between backticks.
fn commands(line: &str, in_block: bool) -> Vec<String> {
    let texts: Vec<&str> = match in_block {
        true => vec![line],
        false => line.split('`').skip(1).step_by(2).collect(),
    };
    let mut commands = Vec::new();
    for text in texts {
        for (at, begin) in text.match_indices("firebreak ") {
            let before = text[..at].trim_end();
            let env = before
                .rsplit(' ')
                .next()
                .is_some_and(|word| word.contains('='));
            let begins =
                before.is_empty() || env || BEGINS.iter().any(|word| before.ends_with(word));
            if !begins {
                continue;
            }
            let rest = &text[at + begin.len()..];
            let end = ENDS.iter().filter_map(|end| rest.find(end)).min();
            commands.push(rest[..end.unwrap_or(rest.len())].trim().to_owned());
        }
    }
    commands
}

#[test]
fn every_command_that_is_shown_is_one() {
    let mut shown = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut language = None;
        for line in text.lines() {
            if let Some(begun) = line.trim_start().strip_prefix("```") {
                language = language.is_none().then(|| begun.to_owned());
                continue;
            }
            if language.as_deref().is_some_and(|language| language != "sh") {
                continue;
            }
            for command in commands(line, language.is_some()) {
                // The simulator's are looked at by its own tests.
                if command.starts_with("sim") || command.contains('…') && language.is_none() {
                    continue;
                }
                shown += 1;
                let words = command
                    .split_whitespace()
                    .map(|word| word.trim_matches('"'));
                let said = Cli::try_parse_from(std::iter::once("firebreak").chain(words));
                let kind = said.err().map(|error| (error.kind(), error.to_string()));
                match kind {
                    None => {}
                    Some((ErrorKind::DisplayHelp, _)) => {}
                    Some((
                        ErrorKind::MissingRequiredArgument
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                        _,
                    )) if language.is_none() => {}
                    Some((_, told)) => {
                        panic!("{}: firebreak {command}\n{told}", page.display())
                    }
                }
            }
        }
    }
    assert!(shown > 40, "only {shown} commands were found");
}

#[test]
fn commands_are_cut_out_of_lines() {
    let block = |line| commands(line, true);
    assert_eq!(
        block("until firebreak status; do sleep 1; done"),
        ["status"]
    );
    assert_eq!(
        block("token=$(firebreak token show --target a:1)"),
        ["token show --target a:1"]
    );
    assert_eq!(
        block("firebreak init --config a && firebreak serve --config b 2> c &   # d"),
        ["init --config a", "serve --config b"]
    );
    assert_eq!(
        commands("say `firebreak read x` or firebreak", false),
        ["read x"]
    );
    assert!(commands("/var/lib/firebreak is `not firebreak status`", false).is_empty());
}
