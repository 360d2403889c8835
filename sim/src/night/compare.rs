//! What was recorded beside what the simulator makes of it; what it does not explain is said.

use std::collections::BTreeMap;

use serde::Serialize;
use server::night::account::Account;

use crate::outcome::{Outcome, Verdict};
use crate::reigns;

/// One figure, recorded and simulated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub what: String,
    /// As recorded; none where that is not known.
    pub recorded: Option<u64>,
    /// Of the seeds: least, median, most; none where none was run.
    pub simulated: Option<(u64, u64, u64)>,
    /// Whether it is a time, ms.
    pub is_time: bool,
}

/// A run in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it stopped before its end.
    pub stopped: Option<String>,
    /// The longest wait between two acknowledgements of one sender, ms.
    pub longest_gap_ms: u64,
    /// The longest that a shard had no leader, ms.
    pub leaderless_ms: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// How often another came to lead a shard.
    pub changes: u64,
}

/// A night beside its runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The figures.
    pub rows: Vec<Row>,
    /// The runs.
    pub runs: Vec<Run>,
    /// What the simulator does not explain, for people.
    pub not_explained: Vec<String>,
}

impl Run {
    /// Of a run.
    pub fn of(outcome: &Outcome) -> Run {
        Run {
            seed: outcome.plan.seed,
            verdict: outcome.verdict,
            stopped: outcome.stopped.clone(),
            longest_gap_ms: outcome.longest_gap_ms,
            leaderless_ms: leaderless_ms(outcome),
            failed_calls: outcome.failed_calls,
            changes: changes(outcome),
        }
    }

    /// Whether it came to its end.
    pub fn is_whole(&self) -> bool {
        self.stopped.is_none()
    }
}

/// The longest that a shard had no leader, or one in name only.
fn leaderless_ms(outcome: &Outcome) -> u64 {
    let end_ms = outcome.plan.workload.duration_ms;
    let reigns = reigns::reigns(&outcome.leaders, &outcome.plan.events, end_ms);
    let all = reigns.values().map(|reigns| reigns::without_ms(reigns));
    all.max().unwrap_or(0)
}

/// How often another came to lead a data shard during the load.
fn changes(outcome: &Outcome) -> u64 {
    let mut last: BTreeMap<u32, &str> = BTreeMap::new();
    let mut changes = 0;
    for led in outcome.leaders.iter().filter(|led| led.shard != 0) {
        let before = last.insert(led.shard, led.host.as_str());
        let other = before.is_some_and(|before| before != led.host);
        changes += u64::from(other && led.at_ms >= 0);
    }
    changes
}

/// Puts a night, as `recorded` draws it, beside its runs. `same` says that nothing was to be other than it
/// was: only then must they agree.
pub fn compare(
    account: &Account,
    recorded: &Outcome,
    runs: Vec<Run>,
    not_in_it: Vec<String>,
    same: bool,
) -> Compared {
    let whole: Vec<&Run> = runs.iter().filter(|run| run.is_whole()).collect();
    let spread = |of: &dyn Fn(&Run) -> u64| {
        let mut all: Vec<u64> = whole.iter().map(|run| of(run)).collect();
        all.sort_unstable();
        let middle = all.get(all.len() / 2)?;
        Some((*all.first()?, *middle, *all.last()?))
    };
    let row = |what: &str, recorded, of: &dyn Fn(&Run) -> u64, is_time| Row {
        what: what.to_owned(),
        recorded,
        simulated: spread(of),
        is_time,
    };
    let wait = account.longest_wait.as_ref().map(|wait| wait.ms);
    let pause = account.gaps.first().map(|gap| gap.ms);
    let rows = vec![
        row(
            "longest wait of a call",
            wait,
            &|run| run.longest_gap_ms,
            true,
        ),
        row(
            "longest pause of a shard",
            pause,
            &|run| run.longest_gap_ms,
            true,
        ),
        row(
            "longest without a leader",
            Some(leaderless_ms(recorded)),
            &|run| run.leaderless_ms,
            true,
        ),
        row(
            "changes of leaders",
            Some(changes(recorded)),
            &|run| run.changes,
            false,
        ),
        row(
            "failed calls",
            Some(account.failed),
            &|run| run.failed_calls,
            false,
        ),
    ];
    let mut not_explained = Vec::new();
    if same {
        not_explained.extend(rows.iter().filter_map(beyond));
    }
    let ms = |of: Option<(u64, u64)>| of.map(|(ms, _)| ms).filter(|ms| *ms >= 5);
    if let Some(ms) = ms(account.slowest_sync) {
        not_explained.push(format!(
            "a sync of a log took {ms} ms (RocksDB and the disk are not simulated)"
        ));
    }
    if let Some(ms) = ms(account.latest) {
        not_explained.push(format!(
            "tasks ran {ms} ms late (what computing costs is not simulated)"
        ));
    }
    not_explained.push("TLS, the clients' own machines and networks are not simulated".to_owned());
    not_explained.extend(not_in_it);
    let failed = runs.len() - whole.len();
    if failed > 0 {
        not_explained.push(format!(
            "{failed} of {} seeds did not come to their end",
            runs.len()
        ));
    }
    Compared {
        rows,
        runs,
        not_explained,
    }
}

/// What of a figure no seed comes near to.
fn beyond(row: &Row) -> Option<String> {
    let (recorded, (least, _, most)) = (row.recorded?, row.simulated?);
    let what = &row.what;
    let unit = if row.is_time { " ms" } else { "" };
    if recorded > most {
        let more = recorded - most;
        return Some(format!("{what}: {more}{unit} more than any seed gives"));
    }
    (recorded < least).then(|| {
        let less = least - recorded;
        format!("{what}: {less}{unit} less than any seed gives")
    })
}

impl Compared {
    /// As lines for a terminal.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:<28} {:>12}   {}",
            "",
            "recorded",
            match self.runs.len() {
                1 => "simulated, 1 seed".to_owned(),
                seeds => format!("simulated, {seeds} seeds: least / median / most"),
            }
        )];
        for row in &self.rows {
            let (recorded, simulated) = row.words();
            lines.push(format!("{:<28} {recorded:>12}   {simulated}", row.what));
        }
        lines.push("not explained, or not in it:".to_owned());
        lines.extend(self.not_explained.iter().map(|why| format!("  {why}")));
        lines.join("\n")
    }
}

impl Row {
    /// Both sides in words.
    pub fn words(&self) -> (String, String) {
        let unit = if self.is_time { " ms" } else { "" };
        let dash = || "–".to_owned();
        let recorded = self.recorded.map_or_else(dash, |n| format!("{n}{unit}"));
        let simulated =
            self.simulated
                .map_or_else(dash, |(least, median, most)| match least == most {
                    true => format!("{median}{unit}"),
                    false => format!("{least} / {median} / {most}{unit}"),
                });
        (recorded, simulated)
    }
}
