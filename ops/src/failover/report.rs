//! What came out, for people and for machines.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use firebreak::ledger::Faults;
use serde::Serialize;

use super::case::Case;
use crate::canary::Call;
use crate::canary::judge::{Wait, Waits};

/// Failed calls that are kept in words.
const NOTES_MAX: usize = 5;

/// One case, all its runs.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub case: &'static str,
    /// Why it was not played, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// What the longest gap is to be at most.
    pub goal_ms: Option<u64>,
    /// Whether every run held it, and no call failed and nothing was lost or duplicated.
    pub held: bool,
    /// As they came.
    pub runs: Vec<RunReport>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// Of the Rust client and of clients whose gateway lives through it, ms.
    pub longest_gap_ms: u64,
    /// Of the same.
    pub p99_gap_ms: u64,
    /// Of all clients.
    pub failed_calls: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// Not where it was said to be, or not in order.
    pub reordered: u64,
    /// Of clients whose gateway was hit, ms.
    pub hit_longest_gap_ms: u64,
    /// Of the same.
    pub hit_p99_gap_ms: u64,
    /// By kind of client.
    pub clients: BTreeMap<String, ClientReport>,
    /// Calls answered.
    pub answered: u64,
    /// The data center that it happened to.
    pub dc: String,
    /// How long it took, from the first that was done.
    pub seconds: f64,
    /// Of the machine over the minute before.
    pub load_average: f64,
    /// The longest that this program was run too late by the machine meanwhile, ms: part of gaps.
    pub machine_late_ms: u64,
    /// The longest gap: whose it was and when.
    pub worst: Option<Worst>,
    /// A few failures in words.
    pub notes: Vec<String>,
}

/// The longest gap of a run.
#[derive(Debug, Serialize)]
pub struct Worst {
    /// Whose.
    pub sender: String,
    /// The conversation; absent for a read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub conversation: String,
    /// When it began, RFC 3339, as in the nodes' logs.
    pub since: String,
}

impl Worst {
    fn new(wait: &Wait) -> Worst {
        let since = UNIX_EPOCH + Duration::from_micros(wait.since_us);
        Worst {
            sender: wait.sender.clone(),
            conversation: wait.room.clone(),
            since: humantime::format_rfc3339_micros(since).to_string(),
        }
    }
}

/// One kind of client.
#[derive(Debug, Serialize)]
pub struct ClientReport {
    /// Its longest gap, ms.
    pub longest_gap_ms: u64,
    /// 99 of 100 of its gaps are not longer, ms.
    pub p99_gap_ms: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Its senders.
    pub senders: usize,
}

/// What else is known of a run.
pub struct Context {
    /// The data center that it happened to.
    pub dc: String,
    /// How long it took.
    pub seconds: f64,
    /// Of the machine.
    pub load_average: f64,
    /// How late the machine was at worst.
    pub late: Duration,
}

impl RunReport {
    /// From the senders' waits.
    pub fn new(
        waits: &BTreeMap<&str, Waits>,
        faults: Faults,
        calls: &[Call],
        context: Context,
    ) -> RunReport {
        let mut kinds: BTreeMap<String, (Waits, usize)> = BTreeMap::new();
        let (mut judged, mut hit) = (Waits::default(), Waits::default());
        for (sender, waits) in waits {
            let kind = sender.rsplit_once('-').map_or(*sender, |(kind, _)| kind);
            let of_kind = kinds.entry(kind.to_owned()).or_default();
            of_kind.0.add(waits);
            of_kind.1 += 1;
            match kind.ends_with("-any") {
                true => hit.add(waits),
                false => judged.add(waits),
            }
        }
        let failures = calls.iter().filter_map(|call| {
            let error = call.outcome.as_ref().err()?;
            let took_ms = call.ended_us.saturating_sub(call.sent_us) / 1_000;
            Some(format!("{} after {took_ms} ms: {error}", call.sender))
        });
        let mut notes = faults.notes.clone();
        notes.extend(failures.take(NOTES_MAX));
        RunReport {
            longest_gap_ms: judged.longest_ms(),
            p99_gap_ms: judged.p99_ms(),
            failed_calls: judged.failed + hit.failed,
            lost: faults.lost,
            duplicated: faults.duplicated,
            reordered: faults.reordered,
            hit_longest_gap_ms: hit.longest_ms(),
            hit_p99_gap_ms: hit.p99_ms(),
            clients: kinds
                .into_iter()
                .map(|(kind, (waits, senders))| {
                    let report = ClientReport {
                        longest_gap_ms: waits.longest_ms(),
                        p99_gap_ms: waits.p99_ms(),
                        failed_calls: waits.failed,
                        senders,
                    };
                    (kind, report)
                })
                .collect(),
            answered: calls.iter().filter(|call| call.outcome.is_ok()).count() as u64,
            dc: context.dc,
            seconds: context.seconds,
            load_average: context.load_average,
            machine_late_ms: u64::try_from(context.late.as_millis()).unwrap_or(u64::MAX),
            worst: judged.worst.as_ref().map(Worst::new),
            notes,
        }
    }

