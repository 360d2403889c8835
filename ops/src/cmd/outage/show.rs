//! `firebreak outage show`: a recorded night in words, and as a page that the simulator draws.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use server::night::Night;
use server::night::account::{Account, Gap};
use server::night::felt::{Felt, Kind};
use server::recorder::record;

use super::record::bad;
use super::when;
use crate::cmd::sim;
use crate::cmd::target::printable;
use crate::exit::Usage;

/// The largest file that is read, bytes.
const BYTES_MAX: u64 = 1 << 30;
/// Lines of a list that are shown.
const SHOWN: usize = 12;

const EXAMPLES: &str = "\
Examples:
  firebreak outage show night.json
  firebreak outage show night.json --html night.html      lanes to look at; needs firebreak-sim
  firebreak outage show night.json --json | jq .gaps[0]
  firebreak outage show night.json --events               everything that is worth a sentence

Exit codes: 0 shown, 1 the page cannot be written, 2 wrong arguments or an unusable file.";

/// Tell what a recorded night was like.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What `outage record` wrote
    file: PathBuf,
    /// Write a page there
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print every event, too
    #[arg(long)]
    events: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Reads a recorded night.
///
/// # Errors
/// [`Usage`]: what is wrong with the file.
pub fn read(path: &Path) -> anyhow::Result<Night> {
    let usage = |why: String| anyhow::Error::new(Usage(format!("{}: {why}", path.display())));
    let size =
        std::fs::metadata(path).map_err(|error| usage(format!("cannot be read: {error}")))?;
    if size.len() > BYTES_MAX {
        return Err(usage(
            "is larger than a GiB; no recorded night is".to_owned(),
        ));
    }
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| usage(format!("cannot be read: {error}")))?;
    Night::parse(&text).map_err(usage)
}

impl Args {
    /// Shows it.
    ///
    /// # Errors
    /// As exit codes tell.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let night = read(&self.file)?;
        let account = Account::of(&night);
        match self.json {
            true => println!(
                "{}",
                serde_json::to_string_pretty(&document(&night, &account))?
            ),
            false => {
                lines(&night, &account)
                    .iter()
                    .for_each(|line| println!("{line}"));
                if self.events {
                    events(&night).iter().for_each(|line| println!("{line}"));
                }
            }
        }
        let Some(page) = self.html else {
            return Ok(ExitCode::SUCCESS);
        };
        let words = ["outage", "show"].map(OsString::from).into_iter();
        let rest = [self.file.into(), "--html".into(), page.into()];
        sim::go_on(words.chain(rest).collect())
    }
}

fn document(night: &Night, account: &Account) -> serde_json::Value {
    serde_json::json!({
        "from_ms": night.from_ms, "to_ms": night.to_ms,
        "nodes": night.names(), "missing": night.missing, "bad": bad(night),
        "felt": account.felt, "gaps": account.gaps, "longest_wait": account.longest_wait,
        "leaders": account.leaders, "answered": account.answered, "failed": account.failed,
        "reasons": account.reasons, "verdicts": account.verdicts,
        "elections": account.elections, "hand_overs": account.hand_overs,
        "slowest_sync": account.slowest_sync, "latest": account.latest,
    })
}

