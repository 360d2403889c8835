//! `generate runbooks`: what to do when an alert rings, or when `firebreak status` says what is wrong.

use server::sight::alerts::ALERTS;

use super::{File, Output};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak generate runbooks no-quorum
  firebreak generate runbooks --out runbooks
  firebreak generate runbooks --list

Each says symptom, check, act and verify. Alerts name theirs, and so does `firebreak status --json`.";

/// Before each runbook's commands.
const HEAD: &str = "\
Commands ask the nodes of `FIREBREAK_TARGET`, one of each data center:
`export FIREBREAK_TARGET=seoul-1:7101,busan-1:7101,tokyo-1:7101`. Put your own names in.
";

/// All there are, by name.
pub const ALL: &[(&str, &str)] = &[
    ("calls-fail", include_str!("runbooks/calls-fail.md")),
    ("calls-wait", include_str!("runbooks/calls-wait.md")),
    ("cannot-append", include_str!("runbooks/cannot-append.md")),
    (
        "certificate-expires",
        include_str!("runbooks/certificate-expires.md"),
    ),
    ("clock-off", include_str!("runbooks/clock-off.md")),
    (
        "cluster-forming",
        include_str!("runbooks/cluster-forming.md"),
    ),
    ("disk-full", include_str!("runbooks/disk-full.md")),
    ("disk-slow", include_str!("runbooks/disk-slow.md")),
    ("drains-long", include_str!("runbooks/drains-long.md")),
    ("link-one-sided", include_str!("runbooks/link-one-sided.md")),
    ("link-slow", include_str!("runbooks/link-slow.md")),
    ("log-lines-lost", include_str!("runbooks/log-lines-lost.md")),
    ("map-behind", include_str!("runbooks/map-behind.md")),
    ("next-loss", include_str!("runbooks/next-loss.md")),
    ("no-leader", include_str!("runbooks/no-leader.md")),
    (
        "no-node-answers",
        include_str!("runbooks/no-node-answers.md"),
    ),
    ("no-quorum", include_str!("runbooks/no-quorum.md")),
    ("node-silent", include_str!("runbooks/node-silent.md")),
    ("replica-broken", include_str!("runbooks/replica-broken.md")),
    (
        "replica-misplaced",
        include_str!("runbooks/replica-misplaced.md"),
    ),
    ("resource-short", include_str!("runbooks/resource-short.md")),
    ("tasks-late", include_str!("runbooks/tasks-late.md")),
    (
        "versions-differ",
        include_str!("runbooks/versions-differ.md"),
    ),
];

/// Write what to do when an alert rings.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The runbook's name; without it, all of them
    name: Option<String>,
    /// List them, with the alerts that name each
    #[arg(long, conflicts_with = "name")]
    list: bool,
    #[command(flatten)]
    output: Output,
}

impl Args {
    /// # Errors
    /// Usage, when there is no runbook of that name.
    pub fn files(self) -> anyhow::Result<(Vec<File>, Output)> {
        if self.list {
            return Ok((vec![File::new("README.md", index())], self.output));
        }
        let Some(name) = &self.name else {
            let all = ALL.iter().map(|(name, text)| whole(name, text));
            let files = std::iter::once(File::new("README.md", index())).chain(all);
            return Ok((files.collect(), self.output));
        };
        let found = ALL.iter().find(|(known, _)| known == name);
        let Some((name, text)) = found else {
            let known: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            let why = format!("there is no runbook {name:?}; there are: {known}");
            return Err(Usage(why).into());
        };
        Ok((vec![whole(name, text)], self.output))
    }
}

/// The alerts that name a runbook.
fn alerts(name: &str) -> Vec<&'static str> {
    let named = ALERTS.iter().filter(|alert| alert.runbook == name);
    named.map(|alert| alert.name).collect()
}

/// A runbook with what it belongs to.
fn whole(name: &str, text: &str) -> File {
    let (title, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let alerts = alerts(name);
    let rings = match alerts.is_empty() {
        true => String::new(),
        false => format!("Alerts: {}.\n\n", alerts.join(", ")),
    };
    File::new(
        format!("{name}.md"),
        format!("{title}\n\n{rings}{HEAD}\n{rest}"),
    )
}

/// The list of all, in Markdown.
fn index() -> String {
    let mut text =
        String::from("# Runbooks\n\n| runbook | what is wrong | alerts |\n|---|---|---|\n");
    for (name, page) in ALL {
        let title = page
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("# ");
        let alerts = alerts(name).join(", ");
        text.push_str(&format!("| [{name}]({name}.md) | {title} | {alerts} |\n"));
    }
    text
}
