//! The alerts that are shipped: what an operator is told of without looking.
//!
//! ```text
//!  METRICS ─► ALERTS ─► `firebreak generate alerts` ─► Prometheus ─► a runbook's name
//!                  └──► the simulator, which proves that each rings
//! ```
//!
//! An expression names series of [`super::metrics::METRICS`], and `up`, which Prometheus makes itself.
//! Tests hold it to that. Alerts are of nodes that are scraped under the job [`JOB`].

mod table;

pub use table::ALERTS;

use super::metrics;

/// The name of the job that scrapes the nodes.
pub const JOB: &str = "firebreak";

/// How soon somebody has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Calls are not served, or the next loss would stop them: wake somebody.
    Critical,
    /// It is borne for now: look today.
    Warning,
    /// Somebody should know.
    Info,
}

impl Severity {
    /// Its name, the value of the label `severity`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// What an alert is about: alerts of one group stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Calls that are not served.
    Serving,
    /// What the next loss would do.
    Survival,
    /// How nodes hear each other.
    Links,
    /// Disks.
    Disks,
    /// What there is only so much of.
    Limits,
    /// What has to be done some day.
    Upkeep,
}

impl Group {
    /// All there are, in their order.
    pub const ALL: [Group; 6] = [
        Group::Serving,
        Group::Survival,
        Group::Links,
        Group::Disks,
        Group::Limits,
        Group::Upkeep,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Serving => "firebreak-serving",
            Group::Survival => "firebreak-survival",
            Group::Links => "firebreak-links",
            Group::Disks => "firebreak-disks",
            Group::Limits => "firebreak-limits",
            Group::Upkeep => "firebreak-upkeep",
        }
    }
}

/// One alert.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    /// Its name, CamelCase, after `Firebreak`.
    pub name: &'static str,
    /// Where it stands.
    pub group: Group,
    /// How soon somebody has to look.
    pub severity: Severity,
    /// The runbook that says what to do.
    pub runbook: &'static str,
    /// For how long the expression has to hold, seconds.
    pub for_s: u64,
    /// What has to hold, in PromQL: each series that it gives is an alert.
    pub expr: &'static str,
    /// What is wrong, in one line; may name labels of the series as `{{ $labels.peer }}`.
    pub summary: &'static str,
    /// What that means.
    pub description: &'static str,
}

/// The alert of that name.
pub fn find(name: &str) -> Option<&'static Alert> {
    ALERTS.iter().find(|alert| alert.name == name)
}

/// The series of nodes that an expression names, each with the labels that its braces name.
pub fn named(expr: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expr.match_indices("firebreak_") {
        let rest = &expr[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let labels = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((labels, _)) => labels.split(',').collect(),
            None => Vec::new(),
        };
        let name_of = |one: &&str| one.trim().split(['=', '!']).next().map(str::to_owned);
        let labels = labels.iter().filter_map(name_of).collect();
        found.push((name.to_owned(), labels));
    }
    found
}

/// Whether an expression names only series that nodes tell, by labels that these have.
///
/// # Errors
/// What it names that there is not.
pub fn check(expr: &str) -> Result<(), String> {
    let mut known = vec!["instance", "job", "le"];
    for (name, labels) in named(expr) {
        let metric = metrics::find(&name).ok_or_else(|| format!("no metric {name}"))?;
        known.extend(metric.labels);
        if let Some(wrong) = labels.iter().find(|one| !known.contains(&one.as_str())) {
            return Err(format!("{name} has no label {wrong}"));
        }
    }
    for clause in ["by (", "on (", "group_left (", "without (", "ignoring ("] {
        for (at, begin) in expr.match_indices(clause) {
            let labels = expr[at + begin.len()..]
                .split(')')
                .next()
                .unwrap_or_default();
            let mut labels = labels.split(',').map(str::trim);
            if let Some(wrong) = labels.find(|label| !known.contains(label)) {
                return Err(format!("nothing in it has a label {wrong}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_series_of_an_alert_is_one_that_nodes_tell() {
        for alert in ALERTS {
            let own = named(alert.expr).is_empty();
            assert!(!own || alert.expr.contains("up{"), "{}", alert.name);
            assert_eq!(check(alert.expr), Ok(()), "{}", alert.name);
        }
    }

    #[test]
    fn what_nodes_do_not_tell_is_found() {
        let wrong = |expr: &str, why: &str| {
            assert_eq!(check(expr), Err(why.to_owned()), "{expr}");
        };
        wrong("firebreak_helthy == 0", "no metric firebreak_helthy");
        // A histogram is told in parts.
        wrong(
            "firebreak_fsync_duration_seconds > 1",
            "no metric firebreak_fsync_duration_seconds",
        );
        wrong(
            "firebreak_replicas{sate=\"broken\"} > 0",
            "firebreak_replicas has no label sate",
        );
        wrong(
            "sum by (tenant) (firebreak_healthy)",
            "nothing in it has a label tenant",
        );
        assert_eq!(
            check("rate(firebreak_fsync_duration_seconds_sum[1m])"),
            Ok(())
        );
        assert_eq!(
            check("sum by (instance, state) (firebreak_replicas)"),
            Ok(())
        );
    }

    #[test]
    fn alerts_are_told_apart_and_say_what_they_mean() {
        let mut names = BTreeSet::new();
        for alert in ALERTS {
            assert!(names.insert(alert.name), "{} is there twice", alert.name);
            assert!(alert.name.starts_with("Firebreak"), "{}", alert.name);
            assert!(!alert.summary.ends_with('.'), "{}", alert.name);
            assert!(alert.description.ends_with('.'), "{}", alert.name);
            assert!(!alert.runbook.is_empty(), "{}", alert.name);
            assert_eq!(find(alert.name).map(|found| found.expr), Some(alert.expr));
        }
        let groups: Vec<Group> = ALERTS.iter().map(|alert| alert.group).collect();
        assert!(groups.is_sorted(), "alerts of a group stand together");
    }
}
