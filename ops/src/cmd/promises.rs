//! `firebreak promises`: when each promise was last shown, by what, and whether that is too long ago.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::v1::{Drills, ProvePromise, change_drill_request::Change};
use comfy_table::{Cell, Color};
use model::cluster::drills::{Drills as State, PROMISES};
use prost::Message as _;
use server::sight::api::promises::{Promise, Standing, told};

use super::outage::when;
use super::target::{Target, colour, new_table, printable, verb_failed};
use crate::exit::Usage;

/// How long to look for a node that answers.
const DEADLINE: Duration = Duration::from_secs(10);
/// A limit at least and at most: a minute to ten years.
const LIMIT_MS: (u64, u64) = (60_000, 3_650 * 86_400_000);

const EXAMPLES: &str = "\
Examples:
  firebreak promises
  firebreak promises --json | jq '.[] | select(.standing != \"shown\")'
  firebreak promises --limit H=7d --limit G=90d        how old a proof may become

A drill shows D O E L S G P and others, as its canaries can tell; `firebreak verify` shows H. A proof that is
older than its limit is amber.

Exit codes: 0 all are shown and none is old, 1 one is old, was never shown or is broken, or no node answers,
2 wrong arguments.";

/// Show when each promise was last shown, by what, and what is overdue.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Set how old the proof of a promise may become; may be given several times
    #[arg(long, value_name = "LETTER=TIME", value_parser = limit)]
    limit: Vec<(String, u64)>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (letter, time) = text
        .split_once('=')
        .ok_or("say LETTER=TIME, as H=7d or G=90d")?;
    let letter = letter.to_uppercase();
    if !PROMISES.contains(&letter.as_str()) {
        let all = PROMISES.join(" ");
        return Err(format!("there is no promise {letter:?}; there are {all}"));
    }
    let time = humantime::parse_duration(time).map_err(|error| error.to_string())?;
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (least, most) = LIMIT_MS;
    match (least..=most).contains(&ms) {
        true => Ok((letter, ms)),
        false => Err("a limit is a minute to ten years".to_owned()),
    }
}

impl Args {
    /// Sets, and shows.
    ///
    /// # Errors
    /// The cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.target.client(DEADLINE).await?;
        let mut epoch = 0;
        for (promise, limit_ms) in &self.limit {
            let change = Change::Prove(ProvePromise {
                promise: promise.clone(),
                held: None,
                by: String::new(),
                evidence: String::new(),
                limit_ms: Some(*limit_ms),
            });
            let changed = client
                .change_drill(change)
                .await
                .map_err(|error| verb_failed(error, self.target.asked(), "firebreak promises"))?;
            epoch = changed.epoch;
        }
        let asked = async {
            loop {
                let known = client.drills().await?;
                if known.epoch >= epoch {
                    return Ok::<_, client::Error>(known);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let known = tokio::time::timeout(DEADLINE, asked)
            .await
            .context("the node that was asked has not heard of it yet")?
            .with_context(|| self.target.asked())?;
        let now_ms = match known.now_ms {
            0 => when::now_ms(),
            agreed => agreed,
        };
        let all = told(Some(&state(known.drills.unwrap_or_default())?), now_ms);
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&all)?),
            false => println!("{}", table(&all, colour())),
        }
        Ok(code(&all))
    }
}

/// The drills of the wire are those of the state.
fn state(drills: Drills) -> anyhow::Result<State> {
    State::decode(&drills.encode_to_vec()[..])
        .map_err(|error| anyhow!(Usage(format!("the node's drills cannot be read: {error}"))))
}

fn code(all: &[Promise]) -> ExitCode {
    match all.iter().all(|one| one.standing == Standing::Shown) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn table(all: &[Promise], colour: bool) -> String {
    let mut table = new_table(&[
        "",
        "promise",
        "stands",
        "last shown",
        "age",
        "limit",
        "by",
        "evidence",
    ]);
    for one in all {
        let (words, paint) = match one.standing {
            Standing::Shown => ("✓ shown", Color::Green),
            Standing::Old => ("▲ too long ago", Color::Yellow),
            Standing::Never => ("▲ never shown", Color::Yellow),
            Standing::Broken => ("✗ broken", Color::Red),
        };
        let stands = Cell::new(words);
        let stands = if colour { stands.fg(paint) } else { stands };
        let dash = || "–".to_owned();
        let evidence = match one.standing {
            Standing::Never => format!("would be shown by {}", one.shown_with),
            Standing::Broken => printable(&one.broken_by),
            Standing::Shown | Standing::Old => printable(&one.evidence),
        };
        table.add_row([
            Cell::new(one.promise),
            Cell::new(one.word),
            stands,
            Cell::new(one.shown_ms.map_or_else(dash, when::rfc3339)),
            Cell::new(one.age_ms.map_or_else(dash, age)),
            Cell::new(age(one.limit_ms)),
            Cell::new(printable(&one.by)),
            Cell::new(evidence),
        ]);
    }
    table.to_string()
}

/// Days, or what is shorter.
fn age(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use model::cluster::drills::Proof;

    use super::*;

    #[test]
    fn a_limit_is_a_letter_and_a_time() {
        assert_eq!(limit("h=7d"), Ok(("H".to_owned(), 7 * 86_400_000)));
        for (text, part) in [
            ("7d", "LETTER=TIME"),
            ("X=7d", "there are D O E"),
            ("H=1s", "a minute to ten years"),
            ("H=soon", "expected number"),
        ] {
            let why = limit(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn promises_are_a_table_and_what_is_overdue_has_a_word_and_a_shape() {
        let day = 86_400_000;
        let proof = |promise: &str, shown_ms: u64| Proof {
            promise: promise.to_owned(),
            shown_ms,
            by: "verify".to_owned(),
            evidence: "36 replicas".to_owned(),
            ..Proof::default()
        };
        let state = State {
            proofs: vec![proof("D", 900 * day), proof("H", 900 * day)],
            ..State::default()
        };
        let all = told(Some(&state), 1_000 * day);
        let text = table(&all, false);
        assert!(
            text.contains("▲ too long ago") && text.contains("▲ never shown"),
            "{text}"
        );
        assert!(
            text.contains("100 days") && text.contains("✓ shown"),
            "{text}"
        );
        assert!(text.contains("firebreak drill plan"), "{text}");
        assert!(!text.contains('\x1b'));
        assert_eq!(code(&all), ExitCode::FAILURE);
    }
}