    /// Whether it kept every promise but that on gaps.
    pub fn kept(&self) -> bool {
        self.failed_calls + self.lost + self.duplicated + self.reordered == 0
    }

    /// Whether it reached everything.
    pub fn held(&self, goal_ms: Option<u64>) -> bool {
        self.kept() && goal_ms.is_none_or(|goal| self.longest_gap_ms <= goal)
    }

    /// On a line, for whoever watches.
    pub fn line(&self) -> String {
        let kinds = self.clients.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, report)| format!("{kind} {}", report.longest_gap_ms))
            .collect();
        let worst = self.worst.as_ref();
        let worst = worst.map(|worst| format!(", of {} at {}", worst.sender, worst.since));
        format!(
            "gap {} ms (p99 {}){}, failed {}, lost {}, duplicated {}; by client: {}; load {:.1}, \
             machine late by {} ms at worst",
            self.longest_gap_ms,
            self.p99_gap_ms,
            worst.unwrap_or_default(),
            self.failed_calls,
            self.lost,
            self.duplicated,
            kinds.join(", "),
            self.load_average,
            self.machine_late_ms
        )
    }
}

impl CaseReport {
    /// From its runs.
    pub fn new(case: Case, runs: Vec<RunReport>) -> CaseReport {
        let goal_ms = case.goal_ms();
        CaseReport {
            case: case.name(),
            absent: None,
            goal_ms,
            held: !runs.is_empty() && runs.iter().all(|run| run.held(goal_ms)),
            runs,
        }
    }

    /// Of one that could not be played.
    pub fn absent(case: Case, why: String) -> CaseReport {
        CaseReport {
            absent: Some(why),
            ..CaseReport::new(case, Vec::new())
        }
    }
}

/// All cases, a row each: the worst of their runs.
pub fn table(cases: &[CaseReport]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "case",
        "runs",
        "goal ms",
        "longest gap ms, each run",
        "p99",
        "failed",
        "lost",
        "duplicated",
        "gateway hit: longest",
        "p99",
        "",
    ]);
    for case in cases {
        let worst = |of: fn(&RunReport) -> u64| {
            let worst = case.runs.iter().map(of).max();
            worst.map_or_else(|| "–".to_owned(), |worst| worst.to_string())
        };
        let sum = |of: fn(&RunReport) -> u64| case.runs.iter().map(of).sum::<u64>().to_string();
        let gaps: Vec<String> = case
            .runs
            .iter()
            .map(|run| run.longest_gap_ms.to_string())
            .collect();
        table.add_row([
            case.case.to_owned(),
            case.runs.len().to_string(),
            case.goal_ms
                .map_or_else(|| "–".to_owned(), |goal| format!("≤ {goal}")),
            gaps.join(" "),
            worst(|run| run.p99_gap_ms),
            sum(|run| run.failed_calls),
            sum(|run| run.lost),
            sum(|run| run.duplicated),
            worst(|run| run.hit_longest_gap_ms),
            worst(|run| run.hit_p99_gap_ms),
            match (&case.absent, case.held) {
                (Some(why), _) => format!("absent: {why}"),
                (None, true) => "held".to_owned(),
                (None, false) => "missed".to_owned(),
            },
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(9) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(senders: &[(&str, u64, u64)]) -> RunReport {
        let waits = senders.iter().map(|(name, gap_us, failed)| {
            let waits = Waits {
                gaps_us: vec![*gap_us],
                failed: *failed,
                worst: None,
            };
            (*name, waits)
        });
        let context = Context {
            dc: "seoul".into(),
            seconds: 1.0,
            load_average: 0.5,
            late: Duration::ZERO,
        };
        RunReport::new(&waits.collect(), Faults::default(), &[], context)
    }

    #[test]
    fn goals_hold_for_rust_and_kept_gateways_and_failed_calls_count_everywhere() {
        let report = run(&[
            ("rust-unary-1", 400_000, 0),
            ("python-kept-0", 450_000, 0),
            ("node-any-0", 2_000_000, 0),
        ]);
        assert_eq!(
            (report.longest_gap_ms, report.hit_longest_gap_ms),
            (450, 2_000)
        );
        assert!(report.held(Some(500)) && !report.held(Some(449)));
        assert!(!run(&[("node-any-0", 1, 1)]).held(None));
    }

    #[test]
    fn a_case_without_runs_held_nothing() {
        assert!(!CaseReport::new(Case::Kill, Vec::new()).held);
        assert!(table(&[CaseReport::absent(Case::Drain, "no command".into())]).contains("absent"));
    }
}