/// A night in lines, the most important first.
fn lines(night: &Night, account: &Account) -> Vec<String> {
    let names = night.names();
    let name = |id: u64| {
        names
            .get(&id)
            .map_or_else(|| format!("n{id}"), |name| printable(name))
    };
    let mut lines = vec![format!(
        "{} to {} UTC, {} of {} nodes",
        when::rfc3339(night.from_ms),
        when::clock(night.to_ms),
        night.nodes.len(),
        names.len().max(night.nodes.len() + night.missing.len()),
    )];
    for missing in &night.missing {
        let (name, why) = (printable(&missing.name), printable(&missing.why));
        lines.push(format!("  missing: {name}: {why}"));
    }
    lines.extend(
        bad(night)
            .into_iter()
            .map(|line| format!("  {}", printable(&line))),
    );
    let wait = account.longest_wait.as_ref();
    lines.push(match wait {
        Some(wait) => format!(
            "Longest wait of a call: {} ms, asked of {} for shard {} before {}",
            wait.ms,
            name(wait.node),
            wait.shard,
            when::clock(wait.at_ms)
        ),
        None => "No call of a client was answered".to_owned(),
    });
    let gap = |gap: &Gap| {
        let (from, to) = (when::clock(gap.from_ms), when::clock(gap.to_ms));
        format!(
            "shard {}: {} ms, {from} to {to}, {} then {}",
            gap.shard,
            gap.ms,
            name(gap.before),
            name(gap.after)
        )
    };
    if let Some(longest) = account.gaps.first() {
        lines.push(format!("Longest pause of a shard: {}", gap(longest)));
    }
    lines.push(format!(
        "Calls: {} answered, {} failed{}",
        account.answered,
        account.failed,
        listed(&account.reasons)
    ));
    lines.push(match account.felt.is_empty() {
        true => "Nothing was done to the cluster that the nodes felt".to_owned(),
        false => "What the nodes felt:".to_owned(),
    });
    for felt in account.felt.iter().take(SHOWN) {
        lines.push(format!("  {}", felt_words(felt, &name)));
    }
    lines.extend(more(account.felt.len()));
    let changed = account.changed().len();
    lines.push(format!("Leaders: {changed} shards changed theirs"));
    for (cause, (count, longest)) in &account.elections {
        lines.push(format!("  {count} elected ({cause}), {longest} ms at most"));
    }
    for (cause, count) in &account.hand_overs {
        lines.push(format!("  {count} handed over ({cause})"));
    }
    for one in account.gaps.iter().skip(1).take(SHOWN - 1) {
        lines.push(format!("  {}", gap(one)));
    }
    lines.extend(more(account.gaps.len()));
    lines.push(format!(
        "Verdicts: {}",
        match account.verdicts.is_empty() {
            true => "none".to_owned(),
            false => listed(&account.verdicts)
                .trim_start_matches(": ")
                .to_owned(),
        }
    ));
    for (what, of) in [
        ("Slowest sync of a log", account.slowest_sync),
        ("Latest tasks", account.latest),
    ] {
        if let Some((ms, node)) = of {
            lines.push(format!("{what}: {ms} ms on {}", name(node)));
        }
    }
    lines
}

fn more(count: usize) -> Option<String> {
    let more = count.checked_sub(SHOWN).filter(|more| *more > 0)?;
    Some(format!("  and {more} more; --json has all"))
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    let parts = counts.iter().map(|(what, count)| format!("{count} {what}"));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!(": {}", parts.join(", ")),
    }
}

fn felt_words(felt: &Felt, name: &impl Fn(u64) -> String) -> String {
    let list = |nodes: &std::collections::BTreeSet<u64>| {
        let names: Vec<String> = nodes.iter().map(|id| name(*id)).collect();
        names.join(", ")
    };
    let whom = list(&felt.nodes);
    let what = match felt.kind {
        Kind::Stopped => format!("{whom} asked to stop"),
        Kind::Killed => format!("{whom} killed"),
        Kind::PowerLost => format!("{whom} fell silent, as without power"),
        Kind::Still => format!("{whom} stood still"),
        Kind::Suspended => format!("{whom} suspended"),
        Kind::CutOff => format!("{whom} cut off from {}", list(&felt.others)),
        Kind::DiskStalled => format!("{whom}: the disk did not answer"),
        Kind::Drained => format!("{whom} drained"),
        Kind::ClockOff => format!("{whom}: the clock was {} ms off", felt.off_ms),
    };
    let to = felt.to_ms.map_or_else(|| "the end".to_owned(), when::clock);
    format!(
        "{} to {to}  {what} ({})",
        when::clock(felt.from_ms),
        felt.evidence
    )
}

/// Everything that is worth a sentence.
fn events(night: &Night) -> Vec<String> {
    let names = night.names();
    let told = night.events().into_iter().filter_map(|(at, node, what)| {
        let words = record::words(what, &names)?;
        let name = names.get(&node).map_or("", String::as_str);
        Some(format!(
            "{}  {name:<12} {}",
            when::clock(at),
            printable(&words)
        ))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_none_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, part: &str| {
            let path = folder.path().join("night.json");
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.is::<Usage>());
            let why = error.to_string();
            assert!(why.contains("night.json") && why.contains(part), "{why}");
        };
        check("{\"kind\":\"firebreak-night\",\"nodes\":[{", "cut short");
        check("{\"kind\":\"firebreak-night\",\"format\":2}", "format 2");
        check("[]", "no record of a night");
        assert!(read(&folder.path().join("none.json")).is_err());
    }

    #[test]
    fn a_quiet_night_is_told_in_a_few_lines() {
        let night = Night {
            from_ms: 1_796_000_000_000,
            to_ms: 1_796_000_060_000,
            ..Night::default()
        };
        let text = lines(&night, &Account::of(&night)).join("\n");
        assert!(text.contains("No call of a client was answered"), "{text}");
        assert!(text.contains("Nothing was done"), "{text}");
    }
}
